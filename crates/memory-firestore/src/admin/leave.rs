//! The end of a tenant's erasure: everything but its memories, which are gone by then.

use memory_core::traits::TenantSpaces;
use memory_core::{Result, TenantId};

use super::remains::Remains;
use super::scan::Scan;
use crate::batch::fewer;
use crate::commit::{pause, too_contended};
use crate::guard::TenantState;
use crate::store::FirestoreStore;
use crate::wire::{Call, Refused, Write};

/// Leases of one commit.
const LEASES: usize = 300;

impl FirestoreStore {
    /// Removes what is left of a tenant, unless it was written to meanwhile. A fence or a lease is a
    /// promise to somebody else, who is at work on the tenant: they stay, and the tenant's document
    /// with them, until another erasure finds them gone.
    ///
    /// The tenant is unlisted before the last look for memories. A commit lists it again, which
    /// changes its document, and the removal holds only while that is as it was.
    ///
    /// Billed: some reads; a delete for each consumer and lease; three writes at the most.
    pub(crate) async fn leave_tenant(&self, call: Call<'_>, tenant: &TenantId) -> Result<()> {
        for attempt in 0..self.settings.contention_attempts {
            match self.try_leave(call, tenant).await {
                Ok(()) => return Ok(()),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    async fn try_leave(&self, call: Call<'_>, tenant: &TenantId) -> Result<(), Refused> {
        if self.has_memories(call, tenant).await? {
            // An erasure that was cut short may have left it unlisted.
            let state = self.tenant_now(call, tenant).await?;
            if !state.listed {
                let new = TenantState { listed: true, ..(*state).clone() };
                self.replace_tenant(call, tenant, &state, new, Vec::new()).await?;
            }
            return Ok(());
        }
        let mut state = self.tenant_now(call, tenant).await?;
        if state.listed {
            let new = TenantState { listed: false, ..(*state).clone() };
            state = self.replace_tenant(call, tenant, &state, new, Vec::new()).await?;
            if self.has_memories(call, tenant).await? {
                let new = TenantState { listed: true, ..(*state).clone() };
                self.replace_tenant(call, tenant, &state, new, Vec::new()).await?;
                return Ok(());
            }
        }
        while !self.drop_consumers(call, tenant).await? {}
        let mut remains = self.remains(call, tenant).await?;
        let held = !self.drop_leases(call, tenant, &mut remains).await?;
        let version = state.spaces.version;
        if held || state.fence.is_some() {
            if state.spaces.active.is_some() {
                let spaces = TenantSpaces { version: version + 1, ..TenantSpaces::default() };
                let new = TenantState { spaces, ..(*state).clone() };
                self.replace_tenant(call, tenant, &state, new, Vec::new()).await?;
            }
            return Ok(());
        }
        // The word to rebuild and whatever came after it: who is behind is told by the floor.
        let head = self.log_head(call, tenant).await?;
        while remains.floor < head {
            remains = self.drop_entries(call, tenant, remains, head).await?;
        }
        let after =
            Remains { born: remains.floor, version: remains.version.max(version), ..remains };
        let mut writes = Vec::new();
        // The first grant of a lease changes the numbers: none has been since they were read.
        if after != remains {
            writes.push(after.write(self.remains_name(call, tenant).await?));
        } else if state.updated_at.is_some() {
            let name = self.remains_name(call, tenant).await?;
            let verifies = self.verifies(call).await?;
            writes.push(if verifies { remains.verify(name) } else { remains.write(name) });
        }
        if let Some(time) = state.updated_at {
            writes.push(Write::delete(self.names.tenant(tenant)).if_updated_at(time));
        }
        self.tenants.forget(tenant);
        if !writes.is_empty() {
            self.wire.commit(call, writes, Vec::new()).await?;
        }
        Ok(())
    }

    async fn has_memories(&self, call: Call<'_>, tenant: &TenantId) -> Result<bool> {
        let any = Scan::of(&self.names.memories).limit(1).select(&[]);
        Ok(!self.scan(call, &self.names.tenant(tenant), any).await?.is_empty())
    }

    /// Removes leases that nobody holds, and keeps the greatest of their tokens; says whether all
    /// are gone. While one is held they all stay.
    async fn drop_leases(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        remains: &mut Remains,
    ) -> Result<bool, Refused> {
        loop {
            let leases = self.leases_of(call, tenant, LEASES).await?;
            let now = self.clock.now();
            if leases.iter().any(|lease| lease.is_held(now)) {
                return Ok(false);
            }
            let Some(token) = leases.iter().map(|lease| lease.token).max() else {
                return Ok(true);
            };
            let after = Remains { token: token.max(remains.token), ..*remains };
            let mut last = leases.len() < LEASES;
            let mut deletes: Vec<_> = leases
                .into_iter()
                .map(|lease| Write::delete(lease.name).if_updated_at(lease.updated_at))
                .collect();
            let name = self.remains_name(call, tenant).await?;
            let mut fits = self.fitting(&deletes);
            let times = loop {
                last &= fits >= deletes.len();
                deletes.truncate(fits);
                let mut writes = deletes.clone();
                writes.push(after.write(name.clone()));
                match self.wire.commit(call, writes, Vec::new()).await {
                    Ok(times) => break times,
                    Err(refused) => fits = fewer(&refused, deletes.len()).ok_or(refused)?,
                }
            };
            *remains = Remains { updated_at: times.last().copied(), ..after };
            if last {
                return Ok(true);
            }
        }
    }
}

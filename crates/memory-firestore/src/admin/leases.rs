//! Leases with fencing tokens, and the write fence of a tenant.
//!
//! A lease is a document that changes by compare and swap. Its token is one more than the last one
//! of its name; where its document is gone, one more than any that the tenant's erasures dropped.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::traits::{FencingToken, Lease, LeaseStore};
use memory_core::{CallContext, Error, ErrorKind, LeaseName, Result, TenantId, Timestamp};
use proto::value::ValueType;

use super::remains::Remains;
use super::scan::Scan;
use crate::commit::{pause, too_contended};
use crate::error::corrupt;
use crate::guard::TenantState;
use crate::model;
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Refused, Write, micros};

/// Longest life of a lease: 24 hours, as the trait says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

const TOKEN: &str = "token";
const EXPIRES_AT: &str = "expires_at";

/// A lease as its document has it.
pub(super) struct Stored {
    /// The document.
    pub(super) name: String,
    /// When it was last changed.
    pub(super) updated_at: i64,
    /// The token of the last grant.
    pub(super) token: u64,
    /// The end of the last grant.
    expires_at: i64,
}

impl Stored {
    fn read(found: &Found) -> Result<Self> {
        model::check_shape(&found.fields)?;
        let field = |name| found.fields.get(name).and_then(|value| value.value_type.as_ref());
        let (Some(ValueType::IntegerValue(token)), Some(ValueType::TimestampValue(end))) =
            (field(TOKEN), field(EXPIRES_AT))
        else {
            return Err(corrupt("lease"));
        };
        Ok(Self {
            name: found.name.clone(),
            updated_at: found.updated_at,
            token: token.unsigned_abs(),
            expires_at: micros(end),
        })
    }

    /// Whether somebody holds it at `now`.
    pub(super) fn is_held(&self, now: Timestamp) -> bool {
        now.as_micros() < self.expires_at
    }
}

fn document(name: String, token: u64, expires_at: Timestamp) -> Write {
    let fields = HashMap::from([
        model::shape_field(),
        (TOKEN.to_owned(), model::value(ValueType::IntegerValue(token.cast_signed()))),
        (EXPIRES_AT.to_owned(), model::time(expires_at.as_micros())),
    ]);
    Write::update(proto::Document { name, fields, create_time: None, update_time: None })
}

/// # Errors
/// `InvalidInput`.
fn check_life(life: Duration) -> Result<()> {
    if life.is_zero() || life > LONGEST {
        return Err(Error::invalid("a lease lives longer than nothing and up to 24 hours"));
    }
    Ok(())
}

#[async_trait]
impl LeaseStore for FirestoreStore {
    /// Billed: one read and one write; one of each more for the first grant of a name.
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.run("acquire", Some(context), async |call| {
            check_life(life)?;
            self.grant(call, &context.tenant, name, life).await
        })
        .await
    }

    /// Billed: one read and one write.
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.run("renew", Some(context), async |call| {
            check_life(life)?;
            let end = self.set_end(call, &context.tenant, lease, Some(life)).await?;
            Ok(end.map(|expires_at| Lease { expires_at, ..lease.clone() }))
        })
        .await
    }

    /// Billed: one read and one write.
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        self.run("release", Some(context), async |call| {
            self.set_end(call, &context.tenant, lease, None).await.map(|_| ())
        })
        .await
    }

    /// Billed: one read, and one write where something changes.
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.run("set_write_fence", Some(context), async |call| {
            self.set_fence(call, context, fence).await
        })
        .await
    }
}

impl FirestoreStore {
    async fn lease(&self, call: Call<'_>, name: &str) -> Result<Option<Stored>> {
        let found = self.wire.get(call, vec![name.to_owned()], None).await?;
        found.into_iter().next().flatten().map(|found| Stored::read(&found)).transpose()
    }

    async fn grant(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        lease: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let name = self.names.below(tenant, &self.names.leases, lease.as_str());
        for attempt in 0..self.settings.contention_attempts {
            let stored = self.lease(call, &name).await?;
            let now = self.clock.now();
            if stored.as_ref().is_some_and(|stored| stored.is_held(now)) {
                return Ok(None);
            }
            let expires_at = now.saturating_add(life);
            let (token, writes) = match stored {
                Some(stored) => {
                    let token = stored.token + 1;
                    let write = document(name.clone(), token, expires_at);
                    (token, vec![write.if_updated_at(stored.updated_at)])
                }
                None => {
                    let remains = self.remains(call, tenant).await?;
                    let token = remains.token + 1;
                    let write = document(name.clone(), token, expires_at).if_exists(false);
                    // The number holds only while no erasure drops another lease of the name; and
                    // an erasure that is about to drop the tenant sees that it was given out.
                    let taken = Remains { token, ..remains };
                    (token, vec![write, taken.write(self.remains_name(call, tenant).await?)])
                }
            };
            match self.wire.commit(call, writes, Vec::new()).await {
                Ok(_) => {
                    let (name, token) = (lease.clone(), FencingToken(token));
                    return Ok(Some(Lease { name, token, expires_at }));
                }
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    /// Sets the end of a lease that is still held under its token, to so long from now or to now;
    /// `None` where it is not held.
    async fn set_end(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        lease: &Lease,
        life: Option<Duration>,
    ) -> Result<Option<Timestamp>> {
        let name = self.names.below(tenant, &self.names.leases, lease.name.as_str());
        for attempt in 0..self.settings.contention_attempts {
            let stored = self.lease(call, &name).await?;
            let now = self.clock.now();
            let Some(stored) =
                stored.filter(|stored| stored.token == lease.token.0 && stored.is_held(now))
            else {
                return Ok(None);
            };
            let end = life.map_or(now, |life| now.saturating_add(life));
            let write = document(name.clone(), stored.token, end).if_updated_at(stored.updated_at);
            match self.wire.commit(call, vec![write], Vec::new()).await {
                Ok(_) => return Ok(Some(end)),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    async fn set_fence(
        &self,
        call: Call<'_>,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        let stored = |token: FencingToken| token.0.min(i64::MAX.unsigned_abs());
        let fence = fence.map(stored);
        // Who lifts a fence shows by which token, if by any.
        let shown = fence.or(context.fence.map(stored));
        for attempt in 0..self.settings.contention_attempts {
            let state = self.tenant_now(call, &context.tenant).await?;
            if let (Some(standing), Some(shown)) = (state.fence, shown)
                && shown < standing
            {
                return Err(Error::new(ErrorKind::Conflict, "a fence with a newer token stands"));
            }
            if state.fence == fence {
                return Ok(());
            }
            let new = TenantState { fence, ..(*state).clone() };
            match self.replace_tenant(call, &context.tenant, &state, new, Vec::new()).await {
                Ok(_) => return Ok(()),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => pause(self, call, attempt).await,
            }
        }
        Err(too_contended())
    }

    /// Some of a tenant's leases, for its erasure: up to `most`.
    pub(super) async fn leases_of(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        most: usize,
    ) -> Result<Vec<Stored>> {
        let scan = Scan::of(&self.names.leases).after(None).limit(most);
        let found = self.scan(call, &self.names.tenant(tenant), scan).await?;
        found.iter().map(Stored::read).collect()
    }
}

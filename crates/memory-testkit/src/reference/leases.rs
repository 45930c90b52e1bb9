//! The reference store's leases and write fence.

use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{FencingToken, Lease, LeaseStore};
use memory_core::{CallContext, Error, ErrorKind, LeaseName, Result};

use super::ReferenceStore;

/// A lease's longest life.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

fn check_life(life: Duration) -> Result<()> {
    if life.is_zero() || life > LONGEST {
        return Err(Error::invalid("a lease lives up to 24 hours, and not for nothing"));
    }
    Ok(())
}

#[async_trait]
impl LeaseStore for ReferenceStore {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let mut state = self.enter(context)?;
        check_life(life)?;
        let now = self.clock.now();
        let held = state.tenant(&context.tenant).and_then(|tenant| tenant.leases.get(name));
        if held.is_some_and(|lease| now < lease.expires_at) {
            return Ok(None);
        }
        let token = FencingToken(state.next());
        let lease = Lease { name: name.clone(), token, expires_at: now.saturating_add(life) };
        state.tenant_mut(&context.tenant).leases.insert(name.clone(), lease.clone());
        Ok(Some(lease))
    }

    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let mut state = self.enter(context)?;
        check_life(life)?;
        let now = self.clock.now();
        let held = state.tenant_mut(&context.tenant).leases.get_mut(&lease.name);
        Ok(held.filter(|held| held.token == lease.token && now < held.expires_at).map(|held| {
            held.expires_at = now.saturating_add(life);
            held.clone()
        }))
    }

    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        let mut state = self.enter(context)?;
        let leases = &mut state.tenant_mut(&context.tenant).leases;
        if leases.get(&lease.name).is_some_and(|held| held.token == lease.token) {
            leases.remove(&lease.name);
        }
        Ok(())
    }

    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        let mut state = self.enter(context)?;
        let tenant = state.tenant_mut(&context.tenant);
        // Who lifts a fence shows by which token, if by any.
        let token = fence.or(context.fence);
        if let (Some(standing), Some(token)) = (tenant.fence, token)
            && token < standing
        {
            return Err(Error::new(ErrorKind::Conflict, "a fence with a newer token stands"));
        }
        tenant.fence = fence;
        Ok(())
    }
}

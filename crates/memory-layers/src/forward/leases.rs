//! Leases behind a policy.

use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{FencingToken, Lease, LeaseStore};
use memory_core::{CallContext, LeaseName, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> LeaseStore for Layered<dyn LeaseStore, P> {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let call = self.of(Operation::Acquire, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            LeaseStore::acquire(inner, &attempt.context(context), name, life).await
        };
        self.policy.run(&call, send).await
    }
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let call = self.of(Operation::Renew, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            LeaseStore::renew(inner, &attempt.context(context), lease, life).await
        };
        self.policy.run(&call, send).await
    }
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        let call = self.of(Operation::Release, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            LeaseStore::release(inner, &attempt.context(context), lease).await
        };
        self.policy.run(&call, send).await
    }
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        let call = self.of(Operation::SetWriteFence, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            LeaseStore::set_write_fence(inner, &attempt.context(context), fence).await
        };
        self.policy.run(&call, send).await
    }
}

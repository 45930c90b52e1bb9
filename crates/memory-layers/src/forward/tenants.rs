//! A directory of tenants behind a policy.

use async_trait::async_trait;
use memory_core::traits::{TenantDirectory, TenantPage};
use memory_core::{Result, TenantId};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> TenantDirectory for Layered<dyn TenantDirectory, P> {
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        let call = self.about_store(Operation::ListTenants);
        let after = &after;
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move {
            let after = after.clone();
            TenantDirectory::list_tenants(inner, after, limit).await
        };
        self.policy.run(&call, send).await
    }
}

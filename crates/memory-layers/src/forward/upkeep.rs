//! What an operator does, behind a policy.

use async_trait::async_trait;
use memory_core::traits::{BackupReport, StoreStats, StoreUpkeep, TenantStats, VerifyReport};
use memory_core::{CallContext, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> StoreUpkeep for Layered<dyn StoreUpkeep, P> {
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        let call = self.of(Operation::TenantStats, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            StoreUpkeep::tenant_stats(inner, &attempt.context(context)).await
        };
        self.policy.run(&call, send).await
    }
    async fn store_stats(&self) -> Result<StoreStats> {
        let call = self.about_store(Operation::StoreStats);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreUpkeep::store_stats(inner).await };
        self.policy.run(&call, send).await
    }
    async fn verify(&self) -> Result<VerifyReport> {
        let call = self.about_store(Operation::Verify);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreUpkeep::verify(inner).await };
        self.policy.run(&call, send).await
    }
    async fn backup(&self, target: &str) -> Result<BackupReport> {
        let call = self.about_store(Operation::Backup);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreUpkeep::backup(inner, target).await };
        self.policy.run(&call, send).await
    }
}

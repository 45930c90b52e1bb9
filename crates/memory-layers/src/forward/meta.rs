//! What a store knows about itself, behind a policy.

use async_trait::async_trait;
use memory_core::traits::{SchemaInfo, StoreKey, StoreMeta, TenantSpaces, Tombstone};
use memory_core::{CallContext, MemoryId, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> StoreMeta for Layered<dyn StoreMeta, P> {
    async fn schema(&self) -> Result<SchemaInfo> {
        let call = self.about_store(Operation::Schema);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreMeta::schema(inner).await };
        self.policy.run(&call, send).await
    }
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        let call = self.of(Operation::Spaces, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            StoreMeta::spaces(inner, &attempt.context(context)).await
        };
        self.policy.run(&call, send).await
    }
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        let call = self.of(Operation::SetSpaces, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            StoreMeta::set_spaces(inner, &attempt.context(context), spaces).await
        };
        self.policy.run(&call, send).await
    }
    async fn analyser(&self) -> Result<Option<String>> {
        let call = self.about_store(Operation::Analyser);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreMeta::analyser(inner).await };
        self.policy.run(&call, send).await
    }
    async fn store_key(&self) -> Result<StoreKey> {
        let call = self.about_store(Operation::StoreKey);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { StoreMeta::store_key(inner).await };
        self.policy.run(&call, send).await
    }
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        let call = self.of(Operation::Erased, context, ids.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            StoreMeta::erased(inner, &attempt.context(context), ids).await
        };
        self.policy.run(&call, send).await
    }
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        let call = self.about_store(Operation::AddTombstones);
        let inner = &*self.inner;
        let send =
            |_attempt: Attempt| async move { StoreMeta::add_tombstones(inner, tombstones).await };
        self.policy.run(&call, send).await
    }
}

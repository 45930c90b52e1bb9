//! A vector index behind a policy.

use async_trait::async_trait;
use memory_core::traits::{IndexHits, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery};
use memory_core::{CallContext, Capabilities, EmbeddingSpace, Health, MemoryId, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy, rows};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> VectorIndex for Layered<dyn VectorIndex, P> {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let call = self.of(Operation::VectorUpsert, context, entries.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            VectorIndex::upsert(inner, &attempt.context(context), space, entries).await
        };
        self.policy.run(&call, send).await
    }
    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        let call = self.of(Operation::VectorRemove, context, ids.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            VectorIndex::remove(inner, &attempt.context(context), space, ids).await
        };
        self.policy.run(&call, send).await
    }
    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        let call = self.of(Operation::VectorMissing, context, rows(limit));
        let after = &after;
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            let after = after.clone();
            VectorIndex::missing(inner, &attempt.context(context), space, after, limit).await
        };
        self.policy.run(&call, send).await
    }
    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        let call = self.of(Operation::VectorSearch, context, rows(query.limit));
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            VectorIndex::search(inner, &attempt.context(context), query).await
        };
        self.policy.run(&call, send).await
    }
    async fn health(&self) -> Health {
        let mut health = VectorIndex::health(&*self.inner).await;
        self.policy.health(&mut health);
        health
    }
    async fn close(&self) -> Result<()> {
        self.policy.close(VectorIndex::close(&*self.inner)).await
    }
    fn capabilities(&self) -> Capabilities {
        VectorIndex::capabilities(&*self.inner)
    }
}

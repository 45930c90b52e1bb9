//! A keyword index behind a policy.

use async_trait::async_trait;
use memory_core::traits::{IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, UpsertOutcome};
use memory_core::{CallContext, Capabilities, Health, MemoryId, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy, rows};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> KeywordIndex for Layered<dyn KeywordIndex, P> {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let call = self.of(Operation::KeywordUpsert, context, entries.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            KeywordIndex::upsert(inner, &attempt.context(context), entries).await
        };
        self.policy.run(&call, send).await
    }
    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        let call = self.of(Operation::KeywordRemove, context, ids.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            KeywordIndex::remove(inner, &attempt.context(context), ids).await
        };
        self.policy.run(&call, send).await
    }
    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        let call = self.of(Operation::KeywordSearch, context, rows(query.limit));
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            KeywordIndex::search(inner, &attempt.context(context), query).await
        };
        self.policy.run(&call, send).await
    }
    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        let call = self.of(Operation::KeywordAuthors, context, names.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            KeywordIndex::authors(inner, &attempt.context(context), names).await
        };
        self.policy.run(&call, send).await
    }
    async fn health(&self) -> Health {
        let mut health = KeywordIndex::health(&*self.inner).await;
        self.policy.health(&mut health);
        health
    }
    async fn close(&self) -> Result<()> {
        self.policy.close(KeywordIndex::close(&*self.inner)).await
    }
    fn capabilities(&self) -> Capabilities {
        KeywordIndex::capabilities(&*self.inner)
    }
}

//! The store of record.

pub(crate) mod commit;
pub(crate) mod erase;
pub(crate) mod fetch;
pub(crate) mod model;
pub(crate) mod query;
pub(crate) mod sweep;

use async_trait::async_trait;
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Filter, Health, MemoryId, MemoryItem, Page,
    Projection, Query, Result,
};

use crate::store::RedisStore;

#[async_trait]
impl RecordStore for RedisStore {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.run("commit", Some(context), async |call| {
            commit::commit(self, call, context, &commit).await
        })
        .await
    }

    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.run("fetch", Some(context), async |call| {
            fetch::fetch(self, call, context, ids, projection).await
        })
        .await
    }

    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.run("query", Some(context), async |call| query::page(self, call, context, query).await)
            .await
    }

    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.run("count", Some(context), async |call| {
            query::count(self, call, context, filter).await
        })
        .await
    }

    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.run("sweep_expired", Some(context), async |call| {
            sweep::sweep(self, call, context, limit).await
        })
        .await
    }

    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.run("erase", Some(context), async |call| {
            erase::erase(self, call, context, scope, resume.as_ref()).await
        })
        .await
    }

    async fn health(&self) -> Health {
        self.health_now().await
    }

    async fn close(&self) -> Result<()> {
        self.close_now().await
    }

    fn capabilities(&self) -> Capabilities {
        self.own_capabilities()
    }
}

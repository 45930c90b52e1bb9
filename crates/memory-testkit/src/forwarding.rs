//! The plainest wrapper of a store of record: it forwards every method.
//!
//! The suite runs through it to prove that it can be run through a layer.

use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Filter, Health, MemoryId, MemoryItem, Page,
    Projection, Query, Result,
};

/// Forwards every call to another store.
#[derive(Debug)]
pub struct Forwarding {
    inner: Arc<dyn RecordStore>,
}

impl Forwarding {
    /// Wraps a store.
    #[must_use]
    pub fn new(inner: Arc<dyn RecordStore>) -> Self {
        Self { inner }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RecordStore for Forwarding {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.inner.commit(context, commit).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.inner.fetch(context, ids, projection).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.inner.query(context, query).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.inner.count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.inner.sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.inner.erase(context, scope, resume).await
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

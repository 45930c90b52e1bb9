//! The store of record behind a policy.

use async_trait::async_trait;
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Filter, Health, MemoryId, MemoryItem, Page,
    Projection, Query, Result,
};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy, rows};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> RecordStore for Layered<dyn RecordStore, P> {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let mut call = self.of(Operation::Commit, context, commit.writes.len());
        call.resend = commit.resend;
        let (inner, commit) = (&*self.inner, &commit);
        let send = |attempt: Attempt| async move {
            // Shallow: items and vectors are shared.
            let mut commit = commit.clone();
            commit.resend = attempt.resend;
            RecordStore::commit(inner, &attempt.context(context), commit).await
        };
        self.policy.run(&call, send).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let call = self.of(Operation::Fetch, context, ids.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            RecordStore::fetch(inner, &attempt.context(context), ids, projection).await
        };
        self.policy.run(&call, send).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let call = self.of(Operation::Query, context, rows(query.limit));
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            RecordStore::query(inner, &attempt.context(context), query).await
        };
        self.policy.run(&call, send).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        let call = self.of(Operation::Count, context, 1);
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            RecordStore::count(inner, &attempt.context(context), filter).await
        };
        self.policy.run(&call, send).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        let call = self.of(Operation::SweepExpired, context, rows(limit));
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            RecordStore::sweep_expired(inner, &attempt.context(context), limit).await
        };
        self.policy.run(&call, send).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let call = self.of(Operation::Erase, context, 1);
        let resume = &resume;
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            let resume = resume.clone();
            RecordStore::erase(inner, &attempt.context(context), scope, resume).await
        };
        self.policy.run(&call, send).await
    }
    async fn health(&self) -> Health {
        let mut health = RecordStore::health(&*self.inner).await;
        self.policy.health(&mut health);
        health
    }
    async fn close(&self) -> Result<()> {
        self.policy.close(RecordStore::close(&*self.inner)).await
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&*self.inner)
    }
}

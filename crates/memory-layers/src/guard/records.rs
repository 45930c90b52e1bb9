//! The guard around a store of record.

use async_trait::async_trait;
use memory_core::limits::{COMMIT_WRITES, FETCH_IDS, SWEEP};
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Filter, Health, MemoryId, MemoryItem, Page,
    Projection, Query, Result, Write,
};

use super::{GuardRule, Guarded};
use crate::operation::Operation;
use crate::policy::rows;

/// What of [`Commit::validate`] needs no look at content: the rest is the store's.
///
/// # Errors
/// `InvalidInput`, naming the write by its place.
pub(super) fn check_writes(writes: &[Write]) -> Result<()> {
    for (place, write) in writes.iter().enumerate() {
        let owner = match write {
            Write::Put(put) => put.item.validate_owner(),
            Write::Delete(_) => Ok(()),
        };
        write
            .validate_precondition()
            .and(owner)
            .map_err(|error| error.with_context("write", place.to_string()))?;
    }
    Ok(())
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RecordStore for Guarded<dyn RecordStore> {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        const OPERATION: Operation = Operation::Commit;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(
            OPERATION,
            "writes of a commit",
            commit.writes.len(),
            1,
            COMMIT_WRITES,
        )?;
        self.guard.request(OPERATION, check_writes(&commit.writes))?;
        let ids: Vec<MemoryId> = commit.writes.iter().map(|write| write.id().clone()).collect();
        let keyed = commit.idempotency.is_some();
        let receipt = self.inner.commit(context, commit).await?;
        // The answer of an earlier commit under the same key is about that one's ids.
        if !(keyed && receipt.replayed) {
            let answered = receipt.results.iter().map(|result| Some(&result.id));
            self.guard.answers(OPERATION, ids.iter(), answered)?;
        }
        Ok(receipt)
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        const OPERATION: Operation = Operation::Fetch;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(OPERATION, "ids of a fetch", ids.len(), 0, FETCH_IDS)?;
        let mut found = self.inner.fetch(context, ids, projection).await?;
        self.guard.items(OPERATION, ids, &mut found)?;
        Ok(found)
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.guard.admit(Operation::Query, context)?;
        let after = self.guard.query(context, query)?;
        let mut page = self.inner.query(context, query).await?;
        self.guard.page(query, after.as_ref(), &mut page)?;
        Ok(page)
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.guard.admit(Operation::Count, context)?;
        self.guard.request(Operation::Count, filter.validate())?;
        self.inner.count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        const OPERATION: Operation = Operation::SweepExpired;
        self.guard.admit(OPERATION, context)?;
        let asked = rows(limit);
        self.guard.within(OPERATION, "the limit of a sweep", asked, 1, rows(SWEEP))?;
        let step = self.inner.sweep_expired(context, limit).await?;
        self.guard.holds(OPERATION, GuardRule::Limit, step.removed <= u64::from(limit))?;
        Ok(step)
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.guard.admit(Operation::Erase, context)?;
        let step = self.inner.erase(context, scope, resume).await?;
        let one = step.next.is_some() != step.receipt.is_some();
        self.guard.holds(Operation::Erase, GuardRule::Step, one)?;
        Ok(step)
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

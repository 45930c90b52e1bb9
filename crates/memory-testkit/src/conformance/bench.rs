//! What checks are written with: a harness and the shortest way to common calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory_core::traits::{
    ChangeLog, EraseScope, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep,
    TenantDirectory, VectorIndex,
};
use memory_core::{
    CallContext, Clock, Commit, CommitId, CommitReceipt, EmbeddingSpace, Filter, IdSource,
    ManualClock, MemoryId, MemoryItem, Order, Precondition, Projection, Query, Revision,
    SequentialIds, TenantId, Timestamp, UserId, Vectors, Write,
};

use super::failure::{CheckResult, Failure};
use super::harness::Harness;

/// A harness and what checks do with it all the time.
pub struct Bench {
    harness: Box<dyn Harness>,
    ids: SequentialIds,
    /// The tenant that most checks use.
    pub ctx: CallContext,
}

impl Bench {
    /// A bench for one check.
    ///
    /// # Errors
    /// Never in practice: the tenant's name is fixed.
    pub fn new(harness: Box<dyn Harness>) -> CheckResult<Self> {
        Ok(Self { harness, ids: SequentialIds::default(), ctx: tenant("acme")? })
    }

    /// The store of record.
    #[must_use]
    pub fn records(&self) -> Arc<dyn RecordStore> {
        self.harness.records()
    }

    pub(crate) fn vectors(&self) -> CheckResult<Arc<dyn VectorIndex>> {
        self.harness.vectors().ok_or_else(|| missing("vector search"))
    }

    pub(crate) fn keywords(&self) -> CheckResult<Arc<dyn KeywordIndex>> {
        self.harness.keywords().ok_or_else(|| missing("keyword search"))
    }

    pub(crate) fn changes(&self) -> CheckResult<Arc<dyn ChangeLog>> {
        self.harness.changes().ok_or_else(|| missing("a change log"))
    }

    pub(crate) fn tenants(&self) -> CheckResult<Arc<dyn TenantDirectory>> {
        self.harness.tenants().ok_or_else(|| missing("a tenant directory"))
    }

    pub(crate) fn meta(&self) -> CheckResult<Arc<dyn StoreMeta>> {
        self.harness.meta().ok_or_else(|| missing("what needs its meta part"))
    }

    pub(crate) fn leases(&self) -> CheckResult<Arc<dyn LeaseStore>> {
        self.harness.leases().ok_or_else(|| missing("leases"))
    }

    pub(crate) fn upkeep(&self) -> CheckResult<Arc<dyn StoreUpkeep>> {
        self.harness.upkeep().ok_or_else(|| missing("upkeep"))
    }

    pub(crate) fn harness(&self) -> &dyn Harness {
        &*self.harness
    }

    pub(crate) fn clock(&self) -> Arc<ManualClock> {
        self.harness.clock()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.harness.clock().now()
    }

    pub(crate) fn advance_secs(&self, seconds: u64) {
        self.harness.clock().advance(std::time::Duration::from_secs(seconds));
    }

    pub(crate) fn commit_id(&self) -> CommitId {
        self.ids.commit_id()
    }

    /// A commit of these writes under a new id.
    pub(crate) fn commit_of(&self, writes: Vec<Write>) -> Commit {
        Commit::new(self.commit_id(), writes)
    }

    pub(crate) async fn commit(
        &self,
        ctx: &CallContext,
        writes: Vec<Write>,
    ) -> memory_core::Result<CommitReceipt> {
        self.records().commit(ctx, self.commit_of(writes)).await
    }

    /// Puts an item under any circumstances, without vectors.
    pub(crate) async fn put(
        &self,
        ctx: &CallContext,
        item: MemoryItem,
    ) -> memory_core::Result<Revision> {
        self.put_if(ctx, item, Precondition::Any).await
    }

    pub(crate) async fn put_if(
        &self,
        ctx: &CallContext,
        item: MemoryItem,
        precondition: Precondition,
    ) -> memory_core::Result<Revision> {
        let write = Write::put(item, Vectors::default(), precondition);
        revision_of(&self.commit(ctx, vec![write]).await?)
    }

    /// Puts an item with a vector in one space.
    pub(crate) async fn put_vector(
        &self,
        ctx: &CallContext,
        item: MemoryItem,
        space: &EmbeddingSpace,
        vector: &[f32],
    ) -> memory_core::Result<Revision> {
        let vectors = Vectors::Replace(BTreeMap::from([(space.id(), vector.to_vec())]));
        let write = Write::put(item, vectors, Precondition::Any);
        revision_of(&self.commit(ctx, vec![write]).await?)
    }

    /// Puts items named by id, each with its id and a canary in its content.
    pub(crate) async fn put_all(&self, ctx: &CallContext, ids: &[&str]) -> CheckResult {
        for id in ids {
            self.put(ctx, item(id, &text_of(id), self.now())?).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete(
        &self,
        ctx: &CallContext,
        id: &str,
        precondition: Precondition,
    ) -> memory_core::Result<CommitReceipt> {
        self.commit(ctx, vec![Write::delete(MemoryId::new(id)?, precondition)]).await
    }

    pub(crate) async fn fetch(
        &self,
        ctx: &CallContext,
        ids: &[&str],
    ) -> memory_core::Result<Vec<Option<MemoryItem>>> {
        self.records().fetch(ctx, &memory_ids(ids)?, &Projection::full()).await
    }

    pub(crate) async fn get(
        &self,
        ctx: &CallContext,
        id: &str,
    ) -> memory_core::Result<Option<MemoryItem>> {
        Ok(self.fetch(ctx, &[id]).await?.into_iter().next().flatten())
    }

    /// The item, which must be there.
    #[track_caller]
    pub(crate) fn there(&self, found: Option<MemoryItem>) -> CheckResult<MemoryItem> {
        found.ok_or_else(|| Failure::new("an item that must be there is not"))
    }

    /// The ids of all items that pass a filter, in byte order, read page by page.
    pub(crate) async fn query_ids(
        &self,
        ctx: &CallContext,
        filter: &Filter,
    ) -> memory_core::Result<Vec<String>> {
        let query = Query::new(100).with_filter(filter.clone()).with_order(Order::BY_ID);
        Ok(self.walk(ctx, query).await?.iter().map(|item| item.id.to_string()).collect())
    }

    /// All pages of a query, one after the other.
    pub(crate) async fn walk(
        &self,
        ctx: &CallContext,
        mut query: Query,
    ) -> memory_core::Result<Vec<MemoryItem>> {
        let mut items = Vec::new();
        // A cursor that does not move would turn forever.
        for _ in 0..10_000 {
            let page = self.records().query(ctx, &query).await?;
            items.extend(page.items);
            query.cursor = page.next;
            if query.cursor.is_none() {
                return Ok(items);
            }
        }
        Err(memory_core::Error::new(
            memory_core::ErrorKind::Unexpected,
            "the pages do not come to an end",
        ))
    }

    /// Erases a scope to its receipt; the number of items erased.
    pub(crate) async fn erase_all(
        &self,
        ctx: &CallContext,
        scope: &EraseScope,
    ) -> CheckResult<u64> {
        let (mut erased, mut resume) = (0, None);
        for _ in 0..100_000 {
            let step = self.records().erase(ctx, scope, resume).await?;
            erased += step.erased;
            match (step.receipt, step.next) {
                (Some(_), None) => return Ok(erased),
                (None, Some(next)) => resume = Some(next),
                _ => return Err(Failure::new("a step has a receipt, or a token to go on with")),
            }
        }
        Err(Failure::new("the erasure does not come to an end"))
    }

    pub(crate) async fn count(
        &self,
        ctx: &CallContext,
        filter: &Filter,
    ) -> memory_core::Result<u64> {
        self.records().count(ctx, filter).await
    }
}

fn missing(what: &str) -> Failure {
    Failure::new(format!("the store declares {what} and the harness hands out no such part"))
}

fn revision_of(receipt: &CommitReceipt) -> memory_core::Result<Revision> {
    receipt.results.first().and_then(|result| result.revision.clone()).ok_or_else(|| {
        memory_core::Error::new(
            memory_core::ErrorKind::Unexpected,
            "the receipt of a put carries no revision",
        )
    })
}

/// A call on a tenant.
pub(crate) fn tenant(name: &str) -> memory_core::Result<CallContext> {
    Ok(CallContext::new(TenantId::new(name)?))
}

/// The content of an item that [`Bench::put_all`] puts.
pub(crate) fn text_of(id: &str) -> String {
    format!("the text of {id} {}", crate::canary::TEXT)
}

/// A fact of the user `ada`.
pub(crate) fn item(id: &str, content: &str, now: Timestamp) -> memory_core::Result<MemoryItem> {
    Ok(MemoryItem::new(MemoryId::new(id)?, content, now)?.with_user(UserId::new("ada")?))
}

pub(crate) fn memory_ids(ids: &[&str]) -> memory_core::Result<Vec<MemoryId>> {
    ids.iter().map(MemoryId::new).collect()
}

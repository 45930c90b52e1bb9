//! Indexes, change logs and leases that do one thing wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    ChangeBatch, ChangeLog, ChangeOp, ChangePosition, EraseScope, EraseStep, EraseToken,
    FencingToken, IndexHit, IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, Lease, LeaseStore,
    RecordStore, StoreMeta, SweepStep, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, ConsumerName, EmbeddingSpace, Filter, Health,
    LeaseName, ManualClock, MemoryId, MemoryItem, Page, Projection, Query, Result, TenantId, Write,
};
use memory_testkit::{Harness, ReferenceHarness, ReferenceStore};

/// What a part does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    Sound,
    DeleteLeavesVector,
    FilterAfterTheLimit,
    VectorsOfExpiredFound,
    UpsertNeverStale,
    WrongLengthSkipped,
    OnceEmbeddedNeverMissing,
    MissingBeginsWithTheLast,
    MissingInAllSpacesOnly,
    OldWordsStay,
    WordsLimitIgnored,
    ExplanationAlways,
    DeletesNotLogged,
    GapsKeptSecret,
    ConsumersGoBack,
    LeasesShared,
    TokensStand,
    RenewedAfterTheEnd,
    FenceIgnored,
}

impl Part {
    /// Each with a check that must catch it.
    pub(super) const ALL: [(Self, &'static str); 18] = [
        (Self::DeleteLeavesVector, "stale_vectors_are_not_found"),
        (Self::FilterAfterTheLimit, "vector_search_fills_up_under_a_filter"),
        (Self::VectorsOfExpiredFound, "expired_vectors_are_not_found"),
        (Self::UpsertNeverStale, "upserts_know_their_revision"),
        (Self::WrongLengthSkipped, "misshapen_vectors_are_refused"),
        (Self::OnceEmbeddedNeverMissing, "missing_vectors_follow_the_items"),
        (Self::MissingBeginsWithTheLast, "missing_vectors_come_in_pages"),
        (Self::MissingInAllSpacesOnly, "missing_vectors_are_those_of_one_space"),
        (Self::OldWordsStay, "updates_change_the_words"),
        (Self::WordsLimitIgnored, "keyword_search_fills_up_under_a_filter"),
        (Self::ExplanationAlways, "explanations_add_up"),
        (Self::DeletesNotLogged, "changes_are_logged_in_order"),
        (Self::GapsKeptSecret, "trimmed_changes_are_no_secret"),
        (Self::ConsumersGoBack, "consumers_move_forward"),
        (Self::LeasesShared, "leases_are_exclusive"),
        (Self::TokensStand, "leases_end_by_the_clock"),
        (Self::RenewedAfterTheEnd, "renewals_prolong"),
        (Self::FenceIgnored, "the_fence_keeps_late_writers_out"),
    ];
}

/// All parts of a reference store, one of them with a fault.
#[derive(Debug)]
pub(super) struct PartMutant {
    inner: Arc<ReferenceStore>,
    clock: Arc<ManualClock>,
    part: Part,
    /// Hits that should have gone with their items, by tenant: nearest-neighbour hits.
    ghosts: Mutex<BTreeMap<TenantId, Vec<IndexHit>>>,
    /// Texts that each item has ever had.
    texts: Mutex<BTreeMap<(TenantId, MemoryId), BTreeSet<String>>>,
    consumers: Mutex<BTreeMap<ConsumerName, ChangePosition>>,
    /// Items that were once given a vector.
    embedded: Mutex<BTreeSet<(TenantId, MemoryId)>>,
}

impl PartMutant {
    pub(super) fn new(harness: &ReferenceHarness, part: Part) -> Self {
        Self {
            inner: harness.store(),
            clock: harness.clock(),
            part,
            ghosts: Mutex::default(),
            texts: Mutex::default(),
            consumers: Mutex::default(),
            embedded: Mutex::default(),
        }
    }

    pub(super) fn store(&self) -> Arc<ReferenceStore> {
        Arc::clone(&self.inner)
    }

    pub(super) fn clock(&self) -> Arc<ManualClock> {
        Arc::clone(&self.clock)
    }

    fn is(&self, part: Part) -> bool {
        self.part == part
    }

    fn records(&self) -> &dyn RecordStore {
        &*self.inner
    }

    fn vectors(&self) -> &dyn VectorIndex {
        &*self.inner
    }

    fn keywords(&self) -> &dyn KeywordIndex {
        &*self.inner
    }

    /// Remembers what a commit is about to take away.
    fn remember(&self, context: &CallContext, commit: &Commit) {
        for write in &commit.writes {
            match write {
                Write::Put(put) => {
                    let key = (context.tenant.clone(), put.item.id.clone());
                    let mut texts = self.texts.lock().unwrap();
                    texts.entry(key).or_default().insert(put.item.content().to_owned());
                }
                Write::Delete(delete) if self.is(Part::DeleteLeavesVector) => {
                    let ghost = IndexHit {
                        id: delete.id.clone(),
                        revision: memory_core::Revision::from_number(1),
                        score: 1.0,
                        terms: Vec::new(),
                        item: None,
                        context: None,
                    };
                    let mut ghosts = self.ghosts.lock().unwrap();
                    ghosts.entry(context.tenant.clone()).or_default().push(ghost);
                }
                Write::Delete(_) => {}
            }
        }
    }
}

#[async_trait]
impl RecordStore for PartMutant {
    async fn commit(&self, context: &CallContext, mut commit: Commit) -> Result<CommitReceipt> {
        self.remember(context, &commit);
        let mut context = context.clone();
        if self.is(Part::FenceIgnored) {
            context.fence = Some(FencingToken(u64::MAX));
        }
        if self.is(Part::VectorsOfExpiredFound) {
            // An index that learns of the expiry too late is played by an item that lives on.
            for write in &mut commit.writes {
                if let Write::Put(put) = write {
                    Arc::make_mut(put).item.expires_at = None;
                }
            }
        }
        self.records().commit(&context, commit).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.records().fetch(context, ids, projection).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.records().query(context, query).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.records().count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.records().sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.records().erase(context, scope, resume).await
    }
    async fn health(&self) -> Health {
        self.records().health().await
    }
    async fn close(&self) -> Result<()> {
        self.records().close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.records().capabilities()
    }
}

#[async_trait]
impl VectorIndex for PartMutant {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let mut entries = entries.to_vec();
        if self.is(Part::WrongLengthSkipped) {
            entries.retain(|entry| space.check(&entry.vector).is_ok());
        }
        let ids: Vec<_> = entries.iter().map(|entry| entry.id.clone()).collect();
        let outcomes = self.vectors().upsert(context, space, &entries).await?;
        if self.is(Part::OnceEmbeddedNeverMissing) {
            let kept = ids.into_iter().zip(&outcomes);
            let kept = kept.filter(|(_, outcome)| **outcome == UpsertOutcome::Stored);
            let kept = kept.map(|(id, _)| (context.tenant.clone(), id));
            self.embedded.lock().unwrap().extend(kept);
        }
        if self.is(Part::UpsertNeverStale) {
            return Ok(vec![UpsertOutcome::Stored; outcomes.len()]);
        }
        Ok(outcomes)
    }
    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.vectors().remove(context, space, ids).await
    }
    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        let mut ids = self.vectors().missing(context, space, after.clone(), limit).await?;
        if self.is(Part::MissingBeginsWithTheLast) {
            ids = self.vectors().missing(context, space, None, 1_000).await?;
            ids.retain(|id| after.as_ref().is_none_or(|after| id >= after));
            ids.truncate(limit.try_into().unwrap());
        }
        if self.is(Part::MissingInAllSpacesOnly) {
            let spaces = self.inner.spaces(context).await?;
            for space in spaces.active.iter().chain(&spaces.next) {
                let others = self.vectors().missing(context, space, None, 1_000).await?;
                ids.retain(|id| others.contains(id));
            }
        }
        let embedded = self.embedded.lock().unwrap();
        ids.retain(|id| !embedded.contains(&(context.tenant.clone(), id.clone())));
        Ok(ids)
    }
    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        if self.is(Part::FilterAfterTheLimit) {
            let mut all = query.clone();
            all.filter = Filter::All;
            query.validate()?;
            let mut found = self.vectors().search(context, &all).await?;
            let mut passing = query.clone();
            passing.limit = 1_000;
            let passing = self.vectors().search(context, &passing).await?;
            found.hits.retain(|hit| passing.hits.contains(hit));
            return Ok(found);
        }
        let mut found = self.vectors().search(context, query).await?;
        if let Some(ghosts) = self.ghosts.lock().unwrap().get(&context.tenant) {
            found.hits.extend(ghosts.iter().cloned());
        }
        Ok(found)
    }
    async fn health(&self) -> Health {
        self.vectors().health().await
    }
    async fn close(&self) -> Result<()> {
        self.vectors().close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.vectors().capabilities()
    }
}

#[async_trait]
impl KeywordIndex for PartMutant {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.keywords().upsert(context, entries).await
    }
    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        self.keywords().remove(context, ids).await
    }
    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        let mut query = query.clone();
        query.explain |= self.is(Part::ExplanationAlways);
        let limit = query.limit;
        if self.is(Part::WordsLimitIgnored) && (1..=1_000).contains(&limit) {
            query.limit = 1_000;
        }
        let mut found = self.keywords().search(context, &query).await?;
        if self.is(Part::OldWordsStay) {
            let texts = self.texts.lock().unwrap();
            let words = query.text.to_lowercase();
            for ((tenant, id), texts) in texts.iter() {
                let held = texts.iter().any(|text| {
                    words.split(' ').any(|word| !word.is_empty() && text.contains(word))
                });
                if *tenant == context.tenant && held && !found.hits.iter().any(|h| h.id == *id) {
                    found.hits.push(IndexHit {
                        id: id.clone(),
                        revision: memory_core::Revision::from_number(1),
                        score: 0.0,
                        terms: Vec::new(),
                        item: None,
                        context: None,
                    });
                }
            }
        }
        Ok(found)
    }
    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        self.keywords().authors(context, names).await
    }
    async fn health(&self) -> Health {
        self.keywords().health().await
    }
    async fn close(&self) -> Result<()> {
        self.keywords().close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.keywords().capabilities()
    }
}

#[async_trait]
impl ChangeLog for PartMutant {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        let mut batch = self.inner.read_changes(context, after, limit).await?;
        if self.is(Part::DeletesNotLogged) {
            batch.changes.retain(|change| !matches!(change.op, ChangeOp::Delete(_)));
        }
        batch.gap &= !self.is(Part::GapsKeptSecret);
        Ok(batch)
    }
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.consumers.lock().unwrap().insert(consumer.clone(), position);
        self.inner.acknowledge(context, consumer, position).await
    }
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        let consumers = self.inner.consumers(context).await?;
        if self.is(Part::ConsumersGoBack) {
            let set = self.consumers.lock().unwrap();
            return Ok(consumers.into_keys().map(|name| (name.clone(), set[&name])).collect());
        }
        Ok(consumers)
    }
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        self.inner.forget_consumer(context, consumer).await
    }
}

#[async_trait]
impl LeaseStore for PartMutant {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let lease = self.inner.acquire(context, name, life).await?;
        if self.is(Part::LeasesShared) && lease.is_none() {
            let token = FencingToken(1);
            let expires_at = memory_core::Clock::now(&*self.clock);
            return Ok(Some(Lease { name: name.clone(), token, expires_at }));
        }
        if self.is(Part::TokensStand) {
            return Ok(lease.map(|lease| Lease { token: FencingToken(1), ..lease }));
        }
        Ok(lease)
    }
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let renewed = self.inner.renew(context, lease, life).await?;
        if self.is(Part::RenewedAfterTheEnd) && renewed.is_none() {
            return Ok(Some(lease.clone()));
        }
        Ok(renewed)
    }
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        self.inner.release(context, lease).await
    }
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.inner.set_write_fence(context, fence).await
    }
}

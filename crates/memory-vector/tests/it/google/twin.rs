//! A composition of the tests' own: the reference store keeps the records, and what is searched is
//! Google's index, brought up to date before each search.
//!
//! It does what a composition with a separate index has to do: bring the differences over, search,
//! read the records again, judge each hit by them, and fill up to the limit. With it the checks of
//! the conformance suite that are about vectors run against the index.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    ChangeLog, IndexHits, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep,
    TenantDirectory, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, EmbeddingSpace, Health, ManualClock, MemoryId, MemoryItem, Metric,
    Order, Projection, Query, Result, Revision, SpaceId, TenantId, VectorProjection,
};
use memory_testkit::ReferenceHarness;
use memory_testkit::conformance::Harness;
use memory_vector::google::{GoogleVectorIndex, ItemVector};

type Kept = BTreeMap<(TenantId, SpaceId), BTreeMap<MemoryId, Revision>>;

/// The reference store's harness with the other index in it.
pub(crate) struct TwinHarness {
    reference: ReferenceHarness,
    twin: Arc<Twin>,
}

/// The index of the composition.
#[derive(Debug)]
pub(crate) struct Twin {
    reference: ReferenceHarness,
    google: Arc<GoogleVectorIndex>,
    /// What tenants are called in the index, so that runs on one service do not meet.
    run: String,
    kept: Mutex<Kept>,
    spaces: Mutex<BTreeMap<SpaceId, EmbeddingSpace>>,
    /// How long a write may take to be seen.
    settles_within: Duration,
}

impl TwinHarness {
    pub(crate) fn new(
        google: Arc<GoogleVectorIndex>,
        clock: Arc<ManualClock>,
        run: String,
        settles_within: Duration,
    ) -> Self {
        let reference = ReferenceHarness::on(Arc::clone(&clock));
        let again = ReferenceHarness::of(reference.store(), clock);
        let twin = Twin {
            reference: again,
            google,
            run,
            kept: Mutex::default(),
            spaces: Mutex::default(),
            settles_within,
        };
        Self { reference, twin: Arc::new(twin) }
    }

    pub(crate) fn twin(&self) -> Arc<Twin> {
        Arc::clone(&self.twin)
    }
}

impl Twin {
    fn outside(&self, context: &CallContext) -> CallContext {
        let tenant = TenantId::new(format!("{}/{}", self.run, context.tenant)).unwrap();
        CallContext::new(tenant).with_deadline(context.deadline)
    }

    /// Every visible item of the tenant with its vector in the space.
    async fn items(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
    ) -> Result<Vec<MemoryItem>> {
        let mut query = Query::new(1_000);
        query.order = Order::BY_ID;
        query.projection = Projection::full().with_vectors(VectorProjection::Space(space.id()));
        let mut items = Vec::new();
        loop {
            let page = self.reference.records().query(context, &query).await?;
            items.extend(page.items.into_iter().filter(|item| !item.vectors.is_empty()));
            match page.next {
                Some(cursor) => query.cursor = Some(cursor),
                None => return Ok(items),
            }
        }
    }

    /// Brings what differs over.
    async fn catch_up(&self, context: &CallContext, space: &EmbeddingSpace) -> Result<()> {
        let outside = self.outside(context);
        let key = (context.tenant.clone(), space.id());
        let mut kept = self.kept.lock().unwrap().get(&key).cloned().unwrap_or_default();
        if kept.is_empty() {
            self.google.prepare(space).await?;
            self.spaces.lock().unwrap().insert(space.id(), space.clone());
        }
        let items = self.items(context, space).await?;
        let there: BTreeMap<MemoryId, Revision> =
            items.iter().map(|item| (item.id.clone(), item.revision.clone().unwrap())).collect();
        let gone: Vec<MemoryId> =
            kept.keys().filter(|id| !there.contains_key(*id)).cloned().collect();
        for ids in gone.chunks(1_000) {
            self.google.remove(&outside, space, ids).await?;
        }
        let vector = |item: &MemoryItem| item.vectors[&space.id()].clone();
        let changed: Vec<(&MemoryItem, Vec<f32>)> = items
            .iter()
            .filter(|item| kept.get(&item.id) != item.revision.as_ref())
            .map(|item| (item, vector(item)))
            .collect();
        for part in changed.chunks(1_000) {
            let entries: Vec<ItemVector<'_>> =
                part.iter().map(|(item, vector)| ItemVector { item, vector }).collect();
            let outcomes = self.google.upsert_items(&outside, space, &entries).await?;
            assert!(outcomes.iter().all(|outcome| *outcome == UpsertOutcome::Stored));
        }
        let moved = !gone.is_empty() || !changed.is_empty();
        kept.clone_from(&there);
        self.kept.lock().unwrap().insert(key, kept);
        if moved { self.settled(&outside, space, &there).await } else { Ok(()) }
    }

    /// Waits until the service shows what was written.
    async fn settled(
        &self,
        outside: &CallContext,
        space: &EmbeddingSpace,
        wanted: &BTreeMap<MemoryId, Revision>,
    ) -> Result<()> {
        let begun = tokio::time::Instant::now();
        loop {
            let mut found = BTreeMap::new();
            let mut after = None;
            loop {
                let part = self.google.list(outside, space, after.as_deref(), 1_000).await?;
                found.extend(part.entries);
                after = part.next;
                if after.is_none() {
                    break;
                }
            }
            if found == *wanted {
                return Ok(());
            }
            assert!(
                begun.elapsed() < self.settles_within,
                "the service shows {} of {} objects",
                found.len(),
                wanted.len()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Removes all that was brought over.
    pub(crate) async fn clean(&self) {
        let kept = std::mem::take(&mut *self.kept.lock().unwrap());
        for ((tenant, space), ids) in kept {
            let Some(space) = self.spaces.lock().unwrap().get(&space).cloned() else { continue };
            let ids: Vec<MemoryId> = ids.into_keys().collect();
            let outside = self.outside(&CallContext::new(tenant));
            for part in ids.chunks(1_000) {
                self.google.remove(&outside, &space, part).await.unwrap();
            }
        }
    }
}

#[async_trait]
impl VectorIndex for Twin {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let store = self.reference.store();
        let outcomes = VectorIndex::upsert(&*store, context, space, entries).await?;
        // A vector that is replaced leaves the revision as it is.
        let key = (context.tenant.clone(), space.id());
        if let Some(kept) = self.kept.lock().unwrap().get_mut(&key) {
            for entry in entries {
                if let Some(revision) = kept.get_mut(&entry.id) {
                    *revision = Revision::new("changed").unwrap();
                }
            }
        }
        Ok(outcomes)
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        VectorIndex::remove(&*self.reference.store(), context, space, ids).await
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        self.reference.store().missing(context, space, after, limit).await
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        // What is wrong with the call, its spaces and positions is the store's affair.
        let own = VectorIndex::search(&*self.reference.store(), context, query).await?;
        if query.space.metric() == Metric::Euclidean {
            return Ok(own);
        }
        self.catch_up(context, &query.space).await?;
        let outside = self.outside(context);
        let mut asked = query.clone().with_at_least(None).with_records(None);
        // Which of several with the score of the last place get in is the service's choice.
        asked.limit = (asked.limit * 2 + 16).min(1_000);
        loop {
            let mut found = self.google.search(&outside, &asked).await?;
            let all = found.hits.len() < asked.limit as usize || asked.limit == 1_000;
            let ids: Vec<MemoryId> = found.hits.iter().map(|hit| hit.id.clone()).collect();
            let records =
                self.reference.records().fetch(context, &ids, &Projection::full()).await?;
            let mut records = records.into_iter();
            found.hits.retain(|hit| {
                records.next().flatten().is_some_and(|item| {
                    item.revision.as_ref() == Some(&hit.revision) && query.filter.matches(&item)
                })
            });
            if all || found.hits.len() >= query.limit as usize {
                found.hits.truncate(query.limit as usize);
                return Ok(found);
            }
            asked.limit = (asked.limit * 4).min(1_000);
        }
    }

    async fn health(&self) -> Health {
        self.google.health().await
    }

    async fn close(&self) -> Result<()> {
        self.google.close().await
    }

    fn capabilities(&self) -> Capabilities {
        let mut able = VectorIndex::capabilities(&*self.reference.store());
        able.exact_vectors = self.google.capabilities().exact_vectors;
        able
    }
}

impl Harness for TwinHarness {
    fn records(&self) -> Arc<dyn RecordStore> {
        self.reference.records()
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        Some(Arc::clone(&self.twin) as _)
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        self.reference.keywords()
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        self.reference.changes()
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        self.reference.tenants()
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        self.reference.meta()
    }
    fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        self.reference.leases()
    }
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>> {
        self.reference.upkeep()
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.reference.clock()
    }
}

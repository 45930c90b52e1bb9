//! What the suite does not ask: dropped loads, trimmed logs, spaces that change, bounds of memory.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use memory_core::traits::{
    ChangeBatch, ChangeLog, ChangePosition, EraseScope, EraseStep, EraseToken, KeywordIndex,
    KeywordQuery, RecordStore, StoreMeta, SweepStep, TenantSpaces, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, ConsumerName, EmbeddingSpace, ErrorKind,
    Filter, Health, IdSource as _, ManualClock, MemoryId, MemoryItem, Metric, Page, Precondition,
    Projection, Query, RandomIds, Result, TenantId, Timestamp, UserId, Vectors, Write,
};
use memory_testkit::conformance::{Harness as _, start};
use memory_testkit::reference::{ReferenceHarness, ReferenceStore};
use memory_vector::local::{LocalIndexes, LocalParts, LocalSettings};

/// The store with a log that can say it was trimmed, and reads that take a while.
#[derive(Debug)]
struct Between {
    store: Arc<ReferenceStore>,
    gap: AtomicBool,
    /// Somebody writes before each read of the log.
    busy: AtomicBool,
    pages: AtomicU64,
    fetched: AtomicU64,
}

#[async_trait]
impl ChangeLog for Between {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        if self.busy.load(Ordering::Relaxed) {
            let name = format!("busy-{}", RandomIds.memory_id());
            let write = Write::put(item(&name, "tea"), Vectors::default(), Precondition::Any);
            self.store.commit(context, Commit::new(RandomIds.commit_id(), vec![write])).await?;
        }
        let mut batch = self.store.read_changes(context, after, limit).await?;
        if after.0 > 0 && self.gap.swap(false, Ordering::Relaxed) {
            batch.gap = true;
            batch.changes.clear();
        }
        Ok(batch)
    }
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.store.acknowledge(context, consumer, position).await
    }
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<std::collections::BTreeMap<ConsumerName, ChangePosition>> {
        self.store.consumers(context).await
    }
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        self.store.forget_consumer(context, consumer).await
    }
}

#[async_trait]
impl RecordStore for Between {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.store.commit(context, commit).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.fetched.fetch_add(ids.len() as u64, Ordering::Relaxed);
        self.store.fetch(context, ids, projection).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        self.store.query(context, query).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.store.count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.store.sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.store.erase(context, scope, resume).await
    }
    async fn health(&self) -> Health {
        RecordStore::health(&*self.store).await
    }
    async fn close(&self) -> Result<()> {
        RecordStore::close(&*self.store).await
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&*self.store)
    }
}

struct Rig {
    between: Arc<Between>,
    clock: Arc<ManualClock>,
    local: Arc<LocalIndexes>,
}

impl Rig {
    fn new(page: u32, memory_mb: u32) -> Self {
        let harness = ReferenceHarness::new();
        let (store, clock) = (harness.store(), harness.clock());
        let between = Arc::new(Between {
            store,
            gap: AtomicBool::new(false),
            busy: AtomicBool::new(false),
            pages: AtomicU64::new(0),
            fetched: AtomicU64::new(0),
        });
        let parts = LocalParts {
            records: between.clone(),
            changes: between.clone(),
            meta: between.store.clone(),
            vectors: Some(between.store.clone()),
            clock: clock.clone(),
        };
        let mut settings = LocalSettings::default();
        (settings.page, settings.memory_mb) = (page, memory_mb);
        Self { between, clock, local: LocalIndexes::new(parts, settings).unwrap() }
    }

    async fn put(&self, context: &CallContext, item: MemoryItem, vector: Option<&[f32]>) {
        let vectors = vector.map(|vector| (space("m").id(), vector.to_vec()));
        let vectors = Vectors::Replace(vectors.into_iter().collect());
        let write = Write::put(item, vectors, Precondition::Any);
        let commit = Commit::new(RandomIds.commit_id(), vec![write]);
        self.between.commit(context, commit).await.unwrap();
    }

    async fn found(&self, context: &CallContext, text: &str) -> Vec<String> {
        let query = KeywordQuery::new(text, 100);
        let found = KeywordIndex::search(&*self.local, context, &query).await.unwrap();
        found.hits.iter().map(|hit| hit.id.to_string()).collect()
    }

    async fn near(&self, context: &CallContext, space: &EmbeddingSpace) -> Result<Vec<String>> {
        let query = VectorQuery::new(space.clone(), vec![1.0, 0.0], 100);
        let found = VectorIndex::search(&*self.local, context, &query).await?;
        Ok(found.hits.iter().map(|hit| hit.id.to_string()).collect())
    }
}

fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).unwrap())
}

fn space(model: &str) -> EmbeddingSpace {
    EmbeddingSpace::new(model, "1", 2, Metric::Cosine).unwrap()
}

fn item(name: &str, content: &str) -> MemoryItem {
    let id = MemoryId::new(name).unwrap();
    MemoryItem::new(id, content, start()).unwrap().with_user(UserId::new("u").unwrap())
}

#[tokio::test]
async fn a_search_that_is_dropped_while_the_index_is_made_loses_nothing() {
    let (rig, context) = (Rig::new(2, 16), tenant("t"));
    for n in 0..20 {
        rig.put(&context, item(&format!("m{n:02}"), "tea"), None).await;
    }
    for looks in [1, 2, 4] {
        let mut search = pin!(rig.found(&context, "tea"));
        for _ in 0..looks {
            let polled = search.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending), "it is dropped half way");
        }
    }
    let before = rig.between.pages.load(Ordering::Relaxed);
    assert!(before >= 3);
    assert_eq!(rig.found(&context, "tea").await.len(), 20);
    // Ten pages and one that was dropped under way each time; none from the beginning.
    assert!(rig.between.pages.load(Ordering::Relaxed) <= 10 + 3);
    assert_eq!(rig.local.stats().loads, 1);
    assert_eq!(rig.found(&context, "tea").await.len(), 20);
    assert_eq!(rig.local.stats().loads, 1, "nothing is read again");
}

#[tokio::test]
async fn each_search_reads_what_changed_and_nothing_else() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    for n in 0..50 {
        rig.put(&context, item(&format!("m{n:02}"), "tea"), None).await;
    }
    assert_eq!(rig.found(&context, "tea").await.len(), 50);
    assert_eq!(rig.between.fetched.load(Ordering::Relaxed), 0);
    rig.put(&context, item("m07", "milk"), None).await;
    let write = Write::delete(MemoryId::new("m08").unwrap(), Precondition::Any);
    let commit = Commit::new(RandomIds.commit_id(), vec![write]);
    rig.between.commit(&context, commit).await.unwrap();
    let tea = rig.found(&context, "tea").await;
    assert!(
        tea.len() == 48 && !tea.contains(&"m07".to_owned()) && !tea.contains(&"m08".to_owned())
    );
    assert_eq!(rig.found(&context, "milk").await, ["m07"]);
    assert_eq!(rig.between.fetched.load(Ordering::Relaxed), 2);
    assert_eq!(rig.local.stats().loads, 1);
}

#[tokio::test]
async fn a_log_that_was_trimmed_makes_the_index_anew() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    rig.put(&context, item("a", "tea"), None).await;
    assert_eq!(rig.found(&context, "tea").await, ["a"]);
    rig.put(&context, item("b", "tea"), None).await;
    rig.between.gap.store(true, Ordering::Relaxed);
    assert_eq!(rig.found(&context, "tea").await, ["a", "b"]);
    assert_eq!(rig.local.stats().loads, 2);
}

#[tokio::test]
async fn who_writes_all_the_time_holds_no_search_up() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    rig.put(&context, item("a", "tea"), None).await;
    rig.between.busy.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        let found = rig.found(&context, "tea").await;
        assert!(found.contains(&"a".to_owned()));
    }
    rig.between.busy.store(false, Ordering::Relaxed);
    let all = rig.between.store.count(&context, &Filter::All).await.unwrap();
    assert!(all > 5);
    assert_eq!(rig.found(&context, "tea").await.len() as u64, all, "what came last is found too");
}

#[tokio::test]
async fn an_erased_tenant_is_forgotten_and_a_new_one_begins() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    rig.put(&context, item("a", "tea"), None).await;
    assert_eq!(rig.found(&context, "tea").await, ["a"]);
    let mut resume = None;
    loop {
        let step = rig.between.erase(&context, &EraseScope::Tenant, resume).await.unwrap();
        resume = step.next;
        if step.receipt.is_some() {
            break;
        }
    }
    assert!(rig.found(&context, "tea").await.is_empty());
    assert_eq!(rig.local.stats().memories, 0);
    rig.put(&context, item("b", "tea"), None).await;
    assert_eq!(rig.found(&context, "tea").await, ["b"]);
}

#[tokio::test]
async fn what_expires_goes_at_its_instant() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    let mut short = item("short", "tea");
    let until = Timestamp::from_micros(start().as_micros() + 1_000_000).unwrap();
    short.expires_at = Some(until);
    rig.put(&context, short, None).await;
    rig.put(&context, item("long", "tea"), None).await;
    assert_eq!(rig.found(&context, "tea").await, ["long", "short"]);
    rig.clock.set(until);
    assert_eq!(rig.found(&context, "tea").await, ["long"]);
    assert_eq!(rig.local.stats().memories, 1);
}

#[tokio::test]
async fn spaces_that_come_and_go_are_followed() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    let set = async |active: Option<EmbeddingSpace>, next: Option<EmbeddingSpace>| {
        let version = rig.between.store.spaces(&context).await.unwrap().version;
        let spaces = TenantSpaces { active, next, version };
        rig.between.store.set_spaces(&context, &spaces).await.unwrap();
    };
    let error = rig.near(&context, &space("m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    set(Some(space("m")), None).await;
    rig.put(&context, item("a", "x"), Some(&[1.0, 0.0])).await;
    rig.put(&context, item("b", "x"), Some(&[0.0, 1.0])).await;
    assert_eq!(rig.near(&context, &space("m")).await.unwrap(), ["a", "b"]);
    set(Some(space("m")), Some(space("n"))).await;
    assert!(rig.near(&context, &space("n")).await.unwrap().is_empty());
    assert_eq!(rig.near(&context, &space("m")).await.unwrap(), ["a", "b"]);
    set(Some(space("n")), None).await;
    let error = rig.near(&context, &space("m")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    set(Some(space("m")), None).await;
    assert!(
        rig.near(&context, &space("m")).await.unwrap().is_empty(),
        "they went with their space"
    );
}

#[tokio::test]
async fn memory_is_bounded_over_all_tenants() {
    let rig = Rig::new(1_000, 1);
    let long = "word ".repeat(40);
    for name in ["a", "b", "c", "d"] {
        let context = tenant(name);
        for n in 0..800 {
            let text = format!("tea {long} {n}x {n}y {n}z");
            rig.put(&context, item(&format!("m{n}"), &text), None).await;
        }
        assert_eq!(rig.found(&context, "tea").await.len(), 100);
        let stats = rig.local.stats();
        assert!(stats.tenants >= 1 && (stats.bytes <= 1 << 20 || stats.tenants == 1), "{stats:?}");
    }
    let stats = rig.local.stats();
    assert!(stats.tenants < 4, "{stats:?}");
    // One that was let go of is made again.
    assert_eq!(rig.found(&tenant("a"), "tea").await.len(), 100);
    assert_eq!(rig.local.stats().loads, 5);
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (rig, context) = (Rig::new(100, 16), tenant("t"));
    rig.put(&context, item("a", "tea"), None).await;
    let far = KeywordQuery::new("tea", 5).with_at_least(Some(ChangePosition(u64::MAX)));
    let error = KeywordIndex::search(&*rig.local, &context, &far).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    KeywordIndex::close(&*rig.local).await.unwrap();
    let near = KeywordQuery::new("tea", 5);
    let error = KeywordIndex::search(&*rig.local, &context, &near).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && !error.is_retryable(), "{error}");
    for bad in [(0, 16, "en"), (1_001, 16, "en"), (100, 0, "en"), (100, 16, "xx")] {
        let harness = ReferenceHarness::new();
        let parts = LocalParts {
            records: harness.records(),
            changes: harness.changes().unwrap(),
            meta: harness.meta().unwrap(),
            vectors: None,
            clock: harness.clock(),
        };
        let mut settings = LocalSettings::default();
        (settings.page, settings.memory_mb, settings.language) = (bad.0, bad.1, bad.2.to_owned());
        let error = LocalIndexes::new(parts, settings).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
    }
}

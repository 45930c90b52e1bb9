//! Vectors that are made in the background.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder, MockRecordStore};
use memory_core::{CallContext, EmbeddingSpace, Error, Health, Result, SystemClock};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, AddOptions, Backend, EmbedWhen, EmbeddingSettings, EraseOptions, ErrorKind,
    ImportOptions, Memory, Patch, SearchRequest, Settings, TenantMemory, UpdateOptions,
    VectorState,
};

use crate::support::{
    block_on, each_store, each_store_embedding, embedding, eventually, id, note, plain,
};
use crate::words::{Failure, REFUSED, Words};

const SOON: Duration = Duration::from_secs(20);

fn background() -> Settings {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Background;
    settings
}

async fn embedded(tenant: &TenantMemory) -> (u64, u64) {
    let stats = tenant.stats().await.unwrap();
    (stats.items, stats.embedded)
}

/// A memory in the background of its own over a store that others may share.
fn over(store: &Arc<ReferenceStore>, settings: Settings, words: &Words) -> Memory {
    with_embedder(store, settings, words.embedder())
}

fn with_embedder(
    store: &Arc<ReferenceStore>,
    settings: Settings,
    embedder: Arc<dyn Embedder>,
) -> Memory {
    let builder = Memory::builder().settings(settings).backend(Backend::of(store.clone()));
    block_on(builder.embedder(embedder).open()).unwrap()
}

/// An embedder that knows for whom it works, and waits at a gate.
#[derive(Debug)]
struct ByTenant {
    words: Words,
    /// The tenant of each call.
    calls: Mutex<Vec<String>>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl ByTenant {
    fn new(open: bool) -> Arc<Self> {
        let calls = Mutex::default();
        Arc::new(Self {
            words: Words::new(),
            calls,
            open: Mutex::new(open),
            opened: Condvar::new(),
        })
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}

#[async_trait]
impl Embedder for ByTenant {
    fn space(&self) -> EmbeddingSpace {
        self.words.space()
    }

    fn max_batch(&self) -> usize {
        self.words.max_batch()
    }

    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        self.calls.lock().unwrap().push(context.tenant.to_string());
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
        if context.tenant.as_str() == "bad" {
            let error = Error::new(ErrorKind::Unavailable, "not for this one");
            return Err(error.with_retry_after(Duration::from_secs(60)));
        }
        self.words.embed(context, texts, purpose).await
    }

    async fn health(&self) -> Health {
        Health::healthy()
    }
}

#[test]
fn one_tenants_failure_stops_nobody_else() {
    let (store, embedder) = (store(), ByTenant::new(true));
    let memory = with_embedder(&store, background(), embedder.clone());
    let (bad, good) = (memory.tenant("bad").unwrap(), memory.tenant("good").unwrap());
    block_on(bad.add(note("x"))).unwrap();
    eventually("it has failed", || block_on(memory.embedding_state()).failures > 0);
    for n in 1..=3 {
        block_on(good.add(note("y"))).unwrap();
        eventually("new work wakes the thread", || block_on(embedded(&good)) == (n, n));
    }
    let state = block_on(memory.embedding_state());
    assert_eq!((state.waiting, block_on(embedded(&bad))), (1, (1, 0)), "it rests");
    assert_eq!(embedder.calls().iter().filter(|tenant| *tenant == "bad").count(), 1);
    block_on(memory.close()).unwrap();
}

#[test]
fn a_backlog_lets_others_have_their_turns() {
    let (store, embedder) = (store(), ByTenant::new(false));
    let memory = with_embedder(&store, background(), embedder.clone());
    let (much, little) = (memory.tenant("much").unwrap(), memory.tenant("little").unwrap());
    let many = (0..100).map(|n| note(&format!("text {n}")));
    assert_eq!(block_on(much.add_many(many, AddManyOptions::new())).added, 100);
    eventually("it has begun", || !embedder.calls().is_empty());
    block_on(little.add(note("x"))).unwrap();
    embedder.open();
    block_on(memory.embedding_idle(SOON)).unwrap();
    assert_eq!(block_on(embedded(&much)), (100, 100));
    assert_eq!(block_on(embedded(&little)), (1, 1));
    let calls = embedder.calls();
    let place = calls.iter().position(|tenant| tenant == "little").unwrap();
    assert!(place <= 2 && calls.len() > 10, "{calls:?}");
}

fn store() -> Arc<ReferenceStore> {
    Arc::new(ReferenceStore::new(Arc::new(SystemClock::new())))
}

#[test]
fn what_is_written_gets_its_vector_afterwards() {
    each_store_embedding(&background(), Words::new, async |stack, words| {
        let (memory, tenant) = (&stack.memory, stack.memory.default_tenant());
        memory.embedding_idle(Duration::ZERO).await.unwrap();
        let one = note("Ada drinks tea").with_id(id("one"));
        let receipt = tenant.add_with(one, AddOptions::new()).await.unwrap();
        assert_eq!(receipt.vector, VectorState::Later);
        let many = (0..30).map(|n| note(&format!("text {n}")));
        let report = tenant.add_many(many, AddManyOptions::new()).await;
        assert_eq!((report.added, report.without_vector), (30, 0));
        let line = b"{\"user_id\":\"u\",\"content\":\"imported\"}\n";
        assert_eq!(tenant.import(&line[..], ImportOptions::new("f")).await.added, 1);
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (32, 32));
        let patch = Patch::new().with_content("Ada drinks coffee");
        tenant.update(&id("one"), &patch, UpdateOptions::new()).await.unwrap();
        let other = memory.tenant("other").unwrap();
        other.add(note("elsewhere")).await.unwrap();
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!((embedded(&tenant).await, embedded(&other).await), ((32, 32), (1, 1)));
        let texts = words.documents();
        assert!(texts.contains("Ada drinks coffee") && texts.contains("imported"));
        let answer = tenant.search(&SearchRequest::new().with_text("beverage")).await.unwrap();
        assert!(answer.notes.is_empty(), "{:?}", answer.notes);
        let state = memory.embedding_state().await;
        assert_eq!((state.waiting, state.failures, state.when), (0, 0, EmbedWhen::Background));
    });
}

#[test]
fn what_an_earlier_process_left_is_made_up_for_by_the_first_use() {
    type Use = fn(&TenantMemory);
    let uses: [Use; 2] = [
        |tenant| drop(block_on(tenant.search(&SearchRequest::new().with_text("x"))).unwrap()),
        |tenant| drop(block_on(tenant.add(note("more").with_id(id("more")))).unwrap()),
    ];
    for first_use in uses {
        let store = store();
        let mut later = embedding();
        later.embedding.when = EmbedWhen::Later;
        let earlier = over(&store, later, &Words::new());
        let many = (0..10).map(|n| note(&format!("text {n}")));
        let report = block_on(earlier.default_tenant().add_many(many, AddManyOptions::new()));
        assert_eq!(report.added, 10);
        assert_eq!(block_on(embedded(&earlier.default_tenant())), (10, 0));
        let memory = over(&store, background(), &Words::new());
        let tenant = memory.default_tenant();
        first_use(&tenant);
        block_on(memory.embedding_idle(SOON)).unwrap();
        let (items, embedded) = block_on(embedded(&tenant));
        assert!(items >= 10 && items == embedded, "{items} {embedded}");
    }
}

#[test]
fn an_embedder_that_is_away_is_asked_again() {
    let (store, words) = (store(), Words::new());
    let memory = over(&store, background(), &words);
    let tenant = memory.default_tenant();
    words.fail(1, Failure::Kind(ErrorKind::Unavailable));
    block_on(tenant.add(note("x"))).unwrap();
    block_on(memory.embedding_idle(SOON)).unwrap();
    assert_eq!(block_on(embedded(&tenant)), (1, 1));
    let state = block_on(memory.embedding_state());
    assert_eq!(state.failures, 1);
    assert!(state.last_failure.unwrap().contains("the model is away"));
    assert_eq!(words.calls(), 2);
}

#[test]
fn what_fails_for_good_is_counted_and_left_until_the_tenant_is_used_again() {
    let failures = [Failure::Kind(ErrorKind::Config), Failure::Nan, Failure::Panic, Failure::Short];
    for failure in failures {
        let (store, words) = (store(), Words::new());
        let memory = over(&store, background(), &words);
        let tenant = memory.default_tenant();
        words.fail(usize::MAX, failure);
        // As many as it takes to tell that it is for none of their texts.
        let many = (0..5).map(|n| note(&format!("text {n}")));
        assert_eq!(block_on(tenant.add_many(many, AddManyOptions::new())).added, 5);
        block_on(memory.embedding_idle(SOON)).unwrap();
        assert_eq!(block_on(embedded(&tenant)), (5, 0), "{failure:?}");
        assert!(block_on(memory.embedding_state()).failures >= 1);
        words.fail(0, failure);
        block_on(tenant.search(&SearchRequest::new().with_text("x"))).unwrap();
        block_on(memory.embedding_idle(SOON)).unwrap();
        assert_eq!(block_on(embedded(&tenant)), (5, 5), "{failure:?}");
    }
}

#[test]
fn a_text_that_is_refused_holds_nothing_up() {
    let (store, words) = (store(), Words::new());
    let memory = over(&store, background(), &words);
    let tenant = memory.default_tenant();
    let many = ["a1", REFUSED, "c3"].map(note);
    assert_eq!(block_on(tenant.add_many(many, AddManyOptions::new())).added, 3);
    block_on(memory.embedding_idle(SOON)).unwrap();
    assert_eq!(block_on(embedded(&tenant)), (3, 2));
    let state = block_on(memory.embedding_state());
    assert!(state.failures >= 1 && state.last_failure.is_some());
}

#[test]
fn a_close_ends_it_in_the_middle_of_a_batch() {
    each_store_embedding(&background(), Words::new, async |stack, words| {
        let (memory, tenant) = (&stack.memory, stack.memory.default_tenant());
        words.hold();
        tenant.add(note("x")).await.unwrap();
        eventually("the embedder is asked", || words.waiting() == 1);
        let error = memory.embedding_idle(Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert_eq!(memory.embedding_state().await.waiting, 1);
        memory.close().await.unwrap();
        memory.close().await.unwrap();
        let error = tenant.add(note("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(memory.embedding_state().await.waiting, 0);
    });
}

#[test]
fn whoever_waits_is_told_of_a_close() {
    let (store, words) = (store(), Words::new());
    let memory = over(&store, background(), &words);
    words.hold();
    block_on(memory.default_tenant().add(note("x"))).unwrap();
    let other = memory.clone();
    let waiting = std::thread::spawn(move || block_on(other.embedding_idle(SOON)));
    eventually("the embedder is asked", || words.waiting() == 1);
    block_on(memory.close()).unwrap();
    assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn the_last_handle_ends_the_thread_and_lets_go_of_everything() {
    let (store, words) = (store(), Words::new());
    let memory = over(&store, background(), &words);
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("x"))).unwrap();
    block_on(memory.embedding_idle(SOON)).unwrap();
    drop(memory);
    assert!(Arc::strong_count(&store) > 1 && words.handles() > 1, "a tenant's handle keeps them");
    drop(tenant);
    eventually("the thread holds nothing", || {
        Arc::strong_count(&store) == 1 && words.handles() == 1
    });
    // In a pause after a failure, too.
    let memory = over(&store, background(), &words);
    words.fail(usize::MAX, Failure::Kind(ErrorKind::Unavailable));
    block_on(memory.default_tenant().add(note("y"))).unwrap();
    eventually("it has failed", || block_on(memory.embedding_state()).failures > 0);
    drop(memory);
    eventually("the thread holds nothing", || {
        Arc::strong_count(&store) == 1 && words.handles() == 1
    });
}

#[test]
fn nothing_is_made_behind_the_back_of_other_settings() {
    let mut later = embedding();
    later.embedding.when = EmbedWhen::Later;
    for (settings, embeds) in [(later, false), (embedding(), true), (background(), true)] {
        let (store, words) = (store(), Words::new());
        let memory = over(&store, settings, &words);
        let tenant = memory.default_tenant();
        block_on(tenant.add(note("x"))).unwrap();
        block_on(memory.embedding_idle(SOON)).unwrap();
        assert_eq!(block_on(embedded(&tenant)), (1, u64::from(embeds)));
    }
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("x")).await.unwrap();
        stack.memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (1, 0));
    });
    let mut settings = background();
    settings.embedding = EmbeddingSettings::none();
    settings.embedding.when = EmbedWhen::Background;
    let backend = crate::support::mock_backend(
        MockRecordStore::new(),
        memory_core::traits::MockStoreMeta::new(),
    );
    let memory = crate::support::over(backend, settings);
    block_on(memory.embedding_idle(SOON)).unwrap();
}

#[test]
fn an_erased_tenant_is_left_alone() {
    each_store_embedding(&background(), Words::new, async |stack, _| {
        let (memory, tenant) = (&stack.memory, stack.memory.default_tenant());
        for _ in 0..5 {
            let many = (0..50).map(|n| note(&format!("text {n}")));
            assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 50);
            tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        }
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (0, 0));
        let state = memory.embedding_state().await;
        assert_eq!((state.failures, state.last_failure), (0, None));
        tenant.add(note("anew")).await.unwrap();
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (1, 1));
    });
}

#[test]
fn a_tenant_of_another_model_holds_nobody_up() {
    let (store, words) = (store(), Words::new());
    let plain = Memory::builder().settings(plain()).backend(Backend::of(store.clone()));
    let plain = block_on(plain.open()).unwrap();
    let theirs = note("theirs").with_embedding(vec![1.0, 0.0]);
    block_on(plain.tenant("theirs").unwrap().add(theirs)).unwrap();
    let memory = over(&store, background(), &words);
    let (theirs, ours) = (memory.tenant("theirs").unwrap(), memory.tenant("ours").unwrap());
    let request = SearchRequest::new().with_text("theirs");
    let request = request.with_arms(orchestra_memory::ArmSelection::KeywordOnly);
    for _ in 0..5 {
        assert_eq!(block_on(theirs.search(&request)).unwrap().hits.len(), 1);
        block_on(ours.add(note("ours"))).unwrap();
        block_on(memory.embedding_idle(SOON)).unwrap();
    }
    assert_eq!(block_on(embedded(&ours)), (5, 5));
    let state = block_on(memory.embedding_state());
    assert_eq!(state.failures, 1, "it is looked at once");
    assert!(state.last_failure.unwrap().starts_with("config"));
}

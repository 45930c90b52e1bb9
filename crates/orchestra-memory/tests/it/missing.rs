//! Making up for vectors that are missing.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{CallContext, EmbeddingSpace, Health, ManualClock, SequentialIds};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, AddOptions, Backend, Callback, CancelFlag, EmbedOptions, EmbedReport,
    EmbedWhen, EraseOptions, ErrorKind, Memory, Patch, Projection, Result, SearchRequest, Settings,
    TenantMemory, UpdateOptions, VectorProjection, VectorState,
};

use crate::support::{block_on, each_store, each_store_embedding, embedding, id, note, start};
use crate::words::{Failure, REFUSED, Words, vector};

fn later() -> Settings {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Later;
    settings
}

async fn fill(tenant: &TenantMemory, count: usize) {
    let many = (0..count).map(|n| note(&format!("text {n}")).with_id(id(&format!("m{n:03}"))));
    let report = tenant.add_many(many, AddManyOptions::new()).await;
    assert_eq!((report.added, report.without_vector), (count as u64, 0));
}

async fn embedded(tenant: &TenantMemory) -> u64 {
    tenant.stats().await.unwrap().embedded
}

async fn held(tenant: &TenantMemory, name: &str) -> Option<Vec<f32>> {
    let projection = Projection::full().with_vectors(VectorProjection::All);
    let found = tenant.get_many(&[id(name)], &projection).await.unwrap();
    found[0].as_ref().unwrap().vectors.values().next().cloned()
}

#[test]
fn what_was_written_without_vectors_gets_them_once() {
    each_store_embedding(&later(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        fill(&tenant, 20).await;
        let own = vector("own");
        tenant.add(note("x").with_id(id("own")).with_embedding(own.clone())).await.unwrap();
        let receipt = tenant.add_with(note("y"), AddOptions::new()).await.unwrap();
        assert_eq!((receipt.vector, words.calls()), (VectorState::Later, 0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let log = told.clone();
        let options =
            EmbedOptions::new().with_progress(Callback::new(move |report: &EmbedReport| {
                log.lock().unwrap().push(report.embedded);
            }));
        let report = tenant.embed_missing(options).await.into_result().unwrap();
        assert_eq!((report.missing_before, report.embedded), (21, 21));
        assert_eq!((report.stale, report.failed, report.cancelled), (0, 0, false));
        assert_eq!(*told.lock().unwrap(), [8, 16, 21]);
        assert_eq!(words.documents().len(), 21);
        assert_eq!(held(&tenant, "m007").await, Some(vector("text 7")));
        assert_eq!(held(&tenant, "own").await, Some(own), "a vector that is there stays");
        let again = tenant.embed_missing(EmbedOptions::new()).await.into_result().unwrap();
        assert_eq!((again.missing_before, again.embedded, words.calls()), (0, 0, 0));
        let request = SearchRequest::new().with_text("text 3");
        assert!(tenant.search(&request).await.unwrap().notes.is_empty());
        words.take();
        // Revisions are as they were.
        let item = tenant.get(&id("m001")).await.unwrap().unwrap();
        let options = UpdateOptions::new().with_if_revision(item.revision.unwrap());
        let patch = Patch::new().with_content("changed");
        tenant.update(&id("m001"), &patch, options).await.unwrap();
        let report = tenant.embed_missing(EmbedOptions::new()).await.into_result().unwrap();
        assert_eq!((report.missing_before, report.embedded), (1, 1));
        assert_eq!(words.documents().into_iter().collect::<Vec<_>>(), ["changed"]);
    });
}

#[test]
fn a_stop_of_any_kind_is_gone_on_from() {
    each_store_embedding(&later(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        fill(&tenant, 20).await;
        let flag = CancelFlag::new();
        let raise = flag.clone();
        let options = EmbedOptions::new().with_batch_size(4);
        let stopped = options
            .clone()
            .with_cancel(flag.clone())
            .with_progress(Callback::new(move |_: &EmbedReport| raise.cancel()));
        let report = tenant.embed_missing(stopped).await;
        assert!(report.cancelled && report.stopped.is_none());
        assert_eq!((report.embedded, embedded(&tenant).await), (8, 8));
        assert_eq!(words.documents().len(), 8, "what is embedded is stored, and no more is");
        let raised = EmbedOptions::new().with_cancel(flag);
        words.take();
        assert!(tenant.embed_missing(raised).await.cancelled);
        assert_eq!(words.calls(), 0);

        // The second step of this one fails while the vectors of the first are stored: its call,
        // and three of its texts by themselves.
        let away = words.clone();
        let failing = options.clone().with_progress(Callback::new(move |report: &EmbedReport| {
            if report.embedded == 4 {
                away.fail(4, Failure::Kind(ErrorKind::Unavailable));
            }
        }));
        let report = tenant.embed_missing(failing).await;
        assert_eq!((report.missing_before, report.embedded, report.failed), (12, 8, 0));
        assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::Unavailable);
        assert!(report.into_result().is_err());
        let report = tenant.embed_missing(options).await.into_result().unwrap();
        assert_eq!((report.missing_before, report.embedded), (4, 4));
        for size in [0, 1_001, 1_000_000_000] {
            let options = EmbedOptions::new().with_batch_size(size);
            let report = tenant.embed_missing(options).await;
            assert_eq!(report.stopped.unwrap().kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn texts_that_are_refused_are_passed_over_each_time() {
    each_store_embedding(&later(), Words::new, async |stack, _| {
        let tenant = stack.memory.default_tenant();
        fill(&tenant, 10).await;
        tenant.add(note(REFUSED).with_id(id("a-first"))).await.unwrap();
        tenant.add(note(REFUSED).with_id(id("z-last"))).await.unwrap();
        for embedded in [10, 0] {
            let report = tenant.embed_missing(EmbedOptions::new()).await;
            assert_eq!((report.embedded, report.failed), (embedded, 2));
            assert!(report.stopped.is_none());
            let failed: Vec<&str> = report.failures.iter().map(|one| one.id.as_str()).collect();
            assert_eq!(failed, ["a-first", "z-last"]);
            let error = report.into_result().unwrap_err();
            assert!(error.to_string().contains("id=a-first"), "{error}");
        }
        assert_eq!(embedded(&tenant).await, 10);
    });
}

/// An embedder that changes the memories which it is asked to embed.
#[derive(Debug)]
struct Meddler {
    words: Words,
    tenant: Mutex<Option<TenantMemory>>,
    /// How many calls meddle.
    times: AtomicUsize,
}

#[async_trait]
impl Embedder for Meddler {
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
        let tenant = self.tenant.lock().unwrap().clone();
        if let Some(tenant) = tenant
            && self.times.load(Ordering::SeqCst) > 0
        {
            let round = self.times.fetch_sub(1, Ordering::SeqCst);
            let update = async |name: &str, patch: Patch| {
                tenant.update(&id(name), &patch, UpdateOptions::new()).await.unwrap();
            };
            update("changed", Patch::new().with_content(format!("new {round}"))).await;
            let patch = Patch::new().with_content("own").with_embedding(vector("own"));
            update("given", patch).await;
            tenant.delete(&id("gone"), None).await.unwrap();
        }
        self.words.embed(context, texts, purpose).await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
}

#[test]
fn what_changes_meanwhile_gets_a_second_turn_and_keeps_what_it_was_given() {
    for (times, stale) in [(1, 0), (2, 1)] {
        let clock = Arc::new(ManualClock::new(start()));
        let store = Arc::new(ReferenceStore::new(clock.clone()));
        let meddler = Arc::new(Meddler {
            words: Words::new(),
            tenant: Mutex::default(),
            times: AtomicUsize::new(times),
        });
        let builder = Memory::builder()
            .settings(later())
            .backend(Backend::of(store))
            .clock(clock)
            .ids(Arc::new(SequentialIds::default()))
            .embedder(meddler.clone());
        let memory = block_on(builder.open()).unwrap();
        let tenant = memory.default_tenant();
        for name in ["changed", "given", "gone", "same"] {
            block_on(tenant.add(note("old").with_id(id(name)))).unwrap();
        }
        *meddler.tenant.lock().unwrap() = Some(tenant.clone());
        let report = block_on(tenant.embed_missing(EmbedOptions::new())).into_result().unwrap();
        assert_eq!((report.missing_before, report.stale, report.failed), (4, stale, 0));
        assert_eq!(report.embedded, 2 - stale);
        assert_eq!(block_on(held(&tenant, "given")), Some(vector("own")));
        assert_eq!(block_on(held(&tenant, "same")), Some(vector("old")));
        let changed = block_on(held(&tenant, "changed"));
        assert_eq!(changed, (stale == 0).then(|| vector("new 1")));
        // What was stale is found the next time.
        let report = block_on(tenant.embed_missing(EmbedOptions::new())).into_result().unwrap();
        assert_eq!((report.missing_before, report.embedded), (stale, stale));
        *meddler.tenant.lock().unwrap() = None;
    }
}

#[test]
fn a_tenant_without_memories_gets_no_space_and_one_without_embedder_an_error() {
    each_store_embedding(&later(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let report = tenant.embed_missing(EmbedOptions::new()).await.into_result().unwrap();
        assert_eq!((report.missing_before, report.embedded, words.calls()), (0, 0, 0));
        assert!(tenant.spaces().await.unwrap().active.is_none());
        tenant.add(note("x")).await.unwrap();
        assert_eq!(tenant.embed_missing(EmbedOptions::new()).await.embedded, 1);
        assert_eq!(tenant.spaces().await.unwrap().active, Some(words.embedder().space()));
        tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        let report = tenant.embed_missing(EmbedOptions::new()).await.into_result().unwrap();
        assert_eq!(report.embedded, 0);
    });
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("x")).await.unwrap();
        let error = tenant.embed_missing(EmbedOptions::new()).await.into_result().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("there is no embedding model"), "{error}");
    });
}

#[test]
fn a_walk_goes_beyond_one_page_of_the_store() {
    each_store_embedding(
        &later(),
        || Words::of("words", 1_000),
        async |stack, _| {
            let tenant = stack.memory.default_tenant();
            let many = (0..2_300).map(|n| note(&format!("text {n}")));
            assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 2_300);
            let options = EmbedOptions::new().with_batch_size(700);
            let report = tenant.embed_missing(options).await.into_result().unwrap();
            assert_eq!((report.missing_before, report.embedded), (2_300, 2_300));
            assert_eq!(embedded(&tenant).await, 2_300);
        },
    );
}

//! What a hybrid search says of memories without a vector, and what a text that an embedder fails at
//! does to the others.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{
    CallContext, Clock as _, EmbeddingSpace, Error, Health, ManualClock, Metric, SequentialIds,
    SystemClock,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, Arm, ArmSelection, Backend, EmbedOptions, EmbedWhen, EraseOptions, ErrorKind,
    Field, Filter, ImportOptions, Memory, OnEmbedFailure, Patch, Result, SearchAnswer,
    SearchRequest, Settings, TenantMemory, UpdateOptions, is_refused_by_space,
};

use crate::support::{block_on, each_store_embedding, embedding, id, note, start, user};
use crate::words::{REFUSED, Words, vector};

fn tea() -> SearchRequest {
    SearchRequest::new().with_text("tea")
}

async fn notes(tenant: &TenantMemory, request: SearchRequest) -> Vec<String> {
    tenant.search(&request).await.unwrap().notes
}

fn says_some_lack(notes: &[String]) -> bool {
    notes.iter().any(|note| {
        note.contains("some of the tenant's memories have no vector yet")
            && note.contains("embed --missing")
    })
}

/// Searches until what they say is this, ten seconds at the longest.
async fn settles(tenant: &TenantMemory, some_lack: bool) {
    let clock = SystemClock::new();
    while says_some_lack(&notes(tenant, tea()).await) != some_lack {
        assert!(clock.monotonic() < Duration::from_secs(10), "it is not noticed");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn later() -> Settings {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Later;
    settings
}

#[test]
fn a_search_says_that_memories_lack_a_vector_and_no_longer_once_they_have_one() {
    each_store_embedding(&embedding(), Words::new, async |stack, _| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("green tea")).await.unwrap();
        assert!(notes(&tenant, tea()).await.is_empty(), "every memory has one");
        // The embedder refuses it; the write is noticed without a question to the store.
        let text = format!("black tea is {REFUSED}");
        tenant.add(note(&text).with_id(id("bare"))).await.unwrap();
        for arms in [ArmSelection::Auto, ArmSelection::Both, ArmSelection::VectorOnly] {
            let notes = notes(&tenant, tea().with_arms(arms)).await;
            assert!(says_some_lack(&notes), "{arms:?}: {notes:?}");
        }
        let by_words = notes(&tenant, tea().with_arms(ArmSelection::KeywordOnly)).await;
        assert!(!says_some_lack(&by_words), "it misses nothing: {by_words:?}");
        let answer = tenant.search(&tea()).await.unwrap();
        assert_eq!(answer.hits.len(), 2, "it is found by its words");
        let patch = Patch::new().with_content("black tea");
        tenant.update(&id("bare"), &patch, UpdateOptions::new()).await.unwrap();
        // What is known is some seconds old at the most; the next search may still go by it.
        stack.clock.advance(Duration::from_secs(5));
        settles(&tenant, false).await;
    });
}

#[test]
fn another_process_is_noticed_after_a_while_and_embed_missing_at_once() {
    let store = Arc::new(ReferenceStore::new(Arc::new(ManualClock::new(start()))));
    let clock = Arc::new(ManualClock::new(start()));
    let words = Words::new();
    let open = |settings: Settings| {
        let builder = Memory::builder()
            .settings(settings)
            .backend(Backend::of(store.clone()))
            .clock(clock.clone())
            .ids(Arc::new(SequentialIds::default()))
            .embedder(words.embedder());
        block_on(builder.open()).unwrap()
    };
    let (here, there) = (open(embedding()), open(later()));
    let (tenant, other) = (here.default_tenant(), there.default_tenant());
    block_on(tenant.add(note("green tea"))).unwrap();
    assert!(block_on(notes(&tenant, tea())).is_empty());
    block_on(other.add(note("black tea").with_id(id("other")))).unwrap();
    assert!(block_on(notes(&tenant, tea())).is_empty(), "remembered");
    clock.advance(Duration::from_secs(5));
    block_on(settles(&tenant, true));
    let report = block_on(tenant.embed_missing(EmbedOptions::new())).into_result().unwrap();
    assert_eq!(report.embedded, 1);
    assert!(block_on(notes(&tenant, tea())).is_empty(), "what it made is there at once");
}

#[test]
fn a_tenant_whose_memories_all_lack_a_vector_is_searched_by_words_and_says_so() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("tea").with_id(id("first"))).await.unwrap();
        tenant.add(note(&format!("tea that is {REFUSED}"))).await.unwrap();
        assert!(tenant.delete(&id("first"), None).await.unwrap());
        assert!(tenant.spaces().await.unwrap().active.is_some(), "the space is there");
        assert_eq!(tenant.stats().await.unwrap().embedded, 0);
        let answer = tenant.search(&tea()).await.unwrap();
        assert_eq!((answer.hits.len(), &*answer.arms_used), (1, &[Arm::Keyword][..]));
        let part = "none of the tenant's memories has a vector yet";
        assert!(answer.notes.iter().any(|note| note.contains(part)), "{:?}", answer.notes);
        for arms in [ArmSelection::VectorOnly, ArmSelection::Both] {
            let error = tenant.search(&tea().with_arms(arms)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains(part), "{error}");
        }
        // The twin: one that has a vector is enough, wherever the filter looks.
        tenant.add(note("coffee")).await.unwrap();
        let nobody = Filter::eq(Field::UserId, user("bob").as_str());
        for request in [tea(), tea().with_filter(nobody)] {
            for arms in [ArmSelection::VectorOnly, ArmSelection::Both] {
                let answer = tenant.search(&request.clone().with_arms(arms)).await.unwrap();
                assert!(says_some_lack(&answer.notes), "{:?}", answer.notes);
            }
        }
        // A tenant without memories lacks nothing.
        tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        tenant.add(note("tea").with_id(id("last"))).await.unwrap();
        assert!(tenant.delete(&id("last"), None).await.unwrap());
        words.take();
        let empty = |answer: SearchAnswer| answer.hits.is_empty() && answer.notes.is_empty();
        assert!(empty(tenant.search(&tea().with_arms(ArmSelection::Both)).await.unwrap()));
    });
}

/// An embedder that fails at every call which holds one of its texts.
#[derive(Debug)]
struct Picky {
    words: Words,
    chokes: Mutex<Vec<(String, ErrorKind)>>,
}

impl Picky {
    fn new(chokes: &[(&str, ErrorKind)]) -> Arc<Self> {
        let chokes = chokes.iter().map(|(text, kind)| ((*text).to_owned(), *kind)).collect();
        Arc::new(Self { words: Words::of("picky", 64), chokes: Mutex::new(chokes) })
    }

    fn chokes_on(&self, chokes: &[(&str, ErrorKind)]) {
        *self.chokes.lock().unwrap() =
            chokes.iter().map(|(text, kind)| ((*text).to_owned(), *kind)).collect();
    }

    fn open(self: &Arc<Self>, settings: Settings) -> Memory {
        let clock = Arc::new(ManualClock::new(start()));
        let builder = Memory::builder()
            .settings(settings)
            .backend(Backend::of(Arc::new(ReferenceStore::new(clock.clone()))))
            .clock(clock)
            .ids(Arc::new(SequentialIds::default()))
            .embedder(self.clone());
        block_on(builder.open()).unwrap()
    }
}

#[async_trait]
impl Embedder for Picky {
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
        let mut made = self.words.embed(context, texts, purpose).await?;
        for (bad, kind) in self.chokes.lock().unwrap().iter() {
            let Some(at) = texts.iter().position(|text| text.starts_with(bad)) else { continue };
            match kind {
                ErrorKind::Corrupt => made[at][0] = f32::NAN,
                kind => return Err(Error::new(*kind, "the server answered with status 500")),
            }
        }
        Ok(made)
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
}

const MANY: usize = 301;

/// Where bad texts stand among `MANY`: alone, three side by side, first and last.
const BAD: [&str; 6] = ["m000", "m100", "m101", "m102", "m200", "m300"];

fn fill(tenant: &TenantMemory) {
    let many = (0..MANY).map(|n| {
        let name = format!("m{n:03}");
        note(&format!("{name} is a text")).with_id(id(&name))
    });
    assert_eq!(block_on(tenant.add_many(many, AddManyOptions::new())).added, MANY as u64);
}

#[test]
fn a_text_that_the_embedder_fails_at_blocks_no_other() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt, ErrorKind::Unexpected] {
        for batch in [None, Some(1), Some(2), Some(64), Some(1_000)] {
            let bad: Vec<_> = if batch == Some(1) { &BAD[..2] } else { &BAD[..] }
                .iter()
                .map(|text| (*text, kind))
                .collect();
            let picky = Picky::new(&bad);
            let memory = picky.open(later());
            let tenant = memory.default_tenant();
            fill(&tenant);
            let options = batch
                .map_or_else(EmbedOptions::new, |size| EmbedOptions::new().with_batch_size(size));
            picky.words.take();
            let report = block_on(tenant.embed_missing(options));
            let calls = picky.words.calls();
            assert!(report.stopped.is_none(), "{kind:?} {batch:?}: {:?}", report.stopped);
            let failed: Vec<&str> = report.failures.iter().map(|one| one.id.as_str()).collect();
            let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
            assert_eq!(failed, names, "{kind:?} {batch:?}");
            assert!(report.failures.iter().all(|one| one.error.kind() == kind));
            assert_eq!(report.embedded, (MANY - bad.len()) as u64, "{kind:?} {batch:?}");
            assert!(calls <= 2 * MANY, "{kind:?} {batch:?}: {calls}");
            // Once it is well, the rest gets its vectors.
            picky.chokes_on(&[]);
            let report = block_on(tenant.embed_missing(EmbedOptions::new())).into_result().unwrap();
            assert_eq!(report.embedded, bad.len() as u64);
        }
    }
}

#[test]
fn an_import_keeps_the_vectors_of_all_others() {
    let line = |n: usize| format!("{{\"user_id\":\"u\",\"content\":\"m{n:03} is a text\"}}\n");
    let text: String = (0..MANY).map(line).collect();
    for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt] {
        let bad: Vec<_> = BAD.iter().map(|text| (*text, kind)).collect();
        for on_failure in [OnEmbedFailure::Store, OnEmbedFailure::Refuse] {
            let picky = Picky::new(&bad);
            let mut settings = embedding();
            settings.embedding.on_failure = on_failure;
            let memory = picky.open(settings);
            let tenant = memory.default_tenant();
            let report = block_on(tenant.import(text.as_bytes(), ImportOptions::new("f")));
            assert!(report.stopped.is_none(), "{:?}", report.stopped);
            let (all, few) = (MANY as u64, bad.len() as u64);
            let want = match on_failure {
                OnEmbedFailure::Store => (all, 0, few),
                OnEmbedFailure::Refuse => (all - few, few, 0),
            };
            assert_eq!((report.added, report.bad, report.without_vector), want);
            let stats = block_on(tenant.stats()).unwrap();
            assert_eq!(stats.embedded, all - few);
        }
    }
}

#[test]
fn an_embedder_that_is_away_is_asked_a_few_times_and_ends_the_run() {
    for (kind, most) in [
        (ErrorKind::Unavailable, 4),
        (ErrorKind::Timeout, 4),
        (ErrorKind::Unexpected, 4),
        // An answer that makes no sense is looked into.
        (ErrorKind::Corrupt, 2 * 64),
        // Going on is futile.
        (ErrorKind::Config, 1),
        (ErrorKind::PermissionDenied, 1),
        (ErrorKind::RateLimited, 1),
    ] {
        let picky = Picky::new(&[("", kind)]);
        let memory = picky.open(later());
        let tenant = memory.default_tenant();
        fill(&tenant);
        for size in [1, 64] {
            picky.words.take();
            let options = EmbedOptions::new().with_batch_size(size);
            let report = block_on(tenant.embed_missing(options));
            assert_eq!(report.stopped.as_ref().unwrap().kind(), kind, "{report:?}");
            assert!(!report.refused_by_space(), "it is the embedder's own fault");
            assert_eq!((report.embedded, report.failed), (0, 0), "{kind:?} {size}");
            let calls = picky.words.calls();
            assert!((1..=most).contains(&calls), "{kind:?} {size}: {calls}");
        }
        picky.chokes_on(&[]);
        let report = block_on(tenant.embed_missing(EmbedOptions::new())).into_result().unwrap();
        assert_eq!(report.embedded, MANY as u64);
    }
}

#[test]
fn a_single_text_that_fails_names_its_memory() {
    let picky = Picky::new(&[("x", ErrorKind::Unavailable)]);
    let memory = picky.open(later());
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("x").with_id(id("only")))).unwrap();
    let report = block_on(tenant.embed_missing(EmbedOptions::new()));
    assert!(report.stopped.unwrap().to_string().contains("id=only"));
    // Beside one that gets its vector it is the text.
    block_on(tenant.add(note("fine").with_id(id("other")))).unwrap();
    let report = block_on(tenant.embed_missing(EmbedOptions::new()));
    assert!(report.stopped.is_none(), "{:?}", report.stopped);
    assert_eq!((report.embedded, report.failed), (1, 1));
}

#[test]
fn what_the_embedder_takes_is_one_call_unless_the_settings_say_less() {
    for (max_batch, batch_size, want) in
        [(64, None, 64), (1_000, None, 256), (1_000, Some(700), 301), (64, Some(700), 64)]
    {
        let mut settings = embedding();
        settings.embedding.batch_size = batch_size;
        let model = || Words::of("words", max_batch);
        each_store_embedding(&settings, model, async |stack, words| {
            let tenant = stack.memory.default_tenant();
            let many = (0..MANY).map(|n| note(&format!("text {n}")));
            assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, MANY as u64);
            let most = words.take().iter().map(|(_, texts)| texts.len()).max();
            assert_eq!(most, Some(want), "{max_batch} {batch_size:?}");
        });
    }
}

#[test]
fn a_tenant_of_another_model_is_told_apart_from_wrong_settings() {
    let store = Arc::new(ReferenceStore::new(Arc::new(ManualClock::new(start()))));
    let open = |words: &Words| {
        let builder = Memory::builder()
            .settings(embedding())
            .backend(Backend::of(store.clone()))
            .embedder(words.embedder());
        block_on(builder.open()).unwrap().default_tenant()
    };
    let (one, two) = (Words::of("one", 8), Words::of("two", 8));
    block_on(open(&one).add(note("x").with_embedding(vector("x")))).unwrap();
    let tenant = open(&two);
    let report = block_on(tenant.embed_missing(EmbedOptions::new()));
    assert!(report.refused_by_space());
    let error = report.stopped.unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    let space = one.embedder().space().to_string();
    assert!(error.context().contains(&("tenant_space", space)), "{error}");
    assert!(error.message().contains("`reembed`"), "the way out: {error}");
    let error = block_on(tenant.search(&tea())).unwrap_err();
    assert!(is_refused_by_space(&error), "{error}");
    let error = block_on(tenant.add(note("y"))).unwrap_err();
    assert!(is_refused_by_space(&error), "{error}");
    // The twin: a server that does not know the model.
    let picky = Picky::new(&[("", ErrorKind::Config)]);
    let tenant = picky.open(later()).default_tenant();
    fill(&tenant);
    let report = block_on(tenant.embed_missing(EmbedOptions::new()));
    assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::Config);
    assert!(!report.refused_by_space());
    // And one whose space is the embedder's own.
    let report = block_on(open(&one).embed_missing(EmbedOptions::new()));
    assert!(!report.refused_by_space() && report.stopped.is_none());
    assert_eq!(one.embedder().space().metric(), Metric::Cosine);
}

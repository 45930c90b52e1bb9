//! What a write does where its vector cannot be made, comes late, or is left to the background.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use memory_core::traits::{
    EmbedPurpose, Embedder, EraseScope, EraseStep, EraseToken, RecordStore, SweepStep,
};
use memory_core::{
    CallContext, Capabilities, Clock as _, Commit, CommitReceipt, EmbeddingSpace, Error, Health,
    ManualClock, MemoryItem, Page, Query,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, AddOptions, AddOutcome, Backend, Change, EmbedOptions, EmbedWhen, ErrorKind,
    Filter, ImportOptions, Memory, MemoryId, OnConflict, OnEmbedFailure, Outcome, Patch,
    Projection, Result, Settings, TenantMemory, UpdateOptions, VectorProjection, VectorState,
};

use crate::support::{block_on, each_store, each_store_embedding, embedding, id, note, start};
use crate::words::{Failure, Words, vector};

const AWAY: Failure = Failure::Kind(ErrorKind::Unavailable);
const SOON: Duration = Duration::from_secs(20);

fn refusing() -> Settings {
    let mut settings = embedding();
    settings.embedding.on_failure = OnEmbedFailure::Refuse;
    settings
}

async fn held(tenant: &TenantMemory, name: &str) -> Option<Vec<f32>> {
    let projection = Projection::full().with_vectors(VectorProjection::All);
    let found = tenant.get_many(&[id(name)], &projection).await.unwrap();
    found[0].as_ref().unwrap().vectors.values().next().cloned()
}

async fn embedded(tenant: &TenantMemory) -> (u64, u64) {
    let stats = tenant.stats().await.unwrap();
    (stats.items, stats.embedded)
}

#[test]
fn an_update_says_what_became_of_the_vector() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("old").with_id(id("m"))).await.unwrap();
        let update = async |patch: Patch| {
            let done = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
            let stored = tenant.get(&id("m")).await.unwrap().unwrap();
            assert_eq!(done.item, stored);
            (done.vector, done.vector_reason)
        };
        let plain = |state| (state, None);
        assert_eq!(update(Patch::new().with_importance(0.5)).await, plain(VectorState::Kept));
        assert_eq!(update(Patch::new().with_content("new")).await, plain(VectorState::Made));
        let own = Patch::new().with_content("own").with_embedding(vector("x"));
        assert_eq!(update(own).await, plain(VectorState::Supplied));
        let clear = Patch::new().with_embedding(Change::Clear);
        assert_eq!(update(clear).await, plain(VectorState::Cleared));
        words.fail(1, AWAY);
        let (state, reason) = update(Patch::new().with_content("newer")).await;
        assert_eq!(state, VectorState::Missing);
        assert!(reason.unwrap().contains("the model is away"));
        let patch = Patch::new().with_importance(0.25);
        let done = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        let json = serde_json::to_value(&done).unwrap();
        assert_eq!((&json["id"], &json["vector"]), (&"m".into(), &"kept".into()));
    });
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("old").with_id(id("m"))).await.unwrap();
        let patch = Patch::new().with_content("new");
        let done = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!((done.vector, done.vector_reason), (VectorState::NoEmbedder, None));
    });
}

#[test]
fn another_author_does_not_keep_the_vector_of_the_old_text() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("tea").with_id(id("m"))).await.unwrap();
        let author = async |name: &str| {
            let patch = Patch::new().with_author(name.to_owned());
            tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap().vector
        };
        words.fail(1, AWAY);
        assert_eq!(author("Ada").await, VectorState::Missing);
        assert_eq!((held(&tenant, "m").await, embedded(&tenant).await), (None, (1, 0)));
        assert_eq!(tenant.embed_missing(EmbedOptions::new()).await.embedded, 1);
        assert_eq!(held(&tenant, "m").await, Some(vector("Ada: tea")));
        // The twin: the embedder serves.
        assert_eq!(author("Ben").await, VectorState::Made);
        assert_eq!(held(&tenant, "m").await, Some(vector("Ben: tea")));
    });
}

#[test]
fn the_same_text_of_another_content_has_a_vector_too() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("Bob: tea").with_author("Ada").with_id(id("m"))).await.unwrap();
        let patch = Patch::new().with_author("Ada: Bob".to_owned()).with_content("tea");
        let done = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!((done.item.content(), done.vector), ("tea", VectorState::Made));
        assert_eq!(held(&tenant, "m").await, Some(vector("Ada: Bob: tea")));
        words.take();
        let again = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!((again.vector, words.calls()), (VectorState::Kept, 0));
        assert_eq!(held(&tenant, "m").await, Some(vector("Ada: Bob: tea")));
    });
}

#[test]
fn a_request_that_was_done_is_answered_while_the_embedder_is_away() {
    each_store_embedding(&refusing(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let under = |key: &str| AddOptions::new().with_idempotency_key(key);
        let first = tenant.add_with(note("once"), under("one")).await.unwrap();
        words.fail(usize::MAX, AWAY);
        let again = tenant.add_with(note("once"), under("one")).await.unwrap();
        assert_eq!((&again.id, &again.revision), (&first.id, &first.revision));
        assert_eq!((again.replayed, again.vector), (true, VectorState::NotWritten));
        let error = tenant.add_with(note("another"), under("one")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
        // The twin: a key that stands for nothing, which the failure does not use up.
        let error = tenant.add_with(note("twice"), under("two")).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert_eq!(embedded(&tenant).await, (1, 1));
        words.fail(0, AWAY);
        let done = tenant.add_with(note("twice"), under("two")).await.unwrap();
        assert_eq!((done.replayed, done.vector), (false, VectorState::Made));
        assert_eq!(embedded(&tenant).await, (2, 2));
    });
}

#[test]
fn an_id_that_is_taken_is_told_while_the_embedder_is_away() {
    each_store_embedding(&refusing(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("there").with_id(id("m"))).await.unwrap();
        words.fail(usize::MAX, AWAY);
        let add = async |name: &str, on_conflict| {
            let options = AddOptions::new().with_on_conflict(on_conflict);
            tenant.add_with(note("new").with_id(id(name)), options).await
        };
        let skipped = add("m", OnConflict::Skip).await.unwrap();
        assert_eq!(
            (skipped.outcome, skipped.vector),
            (AddOutcome::Skipped, VectorState::NotWritten)
        );
        let error = add("m", OnConflict::Fail).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        for (name, on_conflict) in
            [("m", OnConflict::Replace), ("n", OnConflict::Skip), ("n", OnConflict::Fail)]
        {
            let error = add(name, on_conflict).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{name} {on_conflict:?}");
        }
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 1);
        // Without an id of the caller's there is nothing to look for.
        assert!(tenant.add(note("x")).await.is_err());
        words.fail(0, AWAY);
        assert_eq!(add("n", OnConflict::Skip).await.unwrap().outcome, AddOutcome::Added);
    });
}

/// Takes so long for each call, and no longer than it may.
#[derive(Debug)]
struct Slow {
    words: Words,
    clock: Arc<ManualClock>,
    takes: Mutex<Duration>,
}

#[async_trait]
impl Embedder for Slow {
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
        let takes = *self.takes.lock().unwrap();
        let left = context.deadline.map(|deadline| deadline.remaining(self.clock.monotonic()));
        if let Some(left) = left.filter(|left| *left < takes) {
            self.clock.advance(left);
            return Err(Error::new(ErrorKind::Timeout, "the model is slow"));
        }
        self.clock.advance(takes);
        self.words.embed(context, texts, purpose).await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
}

#[test]
fn a_slow_embedder_leaves_time_to_store() {
    let seconds = Duration::from_secs;
    for (on_failure, takes, want) in [
        (OnEmbedFailure::Store, 1, Some(VectorState::Made)),
        (OnEmbedFailure::Store, 3, Some(VectorState::Missing)),
        (OnEmbedFailure::Store, 9, Some(VectorState::Missing)),
        (OnEmbedFailure::Refuse, 3, Some(VectorState::Made)),
        (OnEmbedFailure::Refuse, 9, None),
    ] {
        let clock = Arc::new(ManualClock::new(start()));
        let slow = Arc::new(Slow {
            words: Words::new(),
            clock: clock.clone(),
            takes: Mutex::new(Duration::ZERO),
        });
        let mut settings = embedding();
        settings.embedding.on_failure = on_failure;
        let memory = Memory::builder()
            .settings(settings)
            .backend(Backend::of(Arc::new(ReferenceStore::new(clock.clone()))))
            .clock(clock)
            .embedder(slow.clone());
        let memory = block_on(memory.open()).unwrap();
        block_on(memory.default_tenant().add(note("old").with_id(id("m")))).unwrap();
        *slow.takes.lock().unwrap() = seconds(takes);
        // Of each call of four seconds the embedder may take two, where the rest is for the store.
        let tenant = memory.default_tenant().with_timeout(seconds(4));
        let (case, stored) = ((on_failure, takes), want.is_some());
        let without = u64::from(want == Some(VectorState::Missing));
        let added = block_on(tenant.add_with(note("one"), AddOptions::new()));
        let vector = added.as_ref().ok().map(|receipt| receipt.vector);
        assert_eq!(vector, want, "{case:?} {added:?}");
        if let Err(error) = added {
            assert_eq!(error.kind(), ErrorKind::Timeout);
        }
        let many = ["two", "three"].map(note);
        let report = block_on(tenant.add_many(many, AddManyOptions::new()));
        assert_eq!((report.added > 0, report.without_vector), (stored, 2 * without), "{case:?}");
        let line = b"{\"user_id\":\"u\",\"content\":\"four\"}\n";
        let report = block_on(tenant.import(&line[..], ImportOptions::new("f")));
        assert_eq!((report.added > 0, report.without_vector), (stored, without), "{case:?}");
        let patch = Patch::new().with_content("new");
        let updated = block_on(tenant.update_with(&id("m"), &patch, UpdateOptions::new()));
        assert_eq!(updated.ok().map(|receipt| receipt.vector), want, "{case:?}");
        let all = if stored { 5 } else { 1 };
        assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), all, "{case:?}");
    }
}

/// A store whose commits happen, and whose answers do not always come.
#[derive(Debug)]
struct Answers {
    store: Arc<ReferenceStore>,
    mode: Mutex<Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Serve,
    /// The commit is done, and the call never ends.
    Hang,
    /// The commit is done, and its answer is lost.
    Lose,
    /// Nothing is done, and nobody can tell.
    Away,
}

impl Answers {
    fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }
}

#[async_trait]
impl RecordStore for Answers {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let mode = *self.mode.lock().unwrap();
        let lost = || Error::new(ErrorKind::Unavailable, "the line is cut").with_unknown_outcome();
        if mode == Mode::Away {
            return Err(lost());
        }
        let receipt = self.store.commit(context, commit).await;
        match mode {
            Mode::Hang => std::future::pending().await,
            Mode::Lose => Err(lost()),
            _ => receipt,
        }
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.store.fetch(context, ids, projection).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
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
        self.store.close().await
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&*self.store)
    }
}

/// A memory over such a store.
fn answering(settings: Settings, words: &Words) -> (Memory, Arc<Answers>) {
    let clock = Arc::new(ManualClock::new(start()));
    let store = Arc::new(ReferenceStore::new(clock.clone()));
    let answers = Arc::new(Answers { store: store.clone(), mode: Mutex::new(Mode::Serve) });
    let backend = Backend { records: answers.clone(), ..Backend::of(store) };
    let builder = Memory::builder()
        .settings(settings)
        .backend(backend)
        .clock(clock)
        .embedder(words.embedder());
    (block_on(builder.open()).unwrap(), answers)
}

#[test]
fn what_nobody_can_tell_is_not_told() {
    let words = Words::new();
    let (memory, answers) = answering(refusing(), &words);
    let tenant = memory.default_tenant();
    words.fail(usize::MAX, AWAY);
    let add = |key: Option<&str>| {
        let mut options = AddOptions::new();
        options.idempotency_key = key.map(str::to_owned);
        block_on(tenant.add_with(note("x").with_id(id("x")), options)).unwrap_err()
    };
    for (mode, outcome) in [(Mode::Away, Outcome::Unknown), (Mode::Serve, Outcome::NotApplied)] {
        answers.set(mode);
        let error = add(Some("key"));
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, outcome), "{mode:?}");
        assert_eq!(error.message(), "the model is away");
        assert_eq!(add(None).outcome(), Outcome::NotApplied, "no earlier request is meant");
    }
    assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 0);
}

#[test]
fn what_was_written_without_an_answer_gets_its_vector_too() {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Background;
    for mode in [Mode::Serve, Mode::Lose, Mode::Hang] {
        let words = Words::new();
        let (memory, answers) = answering(settings.clone(), &words);
        let tenant = memory.default_tenant();
        // What the first use of a tenant looks at is done with before.
        block_on(tenant.add(note("first").with_id(id("m")))).unwrap();
        block_on(memory.embedding_idle(SOON)).unwrap();
        assert_eq!(block_on(embedded(&tenant)), (1, 1));
        let idle = |items| {
            block_on(memory.embedding_idle(SOON)).unwrap();
            assert_eq!(block_on(embedded(&tenant)), (items, items), "{mode:?}");
        };
        answers.set(mode);
        match (mode, tenant.add(note("second")).now_or_never()) {
            (Mode::Hang, None) | (Mode::Serve, Some(Ok(_))) => {}
            (Mode::Lose, Some(Err(error))) => assert_eq!(error.outcome(), Outcome::Unknown),
            (_, other) => panic!("{mode:?}: {other:?}"),
        }
        idle(2);
        let many = ["third", "fourth"].map(note);
        let report = tenant.add_many(many, AddManyOptions::new()).now_or_never();
        assert_eq!(report.is_none(), mode == Mode::Hang);
        idle(4);
        let patch = Patch::new().with_content("changed");
        let updated = tenant.update(&id("m"), &patch, UpdateOptions::new()).now_or_never();
        assert_eq!(updated.is_none(), mode == Mode::Hang);
        idle(4);
        assert_eq!(block_on(held(&tenant, "m")), Some(vector("changed")));
    }
}

#[test]
fn writes_that_nobody_waits_for_get_their_vectors() {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Background;
    each_store_embedding(&settings, Words::new, async |stack, _| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("first")).await.unwrap();
        stack.memory.embedding_idle(SOON).await.unwrap();
        for n in 0..20 {
            // Sent with the first poll, if the store does not answer at once.
            drop(tenant.add(note(&format!("nobody waits for {n}"))).now_or_never());
        }
        // Behind all of them in the store's queue.
        tenant.add(note("last")).await.unwrap();
        stack.memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (22, 22));
    });
}

#[test]
fn a_request_that_is_repeated_leaves_its_memory_to_the_background_again() {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Background;
    each_store_embedding(&settings, Words::new, async |stack, _| {
        let (memory, tenant) = (&stack.memory, stack.memory.default_tenant());
        let add = async || {
            let options = AddOptions::new().with_idempotency_key("key");
            tenant.add_with(note("once"), options).await.unwrap()
        };
        let first = add().await;
        memory.embedding_idle(SOON).await.unwrap();
        let clear = Patch::new().with_embedding(Change::Clear);
        tenant.update(&first.id, &clear, UpdateOptions::new()).await.unwrap();
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (1, 0), "nothing else makes it");
        let again = add().await;
        assert_eq!((again.replayed, again.vector), (true, VectorState::NotWritten));
        assert_eq!(again.id, first.id);
        memory.embedding_idle(SOON).await.unwrap();
        assert_eq!(embedded(&tenant).await, (1, 1));
    });
}

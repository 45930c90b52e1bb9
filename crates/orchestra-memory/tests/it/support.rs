//! What the tests share: back ends of mocks, and every real store that there is.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    MockChangeLog, MockKeywordIndex, MockLeaseStore, MockRecordStore, MockStoreMeta,
    MockStoreUpkeep, MockTenantDirectory, MockVectorIndex,
};
use memory_core::{
    Capabilities, Capability, Clock as _, CommitReceipt, Durability, ManualClock, Revision,
    SequentialIds, SystemClock, WriteResult,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    Backend, EmbeddingSettings, Memory, MemoryBuilder, MemoryId, NewMemory, Result, Settings,
    Timestamp, UserId,
};

use crate::bulk::OneByOne;
use crate::words::Words;
pub(crate) use futures::executor::block_on;

/// The time at which every test begins.
pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2025-03-01T09:30:00Z").unwrap()
}

pub(crate) fn id(text: &str) -> MemoryId {
    MemoryId::new(text).unwrap()
}

pub(crate) fn user(text: &str) -> UserId {
    UserId::new(text).unwrap()
}

/// Ada's memory of this text.
pub(crate) fn note(content: &str) -> NewMemory {
    NewMemory::new(content).with_user(user("ada"))
}

pub(crate) fn capabilities(backend: &'static str) -> Capabilities {
    Capabilities::new(backend, [Capability::CoLocated], Durability::Volatile)
}

/// A back end of mocks: these two, and others that nothing may call.
pub(crate) fn mock_backend(mut records: MockRecordStore, meta: MockStoreMeta) -> Backend {
    records.expect_capabilities().returning(|| capabilities("mock"));
    let mut vectors = MockVectorIndex::new();
    vectors.expect_capabilities().returning(|| capabilities("mock"));
    let mut keywords = MockKeywordIndex::new();
    keywords.expect_capabilities().returning(|| capabilities("mock"));
    Backend {
        records: Arc::new(records),
        vectors: Arc::new(vectors),
        keywords: Some(Arc::new(keywords)),
        changes: Some(Arc::new(MockChangeLog::new())),
        bulk: None,
        tenants: Arc::new(MockTenantDirectory::new()),
        meta: Arc::new(meta),
        leases: Arc::new(MockLeaseStore::new()),
        upkeep: Arc::new(MockStoreUpkeep::new()),
    }
}

/// Settings without an embedder, whatever model is on the machine.
pub(crate) fn plain() -> Settings {
    let mut settings = Settings::default();
    settings.embedding = EmbeddingSettings::none();
    settings
}

/// A builder with those settings.
pub(crate) fn builder() -> MemoryBuilder {
    Memory::builder().settings(plain())
}

/// Opens a store with those settings.
pub(crate) async fn open(url: &str) -> Result<Memory> {
    builder().url(url).open().await
}

/// A memory over a back end of mocks.
pub(crate) fn mock_memory(records: MockRecordStore, meta: MockStoreMeta) -> Memory {
    over(mock_backend(records, meta), plain())
}

pub(crate) fn over(backend: Backend, settings: Settings) -> Memory {
    let builder = Memory::builder()
        .backend(backend)
        .settings(settings)
        .clock(Arc::new(ManualClock::new(start())))
        .ids(Arc::new(SequentialIds::default()));
    block_on(builder.open()).unwrap()
}

/// The receipt of a commit that wrote everything it was asked to.
pub(crate) fn written(commit: &memory_core::Commit) -> CommitReceipt {
    let results = commit
        .writes
        .iter()
        .map(|write| WriteResult {
            id: write.id().clone(),
            revision: Some(Revision::from_number(1)),
            existed: false,
        })
        .collect();
    CommitReceipt { results, position: None, replayed: false }
}

/// A memory over a real store, and the clock that it goes by.
pub(crate) struct Stack {
    pub(crate) memory: Memory,
    pub(crate) clock: Arc<ManualClock>,
}

/// Settings for a memory with an embedder of its own, of which nothing is cached.
pub(crate) fn embedding() -> Settings {
    let mut settings = Settings::default();
    settings.embedding.cache_entries = 0;
    settings
}

/// As [`each_store_with`], each store with an embedder of its own.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
pub(crate) fn each_store_embedding(
    settings: &Settings,
    embedder: impl Fn() -> Words,
    check: impl AsyncFn(&Stack, &Words),
) {
    for (name, store) in stores() {
        let words = embedder();
        let stack =
            stack(settings, |builder, clock| store.over(builder, clock).embedder(words.embedder()));
        println!("over {name}");
        block_on(check(&stack, &words));
        block_on(stack.memory.close()).unwrap();
    }
}

/// Waits until something holds, ten seconds at the longest.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let clock = SystemClock::new();
    while !holds() {
        assert!(clock.monotonic() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Runs a check over the reference store and every store of this build, each empty.
pub(crate) fn each_store(check: impl AsyncFn(&Stack)) {
    each_store_with(&plain(), check);
}

/// As [`each_store`], with settings.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
pub(crate) fn each_store_with(settings: &Settings, check: impl AsyncFn(&Stack)) {
    for (name, store) in stores() {
        let stack = stack(settings, |builder, clock| store.over(builder, clock));
        // Captured unless the test fails: then the last name tells where.
        println!("over {name}");
        block_on(check(&stack));
        block_on(stack.memory.close()).unwrap();
    }
}

/// A place for a store.
enum Place {
    Reference,
    /// The reference store, which writes many memories one by one.
    Bulk,
    Memory,
    File(tempfile::TempDir),
}

fn stores() -> Vec<(&'static str, Place)> {
    let mut stores = vec![("reference", Place::Reference), ("reference, bulk", Place::Bulk)];
    if cfg!(feature = "sqlite") {
        stores.push(("memory:", Place::Memory));
        stores.push(("sqlite:", Place::File(tempfile::tempdir().unwrap())));
    }
    stores
}

impl Place {
    fn over(&self, builder: MemoryBuilder, clock: Arc<ManualClock>) -> MemoryBuilder {
        match self {
            Self::Reference => builder.backend(Backend::of(Arc::new(ReferenceStore::new(clock)))),
            Self::Bulk => {
                let store = Arc::new(ReferenceStore::new(clock));
                let bulk = OneByOne::over(store.clone());
                builder.backend(Backend { bulk: Some(Arc::new(bulk)), ..Backend::of(store) })
            }
            Self::Memory => builder.url("memory:"),
            Self::File(folder) => {
                builder.url(format!("sqlite:{}", folder.path().join("it.db").display()))
            }
        }
    }
}

fn stack(
    settings: &Settings,
    over: impl FnOnce(MemoryBuilder, Arc<ManualClock>) -> MemoryBuilder,
) -> Stack {
    let clock = Arc::new(ManualClock::new(start()));
    let builder = Memory::builder()
        .settings(settings.clone())
        .clock(clock.clone())
        .ids(Arc::new(SequentialIds::default()));
    let memory = block_on(over(builder, clock.clone()).open()).unwrap();
    Stack { memory, clock }
}

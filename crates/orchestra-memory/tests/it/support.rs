//! What the tests share: back ends of mocks, and every real store that there is.

use std::sync::Arc;

use memory_core::traits::{
    MockChangeLog, MockKeywordIndex, MockLeaseStore, MockRecordStore, MockStoreMeta,
    MockStoreUpkeep, MockTenantDirectory, MockVectorIndex,
};
use memory_core::{
    Capabilities, Capability, CommitReceipt, Durability, ManualClock, Revision, SequentialIds,
    WriteResult,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    Backend, Memory, MemoryBuilder, MemoryId, NewMemory, Settings, Timestamp, UserId,
};

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
        keywords: Arc::new(keywords),
        changes: Arc::new(MockChangeLog::new()),
        tenants: Arc::new(MockTenantDirectory::new()),
        meta: Arc::new(meta),
        leases: Arc::new(MockLeaseStore::new()),
        upkeep: Arc::new(MockStoreUpkeep::new()),
    }
}

/// A memory over a back end of mocks.
pub(crate) fn mock_memory(records: MockRecordStore, meta: MockStoreMeta) -> Memory {
    over(mock_backend(records, meta), Settings::default())
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
    pub(crate) name: &'static str,
    pub(crate) memory: Memory,
    pub(crate) clock: Arc<ManualClock>,
    /// Holds the file's folder until the memory is gone.
    _folder: Option<tempfile::TempDir>,
}

/// Runs a check over the reference store and every store of this build, each empty.
pub(crate) fn each_store(check: impl AsyncFn(&Stack)) {
    each_store_with(&Settings::default(), check);
}

/// As [`each_store`], with settings.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
pub(crate) fn each_store_with(settings: &Settings, check: impl AsyncFn(&Stack)) {
    let mut stacks = vec![stack("reference", settings, None, |builder, clock| {
        builder.backend(Backend::of(Arc::new(ReferenceStore::new(clock))))
    })];
    if cfg!(feature = "sqlite") {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("it.db").display());
        stacks.push(stack("memory:", settings, None, |builder, _| builder.url("memory:")));
        stacks.push(stack("sqlite:", settings, Some(folder), |builder, _| builder.url(url)));
    }
    for stack in &stacks {
        // Captured unless the test fails: then the last name tells where.
        println!("over {}", stack.name);
        block_on(check(stack));
        block_on(stack.memory.close()).unwrap();
    }
}

fn stack(
    name: &'static str,
    settings: &Settings,
    folder: Option<tempfile::TempDir>,
    over: impl FnOnce(MemoryBuilder, Arc<ManualClock>) -> MemoryBuilder,
) -> Stack {
    let clock = Arc::new(ManualClock::new(start()));
    let builder = Memory::builder()
        .settings(settings.clone())
        .clock(clock.clone())
        .ids(Arc::new(SequentialIds::default()));
    let memory = block_on(over(builder, clock.clone()).open()).unwrap();
    Stack { name, memory, clock, _folder: folder }
}

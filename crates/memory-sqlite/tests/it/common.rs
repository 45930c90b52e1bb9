//! What the tests share: stores in temporary folders, items, vectors.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use memory_core::traits::{
    EraseReceipt, EraseScope, NoLedger, RecordStore, StoreMeta, TenantSpaces,
};
use memory_core::{
    CallContext, Commit, CommitReceipt, EmbeddingSpace, IdSource, ManualClock, MemoryId,
    MemoryItem, Metric, Precondition, RandomIds, Result, TenantId, Timestamp, UserId, Vectors,
    Write,
};
use memory_sqlite::{SqliteSettings, SqliteStore};

/// 2025-01-01T00:00:00Z.
pub(crate) fn start() -> Timestamp {
    Timestamp::parse("2025-01-01T00:00:00Z").expect("a valid time")
}

pub(crate) fn open(path: &Path) -> Arc<SqliteStore> {
    open_with(SqliteSettings::new(path)).expect("the store opens")
}

pub(crate) fn open_with(settings: SqliteSettings) -> Result<Arc<SqliteStore>> {
    SqliteStore::open(settings, Arc::new(ManualClock::new(start())), Arc::new(NoLedger))
}

pub(crate) fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).expect("a valid tenant"))
}

pub(crate) fn id(text: &str) -> MemoryId {
    MemoryId::new(text).expect("a valid id")
}

pub(crate) fn item(name: &str, content: &str) -> MemoryItem {
    MemoryItem::new(id(name), content, start())
        .expect("valid content")
        .with_user(UserId::new("ada").expect("a valid user"))
}

pub(crate) fn commit(writes: Vec<Write>) -> Commit {
    Commit::new(RandomIds.commit_id(), writes)
}

pub(crate) async fn put(
    store: &SqliteStore,
    context: &CallContext,
    item: MemoryItem,
) -> Result<CommitReceipt> {
    let write = Write::put(item, Vectors::default(), Precondition::Any);
    store.commit(context, commit(vec![write])).await
}

/// A space of three dimensions, made the tenant's active one.
pub(crate) async fn space(store: &SqliteStore, context: &CallContext) -> EmbeddingSpace {
    let space = EmbeddingSpace::new("test", "1", 3, Metric::Cosine).expect("a valid space");
    let before = store.spaces(context).await.expect("the spaces are read");
    let spaces = TenantSpaces { active: Some(space.clone()), next: None, ..before };
    store.set_spaces(context, &spaces).await.expect("the spaces are set");
    space
}

pub(crate) fn with_vector(item: MemoryItem, space: &EmbeddingSpace, vector: [f32; 3]) -> Write {
    let vectors = BTreeMap::from([(space.id(), vector.to_vec())]);
    Write::put(item, Vectors::Replace(vectors), Precondition::Any)
}

/// Whether a file of a folder holds a text in its bytes.
pub(crate) fn files_hold(folder: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(folder).expect("the folder is read");
    files.map(|entry| entry.expect("an entry").path()).any(|path| {
        let bytes = std::fs::read(path).expect("the file is read");
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    })
}

/// Erases to the end: how many items, and the receipt.
pub(crate) async fn erase(
    store: &SqliteStore,
    context: &CallContext,
    scope: &EraseScope,
) -> (u64, EraseReceipt) {
    let (mut total, mut resume, mut steps) = (0, None, 0);
    loop {
        let step = store.erase(context, scope, resume).await.expect("a step of the erasure");
        total += step.erased;
        steps += 1;
        assert!(steps < 1_000, "the erasure does not end");
        match step.receipt {
            Some(receipt) => return (total, receipt),
            None => resume = Some(step.next.expect("a step without receipt goes on")),
        }
    }
}

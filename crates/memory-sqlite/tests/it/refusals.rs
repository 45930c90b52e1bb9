//! Files that are refused, and calls that are.

use std::collections::BTreeMap;

use memory_core::traits::{KeywordIndex, RecordStore, RecordStoreExt, StoreMeta, StoreUpkeep};
use memory_core::{Commit, Error, ErrorKind, Precondition, Query, Vectors, Write};
use memory_sqlite::{SCHEMA_VERSION, SqliteSettings};

use crate::common::{commit, id, item, open, open_with, put, space, tenant};

fn refused(settings: SqliteSettings) -> Error {
    open_with(settings).map(|_| ()).expect_err("the file is refused")
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "dear diary, this is not a database at all").unwrap();
    assert_eq!(refused(SqliteSettings::new(&path)).kind(), ErrorKind::Corrupt);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("dear diary"));

    std::fs::write(&path, "short").unwrap();
    assert_eq!(refused(SqliteSettings::new(&path)).kind(), ErrorKind::Corrupt);

    let theirs = folder.path().join("theirs.db");
    let connection = rusqlite::Connection::open(&theirs).unwrap();
    connection.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    drop(connection);
    let before = std::fs::read(&theirs).unwrap();
    assert_eq!(refused(SqliteSettings::new(&theirs)).kind(), ErrorKind::Config);
    let connection = rusqlite::Connection::open(&theirs).unwrap();
    let left: i64 = connection.query_row("SELECT x FROM theirs", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
    drop(connection);
    assert_eq!(before, std::fs::read(&theirs).unwrap(), "not a byte was written");

    assert_eq!(refused(SqliteSettings::new(folder.path())).kind(), ErrorKind::Config);
    let nowhere = folder.path().join("no/such/folder/m.db");
    assert_eq!(refused(SqliteSettings::new(nowhere)).kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    RecordStore::close(open(&path).as_ref()).await.unwrap();
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    drop(connection);
    let error = refused(SqliteSettings::new(&path));
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("newer"), "{error}");
    let connection = rusqlite::Connection::open(&path).unwrap();
    let version: u32 =
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, SCHEMA_VERSION + 1);
}

#[tokio::test]
async fn a_read_only_store_reads_and_refuses_writes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let mut settings = SqliteSettings::new(&path);
    settings.read_only = true;
    assert_eq!(refused(settings.clone()).kind(), ErrorKind::NotFound);
    let context = tenant("t");
    let writer = open(&path);
    put(&writer, &context, item("a", "tea")).await.unwrap();
    let store = open_with(settings).unwrap();
    assert!(store.fetch_one(&context, &id("a")).await.unwrap().is_some());
    let error = put(&store, &context, item("b", "tea")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(writer.fetch_one(&context, &id("b")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_read_only_file_in_another_language_is_refused_rather_than_silent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    let writer = open(&path);
    put(&writer, &context, item("a", "walking")).await.unwrap();
    let mut settings = SqliteSettings::new(&path);
    settings.read_only = true;
    assert!(open_with(settings.clone()).is_ok());
    settings.language = "de".to_owned();
    let error = refused(settings);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("language"), "{error}");
}

#[tokio::test]
async fn a_path_is_never_read_as_a_uri() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file:m.db?mode=memory");
    let store = open(&path);
    put(&store, &tenant("t"), item("a", "tea")).await.unwrap();
    assert!(path.is_file());
}

#[tokio::test]
async fn a_locked_file_is_told_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let mut settings = SqliteSettings::new(&path);
    settings.busy_timeout_ms = 50;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    put(&store, &context, item("a", "tea")).await.unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = put(&store, &context, item("b", "tea")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable() && error.message().contains("locked"), "{error}");
    assert!(store.fetch_one(&context, &id("a")).await.unwrap().is_some(), "reads go on");
    let late = open(&path);
    assert!(late.fetch_one(&context, &id("a")).await.unwrap().is_some(), "and others may open");
    other.execute_batch("ROLLBACK").unwrap();
    put(&store, &context, item("b", "tea")).await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_told_and_never_repaired_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    let store = open(&path);
    for number in 0..300 {
        put(&store, &context, item(&format!("n-{number}"), &"tea ".repeat(100))).await.unwrap();
    }
    RecordStore::close(store.as_ref()).await.unwrap();
    let whole = std::fs::read(&path).unwrap();

    // Cut short: the header promises pages that are not there. A file of its own for each case, for
    // a store that was only dropped may still be closing it.
    let path = folder.path().join("short.db");
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let told = match open_with(SqliteSettings::new(&path)) {
        Err(error) => error.kind() == ErrorKind::Corrupt,
        Ok(store) => {
            let scan = store.query(&context, &Query::new(1_000)).await;
            let report = store.verify().await;
            scan.is_err_and(|error| error.kind() == ErrorKind::Corrupt)
                || report.is_ok_and(|report| !report.faults.is_empty())
        }
    };
    assert!(told, "a file cut in half went unnoticed");

    // Overwritten in the middle.
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20_000].fill(0xA5);
    let path = folder.path().join("damaged.db");
    std::fs::write(&path, &damaged).unwrap();
    let told = match open_with(SqliteSettings::new(&path)) {
        Err(error) => error.kind() == ErrorKind::Corrupt,
        Ok(store) => match store.verify().await {
            Ok(report) => !report.faults.is_empty(),
            Err(error) => error.kind() == ErrorKind::Corrupt,
        },
    };
    assert!(told, "overwritten pages went unnoticed");

    // And the twin: the whole file has no faults.
    let path = folder.path().join("whole.db");
    std::fs::write(&path, &whole).unwrap();
    let store = open(&path);
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
    assert_eq!(store.count(&context, &memory_core::Filter::All).await.unwrap(), 300);
}

#[tokio::test]
async fn vectors_that_do_not_fit_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    let space = space(&store, &context).await;
    for bad in [vec![], vec![1.0], vec![f32::NAN, 0.0, 1.0], vec![0.0; 3], vec![1.0; 10_000]] {
        let vectors = Vectors::Replace(BTreeMap::from([(space.id(), bad)]));
        let write = Write::put(item("a", "tea"), vectors, Precondition::Any);
        let error = store.commit(&context, commit(vec![write])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert!(store.fetch_one(&context, &id("a")).await.unwrap().is_none());
    assert_eq!(store.spaces(&context).await.unwrap().active, Some(space));
}

#[tokio::test]
async fn words_leave_with_their_item_only() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    put(&store, &context, item("a", "tea")).await.unwrap();
    let error = KeywordIndex::remove(store.as_ref(), &context, &[id("a")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let empty = Commit::new(memory_core::CommitId::from_bytes([0; 16]), Vec::new());
    let error = store.commit(&context, empty).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::InvalidInput, "commit"));
}

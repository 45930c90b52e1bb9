//! Backups, checks and numbers.

use memory_core::traits::{RecordStore, RecordStoreExt, StoreUpkeep};
use memory_core::{ErrorKind, Filter};

use crate::common::{id, item, open, put, space, tenant, with_vector};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_under_writes_is_whole_and_opens() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    for number in 0..100 {
        put(&store, &context, item(&format!("n-{number}"), "tea")).await.unwrap();
    }
    let writing = {
        let (store, context) = (std::sync::Arc::clone(&store), context.clone());
        tokio::spawn(async move {
            for number in 100..200 {
                put(&store, &context, item(&format!("n-{number}"), "tea")).await.unwrap();
            }
        })
    };
    let target = folder.path().join("copy.db");
    let report = store.backup(target.to_str().unwrap()).await.unwrap();
    writing.await.unwrap();
    assert_eq!(report.bytes, std::fs::metadata(&target).unwrap().len());
    let copy = open(&target);
    assert_eq!(copy.verify().await.unwrap().faults, Vec::<String>::new());
    let count = copy.count(&context, &Filter::All).await.unwrap();
    assert!((100..=200).contains(&count), "{count}");
    for number in 0..100 {
        let name = format!("n-{number}");
        assert!(copy.fetch_one(&context, &id(&name)).await.unwrap().is_some(), "{name}");
    }
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert_eq!(names, Vec::<String>::new());
}

#[tokio::test]
async fn a_backup_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let target = folder.path().join("precious");
    std::fs::write(&target, "precious").unwrap();
    let error = store.backup(target.to_str().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    let error = store.backup("").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let nowhere = folder.path().join("no/such/place");
    let error = store.backup(nowhere.to_str().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[tokio::test]
async fn a_check_finds_what_was_changed_behind_its_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let store = open(&path);
    let context = tenant("t");
    let space = space(&store, &context).await;
    let write = with_vector(item("a", "green tea"), &space, [1.0, 2.0, 3.0]);
    store.commit(&context, crate::common::commit(vec![write])).await.unwrap();
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
    let other = rusqlite::Connection::open(&path).unwrap();
    for (change, undo, word) in [
        ("UPDATE item SET content = 'black tea'", "UPDATE item SET content = 'green tea'", "hash"),
        (
            "UPDATE derived SET visible_until = visible_until - 1",
            "UPDATE derived SET visible_until = visible_until + 1",
            "expire",
        ),
        ("UPDATE derived SET author = 'Eve'", "UPDATE derived SET author = NULL", "author"),
        (
            "UPDATE derived SET importance = 0.5",
            "UPDATE derived SET importance = NULL",
            "importance",
        ),
        (
            "UPDATE derived SET occurred_at = occurred_at + 1",
            "UPDATE derived SET occurred_at = occurred_at - 1",
            "time",
        ),
        ("UPDATE derived SET session = 7", "UPDATE derived SET session = NULL", "conversation"),
        ("UPDATE item SET session_id = 's'", "UPDATE item SET session_id = NULL", "conversation"),
        (
            "INSERT INTO vector VALUES (7, x'00')",
            "DELETE FROM vector WHERE key = 7",
            "vectors without",
        ),
        (
            "UPDATE item SET tenant = tenant + 1",
            "UPDATE item SET tenant = tenant - 1",
            "another tenant",
        ),
    ] {
        other.execute_batch(change).unwrap();
        let faults = store.verify().await.unwrap().faults;
        assert!(faults.iter().any(|fault| fault.contains(word)), "{change}: {faults:?}");
        other.execute_batch(undo).unwrap();
        assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new(), "{undo}");
    }
}

#[tokio::test]
async fn numbers_of_a_tenant_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let (one, two) = (tenant("one"), tenant("two"));
    put(&store, &one, item("a", "tea")).await.unwrap();
    put(&store, &one, item("b", "tea")).await.unwrap();
    put(&store, &two, item("a", "tea")).await.unwrap();
    let stats = store.tenant_stats(&one).await.unwrap();
    assert_eq!((stats.items, stats.by_kind["fact"], stats.embedded), (2, 2, 0));
    assert_eq!(store.tenant_stats(&two).await.unwrap().items, 1);
    assert_eq!(store.tenant_stats(&tenant("three")).await.unwrap().items, 0);
    assert_eq!(RecordStore::capabilities(store.as_ref()).backend, "sqlite");
}

//! Backups, checks, and the frozen sample of the stored shape.

use memory_core::traits::{
    KeywordIndex, KeywordQuery, RecordStore, RecordStoreExt, StoreMeta, StoreUpkeep, VectorIndex,
    VectorQuery,
};
use memory_core::{ErrorKind, Field, Filter};

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

/// What version 1 wrote, read by this version: the sample is frozen, whatever the code becomes.
#[tokio::test]
async fn a_file_of_version_1_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v1.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(include_str!("samples/v1.sql")).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    connection.pragma_update(None, "application_id", 0x4F4D_656D).unwrap();
    drop(connection);

    let store = open(&path);
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
    let context = tenant("acme");
    let tea = store.fetch_one(&context, &id("tea")).await.unwrap().unwrap();
    assert_eq!(tea.content(), "Ada prefers green tea.");
    assert_eq!(tea.user_id.as_ref().unwrap().as_str(), "ada");
    assert_eq!(tea.importance, Some(0.5));
    assert_eq!(tea.occurred_at.to_string(), "2025-03-01T09:30:00.123456Z");
    assert_eq!(tea.payload.as_ref().unwrap()["deep"][0], 1);
    let metadata = serde_json::to_string(&tea.metadata).unwrap();
    assert_eq!(
        metadata,
        r#"{"n":9007199254740993,"ok":true,"tags":["hot","leaf"],"topic":"drinks","x":0.1}"#
    );
    let walk = store.fetch_one(&context, &id("walk")).await.unwrap().unwrap();
    assert_eq!(walk.expires_at.unwrap().to_string(), "2999-01-01T00:00:00Z");
    assert_eq!(walk.session_id.unwrap().as_str(), "s/1");
    let exact = Filter::eq(Field::parse("metadata.n").unwrap(), 9_007_199_254_740_993);
    assert_eq!(store.count(&context, &exact).await.unwrap(), 1);

    let found = KeywordIndex::search(store.as_ref(), &context, &KeywordQuery::new("tea", 5)).await;
    assert_eq!(found.unwrap().hits.len(), 1, "the other tenant's tea stays its own");
    let space = store.spaces(&context).await.unwrap().active.unwrap();
    assert_eq!(space.dimensions(), 3);
    let near = VectorQuery::new(space, vec![1.0, 2.0, -0.5], 5);
    let hits = VectorIndex::search(store.as_ref(), &context, &near).await.unwrap().hits;
    assert_eq!((hits.len(), &hits[0].id), (1, &id("tea")));
    assert!((hits[0].score - 1.0).abs() < 1e-9);
    assert_eq!(store.erased(&context, &[id("gone"), id("tea")]).await.unwrap(), [true, false]);
}

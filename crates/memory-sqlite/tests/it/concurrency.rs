//! Many callers on one store, and two stores on one file.

use std::sync::atomic::Ordering;
use std::sync::{Arc, atomic::AtomicU64};

use memory_core::traits::{KeywordIndex, KeywordQuery, RecordStore, RecordStoreExt, StoreUpkeep};
use memory_core::{ErrorKind, Precondition, Vectors, Write};

use crate::common::{commit, id, item, open, put, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_failing_caller_does_not_take_its_group_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    put(&store, &context, item("taken", "x")).await.unwrap();
    let refused = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for number in 0..200_u32 {
        let (store, context, refused) = (Arc::clone(&store), context.clone(), Arc::clone(&refused));
        tasks.push(tokio::spawn(async move {
            // Every fifth is a create of an id that is taken, with a second write that must not stay.
            let (name, spare) = if number % 5 == 0 {
                ("taken".to_owned(), Some(format!("spare-{number}")))
            } else {
                (format!("n-{number}"), None)
            };
            let mut writes: Vec<_> = spare
                .iter()
                .map(|spare| Write::put(item(spare, "x"), Vectors::default(), Precondition::Any))
                .collect();
            writes.push(Write::put(item(&name, "x"), Vectors::default(), Precondition::Absent));
            if let Err(error) = store.commit(&context, commit(writes)).await {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists);
                refused.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(refused.load(Ordering::SeqCst), 40);
    let count = store.count(&context, &memory_core::Filter::All).await.unwrap();
    assert_eq!(count, 161, "160 creates and the one that was there");
    let stats = store.store_stats().await.unwrap().numbers;
    assert_eq!(stats["writes"], 161);
    assert!(stats["write_groups"] <= stats["writes"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_stores_on_one_file_see_each_other_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let (one, two) = (open(&path), open(&path));
    let context = tenant("t");
    let mut tasks = Vec::new();
    for (place, store) in [&one, &two].into_iter().enumerate() {
        for number in 0..50 {
            let (store, context) = (Arc::clone(store), context.clone());
            tasks.push(tokio::spawn(async move {
                put(&store, &context, item(&format!("{place}-{number}"), "green tea")).await
            }));
        }
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    for store in [&one, &two] {
        assert_eq!(store.count(&context, &memory_core::Filter::All).await.unwrap(), 100);
        let query = KeywordQuery::new("tea", 1_000);
        let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
        assert_eq!(hits.len(), 100, "the index follows the other store's writes");
    }
    // An index that is loaded already follows what the other one changes and deletes.
    put(&one, &context, item("0-0", "black coffee")).await.unwrap();
    one.commit(&context, commit(vec![Write::delete(id("0-1"), Precondition::Any)])).await.unwrap();
    let find = async |words: &str| {
        let query = KeywordQuery::new(words, 1_000);
        KeywordIndex::search(two.as_ref(), &context, &query).await.unwrap().hits.len()
    };
    assert_eq!((find("tea").await, find("coffee").await), (98, 1));
    assert!(two.fetch_one(&context, &id("0-1")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_dropped_caller_leaves_all_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    for number in 0..50 {
        let writes = (0..3)
            .map(|part| {
                let item = item(&format!("{number}-{part}"), "x");
                Write::put(item, Vectors::default(), Precondition::Any)
            })
            .collect();
        let (store, context) = (Arc::clone(&store), context.clone());
        let task =
            tokio::spawn(async move { store.commit(&context, commit(writes)).await.map(|_| ()) });
        task.abort();
        let _ = task.await;
    }
    let count = store.count(&context, &memory_core::Filter::All).await.unwrap();
    assert_eq!(count % 3, 0, "{count} items: a commit is whole or not there");
    // And the store goes on.
    put(&store, &context, item("after", "x")).await.unwrap();
    assert!(store.fetch_one(&context, &id("after")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_close_beside_a_pending_call_ends() {
    let folder = tempfile::tempdir().unwrap();
    let context = tenant("t");
    for number in 0..20 {
        let store = open(&folder.path().join(format!("{number}.db")));
        let (written, closed) = tokio::join!(
            put(&store, &context, item("a", "tea")),
            RecordStore::close(store.as_ref())
        );
        closed.unwrap();
        if let Err(error) = written {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        let again = put(&store, &context, item("b", "tea")).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Unavailable);
    }
}

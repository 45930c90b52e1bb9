//! What is acknowledged is there after a reopening and on a full disk, and it was synced. Kills are in
//! `crash`, losses of power in `powerloss`.

use memory_core::traits::{RecordStore, RecordStoreExt, StoreUpkeep, VectorIndex, VectorQuery};
use memory_core::{Durability, ErrorKind, Filter, Outcome};
use memory_sqlite::SqliteSettings;

use crate::common::{commit, id, item, open, open_with, put, space, tenant, with_vector};

#[tokio::test]
async fn a_store_reopens_with_everything() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    let store = open(&path);
    let space = space(&store, &context).await;
    store
        .commit(&context, commit(vec![with_vector(item("a", "tea"), &space, [1.0, 0.0, 0.0])]))
        .await
        .unwrap();
    RecordStore::close(store.as_ref()).await.unwrap();
    RecordStore::close(store.as_ref()).await.unwrap();
    let closed = store.fetch_one(&context, &id("a")).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Unavailable);
    assert!(!folder.path().join("m.db-wal").exists(), "the log is folded in at the close");

    let store = open(&path);
    assert_eq!(store.fetch_one(&context, &id("a")).await.unwrap().unwrap().content(), "tea");
    let query = VectorQuery::new(space, vec![1.0, 0.1, 0.0], 5);
    let hits = VectorIndex::search(store.as_ref(), &context, &query).await.unwrap();
    assert_eq!(hits.hits[0].id, id("a"));
    assert!(hits.exact);
    assert_eq!(RecordStore::capabilities(store.as_ref()).durability, Durability::PowerLoss);
}

#[tokio::test]
async fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let mut settings = SqliteSettings::new(&path);
    settings.max_bytes = 400 * 1024;
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    let mut kept = Vec::new();
    let failure = loop {
        let name = format!("n-{}", kept.len());
        match put(&store, &context, item(&name, &"tea ".repeat(1_000))).await {
            Ok(_) => kept.push(name),
            Err(error) => break error,
        }
        assert!(kept.len() < 1_000, "the bound of the file is not held");
    };
    assert!(kept.len() > 10);
    assert_eq!(failure.kind(), ErrorKind::Unavailable, "{failure}");
    assert!(!failure.is_retryable());
    assert_eq!(failure.outcome(), Outcome::NotApplied);
    assert!(failure.message().contains("full"), "{failure}");
    let health = RecordStore::health(store.as_ref()).await;
    assert_eq!(health.status, memory_core::HealthStatus::Degraded);

    // Everything acknowledged is there, nothing of the failed one is, and small things still fit.
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), kept.len() as u64);
    for name in &kept {
        assert!(store.fetch_one(&context, &id(name)).await.unwrap().is_some(), "{name}");
    }
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
    let gone = kept.pop().unwrap();
    let delete = memory_core::Write::delete(id(&gone), memory_core::Precondition::Any);
    store.commit(&context, commit(vec![delete])).await.unwrap();
    put(&store, &context, item("again", "tea")).await.unwrap();
    let health = RecordStore::health(store.as_ref()).await;
    assert_eq!(health.status, memory_core::HealthStatus::Healthy);
}

/// One sync of the log for each group of commits, and the delay is waited for.
#[cfg(feature = "fault-vfs")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_waits_for_its_sync_and_callers_share_it() {
    use std::sync::Arc;
    use std::time::Duration;

    use memory_sqlite::fault_vfs::SlowSync;

    let slow = SlowSync::register("durability-slow", Duration::ZERO).unwrap();
    assert_eq!(
        SlowSync::register("durability-slow", Duration::ZERO).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    let folder = tempfile::tempdir().unwrap();
    let settings = SqliteSettings::new(folder.path().join("m.db")).with_vfs(slow.name());
    let store = open_with(settings).unwrap();
    let context = tenant("t");
    put(&store, &context, item("first", "tea")).await.unwrap();
    let (syncs, writes) = (slow.log_syncs(), slow.writes());
    for number in 0..20 {
        put(&store, &context, item(&format!("n-{number}"), "tea")).await.unwrap();
    }
    assert_eq!(slow.log_syncs() - syncs, 20, "one caller: one sync a commit");
    assert!(slow.writes() > writes && slow.written_bytes() > 0 && slow.syncs() >= slow.log_syncs());

    slow.set_delay(Duration::from_millis(20));
    let syncs = slow.log_syncs();
    let tasks: Vec<_> = (0..64)
        .map(|number| {
            let (store, context) = (Arc::clone(&store), context.clone());
            tokio::spawn(async move {
                put(&store, &context, item(&format!("m-{number}"), "tea")).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let syncs = slow.log_syncs() - syncs;
    assert!((1..=32).contains(&syncs), "64 callers at once made {syncs} syncs");

    // Connections that name no file system take it for as long as it is the default.
    slow.set_delay(Duration::ZERO);
    slow.make_default();
    let plain = open(&folder.path().join("plain.db"));
    let syncs = slow.log_syncs();
    put(&plain, &context, item("a", "tea")).await.unwrap();
    assert!(slow.log_syncs() > syncs);
    RecordStore::close(store.as_ref()).await.unwrap();
    RecordStore::close(plain.as_ref()).await.unwrap();
    drop(slow);
    let gone = SqliteSettings::new(folder.path().join("m.db")).with_vfs("durability-slow");
    assert!(open_with(gone).is_err());
    let again = open(&folder.path().join("m.db"));
    assert_eq!(again.count(&context, &Filter::All).await.unwrap(), 85);
}

//! Syncs of the disk: callers in a queue share them, single commits do not, and the store counts
//! them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use memory_core::traits::{RecordStore as _, StoreUpkeep as _};
use memory_core::{ErrorKind, Precondition, Vectors, Write};
use memory_sqlite::SqliteStore;

use crate::common::{commit, item, open, put, tenant};

const CALLERS: usize = 64;

async fn numbers(store: &SqliteStore) -> BTreeMap<String, u64> {
    store.store_stats().await.expect("it goes through").numbers
}

async fn syncs(store: &SqliteStore) -> u64 {
    numbers(store).await["syncs"]
}

/// Keeps every other writer out of a file until it is dropped.
fn lock(path: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(path).expect("it goes through");
    other.execute_batch("BEGIN IMMEDIATE").expect("it goes through");
    other
}

#[tokio::test]
async fn callers_in_a_queue_share_syncs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let store = open(&path);
    let context = tenant("t");
    put(&store, &context, item("first", "x")).await.unwrap();
    let before = numbers(&store).await;
    let held = lock(&path);
    let tasks: Vec<_> = (0..CALLERS)
        .map(|number| {
            let (store, context) = (Arc::clone(&store), context.clone());
            tokio::spawn(async move {
                // Every eighth is refused, which leaves the others alone.
                let name = if number % 8 == 0 { "first".to_owned() } else { format!("n{number}") };
                let write = Write::put(item(&name, "x"), Vectors::default(), Precondition::Absent);
                store.commit(&context, commit(vec![write])).await
            })
        })
        .collect();
    // Each task has had its turn on this one thread then, and has queued its commit.
    tokio::task::yield_now().await;
    drop(held);
    let mut refused = 0;
    for task in tasks {
        if let Err(error) = task.await.unwrap() {
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            refused += 1;
        }
    }
    assert_eq!(refused, CALLERS / 8);
    let after = numbers(&store).await;
    let made = |name: &str| after[name] - before[name];
    assert_eq!(made("writes"), 56);
    // The writer has taken some when the first came, and the others when the file was free.
    assert!(made("write_groups") <= 3, "{after:?}");
    assert!((1..=made("write_groups")).contains(&made("syncs")), "{after:?}");
}

#[tokio::test]
async fn single_commits_take_a_sync_each_and_what_changes_nothing_takes_none() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("m.db"));
    let context = tenant("t");
    put(&store, &context, item("first", "x")).await.unwrap();
    let before = numbers(&store).await;
    for number in 0..20 {
        put(&store, &context, item(&format!("n{number}"), "x")).await.unwrap();
    }
    let after = numbers(&store).await;
    for name in ["writes", "write_groups", "syncs"] {
        assert_eq!(after[name] - before[name], 20, "{name}");
    }
    let refused = Write::put(item("first", "x"), Vectors::default(), Precondition::Absent);
    store.commit(&context, commit(vec![refused])).await.unwrap_err();
    let absent = Write::delete(crate::common::id("absent"), Precondition::Any);
    store.commit(&context, commit(vec![absent])).await.unwrap();
    assert_eq!(syncs(&store).await, after["syncs"]);
}

/// The store counts what a layer below SQLite counts.
#[cfg(feature = "fault-vfs")]
mod counted {
    use std::time::Duration;

    use memory_sqlite::fault_vfs::SlowSync;
    use memory_sqlite::{SqliteSettings, Synchronous};

    use super::*;
    use crate::common::open_with;

    async fn agrees(name: &str, synchronous: Synchronous) -> u64 {
        let folder = tempfile::tempdir().expect("it goes through");
        let disk = SlowSync::register(name, Duration::ZERO).expect("it goes through");
        let mut settings = SqliteSettings::new(folder.path().join("m.db")).with_vfs(name);
        settings.synchronous = synchronous;
        let context = tenant("t");
        let mut total = 0;
        // The second time on a file that was closed, whose log is gone.
        for round in 0..2 {
            let store = open_with(settings.clone()).expect("it goes through");
            let (opened, base) = (disk.syncs(), syncs(&store).await);
            assert_eq!(base, 0);
            for number in 0..400 {
                put(&store, &context, item(&format!("{round}-{number}"), "x"))
                    .await
                    .expect("it goes through");
            }
            // Commits of more pages than the log has when it is folded.
            for batch in 0..4 {
                let text = "x".repeat(5_000);
                let writes = (0..600)
                    .map(|number| {
                        let item = item(&format!("{round}-{batch}-{number}"), &text);
                        Write::put(item, Vectors::default(), Precondition::Any)
                    })
                    .collect();
                store.commit(&context, commit(writes)).await.expect("it goes through");
            }
            // A last one comes after the folding that follows the answers.
            put(&store, &context, item("last", &format!("{round}")))
                .await
                .expect("it goes through");
            let counted = syncs(&store).await;
            assert_eq!(counted, disk.syncs() - opened, "round {round}");
            total += counted;
            store.close().await.expect("it goes through");
        }
        total
    }

    #[tokio::test]
    async fn full() {
        assert!(agrees("counted-full", Synchronous::Full).await > 810);
    }

    #[tokio::test]
    async fn normal() {
        let total = agrees("counted-normal", Synchronous::Normal).await;
        assert!((1..200).contains(&total), "{total}: of foldings alone");
    }

    #[tokio::test]
    async fn off() {
        assert_eq!(agrees("counted-off", Synchronous::Off).await, 0);
    }
}

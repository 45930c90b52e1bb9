//! What is acknowledged is there: after a reopening, a kill, and on a full disk.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use memory_core::traits::{RecordStore, RecordStoreExt, StoreUpkeep, VectorIndex, VectorQuery};
use memory_core::{Durability, ErrorKind, Filter, Outcome};
use memory_sqlite::SqliteSettings;

use crate::common::{commit, id, item, open, open_with, put, space, tenant, with_vector};

/// Set for a child process: the file it writes to until it is killed.
const CHILD: &str = "MEMORY_SQLITE_TEST_CHILD";
/// How often a child is killed.
const KILLS: u32 = 12;

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

/// The child of the test below: writes and says so, until it is killed.
#[test]
fn child_writes_until_killed() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = open(std::path::Path::new(&path));
        let context = tenant("t");
        let before = store.count(&context, &Filter::All).await.unwrap();
        for number in before.. {
            let name = format!("n-{number}");
            put(&store, &context, item(&name, &format!("green tea {number}"))).await.unwrap();
            println!("ack {number}");
        }
    });
}

#[tokio::test]
async fn a_killed_process_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::child_writes_until_killed", "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut last = None;
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(number) = line.unwrap().split("ack ").nth(1) {
                last = Some(number.trim().parse::<u64>().unwrap());
                seen += 1;
                // Another point of the work each round.
                if seen > round * 7 {
                    child.kill().unwrap();
                    break;
                }
            }
        }
        child.wait().unwrap();
        let store = open(&path);
        let last = last.expect("the child wrote");
        let count = store.count(&context, &Filter::All).await.unwrap();
        assert!(count > last, "round {round}: {count} items after {last} was acknowledged");
        assert!(store.fetch_one(&context, &id(&format!("n-{last}"))).await.unwrap().is_some());
        let report = store.verify().await.unwrap();
        assert_eq!(report.faults, Vec::<String>::new(), "round {round}");
        RecordStore::close(store.as_ref()).await.unwrap();
    }
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

//! A cluster of the test's own that loses a primary under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    Clock as _, ErrorKind, Filter, HealthStatus, Outcome, Precondition, SystemClock,
};
use serde_json::json;

use crate::connections::server::{Server, ask_at, binaries, free_port, open, until};
use crate::records::rig::{commit, id, item, put, put_one, tenant};

/// What a call may take at the most here: its wait for an answer, for the slots, and a loaded machine.
const LONGEST: Duration = Duration::from_secs(6);

/// Three primaries, three replicas.
struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    fn start() -> Option<Self> {
        binaries()?;
        let mut buses = Vec::new();
        let mut nodes = Vec::new();
        for _ in 0..6 {
            let bus = free_port().to_string();
            nodes.push(Server::start(&[
                "--save",
                "",
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1000",
                "--cluster-replica-validity-factor",
                "0",
                "--cluster-port",
                &bus,
            ])?);
            buses.push(bus);
        }
        let cluster = Self { nodes };
        for (number, range) in [(0, "0 5460"), (1, "5461 10922"), (2, "10923 16383")] {
            let (first, last) = range.split_once(' ').unwrap();
            cluster.tell(number, &["CLUSTER", "ADDSLOTSRANGE", first, last]);
        }
        for (number, bus) in buses.iter().enumerate() {
            cluster.tell(number, &["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if number > 0 {
                let port = cluster.nodes[number].port.to_string();
                cluster.tell(0, &["CLUSTER", "MEET", "127.0.0.1", &port, bus]);
            }
        }
        for number in 0..6 {
            until("nodes that know each other", || {
                let known: String =
                    cluster.nodes[number].ask(&["CLUSTER", "NODES"]).unwrap_or_default();
                known.lines().filter(|line| !line.contains("handshake")).count() == 6
            });
        }
        for number in 0..3 {
            let name: String = cluster.nodes[number].ask(&["CLUSTER", "MYID"]).unwrap();
            until("a replica", || {
                cluster.nodes[number + 3].ask::<String>(&["CLUSTER", "REPLICATE", &name]).is_some()
            });
        }
        until("a whole cluster", || {
            cluster.nodes.iter().all(|node| {
                let state: String = node.ask(&["CLUSTER", "INFO"]).unwrap_or_default();
                let link: String = node.ask(&["INFO", "replication"]).unwrap_or_default();
                let is_linked = link.contains("master_link_status:up") || link.contains("slave0:");
                state.contains("cluster_state:ok") && is_linked
            })
        });
        Some(cluster)
    }

    fn tell(&self, number: usize, words: &[&str]) {
        self.nodes[number].ask::<String>(words).unwrap();
    }

    fn others(&self) -> Vec<String> {
        self.nodes[1..].iter().map(|node| format!("127.0.0.1:{}", node.port)).collect()
    }
}

#[derive(Debug, Default)]
struct Seen {
    errors: AtomicU64,
    unknown: AtomicU64,
    replayed: AtomicU64,
    longest_ms: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_dies_under_load_and_calls_end_typed_and_go_on_at_its_replica() {
    let Some(mut cluster) = Cluster::start() else { return };
    let url = cluster.nodes[0].url();
    let more = json!({"cluster": true, "nodes": cluster.others()});
    let store = open(&url, more).await.unwrap();
    let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
    // Tenants of all primaries, for their names' hashes are spread.
    let writers: Vec<_> = (0..12)
        .map(|writer| {
            let (store, done, seen) = (store.clone(), done.clone(), seen.clone());
            tokio::spawn(async move {
                let (clock, context) = (SystemClock::new(), tenant(&format!("t{writer}")));
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("m{number}");
                    let mut sent = commit(vec![put(item(&name, "x"), Precondition::Absent)]);
                    loop {
                        let began = clock.monotonic();
                        let answer = store.commit(&context, sent.clone()).await;
                        let took = clock.monotonic() - began;
                        assert!(took < LONGEST, "a call took {took:?}");
                        let took = u64::try_from(took.as_millis()).unwrap();
                        seen.longest_ms.fetch_max(took, Ordering::Relaxed);
                        match answer {
                            Ok(receipt) => {
                                seen.replayed.fetch_add(receipt.replayed.into(), Ordering::Relaxed);
                                break acknowledged.push(name);
                            }
                            Err(error) => {
                                let away = [ErrorKind::Unavailable, ErrorKind::Timeout];
                                assert!(
                                    away.contains(&error.kind()) && error.is_retryable(),
                                    "{error}"
                                );
                                seen.errors.fetch_add(1, Ordering::Relaxed);
                                if error.outcome() == Outcome::Unknown {
                                    seen.unknown.fetch_add(1, Ordering::Relaxed);
                                    sent = sent.resent();
                                }
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                acknowledged
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let clock = SystemClock::new();
    cluster.nodes[0].kill();
    until("a failover", || {
        let info = ["INFO", "replication"];
        cluster.nodes[3].ask::<String>(&info).is_some_and(|info| info.contains("role:master"))
    });
    let promoted = clock.monotonic();
    for writer in 0..12 {
        let context = tenant(&format!("t{writer}"));
        while let Err(error) = put_one(&store, &context, item("after", "x")).await {
            assert!(error.is_retryable(), "{error}");
            assert!(clock.monotonic() < Duration::from_secs(30), "no writes: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let served = clock.monotonic();
    done.store(true, Ordering::Relaxed);
    let (mut commits, mut lost) = (0, 0);
    for (number, writer) in writers.into_iter().enumerate() {
        let acknowledged = writer.await.unwrap();
        let context = tenant(&format!("t{number}"));
        let mut found = 1;
        for name in &acknowledged {
            match store.fetch_one(&context, &id(name)).await.unwrap() {
                Some(_) => found += 1,
                None => lost += 1,
            }
        }
        commits += acknowledged.len();
        let count = store.count(&context, &Filter::All).await.unwrap();
        assert_eq!(count, found, "more is there than was written");
    }
    println!(
        "{commits} commits, {lost} acknowledged and lost, {seen:?}; promoted after {promoted:?}, \
         all slots served after {served:?}"
    );
    assert!(seen.errors.load(Ordering::Relaxed) > 0, "the primary had tenants");
    assert_ne!(store.health().await.status, HealthStatus::Unhealthy);

    // A client that starts now finds the cluster by the other nodes.
    let late = open(&url, json!({"cluster": true, "nodes": cluster.others()})).await.unwrap();
    assert!(late.fetch_one(&tenant("t0"), &id("after")).await.unwrap().is_some());
    assert!(ask_at::<String>(&cluster.nodes[1].url(), &["PING"]).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_on_its_way_to_another_node_serves() {
    let Some(cluster) = Cluster::start() else { return };
    let more = json!({"cluster": true, "nodes": cluster.others()});
    let store = open(&cluster.nodes[0].url(), more).await.unwrap();
    let context = tenant("t");
    put_one(&store, &context, item("a", "x")).await.unwrap();
    let slot: i64 = cluster.nodes[0].ask(&["CLUSTER", "KEYSLOT", "om:{t}:s"]).unwrap();
    let from = usize::try_from(slot).unwrap() * 3 / 16_384;
    let to = (from + 1) % 3;
    let name = |number: usize| cluster.nodes[number].ask::<String>(&["CLUSTER", "MYID"]).unwrap();
    let (slot, old, new) = (slot.to_string(), name(from), name(to));
    cluster.tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &old]);
    cluster.tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &new]);
    let port = cluster.nodes[to].port.to_string();
    let keys: Vec<String> =
        cluster.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).unwrap();
    assert!(!keys.is_empty());
    // Keys on both sides: what cannot be done says so, and is not half done.
    let moved = |key: &String| {
        cluster.tell(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    };
    let memory = keys.iter().find(|key| key.ends_with(":m:a")).unwrap();
    moved(memory);
    assert!(store.fetch_one(&context, &id("a")).await.is_ok_and(|found| found.is_some()));
    match put_one(&store, &context, item("b", "x")).await {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(
                (error.kind(), error.outcome()),
                (ErrorKind::Unavailable, Outcome::NotApplied)
            );
            assert!(error.is_retryable(), "{error}");
        }
    }
    let rest: Vec<String> =
        cluster.nodes[from].ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).unwrap();
    rest.iter().for_each(moved);
    put_one(&store, &context, item("c", "x")).await.unwrap();
    for number in [to, from] {
        cluster.tell(number, &["CLUSTER", "SETSLOT", &slot, "NODE", &new]);
    }
    put_one(&store, &context, item("d", "x")).await.unwrap();
    for name in ["a", "c", "d"] {
        assert!(store.fetch_one(&context, &id(name)).await.unwrap().is_some(), "{name}");
    }
}

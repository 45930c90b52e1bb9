//! A server that dies and comes back, one that hangs, and connections that are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    Clock as _, Deadline, Error, ErrorKind, HealthStatus, Outcome, Precondition, SystemClock,
};
use memory_redis::RedisStore;
use memory_testkit::proxy::{Cut, FaultProxy, Plan};
use serde_json::json;

use super::server::{PATIENCE, Server, open, until};
use crate::records::rig::{commit, id, item, put, put_one, tenant};

/// What a call may take at the most here: its wait for an answer, a connection, and a loaded machine.
const LONGEST: Duration = Duration::from_secs(5);

/// Whether an error is one of a server that is away.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) && error.is_retryable()
}

/// Calls until the store answers.
async fn recovered(store: &RedisStore) {
    let clock = SystemClock::new();
    while let Err(error) = store.fetch_one(&tenant("t"), &id("none")).await {
        assert!(is_away(&error), "{error}");
        assert!(clock.monotonic() < PATIENCE, "the store does not come back: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_acknowledged_write_and_none_is_doubled() {
    let options = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
    let Some(mut server) = Server::start(&options) else { return };
    let store = open(&server.url(), json!({})).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let (clock, context) = (SystemClock::new(), tenant("t"));
                let (mut kept, mut errors, mut unknown) = (Vec::new(), 0, 0);
                for number in 0.. {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let name = format!("w{writer}-{number}");
                    let mut sent = commit(vec![put(item(&name, "x"), Precondition::Absent)]);
                    loop {
                        let began = clock.monotonic();
                        let answer = store.commit(&context, sent.clone()).await;
                        let took = clock.monotonic() - began;
                        assert!(took < LONGEST, "a call took {took:?}");
                        match answer {
                            Ok(_) => break kept.push(name),
                            Err(error) => {
                                assert!(is_away(&error), "{error}");
                                errors += 1;
                                if error.outcome() == Outcome::Unknown {
                                    unknown += 1;
                                    sent = sent.resent();
                                }
                                tokio::time::sleep(Duration::from_millis(10)).await;
                            }
                        }
                    }
                }
                (kept, errors, unknown)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(store.health().await.status, HealthStatus::Unhealthy);
        server.restart();
        recovered(&store).await;
    }
    done.store(true, Ordering::Relaxed);
    let (mut kept, mut errors, mut unknown) = (Vec::new(), 0, 0);
    for writer in writers {
        let (names, failed, lost) = writer.await.unwrap();
        kept.extend(names);
        (errors, unknown) = (errors + failed, unknown + lost);
    }
    println!("{} commits, {errors} errors, {unknown} of unknown outcome", kept.len());
    assert!(!kept.is_empty() && errors > 0);
    for name in &kept {
        assert!(
            store.fetch_one(&tenant("t"), &id(name)).await.unwrap().is_some(),
            "{name} is lost"
        );
    }
    let count = store.count(&tenant("t"), &memory_core::Filter::All).await;
    if let Ok(count) = count {
        assert_eq!(count, kept.len() as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_to_a_hung_server_end_in_time_and_say_whether_they_may_have_happened() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let store = open(&server.url(), json!({"response_timeout_ms": 400})).await.unwrap();
    let context = tenant("t");
    put_one(&store, &context, item("a", "x")).await.unwrap();
    server.signal("STOP");
    let clock = SystemClock::new();
    let error = put_one(&store, &context, item("b", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown), "{error}");
    assert!(error.is_retryable());
    let error = store.fetch_one(&context, &id("a")).await.unwrap_err();
    assert!(is_away(&error), "{error}");
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(clock.monotonic() < LONGEST);

    // The deadline cuts it shorter; the store's clock began with it.
    let hurried = open_calls(&store).await;
    assert!(hurried < LONGEST);
    assert_eq!(store.health().await.status, HealthStatus::Unhealthy);
    server.signal("CONT");
    recovered(&store).await;
    assert!(store.fetch_one(&context, &id("a")).await.unwrap().is_some());
    store.close().await.unwrap();
    let error = store.fetch_one(&context, &id("a")).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && !error.is_retryable());
}

/// How long many calls at once take, none of which is answered.
async fn open_calls(store: &Arc<RedisStore>) -> Duration {
    let clock = SystemClock::new();
    let calls = (0..50).map(|number| {
        let store = store.clone();
        async move { put_one(&store, &tenant("t"), item(&format!("c{number}"), "x")).await }
    });
    for answer in futures::future::join_all(calls).await {
        assert!(is_away(&answer.unwrap_err()));
    }
    clock.monotonic()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_has_passed_sends_nothing() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let store = open(&server.url(), json!({})).await.unwrap();
    let late = tenant("t").with_deadline(Some(Deadline::at(Duration::ZERO)));
    let error = put_one(&store, &late, item("a", "x")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert!(store.fetch_one(&tenant("t"), &id("a")).await.unwrap().is_none());
    let ample = tenant("t").with_deadline(Some(Deadline::at(Duration::from_secs(3_600))));
    put_one(&store, &ample, item("a", "x")).await.unwrap();
    assert!(store.fetch_one(&tenant("t"), &id("a")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_answer_is_of_unknown_outcome_and_its_resend_is_recognised() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let upstream = std::net::SocketAddr::from(([127, 0, 0, 1], server.port));
    let seed = 7;
    println!("seed {seed}");
    let proxy = FaultProxy::start_raw(upstream, seed).await.unwrap();
    let store = open(&format!("redis://{}", proxy.address()), json!({})).await.unwrap();
    let context = tenant("t");
    // The server knows the script then, and what is cut below is its work and not that it is asked for.
    let first = commit(vec![put(item("first", "x"), Precondition::Absent)]);
    store.commit(&context, first).await.unwrap();
    for (cut, applied) in [(Cut::BeforeAnswering, true), (Cut::BeforeForwarding, false)] {
        let name = format!("{cut:?}");
        let sent = commit(vec![put(item(&name, "x"), Precondition::Absent)]);
        proxy.set(Plan::pass().cut_next(cut, 1));
        let error = store.commit(&context, sent.clone()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.outcome()),
            (ErrorKind::Unavailable, Outcome::Unknown),
            "{error}"
        );
        proxy.heal();
        recovered(&store).await;
        let receipt = store.commit(&context, sent.resent()).await.unwrap();
        assert_eq!(receipt.replayed, applied, "{cut:?}");
    }
    // Nobody listens: nothing was sent, and the outcome is known.
    proxy.set(Plan::pass().refuse());
    let fresh = open(&format!("redis://{}", proxy.address()), json!({})).await.unwrap_err();
    assert_eq!(fresh.kind(), ErrorKind::Unavailable, "{fresh}");
    assert_eq!(fresh.outcome(), Outcome::NotApplied);
    proxy.set(Plan::pass().black_hole());
    let clock = SystemClock::new();
    let error = put_one(&store, &context, item("hole", "x")).await.unwrap_err();
    assert!(is_away(&error), "{error}");
    assert!(clock.monotonic() < LONGEST);
    proxy.heal();
    recovered(&store).await;
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_writes_and_nothing_is_half_done() {
    let Some(server) = Server::start(&["--save", ""]) else { return };
    let store = open(&server.url(), json!({})).await.unwrap();
    let context = tenant("t");
    put_one(&store, &context, item("a", "x")).await.unwrap();
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "1"]).unwrap();
    let error = put_one(&store, &context, item("b", "x")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.outcome()),
        (ErrorKind::Overloaded, Outcome::NotApplied),
        "{error}"
    );
    assert!(error.message().contains("maxmemory"));
    assert!(store.fetch_one(&context, &id("a")).await.unwrap().is_some(), "reads go on");
    let health = store.health().await;
    assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).unwrap();
    assert!(store.fetch_one(&context, &id("b")).await.unwrap().is_none());
    put_one(&store, &context, item("b", "x")).await.unwrap();
    until("the server answers", || server.ask::<String>(&["PING"]).is_some());
}

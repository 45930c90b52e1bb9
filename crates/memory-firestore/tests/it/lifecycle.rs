//! How a store opens, with a server and without one, and how it closes.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    AccessToken, BulkWriter as _, CredentialProvider, NoLedger, NoObserver, RecordStore,
    RecordStoreExt as _, VectorIndex,
};
use memory_core::{
    Error, ErrorKind, Filter, HealthStatus, IdSource as _, Precondition, Query, RandomIds, Result,
    SystemClock,
};
use memory_firestore::{FirestoreSettings, FirestoreStore, OpenMode};
use memory_testkit::proxy::{Direction, Plan};

use crate::common::{add, commit, id, item, put, tenant};
use crate::faults::rig::{PATIENCE, Rig, SLACK, open, timed, until};

/// An address of the loopback interface where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a port").to_string()
}

/// A store where nobody listens.
fn absent(mode: OpenMode) -> FirestoreSettings {
    let mut settings = FirestoreSettings::new("p");
    settings.emulator = Some(nobody());
    settings.open = mode;
    settings
}

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock::new())
}

#[tokio::test]
async fn a_lazy_store_opens_without_a_server_and_its_first_call_says_so() {
    let clock = clock();
    let (opened, took) = timed(&clock, open(&absent(OpenMode::Lazy), &clock)).await;
    assert!(took < SLACK, "opening waited for something: {took:?}");
    let store = opened.unwrap();
    assert_eq!(RecordStore::capabilities(&*store).backend, memory_firestore::BACKEND);
    let (fetched, took) = timed(&clock, store.fetch_one(&tenant("t"), &id("a"))).await;
    let error = fetched.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!((error.backend(), error.operation()), (memory_firestore::BACKEND, "fetch"));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let health = RecordStore::health(&*store).await;
    assert_eq!(health.status, HealthStatus::Unhealthy);
    RecordStore::close(&*store).await.unwrap();
}

#[tokio::test]
async fn opening_that_fails_fast_fails_at_once_and_typed() {
    let clock = clock();
    let (opened, took) = timed(&clock, open(&absent(OpenMode::FailFast), &clock)).await;
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!((error.backend(), error.operation()), (memory_firestore::BACKEND, "open"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_that_fails_fast_ends_in_a_black_hole_too() {
    let Some(rig) = Rig::new(51, |_| {}).await else { return };
    rig.proxy.set(Plan::pass().black_hole());
    let mut settings = rig.settings.clone();
    settings.open = OpenMode::FailFast;
    settings.request_timeout_ms = 400;
    let (opened, took) = rig.timed(open(&settings, &rig.clock)).await;
    let kind = opened.unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable), "{kind:?}");
    assert!(took < Duration::from_millis(400) + SLACK, "{took:?}");
    // The same with a server that answers.
    rig.proxy.heal();
    let store = open(&settings, &rig.clock).await.unwrap();
    assert!(store.fetch_one(&tenant("t"), &id("a")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opening_that_waits_is_there_when_the_server_is() {
    let Some(rig) = Rig::new(52, |_| {}).await else { return };
    rig.proxy.set(Plan::pass().reset_new(100));
    let mut settings = rig.settings.clone();
    settings.open = OpenMode::Wait;
    settings.open_timeout_ms = 60_000;
    let opening = {
        let (settings, clock) = (settings, Arc::clone(&rig.clock));
        tokio::spawn(async move { open(&settings, &clock).await })
    };
    // It knocks again and again.
    until("the store knocks", || rig.proxy.stats().accepted >= 2).await;
    assert!(!opening.is_finished(), "it does not wait");
    rig.proxy.heal();
    let opened = tokio::time::timeout(PATIENCE, opening).await.expect("it never opens").unwrap();
    add(&opened.unwrap(), &tenant("t"), item("a", "a memory")).await.unwrap();
}

#[tokio::test]
async fn opening_that_waits_does_not_wait_for_ever() {
    let clock = clock();
    let mut settings = absent(OpenMode::Wait);
    settings.open_timeout_ms = 600;
    let (opened, took) = timed(&clock, open(&settings, &clock)).await;
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert_eq!((error.backend(), error.operation()), (memory_firestore::BACKEND, "open"));
    let span = Duration::from_millis(600);
    assert!(took >= span && took < span + SLACK, "{took:?}");
}

/// A service, not an emulator, for which no credentials are asked.
fn refusing(mode: OpenMode) -> FirestoreSettings {
    let mut settings = absent(mode);
    settings.emulator = None;
    settings.endpoint = format!("https://{}", nobody());
    settings
}

/// Credentials that are refused.
#[derive(Debug)]
struct Refused;

#[async_trait]
impl CredentialProvider for Refused {
    async fn token(&self, _scopes: &[String]) -> Result<AccessToken> {
        Err(Error::new(ErrorKind::PermissionDenied, "the issuer refuses"))
    }
}

#[tokio::test]
async fn opening_does_not_wait_for_what_waiting_does_not_mend() {
    let clock = clock();
    for mode in [OpenMode::FailFast, OpenMode::Wait] {
        let settings = refusing(mode);
        let opening =
            FirestoreStore::open(settings, Arc::new(Refused), clock.clone(), Arc::new(NoLedger));
        let (opened, took) = timed(&clock, opening).await;
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(took < SLACK, "{took:?}");
    }
    let settings = refusing(OpenMode::Lazy);
    let store =
        FirestoreStore::open(settings, Arc::new(Refused), clock.clone(), Arc::new(NoLedger))
            .await
            .unwrap();
    let error = store.fetch_one(&tenant("t"), &id("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_finishes_what_is_under_way_and_refuses_the_rest() {
    let Some(rig) = Rig::new(53, |_| {}).await else { return };
    let context = tenant("t");
    add(&rig.store, &context, item("first", "a memory")).await.unwrap();
    rig.proxy.set(Plan::pass().delay(Direction::ToClient, Duration::from_millis(800)));
    let begun = rig.proxy.stats().requests;
    let slow = {
        let (store, context) = (Arc::clone(&rig.store), context.clone());
        tokio::spawn(async move { add(&store, &context, item("slow", "a memory")).await })
    };
    until("the write is under way", || rig.proxy.stats().requests > begun).await;
    let closing = {
        let store = Arc::clone(&rig.store);
        tokio::spawn(async move { RecordStore::close(&*store).await })
    };
    // From the moment the store closes, nothing new gets in.
    let refused = async {
        loop {
            match rig.store.fetch_one(&context, &id("first")).await {
                Ok(found) => assert!(found.is_some()),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(!error.is_retryable(), "a closed store stays closed");
    closing.await.unwrap().unwrap();
    assert!(slow.is_finished(), "the close did not wait for the write");
    let revision = slow.await.unwrap().unwrap();
    let found = rig.direct.fetch_one(&context, &id("slow")).await.unwrap().unwrap();
    assert_eq!(found.revision, Some(revision));

    // Everything is refused, by whichever trait; closing once more is no error.
    let closed = |error: Error| assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let write = || put(item("late", "a memory"), Precondition::Any);
    closed(rig.store.query(&context, &Query::new(5)).await.unwrap_err());
    closed(rig.store.count(&context, &Filter::All).await.unwrap_err());
    closed(rig.store.commit(&context, commit(vec![write()])).await.unwrap_err());
    closed(rig.store.sweep_expired(&context, 5).await.unwrap_err());
    let load =
        rig.store.write_many(&context, RandomIds.commit_id(), vec![write()], false, &NoObserver);
    closed(load.await.unwrap_err());
    assert_eq!(RecordStore::health(&*rig.store).await.status, HealthStatus::Unhealthy);
    RecordStore::close(&*rig.store).await.unwrap();
    VectorIndex::close(&*rig.store).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_end_with_the_store() {
    let Some(rig) = Rig::new(54, |_| {}).await else { return };
    let context = tenant("t");
    let store = rig.another().await;
    for n in 0..8 {
        add(&store, &context, item(&format!("n-{n}"), "a memory")).await.unwrap();
    }
    assert!(rig.proxy.stats().open > 0, "positive twin");
    RecordStore::close(&*store).await.unwrap();
    drop(store);
    until("the connections end", || rig.proxy.stats().open == 0).await;
}

//! Lines that swallow, delay, throttle, reset and refuse: calls end in time, and say whether they
//! may have taken effect.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    RecordStore, RecordStoreExt as _, StoreMeta as _, TenantSpaces, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Commit, EmbeddingSpace, ErrorKind, Filter, HealthStatus, Metric, Outcome,
    Precondition, Query,
};
use memory_firestore::{FirestoreSettings, FirestoreStore};
use memory_testkit::proxy::{Direction, Plan};

use super::rig::{PATIENCE, Rig, SLACK, recovered, until};
use crate::common::{add, commit, id, item, put, tenant, with_vector};

/// A deadline that passes.
const SHORT: Duration = Duration::from_millis(400);
/// A deadline that does not.
const LONG: Duration = Duration::from_secs(30);

fn one_channel(settings: &mut FirestoreSettings) {
    settings.channels = 1;
}

fn create(name: &str) -> Commit {
    commit(vec![put(item(name, "a memory"), Precondition::Absent)])
}

/// A store that knows its tenant, so that a commit is one request.
async fn warm(rig: &Rig) -> CallContext {
    let context = tenant("t");
    // The first makes the tenant, the second finds out how its document is verified.
    add(&rig.store, &context, item("first", "a memory")).await.unwrap();
    add(&rig.store, &context, item("second", "a memory")).await.unwrap();
    context
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_black_hole_calls_end_at_their_deadline() {
    let Some(rig) = Rig::new(31, |_| {}).await else { return };
    let context = warm(&rig).await;
    rig.proxy.set(Plan::pass().black_hole());
    let within = rig.within(&context, SHORT);

    let (fetched, took) = rig.timed(rig.store.fetch_one(&within, &id("first"))).await;
    in_time(took, SHORT);
    let error = fetched.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert!(error.is_retryable());

    let within = rig.within(&context, SHORT);
    let (committed, took) = rig.timed(rig.store.commit(&within, create("a"))).await;
    in_time(took, SHORT);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));

    let within = rig.within(&context, SHORT);
    let (page, took) = rig.timed(rig.store.query(&within, &Query::new(5))).await;
    in_time(took, SHORT);
    assert_eq!(page.unwrap_err().kind(), ErrorKind::Timeout);

    let within = rig.within(&context, SHORT);
    let (count, took) = rig.timed(rig.store.count(&within, &Filter::All)).await;
    in_time(took, SHORT);
    assert_eq!(count.unwrap_err().kind(), ErrorKind::Timeout);

    rig.proxy.heal();
    recovered(&rig.store, &context).await;
    assert!(rig.direct.fetch_one(&context, &id("a")).await.unwrap().is_none(), "it was swallowed");
    rig.store.commit(&context, create("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_black_hole_calls_without_a_deadline_end_at_the_request_timeout() {
    let timeout = Duration::from_millis(700);
    let made = Rig::new(32, |settings| settings.request_timeout_ms = 700).await;
    let Some(rig) = made else { return };
    let context = warm(&rig).await;
    rig.proxy.set(Plan::pass().black_hole());
    let (committed, took) = rig.timed(rig.store.commit(&context, create("a"))).await;
    in_time(took, timeout);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
    let (health, took) = rig.timed(RecordStore::health(&*rig.store)).await;
    in_time(took, timeout);
    assert_eq!(health.status, HealthStatus::Unhealthy);
    rig.proxy.heal();
    recovered(&rig.store, &context).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_contact_that_hangs_holds_up_no_call_beyond_its_deadline() {
    let Some(rig) = Rig::new(33, |_| {}).await else { return };
    let context = tenant("t");
    let mut add_first = add(&rig.direct, &context, item("first", "a memory")).await;
    assert!(add_first.is_ok(), "{add_first:?}");
    rig.proxy.set(Plan::pass().black_hole());
    // Without a deadline: it waits for as long as a request may.
    let patient = {
        let (store, context) = (Arc::clone(&rig.store), context.clone());
        tokio::spawn(async move { store.fetch_one(&context, &id("first")).await })
    };
    until("the patient one has begun", || rig.proxy.stats().swallowed > 0).await;
    let within = rig.within(&context, SHORT);
    let (fetched, took) = rig.timed(rig.store.fetch_one(&within, &id("first"))).await;
    in_time(took, SHORT);
    assert_eq!(fetched.unwrap_err().kind(), ErrorKind::Timeout);
    let within = rig.within(&context, SHORT);
    let (committed, took) = rig.timed(rig.store.commit(&within, create("a"))).await;
    in_time(took, SHORT);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));

    rig.proxy.heal();
    let patient = tokio::time::timeout(PATIENCE, patient).await.unwrap().unwrap();
    if let Err(error) = patient {
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
    }
    recovered(&rig.store, &context).await;
    add_first = add(&rig.store, &context, item("second", "a memory")).await;
    assert!(add_first.is_ok(), "{add_first:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_in_the_change_log_that_hangs_holds_up_no_call_beyond_its_deadline() {
    let Some(rig) = Rig::new(38, |settings| settings.change_log = true).await else { return };
    let context = warm(&rig).await;
    rig.proxy.set(Plan::pass().black_hole());
    let before = rig.proxy.stats().swallowed;
    let patient = {
        let (store, context) = (Arc::clone(&rig.store), context.clone());
        tokio::spawn(async move { store.commit(&context, create("patient")).await })
    };
    until("the patient one has begun", || rig.proxy.stats().swallowed > before).await;
    let within = rig.within(&context, SHORT);
    let (committed, took) = rig.timed(rig.store.commit(&within, create("a"))).await;
    in_time(took, SHORT);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    rig.proxy.heal();
    let error = tokio::time::timeout(PATIENCE, patient).await.unwrap().unwrap().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    recovered(&rig.store, &context).await;
    rig.store.commit(&context, create("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_estimate_that_hangs_holds_up_no_search_beyond_its_deadline() {
    let Some(rig) = Rig::new(39, |_| {}).await else { return };
    let context = warm(&rig).await;
    let space = EmbeddingSpace::new("test", "1", 3, Metric::Cosine).unwrap();
    let before = rig.store.spaces(&context).await.unwrap();
    let spaces = TenantSpaces { active: Some(space.clone()), next: None, ..before };
    rig.store.set_spaces(&context, &spaces).await.unwrap();
    let write = with_vector(item("near", "a memory"), &space, [1.0, 0.0, 0.0]);
    rig.store.commit(&context, commit(vec![write])).await.unwrap();
    let query = VectorQuery::new(space, vec![1.0, 0.1, 0.0], 5);

    rig.proxy.set(Plan::pass().black_hole());
    let before = rig.proxy.stats().swallowed;
    let patient = {
        let (store, context, query) = (Arc::clone(&rig.store), context.clone(), query.clone());
        tokio::spawn(async move { VectorIndex::search(&*store, &context, &query).await })
    };
    until("the patient one has begun", || rig.proxy.stats().swallowed > before).await;
    let within = rig.within(&context, SHORT);
    let (found, took) = rig.timed(VectorIndex::search(&*rig.store, &within, &query)).await;
    in_time(took, SHORT);
    assert_eq!(found.unwrap_err().kind(), ErrorKind::Timeout);
    rig.proxy.heal();
    // It was under way when the hole ended, or has begun anew since.
    let patient = tokio::time::timeout(PATIENCE, patient).await.unwrap().unwrap();
    if let Err(error) = patient {
        assert!(error.is_retryable(), "{error:?}");
    }
    recovered(&rig.store, &context).await;
    let found = VectorIndex::search(&*rig.store, &context, &query).await.unwrap();
    assert_eq!(found.hits.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_comes_too_late_is_unknown_and_is_known_when_it_is_resent() {
    let Some(rig) = Rig::new(34, |_| {}).await else { return };
    let context = warm(&rig).await;
    rig.proxy.set(Plan::pass().delay(Direction::ToClient, Duration::from_secs(1)));
    let sent = create("a");
    let within = rig.within(&context, SHORT);
    let (committed, took) = rig.timed(rig.store.commit(&within, sent.clone())).await;
    in_time(took, SHORT);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
    // The line is slow and not dead: with more time the same works.
    let within = rig.within(&context, LONG);
    let receipt = rig.store.commit(&within, sent.resent()).await.unwrap();
    assert!(receipt.replayed, "it was done at the first attempt");
    let found = rig.direct.fetch_one(&context, &id("a")).await.unwrap().unwrap();
    assert_eq!(found.revision, receipt.results[0].revision);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_is_waited_for_as_long_as_the_deadline_allows() {
    let Some(rig) = Rig::new(35, |_| {}).await else { return };
    let context = warm(&rig).await;
    let rate = NonZeroU64::new(64 * 1024).unwrap();
    rig.proxy.set(Plan::pass().throttle(Direction::ToServer, rate));
    let large =
        |name: &str| commit(vec![put(item(name, &"x".repeat(128 * 1024)), Precondition::Absent)]);
    let within = rig.within(&context, SHORT);
    let (committed, took) = rig.timed(rig.store.commit(&within, large("a"))).await;
    in_time(took, SHORT);
    let error = committed.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
    let within = rig.within(&context, LONG);
    rig.store.commit(&within, large("b")).await.unwrap();
    let found = rig.direct.fetch_one(&context, &id("b")).await.unwrap().unwrap();
    assert_eq!(found.content().len(), 128 * 1024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_reset_are_unavailable_and_made_anew() {
    let Some(rig) = Rig::new(36, one_channel).await else { return };
    let context = warm(&rig).await;
    // The open connection is reset by the next byte, and so is every new one at once.
    let plan = Plan::pass().cut_after(Direction::ToServer, 0).reset_new(100).resetting();
    rig.proxy.set(plan);
    for _ in 0..5 {
        unavailable(&rig, &rig.store, &context).await;
    }
    rig.proxy.heal();
    recovered(&rig.store, &context).await;
    rig.store.commit(&context, create("a")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_refuses_connections_has_certainly_done_nothing() {
    let Some(rig) = Rig::new(37, one_channel).await else { return };
    let context = warm(&rig).await;
    rig.proxy.set(Plan::pass().refuse().cut_after(Direction::ToServer, 0));
    // The connection that was open: what it carried is not known.
    unavailable(&rig, &rig.store, &context).await;
    until("the open connection ends", || rig.proxy.stats().open == 0).await;
    // From here on nobody accepts.
    let mut seen = Vec::new();
    for _ in 0..5 {
        let within = rig.within(&context, LONG);
        let (committed, took) = rig.timed(rig.store.commit(&within, create("a"))).await;
        assert!(took < LONG);
        let error = committed.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.is_retryable());
        seen.push(error.outcome());
    }
    assert_eq!(seen.last(), Some(&Outcome::NotApplied), "{seen:?}");
    rig.proxy.heal();
    recovered(&rig.store, &context).await;
    rig.store.commit(&context, create("a")).await.unwrap();
}

/// A fetch and a commit fail before their deadline, and say that the store is not there.
async fn unavailable(rig: &Rig, store: &FirestoreStore, context: &CallContext) {
    let within = rig.within(context, LONG);
    let (fetched, took) = rig.timed(store.fetch_one(&within, &id("first"))).await;
    let error = fetched.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(error.is_retryable() && took < LONG, "{took:?}");
    let (committed, took) = rig.timed(store.commit(&within, create("never"))).await;
    let error = committed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable() && took < LONG, "{took:?}");
}

/// The call ended when its time was over, and neither before nor long after.
fn in_time(took: Duration, span: Duration) {
    // The transport's own timer may be a little ahead.
    assert!(took + Duration::from_millis(50) >= span, "too early: {took:?} of {span:?}");
    assert!(took < span + SLACK, "too late: {took:?} of {span:?}");
}

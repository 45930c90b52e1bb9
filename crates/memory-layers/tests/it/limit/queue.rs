//! The queue: its order, its bound, its deadlines, and callers that go away.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use memory_core::{Error, ErrorKind, HealthStatus, Outcome};
use memory_layers::{LimitSettings, LimitStats};
use tokio::task::yield_now;
use tokio::time::sleep;

use super::tools::{Bench, Running, failure, ms, poll, settle};

#[tokio::test(start_paused = true)]
async fn calls_pass_in_the_order_in_which_they_came() {
    let bench = Bench::fixed(2, 8);
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..6 {
        let (call, order) = (bench.call(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            call.await.unwrap();
            order.lock().unwrap().push(number);
        }));
        settle().await;
    }
    assert_eq!(bench.counts(), (2, 4));
    for ended in 1..=6 {
        bench.end(1).await;
        assert_eq!(*order.lock().unwrap(), (0..ended).collect::<Vec<_>>());
    }
    assert_eq!(bench.counts(), (0, 0));
    let stats = bench.limit.stats();
    assert_eq!((stats.admitted, stats.waited, stats.rejected()), (6, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_overtakes_the_queue() {
    let bench = Bench::fixed(1, 8);
    let (mut first, mut second, mut third) = (bench.call(), bench.call(), bench.call());
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    bench.ends.add_permits(1);
    assert!(poll(&mut first).is_ready());
    // The permit is the second's, although it has not looked yet.
    assert!(poll(&mut third).is_pending());
    assert_eq!(bench.counts(), (1, 1));
    bench.ends.add_permits(1);
    assert!(poll(&mut third).is_pending());
    assert!(poll(&mut second).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_says_what_to_do() {
    let bench = Bench::fixed(1, 1);
    let (mut first, mut second, mut third) = (bench.call(), bench.call(), bench.call());
    assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
    let error = failure(&mut third);
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(!error.is_retryable());
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!((error.backend(), error.operation()), ("held", "fetch"));
    assert!(error.message().contains("limit.queue"), "{error}");
    assert_eq!(bench.limit.stats().rejected_full, 1);
    drop(second);
    let mut fourth = bench.call();
    assert!(poll(&mut fourth).is_pending(), "a place was given back");
}

#[tokio::test(start_paused = true)]
async fn a_queue_of_none_refuses_at_once() {
    let bench = Bench::fixed(1, 0);
    let (mut first, mut second) = (bench.call(), bench.call());
    assert!(poll(&mut first).is_pending());
    assert_eq!(failure(&mut second).kind(), ErrorKind::Overloaded);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_waits_no_longer_than_its_deadline() {
    let bench = Bench::fixed(1, 8);
    let _running = bench.start().await;
    let (soon, later) =
        (bench.call_with(Some(30), || Ok(())), bench.call_with(Some(60), || Ok(())));
    let (soon, later) = (tokio::spawn(soon), tokio::spawn(later));
    sleep(ms(31)).await;
    let error = soon.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert_eq!(bench.counts(), (1, 1));
    bench.end(2).await;
    later.await.unwrap().unwrap();
    let mut late = bench.call_with(Some(0), || Ok(()));
    let _running = bench.start().await;
    assert_eq!(failure(&mut late).kind(), ErrorKind::Timeout);
    assert_eq!((bench.counts(), bench.limit.stats().timed_out), ((1, 0), 2));
}

#[tokio::test(start_paused = true)]
async fn the_wait_in_the_queue_has_a_bound_of_its_own() {
    let settings =
        LimitSettings { min: 1, max: 1, start: 1, queue_wait_ms: 20, ..LimitSettings::default() };
    let bench = Bench::new(settings);
    let _running = bench.start().await;
    let waiting = tokio::spawn(bench.call_with(Some(500), || Ok(())));
    let hasty = tokio::spawn(bench.call_with(Some(10), || Ok(())));
    sleep(ms(25)).await;
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Overloaded, false));
    assert_eq!(hasty.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    let stats = bench.limit.stats();
    assert_eq!((stats.rejected_waiting, stats.timed_out, stats.queued), (1, 1, 0));
}

/// Where the drill drops one of three calls, of which one may be under way at once.
#[derive(Clone, Copy, Debug)]
struct Drop {
    /// The call.
    call: usize,
    /// How many of those before it have ended: with all of them it was given the permit.
    ended: usize,
    /// How often it is polled after that.
    polls: usize,
}

impl Drop {
    fn all() -> impl Iterator<Item = Self> {
        (0..3).flat_map(|call| {
            (0..=call).flat_map(move |ended| (0..3).map(move |polls| Self { call, ended, polls }))
        })
    }
}

/// Drops one of three calls and lets the others end as far as they can.
fn drop_one(bench: &Bench, case: Drop) -> LimitStats {
    let mut calls: Vec<Running> = (0..3).map(|_| bench.call()).collect();
    for call in &mut calls {
        assert!(poll(call).is_pending());
    }
    for call in calls.iter_mut().take(case.ended) {
        bench.ends.add_permits(1);
        assert!(poll(call).is_ready());
    }
    for _ in 0..case.polls {
        assert!(poll(&mut calls[case.call]).is_pending());
    }
    drop(calls.remove(case.call));
    let mut left = calls.split_off(case.ended);
    bench.ends.add_permits(left.len());
    left.retain_mut(|call| poll(call).is_pending());
    bench.limit.stats()
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_gives_back_what_it_held_at_every_await() {
    for drop in Drop::all() {
        let bench = Bench::fixed(1, 8);
        let stats = drop_one(&bench, drop);
        assert_eq!((stats.in_flight, stats.queued), (0, 0), "{drop:?}");
        bench.ends.add_permits(1);
        assert!(matches!(poll(&mut bench.call()), Poll::Ready(Ok(()))), "{drop:?}");
    }
}

#[cfg(feature = "mutants")]
#[tokio::test(start_paused = true)]
async fn the_drops_catch_a_planted_leak() {
    let leaks = |drop| {
        let mut bench = Bench::fixed(1, 8);
        bench.limit = bench.limit.with_mutant(memory_layers::LimitMutant::LeakOnCancel);
        drop_one(&bench, drop).in_flight > 0
    };
    for drop in Drop::all() {
        // It leaks where it held a permit, seen or not, and not where it held a place.
        assert_eq!(leaks(drop), drop.ended == drop.call, "{drop:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_lower_the_limit_once_a_round_trip_and_answers_raise_it() {
    let settings = LimitSettings { min: 2, max: 12, start: 10, ..LimitSettings::default() };
    let bench = Bench::new(settings);
    let refused = || Err(Error::new(ErrorKind::RateLimited, "slower"));
    let mut calls: Vec<_> = (0..10).map(|_| bench.call_with(None, refused)).collect();
    assert!(calls.iter_mut().all(|call| poll(call).is_pending()));
    bench.ends.add_permits(10);
    for call in &mut calls {
        assert_eq!(failure(call).kind(), ErrorKind::RateLimited);
    }
    let stats = bench.limit.stats();
    assert_eq!((stats.limit, stats.decreases), (8, 1), "ten refusals of one round trip");
    // Errors that say nothing about load move nothing.
    bench.ends.add_permits(50);
    for _ in 0..50 {
        // Or the runtime's budget of a task makes the calls wait.
        yield_now().await;
        let conflict = || Err(Error::new(ErrorKind::Conflict, "changed"));
        assert_eq!(failure(&mut bench.call_with(None, conflict)).kind(), ErrorKind::Conflict);
    }
    assert_eq!(bench.limit.stats().limit, 8);
    // One at a time does not use the limit, so it does not rise.
    bench.ends.add_permits(100);
    for _ in 0..100 {
        yield_now().await;
        assert!(poll(&mut bench.call()).is_ready());
    }
    assert_eq!(bench.limit.stats().limit, 8);
    for _ in 0..40 {
        yield_now().await;
        let mut calls: Vec<_> = (0..12).map(|_| bench.call()).collect();
        for call in &mut calls {
            assert!(poll(call).is_pending());
        }
        for _ in 0..4 {
            bench.ends.add_permits(12);
            calls.retain_mut(|call| poll(call).is_pending());
        }
        assert!(calls.is_empty());
        bench.ends.forget_permits(usize::MAX);
    }
    assert_eq!(bench.limit.stats().limit, 12, "its bound");
}

#[tokio::test(start_paused = true)]
async fn health_reports_saturation_and_says_when_it_lasts() {
    let bench = Bench::fixed(1, 8);
    let health = bench.health();
    assert_eq!(health.status, HealthStatus::Healthy);
    assert_eq!(health.details["concurrency.limit"], "1");
    assert_eq!(health.details["concurrency.saturation"], "0.00");
    let _running = bench.start().await;
    let waiting = bench.start().await;
    sleep(ms(4_000)).await;
    assert_eq!(bench.health().status, HealthStatus::Healthy, "a burst is no saturation");
    sleep(ms(1_500)).await;
    let health = bench.health();
    assert_eq!(health.status, HealthStatus::Degraded);
    assert!(health.reasons[0].contains("waiting for a permit"), "{:?}", health.reasons);
    assert_eq!(health.details["concurrency.queued"], "1");
    let saturation = bench.limit.stats().saturation;
    assert!((0.5..1.0).contains(&saturation), "{saturation}");
    bench.end(1).await;
    assert_eq!(bench.health().status, HealthStatus::Healthy);
    bench.end(1).await;
    waiting.await.unwrap().unwrap();
}

#[test]
fn settings_out_of_range_are_refused_with_all_faults() {
    let settings = LimitSettings { min: 0, tolerance: 0.5, ..LimitSettings::default() };
    let clock = Arc::new(memory_core::SystemClock::new());
    let timer = Arc::new(memory_layers::TokioTimer);
    let error = memory_layers::ConcurrencyLimitLayer::new(settings, clock, timer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("limit.min") && error.message().contains("limit.tolerance"));
}

//! The gate, closed in each state of the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use memory_core::{Error, ErrorKind, HealthStatus, Outcome, Result};
use memory_layers::Policy as _;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::tools::{Bench, failure, ms, settle};

/// Closes a part on a task of its own; the part counts how often its own close ran.
async fn close(bench: &Bench, closed: &Arc<AtomicU32>) -> JoinHandle<Result<()>> {
    let (limit, closed) = (bench.limit.clone(), Arc::clone(closed));
    let task = tokio::spawn(async move {
        let inner = async {
            closed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        limit.close(inner).await
    });
    settle().await;
    task
}

fn refused(bench: &Bench) {
    let error = failure(&mut bench.call());
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn with_nothing_under_way_it_closes_at_once_and_again() {
    let (bench, closed) = (Bench::fixed(1, 1), Arc::default());
    for times in 1..=2 {
        close(&bench, &closed).await.await.unwrap().unwrap();
        assert_eq!(closed.load(Ordering::SeqCst), times);
        refused(&bench);
    }
    assert_eq!(bench.limit.stats().refused_closed, 2);
    assert_eq!(bench.health().status, HealthStatus::Unhealthy);
}

#[tokio::test(start_paused = true)]
async fn running_calls_end_first() {
    let (bench, closed) = (Bench::fixed(4, 4), Arc::default());
    let running = bench.start().await;
    let closing = close(&bench, &closed).await;
    refused(&bench);
    sleep(ms(60_000)).await;
    assert!(!closing.is_finished() && closed.load(Ordering::SeqCst) == 0);
    bench.end(1).await;
    running.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_served_to_its_end() {
    let (bench, closed) = (Bench::fixed(1, 3), Arc::default());
    let mut calls = Vec::new();
    for _ in 0..4 {
        calls.push(bench.start().await);
    }
    assert_eq!(bench.counts(), (1, 3));
    let closing = close(&bench, &closed).await;
    refused(&bench);
    for left in (0..4).rev() {
        assert!(!closing.is_finished(), "{left} left");
        bench.end(1).await;
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
    closing.await.unwrap().unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_queued_call_keeps_its_deadline() {
    let (bench, closed) = (Bench::fixed(1, 3), Arc::default());
    let running = bench.start().await;
    let waiting = tokio::spawn(bench.call_with(Some(50), || Ok(())));
    settle().await;
    let closing = close(&bench, &closed).await;
    sleep(ms(51)).await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Timeout);
    assert!(!closing.is_finished());
    bench.end(1).await;
    running.await.unwrap().unwrap();
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn dropped_callers_hold_nothing_up() {
    let (bench, closed) = (Bench::fixed(1, 3), Arc::default());
    let (running, waiting) = (bench.start().await, bench.start().await);
    let closing = close(&bench, &closed).await;
    waiting.abort();
    settle().await;
    assert!(!closing.is_finished());
    assert_eq!(bench.counts(), (1, 0));
    running.abort();
    settle().await;
    assert!(closing.is_finished(), "the last one dropped");
    closing.await.unwrap().unwrap();
    assert_eq!(bench.limit.stats().abandoned, 1);
}

#[tokio::test(start_paused = true)]
async fn parts_that_close_at_once_share_the_gate_and_close_each() {
    let (bench, closed) = (Bench::fixed(1, 3), Arc::default());
    let running = bench.start().await;
    let (first, second) = (close(&bench, &closed).await, close(&bench, &closed).await);
    assert!(!first.is_finished() && !second.is_finished());
    bench.end(1).await;
    running.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 2, "each part's own");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_close_leaves_the_gate_shut_and_the_next_one_ends_it() {
    let (bench, closed) = (Bench::fixed(1, 3), Arc::default());
    let running = bench.start().await;
    let closing = close(&bench, &closed).await;
    closing.abort();
    settle().await;
    refused(&bench);
    let again = close(&bench, &closed).await;
    bench.end(1).await;
    running.await.unwrap().unwrap();
    again.await.unwrap().unwrap();
    assert_eq!(closed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_inner_close_meets_is_reported() {
    let bench = Bench::fixed(1, 1);
    let failed = bench
        .limit
        .close(async { Err(Error::new(ErrorKind::Unavailable, "the flush failed")) })
        .await;
    assert_eq!(failed.unwrap_err().message(), "the flush failed");
    bench.limit.close(async { Ok(()) }).await.unwrap();
}

//! Deadlines: which one counts, what the back end is told, and what a late call answers.

use std::sync::Mutex;
use std::task::Poll;
use std::time::Duration;

use memory_core::{CallContext, Deadline, Error, ErrorKind, Outcome, Result};
use memory_layers::{Attempt, Call, Operation, Policy as _, TimeoutLayer};

use crate::support::{MS, Task, Time, give_way, step, tenant};

fn call(operation: Operation, context: &CallContext) -> Call<'_> {
    Call { operation, backend: "script", context: Some(context), asked: 1, resend: false }
}

#[test]
fn the_earlier_of_limit_and_deadline_is_handed_on_and_counts() {
    for (limit, caller, counts) in [
        (100_u32, None, Some(100_u32)),
        (100, Some(40_u32), Some(40)),
        (40, Some(100), Some(40)),
        (0, Some(70), Some(70)),
        (0, None, None),
    ] {
        let time = Time::by_hand();
        let layer = TimeoutLayer::new(limit * MS, time.clock.clone(), time.clone());
        let now = time.monotonic();
        let context = tenant().with_deadline(caller.map(|ms| Deadline::at(now + ms * MS)));
        let call = call(Operation::Commit, &context);
        let seen = Mutex::new(None);
        let send = |attempt: Attempt| {
            *seen.lock().unwrap() = attempt.deadline;
            std::future::pending::<Result<u64>>()
        };
        let mut task: Task<'_, Result<u64>> = Box::pin(layer.run(&call, send));
        assert!(step(&mut task).is_pending());
        assert_eq!(*seen.lock().unwrap(), counts.map(|ms| Deadline::at(now + ms * MS)));
        let Some(counts) = counts else {
            time.clock.advance(Duration::from_secs(86_400));
            assert!(step(&mut task).is_pending(), "nothing ends it");
            assert_eq!(time.live(), 0);
            continue;
        };
        time.clock.advance((counts - 1) * MS);
        assert!(step(&mut task).is_pending(), "a millisecond early");
        time.clock.advance(MS);
        let Poll::Ready(Err(error)) = step(&mut task) else { panic!("it has to end") };
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
        assert!(error.is_retryable());
        drop(task);
        assert_eq!(time.live(), 0, "no timer is left");
    }
}

#[test]
fn only_writes_that_were_sent_are_unknown() {
    let time = Time::by_hand();
    let layer = TimeoutLayer::new(10 * MS, time.clock.clone(), time.clone());
    let context = tenant();
    for operation in Operation::ALL {
        let call = call(*operation, &context);
        let send = |_| std::future::pending::<Result<u64>>();
        let mut task: Task<'_, Result<u64>> = Box::pin(layer.run(&call, send));
        assert!(step(&mut task).is_pending());
        time.clock.advance(10 * MS);
        let Poll::Ready(Err(error)) = step(&mut task) else { panic!("it has to end") };
        assert_eq!(error.outcome() == Outcome::Unknown, operation.writes(), "{operation:?}");
        assert_eq!(error.operation(), operation.name());
    }
    // What was late before it began was not sent.
    let late = tenant().with_deadline(Some(Deadline::at(time.monotonic())));
    let call = call(Operation::Commit, &late);
    let send = |_| async { panic!("it was sent") };
    let mut task: Task<'_, Result<u64>> = Box::pin(layer.run(&call, send));
    let Poll::Ready(Err(error)) = step(&mut task) else { panic!("it has to end") };
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
}

#[test]
fn an_answer_in_time_is_passed_on_and_an_answer_at_the_deadline_too() {
    let time = Time::by_hand();
    let layer = TimeoutLayer::new(10 * MS, time.clock.clone(), time.clone());
    let context = tenant();
    let call = call(Operation::Commit, &context);
    // At once: no timer is begun.
    let mut task: Task<'_, Result<u64>> = Box::pin(layer.run(&call, |_| async { Ok(1) }));
    assert!(matches!(step(&mut task), Poll::Ready(Ok(1))));
    assert!(time.waits().is_empty());
    // Ready in the same step in which the deadline passes: what is inside knows more.
    let inner = || Error::new(ErrorKind::Timeout, "still in the queue");
    let send = |_| async move {
        give_way(1).await;
        Err(inner())
    };
    let mut task: Task<'_, Result<u64>> = Box::pin(layer.run(&call, send));
    assert!(step(&mut task).is_pending());
    assert_eq!(time.live(), 1);
    time.clock.advance(10 * MS);
    let Poll::Ready(Err(error)) = step(&mut task) else { panic!("it has to end") };
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert_eq!(error.message(), "still in the queue");
}

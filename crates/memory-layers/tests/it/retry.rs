//! Which failures are retried, when, and how often.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::{CallContext, Deadline, Error, ErrorKind, IdSource, Outcome, Result};
use memory_layers::{
    Attempt, Call, GiveUp, Operation, Policy as _, RetryLayer, RetrySettings, Safety,
};
use memory_testkit::generators::Generator;

use crate::support::{Drawn, MS, Same, Time, finish, tenant};

struct World {
    time: Arc<Time>,
    layer: RetryLayer,
    seen: Mutex<Vec<(Attempt, Duration)>>,
}

fn settings() -> RetrySettings {
    RetrySettings::default()
}

fn small() -> RetrySettings {
    let mut small = settings();
    small.budget = 10;
    small
}

impl World {
    fn new(settings: RetrySettings, ids: Arc<dyn IdSource>) -> Self {
        let time = Time::jumping();
        let layer = RetryLayer::new(settings, time.clock.clone(), time.clone(), ids).unwrap();
        Self { time, layer, seen: Mutex::default() }
    }

    /// Runs a call whose attempts answer as the script says, then with success.
    fn run(&self, call: &Call<'_>, script: Vec<Result<u64>>) -> Result<u64> {
        let script = Mutex::new(VecDeque::from(script));
        self.seen.lock().unwrap().clear();
        let send = |attempt| {
            self.seen.lock().unwrap().push((attempt, self.time.monotonic()));
            let next = script.lock().unwrap().pop_front().unwrap_or(Ok(7));
            async move { next }
        };
        finish(self.layer.run(call, send))
    }

    fn resends(&self) -> Vec<bool> {
        self.seen.lock().unwrap().iter().map(|(attempt, _)| attempt.resend).collect()
    }
}

fn default_world() -> World {
    World::new(settings(), Drawn::new(1))
}

fn call(operation: Operation, context: &CallContext) -> Call<'_> {
    Call { operation, backend: "script", context: Some(context), asked: 1, resend: false }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "lost").with_unknown_outcome()
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "refused")
}

/// One operation of each safety.
fn one_of_each() -> [Operation; 4] {
    let all = [Operation::Fetch, Operation::Acknowledge, Operation::Commit, Operation::Acquire];
    assert_eq!(
        all.map(Operation::safety),
        [Safety::Read, Safety::Idempotent, Safety::Resend, Safety::Once]
    );
    all
}

#[test]
fn every_kind_safety_and_outcome() {
    let context = tenant();
    for kind in ErrorKind::ALL {
        for operation in one_of_each() {
            for retryable in [true, false] {
                for outcome in [Outcome::NotApplied, Outcome::Unknown] {
                    let world = default_world();
                    let error = Error::new(kind, "scripted").with_retryable(retryable);
                    let is_unknown = outcome == Outcome::Unknown;
                    let error = if is_unknown { error.with_unknown_outcome() } else { error };
                    let answer = world.run(&call(operation, &context), vec![Err(error)]);
                    let what = format!("{kind} {operation:?} {retryable} {outcome:?}");
                    let is_safe = !(is_unknown && operation.safety() == Safety::Once);
                    let resent = operation.writes() && is_unknown;
                    if retryable && is_safe {
                        assert_eq!(answer.unwrap(), 7, "{what}");
                        assert_eq!(world.resends(), [false, resent], "{what}");
                        assert_eq!(world.layer.counts().recovered, 1, "{what}");
                    } else {
                        let error = answer.unwrap_err();
                        assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{what}");
                        assert_eq!(world.resends(), [false], "{what}");
                        let why = if retryable { GiveUp::Unsafe } else { GiveUp::NotRetryable };
                        assert_eq!(world.layer.counts().given_up_for(why), 1, "{what}");
                        assert!(world.time.waits().is_empty(), "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_rejection_of_the_limit_is_not_sent_again_and_costs_no_budget() {
    let context = tenant();
    let world = default_world();
    let full = Error::new(ErrorKind::Overloaded, "the queue is full").with_retryable(false);
    world.run(&call(Operation::Fetch, &context), vec![Err(full)]).unwrap_err();
    assert!((world.layer.budget_left() - 100.0).abs() < 1e-9);
    // The back end's own is.
    let theirs = Error::new(ErrorKind::Overloaded, "the server is full");
    world.run(&call(Operation::Fetch, &context), vec![Err(theirs)]).unwrap();
    assert!((world.layer.budget_left() - 99.1).abs() < 1e-9, "one taken, a tenth given back");
}

#[test]
fn an_unknown_outcome_stays_unknown_whatever_comes_after() {
    let context = tenant();
    for operation in [Operation::Acknowledge, Operation::Commit] {
        let world = default_world();
        let script = vec![Err(lost()), Err(refused()), Err(refused()), Err(refused())];
        let error = world.run(&call(operation, &context), script).unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{operation:?}");
        assert_eq!(world.resends(), [false, true, true, true]);
        assert_eq!(error.context(), [("attempts", "4".to_owned())]);
        assert_eq!(world.layer.counts().given_up_for(GiveUp::Attempts), 1);
        // The twin: without the lost answer it is known.
        let world = default_world();
        let script = (0..4).map(|_| Err(refused())).collect();
        let error = world.run(&call(operation, &context), script).unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotApplied);
        assert_eq!(world.resends(), [false; 4]);
    }
    // A refusal of a resend keeps its kind, and does not say that no earlier attempt was applied.
    for kind in [ErrorKind::Conflict, ErrorKind::AlreadyExists, ErrorKind::PermissionDenied] {
        for operation in [Operation::Commit, Operation::VectorUpsert] {
            let script = |first| vec![Err(first), Err(Error::new(kind, "scripted"))];
            let error =
                default_world().run(&call(operation, &context), script(lost())).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::Unknown));
            let error =
                default_world().run(&call(operation, &context), script(refused())).unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotApplied));
        }
    }
}

#[test]
fn what_the_caller_sent_before_is_sent_as_such() {
    let context = tenant();
    let world = default_world();
    let again = Call { resend: true, ..call(Operation::Commit, &context) };
    world.run(&again, vec![Err(refused())]).unwrap();
    assert_eq!(world.resends(), [true, true]);
    let error = world.run(&again, (0..4).map(|_| Err(refused())).collect()).unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "what was unknown before still is");
}

#[test]
fn once_is_sent_again_after_what_was_not_applied_and_never_after_a_lost_answer() {
    let context = tenant();
    for operation in Operation::ALL.iter().filter(|one| one.safety() == Safety::Once) {
        let world = default_world();
        let script = vec![Err(refused()), Err(lost())];
        let error = world.run(&call(*operation, &context), script).unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(world.resends().len(), 2);
        assert_eq!(world.layer.counts().given_up_for(GiveUp::Unsafe), 1);
    }
}

#[test]
fn waits_lie_between_nothing_and_the_doubled_ceiling() {
    let seed = 20_260_101;
    println!("seed {seed}");
    let mut random = Generator::new(seed);
    let context = tenant();
    for _ in 0..300 {
        let first = 1 + random.below(500) as u64;
        let longest = first + random.below(5_000) as u64;
        let attempts = 2 + u32::try_from(random.below(9)).unwrap();
        let asked =
            Duration::from_millis(random.below(3) as u64 * 700).min(Duration::from_millis(longest));
        let mut chosen = settings();
        (chosen.attempts, chosen.first_wait_ms, chosen.longest_wait_ms) =
            (attempts, first, longest);
        let world = World::new(chosen, Drawn::new(random.bits()));
        let script = (0..attempts).map(|_| Err(refused().with_retry_after(asked))).collect();
        world.run(&call(Operation::Fetch, &context), script).unwrap_err();
        let waits = world.time.waits();
        assert_eq!(waits.len(), attempts as usize - 1);
        for (place, wait) in waits.iter().enumerate() {
            let ceiling = Duration::from_millis((first << place).min(longest));
            assert!(*wait >= asked && *wait <= asked + ceiling, "{place}: {wait:?}, {ceiling:?}");
        }
    }
    // Both ends are reached.
    for (byte, expected) in [(0x00, [0, 0, 0]), (0xff, [100, 200, 400])] {
        let world = World::new(settings(), Arc::new(Same(byte)));
        world
            .run(&call(Operation::Fetch, &context), (0..4).map(|_| Err(refused())).collect())
            .unwrap_err();
        assert_eq!(world.time.waits(), expected.map(Duration::from_millis));
    }
}

#[test]
fn no_attempt_begins_past_the_deadline_and_no_wait_runs_into_it() {
    for left in [50_u32, 150, 400, 800, 2_000] {
        let world = World::new(settings(), Arc::new(Same(0xff)));
        let by = world.time.monotonic() + left * MS;
        let context = tenant().with_deadline(Some(Deadline::at(by)));
        let script = (0..4).map(|_| Err(refused())).collect();
        let error = world.run(&call(Operation::Fetch, &context), script).unwrap_err();
        assert_eq!(error.message(), "refused", "the last error");
        assert!(world.time.monotonic() < by);
        let seen = world.seen.lock().unwrap();
        assert!(seen.iter().all(|(attempt, at)| *at < by && attempt.deadline.is_some()));
        let sum = [100, 300, 700].iter().filter(|sum| **sum < left).count();
        assert_eq!(seen.len(), 1 + sum, "{left} ms");
        let why = if left > 700 { GiveUp::Attempts } else { GiveUp::Deadline };
        assert_eq!(world.layer.counts().given_up_for(why), 1);
    }
}

#[test]
fn what_the_back_end_asks_for_is_waited_for_or_given_up_at_once() {
    let asks = |ms: u32| Error::new(ErrorKind::RateLimited, "slower").with_retry_after(ms * MS);
    let world = default_world();
    let by = world.time.monotonic() + 60_000 * MS;
    let context = tenant().with_deadline(Some(Deadline::at(by)));
    world.run(&call(Operation::Fetch, &context), vec![Err(asks(30_000))]).unwrap();
    assert!(world.time.waits()[0] >= 30_000 * MS, "longer than `longest_wait_ms`");
    let before = world.time.monotonic();
    let error = world.run(&call(Operation::Fetch, &context), vec![Err(asks(30_001))]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert_eq!((world.time.monotonic(), world.time.waits().len()), (before, 1), "at once");
    // Without a deadline, the longest wait bounds what is asked.
    let open = tenant();
    world.run(&call(Operation::Fetch, &open), vec![Err(asks(5_000))]).unwrap();
    world.run(&call(Operation::Fetch, &open), vec![Err(asks(5_001))]).unwrap_err();
    assert_eq!(world.layer.counts().given_up_for(GiveUp::Deadline), 2);
}

#[test]
fn the_budget_is_one_for_all_clones() {
    let context = tenant();
    let world = World::new(small(), Drawn::new(3));
    let other = World { layer: world.layer.clone(), ..default_world() };
    let fails = || (0..4).map(|_| Err(refused())).collect();
    world.run(&call(Operation::Fetch, &context), fails()).unwrap_err();
    assert_eq!(world.resends().len(), 4, "four tokens");
    other.run(&call(Operation::Fetch, &context), fails()).unwrap_err();
    assert_eq!(other.resends().len(), 1, "the fifth leaves no more than half");
    let counts = other.layer.counts();
    assert_eq!((counts.calls, counts.attempts, counts.retries), (2, 5, 3));
    assert_eq!(counts.given_up_for(GiveUp::Budget), 1);
    // What succeeds fills it again, and then there are retries again.
    for _ in 0..20 {
        world.run(&call(Operation::Fetch, &context), Vec::new()).unwrap();
    }
    other.run(&call(Operation::Fetch, &context), vec![Err(refused())]).unwrap();
    assert_eq!(other.layer.counts().recovered, 1);
}

#[test]
fn wrong_settings_are_all_named() {
    let time = Time::jumping();
    let mut wrong = settings();
    (wrong.attempts, wrong.first_wait_ms, wrong.budget) = (0, 0, 1);
    let error =
        RetryLayer::new(wrong, time.clock.clone(), time.clone(), Drawn::new(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    for name in ["retry.attempts", "retry.first_wait_ms", "retry.budget"] {
        assert!(error.message().contains(name), "{error}");
    }
    assert!(settings().faults().is_empty());
}

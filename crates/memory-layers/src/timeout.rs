//! Deadlines: of a whole call and of each attempt, by the same layer at two places.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use memory_core::{Clock, Deadline, Error, ErrorKind, Health, Result, Timer};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::bounds::within;
use crate::policy::{Attempt, Call, Policy};

/// How long calls may take. Zero is: no limit but the caller's own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimeoutSettings {
    /// Milliseconds of a whole call, with its waits and attempts: 0 to 3,600,000. 30,000: what a
    /// person or a model waits for at the most, and the longest that common gateways let a request
    /// stand.
    pub call_ms: u64,
    /// Milliseconds of one attempt: 0 to 3,600,000. 10,000: three attempts fit into a call, and a
    /// page or a batch of the largest size takes a service one to two seconds.
    pub attempt_ms: u64,
}

impl Default for TimeoutSettings {
    fn default() -> Self {
        Self { call_ms: 30_000, attempt_ms: 10_000 }
    }
}

impl TimeoutSettings {
    /// Every value that lies out of its range, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "timeout.call_ms", self.call_ms, 0, 3_600_000);
        within(&mut faults, "timeout.attempt_ms", self.attempt_ms, 0, 3_600_000);
        faults
    }

    /// The limit of a call.
    #[must_use]
    pub fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// The limit of an attempt.
    #[must_use]
    pub fn attempt(&self) -> Duration {
        Duration::from_millis(self.attempt_ms)
    }
}

/// Ends what takes too long, at the caller's deadline or after a limit, whichever comes first.
///
/// What it wraps is given the earlier of the two as its deadline, and is dropped when it passes. A
/// write that has been sent by then may still happen: its outcome is unknown. Around a bulk writer
/// it takes the answers of all writes along, the outcome of all unknown, where the writer by itself
/// would answer for each at the deadline.
///
/// # Cancellation
/// A dropped call drops what it wraps and its timer.
#[derive(Clone, Debug)]
pub struct TimeoutLayer {
    limit: Duration,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
}

impl TimeoutLayer {
    /// A layer with a limit; zero is none but the caller's deadline.
    #[must_use]
    pub fn new(limit: Duration, clock: Arc<dyn Clock>, timer: Arc<dyn Timer>) -> Self {
        Self { limit, clock, timer }
    }
}

impl Policy for TimeoutLayer {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        let mut attempt = call.attempt();
        if self.limit.is_zero() && attempt.deadline.is_none() {
            return send(attempt).await;
        }
        let now = self.clock.monotonic();
        if !self.limit.is_zero() {
            let limit = Deadline::at(now.saturating_add(self.limit));
            attempt.deadline = Some(attempt.deadline.map_or(limit, |set| set.min(limit)));
        }
        let left = attempt.deadline.map_or(self.limit, |deadline| deadline.remaining(now));
        if left.is_zero() {
            return Err(passed(call, BEFORE));
        }
        let mut work = pin!(send(attempt));
        // Most calls are done when they are first looked at, and need no timer. Where both are
        // ready the answer counts: it is there, and of a failure it knows more.
        let mut end = None;
        let answer = poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                let end = end.get_or_insert_with(|| self.timer.sleep(left));
                end.as_mut().poll(context).map(|()| None)
            }
        });
        match answer.await {
            Some(answer) => answer,
            None => {
                let error = passed(call, WHILE);
                Err(if call.operation.writes() { error.with_unknown_outcome() } else { error })
            }
        }
    }

    fn health(&self, _health: &mut Health) {}

    async fn close<A>(&self, close: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        close.await
    }
}

const BEFORE: &str = "the deadline had passed before the call began";
const WHILE: &str =
    "no answer came before the deadline: allow more time, ask for less, or try again later";

fn passed(call: &Call<'_>, what: &str) -> Error {
    Error::new(ErrorKind::Timeout, what)
        .with_operation(call.operation.name())
        .with_backend(call.backend)
}

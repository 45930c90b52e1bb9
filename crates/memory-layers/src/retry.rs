//! Retries: the only owner of them. The clients' own are off.
//!
//! A call is sent again where its failure is worth it and a second attempt is safe: a failure that
//! is known to have changed nothing always is, and one whose outcome is unknown is by the
//! operation's [`Safety`]. Between attempts it waits, with exponential backoff and full jitter
//! (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), at least as long as the
//! back end asked for, and never past the caller's deadline. All calls share one budget: where most
//! attempts fail, sending more of them is what keeps a service down.
//!
//! What the limit layer refuses by itself says that it is not retryable, and is not retried.

mod budget;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::{Clock, Deadline, Error, ErrorKind, Health, IdSource, Outcome, Result, Timer};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::bounds::{refused, within};
use crate::operation::Safety;
use crate::policy::{Attempt, Call, Policy};
use budget::Budget;

/// How calls are retried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetrySettings {
    /// Attempts at one call, the first included: 1 to 10. 4: with the waits below it bridges a
    /// second and a half, in which a service mostly has another server for a lost one.
    pub attempts: u32,
    /// Milliseconds of the longest wait before the second attempt; each further one doubles it: 1
    /// to 60,000. 100: about the answer of a busy service, so that a retry does not meet the same
    /// moment again.
    pub first_wait_ms: u64,
    /// Milliseconds that no drawn wait is longer than: at least `first_wait_ms`, up to 600,000.
    /// What the back end asks for comes on top, up to the caller's deadline; without a deadline, up
    /// to this as well. 5,000: longer waits are the caller's to decide on.
    pub longest_wait_ms: u64,
    /// Tokens of the budget that all calls share: 2 to 100,000. Each failed attempt takes one, and
    /// nothing is retried while half or less of them are left. 100: a service that goes away is
    /// asked fifty times more than it is called, and then once a call. The rule is that of gRPC's
    /// retry throttling (proposal A6, whose example has 10 tokens); the size is that of the AWS
    /// SDKs' standard mode (500 units, 5 for each retry), for one budget serves all callers.
    pub budget: u32,
    /// Tokens that an attempt which succeeds gives back: above 0 up to 1. 0.1, as in that
    /// proposal's example: in the long run one retry for ten calls that succeed.
    pub budget_per_success: f64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            attempts: 4,
            first_wait_ms: 100,
            longest_wait_ms: 5_000,
            budget: 100,
            budget_per_success: 0.1,
        }
    }
}

impl RetrySettings {
    /// Every value that lies out of its range, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "retry.attempts", self.attempts, 1, 10);
        within(&mut faults, "retry.first_wait_ms", self.first_wait_ms, 1, 60_000);
        within(&mut faults, "retry.longest_wait_ms", self.longest_wait_ms, 1, 600_000);
        if self.longest_wait_ms < self.first_wait_ms {
            faults.push(format!(
                "retry.longest_wait_ms is at least retry.first_wait_ms; these are {} and {}",
                self.longest_wait_ms, self.first_wait_ms
            ));
        }
        within(&mut faults, "retry.budget", self.budget, 2, 100_000);
        within(&mut faults, "retry.budget_per_success", self.budget_per_success, 0.001, 1.0);
        faults
    }

    /// The longest wait before the attempt after `failed` ones, without what the back end asks.
    fn ceiling(&self, failed: u32) -> Duration {
        let doubled = 1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX);
        let wait = self.first_wait_ms.saturating_mul(doubled).min(self.longest_wait_ms);
        Duration::from_millis(wait)
    }
}

/// Why a call was not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum GiveUp {
    /// Another attempt would fail the same way.
    NotRetryable,
    /// It may have taken effect, and a second time is not safe.
    Unsafe,
    /// All attempts are used.
    Attempts,
    /// The budget of all calls is spent.
    Budget,
    /// The wait would pass the caller's deadline, or is longer than anybody without one should wait.
    Deadline,
}

impl GiveUp {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::NotRetryable, Self::Unsafe, Self::Attempts, Self::Budget, Self::Deadline];

    /// The stable name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotRetryable => "not_retryable",
            Self::Unsafe => "unsafe",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
        }
    }
}

/// What the layer has counted since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RetryCounts {
    /// Calls that were begun.
    pub calls: u64,
    /// Attempts that were begun: one for each call, and one for each retry.
    pub attempts: u64,
    /// Attempts after the first of their call.
    pub retries: u64,
    /// Calls that ended well after more than one attempt.
    pub recovered: u64,
    /// Calls that failed, by reason, in the order of [`GiveUp::ALL`].
    pub given_up: [u64; 5],
}

impl RetryCounts {
    /// Calls that failed for a reason.
    #[must_use]
    pub fn given_up_for(&self, reason: GiveUp) -> u64 {
        self.given_up[reason as usize]
    }
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    retries: AtomicU64,
    recovered: AtomicU64,
    given_up: [AtomicU64; 5],
}

#[derive(Debug)]
struct State {
    settings: RetrySettings,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    ids: Arc<dyn IdSource>,
    budget: Budget,
    counters: Counters,
}

/// Sends calls again. Clones share budget and counters.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    state: Arc<State>,
}

impl RetryLayer {
    /// A layer with its settings; the ids' random bits are the jitter.
    ///
    /// # Errors
    /// `Config`: settings out of their ranges, all of them listed.
    pub fn new(
        settings: RetrySettings,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self> {
        refused(&settings.faults())?;
        let budget = Budget::new(settings.budget, settings.budget_per_success);
        let counters = Counters::default();
        Ok(Self { state: Arc::new(State { settings, clock, timer, ids, budget, counters }) })
    }

    /// What it has counted.
    #[must_use]
    pub fn counts(&self) -> RetryCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.state.counters;
        let (calls, retries) = (get(&counters.calls), get(&counters.retries));
        RetryCounts {
            calls,
            attempts: calls.saturating_add(retries),
            retries,
            recovered: get(&counters.recovered),
            given_up: std::array::from_fn(|place| get(&counters.given_up[place])),
        }
    }

    /// Tokens that are left in the budget, of [`RetrySettings::budget`].
    #[must_use]
    pub fn budget_left(&self) -> f64 {
        self.state.budget.left()
    }

    /// Decides on a failed attempt: how long to wait before the next one, or why there is none.
    fn decide(
        &self,
        call: &Call<'_>,
        error: &Error,
        unknown: bool,
        failed: u32,
    ) -> Result<Duration, GiveUp> {
        let state = &*self.state;
        if !error.is_retryable() {
            return Err(GiveUp::NotRetryable);
        }
        // A caller who had no time left says nothing about the back end.
        let is_late = |by: Deadline| by.remaining(state.clock.monotonic()).is_zero();
        if error.kind() == ErrorKind::Timeout && call.deadline().is_some_and(is_late) {
            return Err(GiveUp::Deadline);
        }
        let allowed = state.budget.fail();
        if unknown && call.operation.safety() == Safety::Once {
            return Err(GiveUp::Unsafe);
        }
        if failed >= state.settings.attempts {
            return Err(GiveUp::Attempts);
        }
        if !allowed {
            return Err(GiveUp::Budget);
        }
        let asked = error.retry_after().unwrap_or_default();
        let wait = asked.saturating_add(self.jitter(state.settings.ceiling(failed)));
        let fits = match call.deadline() {
            Some(deadline) => wait < deadline.remaining(state.clock.monotonic()),
            None => asked <= Duration::from_millis(state.settings.longest_wait_ms),
        };
        if fits { Ok(wait) } else { Err(GiveUp::Deadline) }
    }

    /// A wait between nothing and `ceiling`, in 2^32 steps, each as likely: the last four bytes of
    /// an id, all of them random in a random UUID.
    fn jitter(&self, ceiling: Duration) -> Duration {
        let id = self.state.ids.commit_id();
        let [.., a, b, c, d] = *id.as_bytes();
        ceiling.mul_f64(f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX))
    }

    /// Ends a call that failed.
    fn give_up(
        &self,
        call: &Call<'_>,
        error: Error,
        reason: GiveUp,
        unknown: bool,
        attempts: u32,
    ) -> Error {
        let error = outcome_of_all(error, unknown);
        let counters = &self.state.counters;
        counters.given_up[reason as usize].fetch_add(1, Ordering::Relaxed);
        log(call, &error, reason, attempts);
        if attempts > 1 { error.with_context("attempts", attempts.to_string()) } else { error }
    }
}

/// The last failure of a call, with the outcome of all attempts at it: unknown where that of any was
/// (`unknown`).
///
/// A store's refusal of a resend says why this attempt did nothing, and not that no earlier one
/// did: the record may have been covered or deleted since, and a request that its sender gave up
/// may still arrive. The kind stands, for a caller decides on it; the simulation finds what it costs
/// to call that "not applied".
pub(crate) fn outcome_of_all(error: Error, unknown: bool) -> Error {
    if unknown { error.with_unknown_outcome() } else { error }
}

/// One line for each final failure. What a caller decides on is no fault of anybody.
fn log(call: &Call<'_>, error: &Error, reason: GiveUp, attempts: u32) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "memory_layers::retry",
                operation = call.operation.name(),
                backend = call.backend,
                kind = error.kind().name(),
                unknown = error.outcome() == Outcome::Unknown,
                attempts,
                reason = reason.name(),
                "a call failed"
            )
        };
    }
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Conflict
        | ErrorKind::InvalidInput
        | ErrorKind::Unsupported => line!(debug),
        _ => line!(warn),
    }
}

impl Policy for RetryLayer {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        let counters = &self.state.counters;
        let mut attempt = call.attempt();
        let mut unknown = call.resend;
        let mut attempts = 1;
        counters.calls.fetch_add(1, Ordering::Relaxed);
        loop {
            attempt.resend = unknown;
            let error = match send(attempt).await {
                Ok(answer) => {
                    self.state.budget.succeed();
                    if attempts > 1 {
                        counters.recovered.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            // A read changes nothing, whatever became of it.
            unknown |= call.operation.writes() && error.outcome() == Outcome::Unknown;
            match self.decide(call, &error, unknown, attempts) {
                Ok(wait) => self.state.timer.sleep(wait).await,
                Err(reason) => return Err(self.give_up(call, error, reason, unknown, attempts)),
            }
            attempts += 1;
            counters.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn health(&self, health: &mut Health) {
        health.detail("retry.budget_left", format!("{:.1}", self.budget_left()));
    }

    async fn close<A>(&self, close: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        close.await
    }
}

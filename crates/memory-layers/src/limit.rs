//! The adaptive concurrency limit: how many calls a back end is given at once, how many wait, and
//! the gate that closes.
//!
//! The limit rises by one and falls by a share (AIMD), once a round trip at the most, on what the
//! back end's answers say: refusals, and how long they take beside what they used to take. The
//! formula and its sources stand in `signal.rs` and in `docs/overload.md`.

mod gate;
mod settings;
mod signal;
mod state;

use std::fmt;
use std::sync::Arc;

use memory_core::{Clock, Health, HealthStatus, Result, Timer};

use crate::answer::Answer;
use crate::bounds::refused;
use crate::policy::{Attempt, Call, Policy};
use gate::Gate;
pub use settings::LimitSettings;
pub use state::LimitStats;

/// The concurrency limit of one back end, and its close gate.
///
/// Clones, and all parts that it is put around, share one limit, one queue and one gate: make one
/// for each back end. With free permits a call passes by two short locks and two looks at the
/// clock; no lock is held across an await.
///
/// - A call beyond the limit waits in a queue, first come first served, no longer than its deadline
///   (`Timeout`) and than [`LimitSettings::queue_wait_ms`] (`Overloaded`).
/// - A call that finds the queue full fails with `Overloaded`.
/// - After [`Policy::close`] a call fails with `Unavailable`.
///
/// None of these three has been sent, so the outcome is `NotApplied`; the last two say
/// `retryable = false`, for an attempt at once would meet the same queue.
///
/// # Cancellation
/// A dropped call gives its permit or its place in the queue back at once, whatever it waited for.
#[derive(Clone)]
pub struct ConcurrencyLimitLayer {
    gate: Arc<Gate>,
}

/// A fault on purpose, for simulations that have to notice it.
#[cfg(feature = "mutants")]
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitMutant {
    /// A dropped call keeps its permit.
    LeakOnCancel,
}

impl ConcurrencyLimitLayer {
    /// A limit with these settings. Deadlines and latencies are by the clock, and the timer has to
    /// run at the clock's pace.
    ///
    /// # Errors
    /// `Config`: a value out of its range, see [`LimitSettings::faults`].
    pub fn new(
        settings: LimitSettings,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
    ) -> Result<Self> {
        refused(&settings.faults())?;
        Ok(Self { gate: Arc::new(Gate::new(settings, clock, timer)) })
    }

    /// How it is now, and what it has counted since it was made.
    #[must_use]
    pub fn stats(&self) -> LimitStats {
        self.gate.stats()
    }

    /// Plants a fault, in all clones.
    #[cfg(feature = "mutants")]
    #[doc(hidden)]
    #[must_use]
    pub fn with_mutant(self, mutant: LimitMutant) -> Self {
        match mutant {
            LimitMutant::LeakOnCancel => self.gate.leak_on_cancel(),
        }
        self
    }
}

impl fmt::Debug for ConcurrencyLimitLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConcurrencyLimitLayer").field("stats", &self.stats()).finish()
    }
}

impl Policy for ConcurrencyLimitLayer {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        let permit = self.gate.enter(call).await?;
        let answer = send(call.attempt()).await;
        permit.finish(&answer);
        answer
    }

    /// Adds limit, calls in flight and queued, rejections and saturation to the details. Degraded
    /// while calls have been waiting for [`LimitSettings::saturated_after_ms`], unhealthy once it
    /// was told to close.
    fn health(&self, health: &mut Health) {
        let stats = self.stats();
        health.detail("concurrency.limit", stats.limit.to_string());
        health.detail("concurrency.in_flight", stats.in_flight.to_string());
        health.detail("concurrency.queued", stats.queued.to_string());
        health.detail("concurrency.rejected", stats.rejected().to_string());
        health.detail("concurrency.saturation", format!("{:.2}", stats.saturation));
        if stats.is_closed {
            health.lower(HealthStatus::Unhealthy, "it was told to close and refuses new calls");
        }
        if let Some(since) = stats.queue_for
            && since >= self.gate.saturated_after()
        {
            health.lower(
                HealthStatus::Degraded,
                format!(
                    "calls have been waiting for a permit for {} ms: the back end is saturated at \
                     {} calls at once",
                    since.as_millis(),
                    stats.limit
                ),
            );
        }
    }

    /// Shuts the gate for all parts and clones, waits until the queued and the running calls have
    /// ended, and runs `close`. Each part brings its own `close`; any number may wait at once, and
    /// again later.
    ///
    /// # Cancellation
    /// The gate stays shut, and the calls under way go on; the next `close` takes up the waiting.
    async fn close<A>(&self, close: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        self.gate.shut().await;
        close.await
    }
}

//! The door: takes permits, waits for them, gives them back, and closes.
//!
//! What a call holds, a place in the queue and then a permit, is a guard that gives it back when it
//! is dropped. Wakers run after the lock was released.

use std::future::poll_fn;
use std::pin::pin;
#[cfg(feature = "mutants")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use memory_core::{Clock, Deadline, Error, ErrorKind, Result, Timer};
use tokio::sync::Notify;

use super::settings::LimitSettings;
use super::signal::{Sign, class};
use super::state::{Entry, Leave, LimitStats, State, Wakes};
use crate::policy::Call;

pub(super) struct Gate {
    state: Mutex<State>,
    drained: Notify,
    settings: LimitSettings,
    clock: Arc<dyn Clock>,
    timer: Arc<dyn Timer>,
    #[cfg(feature = "mutants")]
    leaks: AtomicBool,
}

impl Gate {
    pub(super) fn new(
        settings: LimitSettings,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
    ) -> Self {
        let state = Mutex::new(State::new(&settings, clock.monotonic()));
        Self {
            state,
            drained: Notify::new(),
            settings,
            clock,
            timer,
            #[cfg(feature = "mutants")]
            leaks: AtomicBool::new(false),
        }
    }

    #[cfg(feature = "mutants")]
    pub(super) fn leak_on_cancel(&self) {
        self.leaks.store(true, Ordering::SeqCst);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; if something did, the counts would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, wakes: Wakes) {
        if wakes.drained {
            self.drained.notify_waiters();
        }
        wakes.wake();
    }

    pub(super) fn stats(&self) -> LimitStats {
        let now = self.clock.monotonic();
        self.state().stats(now)
    }

    /// For how long calls have to have been waiting before it counts as saturated.
    pub(super) fn saturated_after(&self) -> Duration {
        Duration::from_millis(self.settings.saturated_after_ms)
    }

    /// A permit for a call, at once or when its turn comes.
    ///
    /// # Errors
    /// `Overloaded`, `Timeout`, `Unavailable`: none was given, and nothing was sent.
    pub(super) async fn enter<'a>(&'a self, call: &Call<'_>) -> Result<Permit<'a>> {
        let now = self.clock.monotonic();
        let deadline = call.deadline();
        let (ticket, is_late) = {
            let mut state = self.state();
            match state.enter(now) {
                Entry::Admitted { epoch } => {
                    drop(state);
                    return Ok(self.permit(call, epoch, now));
                }
                Entry::Closed => {
                    drop(state);
                    return Err(self.refusal(call, Refusal::Closed));
                }
                Entry::Full => {
                    drop(state);
                    return Err(self.refusal(call, Refusal::Full));
                }
                Entry::Busy => {
                    let is_late = deadline.is_some_and(|by| by.remaining(now).is_zero());
                    if is_late {
                        state.count_timed_out();
                        (0, true)
                    } else {
                        (state.join(now), false)
                    }
                }
            }
        };
        if is_late {
            return Err(self.refusal(call, Refusal::Late));
        }
        let place = Place { gate: self, ticket, holds: true };
        let epoch = place.wait(call, deadline, now).await?;
        Ok(self.permit(call, epoch, self.clock.monotonic()))
    }

    fn permit(&self, call: &Call<'_>, epoch: u64, began: Duration) -> Permit<'_> {
        let class = class(call.operation, call.asked);
        Permit { gate: self, epoch, began, class, holds: true }
    }

    /// Refuses calls from now on, and returns when none is under way or waits.
    pub(super) async fn shut(&self) {
        self.state().shut();
        loop {
            let mut drained = pin!(self.drained.notified());
            // From here on a notification is kept, so that none falls between look and wait.
            drained.as_mut().enable();
            if self.state().is_idle() {
                return;
            }
            drained.await;
        }
    }

    #[cold]
    fn refusal(&self, call: &Call<'_>, why: Refusal) -> Error {
        let error = match why {
            Refusal::Full => Error::new(
                ErrorKind::Overloaded,
                "as many calls are under way as the back end takes, and the queue is full: make \
                 fewer calls at once, or try again when others have ended; `limit.queue` lets more \
                 wait",
            )
            .with_retryable(false),
            Refusal::Waited => Error::new(
                ErrorKind::Overloaded,
                "the call has waited for its turn for as long as `limit.queue_wait_ms` allows: make \
                 fewer calls at once, or try again when others have ended",
            )
            .with_retryable(false),
            Refusal::Late => Error::new(
                ErrorKind::Timeout,
                "the deadline passed while the call waited for its turn: allow more time, or make \
                 fewer calls at once",
            ),
            Refusal::Closed => Error::new(
                ErrorKind::Unavailable,
                "the back end was closed and takes no new calls: open it again",
            )
            .with_retryable(false),
        };
        error.with_backend(call.backend).with_operation(call.operation.name())
    }
}

/// Why no permit was given.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Full,
    Waited,
    Late,
    Closed,
}

/// A place in the queue.
struct Place<'a> {
    gate: &'a Gate,
    ticket: u64,
    /// Whether the place, or the permit that it became, is still to be given back.
    holds: bool,
}

impl Place<'_> {
    /// Waits for the permit; its epoch.
    async fn wait(
        mut self,
        call: &Call<'_>,
        deadline: Option<Deadline>,
        now: Duration,
    ) -> Result<u64> {
        let gate = self.gate;
        let left = deadline.map(|deadline| deadline.remaining(now));
        let longest = match gate.settings.queue_wait_ms {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        };
        let (span, why) = match (left, longest) {
            (Some(left), Some(longest)) if longest < left => (longest, Leave::WaitedOut),
            (Some(left), _) => (left, Leave::TimedOut),
            (None, Some(longest)) => (longest, Leave::WaitedOut),
            (None, None) => (Duration::MAX, Leave::WaitedOut),
        };
        let mut alarm = (span < Duration::MAX).then(|| gate.timer.sleep(span));
        let granted = poll_fn(|cx| {
            if let Some(epoch) = gate.state().poll(self.ticket, cx.waker()) {
                return Poll::Ready(Some(epoch));
            }
            match &mut alarm {
                Some(alarm) => alarm.as_mut().poll(cx).map(|()| None),
                None => Poll::Pending,
            }
        })
        .await;
        if let Some(epoch) = granted {
            self.holds = false;
            return Ok(epoch);
        }
        // The permit may have come since the look above: then the place is given back as one.
        let given_up = gate.state().give_up(self.ticket, why, gate.clock.monotonic());
        if let Some(wakes) = given_up {
            self.holds = false;
            gate.wake(wakes);
        }
        let why = if why == Leave::TimedOut { Refusal::Late } else { Refusal::Waited };
        Err(gate.refusal(call, why))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.holds {
            return;
        }
        let now = self.gate.clock.monotonic();
        let mut state = self.gate.state();
        let wakes = match state.give_up(self.ticket, Leave::Dropped, now) {
            Some(wakes) => wakes,
            None => {
                #[cfg(feature = "mutants")]
                if self.gate.leaks.load(Ordering::SeqCst) {
                    return;
                }
                // It had been given a permit that it never saw.
                state.leave(0, Sign::None, now)
            }
        };
        drop(state);
        self.gate.wake(wakes);
    }
}

/// The right of one call to be under way.
pub(super) struct Permit<'a> {
    gate: &'a Gate,
    epoch: u64,
    began: Duration,
    class: Option<usize>,
    /// Whether it is still to be given back.
    holds: bool,
}

impl Permit<'_> {
    /// The call has ended.
    pub(super) fn finish<T>(mut self, answer: &Result<T>) {
        let now = self.gate.clock.monotonic();
        let sign = match answer {
            Ok(_) => self.timed(now, |class, seconds| Sign::Served { class, seconds }),
            Err(error) => match error.kind() {
                ErrorKind::RateLimited | ErrorKind::Overloaded | ErrorKind::Unavailable => {
                    Sign::Refused
                }
                // The caller may have had little time: it counts by how long it took.
                ErrorKind::Timeout => {
                    self.timed(now, |class, seconds| Sign::GivenUp { class, seconds })
                }
                // Many of these never reached the back end.
                _ => Sign::None,
            },
        };
        self.give_back(sign, now);
    }

    fn timed(&self, now: Duration, sign: impl FnOnce(usize, f64) -> Sign) -> Sign {
        let seconds = now.saturating_sub(self.began).as_secs_f64();
        self.class.map_or(Sign::None, |class| sign(class, seconds))
    }

    fn give_back(&mut self, sign: Sign, now: Duration) {
        self.holds = false;
        let wakes = self.gate.state().leave(self.epoch, sign, now);
        self.gate.wake(wakes);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.holds {
            return;
        }
        #[cfg(feature = "mutants")]
        if self.gate.leaks.load(Ordering::SeqCst) {
            return;
        }
        let now = self.gate.clock.monotonic();
        let sign = self.timed(now, |class, seconds| Sign::GivenUp { class, seconds });
        self.give_back(sign, now);
    }
}

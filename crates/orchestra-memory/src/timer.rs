//! Waiting on a thread of its own, for calls that are made outside of any runtime.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use futures::channel::oneshot;
use memory_core::{Clock as _, Error, ErrorKind, Result, SystemClock, Timer};

/// Longest time that the thread waits at once. 1 h: any system's clock takes it.
const MOST_WAIT: Duration = Duration::from_secs(3_600);

/// A timer with one thread for all who wait; the thread ends with the timer.
#[derive(Debug)]
pub(crate) struct ThreadTimer {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    clock: SystemClock,
}

/// When somebody is to be woken; the number tells apart those of the same time.
type Place = (Duration, u64);

#[derive(Debug, Default)]
struct State {
    sleepers: BTreeMap<Place, oneshot::Sender<()>>,
    next: u64,
    ended: bool,
}

impl ThreadTimer {
    /// Starts the thread.
    ///
    /// # Errors
    /// `Unavailable`: no thread can be started.
    pub(crate) fn new() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new()
            .name("orchestra-timer".to_owned())
            .spawn(move || of_thread.run())
            .map_err(|error| {
                Error::new(ErrorKind::Unavailable, "no thread can be started").with_source(error)
            })?;
        Ok(Self { shared })
    }
}

/// The thread ends by itself, and nobody waits for it.
impl Drop for ThreadTimer {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        self.shared.changed.notify_all();
    }
}

#[async_trait]
impl Timer for ThreadTimer {
    async fn sleep(&self, span: Duration) {
        let (waker, woken) = oneshot::channel();
        let until = self.shared.clock.monotonic().saturating_add(span);
        let _sleeper = self.shared.enter(until, waker);
        // A timer that ends wakes everybody.
        let _ = woken.await;
    }
}

/// Somebody who waits; however the wait ends, nothing is kept of it.
struct Sleeper<'a> {
    shared: &'a Shared,
    place: Place,
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        self.shared.state().sleepers.remove(&self.place);
    }
}

impl Shared {
    /// Every change leaves the state whole, so that a panic elsewhere does.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, until: Duration, waker: oneshot::Sender<()>) -> Sleeper<'_> {
        let mut state = self.state();
        let place = (until, state.next);
        state.next += 1;
        state.sleepers.insert(place, waker);
        // The thread waits for the first of them already, unless this is it.
        if state.sleepers.first_key_value().is_some_and(|(first, _)| *first == place) {
            self.changed.notify_all();
        }
        Sleeper { shared: self, place }
    }

    fn run(&self) {
        let mut state = self.state();
        while !state.ended {
            let now = self.clock.monotonic();
            let wait = match state.sleepers.first_key_value() {
                Some(((until, _), _)) if *until <= now => {
                    let due = state.sleepers.pop_first();
                    // Without the lock: who is woken may end another wait at once.
                    drop(state);
                    if let Some((_, waker)) = due {
                        // Whoever slept may have gone.
                        let _ = waker.send(());
                    }
                    state = self.state();
                    continue;
                }
                Some(((until, _), _)) => until.saturating_sub(now).min(MOST_WAIT),
                None => MOST_WAIT,
            };
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let left = std::mem::take(&mut state.sleepers);
        drop(state);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;
    use futures::executor::block_on;
    use futures::future::{Either, join_all, select};

    use super::*;

    fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let clock = SystemClock::new();
        while !is_so() {
            assert!(clock.monotonic() < Duration::from_secs(20), "in time: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn everybody_is_woken_in_order_and_not_before_the_time() {
        let timer = ThreadTimer::new().unwrap();
        let clock = SystemClock::new();
        let span = Duration::from_millis(20);
        block_on(join_all((0..50).map(|_| timer.sleep(span))));
        assert!(clock.monotonic() >= span);
        let long = pin!(timer.sleep(Duration::from_secs(100_000)));
        let short = pin!(timer.sleep(Duration::from_millis(1)));
        assert!(matches!(block_on(select(long, short)), Either::Right(_)));
    }

    #[test]
    fn who_goes_leaves_nothing_and_the_end_of_the_timer_is_that_of_its_thread() {
        let timer = ThreadTimer::new().unwrap();
        let shared = Arc::downgrade(&timer.shared);
        let mut sleeps: Vec<_> =
            (0..100).map(|_| timer.sleep(Duration::from_secs(100_000))).collect();
        for sleep in &mut sleeps {
            assert!(sleep.now_or_never().is_none());
        }
        assert_eq!(timer.shared.state().sleepers.len(), 100);
        drop(sleeps);
        assert!(timer.shared.state().sleepers.is_empty());
        drop(timer);
        eventually("the thread has ended", || shared.strong_count() == 0);
    }
}

//! Waiting until the background has nothing to do.
//!
//! No runtime is assumed that could measure the time: one thread tells all those whose time is up,
//! and ends when nobody waits any more.

use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use memory_core::{Error, ErrorKind, Result};

use super::queue::State;
use super::{Background, Shared};

/// Longest time that the thread waits at once. 1 h: any system's clock takes it.
const MOST_WAIT: Duration = Duration::from_secs(3_600);

/// Why somebody waits no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Idle,
    Closed,
    /// The time is up.
    Late,
}

/// Somebody who waits.
#[derive(Debug)]
pub(super) struct Waiter {
    until: Duration,
    tell: oneshot::Sender<Told>,
}

impl State {
    fn told(&self) -> Option<Told> {
        match (self.stopping, self.is_idle()) {
            (true, _) => Some(Told::Closed),
            (false, true) => Some(Told::Idle),
            (false, false) => None,
        }
    }

    /// Tells all who wait, if there is something to tell.
    pub(super) fn tell_waiters(&mut self) {
        if let Some(told) = self.told() {
            for waiter in self.waiters.drain(..) {
                // Whoever asked may have gone.
                let _ = waiter.tell.send(told);
            }
        }
    }

    /// Tells those whose time is up, forgets those who have gone, and says when it is up next.
    fn tell_late(&mut self, now: Duration) -> Option<Duration> {
        self.waiters.retain(|waiter| !waiter.tell.is_canceled());
        for waiter in self.waiters.extract_if(.., |waiter| waiter.until <= now) {
            let _ = waiter.tell.send(Told::Late);
        }
        self.waiters.iter().map(|waiter| waiter.until).min()
    }
}

impl Background {
    /// Waits until nothing is left to do, `most` at the longest.
    ///
    /// # Errors
    /// `Timeout`: something is. `Unavailable`: the memory is closed, or no thread that measures the
    /// time can be started.
    pub(crate) async fn idle(&self, most: Duration) -> Result<()> {
        let told = match self.shared.wait(most)? {
            Ok(told) => told,
            Err(mut wait) => match &mut wait.told {
                Some(told) => told.await.unwrap_or(Told::Closed),
                None => Told::Closed,
            },
        };
        match told {
            Told::Idle => Ok(()),
            Told::Closed => Err(unavailable("the memory is closed")),
            Told::Late => Err(Error::new(
                ErrorKind::Timeout,
                format!("vectors are still being made for {} tenants", self.waiting()),
            )
            .with_operation("embedding_idle")),
        }
    }
}

/// A wait; its end, however it comes, is the end of what was kept for it.
struct Wait {
    shared: Arc<Shared>,
    told: Option<oneshot::Receiver<Told>>,
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Under the lock, so that the thread either sees it gone or is woken.
        let state = self.shared.state();
        self.told = None;
        self.shared.changed.notify_all();
        drop(state);
    }
}

impl Shared {
    /// What there is to tell now, or else a wait.
    fn wait(self: &Arc<Self>, most: Duration) -> Result<Result<Told, Wait>> {
        let mut state = self.state();
        if let Some(told) = state.told() {
            return Ok(Ok(told));
        }
        if most.is_zero() {
            return Ok(Ok(Told::Late));
        }
        if !state.timing {
            let shared = Arc::clone(self);
            thread::Builder::new()
                .name("orchestra-embed-idle".to_owned())
                .spawn(move || shared.time())
                .map_err(|error| unavailable("no thread can be started").with_source(error))?;
            state.timing = true;
        }
        let (tell, told) = oneshot::channel();
        state.waiters.push(Waiter { until: self.now().saturating_add(most), tell });
        // The thread may wait for somebody who has more time.
        self.changed.notify_all();
        Ok(Err(Wait { shared: Arc::clone(self), told: Some(told) }))
    }

    /// The thread that measures the time.
    fn time(&self) {
        let mut state = self.state();
        loop {
            let now = self.now();
            let Some(next) = state.tell_late(now) else { break };
            let wait = next.saturating_sub(now).min(MOST_WAIT);
            let waited = self.changed.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.timing = false;
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_operation("embedding_idle")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::executor::block_on;
    use memory_core::{Clock as _, SystemClock, TenantId};

    use super::super::Queued;
    use super::*;

    /// Longer than any test runs.
    const LONG: Duration = Duration::from_secs(100_000);

    /// Something is to be done, and nobody does it.
    fn busy() -> Background {
        let background = Background::default();
        let tenant = TenantId::new("t").unwrap();
        background.shared.state().queue(tenant, Queued::All, Duration::ZERO);
        background
    }

    fn eventually(what: &str, is_so: impl Fn() -> bool) {
        let clock = SystemClock::new();
        while !is_so() {
            assert!(clock.monotonic() < Duration::from_secs(20), "in time: {what}");
            thread::yield_now();
        }
    }

    #[test]
    fn a_wait_that_is_dropped_leaves_nothing() {
        let background = busy();
        let mut waits: Vec<_> = (0..100).map(|_| Box::pin(background.idle(LONG))).collect();
        for wait in &mut waits {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        assert_eq!(background.shared.state().waiters.len(), 100);
        // The background holds it, each wait, and one thread for all.
        assert_eq!(Arc::strong_count(&background.shared), 1 + 100 + 1);
        waits.truncate(1);
        eventually("those who have gone are forgotten", || {
            background.shared.state().waiters.len() == 1
        });
        assert!(background.shared.state().timing);
        drop(waits);
        eventually("the thread has ended", || Arc::strong_count(&background.shared) == 1);
        let state = background.shared.state();
        assert!(state.waiters.is_empty() && !state.timing);
    }

    #[test]
    fn whoever_waits_is_told_in_time_of_an_end_and_of_a_close() {
        let background = busy();
        let short = background.idle(Duration::from_millis(5));
        let mut long = Box::pin(background.idle(LONG));
        assert!(long.as_mut().now_or_never().is_none());
        assert_eq!(block_on(short).unwrap_err().kind(), ErrorKind::Timeout);
        let none = background.idle(Duration::ZERO).now_or_never().unwrap();
        assert_eq!(none.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(long.as_mut().now_or_never().is_none());
        {
            let mut state = background.shared.state();
            state.clear();
            state.tell_waiters();
        }
        block_on(long).unwrap();
        eventually("the thread has ended", || Arc::strong_count(&background.shared) == 1);
        background.idle(LONG).now_or_never().unwrap().unwrap();

        let background = busy();
        let mut long = Box::pin(background.idle(LONG));
        assert!(long.as_mut().now_or_never().is_none());
        block_on(background.stop());
        assert_eq!(block_on(long).unwrap_err().kind(), ErrorKind::Unavailable);
        eventually("the thread has ended", || Arc::strong_count(&background.shared) == 1);
    }
}

//! Time and randomness as injected components.
//!
//! Everything in the workspace that needs the time or a new id takes one of these traits.
//! The two implementations that ask the machine stand here and nowhere else.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::ids::{CommitId, MemoryId};
use crate::time::Timestamp;

/// The time of day and a steady time for deadlines.
pub trait Clock: Send + Sync + Debug {
    /// The current time.
    fn now(&self) -> Timestamp;
    /// A time that never goes back, from an arbitrary origin of this clock.
    fn monotonic(&self) -> Duration;
}

/// Waiting, by the same clock that deadlines use.
#[async_trait]
pub trait Timer: Send + Sync + Debug {
    /// Returns after `span` of the clock's monotonic time.
    ///
    /// # Cancellation
    /// Dropping the future ends the wait and leaves nothing behind.
    async fn sleep(&self, span: Duration);
}

/// The source of new ids: random, not monotonic, for sequential keys make hot spots.
pub trait IdSource: Send + Sync + Debug {
    /// A new memory id, 122 random bits or more.
    fn memory_id(&self) -> MemoryId;
    /// A new commit id.
    fn commit_id(&self) -> CommitId;
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    origin: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one clock that asks the machine")]
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock that asks the machine")]
    fn now(&self) -> Timestamp {
        // A machine whose clock stands before 1970 or after 9999 gets the nearest end.
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(micros).unwrap_or(Timestamp::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// Random version 4 UUIDs from the machine's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one id source that asks the machine"
    )]
    #[expect(clippy::expect_used, reason = "a UUID's text always passes the id rules")]
    fn memory_id(&self) -> MemoryId {
        MemoryId::new(uuid::Uuid::new_v4().to_string()).expect("a UUID is a valid id")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the one id source that asks the machine"
    )]
    fn commit_id(&self) -> CommitId {
        CommitId::from_bytes(*uuid::Uuid::new_v4().as_bytes())
    }
}

#[cfg(feature = "mock")]
pub use manual::{ManualClock, SequentialIds};

#[cfg(feature = "mock")]
mod manual {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Clock, IdSource};
    use crate::ids::{CommitId, MemoryId};
    use crate::time::Timestamp;

    /// A clock that stands still until it is told to move.
    #[derive(Debug)]
    pub struct ManualClock {
        micros: AtomicI64,
        origin: i64,
    }

    impl ManualClock {
        /// A clock that shows `start`.
        #[must_use]
        pub fn new(start: Timestamp) -> Self {
            Self { micros: AtomicI64::new(start.as_micros()), origin: start.as_micros() }
        }

        /// Moves on by `span`.
        pub fn advance(&self, span: Duration) {
            let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
            let _ = self.micros.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                Some(now.saturating_add(span).min(Timestamp::MAX.as_micros()))
            });
        }

        /// Shows `time` from now on, which may lie in the past.
        pub fn set(&self, time: Timestamp) {
            self.micros.store(time.as_micros(), Ordering::SeqCst);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(self.micros.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
        }

        fn monotonic(&self) -> Duration {
            let passed = self.micros.load(Ordering::SeqCst).saturating_sub(self.origin);
            Duration::from_micros(u64::try_from(passed).unwrap_or(0))
        }
    }

    /// Ids that count up, so that a test can be repeated.
    #[derive(Debug, Default)]
    pub struct SequentialIds {
        next: AtomicU64,
    }

    impl IdSource for SequentialIds {
        #[expect(clippy::expect_used, reason = "a formatted number always passes the id rules")]
        fn memory_id(&self) -> MemoryId {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            MemoryId::new(format!("id-{number:08}")).expect("a number is a valid id")
        }

        fn commit_id(&self) -> CommitId {
            let number = u128::from(self.next.fetch_add(1, Ordering::SeqCst));
            CommitId::from_bytes(number.to_be_bytes())
        }
    }
}

//! Time and chance of a simulation: the runtime's paused time, and ids from a seed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{Clock, CommitId, IdSource, MemoryId, Timer, Timestamp};
use tokio::time::Instant;

use crate::conformance::start;
use crate::generators::Generator;

/// The paused time of the runtime that it was made in, from zero. It moves only while every task
/// waits, and then to the next timer.
#[derive(Debug)]
pub struct SimClock {
    origin: Instant,
}

impl SimClock {
    /// A clock that shows [`start`] now. To be made within the runtime whose time it shows.
    #[must_use]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        start().saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

#[async_trait]
impl Timer for SimClock {
    async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }
}

/// Ids that a seed gives.
#[derive(Debug)]
pub struct SimIds {
    random: Mutex<Generator>,
}

impl SimIds {
    /// The ids of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { random: Mutex::new(Generator::new(seed)) }
    }

    fn bits(&self) -> u128 {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        u128::from(random.bits()) << 64 | u128::from(random.bits())
    }
}

impl IdSource for SimIds {
    #[expect(clippy::expect_used, reason = "a formatted number always passes the id rules")]
    fn memory_id(&self) -> MemoryId {
        MemoryId::new(format!("{:032x}", self.bits())).expect("a number is a valid id")
    }

    fn commit_id(&self) -> CommitId {
        CommitId::from_bytes(self.bits().to_be_bytes())
    }
}

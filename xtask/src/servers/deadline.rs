//! A time to be done by.

use std::time::{Duration, Instant};

/// A time to be done by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// So long from now on.
    #[expect(clippy::disallowed_methods, reason = "the processes of the machine run on its clock")]
    pub(crate) fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it is over.
    #[expect(clippy::disallowed_methods, reason = "the processes of the machine run on its clock")]
    pub(crate) fn passed(&self) -> bool {
        Instant::now() >= self.0
    }
}

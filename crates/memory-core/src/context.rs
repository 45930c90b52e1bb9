//! What every call carries besides its arguments.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::ids::TenantId;
use crate::traits::FencingToken;

/// The instant by which a call must have ended, on its clock's monotonic time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// A deadline at a monotonic time, as [`crate::Clock::monotonic`] shows it.
    #[must_use]
    pub fn at(monotonic: Duration) -> Self {
        Self(monotonic)
    }

    /// What is left at `monotonic`; zero when it has passed.
    #[must_use]
    pub fn remaining(self, monotonic: Duration) -> Duration {
        self.0.saturating_sub(monotonic)
    }
}

/// The tenant of a call, its deadline, and the fence it must not cross.
///
/// Only a tenant handle makes one, and it names exactly one tenant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallContext {
    /// Whose data.
    pub tenant: TenantId,
    /// By when. A store checks it before it starts and where it waits; a commit that has been
    /// queued is not taken back.
    pub deadline: Option<Deadline>,
    /// A write with a fencing token older than the tenant's write fence is refused with
    /// `Conflict`; without a fence set, and for reads, it is ignored.
    pub fence: Option<FencingToken>,
}

impl CallContext {
    /// A call without deadline and fence.
    #[must_use]
    pub fn new(tenant: TenantId) -> Self {
        Self { tenant, deadline: None, fence: None }
    }

    /// Sets the deadline.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Option<Deadline>) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the fencing token.
    #[must_use]
    pub fn with_fence(mut self, fence: Option<FencingToken>) -> Self {
        self.fence = fence;
        self
    }

    /// Fails when the deadline has passed at `monotonic`.
    ///
    /// # Errors
    /// `Timeout`, known not to have taken effect.
    pub fn check_deadline(&self, monotonic: Duration) -> Result<()> {
        match self.deadline {
            Some(deadline) if deadline.remaining(monotonic).is_zero() => {
                Err(Error::new(ErrorKind::Timeout, "the deadline had passed before the call began"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_past_at_its_own_instant() {
        let context = CallContext::new(TenantId::new("t").unwrap())
            .with_deadline(Some(Deadline::at(Duration::from_secs(5))));
        assert!(context.check_deadline(Duration::from_secs(4)).is_ok());
        let error = context.check_deadline(Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}

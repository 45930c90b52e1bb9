//! What operations cost the back end.

use std::fmt::Debug;

use crate::error::Result;

/// What one operation cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Records read.
    pub reads: u64,
    /// Records written.
    pub writes: u64,
    /// Records deleted.
    pub deletes: u64,
    /// Index entries read, where the back end bills them.
    pub index_entries: u64,
    /// Bytes of content, payload, metadata and vectors sent or received.
    pub bytes: u64,
}

impl Usage {
    /// Usage of some reads.
    #[must_use]
    pub fn reads(count: u64) -> Self {
        Self { reads: count, ..Self::default() }
    }

    /// Usage of some writes and deletes.
    #[must_use]
    pub fn writes(writes: u64, deletes: u64) -> Self {
        Self { writes, deletes, ..Self::default() }
    }

    /// Adds bytes.
    #[must_use]
    pub fn with_bytes(mut self, bytes: u64) -> Self {
        self.bytes = bytes;
        self
    }
}

/// The book that back ends write their usage into: cheap, never blocks.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Ledger: Send + Sync + Debug {
    /// Whether one more operation may be sent: a back end that bills asks before each request.
    ///
    /// # Errors
    /// `RateLimited`, not retryable: a budget is spent. The message names it and `retry_after` says
    /// when it begins anew.
    fn admit(&self, backend: &'static str, operation: &'static str) -> Result<()>;

    /// Notes what one operation cost. Never fails.
    fn record(&self, backend: &'static str, operation: &'static str, usage: Usage);
}

/// A ledger that keeps nothing and admits everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLedger;

impl Ledger for NoLedger {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        Ok(())
    }

    fn record(&self, _backend: &'static str, _operation: &'static str, _usage: Usage) {}
}

//! Many writes, each by itself.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::commit::{Write, WriteResult};
use crate::context::CallContext;
use crate::error::Result;
use crate::ids::CommitId;

/// How far a bulk write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BulkProgress {
    /// Writes that have an answer, of any kind.
    pub done: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// All writes of the call.
    pub total: u64,
}

/// Told how far a bulk write has come, after each request that was answered.
pub trait BulkObserver: Send + Sync {
    /// Takes note. Quick: the writer waits for it.
    fn progress(&self, progress: BulkProgress);
}

/// An observer that takes no note.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl BulkObserver for NoObserver {
    fn progress(&self, _progress: BulkProgress) {}
}

/// Writes of distinct ids that stand on their own: for loads that are too large for one commit and
/// need not happen together. A back end has it where it is quicker than a row of commits.
#[async_trait]
pub trait BulkWriter: Send + Sync + Debug {
    /// Does each write as [`crate::traits::RecordStore::commit`] would do it alone: one answer for
    /// each, in order. One that fails takes no other with it.
    ///
    /// - Idempotence: all writes carry the commit id; with `resend` each recognises its own work as
    ///   a commit does.
    /// - Deadline: what has not been sent by then is answered with `Timeout`, not applied; what is
    ///   under way then has an unknown outcome.
    /// - Cancellation: dropping the future sends nothing more. Requests under way may still happen,
    ///   each whole.
    ///
    /// # Errors
    /// `InvalidInput`: two writes of one id. `Unavailable`: the store is closed. Everything else is
    /// the answer of the write that met it.
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>>;
}

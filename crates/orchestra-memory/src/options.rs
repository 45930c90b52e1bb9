//! How writes and erasures are done: option structs with documented defaults.

use std::time::Duration;

use memory_core::{MemoryId, Revision};

use crate::notify::{Callback, CancelFlag};
use crate::report::{AddManyReport, EmbedReport, EraseProgress};

/// What an add does when a visible memory has the id already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// It fails with `AlreadyExists`: nothing is overwritten by accident.
    #[default]
    Fail,
    /// The memory that is there stays.
    Skip,
    /// The new memory takes its place, whole: nothing of the old one stays.
    Replace,
}

/// How one memory is added.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AddOptions {
    /// What happens when the id is taken.
    pub on_conflict: OnConflict,
    /// A caller's own key for this request: a repetition within 24 hours under the same key gives
    /// the first answer and adds nothing; another request under it is `InvalidInput`.
    pub idempotency_key: Option<String>,
    /// How long the call may take. When `None`, as long as its tenant handle allows.
    pub timeout: Option<Duration>,
}

impl AddOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what happens when the id is taken.
    #[must_use]
    pub fn with_on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Bounds the time of the call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// How many memories are added.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct AddManyOptions {
    /// Memories of one commit, 1 to 1,000; when `None`, the setting `write.batch_size` (500), or,
    /// where the store has a way of its own for many writes and no vectors are made with them,
    /// `write.bulk_batch_size` (2,000).
    /// A larger batch has fewer commits, a smaller one shorter waits for other writers, sooner
    /// cancellation and less to do again after a failure.
    pub batch_size: Option<usize>,
    /// What happens when an id is taken.
    pub on_conflict: OnConflict,
    /// Whether [`AddManyReport::ids`] is filled.
    pub collect_ids: bool,
    /// Told after each batch.
    pub progress: Option<Callback<AddManyReport>>,
    /// Looked at before each batch.
    pub cancel: Option<CancelFlag>,
    /// How long each batch may take. When `None`, as long as the tenant handle allows.
    pub timeout: Option<Duration>,
}

impl AddManyOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many memories one commit has.
    #[must_use]
    pub fn with_batch_size(mut self, memories: usize) -> Self {
        self.batch_size = Some(memories);
        self
    }

    /// Sets what happens when an id is taken.
    #[must_use]
    pub fn with_on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Asks for the ids, in order.
    #[must_use]
    pub fn with_ids(mut self) -> Self {
        self.collect_ids = true;
        self
    }

    /// Sets what is told after each batch.
    #[must_use]
    pub fn with_progress(mut self, progress: Callback<AddManyReport>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the flag that stops the call before the next batch.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelFlag) -> Self {
        self.cancel = Some(cancel);
        self
    }

    /// Bounds the time of each batch.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// How a memory is updated.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct UpdateOptions {
    /// The update happens only to this revision; another gives `Conflict`. When `None`, the patch
    /// goes onto whatever is there, and is tried again when somebody else writes in between.
    pub if_revision: Option<Revision>,
    /// How long the call may take. When `None`, as long as its tenant handle allows.
    pub timeout: Option<Duration>,
}

impl UpdateOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the precondition.
    #[must_use]
    pub fn with_if_revision(mut self, revision: Revision) -> Self {
        self.if_revision = Some(revision);
        self
    }

    /// Bounds the time of the call.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// How a long removal is watched. It needs no flag that stops it: a future that is dropped stops
/// it after its step, and a new call finishes it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EraseOptions {
    /// Told after each step.
    pub progress: Option<Callback<EraseProgress>>,
}

impl EraseOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is told after each step.
    #[must_use]
    pub fn with_progress(mut self, progress: Callback<EraseProgress>) -> Self {
        self.progress = Some(progress);
        self
    }
}

/// How missing vectors are made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// Memories of one step, 1 to 1,000; when `None`, as many as one call of the embedder has: the
    /// setting `embedding.batch_size`, or what the embedder takes at once, at most 256.
    pub batch_size: Option<usize>,
    /// Told after each step.
    pub progress: Option<Callback<EmbedReport>>,
    /// Looked at before each step. The one whose vectors are made by then is stored.
    pub cancel: Option<CancelFlag>,
}

impl EmbedOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many memories one step has.
    #[must_use]
    pub fn with_batch_size(mut self, memories: usize) -> Self {
        self.batch_size = Some(memories);
        self
    }

    /// Sets what is told after each step.
    #[must_use]
    pub fn with_progress(mut self, progress: Callback<EmbedReport>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the flag that stops the call after the step at hand.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelFlag) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

/// What became of one memory of many.
#[derive(Debug)]
pub(crate) enum ItemOutcome {
    Added(MemoryId),
    Replaced(MemoryId),
    /// Another memory has the id and stays.
    Skipped(MemoryId),
    /// The same text is there under the id already.
    Unchanged(MemoryId),
    /// It was erased here, and stays so.
    Erased(MemoryId),
    Failed(memory_core::Error),
    /// The batch stopped before it.
    NotReached,
}

//! One batch of new memories: a bad one does not take others with it.
//!
//! Each memory is checked by itself; what is left is one commit. If that is refused because an id
//! is taken, the taken ones are found with one read and what is left is sent again, so that a
//! batch of new memories costs no read. If it is refused for what an item is, it is halved until
//! the bad items stand alone. A fault of the store stops the batch: sending it again in halves
//! would only add load. Where the store has a way of its own for many writes, each memory is
//! written by itself, and nothing is halved.
//!
//! A batch has two steps, so that one batch can be prepared while the one before is written:
//! preparing checks, and embeds what has no vector; writing sends. Where texts are embedded, taken
//! ids are looked for first, so that nothing is embedded that is there already.
//!
//! | file | what it holds |
//! |---|---|
//! | `bulk` | each memory by itself |
//! | `driver` | one batch after the other, or one ahead of the other |
//! | `embed` | the vectors of a batch |
//! | `prepare` | what is checked before anything is sent |
//! | `ready` | a memory that passed, as it goes into commits |
//! | `space` | the space of a batch's vectors |
//! | `write` | commits, in halves where they are refused |

mod bulk;
mod driver;
mod embed;
mod prepare;
mod ready;
mod space;
mod write;

use std::time::Duration;

use memory_core::{ContentHash, Error, ErrorKind, MemoryId};

use super::TenantMemory;
use crate::new_memory::NewMemory;
use crate::options::{ItemOutcome, OnConflict};
use crate::report::VectorState;
pub(crate) use driver::BatchFeed;
use ready::Ready;
use space::BatchSpace;

/// How a batch treats ids that are known already.
#[derive(Clone, Debug)]
pub(crate) struct BatchPolicy {
    pub(crate) on_conflict: OnConflict,
    /// Whether a memory whose id is there with the same text counts as unchanged and no conflict,
    /// so that what was interrupted can be done again.
    pub(crate) same_is_unchanged: bool,
    /// Whether ids that were erased here stay erased.
    pub(crate) keep_erased: bool,
    pub(crate) timeout: Option<Duration>,
}

impl BatchPolicy {
    pub(crate) fn plain(on_conflict: OnConflict, timeout: Option<Duration>) -> Self {
        Self { on_conflict, same_is_unchanged: false, keep_erased: false, timeout }
    }
}

/// What a batch did.
#[derive(Debug)]
pub(crate) struct BatchResult {
    /// One for each memory, in order.
    pub(crate) outcomes: Vec<ItemOutcome>,
    /// The fault that ended it.
    pub(crate) stopped: Option<Error>,
    /// Memories written whose vector was to be made and was not.
    pub(crate) without_vector: u64,
    /// Why the first of those has none.
    pub(crate) reason: Option<Error>,
}

impl BatchResult {
    fn of(memories: usize) -> Self {
        Self {
            outcomes: (0..memories).map(|_| ItemOutcome::NotReached).collect(),
            stopped: None,
            without_vector: 0,
            reason: None,
        }
    }

    /// Takes in a memory that was written.
    fn written(&mut self, ready: &Ready, outcome: ItemOutcome) {
        if matches!(ready.state, VectorState::Missing | VectorState::Aside) {
            self.without_vector += 1;
        }
        self.outcomes[ready.place] = outcome;
    }

    /// Takes in a memory that was refused for what it is.
    fn fail(&mut self, ready: &Ready, error: Error) {
        self.outcomes[ready.place] = ItemOutcome::Failed(error);
    }

    /// Keeps why a vector is not made; the first reason stays.
    fn note(&mut self, reason: Error) {
        self.reason.get_or_insert(reason);
    }
}

/// A batch that is ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    ready: Vec<Ready>,
    space: BatchSpace,
    result: BatchResult,
    /// How much of the batch's time it took.
    spent: Duration,
}

impl Prepared {
    /// How many memories it has, the bad ones included.
    pub(crate) fn len(&self) -> usize {
        self.result.outcomes.len()
    }
}

impl TenantMemory {
    /// Adds a batch of memories, as many as the caller put into one.
    async fn add_batch(&self, memories: Vec<NewMemory>, policy: &BatchPolicy) -> BatchResult {
        let prepared = self.prepare_batch(memories, policy).await;
        self.write_batch(prepared, policy).await
    }
}

/// What becomes of a memory whose id is taken by one with this text.
fn conflict(
    id: MemoryId,
    hash: ContentHash,
    taken_by: Option<ContentHash>,
    policy: &BatchPolicy,
) -> ItemOutcome {
    if policy.same_is_unchanged && taken_by == Some(hash) {
        return ItemOutcome::Unchanged(id);
    }
    match policy.on_conflict {
        OnConflict::Skip => ItemOutcome::Skipped(id),
        OnConflict::Fail | OnConflict::Replace => ItemOutcome::Failed(
            Error::new(ErrorKind::AlreadyExists, "another memory has the id")
                .with_operation("add")
                .with_context("id", id.to_string()),
        ),
    }
}

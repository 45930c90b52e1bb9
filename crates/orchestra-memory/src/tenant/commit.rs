//! Sending a commit, and once more when its outcome is unknown, or when a vector's space was one
//! that the tenant no longer has.

use memory_core::{
    CallContext, Commit, CommitReceipt, EmbeddingSpace, Error, ErrorKind, IdempotencyKey,
    MemoryItem, Outcome, Precondition, Result, Vectors, Write,
};

use super::TenantMemory;
use crate::patch::Change;

/// Why a commit did not succeed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    /// Whether it had been sent twice: a conflict then says that a later writer may have covered
    /// what it did, and nothing may be built on having lost.
    pub(super) resent: bool,
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

impl Refused {
    /// Whether the store refused for what was written, which may be the space that a vector was
    /// given. After a resend the first attempt may have succeeded, and nothing is built on it.
    pub(super) fn may_be_the_space(&self) -> bool {
        !self.resent && self.error.kind() == ErrorKind::InvalidInput
    }
}

/// A put of one item.
pub(super) struct OnePut<'a> {
    pub(super) item: &'a MemoryItem,
    /// What becomes of its vector of the active space; the others go with it.
    pub(super) vector: &'a Change<Vec<f32>>,
    pub(super) precondition: Precondition,
    pub(super) key: Option<IdempotencyKey>,
}

impl TenantMemory {
    /// Sends a put, and once more if it was refused and its vector's space was one that the
    /// tenant no longer has.
    ///
    /// # Errors
    /// The outer error: no space for the vector. The inner one: the store refused.
    pub(super) async fn put(
        &self,
        context: &CallContext,
        put: OnePut<'_>,
    ) -> Result<Result<CommitReceipt, Refused>> {
        let commit = |vectors| {
            let write = Write::put(put.item.clone(), vectors, put.precondition.clone());
            Commit::new(self.inner().ids.commit_id(), vec![write]).with_idempotency(put.key.clone())
        };
        let vector = match put.vector {
            Change::Set(vector) => vector,
            // The store drops the vectors itself if the text is another one.
            Change::Keep => return Ok(self.send(context, commit(Vectors::Keep)).await),
            Change::Clear => return Ok(self.send(context, commit(Vectors::default())).await),
        };
        let vectors =
            |space: &EmbeddingSpace| Vectors::Replace([(space.id(), vector.clone())].into());
        let known = self.space_for(context, vector).await?;
        match self.send(context, commit(vectors(&known.space))).await {
            Err(refused) if known.remembered && refused.may_be_the_space() => {
                let (_, active) = self.read_spaces(context).await?;
                if active.as_ref() == Some(&known.space) {
                    return Ok(Err(refused));
                }
                // Where the tenant has none any more, the same one may be declared again.
                let now = self.space_now(context, vector).await?;
                Ok(self.send(context, commit(vectors(&now))).await)
            }
            other => Ok(other),
        }
    }

    /// Sends a commit. If its outcome is unknown, it is sent once more under the same id, so that
    /// the store can recognise its own work. What is unknown after that is reported as unknown.
    pub(super) async fn send(
        &self,
        context: &CallContext,
        commit: Commit,
    ) -> Result<CommitReceipt, Refused> {
        let records = &self.inner().backend.records;
        let error = match records.commit(context, commit.clone()).await {
            Ok(receipt) => return Ok(receipt),
            Err(error) => error,
        };
        if error.outcome() == Outcome::NotApplied {
            return Err(Refused { error, resent: false });
        }
        match records.commit(context, commit.resent()).await {
            Ok(receipt) => Ok(receipt),
            Err(error) => {
                let error = error.with_context("sent", "twice");
                // The store looked and decided only where it names a precondition; any other
                // failure of the second attempt says nothing about the first.
                let decided = matches!(
                    error.kind(),
                    ErrorKind::AlreadyExists | ErrorKind::NotFound | ErrorKind::InvalidInput
                );
                let error = if decided { error } else { error.with_unknown_outcome() };
                Err(Refused { error, resent: true })
            }
        }
    }
}

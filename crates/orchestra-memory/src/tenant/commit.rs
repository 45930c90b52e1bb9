//! Sending a commit, and once more when its outcome is unknown, or when a vector's space was one
//! that the tenant no longer has.

use std::collections::BTreeSet;

use memory_core::{
    CallContext, Commit, CommitReceipt, EmbeddingSpace, Error, ErrorKind, IdempotencyKey, MemoryId,
    MemoryItem, Outcome, Precondition, Result, Revision, Vectors, Write,
};

use super::TenantMemory;
use super::search::is_bare;
use super::spaces::KnownSpace;
use super::vectors::{Made, Stance};

/// Why a commit did not succeed.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) error: Error,
    /// Whether it had been sent more than once, an earlier time with an unknown outcome: a conflict then says that a later writer may have covered
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

/// What becomes of an item's vector of the active space; the others go with it.
#[derive(Clone, Debug)]
pub(super) enum PutVector {
    /// It stays while the text does; the store drops it itself if the text is another one.
    Keep,
    /// It has none afterwards.
    Clear,
    /// It has the caller's.
    Supplied(Vec<f32>),
    /// It has one that the embedder made, which belongs to the embedder's space and no other.
    Made(Vec<f32>),
}

/// A put of one item.
pub(super) struct OnePut<'a> {
    pub(super) item: &'a MemoryItem,
    pub(super) vector: &'a PutVector,
    pub(super) precondition: Precondition,
    pub(super) key: Option<IdempotencyKey>,
}

/// A put that was done.
#[derive(Debug)]
pub(super) struct PutDone {
    pub(super) receipt: CommitReceipt,
    /// Why the vector that had been made was left out, if it was: the tenant's space is the
    /// caller's by now.
    pub(super) aside: Option<Made>,
}

/// Memories that are being written, and whose vectors the background makes.
///
/// They are queued when this goes, also where nobody waits for the answer any more or none came:
/// what was not written is passed over.
#[derive(Debug)]
pub(super) struct LeftLater<'a> {
    tenant: &'a TenantMemory,
    ids: BTreeSet<MemoryId>,
    /// Whether the store has said what became of them.
    known: bool,
}

impl LeftLater<'_> {
    /// Takes in what an attempt came to.
    pub(super) fn learn<T>(&mut self, sent: &Result<T, Refused>) {
        let unknown = |refused: &Refused| refused.error.outcome() == Outcome::Unknown;
        self.known = !sent.as_ref().is_err_and(unknown);
        if sent.as_ref().is_err_and(|refused| refused.error.outcome() == Outcome::NotApplied) {
            self.ids.clear();
        }
    }

    /// Takes in whether the store has said of each what became of it.
    pub(super) fn settle(&mut self, known: bool) {
        self.known = known;
    }

    /// One that is another memory than was sent, under an idempotency key.
    pub(super) fn add(&mut self, id: MemoryId) {
        self.ids.insert(id);
    }

    /// One that is not there any more.
    pub(super) fn remove(&mut self, id: &MemoryId) {
        self.ids.remove(id);
    }
}

impl Drop for LeftLater<'_> {
    fn drop(&mut self) {
        if !self.known && !self.ids.is_empty() {
            // The commit may still wait for its turn, and then nothing is found of it yet.
            self.tenant.queue_unsure();
            return;
        }
        self.tenant.queue_later(std::mem::take(&mut self.ids));
    }
}

impl TenantMemory {
    /// Held while memories are written whose vectors are made later.
    pub(super) fn left_later(&self, ids: impl IntoIterator<Item = MemoryId>) -> LeftLater<'_> {
        LeftLater { tenant: self, ids: ids.into_iter().collect(), known: false }
    }

    /// The answer that the store keeps under an idempotency key. `None`: no request under the key
    /// was done within 24 hours.
    ///
    /// The key comes before every precondition, so a commit that could not succeed by itself is
    /// answered by the key alone.
    ///
    /// # Errors
    /// `InvalidInput`: the key stands for another request. `Conflict`: no commit under the key can
    /// succeed. Any other: it is not known.
    pub(super) async fn replay(
        &self,
        context: &CallContext,
        key: IdempotencyKey,
    ) -> Result<Option<CommitReceipt>> {
        // No memory has a random id, or this revision.
        let never = Precondition::Revision(Revision::new("never")?);
        let write = Write::delete(self.inner().ids.memory_id(), never);
        let commit = Commit::new(self.inner().ids.commit_id(), vec![write]);
        let commit = commit.with_idempotency(Some(key));
        // Sent once: a delete that is sent again and finds nothing has succeeded.
        match self.inner().backend.records.commit(context, commit).await {
            Ok(receipt) if receipt.replayed => Ok(Some(receipt)),
            Ok(_) => Err(Error::new(ErrorKind::Unexpected, "what never was is deleted")),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a put, and once more if it was refused and its vector's space was one that the
    /// tenant no longer has.
    ///
    /// # Errors
    /// The outer error: no space for the vector. The inner one: the store refused.
    pub(super) async fn put(
        &self,
        context: &CallContext,
        put: OnePut<'_>,
    ) -> Result<Result<PutDone, Refused>> {
        let commit = |vectors| {
            let write = Write::put(put.item.clone(), vectors, put.precondition.clone());
            Commit::new(self.inner().ids.commit_id(), vec![write]).with_idempotency(put.key.clone())
        };
        let vectors = |space: &EmbeddingSpace, vector: &[f32]| {
            Vectors::Replace([(space.id(), vector.to_vec())].into())
        };
        let done = |sent: Result<CommitReceipt, Refused>| {
            sent.map(|receipt| PutDone { receipt, aside: None })
        };
        let (vector, made) = match put.vector {
            PutVector::Supplied(vector) => (vector, false),
            PutVector::Made(vector) => (vector, true),
            PutVector::Keep => return Ok(done(self.send(context, commit(Vectors::Keep)).await)),
            PutVector::Clear => {
                return Ok(done(self.send(context, commit(Vectors::default())).await));
            }
        };
        let mut space = self.space_of(context, vector, made).await?;
        if let Ok(known) = &space {
            match self.send(context, commit(vectors(&known.space, vector))).await {
                Err(refused) if known.remembered && refused.may_be_the_space() => {
                    let (_, active) = self.read_spaces(context).await?;
                    if active.as_ref() == Some(&known.space) {
                        return Ok(Err(refused));
                    }
                    // Where the tenant has none any more, the same one may be declared again.
                    space = match made {
                        true => self.space_of(context, vector, made).await?,
                        false => Ok(KnownSpace::read(self.space_now(context, vector).await?)),
                    };
                }
                sent => return Ok(done(sent)),
            }
        }
        Ok(match space {
            Ok(now) => done(self.send(context, commit(vectors(&now.space, vector))).await),
            Err(aside) => {
                let sent = self.send(context, commit(Vectors::default())).await;
                sent.map(|receipt| PutDone { receipt, aside: Some(aside) })
            }
        })
    }

    /// The space that a vector goes into, declared if the tenant has none yet; or why a vector
    /// that was made is left out.
    async fn space_of(
        &self,
        context: &CallContext,
        vector: &[f32],
        made: bool,
    ) -> Result<Result<KnownSpace, Made>> {
        let Some(attached) = self.inner().embedding.attached().filter(|_| made) else {
            return self.space_for(context, vector).await.map(Ok);
        };
        match self.stance_declared(context, attached).await? {
            Stance::Serves(known) => Ok(Ok(known)),
            Stance::Aside(active) => Ok(Err(Made::aside(attached, &active))),
            Stance::Undeclared => {
                Err(Error::new(ErrorKind::Unexpected, "a declared space is not there"))
            }
        }
    }

    /// Sends a commit. If its outcome is unknown and no layer within sends calls again, it is sent
    /// once more under the same id, so that the store can recognise its own work. What is unknown
    /// after that is reported as unknown.
    pub(super) async fn send(
        &self,
        context: &CallContext,
        commit: Commit,
    ) -> Result<CommitReceipt, Refused> {
        let records = &self.inner().backend.records;
        let bare = commit.writes.iter().any(is_bare);
        let error = match records.commit(context, commit.clone()).await {
            Ok(receipt) => {
                self.note_written(bare);
                return Ok(receipt);
            }
            Err(error) => error,
        };
        if error.outcome() == Outcome::NotApplied || self.inner().layers.backend.retries() {
            // Unknown after a layer's attempts: one of them may have succeeded.
            let resent = error.outcome() == Outcome::Unknown;
            return Err(Refused { error, resent });
        }
        match records.commit(context, commit.resent()).await {
            Ok(receipt) => {
                self.note_written(bare);
                Ok(receipt)
            }
            Err(error) => Err(Refused { error: after_resend(error), resent: true }),
        }
    }
}

/// What the failure of a second attempt says of both: its kind stands, and whether the first one
/// took effect is as unknown as before. A precondition that fails may fail on the first attempt's
/// own work that somebody else has changed since, or deleted and made again.
pub(super) fn after_resend(error: Error) -> Error {
    error.with_context("sent", "twice").with_unknown_outcome()
}

//! One batch of new memories: a bad one does not take others with it.
//!
//! Each memory is checked by itself; what is left is one commit. If that is refused because an id
//! is taken, the taken ones are found with one read and what is left is sent again, so that a
//! batch of new memories costs no read. If it is refused for what an item is, it is halved until
//! the bad items stand alone. A fault of the store stops the batch: sending it again in halves
//! would only add load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use memory_core::limits::COMMIT_BYTES;
use memory_core::{
    CallContext, Commit, ContentHash, Error, ErrorKind, MemoryId, MemoryItem, Precondition,
    Projection, Put, Result, SpaceId, Vectors, Write, WriteResult,
};

use super::TenantMemory;
use super::add::precondition;
use super::commit::Refused;
use super::spaces::{self, KnownSpace};
use crate::new_memory::NewMemory;
use crate::options::{ItemOutcome, OnConflict};

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
    /// The fault of the store that ended it.
    pub(crate) stopped: Option<Error>,
}

/// A memory that passed every check that needs no store.
struct Ready {
    place: usize,
    id: MemoryId,
    hash: ContentHash,
    held: Held,
    bytes: usize,
    /// Whether the caller chose the id; a random one need not be looked for.
    chosen: bool,
}

/// What is to be written: in parts until it is first sent, and then as it was sent, shared with the
/// commit, so that a batch that goes through is copied nowhere on its way.
enum Held {
    Parts(Box<MemoryItem>, Option<Vec<f32>>),
    Sent(Option<SpaceId>, Arc<Put>),
}

impl Ready {
    fn vector(&self) -> Option<&Vec<f32>> {
        match &self.held {
            Held::Parts(_, vector) => vector.as_ref(),
            Held::Sent(_, put) => match &put.vectors {
                Vectors::Replace(vectors) => vectors.values().next(),
                Vectors::Keep => None,
            },
        }
    }

    /// The write of it, and itself for what comes of the write.
    fn put(self, space: Option<&SpaceId>, policy: &BatchPolicy) -> (Self, Write) {
        let keyed = |vector: Option<Vec<f32>>| {
            Vectors::Replace(space.cloned().zip(vector).into_iter().collect())
        };
        let put = match self.held {
            Held::Sent(sent, put) if sent.as_ref() == space => put,
            // The tenant's space is another one by now.
            Held::Sent(_, put) => {
                let mut put = Arc::unwrap_or_clone(put);
                if let Vectors::Replace(vectors) = put.vectors {
                    put.vectors = keyed(vectors.into_values().next());
                }
                Arc::new(put)
            }
            Held::Parts(item, vector) => Arc::new(Put {
                item: *item,
                vectors: keyed(vector),
                precondition: precondition(policy.on_conflict),
            }),
        };
        let write = Write::Put(Arc::clone(&put));
        (Self { held: Held::Sent(space.cloned(), put), ..self }, write)
    }
}

/// The space of a batch's vectors: looked up once, and once more if what an earlier call had read
/// proves wrong. A space that changes after that is refused by the store.
#[derive(Debug, Default)]
struct BatchSpace {
    known: Option<KnownSpace>,
    /// Whether it is another one than vectors were checked against.
    moved: bool,
}

impl BatchSpace {
    fn is_a_guess(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.remembered)
    }
}

impl TenantMemory {
    /// Adds a batch of at most 1,000 memories.
    pub(crate) async fn add_batch(
        &self,
        memories: Vec<NewMemory>,
        policy: &BatchPolicy,
    ) -> BatchResult {
        let mut outcomes: Vec<_> = memories.iter().map(|_| ItemOutcome::NotReached).collect();
        let context = self.context(policy.timeout);
        let stopped = self.run_batch(&context, memories, policy, &mut outcomes).await.err();
        BatchResult { outcomes, stopped }
    }

    async fn run_batch(
        &self,
        context: &CallContext,
        memories: Vec<NewMemory>,
        policy: &BatchPolicy,
        outcomes: &mut [ItemOutcome],
    ) -> Result<()> {
        let mut space = BatchSpace::default();
        let mut ready = self.prepare(context, memories, &mut space, outcomes).await?;
        if policy.keep_erased {
            ready = self.without_erased(context, ready, outcomes).await?;
        }
        for part in parts(ready) {
            self.commit_halving(context, part, &mut space, policy, outcomes).await?;
        }
        Ok(())
    }

    /// Checks each memory by itself.
    async fn prepare(
        &self,
        context: &CallContext,
        memories: Vec<NewMemory>,
        space: &mut BatchSpace,
        outcomes: &mut [ItemOutcome],
    ) -> Result<Vec<Ready>> {
        let now = self.inner().clock.now();
        let mut ready = Vec::with_capacity(memories.len());
        for (place, memory) in memories.into_iter().enumerate() {
            let chosen = memory.id.is_some();
            let id = memory.id.clone().unwrap_or_else(|| self.inner().ids.memory_id());
            let checked = match memory.into_item(id, now) {
                Ok((item, None)) => Ok((item, None)),
                Ok((item, Some(vector))) => {
                    self.fit(context, &vector, space).await?.map(|()| (item, Some(vector)))
                }
                Err(error) => Err(error),
            };
            match checked {
                Ok((item, vector)) => {
                    let bytes = item.size_bytes() + vector.as_ref().map_or(0, |v| v.len() * 4);
                    let (id, hash) = (item.id.clone(), item.content_hash());
                    let held = Held::Parts(Box::new(item), vector);
                    ready.push(Ready { place, id, hash, held, bytes, chosen });
                }
                Err(error) => outcomes[place] = ItemOutcome::Failed(error),
            }
        }
        Ok(ready)
    }

    /// Whether a vector fits the batch's space; finds that space first if it is not known yet.
    ///
    /// # Errors
    /// The outer error is not the vector's fault; the inner one is.
    async fn fit(
        &self,
        context: &CallContext,
        vector: &[f32],
        space: &mut BatchSpace,
    ) -> Result<Result<()>> {
        if let Some(known) = &space.known {
            let checked = spaces::check(&known.space, vector);
            if checked.is_ok() || !known.remembered {
                return Ok(checked);
            }
            self.look_again(context, space).await?;
            if let Some(known) = &space.known {
                return Ok(spaces::check(&known.space, vector));
            }
        }
        let found = match space.moved {
            true => self.space_now(context, vector).await.map(KnownSpace::read),
            false => self.space_for(context, vector).await,
        };
        match found {
            Ok(found) => {
                space.known = Some(found);
                Ok(Ok(()))
            }
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(Err(error)),
            Err(error) => Err(error),
        }
    }

    /// Reads the batch's space, which an earlier call had read.
    async fn look_again(&self, context: &CallContext, space: &mut BatchSpace) -> Result<()> {
        let (_, now) = self.read_spaces(context).await?;
        space.moved = now.as_ref() != space.known.as_ref().map(|known| &known.space);
        space.known = now.map(KnownSpace::read);
        Ok(())
    }

    /// Takes out the memories whose vectors do not fit the space that the batch moved to.
    async fn without_misfits(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        space: &mut BatchSpace,
        outcomes: &mut [ItemOutcome],
    ) -> Result<Vec<Ready>> {
        let mut left = Vec::with_capacity(part.len());
        for ready in part {
            let fits = match ready.vector() {
                Some(vector) => self.fit(context, vector, space).await?,
                None => Ok(()),
            };
            match fits {
                Ok(()) => left.push(ready),
                Err(error) => outcomes[ready.place] = ItemOutcome::Failed(error),
            }
        }
        Ok(left)
    }

    async fn without_erased(
        &self,
        context: &CallContext,
        ready: Vec<Ready>,
        outcomes: &mut [ItemOutcome],
    ) -> Result<Vec<Ready>> {
        let ids: Vec<MemoryId> = ready.iter().map(|ready| ready.id.clone()).collect();
        if ids.is_empty() {
            return Ok(ready);
        }
        let erased = self.inner().backend.meta.erased(context, &ids).await?;
        let mut left = Vec::with_capacity(ready.len());
        for (ready, erased) in ready.into_iter().zip(erased) {
            match erased {
                true => outcomes[ready.place] = ItemOutcome::Erased(ready.id),
                false => left.push(ready),
            }
        }
        Ok(left)
    }

    /// Takes back what was written for ids that were erased between the first look and the commit,
    /// so that no import brings back what an erasure that ended meanwhile has removed.
    async fn undo_erased(
        &self,
        context: &CallContext,
        written: &[WriteResult],
    ) -> Result<BTreeSet<MemoryId>> {
        let ids: Vec<MemoryId> = written.iter().map(|result| result.id.clone()).collect();
        let erased = self.inner().backend.meta.erased(context, &ids).await?;
        let mut gone = BTreeSet::new();
        for (result, _) in written.iter().zip(erased).filter(|(_, erased)| *erased) {
            let precondition =
                result.revision.clone().map_or(Precondition::Any, Precondition::Revision);
            let delete = Write::delete(result.id.clone(), precondition);
            let commit = Commit::new(self.inner().ids.commit_id(), vec![delete]);
            match self.send(context, commit).await {
                Ok(_) => {}
                // Somebody has written it since, or has removed it already.
                Err(refused)
                    if matches!(
                        refused.error.kind(),
                        ErrorKind::NotFound | ErrorKind::Conflict
                    ) => {}
                Err(refused) => return Err(refused.error),
            }
            gone.insert(result.id.clone());
        }
        Ok(gone)
    }

    /// Takes out the memories whose ids are taken, as the policy says. Somebody may still take an
    /// id between this read and the commit; the precondition finds that.
    async fn without_taken(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        policy: &BatchPolicy,
        outcomes: &mut [ItemOutcome],
    ) -> Result<Vec<Ready>> {
        let ids: Vec<MemoryId> =
            part.iter().filter(|ready| ready.chosen).map(|ready| ready.id.clone()).collect();
        if ids.is_empty() {
            return Ok(part);
        }
        let found =
            self.inner().backend.records.fetch(context, &ids, &Projection::narrow()).await?;
        let taken: BTreeMap<MemoryId, ContentHash> = found
            .into_iter()
            .flatten()
            .map(|item| (item.id.clone(), item.content_hash()))
            .collect();
        let mut left = Vec::with_capacity(part.len());
        for ready in part {
            match taken.get(&ready.id) {
                Some(hash) if ready.chosen => {
                    outcomes[ready.place] = conflict(ready.id, ready.hash, Some(*hash), policy);
                }
                _ => left.push(ready),
            }
        }
        Ok(left)
    }

    /// Commits what is left, in halves where it is refused for what an item is.
    async fn commit_halving(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        space: &mut BatchSpace,
        policy: &BatchPolicy,
        outcomes: &mut [ItemOutcome],
    ) -> Result<()> {
        // With each part, whether its taken ids have been looked for.
        let mut waiting = vec![(part, false)];
        while let Some((mut part, looked)) = waiting.pop() {
            if space.moved {
                part = self.without_misfits(context, part, space, outcomes).await?;
            }
            if part.is_empty() {
                continue;
            }
            let active = space.known.as_ref().map(|known| known.space.id());
            let writes;
            (part, writes) =
                part.into_iter().map(|ready| ready.put(active.as_ref(), policy)).unzip();
            let commit = Commit::new(self.inner().ids.commit_id(), writes);
            let sent = self.send(context, commit).await;
            if let Err(refused) = &sent
                && refused.may_be_the_space()
                && space.is_a_guess()
                && part.iter().any(|ready| ready.vector().is_some())
            {
                self.look_again(context, space).await?;
                if space.moved {
                    waiting.push((part, looked));
                    continue;
                }
            }
            match sent {
                Ok(receipt) => {
                    let erased = match policy.keep_erased {
                        true => self.undo_erased(context, &receipt.results).await?,
                        false => BTreeSet::new(),
                    };
                    for (ready, result) in part.into_iter().zip(receipt.results) {
                        if erased.contains(&result.id) {
                            outcomes[ready.place] = ItemOutcome::Erased(result.id);
                            continue;
                        }
                        let replaced = result.existed && policy.on_conflict == OnConflict::Replace;
                        outcomes[ready.place] = match replaced {
                            true => ItemOutcome::Replaced(result.id),
                            false => ItemOutcome::Added(result.id),
                        };
                    }
                }
                Err(refused)
                    if !looked
                        && !refused.resent
                        && refused.error.kind() == ErrorKind::AlreadyExists =>
                {
                    let left = self.without_taken(context, part, policy, outcomes).await?;
                    waiting.push((left, true));
                }
                Err(refused) if is_an_items_fault(&refused) && part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    waiting.push((second, looked));
                    waiting.push((part, looked));
                }
                Err(refused) if is_an_items_fault(&refused) => {
                    if let Some(alone) = part.pop() {
                        let place = alone.place;
                        outcomes[place] =
                            self.refused(context, alone, refused.error, policy).await?;
                    }
                }
                Err(refused) => return Err(refused.error),
            }
        }
        Ok(())
    }

    /// What becomes of a memory that was refused alone.
    async fn refused(
        &self,
        context: &CallContext,
        ready: Ready,
        error: Error,
        policy: &BatchPolicy,
    ) -> Result<ItemOutcome> {
        if error.kind() != ErrorKind::AlreadyExists {
            return Ok(ItemOutcome::Failed(error));
        }
        let ids = [ready.id.clone()];
        let found =
            self.inner().backend.records.fetch(context, &ids, &Projection::narrow()).await?;
        let hash = found.into_iter().flatten().next().map(|item| item.content_hash());
        Ok(conflict(ready.id, ready.hash, hash, policy))
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

/// Whether a commit was refused for what one of its items is. A conflict is not: creates and
/// unconditional puts meet one only at a write fence, which stands for all of them.
fn is_an_items_fault(refused: &Refused) -> bool {
    !refused.resent
        && matches!(
            refused.error.kind(),
            ErrorKind::InvalidInput | ErrorKind::AlreadyExists | ErrorKind::Unsupported
        )
}

/// Cuts a batch into parts that one commit can hold: distinct ids, bounded bytes, order kept.
fn parts(ready: Vec<Ready>) -> Vec<Vec<Ready>> {
    let mut parts = Vec::new();
    let mut part: Vec<Ready> = Vec::new();
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    for next in ready {
        if ids.contains(&next.id) || bytes + next.bytes > COMMIT_BYTES {
            parts.push(std::mem::take(&mut part));
            ids.clear();
            bytes = 0;
        }
        bytes += next.bytes;
        ids.insert(next.id.clone());
        part.push(next);
    }
    parts.push(part);
    parts
}

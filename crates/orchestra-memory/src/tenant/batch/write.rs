//! Writing a batch: commits, in halves where they are refused, or the store's own way for many
//! writes.

use std::collections::BTreeSet;

use memory_core::{
    CallContext, Commit, Error, ErrorKind, MemoryId, Precondition, Projection, Result, Write,
    WriteResult,
};

use super::ready::{Ready, parts};
use super::{BatchPolicy, BatchResult, BatchSpace, Prepared, conflict};
use crate::options::{ItemOutcome, OnConflict};
use crate::report::VectorState;
use crate::tenant::TenantMemory;
use crate::tenant::commit::{LeftLater, Refused};

impl TenantMemory {
    /// Writes a batch that was prepared. The time that its preparation took counts; what it has
    /// waited since does not.
    pub(super) async fn write_batch(
        &self,
        mut batch: Prepared,
        policy: &BatchPolicy,
    ) -> BatchResult {
        if batch.result.stopped.is_none() {
            let context = self.context_after(policy.timeout, batch.spent);
            let written = self.write_parts(&context, &mut batch, policy).await;
            batch.result.stopped = written.err();
        }
        let mut result = batch.result;
        if result.without_vector == 0 {
            result.reason = None;
        }
        result
    }

    async fn write_parts(
        &self,
        context: &CallContext,
        batch: &mut Prepared,
        policy: &BatchPolicy,
    ) -> Result<()> {
        let Prepared { ready, space, result, .. } = batch;
        let mut ready = std::mem::take(ready);
        if ready.iter().any(|ready| ready.state == VectorState::Made) {
            // Embedding took its time: what was known of the space before it is a guess by now,
            // if it is remembered at all.
            if let Some(known) = &mut space.known {
                known.remembered = true;
                let remembered = self.remembered();
                if remembered.is_none_or(|remembered| remembered.space != known.space) {
                    self.look_again(context, space).await?;
                }
            }
            if let Some(reason) = self.settle(context, space).await? {
                for ready in ready.iter_mut().filter(|ready| ready.state == VectorState::Made) {
                    ready.set_vector(None, VectorState::Aside);
                }
                result.note(reason);
            }
        }
        let backend = &self.inner().backend;
        let bulk = backend.bulk.as_deref();
        let most = match bulk {
            Some(_) => usize::MAX,
            None => backend.records.capabilities().max_commit_bytes,
        };
        for part in parts(ready, most) {
            match bulk {
                Some(bulk) => {
                    self.write_each(bulk, context, part, space, policy, result).await?;
                }
                None => self.commit_halving(context, part, space, policy, result).await?,
            }
        }
        Ok(())
    }

    /// Commits what is left, in halves where it is refused for what an item is.
    async fn commit_halving(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        space: &mut BatchSpace,
        policy: &BatchPolicy,
        result: &mut BatchResult,
    ) -> Result<()> {
        // With each part, whether its taken ids have been looked for.
        let mut waiting = vec![(part, false)];
        while let Some((mut part, looked)) = waiting.pop() {
            if space.moved {
                part = self.without_misfits(context, part, space, result).await?;
            }
            if part.is_empty() {
                continue;
            }
            let active = space.known.as_ref().map(|known| known.space.id());
            let writes;
            (part, writes) =
                part.into_iter().map(|ready| ready.put(active.as_ref(), policy)).unzip();
            let commit = Commit::new(self.inner().ids.commit_id(), writes);
            let later = part.iter().filter(|ready| ready.state == VectorState::Later);
            let mut later = self.left_later(later.map(|ready| ready.id.clone()));
            let sent = self.send(context, commit).await;
            later.learn(&sent);
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
                    self.take_in(context, part, receipt.results, later, policy, result).await?;
                }
                Err(refused)
                    if !looked
                        && !refused.resent
                        && refused.error.kind() == ErrorKind::AlreadyExists =>
                {
                    let left = self.without_taken(context, part, policy, result).await?;
                    waiting.push((left, true));
                }
                Err(refused) if is_the_items(&refused) && part.len() > 1 => {
                    let second = part.split_off(part.len() / 2);
                    waiting.push((second, looked));
                    waiting.push((part, looked));
                }
                Err(refused) if is_the_items(&refused) => {
                    if let Some(alone) = part.pop() {
                        let place = alone.place;
                        result.outcomes[place] =
                            self.refused(context, alone, refused.error, policy).await?;
                    }
                }
                Err(refused) => return Err(refused.error),
            }
        }
        Ok(())
    }

    /// Takes in memories that were written, and takes back those of them that stay erased. `later`:
    /// those of them whose vectors are made later.
    pub(super) async fn take_in(
        &self,
        context: &CallContext,
        written: Vec<Ready>,
        done: Vec<WriteResult>,
        mut later: LeftLater<'_>,
        policy: &BatchPolicy,
        result: &mut BatchResult,
    ) -> Result<()> {
        let erased = match policy.keep_erased {
            true => self.undo_erased(context, &done).await?,
            false => BTreeSet::new(),
        };
        // Nothing is made for what was undone.
        erased.iter().for_each(|id| later.remove(id));
        drop(later);
        for (ready, done) in written.into_iter().zip(done) {
            if erased.contains(&done.id) {
                result.outcomes[ready.place] = ItemOutcome::Erased(done.id);
                continue;
            }
            let outcome = match done.existed && policy.on_conflict == OnConflict::Replace {
                true => ItemOutcome::Replaced(done.id),
                false => ItemOutcome::Added(done.id),
            };
            result.written(&ready, outcome);
        }
        Ok(())
    }

    /// What becomes of a memory that was refused alone.
    pub(super) async fn refused(
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

    /// Takes back what was written for ids that were erased between the first look and the commit,
    /// so that no import brings back what an erasure that ended meanwhile has removed.
    async fn undo_erased(
        &self,
        context: &CallContext,
        written: &[WriteResult],
    ) -> Result<BTreeSet<MemoryId>> {
        let ids: Vec<MemoryId> = written.iter().map(|result| result.id.clone()).collect();
        let erased = self.erased(context, &ids).await?;
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
}

/// Whether a commit was refused for what one of its items is. A conflict is not: creates and
/// unconditional puts meet one only at a write fence, which stands for all of them.
fn is_the_items(refused: &Refused) -> bool {
    !refused.resent && is_an_items_fault(refused.error.kind())
}

/// Whether errors of this kind are about one item, where writes stand in no commit.
pub(super) fn is_an_items_fault(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidInput | ErrorKind::AlreadyExists | ErrorKind::Unsupported)
}

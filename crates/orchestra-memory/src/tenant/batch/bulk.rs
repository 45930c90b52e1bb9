//! A batch by the store's own way for many writes: each memory by itself, so that nothing has to be
//! halved.

use std::collections::BTreeSet;

use memory_core::traits::{BulkWriter, NoObserver};
use memory_core::{CallContext, Error, ErrorKind, Outcome, Result, Write, WriteResult};

use super::ready::Ready;
use super::write::is_an_items_fault;
use super::{BatchPolicy, BatchResult, BatchSpace};
use crate::report::VectorState;
use crate::tenant::TenantMemory;
use crate::tenant::commit::{Refused, after_resend};
use crate::tenant::search::is_bare;

/// A memory that was not written, and why.
type Turned = (Ready, Refused);

impl TenantMemory {
    /// Writes memories of distinct ids. One that is refused for what it is takes no other with it;
    /// a fault of the store ends the call once everything that was sent has its answer.
    ///
    /// # Errors
    /// The fault; of several, one whose outcome is unknown.
    pub(super) async fn write_each(
        &self,
        bulk: &dyn BulkWriter,
        context: &CallContext,
        mut part: Vec<Ready>,
        space: &mut BatchSpace,
        policy: &BatchPolicy,
        result: &mut BatchResult,
    ) -> Result<()> {
        // The places of those whose taken ids have been looked for.
        let mut looked = BTreeSet::new();
        loop {
            if space.moved {
                part = self.without_misfits(context, part, space, result).await?;
            }
            if part.is_empty() {
                return Ok(());
            }
            let turned = self.send_part(bulk, context, part, space, policy, result).await?;
            let mut again = Vec::new();
            let mut taken = Vec::new();
            let (moved, turned) = self.by_the_space(context, turned, space).await?;
            again.extend(moved);
            let mut fault: Option<Error> = None;
            for (ready, refused) in turned {
                let kind = refused.error.kind();
                if kind == ErrorKind::AlreadyExists {
                    taken.push((ready, refused));
                } else if is_an_items_fault(kind) {
                    result.fail(&ready, refused.error);
                } else if fault.is_none() || refused.error.outcome() == Outcome::Unknown {
                    fault = Some(refused.error);
                }
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
            let mut unseen = Vec::new();
            for (ready, refused) in taken {
                // After a resend the first attempt may have made it, and it is not sent again.
                match !refused.resent && looked.insert(ready.place) {
                    true => unseen.push(ready),
                    // Or it was not there a moment ago, and is again.
                    false => {
                        let place = ready.place;
                        result.outcomes[place] =
                            self.refused(context, ready, refused.error, policy).await?;
                    }
                }
            }
            again.extend(self.without_taken(context, unseen, policy, result).await?);
            part = again;
        }
    }

    /// Sends memories, takes in those that were written, and gives back the others.
    async fn send_part(
        &self,
        bulk: &dyn BulkWriter,
        context: &CallContext,
        part: Vec<Ready>,
        space: &BatchSpace,
        policy: &BatchPolicy,
        result: &mut BatchResult,
    ) -> Result<Vec<Turned>> {
        let active = space.known.as_ref().map(|known| known.space.id());
        let (part, writes): (Vec<_>, Vec<_>) =
            part.into_iter().map(|ready| ready.put(active.as_ref(), policy)).unzip();
        let later = part.iter().filter(|ready| ready.state == VectorState::Later);
        let mut later = self.left_later(later.map(|ready| ready.id.clone()));
        let sent = self.send_each(bulk, context, writes).await?;
        let (mut written, mut done, mut turned) = (Vec::new(), Vec::new(), Vec::new());
        let mut known = true;
        for (ready, sent) in part.into_iter().zip(sent) {
            match sent {
                Ok(answer) => {
                    written.push(ready);
                    done.push(answer);
                }
                Err(refused) => {
                    match refused.error.outcome() {
                        Outcome::Unknown => known = false,
                        Outcome::NotApplied => later.remove(&ready.id),
                    }
                    turned.push((ready, refused));
                }
            }
        }
        later.settle(known);
        self.take_in(context, written, done, later, policy, result).await?;
        Ok(turned)
    }

    /// Sends writes. Those whose outcome is unknown are sent once more under the same id, so that
    /// the store can recognise its own work. One answer for each.
    ///
    /// # Errors
    /// The store takes none of them.
    async fn send_each(
        &self,
        bulk: &dyn BulkWriter,
        context: &CallContext,
        writes: Vec<Write>,
    ) -> Result<Vec<Result<WriteResult, Refused>>> {
        let id = self.inner().ids.commit_id();
        let first = bulk.write_many(context, id, writes.clone(), false, &NoObserver).await?;
        let mut sent = answers(first, writes.len())?;
        let lost: Vec<usize> = (0..sent.len())
            .filter(|at| {
                let refused = sent[*at].as_ref().err();
                refused.is_some_and(|refused| refused.error.outcome() == Outcome::Unknown)
            })
            .collect();
        // Where a layer within sends calls again, it has done so.
        if !lost.is_empty() && !self.inner().layers.backend.retries() {
            let again: Vec<Write> = lost.iter().map(|at| writes[*at].clone()).collect();
            // Where the store takes none of them, the first answers stand.
            if let Ok(second) = bulk.write_many(context, id, again, true, &NoObserver).await {
                for (at, answer) in lost.iter().zip(answers(second, lost.len())?) {
                    sent[*at] = answer.map_err(|refused| Refused {
                        error: after_resend(refused.error),
                        resent: true,
                    });
                }
            }
        }
        let bare = writes.iter().zip(&sent).any(|(write, sent)| sent.is_ok() && is_bare(write));
        self.note_written(bare);
        Ok(sent)
    }

    /// Parts those that may have been refused for a space that the tenant no longer has, and are
    /// to be sent again into the one that it has.
    async fn by_the_space(
        &self,
        context: &CallContext,
        turned: Vec<Turned>,
        space: &mut BatchSpace,
    ) -> Result<(Vec<Ready>, Vec<Turned>)> {
        let suspect =
            |(ready, refused): &Turned| refused.may_be_the_space() && ready.vector().is_some();
        if !space.is_a_guess() || !turned.iter().any(suspect) {
            return Ok((Vec::new(), turned));
        }
        self.look_again(context, space).await?;
        if !space.moved {
            return Ok((Vec::new(), turned));
        }
        let (moved, rest): (Vec<_>, Vec<_>) = turned.into_iter().partition(suspect);
        Ok((moved.into_iter().map(|(ready, _)| ready).collect(), rest))
    }
}

/// The answers of a first attempt, which are as many as there were writes.
fn answers(
    given: Vec<Result<WriteResult>>,
    asked: usize,
) -> Result<Vec<Result<WriteResult, Refused>>> {
    if given.len() != asked {
        let message = "the store answered another number of writes than it was given";
        return Err(Error::new(ErrorKind::Unexpected, message).with_unknown_outcome());
    }
    // Unknown after a layer's attempts: one of them may have succeeded.
    let refused = |error: Error| {
        let resent = error.outcome() == Outcome::Unknown;
        Refused { error, resent }
    };
    Ok(given.into_iter().map(|answer| answer.map_err(refused)).collect())
}

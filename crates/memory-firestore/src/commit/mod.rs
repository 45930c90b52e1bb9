//! Commits: one request where nothing stands in the way, and a look at the documents where
//! something does.
//!
//! The first attempt reads nothing. A create is sent with "must not exist", a swap with the update
//! time that its revision carries. Only when the server refuses are the documents read: then the
//! preconditions are decided exactly, and what still may happen is sent again under the update
//! times that were read, so that all of it is decided on one state or not at all. Whoever loses a
//! race looks again.

mod key;
mod plan;
mod size;

use std::sync::Arc;
use std::time::Duration;

use memory_core::{
    CallContext, Commit, CommitId, CommitReceipt, Error, ErrorKind, IdempotencyKey, Put, Result,
    Vectors, Write, WriteResult,
};

use crate::guard::TenantState;
use crate::model::{self, Row};
use crate::store::FirestoreStore;
use crate::wire::{self, Call, Refused};
use key::KeyRow;
pub(crate) use key::{RESULT, USERS};
pub(crate) use plan::Decision;
pub(crate) use size::sent_bytes;

/// Commits all writes together.
///
/// Billed: one write for each put, one delete for each delete. One read for each document that has
/// to be looked at: deletes without a revision, puts that met another document, resends.
pub(crate) async fn commit(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    commit: &Commit,
) -> Result<CommitReceipt> {
    commit.validate()?;
    let mut work = Work {
        store,
        call,
        context,
        id: &commit.id,
        idempotency: commit.idempotency.as_ref(),
        resend: commit.resend,
        each: false,
        position: None,
        replayed: false,
    };
    let writes: Vec<_> = commit.writes.iter().collect();
    match work.run(&writes).await? {
        Done::Replayed(receipt) => Ok(receipt),
        Done::Results(results) => Ok(CommitReceipt {
            results: results.into_iter().collect::<Result<_>>()?,
            position: work.position,
            replayed: work.replayed,
        }),
    }
}

/// Writes that stand on their own, in one request where nothing stands in the way: one answer for
/// each, in order.
///
/// # Errors
/// What concerns all of them: the request failed as a whole.
pub(crate) async fn each(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    id: &CommitId,
    writes: &[&Write],
    resend: bool,
) -> Result<Vec<Result<WriteResult>>> {
    let mut work = Work {
        store,
        call,
        context,
        id,
        idempotency: None,
        resend,
        each: true,
        position: None,
        replayed: false,
    };
    match work.run(writes).await? {
        Done::Replayed(_) => Err(Error::new(ErrorKind::Unexpected, "a replay without a key")),
        Done::Results(results) => Ok(results),
    }
}

/// One commit under way.
struct Work<'a> {
    store: &'a FirestoreStore,
    call: Call<'a>,
    context: &'a CallContext,
    id: &'a CommitId,
    idempotency: Option<&'a IdempotencyKey>,
    resend: bool,
    /// Whether the writes stand on their own.
    each: bool,
    position: Option<memory_core::traits::ChangePosition>,
    replayed: bool,
}

enum Done {
    Replayed(CommitReceipt),
    Results(Vec<Result<WriteResult>>),
}

/// What was read of the documents that a commit is about.
#[derive(Default)]
struct Seen {
    /// The row of each write; `None` where there is no document.
    rows: Vec<Option<Row>>,
    /// Writes whose document cannot be read, and why.
    unreadable: Vec<(usize, Error)>,
}

impl Work<'_> {
    async fn run(&mut self, writes: &[&Write]) -> Result<Done> {
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        let mut state = store.tenant(call, tenant).await?;
        let mut seen = if self.resend { Some(self.look(writes).await?) } else { None };
        let mut key = None;
        // The key's document is not looked for as long as nothing stands in the way: then it is
        // written if it is not there, or the server refuses the commit.
        let mut looked = false;
        if let Some(wanted) = self.idempotency.filter(|_| self.resend) {
            key = self.look_for(wanted).await?;
            looked = true;
        }
        for attempt in 0..store.settings.contention_attempts {
            let now = store.clock.now();
            if let Some(row) = key.as_ref().filter(|row| row.is_live(now))
                && let Some(wanted) = self.idempotency
            {
                return Ok(Done::Replayed(row.replay(wanted)?));
            }
            if seen.is_none() && writes.iter().any(|write| plan::needs_a_look(write, now)) {
                seen = Some(self.look(writes).await?);
            }
            if state.check_fence(self.context).is_err() {
                // It may have been lifted by another process since.
                state = store.tenant_now(call, tenant).await?;
            }
            let misfits;
            (state, misfits) = self.with_spaces(state, writes).await?;
            let decided = state.check_fence(self.context).and_then(|()| {
                let rows = seen.as_ref().map(|seen| &seen.rows[..]);
                let mut decisions =
                    plan::decide(self.id, writes, rows, self.resend, self.each, now);
                let unreadable = seen.as_mut().map(|seen| std::mem::take(&mut seen.unreadable));
                for (place, error) in unreadable.into_iter().flatten().chain(misfits) {
                    decisions[place] = Err(error);
                }
                if self.each { Ok(decisions) } else { all_or_none(decisions) }
            });
            let decisions = match (decided, self.idempotency) {
                (Ok(decisions), _) => decisions,
                // A repetition meets its own work, and a replay writes nothing, so that neither a
                // precondition nor a fence concerns it.
                (Err(error), Some(wanted)) if !looked => {
                    key = self.look_for(wanted).await?;
                    let Some(row) = key.as_ref().filter(|row| row.is_live(now)) else {
                        return Err(error);
                    };
                    return Ok(Done::Replayed(row.replay(wanted)?));
                }
                (Err(error), _) => return Err(error),
            };
            match self.send(writes, decisions, &state, key.as_ref(), now).await {
                Ok(results) => return Ok(Done::Results(results)),
                Err(Refused::Error(error)) => return Err(error),
                Err(Refused::Contended) => {}
            }
            pause(store, call, attempt).await;
            let before = state.updated_at;
            state = store.tenant_now(call, tenant).await?;
            if seen.is_none() && state.updated_at != before {
                // That alone may have been in the way: no document is read for it.
                continue;
            }
            seen = Some(self.look(writes).await?);
            if let Some(wanted) = self.idempotency {
                key = self.look_for(wanted).await?;
                looked = true;
            }
        }
        Err(too_contended())
    }

    /// The documents of the writes as they are now.
    async fn look(&self, writes: &[&Write]) -> Result<Seen> {
        let names = writes
            .iter()
            .map(|write| self.store.names.memory(&self.context.tenant, write.id()))
            .collect();
        let found = self.store.wire.get(self.call, names, Some(model::row_mask())).await?;
        let mut seen = Seen::default();
        for (place, found) in found.iter().enumerate() {
            seen.rows.push(match found.as_ref().map(Row::read).transpose() {
                Ok(row) => row,
                Err(error) => {
                    seen.unreadable.push((place, error));
                    None
                }
            });
        }
        Ok(seen)
    }

    async fn look_for(&self, key: &IdempotencyKey) -> Result<Option<KeyRow>> {
        let name = key::name(&self.store.names, &self.context.tenant, key);
        let found = self.store.wire.get(self.call, vec![name], None).await?;
        found.into_iter().next().flatten().map(|found| KeyRow::read(&found)).transpose()
    }

    /// The tenant's state, looked at anew where a vector does not fit what is remembered of it, and
    /// the writes whose vectors do not fit then either.
    async fn with_spaces(
        &self,
        state: Arc<TenantState>,
        writes: &[&Write],
    ) -> Result<(Arc<TenantState>, Vec<(usize, Error)>)> {
        let misfits = misfits(&state, writes);
        if misfits.is_empty() {
            return Ok((state, misfits));
        }
        let state = self.store.tenant_now(self.call, &self.context.tenant).await?;
        let misfits = self::misfits(&state, writes);
        Ok((state, misfits))
    }

    async fn send(
        &mut self,
        writes: &[&Write],
        decisions: Vec<Result<Decision>>,
        state: &TenantState,
        key: Option<&KeyRow>,
        now: memory_core::Timestamp,
    ) -> Result<Vec<Result<WriteResult>>, Refused> {
        let (store, call, tenant) = (self.store, self.call, &self.context.tenant);
        let mut sent = Vec::with_capacity(writes.len() + 2);
        let (mut log, mut verified) = (Vec::new(), Vec::new());
        // What was decided about each write, and where its own write stands among those sent.
        let mut places = Vec::with_capacity(writes.len());
        let any_put = decisions.iter().flatten().any(Decision::writes);
        for (write, decision) in writes.iter().zip(decisions) {
            let decision = match decision {
                Ok(decision) => decision,
                Err(error) => {
                    places.push((Err(error), None));
                    continue;
                }
            };
            let made = self.write_of(write, &decision, any_put).await;
            match made {
                // Last, so that the answers of the others stand in their places whatever the server
                // answers to a verification.
                Ok(Some(made)) if matches!(decision, Decision::Gone { .. }) => {
                    verified.push(made);
                    places.push((Ok(decision), None));
                }
                Ok(Some(made)) => {
                    log.extend(plan::log_op(write, &decision));
                    places.push((Ok(decision), Some(sent.len())));
                    sent.push(made);
                }
                Ok(None) => places.push((Ok(decision), None)),
                Err(error) if self.each => places.push((Err(error), None)),
                Err(error) => return Err(Refused::Error(error)),
            }
        }
        self.replayed = self.resend && places.iter().any(|(d, _)| matches!(d, Ok(d) if d.own()));
        let turn = if sent.is_empty() && self.idempotency.is_none() && !store.settings.change_log {
            None
        } else {
            store.log_turn(call, tenant).await?
        };
        let entries = match &turn {
            Some(turn) => turn.writes(&store.names, tenant, &log)?,
            None => Vec::new(),
        };
        let position = turn.as_ref().map(|turn| turn.position(log.len()));
        if let Some(wanted) = self.idempotency {
            let decided: Vec<_> = writes.iter().zip(&places).map(|(w, (d, _))| (*w, d)).collect();
            sent.push(key::write(store, tenant, wanted, key, &decided, position, now)?);
        }
        sent.extend(entries);
        sent.extend(verified);
        let times = if sent.is_empty() {
            Vec::new()
        } else {
            store.commit_guarded(call, tenant, state, sent).await?
        };
        self.position = store.log_done(call, tenant, turn, log.len()).await;
        store.sizes.wrote(tenant, times.len());
        Ok(writes
            .iter()
            .zip(places)
            .map(|(write, (decision, place))| {
                decision.map(|decision| {
                    decision.result(write, place.and_then(|place| times.get(place).copied()))
                })
            })
            .collect())
    }

    /// The write that a decision comes to; `None` where there is nothing to send.
    async fn write_of(
        &self,
        write: &Write,
        decision: &Decision,
        any_put: bool,
    ) -> Result<Option<wire::Write>> {
        let store = self.store;
        let name = store.names.memory(&self.context.tenant, write.id());
        let made = match (decision, write) {
            (Decision::Put { at, keep, .. }, Write::Put(put)) => {
                let mut document = model::document(&store.settings, name, put, self.id.as_bytes());
                let made = if *keep {
                    size::check(&store.settings, &document)?;
                    wire::Write::update(document).masked(model::fields_without_vectors())
                } else {
                    if let Vectors::Replace(vectors) = &put.vectors {
                        model::with_vectors(&mut document, vectors);
                    }
                    size::check(&store.settings, &document)?;
                    wire::Write::update(document)
                };
                made.if_still(*at)
            }
            (Decision::Delete { at, .. }, _) => wire::Write::delete(name).if_updated_at(*at),
            // Nothing is there to delete; the other writes hold only if that stays so.
            (Decision::Gone { .. }, _) if any_put && store.verifies(self.call).await? => {
                wire::Write::verify(name).if_exists(false)
            }
            _ => return Ok(None),
        };
        Ok(Some(made))
    }
}

/// # Errors
/// The first refusal.
fn all_or_none(decisions: Vec<Result<Decision>>) -> Result<Vec<Result<Decision>>> {
    let many = decisions.len() > 1;
    decisions
        .into_iter()
        .enumerate()
        .map(|(place, decision)| {
            decision.map(Ok).map_err(|error| {
                if many { error.with_context("write", place.to_string()) } else { error }
            })
        })
        .collect()
}

fn misfits(state: &TenantState, writes: &[&Write]) -> Vec<(usize, Error)> {
    let misfit = |(place, write): (usize, &&Write)| match write {
        Write::Put(put) => check_vectors(state, put).err().map(|error| (place, error)),
        Write::Delete(_) => None,
    };
    writes.iter().enumerate().filter_map(misfit).collect()
}

/// # Errors
/// `InvalidInput`: an unknown space, or a vector that does not fit its space.
fn check_vectors(state: &TenantState, put: &Put) -> Result<()> {
    let Vectors::Replace(vectors) = &put.vectors else { return Ok(()) };
    vectors.iter().try_for_each(|(id, vector)| {
        state
            .spaces
            .find(id)
            .ok_or_else(|| Error::invalid("a vector of a space that is none of the tenant's"))?
            .check(vector)
    })
}

/// Waits a little after a lost race: not after the first, then up to ten milliseconds more each
/// time, at random, so that the same writers do not meet again.
pub(crate) async fn pause(store: &FirestoreStore, call: Call<'_>, attempt: u32) {
    if attempt == 0 {
        return;
    }
    let most = u64::from(attempt.min(20)) * 10_000;
    let mut random = [0; 8];
    random.copy_from_slice(&store.ids.commit_id().as_bytes()[..8]);
    let span = Duration::from_micros(u64::from_le_bytes(random) % most);
    // No longer than the call may last: the next request then says that its time is over.
    let by = call.context.and_then(|context| context.deadline);
    let left = by.map_or(span, |by| by.remaining(store.clock.monotonic()));
    tokio::time::sleep(span.min(left)).await;
}

/// The error of a write that lost every race.
pub(crate) fn too_contended() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "too many writers meet on the same documents; nothing was written: send it again",
    )
}

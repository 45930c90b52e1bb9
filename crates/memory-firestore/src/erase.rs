//! Sweeps of what has expired, and erasure of a user or a tenant, in bounded steps.
//!
//! An erasure asks the server for the time when it begins and walks the documents by name. It
//! removes what was made up to then: a document that is written over keeps the time of its making,
//! so nothing that was there before escapes by being rewritten, and nothing that is new is taken. A
//! tombstone is written in the same commit as the delete. Then it clears the answers kept under
//! idempotency keys and the change log, for both name ids.

mod answers;
mod token;

use std::collections::HashMap;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::limits::SWEEP;
use memory_core::traits::{EraseReceipt, EraseScope, EraseStep, EraseToken, SweepStep};
use memory_core::{CallContext, Error, ErrorKind, Result};
use proto::value::ValueType;

use crate::admin::LogOp;
use crate::batch::{self, WRITE_BYTES};
use crate::commit::{pause, too_contended};
use crate::model;
use crate::names::{Names, last};
use crate::query;
use crate::store::FirestoreStore;
use crate::wire::{Call, Entries, Found, Refused, Write};
use token::{Phase, Place};

/// What a part of an erasure did.
struct Part {
    erased: u64,
    /// The document id after which it goes on; `None` when it is done.
    next: Option<String>,
}

/// Removes up to `limit` expired items for good. A failure after some were removed is no error: the
/// answer says how many, and that more are left.
///
/// Billed: one read and one delete for each; one read more where more are left.
pub(crate) async fn sweep(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    limit: u32,
) -> Result<SweepStep> {
    if limit == 0 || limit > SWEEP {
        return Err(Error::invalid(format!("a sweep takes 1 to {SWEEP}")));
    }
    let mut removed = 0;
    match sweep_some(store, call, context, limit, &mut removed).await {
        Ok(more) => Ok(SweepStep { removed: removed.into(), more }),
        Err(error) if removed == 0 => Err(error),
        Err(error) => {
            tracing::warn!(%error, "a sweep ended early");
            Ok(SweepStep { removed: removed.into(), more: true })
        }
    }
}

/// Counts in `removed` what is gone; says whether more are left.
async fn sweep_some(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    limit: u32,
    removed: &mut u32,
) -> Result<bool> {
    let now = store.clock.now();
    let (mut most, mut attempt) = (store.settings.sweep_batch, 0);
    loop {
        let batch = shrunk(most, attempt).min(limit - *removed);
        let query = query::expired(&store.names, now, batch + 1, &[]);
        let parent = store.names.tenant(&context.tenant);
        let mut found = store.wire.query(call, &parent, query, Entries::FREE).await?;
        let taken = usize::try_from(batch).unwrap_or(usize::MAX).min(fitting(store, &found));
        let mut more = found.len() > taken;
        found.truncate(taken);
        if found.is_empty() {
            return Ok(more);
        }
        let refused = loop {
            let sent = remove(store, call, context, &found, false).await;
            let Err(refused) = sent else { break None };
            let Some(fewer) = batch::fewer(&refused, found.len()) else { break Some(refused) };
            found.truncate(fewer);
            most = u32::try_from(fewer).unwrap_or(most);
            more = true;
        };
        match refused {
            None => {
                *removed += u32::try_from(found.len()).unwrap_or(u32::MAX);
                attempt = 0;
            }
            Some(Refused::Error(error)) => return Err(error),
            // One of them was written anew, or another sweep was quicker.
            Some(Refused::Contended) if attempt < store.settings.contention_attempts => {
                pause(store, call, attempt).await;
                attempt += 1;
                continue;
            }
            Some(Refused::Contended) => return Err(too_contended()),
        }
        if !more || *removed >= limit {
            return Ok(more);
        }
    }
}

/// Does one step of an erasure: `erase_batch` documents at the most, and where they are fewer, what
/// follows. A failure after a part was done is no error: the answer has what was removed, and the
/// token that goes on from there.
///
/// Billed: one read, one delete and one write for each memory; with the first step a write for the
/// server's time; at the end what else is removed, and some reads to find that out.
pub(crate) async fn erase(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    resume: Option<EraseToken>,
) -> Result<EraseStep> {
    let tenant = &context.tenant;
    let place = resume.map(|token| Place::read(&token, tenant, scope)).transpose()?;
    let mut place = match place {
        Some(place) => place,
        None => {
            let began_at = store.clock.now();
            let server = server_time(store, call).await?;
            Place { began_at, server, phase: Phase::Memories(None) }
        }
    };
    let (mut erased, mut parts) = (0, 0);
    loop {
        let part = part(store, call, context, scope, &mut place, &mut erased).await;
        match part {
            Ok(Went::On) => parts += 1,
            Ok(Went::Far) => {
                let next = Some(place.token(tenant, scope));
                return Ok(EraseStep { erased, next, receipt: None });
            }
            Ok(Went::Through) => {
                let ended_at = store.clock.now();
                let receipt =
                    EraseReceipt { began_at: place.began_at, ended_at, bytes_cleared: false };
                return Ok(EraseStep { erased, next: None, receipt: Some(receipt) });
            }
            Err(error) if parts == 0 => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "a step of an erasure ended early");
                let next = Some(place.token(tenant, scope));
                return Ok(EraseStep { erased, next, receipt: None });
            }
        }
    }
}

/// How far a part of an erasure went.
enum Went {
    /// It is done, and the next one follows at once.
    On,
    /// As far as one step goes.
    Far,
    /// It was the last.
    Through,
}

/// Does one part of an erasure, and moves its place.
async fn part(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    place: &mut Place,
    erased: &mut u64,
) -> Result<Went> {
    let tenant = &context.tenant;
    let more = match &place.phase {
        Phase::Memories(after) => {
            let part =
                memories(store, call, context, scope, place.server, after.as_deref()).await?;
            *erased += part.erased;
            let more = part.next.is_some();
            place.phase = if more { Phase::Memories(part.next) } else { Phase::Keys(None) };
            more
        }
        Phase::Keys(after) => {
            let after = after.as_deref();
            let part = answers::clear(store, call, context, scope, place.server, after).await?;
            let more = part.next.is_some();
            place.phase = if more { Phase::Keys(part.next) } else { Phase::Log(None) };
            more
        }
        Phase::Log(reset) => {
            let reset = match reset {
                Some(reset) => Some(*reset),
                None => store.reset_log(call, tenant).await?,
            };
            let more = match reset {
                Some(reset) => !store.drop_before(call, tenant, reset).await?,
                None => false,
            };
            place.phase = if more { Phase::Log(reset) } else { Phase::Tenant };
            more
        }
        Phase::Tenant => {
            if *scope == EraseScope::Tenant {
                // It sends several requests, of which some may have been done.
                let left = store.leave_tenant(call, tenant).await;
                left.map_err(Error::with_unknown_outcome)?;
            }
            return Ok(Went::Through);
        }
    };
    Ok(if more { Went::Far } else { Went::On })
}

/// The server's time: that of a write whose content is never the same.
async fn server_time(store: &FirestoreStore, call: Call<'_>) -> Result<i64> {
    for attempt in 0..store.settings.contention_attempts {
        let mark = store.ids.commit_id().as_bytes().to_vec();
        let write = Write::update(proto::Document {
            name: store.names.below_store("clock"),
            fields: HashMap::from([
                model::shape_field(),
                ("mark".to_owned(), model::value(ValueType::BytesValue(mark))),
            ]),
            create_time: None,
            update_time: None,
        });
        match store.wire.commit(call, vec![write], Vec::new()).await {
            Ok(times) => return told(&times),
            Err(Refused::Error(error)) => return Err(error),
            // Other erasures begin at the same time.
            Err(Refused::Contended) => pause(store, call, attempt).await,
        }
    }
    Err(too_contended())
}

/// The time in the answer to a commit.
///
/// # Errors
/// `Unexpected`: there is none. An erasure up to no time would remove nothing and say that all is
/// done.
fn told(times: &[i64]) -> Result<i64> {
    times.first().copied().filter(|time| *time > 0).ok_or_else(|| {
        Error::new(ErrorKind::Unexpected, "Firestore did not tell the time of a commit")
    })
}

/// Removes some of a scope's memories that were made up to the server's time `server`.
async fn memories(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    server: i64,
    after: Option<&str>,
) -> Result<Part> {
    let names = &store.names;
    let parent = names.tenant(&context.tenant);
    let after = after.map(|id| format!("{parent}/{}/{id}", names.memories));
    for attempt in 0..store.settings.contention_attempts {
        let batch = shrunk(store.settings.erase_batch, attempt);
        let query = match scope {
            EraseScope::User(user) => query::by_user(names, user, after.as_deref(), batch, &[]),
            EraseScope::Tenant => query::all(names, after.as_deref(), batch, &[]),
        };
        let mut found = store.wire.query(call, &parent, query, Entries::FREE).await?;
        let mut more = found.len() >= usize::try_from(batch).unwrap_or(usize::MAX);
        let fitting = fitting(store, &found);
        more |= fitting < found.len();
        found.truncate(fitting);
        let name = |found: &Found| last(&found.name).to_owned();
        let mut next = found.last().filter(|_| more).map(name);
        found.retain(|found| found.created_at <= server);
        if found.is_empty() {
            return Ok(Part { erased: 0, next });
        }
        let refused = loop {
            let sent = remove(store, call, context, &found, true).await;
            let Err(refused) = sent else { return Ok(Part { erased: found.len() as u64, next }) };
            let Some(fewer) = batch::fewer(&refused, found.len()) else { break refused };
            found.truncate(fewer);
            next = found.last().map(name);
        };
        match refused {
            Refused::Error(error) => return Err(error),
            // One of them was written meanwhile: look again at fewer.
            Refused::Contended => pause(store, call, attempt).await,
        }
    }
    Err(too_contended())
}

/// A batch after so many lost races: a quarter each time, so that a document that is always written
/// holds up few others.
fn shrunk(batch: u32, attempt: u32) -> u32 {
    (batch >> (attempt * 2).min(31)).max(1)
}

/// How many of these documents one request can remove; one at the least.
fn fitting(store: &FirestoreStore, found: &[Found]) -> usize {
    // Its name, its tombstone's and its entry in the change log.
    let size = |found: &Found| found.name.len() * 3 + WRITE_BYTES * 3;
    batch::fitting(store.batch_bytes(), found.iter().map(size))
}

/// Removes documents as they were read, or nothing; with a tombstone for each, if so asked.
async fn remove(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    found: &[Found],
    tombstones: bool,
) -> Result<(), Refused> {
    let tenant = &context.tenant;
    let mut writes: Vec<_> = found
        .iter()
        .map(|found| Write::delete(found.name.clone()).if_updated_at(found.updated_at))
        .collect();
    // A document of a name that no memory has is of nobody's making: it goes without a trace.
    let ids: Vec<_> = found.iter().filter_map(|found| Names::memory_id(&found.name).ok()).collect();
    if tombstones {
        let key = store.key(call).await?;
        writes.extend(ids.iter().map(|id| store.tombstone_write(&key, context, id)));
    }
    let turn = store.log_turn(call, tenant).await?;
    let ops: Vec<_> = ids.into_iter().map(|id| LogOp::Delete { id }).collect();
    if let Some(turn) = &turn {
        writes.extend(turn.writes(&store.names, tenant, &ops)?);
    }
    store.wire.commit(call, writes, Vec::new()).await?;
    store.log_done(call, tenant, turn, ops.len()).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_to_one() {
        let sizes: Vec<_> = [0, 1, 2, 3, 4, 60].map(|attempt| shrunk(250, attempt)).into();
        assert_eq!(sizes, [250, 62, 15, 3, 1, 1]);
    }

    #[test]
    fn an_erasure_does_not_begin_without_the_servers_time() {
        assert_eq!(told(&[7]).unwrap(), 7);
        for times in [&[][..], &[0], &[-1]] {
            assert_eq!(told(times).unwrap_err().kind(), ErrorKind::Unexpected, "{times:?}");
        }
    }
}

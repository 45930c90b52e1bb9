//! Commits: what happens inside a caller's savepoint.

use std::collections::BTreeMap;

use memory_core::traits::ChangePosition;
use memory_core::{
    CallContext, Commit, CommitReceipt, Error, ErrorKind, IdempotencyKey, MemoryId, Precondition,
    Put, Result, SpaceId, Timestamp, Vectors, Write, WriteResult, limits,
};
use memory_text::Analyzer;
use rusqlite::{OptionalExtension as _, params};

use crate::error::{corrupt, map};
use crate::rows::{self, Op, Stamp, execute};
use crate::vectors::{self, EncodedVector, SpaceSlots};
use crate::writer::WriteTxn;
use crate::{model, resend};

/// Expired idempotency keys cleared by each commit that brings one: two, so that they shrink.
const STALE_KEYS: i64 = 2;

/// A commit with everything made that can be made on the caller's thread: terms and int8 copies.
pub(crate) struct Prepared {
    commit: Commit,
    derived: Vec<Option<Derived>>,
}

struct Derived {
    terms: Vec<u8>,
    vectors: BTreeMap<SpaceId, EncodedVector>,
}

/// Fewest writes for which another thread is worth its start: some ten times what it costs.
const WRITES_A_THREAD: usize = 64;
/// Most threads that make terms and int8 copies for one commit.
const THREADS: usize = 4;

/// Validates a commit and makes what is derived from it, on several threads where it is large.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn prepare(commit: Commit, analyzer: &Analyzer) -> Result<Prepared> {
    commit.validate()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = (commit.writes.len() / WRITES_A_THREAD).clamp(1, cores.min(THREADS));
    let share = commit.writes.len().div_ceil(threads);
    let some = |first: usize, writes: &[Write]| -> Result<Vec<Option<Derived>>> {
        writes
            .iter()
            .enumerate()
            .map(|(at, write)| {
                derive(write, analyzer)
                    .map_err(|error| error.with_context("write", (first + at).to_string()))
            })
            .collect()
    };
    let derived = std::thread::scope(|scope| {
        let mut shares = commit.writes.chunks(share).enumerate();
        let own = shares.next();
        let others: Vec<_> = shares
            .map(|(place, writes)| scope.spawn(move || some(place * share, writes)))
            .collect();
        let mut derived = own.map_or_else(|| Ok(Vec::new()), |(_, writes)| some(0, writes))?;
        for other in others {
            derived.extend(other.join().map_err(|_| crate::error::thread_gone())??);
        }
        Ok(derived)
    });
    derived.map(|derived| Prepared { commit, derived })
}

fn derive(write: &Write, analyzer: &Analyzer) -> Result<Option<Derived>> {
    let Write::Put(put) = write else { return Ok(None) };
    let vectors = match &put.vectors {
        Vectors::Keep => BTreeMap::new(),
        Vectors::Replace(vectors) => vectors::encode(vectors)?,
    };
    let terms = model::terms_of(analyzer, put.item.author.as_deref(), put.item.content());
    Ok(Some(Derived { terms, vectors }))
}

/// A row as preconditions see it.
pub(crate) struct Found {
    item: i64,
    pub(crate) revision: i64,
    pub(crate) commit: [u8; 16],
    pub(crate) visible: bool,
    hash: [u8; 32],
}

/// Applies a commit inside its savepoint.
///
/// # Errors
/// As [`memory_core::traits::RecordStore::commit`]; the savepoint is then rolled back.
pub(crate) fn apply(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    prepared: &Prepared,
    now: Timestamp,
) -> Result<CommitReceipt> {
    let commit = &prepared.commit;
    let tenant = rows::tenant_for_write(txn, &context.tenant, true)?;
    // A replay writes nothing, so a fence does not concern it.
    if let Some(key) = &commit.idempotency
        && let Some(receipt) = replay(txn, tenant, key, now)?
    {
        return Ok(receipt);
    }
    check_fence(txn, context, tenant)?;
    let spaces = vectors::read_spaces(txn.connection, tenant)?;
    let mut results = Vec::with_capacity(commit.writes.len());
    let mut position = None;
    let happened = resend::has_happened(txn, tenant, commit, now)?;
    let mut own = happened;
    for (place, (write, derived)) in commit.writes.iter().zip(&prepared.derived).enumerate() {
        let at = |error: Error| {
            if commit.writes.len() > 1 {
                error.with_context("write", place.to_string())
            } else {
                error
            }
        };
        if let (Write::Put(put), Some(derived)) = (write, derived)
            && put.precondition == Precondition::Absent
            && !commit.resend
            && let Some((result, number)) =
                create(txn, tenant, commit, &spaces, put, derived).map_err(at)?
        {
            position = Some(number);
            results.push(result);
            continue;
        }
        let found = find(txn, tenant, write.id(), now).map_err(at)?;
        if happened {
            results.push(resend::done(commit, write, found.as_ref()).map_err(at)?);
            continue;
        }
        if commit.resend
            && let Some(result) = resend::unseen(write, found.as_ref()).map_err(at)?
        {
            own = true;
            results.push(result);
            continue;
        }
        let seen = found.as_ref().filter(|found| found.visible);
        check_precondition(write.precondition(), seen).map_err(at)?;
        let result = match (write, derived) {
            (Write::Put(put), Some(derived)) => {
                let (result, number) =
                    put_one(txn, tenant, commit, &spaces, put, derived, found.as_ref())
                        .map_err(at)?;
                (result, Some(number))
            }
            _ => delete_one(txn, tenant, write.id(), found.as_ref()).map_err(at)?,
        };
        if let Some(number) = result.1 {
            position = Some(number);
        }
        results.push(result.0);
    }
    let position = match position {
        Some(position) => position,
        None => rows::head(txn.connection, tenant)?,
    };
    let receipt = CommitReceipt {
        results,
        position: Some(ChangePosition(position.unsigned_abs())),
        replayed: own,
    };
    if let Some(key) = &commit.idempotency {
        keep_key(txn, tenant, key, &receipt, now)?;
    }
    Ok(receipt)
}

/// Refuses a write that a fence of the tenant keeps out.
///
/// # Errors
/// `Conflict`.
pub(crate) fn check_fence(txn: &WriteTxn<'_>, context: &CallContext, tenant: i64) -> Result<()> {
    let fence: Option<i64> = rows::value::<Option<i64>>(
        txn.connection,
        "SELECT fence FROM tenant WHERE tenant = ?1",
        [tenant],
    )?
    .flatten();
    let token = context.fence.and_then(|token| i64::try_from(token.0).ok());
    match fence {
        Some(fence) if token.is_none_or(|token| token < fence) => {
            Err(Error::new(ErrorKind::Conflict, "a write fence stands before the tenant"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn find(
    txn: &WriteTxn<'_>,
    tenant: i64,
    id: &MemoryId,
    now: Timestamp,
) -> Result<Option<Found>> {
    txn.connection
        .prepare_cached(
            "SELECT item, revision, commit_id, visible_until, content_hash FROM item \
             WHERE tenant = ?1 AND id = ?2",
        )
        .and_then(|mut select| {
            select
                .query_row(params![tenant, id.as_str()], |row| {
                    Ok(Found {
                        item: row.get(0)?,
                        revision: row.get(1)?,
                        commit: row.get(2)?,
                        visible: now.as_micros() < row.get::<_, i64>(3)?,
                        hash: row.get(4)?,
                    })
                })
                .optional()
        })
        .map_err(map)
}

fn check_precondition(precondition: &Precondition, seen: Option<&Found>) -> Result<()> {
    match (precondition, seen) {
        (Precondition::Any, _) | (Precondition::Absent, None) => Ok(()),
        (Precondition::Absent, Some(_)) => {
            Err(Error::new(ErrorKind::AlreadyExists, "an item with the id exists"))
        }
        (Precondition::Revision(_), None) => {
            Err(Error::new(ErrorKind::NotFound, "no item with the id exists"))
        }
        (Precondition::Revision(wanted), Some(found)) => {
            if model::revision_number(wanted) == Some(found.revision) {
                Ok(())
            } else {
                Err(Error::new(ErrorKind::Conflict, "the item has another revision")
                    .with_context("found", found.revision.to_string())
                    .with_context("wanted", wanted.as_str().to_owned()))
            }
        }
    }
}

/// Creates an item without looking for it first: the index of ids looks anyway. `None` where the id
/// is taken, by a visible item or by an expired one.
fn create(
    txn: &mut WriteTxn<'_>,
    tenant: i64,
    commit: &Commit,
    spaces: &SpaceSlots,
    put: &Put,
    derived: &Derived,
) -> Result<Option<(WriteResult, i64)>> {
    match put_one(txn, tenant, commit, spaces, put, derived, None) {
        Ok(done) => Ok(Some(done)),
        // The insert of the item is the first statement of a put and has undone itself.
        Err(error) if is_taken(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that the index of ids holds the id already.
fn is_taken(error: &Error) -> bool {
    let source = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<rusqlite::Error>());
    matches!(
        source,
        Some(rusqlite::Error::SqliteFailure(failure, _))
            if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE
    )
}

fn put_one(
    txn: &mut WriteTxn<'_>,
    tenant: i64,
    commit: &Commit,
    spaces: &SpaceSlots,
    put: &Put,
    derived: &Derived,
    found: Option<&Found>,
) -> Result<(WriteResult, i64)> {
    let number = txn.next_number();
    let connection = txn.connection;
    let item = match found {
        Some(found) => found.item,
        None => rows::item_key(tenant, number)?,
    };
    let stamp = Stamp { tenant, item, revision: number, commit: commit.id.as_bytes() };
    rows::put_item(connection, &stamp, &put.item, found.is_some())?;

    let keeps = matches!(put.vectors, Vectors::Keep)
        && found.is_some_and(|found| found.hash == *put.item.content_hash().as_bytes());
    let until = put.item.visible_until().as_micros();
    if keeps {
        execute(
            connection,
            "UPDATE derived SET visible_until = ?2, terms = ?3, revision = ?4 WHERE item = ?1",
            params![item, until, derived.terms, number],
        )?;
    } else {
        let mut codes: [Option<&[u8]>; 2] = [None, None];
        let mut data: [Option<&[u8]>; 2] = [None, None];
        for (id, vector) in &derived.vectors {
            let (slot, space) = spaces.slot(id)?;
            vectors::check(space, vector)?;
            codes[usize::from(slot)] = Some(&vector.codes);
            data[usize::from(slot)] = Some(&vector.data);
        }
        let sql = if found.is_some() {
            "INSERT OR REPLACE INTO derived VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
        } else {
            "INSERT INTO derived VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
        };
        let id = put.item.id.as_str();
        let values = params![item, id, number, until, derived.terms, codes[0], codes[1]];
        execute(connection, sql, values)?;
        for (slot, data) in [(0, data[0]), (1, data[1])] {
            let key = rows::vector_key(item, slot);
            match data {
                Some(data) => {
                    execute(
                        connection,
                        "INSERT OR REPLACE INTO vector VALUES (?1, ?2)",
                        params![key, data],
                    )?;
                }
                None if found.is_some() => {
                    execute(connection, "DELETE FROM vector WHERE key = ?1", [key])?;
                }
                None => {}
            }
        }
    }
    rows::log(txn, tenant, number, Op::Put, item, put.item.id.as_str())?;
    let result = WriteResult {
        id: put.item.id.clone(),
        revision: Some(model::revision(number)),
        existed: found.is_some_and(|found| found.visible),
    };
    Ok((result, number))
}

fn delete_one(
    txn: &mut WriteTxn<'_>,
    tenant: i64,
    id: &MemoryId,
    found: Option<&Found>,
) -> Result<(WriteResult, Option<i64>)> {
    let Some(found) = found else {
        return Ok((WriteResult { id: id.clone(), revision: None, existed: false }, None));
    };
    rows::delete_item(txn.connection, found.item)?;
    let number = txn.next_number();
    rows::log(txn, tenant, number, Op::Delete, found.item, id.as_str())?;
    Ok((WriteResult { id: id.clone(), revision: None, existed: found.visible }, Some(number)))
}

/// The answer that a commit under the same key got, if one did within 24 hours.
fn replay(
    txn: &WriteTxn<'_>,
    tenant: i64,
    key: &IdempotencyKey,
    now: Timestamp,
) -> Result<Option<CommitReceipt>> {
    let row: Option<(Vec<u8>, Option<String>)> = txn
        .connection
        .prepare_cached(
            "SELECT digest, result FROM idempotency \
             WHERE tenant = ?1 AND key = ?2 AND expires_at > ?3",
        )
        .and_then(|mut select| {
            select
                .query_row(params![tenant, key.key(), now.as_micros()], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()
        })
        .map_err(map)?;
    let Some((digest, result)) = row else { return Ok(None) };
    if digest != key.digest() {
        return Err(Error::invalid("the idempotency key belongs to another request"));
    }
    let Some(text) = result else {
        return Err(Error::new(
            ErrorKind::Conflict,
            "what the first request under the idempotency key wrote has been erased",
        ));
    };
    let (position, results): (u64, Vec<WriteResult>) =
        serde_json::from_str(&text).map_err(|_| corrupt("idempotency result"))?;
    Ok(Some(CommitReceipt { results, position: Some(ChangePosition(position)), replayed: true }))
}

fn keep_key(
    txn: &WriteTxn<'_>,
    tenant: i64,
    key: &IdempotencyKey,
    receipt: &CommitReceipt,
    now: Timestamp,
) -> Result<()> {
    let position = receipt.position.unwrap_or_default().0;
    let text = serde_json::to_string(&(position, &receipt.results)).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a receipt has no JSON").with_source(error)
    })?;
    let now = now.as_micros();
    execute(
        txn.connection,
        "DELETE FROM idempotency WHERE (tenant, key) IN \
         (SELECT tenant, key FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)",
        [now, STALE_KEYS],
    )?;
    execute(
        txn.connection,
        "INSERT OR REPLACE INTO idempotency VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            tenant,
            key.key(),
            key.digest(),
            text,
            now.saturating_add(limits::IDEMPOTENCY_MICROS)
        ],
    )?;
    Ok(())
}

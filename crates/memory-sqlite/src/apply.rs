//! Commits: what happens inside a caller's savepoint.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use memory_core::traits::{ChangePosition, Usage};
use memory_core::{
    CallContext, Commit, CommitReceipt, Error, ErrorKind, IdempotencyKey, MemoryId, MemoryItem,
    Precondition, Put, Result, SpaceId, TenantId, Timestamp, Vectors, Write, WriteResult, limits,
};
use rusqlite::{OptionalExtension as _, params};

use crate::error::{corrupt, map};
use crate::rows::{self, Op, Stamp, execute};
use crate::store::Shared;
use crate::vectors::{self, EncodedVector, SpaceColumns, SpaceSlots};
use crate::writer::WriteTxn;
use crate::{model, resend};

/// Expired idempotency keys cleared by each commit that brings one: two, so that they shrink.
const STALE_KEYS: i64 = 2;

/// A commit that was checked, and what is derived from it: terms and int8 copies, made on the
/// caller's side while the writer is at work already.
pub(crate) struct Prepared {
    commit: Commit,
    /// One for each write; those of deletes stay empty.
    derived: Vec<OnceLock<Derived>>,
    /// The first write whose turn to be made has not come.
    next: AtomicUsize,
    shared: Arc<Shared>,
}

#[derive(Clone)]
struct Derived {
    terms: Vec<u8>,
    vectors: BTreeMap<SpaceId, EncodedVector>,
}

/// Fewest writes for which another thread is worth its start: some ten times what it costs.
const WRITES_A_THREAD: usize = 64;
/// Most threads that make terms and int8 copies for one commit, the caller's and the writer's
/// among them.
const THREADS: usize = 4;

/// Threads that the machine runs at once. Asked once: the answer takes reads of several files.
static CORES: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));

impl Prepared {
    /// Checks a commit.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub(crate) fn new(commit: Commit, shared: Arc<Shared>) -> Result<Self> {
        commit.validate()?;
        for (place, write) in commit.writes.iter().enumerate() {
            let Write::Put(put) = write else { continue };
            let Vectors::Replace(vectors) = &put.vectors else { continue };
            for vector in vectors.values() {
                vectors::examine(vector)
                    .map_err(|error| error.with_context("write", place.to_string()))?;
            }
        }
        let derived = (0..commit.writes.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { commit, derived, next: AtomicUsize::new(0), shared })
    }

    /// What the commit costs.
    pub(crate) fn usage(&self) -> Usage {
        let (mut puts, mut deletes, mut bytes) = (0, 0, 0);
        for write in &self.commit.writes {
            match write {
                Write::Put(put) => {
                    puts += 1;
                    bytes += put.item.content().len() as u64;
                }
                Write::Delete(_) => deletes += 1,
            }
        }
        Usage::writes(puts, deletes).with_bytes(bytes)
    }

    /// Makes what is derived, in the order in which the writer needs it, with more threads beside
    /// the caller's and the writer's where the commit is large and the machine has them.
    pub(crate) fn make(&self) {
        let writes = self.commit.writes.len();
        let threads = match writes / WRITES_A_THREAD {
            0 | 1 => 0,
            shares => shares.min(THREADS.min(*CORES).saturating_sub(2)),
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                // Where there is no thread to be had, the caller's does it all.
                let _ = std::thread::Builder::new().spawn_scoped(scope, || self.make_some());
            }
            self.make_some();
        });
    }

    fn make_some(&self) {
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            match self.commit.writes.get(place) {
                Some(Write::Put(put)) => {
                    // It was not there before: each place has one turn.
                    let _ = self.derived[place].set(derive(put, &self.shared));
                }
                Some(Write::Delete(_)) => {}
                None => return,
            }
        }
    }

    /// What is derived from a write, for the writer: as it was made, or made here and now where its
    /// turn has not come or whoever makes it has not ended yet. The writer waits for nobody.
    fn take(&self, place: usize, put: &Put) -> Cow<'_, Derived> {
        if let Some(derived) = self.derived[place].get() {
            return Cow::Borrowed(derived);
        }
        self.next.fetch_max(place + 1, Ordering::Relaxed);
        Cow::Owned(derive(put, &self.shared))
    }
}

fn derive(put: &Put, shared: &Shared) -> Derived {
    let vectors = match &put.vectors {
        Vectors::Keep => BTreeMap::new(),
        Vectors::Replace(vectors) => vectors::encode(vectors),
    };
    let item = &put.item;
    let terms = model::terms_of(&shared.analyzer, item.author.as_deref(), item.content());
    Derived { terms, vectors }
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
    let Standing { tenant, fence, spaces } = stand(txn, &context.tenant)?;
    // A replay writes nothing, so a fence does not concern it.
    if let Some(key) = &commit.idempotency
        && let Some(receipt) = replay(txn, tenant, key, now)?
    {
        return Ok(receipt);
    }
    refuse_fenced(context, fence)?;
    let mut results = Vec::with_capacity(commit.writes.len());
    let mut position = None;
    let happened = resend::has_happened(txn, tenant, commit, now)?;
    let mut own = happened;
    for (place, write) in commit.writes.iter().enumerate() {
        let at = |error: Error| {
            if commit.writes.len() > 1 {
                error.with_context("write", place.to_string())
            } else {
                error
            }
        };
        if let Write::Put(put) = write
            && put.precondition == Precondition::Absent
            && !commit.resend
            && let Some((result, number)) =
                create(txn, tenant, commit, &spaces, put, &prepared.take(place, put)).map_err(at)?
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
        let result = match write {
            Write::Put(put) => {
                let derived = &prepared.take(place, put);
                let (result, number) =
                    put_one(txn, tenant, commit, &spaces, put, derived, found.as_ref())
                        .map_err(at)?;
                (result, Some(number))
            }
            Write::Delete(delete) => {
                delete_one(txn, tenant, &delete.id, found.as_ref()).map_err(at)?
            }
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

/// What a commit has to know of its tenant.
struct Standing {
    tenant: i64,
    fence: Option<i64>,
    spaces: SpaceSlots,
}

/// Reads a tenant's row, which is made if it has none; it is listed from now on.
fn stand(txn: &mut WriteTxn<'_>, tenant: &TenantId) -> Result<Standing> {
    let row = txn
        .connection
        .prepare_cached(
            "SELECT tenant, listed, fence, active_space, next_space, active_slot, space_version \
             FROM tenant WHERE name = ?1",
        )
        .and_then(|mut select| {
            select
                .query_row([tenant.as_str()], |row| {
                    let listed: bool = row.get(1)?;
                    Ok((row.get(0)?, listed, row.get(2)?, SpaceColumns::read(row, 3)?))
                })
                .optional()
        })
        .map_err(map)?;
    match row {
        Some((tenant, true, fence, spaces)) => {
            Ok(Standing { tenant, fence, spaces: spaces.slots()? })
        }
        Some((_, false, fence, spaces)) => {
            let tenant = rows::tenant_for_write(txn, tenant, true)?;
            Ok(Standing { tenant, fence, spaces: spaces.slots()? })
        }
        None => {
            let tenant = rows::tenant_for_write(txn, tenant, true)?;
            Ok(Standing { tenant, fence: None, spaces: SpaceSlots::default() })
        }
    }
}

/// Refuses a write that a fence of the tenant keeps out.
///
/// # Errors
/// `Conflict`.
pub(crate) fn check_fence(txn: &WriteTxn<'_>, context: &CallContext, tenant: i64) -> Result<()> {
    let fence = rows::value::<Option<i64>>(
        txn.connection,
        "SELECT fence FROM tenant WHERE tenant = ?1",
        [tenant],
    )?;
    refuse_fenced(context, fence.flatten())
}

fn refuse_fenced(context: &CallContext, fence: Option<i64>) -> Result<()> {
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
    let session = model::session_of(&put.item);
    let MemoryItem { author, importance, occurred_at, .. } = &put.item;
    let occurred_at = occurred_at.as_micros();
    let id = put.item.id.as_str();
    if keeps {
        execute(
            connection,
            "UPDATE derived SET revision = ?2, visible_until = ?3, session = ?4, author = ?5, \
             importance = ?6, occurred_at = ?7, terms = ?8 WHERE item = ?1",
            params![item, number, until, session, author, importance, occurred_at, derived.terms],
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
            "INSERT OR REPLACE INTO derived \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        } else {
            "INSERT INTO derived VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
        };
        let values = params![
            item,
            id,
            number,
            until,
            session,
            author,
            importance,
            occurred_at,
            derived.terms,
            codes[0],
            codes[1]
        ];
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
    rows::log(txn, tenant, number, Op::Put, item, id)?;
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

//! The change log of each tenant: numbered entries, one for each commit, that cannot have gaps.
//!
//! An entry is a document that must not exist when it is made; its number is one more than that of
//! the newest, which must exist still, for old entries are dropped. Whoever finds it otherwise has
//! not written anything and reads the newest anew. So the entries of a tenant are dense and in the
//! order of its commits, at the price of one commit under way for a tenant at a time. Writers of one
//! process take turns; writers of several meet on the number.
//!
//! A position is the entry's number times 65,536 and the place of the change in the entry; the last
//! change of an entry has place 65,535, so that a position tells by itself whether its entry has
//! been read to the end.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use lru::LruCache;
use memory_core::traits::{Change, ChangeOp, ChangePosition};
use memory_core::{ContentHash, Error, ErrorKind, MemoryId, Result, Revision, TenantId, Timestamp};
use proto::value::ValueType;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use super::scan::Scan;
use crate::error::corrupt;
use crate::model;
use crate::names::Names;
use crate::revision::Parts;
use crate::store::FirestoreStore;
use crate::wire::{Call, Found, Write};

/// The number of an entry.
pub(super) const NUMBER: &str = "n";
/// The changes of an entry, as JSON.
const OPS: &str = "ops";
/// Most changes of one entry: a JSON text of 200 of the longest ids is far below a document's limit.
pub(super) const MOST_OPS: usize = 200;
/// Bits of a position below the entry's number, and the place of an entry's last change.
const BITS: u32 = 16;
const LAST: u64 = (1 << BITS) - 1;
/// Tenants whose newest number is remembered.
const TENANTS: usize = 10_000;

/// What happened to an item.
#[derive(Clone, Debug)]
pub(crate) enum LogOp {
    /// It was put, in the same commit as the entry.
    Put { id: MemoryId, until: Option<Timestamp>, hash: ContentHash },
    /// Its vectors changed.
    Vectors { id: MemoryId, revision: Revision },
    /// It was deleted.
    Delete { id: MemoryId },
    /// Readers have to rebuild.
    Reset,
}

/// A change as an entry holds it.
#[derive(Serialize, Deserialize)]
enum Stored {
    /// Id, expiry in microseconds, the beginning of the content's hash. The revision is told by the
    /// entry's own update time, which is that of the whole commit.
    #[serde(rename = "p")]
    Put(MemoryId, Option<Timestamp>, String),
    #[serde(rename = "v")]
    Vectors(MemoryId, Revision),
    #[serde(rename = "d")]
    Delete(MemoryId),
    #[serde(rename = "r")]
    Reset,
}

/// The newest number of a tenant's log, where it is remembered.
type Head = Arc<tokio::sync::Mutex<Option<u64>>>;

/// What is remembered of tenants' change logs.
#[derive(Debug)]
pub(crate) struct Logs(Mutex<LruCache<TenantId, Head>>);

impl Default for Logs {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(TENANTS).unwrap_or(NonZeroUsize::MIN))))
    }
}

impl Logs {
    fn of(&self, tenant: &TenantId) -> Head {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.get_or_insert(tenant.clone(), Head::default))
    }
}

/// A tenant's turn to write its log. Dropped without [`LogTurn::done`], it forgets the newest
/// number, for what became of its entries is not known.
#[derive(Debug)]
pub(crate) struct LogTurn {
    known: OwnedMutexGuard<Option<u64>>,
    head: u64,
    /// Holds the commit to the newest entry's being there still, or to there being none; `None`
    /// where the server cannot. Then nothing is remembered.
    newest: Option<Write>,
    /// Whether there is an entry at all.
    any: bool,
}

impl FirestoreStore {
    /// The tenant's turn, after those of other calls of this process; `None` where the change log
    /// is off.
    ///
    /// Billed: nothing where the newest number is remembered, else one read, or two where the log
    /// is empty.
    pub(crate) async fn log_turn(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
    ) -> Result<Option<LogTurn>> {
        if !self.settings.change_log {
            return Ok(None);
        }
        self.turn(call, tenant).await.map(Some)
    }

    /// After the commit of a turn, if there was one: ends it as [`LogTurn::done`] does, and lets the
    /// next have theirs. Every so often a trim follows: see [`FirestoreStore::trim`].
    pub(crate) async fn log_done(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        turn: Option<LogTurn>,
        ops: usize,
    ) -> Option<ChangePosition> {
        let turn = turn?;
        let (before, head) = (turn.number(), turn.after(ops));
        let position = turn.done(ops);
        self.trim(call, tenant, before, head).await;
        Some(position)
    }

    /// As [`FirestoreStore::log_turn`], also where the log is off.
    pub(crate) async fn turn(&self, call: Call<'_>, tenant: &TenantId) -> Result<LogTurn> {
        let waiting = self.logs.of(tenant).lock_owned();
        let now = self.clock.monotonic();
        let deadline = call.context.and_then(|context| context.deadline);
        let mut known = match deadline {
            None => waiting.await,
            Some(by) => tokio::time::timeout(by.remaining(now), waiting).await.map_err(|_| {
                Error::new(ErrorKind::Timeout, "other commits of the tenant took too long")
            })?,
        };
        let verifies = self.verifies(call).await?;
        let entry = match known.take() {
            Some(head) => Some(head),
            None => self.newest_entry(call, tenant).await?,
        };
        if let Some(head) = entry {
            let name = entry_name(&self.names, tenant, head);
            let newest = verifies.then(|| Write::verify(name).if_exists(true));
            return Ok(LogTurn { known, head, newest, any: true });
        }
        let remains = self.remains(call, tenant).await?;
        let newest = match verifies {
            true => Some(remains.verify(self.remains_name(call, tenant).await?)),
            false => None,
        };
        Ok(LogTurn { known, head: remains.floor, newest, any: false })
    }

    async fn newest_entry(&self, call: Call<'_>, tenant: &TenantId) -> Result<Option<u64>> {
        let newest = Scan::of(&self.names.changes).latest(NUMBER).limit(1).select(&[NUMBER]);
        let found = self.scan(call, &self.names.tenant(tenant), newest).await?;
        found.first().map(number).transpose()
    }

    /// Whether a tenant's log has a position. Waits for no commit that is under way.
    ///
    /// Billed: nothing where the newest number is remembered and reaches so far, else one read, or
    /// two where the log is empty.
    pub(crate) async fn log_has(
        &self,
        call: Call<'_>,
        tenant: &TenantId,
        position: ChangePosition,
    ) -> Result<bool> {
        let known = self.logs.of(tenant).try_lock().ok().and_then(|known| *known);
        if known.is_some_and(|head| position <= end_of(head)) {
            return Ok(true);
        }
        Ok(position <= end_of(self.log_head(call, tenant).await?))
    }

    /// The newest number of a tenant's log; 0 where there has never been an entry.
    ///
    /// Billed: one read, or two where the log is empty.
    pub(super) async fn log_head(&self, call: Call<'_>, tenant: &TenantId) -> Result<u64> {
        match self.newest_entry(call, tenant).await? {
            Some(number) => Ok(number),
            None => Ok(self.remains(call, tenant).await?.floor),
        }
    }
}

impl LogTurn {
    /// The newest position after this turn, if it logs as many changes; the head for none.
    pub(crate) fn position(&self, ops: usize) -> ChangePosition {
        end_of(self.after(ops))
    }

    /// The newest number before this turn.
    pub(super) fn number(&self) -> u64 {
        self.head
    }

    fn after(&self, ops: usize) -> u64 {
        self.head + ops.div_ceil(MOST_OPS) as u64
    }

    /// The entries of these changes, in order, and what holds the commit to their being the next;
    /// nothing for no changes.
    ///
    /// # Errors
    /// `Unexpected`: a change without a JSON form, which there is none of.
    pub(crate) fn writes(
        &self,
        names: &Names,
        tenant: &TenantId,
        ops: &[LogOp],
    ) -> Result<Vec<Write>> {
        if ops.is_empty() {
            return Ok(Vec::new());
        }
        let entries = (self.head + 1..).zip(ops.chunks(MOST_OPS));
        let entries = entries.map(|(number, ops)| entry(names, tenant, number, ops));
        self.newest.iter().cloned().map(Ok).chain(entries).collect()
    }

    /// After the commit: remembers the newest number. The answer is the position of the last of the
    /// changes, or the head for none.
    pub(crate) fn done(mut self, ops: usize) -> ChangePosition {
        let head = self.after(ops);
        // In an empty log there is no entry to hold to.
        let any = self.any || ops > 0;
        *self.known = (any && self.newest.is_some()).then_some(head);
        end_of(head)
    }
}

/// The position of an entry's last change; the start for the number that no entry has.
pub(super) fn end_of(number: u64) -> ChangePosition {
    ChangePosition(if number == 0 { 0 } else { number << BITS | LAST })
}

/// The number of the newest entry that a reader at this position has read to its end.
pub(super) fn read_to(position: ChangePosition) -> u64 {
    let number = position.0 >> BITS;
    if position.0 & LAST == LAST { number } else { number.saturating_sub(1) }
}

/// The name of an entry's document.
pub(super) fn entry_name(names: &Names, tenant: &TenantId, number: u64) -> String {
    names.below(tenant, &names.changes, &format!("{number:016x}"))
}

fn entry(names: &Names, tenant: &TenantId, number: u64, ops: &[LogOp]) -> Result<Write> {
    let stored: Vec<_> = ops
        .iter()
        .map(|op| match op {
            LogOp::Put { id, until, hash } => {
                let digits = crate::names::digits(&Parts::new(0, None, hash).hash);
                Stored::Put(id.clone(), *until, digits)
            }
            LogOp::Vectors { id, revision } => Stored::Vectors(id.clone(), revision.clone()),
            LogOp::Delete { id } => Stored::Delete(id.clone()),
            LogOp::Reset => Stored::Reset,
        })
        .collect();
    let text = serde_json::to_string(&stored).map_err(|error| {
        Error::new(ErrorKind::Unexpected, "a change has no JSON").with_source(error)
    })?;
    let fields = HashMap::from([
        model::shape_field(),
        (NUMBER.to_owned(), model::value(ValueType::IntegerValue(number.cast_signed()))),
        (OPS.to_owned(), model::text(text)),
    ]);
    let name = entry_name(names, tenant, number);
    let document = proto::Document { name, fields, create_time: None, update_time: None };
    Ok(Write::update(document).if_exists(false))
}

/// The number of an entry.
///
/// # Errors
/// `Corrupt`.
pub(super) fn number(found: &Found) -> Result<u64> {
    match found.fields.get(NUMBER).and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::IntegerValue(number)) if *number > 0 => Ok(number.unsigned_abs()),
        _ => Err(corrupt("number of a change")),
    }
}

/// The changes of an entry, in order.
///
/// # Errors
/// `Corrupt`, `Unsupported`.
pub(super) fn changes(found: &Found) -> Result<Vec<Change>> {
    model::check_shape(&found.fields)?;
    let number = number(found)?;
    let bad = || corrupt("list of changes");
    let Some(ValueType::StringValue(text)) =
        found.fields.get(OPS).and_then(|value| value.value_type.as_ref())
    else {
        return Err(bad());
    };
    let stored: Vec<Stored> = serde_json::from_str(text).map_err(|_| bad())?;
    let count = stored.len();
    let change = |(place, stored): (usize, Stored)| {
        let position = if place + 1 == count {
            end_of(number)
        } else {
            ChangePosition(number << BITS | place as u64)
        };
        let op = match stored {
            Stored::Put(id, until, digits) => {
                let mut hash = [0; 32];
                for (at, byte) in hash.iter_mut().take(digits.len() / 2).enumerate() {
                    let two = digits.get(at * 2..at * 2 + 2).ok_or_else(bad)?;
                    *byte = u8::from_str_radix(two, 16).map_err(|_| bad())?;
                }
                let hash = ContentHash::from_bytes(hash);
                ChangeOp::Put(id, Parts::new(found.updated_at, until, &hash).issue())
            }
            Stored::Vectors(id, revision) => ChangeOp::Vectors(id, revision),
            Stored::Delete(id) => ChangeOp::Delete(id),
            Stored::Reset => ChangeOp::Reset,
        };
        Ok(Change { position, op })
    };
    stored.into_iter().enumerate().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_written() {
        let names = Names::new("p", "(default)", "x_");
        let tenant = TenantId::new("a/b").unwrap();
        let id = |text: &str| MemoryId::new(text).unwrap();
        let hash = ContentHash::of("text");
        let revision = Revision::new("7.-.00").unwrap();
        let until = Some(Timestamp::from_micros(5).unwrap());
        let ops = [
            LogOp::Put { id: id("\"é"), until, hash },
            LogOp::Vectors { id: id("v"), revision: revision.clone() },
            LogOp::Reset,
            LogOp::Delete { id: id("d") },
        ];
        let write = entry(&names, &tenant, 9, &ops).unwrap();
        let Some(crate::wire::Operation::Update(document)) = write.operation else { panic!() };
        assert!(document.name.ends_with("/x_tenants/a.1b/x_changes/0000000000000009"));
        let found =
            Found { name: document.name, fields: document.fields, created_at: 1, updated_at: 77 };
        let changes = changes(&found).unwrap();
        let places: Vec<_> = changes.iter().map(|change| change.position.0).collect();
        assert_eq!(places, [9 << 16, 9 << 16 | 1, 9 << 16 | 2, 9 << 16 | 0xFFFF]);
        let put = Parts::new(77, until, &hash).issue();
        let ops: Vec<_> = changes.into_iter().map(|change| change.op).collect();
        let expected = [
            ChangeOp::Put(id("\"é"), put),
            ChangeOp::Vectors(id("v"), revision),
            ChangeOp::Reset,
            ChangeOp::Delete(id("d")),
        ];
        assert_eq!(ops, expected);
    }

    #[test]
    fn positions_tell_whether_their_entry_is_read() {
        assert_eq!(end_of(0), ChangePosition(0));
        for (position, number) in [(end_of(0), 0), (end_of(4), 4), (ChangePosition(4 << 16), 3)] {
            assert_eq!(read_to(position), number);
        }
        assert!(end_of(4) < ChangePosition(5 << 16) && ChangePosition(4 << 16 | 199) < end_of(4));
    }

    #[tokio::test]
    async fn a_turn_that_was_not_done_is_forgotten() {
        let (logs, tenant) = (Logs::default(), TenantId::new("t").unwrap());
        let newest = Some(Write::verify("x".to_owned()).if_exists(true));
        let known = logs.of(&tenant).lock_owned().await;
        let turn = LogTurn { known, head: 4, newest: newest.clone(), any: true };
        assert_eq!((turn.position(0), turn.number()), (end_of(4), 4));
        let names = Names::new("p", "(default)", "");
        assert!(turn.writes(&names, &tenant, &[]).unwrap().is_empty());
        assert_eq!(turn.writes(&names, &tenant, &[LogOp::Reset]).unwrap().len(), 2);
        assert_eq!(turn.position(201), end_of(6));
        assert_eq!(turn.done(1), end_of(5));
        let mut known = logs.of(&tenant).lock_owned().await;
        assert_eq!(known.take(), Some(5));
        drop(LogTurn { known, head: 5, newest, any: true });
        assert_eq!(*logs.of(&tenant).lock_owned().await, None);
        let known = logs.of(&tenant).lock_owned().await;
        LogTurn { known, head: 5, newest: None, any: true }.done(1);
        assert_eq!(*logs.of(&tenant).lock_owned().await, None, "nothing holds it");
    }
}

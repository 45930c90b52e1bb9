//! A tenant's spaces, changed under their version; vectors kept for items that exist already.

use memory_core::traits::{TenantSpaces, Tombstone, UpsertOutcome};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, Result, Revision, Timestamp, limits,
};
use rusqlite::{OptionalExtension as _, params};

use crate::error::map;
use crate::model;
use crate::rows::{self, Op, execute};
use crate::vectors::{self, EncodedVector};
use crate::writer::WriteTxn;

/// Replaces a tenant's spaces if nobody else has.
pub(crate) fn set_spaces(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    wanted: &TenantSpaces,
) -> Result<TenantSpaces> {
    check_spaces(wanted)?;
    let tenant = rows::tenant_for_write(txn, &context.tenant, false)?;
    let stored = vectors::read_spaces(txn.connection, tenant)?;
    if stored.spaces.version != wanted.version {
        return Err(Error::new(ErrorKind::Conflict, "the tenant's spaces were changed meanwhile"));
    }
    // A space that is still named keeps its slot: the two turn where the next one becomes active, or
    // the active one becomes the next.
    let (before, active) = (&stored.spaces, wanted.active.as_ref());
    let turned = active != before.active.as_ref()
        && ((active.is_some() && active == before.next.as_ref())
            || (wanted.next.is_some() && wanted.next == before.active));
    let active_slot = if turned { 1 - stored.active_slot } else { stored.active_slot };
    let after = vectors::SpaceSlots {
        // A number of the store, not the next one: after an erasure no old version fits.
        spaces: TenantSpaces { version: txn.next_number().unsigned_abs(), ..wanted.clone() },
        active_slot,
    };
    for slot in [0_u8, 1] {
        let held = |slots: &vectors::SpaceSlots| {
            slots.each().find(|(at, _)| *at == slot).map(|(_, space)| space.clone())
        };
        if let Some(before) = held(&stored)
            && held(&after).as_ref() != Some(&before)
        {
            clear_slot(txn, tenant, slot)?;
        }
    }
    let text = |space: &Option<EmbeddingSpace>| {
        space.as_ref().map(serde_json::to_string).transpose().map_err(|error| {
            Error::new(ErrorKind::Unexpected, "a space has no JSON").with_source(error)
        })
    };
    execute(
        txn.connection,
        "UPDATE tenant SET active_space = ?2, next_space = ?3, active_slot = ?4, \
         space_version = ?5 WHERE tenant = ?1",
        params![
            tenant,
            text(&wanted.active)?,
            text(&wanted.next)?,
            active_slot,
            i64::try_from(after.spaces.version).unwrap_or(i64::MAX)
        ],
    )?;
    // Indexes in memory, of every process, are made with the spaces they had.
    rows::reset_log(txn, tenant)?;
    Ok(after.spaces)
}

fn check_spaces(spaces: &TenantSpaces) -> Result<()> {
    match (&spaces.active, &spaces.next) {
        (None, Some(_)) => Err(Error::invalid("a next space without an active one")),
        (Some(active), Some(next)) if active == next => {
            Err(Error::invalid("the next space is the active one"))
        }
        _ => Ok(()),
    }?;
    for space in spaces.active.iter().chain(&spaces.next) {
        if space.dimensions() > limits::DIMENSIONS {
            return Err(Error::invalid("the space has too many dimensions"));
        }
    }
    Ok(())
}

/// Removes the vectors of a slot that changes hands.
fn clear_slot(txn: &WriteTxn<'_>, tenant: i64, slot: u8) -> Result<()> {
    let (first, end) = rows::item_range(tenant);
    execute(
        txn.connection,
        "DELETE FROM vector WHERE key >= ?1 AND key < ?2 AND (key & 1) = ?3",
        params![rows::vector_key(first, 0), rows::vector_key(end, 0), slot],
    )?;
    let sql = if slot == 0 {
        "UPDATE derived SET codes0 = NULL WHERE item >= ?1 AND item < ?2 AND codes0 IS NOT NULL"
    } else {
        "UPDATE derived SET codes1 = NULL WHERE item >= ?1 AND item < ?2 AND codes1 IS NOT NULL"
    };
    execute(txn.connection, sql, [first, end])?;
    Ok(())
}

/// A vector for an item, encoded on the caller's thread; `None` removes it.
pub(crate) struct VectorWrite {
    pub(crate) id: MemoryId,
    /// The revision it was made from; `None` for a removal, which asks for none.
    pub(crate) revision: Option<Revision>,
    pub(crate) vector: Option<EncodedVector>,
}

/// Keeps or forgets vectors of items that are there.
pub(crate) fn write_vectors(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    writes: &[VectorWrite],
    now: Timestamp,
) -> Result<Vec<UpsertOutcome>> {
    let Some(tenant) = rows::tenant_number(txn.connection, &context.tenant)? else {
        return Err(Error::invalid("the tenant has no embedding space"));
    };
    crate::apply::check_fence(txn, context, tenant)?;
    let slots = vectors::read_spaces(txn.connection, tenant)?;
    let (slot, stored) = slots.slot(&space.id())?;
    let mut outcomes = Vec::with_capacity(writes.len());
    for write in writes {
        if let Some(vector) = &write.vector {
            vectors::check(stored, vector)?;
        }
        let found: Option<(i64, i64)> = txn
            .connection
            .prepare_cached(
                "SELECT item, revision FROM item \
                 WHERE tenant = ?1 AND id = ?2 AND visible_until > ?3",
            )
            .and_then(|mut select| {
                select
                    .query_row(params![tenant, write.id.as_str(), now.as_micros()], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })
                    .optional()
            })
            .map_err(map)?;
        let current = found.filter(|(_, revision)| {
            write
                .revision
                .as_ref()
                .is_none_or(|wanted| model::revision_number(wanted) == Some(*revision))
        });
        let Some((item, _)) = current else {
            outcomes.push(UpsertOutcome::Stale);
            continue;
        };
        let key = rows::vector_key(item, slot);
        match &write.vector {
            Some(vector) => execute(
                txn.connection,
                "INSERT OR REPLACE INTO vector VALUES (?1, ?2)",
                params![key, vector.data],
            )?,
            None => execute(txn.connection, "DELETE FROM vector WHERE key = ?1", [key])?,
        };
        let sql = if slot == 0 {
            "UPDATE derived SET codes0 = ?2 WHERE item = ?1"
        } else {
            "UPDATE derived SET codes1 = ?2 WHERE item = ?1"
        };
        let codes = write.vector.as_ref().map(|vector| &vector.codes);
        execute(txn.connection, sql, params![item, codes])?;
        let position = txn.next_number();
        rows::log(txn, tenant, position, Op::Vectors, item, write.id.as_str())?;
        outcomes.push(UpsertOutcome::Stored);
    }
    Ok(outcomes)
}

/// Takes in tombstones of another store's making under this store's key.
pub(crate) fn add_tombstones(txn: &WriteTxn<'_>, tombstones: &[Tombstone]) -> Result<()> {
    if tombstones.len() > 1_000 {
        return Err(Error::invalid("1000 tombstones at the most are taken in at once"));
    }
    for tombstone in tombstones {
        execute(txn.connection, "INSERT OR IGNORE INTO tombstone VALUES (?1)", [tombstone.0])?;
    }
    Ok(())
}

//! The change log for consumers outside the store, and the list of tenants.

use std::collections::BTreeMap;

use memory_core::limits::CHANGES;
use memory_core::traits::{Change, ChangeBatch, ChangeOp, ChangePosition, TenantPage};
use memory_core::{CallContext, ConsumerName, Error, MemoryId, Result, TenantId};
use rusqlite::{Connection, params};

use crate::error::{corrupt, map};
use crate::model;
use crate::read::snapshot;
use crate::rows::{self, Op, execute, value};
use crate::writer::WriteTxn;

/// Entries of a tenant's log after a position.
pub(crate) fn read(
    connection: &Connection,
    context: &CallContext,
    after: ChangePosition,
    limit: u32,
) -> Result<ChangeBatch> {
    if limit == 0 || limit > CHANGES {
        return Err(Error::invalid(format!("a read of changes takes 1 to {CHANGES} entries")));
    }
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    snapshot(connection, || {
        let Some(tenant) = rows::tenant_number(connection, &context.tenant)? else {
            // Whoever has read of it before has missed its erasure.
            return Ok(ChangeBatch { gap: after > 0, ..ChangeBatch::default() });
        };
        let mut select = connection
            .prepare_cached(
                "SELECT c.seq, c.op, c.id, i.revision FROM change c \
                 LEFT JOIN item i ON i.item = c.item AND c.op IN (0, 1) \
                 WHERE c.tenant = ?1 AND c.seq > ?2 ORDER BY c.seq LIMIT ?3",
            )
            .map_err(map)?;
        let mut found = select.query(params![tenant, after, limit]).map_err(map)?;
        let mut changes = Vec::new();
        while let Some(row) = found.next().map_err(map)? {
            let position: i64 = row.get(0).map_err(map)?;
            let id = || -> Result<MemoryId> {
                MemoryId::new(row.get::<_, String>(2).map_err(map)?).map_err(|_| corrupt("id"))
            };
            let op = match Op::from_number(row.get(1).map_err(map)?)? {
                // A put's position is the revision that it gave the item.
                Op::Put => ChangeOp::Put(id()?, model::revision(position)),
                Op::Vectors => {
                    let current: Option<i64> = row.get(3).map_err(map)?;
                    ChangeOp::Vectors(id()?, model::revision(current.unwrap_or(position)))
                }
                Op::Delete => ChangeOp::Delete(id()?),
                Op::Reset => ChangeOp::Reset,
            };
            changes.push(Change { position: ChangePosition(position.unsigned_abs()), op });
        }
        let head = rows::head(connection, tenant)?;
        let gap = rows::has_gap(connection, tenant, after)?;
        Ok(ChangeBatch { changes, head: ChangePosition(head.unsigned_abs()), gap })
    })
}

/// Registers a consumer or moves it forward.
pub(crate) fn acknowledge(
    txn: &mut WriteTxn<'_>,
    context: &CallContext,
    consumer: &ConsumerName,
    position: ChangePosition,
) -> Result<()> {
    let tenant = rows::tenant_for_write(txn, &context.tenant, false)?;
    let position = i64::try_from(position.0).unwrap_or(i64::MAX);
    execute(
        txn.connection,
        "INSERT INTO consumer VALUES (?1, ?2, ?3) \
         ON CONFLICT DO UPDATE SET position = max(position, excluded.position)",
        params![tenant, consumer.as_str(), position],
    )?;
    Ok(())
}

/// The consumers of a tenant's log.
pub(crate) fn consumers(
    connection: &Connection,
    context: &CallContext,
) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
    let Some(tenant) = rows::tenant_number(connection, &context.tenant)? else {
        return Ok(BTreeMap::new());
    };
    let found: Vec<(String, i64)> = connection
        .prepare_cached("SELECT name, position FROM consumer WHERE tenant = ?1")
        .and_then(|mut select| {
            select.query_map([tenant], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .map_err(map)?;
    found
        .into_iter()
        .map(|(name, position)| {
            let name = ConsumerName::new(name).map_err(|_| corrupt("consumer"))?;
            Ok((name, ChangePosition(position.unsigned_abs())))
        })
        .collect()
}

/// Forgets a consumer.
pub(crate) fn forget(
    txn: &WriteTxn<'_>,
    context: &CallContext,
    consumer: &ConsumerName,
) -> Result<()> {
    if let Some(tenant) = rows::tenant_number(txn.connection, &context.tenant)? {
        execute(
            txn.connection,
            "DELETE FROM consumer WHERE tenant = ?1 AND name = ?2",
            params![tenant, consumer.as_str()],
        )?;
    }
    Ok(())
}

/// Tenants after one, in byte order.
pub(crate) fn tenants(
    connection: &Connection,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<TenantPage> {
    if limit == 0 || limit > 1_000 {
        return Err(Error::invalid("a list of tenants takes 1 to 1000"));
    }
    let mut names: Vec<String> = connection
        .prepare_cached(
            "SELECT name FROM tenant WHERE listed = 1 AND name > ?1 ORDER BY name LIMIT ?2",
        )
        .and_then(|mut select| {
            select
                .query_map(
                    params![after.map_or("", TenantId::as_str), i64::from(limit) + 1],
                    |row| row.get(0),
                )?
                .collect()
        })
        .map_err(map)?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = names.len() > most;
    names.truncate(most);
    let tenants = names
        .into_iter()
        .map(|name| TenantId::new(name).map_err(|_| corrupt("tenant")))
        .collect::<Result<_>>()?;
    Ok(TenantPage { tenants, more })
}

/// Which of these ids have a tombstone.
pub(crate) fn erased(
    connection: &Connection,
    context: &CallContext,
    ids: &[MemoryId],
) -> Result<Vec<bool>> {
    if ids.len() > 1_000 {
        return Err(Error::invalid("a look for tombstones takes 1000 ids at the most"));
    }
    let key = crate::erase::store_key(connection)?;
    ids.iter()
        .map(|id| {
            let mac = crate::erase::tombstone(&key, &context.tenant, id.as_str());
            let found: Option<i64> =
                value(connection, "SELECT 1 FROM tombstone WHERE mac = ?1", [mac.0])?;
            Ok(found.is_some())
        })
        .collect()
}

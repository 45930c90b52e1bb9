//! Rows below the level of commits: tenants, the counter, items, the change log.

use memory_core::{Error, ErrorKind, MemoryItem, Result, TenantId};
use rusqlite::{Connection, OptionalExtension as _, Params, params};

use crate::error::{corrupt, map};
use crate::model;
use crate::schema::{ITEMS_PER_TENANT, MOST_TENANTS};
use crate::writer::WriteTxn;

/// What a change was; the numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Put = 0,
    Vectors = 1,
    Delete = 2,
    Reset = 3,
}

impl Op {
    pub(crate) fn from_number(number: i64) -> Result<Self> {
        Ok(match number {
            0 => Self::Put,
            1 => Self::Vectors,
            2 => Self::Delete,
            3 => Self::Reset,
            _ => return Err(corrupt("change")),
        })
    }
}

/// Runs a cached statement that changes rows.
pub(crate) fn execute(connection: &Connection, sql: &str, values: impl Params) -> Result<usize> {
    connection.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(map)
}

/// Reads one value with a cached statement; `None` where there is no row.
pub(crate) fn value<T: rusqlite::types::FromSql>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Option<T>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(values, |row| row.get(0)).optional())
        .map_err(map)
}

pub(crate) fn read_counter(connection: &Connection) -> Result<i64> {
    value(connection, "SELECT value FROM meta WHERE key = 'counter'", [])?
        .ok_or_else(|| corrupt("counter"))
}

pub(crate) fn write_counter(connection: &Connection, counter: i64) -> Result<()> {
    execute(connection, "UPDATE meta SET value = ?1 WHERE key = 'counter'", [counter])?;
    Ok(())
}

/// The number of a tenant, if the file knows it.
pub(crate) fn tenant_number(connection: &Connection, tenant: &TenantId) -> Result<Option<i64>> {
    value(connection, "SELECT tenant FROM tenant WHERE name = ?1", [tenant.as_str()])
}

/// The number of a tenant, which gets a row if it has none; listed once it has been written to.
pub(crate) fn tenant_for_write(
    txn: &mut WriteTxn<'_>,
    tenant: &TenantId,
    listed: bool,
) -> Result<i64> {
    let connection = txn.connection;
    if let Some(number) = tenant_number(connection, tenant)? {
        if listed {
            execute(
                connection,
                "UPDATE tenant SET listed = 1 WHERE tenant = ?1 AND listed = 0",
                [number],
            )?;
        }
        return Ok(number);
    }
    // Its own counter and not the store's: item keys leave room for 2^26 tenants.
    let last: i64 =
        value(connection, "SELECT value FROM meta WHERE key = 'tenants'", [])?.unwrap_or(0);
    let number = last + 1;
    if number >= MOST_TENANTS {
        return Err(Error::new(ErrorKind::Unsupported, "the file has had too many tenants"));
    }
    execute(connection, "INSERT OR REPLACE INTO meta VALUES ('tenants', ?1)", [number])?;
    let born = txn.next_number();
    execute(
        connection,
        "INSERT INTO tenant (tenant, name, listed, born, log_floor) VALUES (?1, ?2, ?3, ?4, ?4)",
        params![number, tenant.as_str(), listed, born],
    )?;
    Ok(number)
}

/// The keys that a tenant's items lie between: first inclusive, end exclusive.
pub(crate) fn item_range(tenant: i64) -> (i64, i64) {
    (tenant * ITEMS_PER_TENANT, (tenant + 1) * ITEMS_PER_TENANT)
}

/// A key for a new item: the store's counter within the tenant's range, so that no key is ever
/// used twice and an erasure's bound holds against all that is written after it.
pub(crate) fn item_key(tenant: i64, number: i64) -> Result<i64> {
    if number >= ITEMS_PER_TENANT {
        return Err(Error::new(ErrorKind::Unsupported, "the file has had too many changes"));
    }
    Ok(tenant * ITEMS_PER_TENANT + number)
}

/// Numbers that go into an item's row beside the item.
pub(crate) struct Stamp<'a> {
    pub(crate) tenant: i64,
    pub(crate) item: i64,
    pub(crate) revision: i64,
    pub(crate) commit: &'a [u8; 16],
}

/// Writes an item's row, new or in the place of the one with its key.
pub(crate) fn put_item(
    connection: &Connection,
    stamp: &Stamp<'_>,
    item: &MemoryItem,
    replace: bool,
) -> Result<()> {
    let payload = item.payload.as_ref().map(ToString::to_string);
    let hash = item.content_hash();
    let values = params![
        stamp.item,
        stamp.tenant,
        item.id.as_str(),
        item.user_id.as_ref().map(AsRef::<str>::as_ref),
        item.agent_id.as_ref().map(AsRef::<str>::as_ref),
        item.session_id.as_ref().map(AsRef::<str>::as_ref),
        item.kind.name(),
        item.role.map(memory_core::Role::name),
        item.author,
        item.content(),
        payload,
        model::metadata_text(&item.metadata)?,
        item.importance,
        item.occurred_at.as_micros(),
        item.created_at.as_micros(),
        item.updated_at.as_micros(),
        item.expires_at.map(memory_core::Timestamp::as_micros),
        item.visible_until().as_micros(),
        hash.as_bytes(),
        stamp.revision,
        stamp.commit,
    ];
    let sql = if replace {
        "UPDATE item SET tenant = ?2, id = ?3, user_id = ?4, agent_id = ?5, session_id = ?6, \
         kind = ?7, role = ?8, author = ?9, content = ?10, payload = ?11, metadata = ?12, \
         importance = ?13, occurred_at = ?14, created_at = ?15, updated_at = ?16, \
         expires_at = ?17, visible_until = ?18, content_hash = ?19, revision = ?20, \
         commit_id = ?21 WHERE item = ?1"
    } else {
        "INSERT INTO item VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, \
         ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
    };
    execute(connection, sql, values)?;
    if replace {
        execute(connection, "DELETE FROM metadata WHERE item = ?1", [stamp.item])?;
    }
    for (key, value) in &item.metadata {
        for (ord, (kind, value)) in (0_i64..).zip(model::typed_rows(value)) {
            execute(
                connection,
                "INSERT INTO metadata VALUES (?1, ?2, ?3, ?4, ?5)",
                params![stamp.item, key.as_str(), ord, kind, value],
            )?;
        }
    }
    Ok(())
}

/// Removes every row of an item but its entries in the log.
pub(crate) fn delete_item(connection: &Connection, item: i64) -> Result<()> {
    execute(connection, "DELETE FROM item WHERE item = ?1", [item])?;
    execute(connection, "DELETE FROM derived WHERE item = ?1", [item])?;
    execute(connection, "DELETE FROM metadata WHERE item = ?1", [item])?;
    execute(
        connection,
        "DELETE FROM vector WHERE key >= ?1 AND key <= ?1 + 1",
        [vector_key(item, 0)],
    )?;
    Ok(())
}

/// The key of an item's vector in one of the two slots.
pub(crate) fn vector_key(item: i64, slot: u8) -> i64 {
    item * 2 + i64::from(slot)
}

/// Appends to a tenant's log; the position is the number given.
pub(crate) fn log(
    txn: &mut WriteTxn<'_>,
    tenant: i64,
    position: i64,
    op: Op,
    item: i64,
    id: &str,
) -> Result<()> {
    execute(
        txn.connection,
        "INSERT INTO change VALUES (?1, ?2, ?3, ?4, ?5)",
        params![tenant, position, op as i64, item, id],
    )?;
    txn.note_change(tenant, position);
    Ok(())
}

/// Drops a tenant's log and leaves the word to rebuild.
pub(crate) fn reset_log(txn: &mut WriteTxn<'_>, tenant: i64) -> Result<()> {
    let position = txn.next_number();
    execute(txn.connection, "DELETE FROM change WHERE tenant = ?1", [tenant])?;
    execute(
        txn.connection,
        "UPDATE tenant SET log_floor = ?2 WHERE tenant = ?1",
        [tenant, position - 1],
    )?;
    log(txn, tenant, position, Op::Reset, 0, "")
}

/// Puts the word to rebuild into every tenant's log. For use outside the writer's groups.
pub(crate) fn reset_every_log(connection: &Connection) -> Result<()> {
    let mut counter = read_counter(connection)?;
    let tenants: Vec<i64> = connection
        .prepare_cached("SELECT tenant FROM tenant")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.collect())
        .map_err(map)?;
    for tenant in tenants {
        counter += 1;
        execute(
            connection,
            "INSERT INTO change VALUES (?1, ?2, ?3, 0, '')",
            params![tenant, counter, Op::Reset as i64],
        )?;
    }
    write_counter(connection, counter)
}

/// The newest position of a tenant's log.
pub(crate) fn head(connection: &Connection, tenant: i64) -> Result<i64> {
    let newest: Option<i64> = value(
        connection,
        "SELECT seq FROM change WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1",
        [tenant],
    )?;
    match newest {
        Some(newest) => Ok(newest),
        None => log_floor(connection, tenant),
    }
}

/// The position up to which a tenant's log has been trimmed.
pub(crate) fn log_floor(connection: &Connection, tenant: i64) -> Result<i64> {
    Ok(value(connection, "SELECT log_floor FROM tenant WHERE tenant = ?1", [tenant])?.unwrap_or(0))
}

/// Whether a reader at a position has missed something: entries that were trimmed, or a tenant that
/// was erased and came back. A reader that has read nothing of a tenant whose log is whole has not.
pub(crate) fn has_gap(connection: &Connection, tenant: i64, after: i64) -> Result<bool> {
    let born: Option<i64> =
        value(connection, "SELECT born FROM tenant WHERE tenant = ?1", [tenant])?;
    let floor = log_floor(connection, tenant)?;
    Ok(after < floor && !(after <= 0 && born == Some(floor)))
}

/// Trims a tenant's log to what is kept, but not beyond its slowest consumer.
pub(crate) fn trim_log(connection: &Connection, tenant: i64, keep: i64) -> Result<()> {
    let cut: Option<i64> = value(
        connection,
        "SELECT seq FROM change WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2",
        [tenant, keep],
    )?;
    let slowest: Option<i64> = value::<Option<i64>>(
        connection,
        "SELECT min(position) FROM consumer WHERE tenant = ?1",
        [tenant],
    )?
    .flatten();
    if let Some(cut) = cut.map(|cut| slowest.map_or(cut, |slowest| cut.min(slowest))) {
        let gone = execute(
            connection,
            "DELETE FROM change WHERE tenant = ?1 AND seq <= ?2",
            [tenant, cut],
        )?;
        if gone > 0 {
            execute(
                connection,
                "UPDATE tenant SET log_floor = max(log_floor, ?2) WHERE tenant = ?1",
                [tenant, cut],
            )?;
        }
    }
    Ok(())
}

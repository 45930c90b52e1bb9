//! Reads in SQL: items by id, pages, counts.

use std::collections::BTreeMap;

use memory_core::{
    CallContext, Cursor, CursorKey, Direction, Error, Filter, MemoryId, MemoryItem, Order,
    OrderField, Page, Projection, Query, Result, Timestamp, VectorProjection, limits,
};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use crate::error::{corrupt, map};
use crate::model;
use crate::rows::{tenant_number, value, vector_key};
use crate::sql_filter::condition;
use crate::vectors::{SpaceSlots, read_spaces};

/// Runs work in one snapshot.
pub(crate) fn snapshot<T>(connection: &Connection, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let run = |sql| connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    run("BEGIN DEFERRED").map_err(map)?;
    let answer = work();
    // Ending a read can fail only where SQLite has ended it already.
    let _ = run("ROLLBACK");
    answer
}

/// Items by id: one answer for each, in order.
pub(crate) fn fetch(
    connection: &Connection,
    context: &CallContext,
    ids: &[MemoryId],
    projection: &Projection,
    now: Timestamp,
) -> Result<Vec<Option<MemoryItem>>> {
    if ids.len() > limits::FETCH_IDS {
        return Err(Error::invalid(format!(
            "a fetch takes {} ids at the most; this has {}",
            limits::FETCH_IDS,
            ids.len()
        )));
    }
    snapshot(connection, || {
        let Some(tenant) = tenant_number(connection, &context.tenant)? else {
            return Ok(vec![None; ids.len()]);
        };
        let vectors = VectorReader::new(connection, tenant, &projection.vectors)?;
        let sql = format!(
            "SELECT {} FROM item i WHERE i.tenant = ?1 AND i.id = ?2 AND i.visible_until > ?3",
            model::columns(projection)
        );
        let mut select = connection.prepare_cached(&sql).map_err(map)?;
        ids.iter()
            .map(|id| {
                let mut found = select
                    .query(rusqlite::params![tenant, id.as_str(), now.as_micros()])
                    .map_err(map)?;
                match found.next().map_err(map)? {
                    None => Ok(None),
                    Some(row) => {
                        let (key, mut item) = model::read_item(row)?;
                        vectors.read(key, &mut item)?;
                        Ok(Some(item))
                    }
                }
            })
            .collect()
    })
}

/// Items by row key, inside a snapshot that an index agrees with: each of them is there.
pub(crate) fn by_keys(
    connection: &Connection,
    tenant: i64,
    keys: &[i64],
    projection: &Projection,
) -> Result<Vec<MemoryItem>> {
    let vectors = VectorReader::new(connection, tenant, &projection.vectors)?;
    let sql = format!("SELECT {} FROM item i WHERE i.item = ?1", model::columns(projection));
    let mut select = connection.prepare_cached(&sql).map_err(map)?;
    keys.iter()
        .map(|key| {
            let mut found = select.query([key]).map_err(map)?;
            let row = found.next().map_err(map)?.ok_or_else(|| corrupt("index"))?;
            let (key, mut item) = model::read_item(row)?;
            vectors.read(key, &mut item)?;
            Ok(item)
        })
        .collect()
}

/// A page of a query.
pub(crate) fn query(
    connection: &Connection,
    context: &CallContext,
    query: &Query,
    now: Timestamp,
) -> Result<Page> {
    query.validate()?;
    let after = query.cursor.as_ref().map(|at| at.open(&context.tenant, query)).transpose()?;
    snapshot(connection, || {
        let Some(tenant) = tenant_number(connection, &context.tenant)? else {
            return Ok(Page::default());
        };
        let vectors = VectorReader::new(connection, tenant, &query.projection.vectors)?;
        let (sql, values) = page_sql(query, tenant, after.as_ref(), now)?;
        let mut select = connection.prepare_cached(&sql).map_err(map)?;
        let mut found = select.query(params_from_iter(values)).map_err(map)?;
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let mut page = Page::default();
        while let Some(row) = found.next().map_err(map)? {
            if page.items.len() == limit {
                // One more than the page was asked for: there is a next one, after its last item.
                page.next = page.items.last().map(|item| {
                    let key = CursorKey { sort: query.order.sort_value(item), id: item.id.clone() };
                    Cursor::issue(&context.tenant, query, &key)
                });
                break;
            }
            let (key, mut item) = model::read_item(row)?;
            vectors.read(key, &mut item)?;
            page.items.push(item);
        }
        Ok(page)
    })
}

fn page_sql(
    query: &Query,
    tenant: i64,
    after: Option<&CursorKey>,
    now: Timestamp,
) -> Result<(String, Vec<Value>)> {
    let (column, direction, symbol) = order_words(query.order);
    let filter = condition(&query.filter, tenant)?;
    let mut sql = format!(
        "SELECT {} FROM item i WHERE i.tenant = ? AND i.visible_until > ? AND {}",
        model::columns(&query.projection),
        filter.sql
    );
    let mut values = vec![Value::Integer(tenant), Value::Integer(now.as_micros())];
    values.extend(filter.values);
    if let Some(after) = after {
        let id = Value::Text(after.id.as_str().to_owned());
        match column {
            None => sql.push_str(&format!(" AND i.id {symbol} ?")),
            Some(column) => {
                sql.push_str(&format!(" AND ({column}, i.id) {symbol} (?, ?)"));
                values.push(Value::Integer(after.sort));
            }
        }
        values.push(id);
    }
    match column {
        None => sql.push_str(&format!(" ORDER BY i.id {direction}")),
        Some(column) => {
            sql.push_str(&format!(" ORDER BY {column} {direction}, i.id {direction}"));
        }
    }
    sql.push_str(" LIMIT ?");
    values.push(Value::Integer(i64::from(query.limit) + 1));
    Ok((sql, values))
}

fn order_words(order: Order) -> (Option<&'static str>, &'static str, &'static str) {
    let column = match order.field {
        OrderField::OccurredAt => Some("i.occurred_at"),
        OrderField::CreatedAt => Some("i.created_at"),
        OrderField::UpdatedAt => Some("i.updated_at"),
        OrderField::Id => None,
    };
    match order.direction {
        Direction::Ascending => (column, "ASC", ">"),
        Direction::Descending => (column, "DESC", "<"),
    }
}

/// How many visible items pass.
pub(crate) fn count(
    connection: &Connection,
    context: &CallContext,
    filter: &Filter,
    now: Timestamp,
) -> Result<u64> {
    filter.validate()?;
    snapshot(connection, || {
        let Some(tenant) = tenant_number(connection, &context.tenant)? else {
            return Ok(0);
        };
        let filter = condition(filter, tenant)?;
        let sql = format!(
            "SELECT count(*) FROM item i WHERE i.tenant = ? AND i.visible_until > ? AND {}",
            filter.sql
        );
        let mut values = vec![Value::Integer(tenant), Value::Integer(now.as_micros())];
        values.extend(filter.values);
        let count: i64 =
            value(connection, &sql, params_from_iter(values))?.ok_or_else(|| corrupt("count"))?;
        Ok(count.unsigned_abs())
    })
}

/// Reads the vectors that a projection asks for.
struct VectorReader<'a> {
    connection: &'a Connection,
    slots: SpaceSlots,
    wanted: &'a VectorProjection,
}

impl<'a> VectorReader<'a> {
    fn new(connection: &'a Connection, tenant: i64, wanted: &'a VectorProjection) -> Result<Self> {
        let slots = match wanted {
            VectorProjection::None => SpaceSlots::default(),
            _ => read_spaces(connection, tenant)?,
        };
        Ok(Self { connection, slots, wanted })
    }

    fn read(&self, key: i64, item: &mut MemoryItem) -> Result<()> {
        let mut vectors = BTreeMap::new();
        for (slot, space) in self.slots.each() {
            let id = space.id();
            let asked = match self.wanted {
                VectorProjection::None => false,
                VectorProjection::All => true,
                VectorProjection::Space(wanted) => *wanted == id,
            };
            if asked && let Some(vector) = vector(self.connection, key, slot)? {
                vectors.insert(id, vector);
            }
        }
        item.vectors = vectors;
        Ok(())
    }
}

/// The f32 vector of an item in a slot.
pub(crate) fn vector(connection: &Connection, item: i64, slot: u8) -> Result<Option<Vec<f32>>> {
    let mut select =
        connection.prepare_cached("SELECT data FROM vector WHERE key = ?1").map_err(map)?;
    let mut found = select.query([vector_key(item, slot)]).map_err(map)?;
    match found.next().map_err(map)? {
        None => Ok(None),
        Some(row) => {
            let bytes = row.get_ref(0).map_err(map)?.as_blob().map_err(crate::error::bad_type)?;
            model::read_vector(bytes).map(Some)
        }
    }
}

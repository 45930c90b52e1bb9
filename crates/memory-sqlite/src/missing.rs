//! Items without a vector in a space: what is left to embed.

use memory_core::{CallContext, EmbeddingSpace, Error, MemoryId, Result, Timestamp, limits};
use rusqlite::{Connection, params};

use crate::error::{corrupt, map};
use crate::read::snapshot;
use crate::rows::tenant_number;
use crate::vectors::read_spaces;

/// A page of ids of visible items without a vector in the space, in the order of their bytes.
///
/// It walks `item_id`, which holds the keys of the items, too, and looks at the narrow row of each
/// item on its way: neither wide rows nor vectors are read. The time goes with the items that are
/// walked past, and not with the limit alone: where every item has its vector, that is all of them
/// after the given one.
///
/// # Errors
/// `InvalidInput`: the limit, or a space that the tenant does not have.
pub(crate) fn page(
    connection: &Connection,
    context: &CallContext,
    space: &EmbeddingSpace,
    after: Option<&MemoryId>,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<MemoryId>> {
    if limit == 0 || limit > limits::PAGE {
        return Err(Error::invalid(format!(
            "a limit lies between 1 and {}; this is {limit}",
            limits::PAGE
        )));
    }
    snapshot(connection, || {
        let Some(tenant) = tenant_number(connection, &context.tenant)? else {
            return Err(Error::invalid("the tenant has no embedding space"));
        };
        let slots = read_spaces(connection, tenant)?;
        let (slot, _) = slots.slot(&space.id())?;
        let mut select = connection.prepare_cached(sql(slot)).map_err(map)?;
        // No id is empty, so that all of them come after the empty text.
        let after = after.map_or("", MemoryId::as_str);
        let mut rows = select.query(params![tenant, after, now.as_micros(), limit]).map_err(map)?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next().map_err(map)? {
            let id: String = row.get(0).map_err(map)?;
            ids.push(MemoryId::new(id).map_err(|_| corrupt("id"))?);
        }
        Ok(ids)
    })
}

/// The statement of a slot. `CROSS JOIN` keeps the order of the tables, and with it the walk.
fn sql(slot: u8) -> &'static str {
    if slot == 0 {
        "SELECT i.id FROM item i INDEXED BY item_id CROSS JOIN derived d ON d.item = i.item \
         WHERE i.tenant = ?1 AND i.id > ?2 AND d.visible_until > ?3 AND d.codes0 IS NULL \
         ORDER BY i.id LIMIT ?4"
    } else {
        "SELECT i.id FROM item i INDEXED BY item_id CROSS JOIN derived d ON d.item = i.item \
         WHERE i.tenant = ?1 AND i.id > ?2 AND d.visible_until > ?3 AND d.codes1 IS NULL \
         ORDER BY i.id LIMIT ?4"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_walk_reads_no_wide_row_and_sorts_nothing() {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection).unwrap();
        for slot in [0, 1] {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {}", sql(slot))).unwrap();
            let plan: Vec<String> = explain
                .query_map(params![1, "", 0, 10], |row| row.get("detail"))
                .unwrap()
                .collect::<rusqlite::Result<_>>()
                .unwrap();
            assert_eq!(
                plan,
                [
                    "SEARCH i USING COVERING INDEX item_id (tenant=? AND id>?)",
                    "SEARCH d USING INTEGER PRIMARY KEY (rowid=?)",
                ],
                "slot {slot}"
            );
        }
    }
}

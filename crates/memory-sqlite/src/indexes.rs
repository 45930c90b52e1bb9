//! The derived indexes of all tenants: loaded on first use, followed by the change log.
//!
//! A search takes the index's lock first and its snapshot of the file second, so the snapshot is
//! never older than the index. Where the log's head has moved on, by this process or by another,
//! the index catches up from the same snapshot that the search then reads from.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLockWriteGuard};

use memory_core::{Metric, Result, Timestamp};
use memory_index::{
    CacheStats, DocEntry, IndexCache, Storage, TenantIndex, VectorInput, VectorScan,
};
use rusqlite::{Connection, params};

use crate::error::{corrupt, map};
use crate::model;
use crate::read::snapshot;
use crate::rows::{self, Op};
use crate::vectors::{SpaceSlots, read_spaces};

/// A log longer than this is not followed entry by entry, but the index is loaded anew: reading a
/// row by its key costs about four times what it costs in a run of rows, and an index of fewer
/// than 1,000 items loads in some milliseconds anyway.
const FOLLOW_AT_MOST: usize = 1_000;

/// The indexes, bounded in memory.
#[derive(Debug)]
pub(crate) struct Indexes {
    cache: IndexCache<i64>,
    storage: Storage,
}

impl Indexes {
    pub(crate) fn new(budget_bytes: u64, rows_in_memory: bool) -> Self {
        let budget = usize::try_from(budget_bytes).unwrap_or(usize::MAX);
        let storage = if rows_in_memory { Storage::CodesAndRows } else { Storage::CodesOnly };
        Self { cache: IndexCache::new(budget), storage }
    }

    /// Hits, misses, evictions, entries and bytes.
    pub(crate) fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// Runs work over a tenant's index, brought up to date, in a snapshot that agrees with it.
    pub(crate) fn with<T>(
        &self,
        connection: &Connection,
        tenant: i64,
        now: Timestamp,
        work: impl FnOnce(&TenantIndex) -> Result<T>,
    ) -> Result<T> {
        let shared = self.cache.get_or_create(&tenant, TenantIndex::new);
        let mut work = Some(work);
        {
            let index = shared.read().unwrap_or_else(PoisonError::into_inner);
            let done = snapshot(connection, || {
                let head = rows::head(connection, tenant)?;
                let fresh = index.position() == head
                    && head > 0
                    && index.next_expiry().is_none_or(|next| next > now.as_micros());
                match (fresh, work.take()) {
                    (true, Some(work)) => work(&index).map(Some),
                    (_, unused) => {
                        work = unused;
                        Ok(None)
                    }
                }
            })?;
            if let Some(answer) = done {
                return Ok(answer);
            }
        }
        let answer = {
            let mut index = shared.write().unwrap_or_else(PoisonError::into_inner);
            snapshot(connection, || {
                if let Err(error) = self.bring_up(connection, tenant, now, &mut index) {
                    // Half followed is worse than not loaded: position 0 says so.
                    *index = TenantIndex::new();
                    return Err(error);
                }
                let index = RwLockWriteGuard::downgrade(index);
                work.take().map(|work| work(&index)).transpose()
            })
        };
        self.cache.settle(&tenant);
        answer?.ok_or_else(crate::error::thread_gone)
    }

    fn bring_up(
        &self,
        connection: &Connection,
        tenant: i64,
        now: Timestamp,
        index: &mut TenantIndex,
    ) -> Result<()> {
        let head = rows::head(connection, tenant)?;
        if index.position() != head {
            let known = index.position() > 0
                && index.position() < head
                && rows::log_floor(connection, tenant)? <= index.position();
            let changed = if known { changed_items(connection, tenant, index)? } else { None };
            match changed {
                Some(items) => {
                    let slots = read_spaces(connection, tenant)?;
                    for item in items {
                        self.follow(connection, index, &slots, item, now)?;
                    }
                }
                None => *index = self.load(connection, tenant, now)?,
            }
            index.set_position(head);
        }
        index.expire(now.as_micros());
        Ok(())
    }

    /// Reads one item's derived row and puts it into the index, or takes it out.
    fn follow(
        &self,
        connection: &Connection,
        index: &mut TenantIndex,
        slots: &SpaceSlots,
        item: i64,
        now: Timestamp,
    ) -> Result<()> {
        let mut select = connection
            .prepare_cached(
                "SELECT item, id, revision, visible_until, terms, codes0, codes1 FROM derived \
                 WHERE item = ?1",
            )
            .map_err(map)?;
        let mut found = select.query([item]).map_err(map)?;
        match found.next().map_err(map)? {
            Some(row) => self.insert(connection, index, slots, row, now),
            None => {
                index.remove(item.unsigned_abs());
                Ok(())
            }
        }
    }

    fn load(&self, connection: &Connection, tenant: i64, now: Timestamp) -> Result<TenantIndex> {
        let slots = read_spaces(connection, tenant)?;
        let mut index = TenantIndex::new();
        for (slot, space) in slots.each() {
            let dimensions = usize::try_from(space.dimensions()).unwrap_or(usize::MAX);
            let scan = VectorScan::new(dimensions, metric(space.metric()), self.storage)
                .map_err(|error| corrupt("space").with_source(error))?;
            index.set_space(slot, scan);
        }
        let (first, end) = rows::item_range(tenant);
        let mut select = connection
            .prepare_cached(
                "SELECT item, id, revision, visible_until, terms, codes0, codes1 FROM derived \
                 WHERE item >= ?1 AND item < ?2 ORDER BY item",
            )
            .map_err(map)?;
        let mut found = select.query([first, end]).map_err(map)?;
        while let Some(row) = found.next().map_err(map)? {
            self.insert(connection, &mut index, &slots, row, now)?;
        }
        Ok(index)
    }

    fn insert(
        &self,
        connection: &Connection,
        index: &mut TenantIndex,
        slots: &SpaceSlots,
        row: &rusqlite::Row<'_>,
        now: Timestamp,
    ) -> Result<()> {
        let item: i64 = row.get(0).map_err(map)?;
        let until: i64 = row.get(3).map_err(map)?;
        if until <= now.as_micros() {
            index.remove(item.unsigned_abs());
            return Ok(());
        }
        let blob = |column: usize| {
            row.get_ref(column).map_err(map)?.as_blob_or_null().map_err(crate::error::bad_type)
        };
        let terms = blob(4)?.ok_or_else(|| corrupt("term list"))?;
        let (tokens, terms) = model::read_terms(terms)?;
        let mut quantised = Vec::new();
        for (slot, _) in slots.each() {
            let Some(bytes) = blob(5 + usize::from(slot))? else { continue };
            let mut codes = Vec::new();
            let numbers = model::read_codes(bytes, &mut codes)?;
            let row = match self.storage {
                Storage::CodesAndRows => crate::read::vector(connection, item, slot)?,
                _ => None,
            };
            quantised.push((slot, codes, numbers, row));
        }
        let vectors: Vec<_> = quantised
            .iter()
            .map(|(slot, codes, quantized, row)| {
                let input =
                    VectorInput::Quantized { codes, quantized: *quantized, row: row.as_deref() };
                (*slot, input)
            })
            .collect();
        // The far future costs an index nothing as the greatest number.
        let until = if until == Timestamp::FAR_FUTURE.as_micros() { i64::MAX } else { until };
        let id = row.get_ref(1).map_err(map)?.as_str().map_err(crate::error::bad_type)?;
        let revision: i64 = row.get(2).map_err(map)?;
        let entry = DocEntry::new(item.unsigned_abs(), tokens, &terms)
            .named(id, revision)
            .visible_until(until)
            .vectors(&vectors);
        index.upsert(&entry).map_err(|error| corrupt("int8 vector").with_source(error))
    }
}

/// The items that changed since the index's position; `None` where loading anew is better.
fn changed_items(
    connection: &Connection,
    tenant: i64,
    index: &TenantIndex,
) -> Result<Option<BTreeSet<i64>>> {
    let most = FOLLOW_AT_MOST.max(index.len() / 4);
    let limit = i64::try_from(most + 1).unwrap_or(i64::MAX);
    let mut select = connection
        .prepare_cached(
            "SELECT op, item FROM change WHERE tenant = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
        )
        .map_err(map)?;
    let mut found = select.query(params![tenant, index.position(), limit]).map_err(map)?;
    let mut items = BTreeSet::new();
    let mut entries = 0;
    while let Some(row) = found.next().map_err(map)? {
        entries += 1;
        if entries > most || Op::from_number(row.get(0).map_err(map)?)? == Op::Reset {
            return Ok(None);
        }
        items.insert(row.get(1).map_err(map)?);
    }
    Ok(Some(items))
}

fn metric(metric: Metric) -> memory_index::Metric {
    match metric {
        Metric::Cosine => memory_index::Metric::Cosine,
        Metric::Dot => memory_index::Metric::Dot,
        Metric::Euclidean => memory_index::Metric::Euclidean,
    }
}

//! The derived indexes of all tenants: loaded on first use, followed by the change log.
//!
//! A search takes the index's lock first and its snapshot of the file second, so the snapshot is
//! never older than the index. Where the log's head has moved on, by this process or by another,
//! the index catches up from the same snapshot that the search then reads from.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockWriteGuard};

use memory_core::{Metric, Result, SpaceId, TenantId, Timestamp};
use memory_index::{CacheStats, IndexCache, SharedIndex, Storage, TenantIndex, VectorScan};
use rusqlite::{Connection, params};

use crate::error::{corrupt, map};
use crate::loading;
use crate::read::snapshot;
use crate::rows::{self, Op};
use crate::vectors::{SpaceSlots, Standing, read_spaces, standing};

/// A log longer than this is not followed entry by entry, but the index is loaded anew: reading a
/// row by its key costs about four times what it costs in a run of rows, and an index of fewer
/// than 1,000 items loads in some milliseconds anyway.
const FOLLOW_AT_MOST: usize = 1_000;

/// Tenants whose number and spaces are remembered; beyond it all are forgotten. At a few hundred
/// bytes each they take a megabyte or two.
const REMEMBERED: usize = 4_096;

/// The indexes, bounded in memory.
#[derive(Debug)]
pub(crate) struct Indexes {
    cache: IndexCache<i64>,
    storage: Storage,
    /// The number that a tenant last had, as a guess: what the snapshot says counts.
    numbers: Mutex<HashMap<TenantId, i64>>,
    /// The spaces that a tenant last had, good for as long as their version is the snapshot's.
    spaces: Mutex<HashMap<i64, (Standing, Arc<SpaceSlots>)>>,
}

impl Indexes {
    pub(crate) fn new(budget_bytes: u64, rows_in_memory: bool) -> Self {
        let budget = usize::try_from(budget_bytes).unwrap_or(usize::MAX);
        let storage = if rows_in_memory { Storage::CodesAndRows } else { Storage::CodesOnly };
        Self {
            cache: IndexCache::new(budget),
            storage,
            numbers: Mutex::default(),
            spaces: Mutex::default(),
        }
    }

    /// Hits, misses, evictions, entries and bytes.
    pub(crate) fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// The spaces of a tenant in the snapshot that `standing` was read from.
    pub(crate) fn spaces(
        &self,
        connection: &Connection,
        standing: &Standing,
    ) -> Result<Arc<SpaceSlots>> {
        if let Some((known, slots)) = locked(&self.spaces).get(&standing.tenant)
            && known.spaces == standing.spaces
        {
            return Ok(Arc::clone(slots));
        }
        let slots = Arc::new(read_spaces(connection, standing.tenant)?);
        remember(&self.spaces, standing.tenant, (*standing, Arc::clone(&slots)));
        Ok(slots)
    }

    /// A tenant's index as it lies in memory and the slot of a space, if both are known: a guess,
    /// for no snapshot was looked at.
    pub(crate) fn guess(&self, tenant: &TenantId, space: &SpaceId) -> Option<(SharedIndex, u8)> {
        let number = *locked(&self.numbers).get(tenant)?;
        let slots = locked(&self.spaces).get(&number).map(|(_, slots)| Arc::clone(slots))?;
        let slot = slots.slot(space).ok()?.0;
        Some((self.cache.peek(&number)?, slot))
    }

    /// Runs work over a tenant's index, brought up to date, in a snapshot that agrees with it;
    /// `None` where the file does not know the tenant.
    pub(crate) fn with<T>(
        &self,
        connection: &Connection,
        tenant: &TenantId,
        now: Timestamp,
        work: impl FnOnce(&TenantIndex, &Standing) -> Result<T>,
    ) -> Result<Option<T>> {
        let guess = locked(&self.numbers).get(tenant).copied();
        let mut number = match guess {
            Some(number) => number,
            None => match rows::tenant_number(connection, tenant)? {
                Some(number) => number,
                None => return Ok(None),
            },
        };
        let mut work = Some(work);
        loop {
            match self.try_with(connection, tenant, number, now, &mut work)? {
                Tried::Done(answer) => {
                    if guess != Some(number) {
                        remember(&self.numbers, tenant.clone(), number);
                    }
                    return Ok(Some(answer));
                }
                Tried::Unknown => return Ok(None),
                // It was erased and came back. No number is given twice, so this ends.
                Tried::Renumbered(now) => number = now,
            }
        }
    }

    fn try_with<T, F: FnOnce(&TenantIndex, &Standing) -> Result<T>>(
        &self,
        connection: &Connection,
        tenant: &TenantId,
        number: i64,
        now: Timestamp,
        work: &mut Option<F>,
    ) -> Result<Tried<T>> {
        let stands = || {
            Ok(match standing(connection, tenant)? {
                None => Err(Tried::Unknown),
                Some(standing) if standing.tenant != number => {
                    Err(Tried::Renumbered(standing.tenant))
                }
                Some(standing) => Ok(standing),
            })
        };
        let shared = self.cache.get_or_create(&number, TenantIndex::new);
        {
            let index = shared.read().unwrap_or_else(PoisonError::into_inner);
            let done = snapshot(connection, || {
                let standing = match stands()? {
                    Ok(standing) => standing,
                    Err(tried) => return Ok(Some(tried)),
                };
                let fresh = index.position() == standing.head
                    && standing.head > 0
                    && index.next_expiry().is_none_or(|next| next > now.as_micros());
                if !fresh {
                    return Ok(None);
                }
                work.take().map(|work| work(&index, &standing).map(Tried::Done)).transpose()
            })?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        let answer = {
            let mut index = shared.write().unwrap_or_else(PoisonError::into_inner);
            snapshot(connection, || {
                let standing = match stands()? {
                    Ok(standing) => standing,
                    Err(tried) => return Ok(Some(tried)),
                };
                if let Err(error) = self.bring_up(connection, &standing, now, &mut index) {
                    // Half followed is worse than not loaded: position 0 says so.
                    *index = TenantIndex::new();
                    return Err(error);
                }
                let index = RwLockWriteGuard::downgrade(index);
                work.take().map(|work| work(&index, &standing).map(Tried::Done)).transpose()
            })
        };
        self.cache.settle(&number);
        answer?.ok_or_else(crate::error::thread_gone)
    }

    fn bring_up(
        &self,
        connection: &Connection,
        standing: &Standing,
        now: Timestamp,
        index: &mut TenantIndex,
    ) -> Result<()> {
        let Standing { tenant, head, .. } = *standing;
        if index.position() != head {
            let known = index.position() > 0
                && index.position() < head
                && rows::log_floor(connection, tenant)? <= index.position();
            let changed = if known { changed_items(connection, tenant, index)? } else { None };
            let slots = self.spaces(connection, standing)?;
            match changed {
                Some(items) => {
                    for item in items {
                        self.follow(connection, index, &slots, item, now)?;
                    }
                }
                None => *index = self.load(connection, tenant, &slots, now)?,
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
        let with_rows = self.storage == Storage::CodesAndRows;
        loading::follow(connection, slots, item, now, with_rows, index)
    }

    fn load(
        &self,
        connection: &Connection,
        tenant: i64,
        slots: &SpaceSlots,
        now: Timestamp,
    ) -> Result<TenantIndex> {
        let mut index = TenantIndex::new();
        for (slot, space) in slots.each() {
            let dimensions = usize::try_from(space.dimensions()).unwrap_or(usize::MAX);
            let scan = VectorScan::new(dimensions, metric(space.metric()), self.storage)
                .map_err(|error| corrupt("space").with_source(error))?;
            index.set_space(slot, scan);
        }
        let with_rows = self.storage == Storage::CodesAndRows;
        loading::load(connection, tenant, slots, now, with_rows, &mut index)?;
        Ok(index)
    }
}

/// What came of an attempt to run work over an index.
enum Tried<T> {
    Done(T),
    /// The file does not know the tenant.
    Unknown,
    /// The tenant has another number by now.
    Renumbered(i64),
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map is whole at every instant.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remember<K: Eq + std::hash::Hash, V>(of: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut known = locked(of);
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(key, value);
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

//! The indexes of all tenants, within a budget of memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::TenantIndex;

/// The index of one tenant as the cache hands it out. While somebody holds it, it is not evicted.
pub type SharedIndex = Arc<RwLock<TenantIndex>>;

/// What the cache did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Requests for an index that was there.
    pub hits: u64,
    /// Requests for one that was not.
    pub misses: u64,
    /// Indexes dropped to stay within the budget.
    pub evictions: u64,
    /// Indexes held now.
    pub entries: usize,
    /// The bytes of the indexes held, each as last measured.
    pub bytes: usize,
    /// Indexes held now that are larger than the whole budget, each on its own.
    pub oversized: usize,
}

/// A map from tenant to index that drops the least recently used ones when all together exceed a
/// budget of bytes.
///
/// An index is derived and can be rebuilt, so dropping one costs time and nothing else. One that is
/// in use, that is, held by somebody outside the cache, is never dropped; where all are in use the
/// budget is exceeded until they are given back. Sizes are measured when an index is asked for and
/// by [`IndexCache::settle`], which a writer calls after it has changed one.
///
/// An index that is larger than the whole budget serves whoever holds it and is dropped at the first
/// call, for whichever tenant, at which nobody does; others are not dropped for its sake.
/// Searches of such a tenant one after another find it still there. [`CacheStats::oversized`] shows
/// it: the budget is too small.
///
/// The cache has no thread of its own and holds its lock only for the work on the map; the lock of
/// an index is the caller's affair.
#[derive(Debug)]
pub struct IndexCache<K> {
    budget_bytes: usize,
    inner: Mutex<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    entries: HashMap<K, Entry>,
    /// The keys by the tick of their last use.
    by_use: BTreeMap<u64, K>,
    next_tick: u64,
    stats: CacheStats,
}

#[derive(Debug)]
struct Entry {
    index: SharedIndex,
    bytes: usize,
    used: u64,
}

impl<K: Clone + Eq + Hash> IndexCache<K> {
    /// An empty cache with a budget of bytes for all indexes together. With a budget of 0 an index
    /// lives as long as it is in use.
    #[must_use]
    pub fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            inner: Mutex::new(Inner {
                entries: HashMap::new(),
                by_use: BTreeMap::new(),
                next_tick: 0,
                stats: CacheStats::default(),
            }),
        }
    }

    /// The budget in bytes.
    #[must_use]
    pub fn budget_bytes(&self) -> usize {
        self.budget_bytes
    }

    /// The tenant's index; where there is none, the one that `create` makes.
    ///
    /// `create` runs under the lock of the cache and must be quick: an empty index with its vector
    /// spaces. It is loaded afterwards, under the index's own write lock, so that of several
    /// callers that come at once one loads and the others wait.
    ///
    /// An index whose lock is poisoned, because a writer panicked half way through a change, is
    /// dropped and counts as missing.
    pub fn get_or_create(&self, tenant: &K, create: impl FnOnce() -> TenantIndex) -> SharedIndex {
        let mut inner = self.lock();
        if let Some(index) = inner.touch(tenant) {
            inner.stats.hits += 1;
            inner.evict(self.budget_bytes);
            return index;
        }
        inner.stats.misses += 1;
        let index = Arc::new(RwLock::new(create()));
        inner.insert(tenant, Arc::clone(&index));
        inner.evict(self.budget_bytes);
        index
    }

    /// The tenant's index, if it is there.
    pub fn get(&self, tenant: &K) -> Option<SharedIndex> {
        let mut inner = self.lock();
        let index = inner.touch(tenant);
        match index {
            Some(_) => inner.stats.hits += 1,
            None => inner.stats.misses += 1,
        }
        index
    }

    /// The tenant's index, if it is there, without counting this as a use.
    pub fn peek(&self, tenant: &K) -> Option<SharedIndex> {
        let inner = self.lock();
        let index = &inner.entries.get(tenant)?.index;
        (!index.is_poisoned()).then(|| Arc::clone(index))
    }

    /// Measures the tenant's index again and drops others where the budget asks for it. An index
    /// that is locked for writing at this moment keeps its last measure.
    pub fn settle(&self, tenant: &K) {
        let mut inner = self.lock();
        inner.measure(tenant);
        inner.evict(self.budget_bytes);
    }

    /// Drops the tenant's index, and says whether there was one. Who still holds it keeps it alive,
    /// but nobody gets it any more.
    pub fn remove(&self, tenant: &K) -> bool {
        self.lock().drop_entry(tenant)
    }

    /// Drops all indexes.
    pub fn clear(&self) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.by_use.clear();
        inner.stats.bytes = 0;
    }

    /// What the cache did so far, and what it holds.
    pub fn stats(&self) -> CacheStats {
        let inner = self.lock();
        let oversized = inner.entries.values().filter(|entry| entry.bytes > self.budget_bytes);
        CacheStats { entries: inner.entries.len(), oversized: oversized.count(), ..inner.stats }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        // Foreign code runs under this lock in one place, before anything is changed there.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    /// Finds an index and makes it the most recently used one.
    fn touch(&mut self, tenant: &K) -> Option<SharedIndex> {
        if self.entries.get(tenant)?.index.is_poisoned() {
            self.drop_entry(tenant);
            return None;
        }
        self.measure(tenant);
        let tick = self.tick();
        let entry = self.entries.get_mut(tenant)?;
        self.by_use.remove(&entry.used);
        self.by_use.insert(tick, tenant.clone());
        entry.used = tick;
        Some(Arc::clone(&entry.index))
    }

    fn insert(&mut self, tenant: &K, index: SharedIndex) {
        let used = self.tick();
        self.by_use.insert(used, tenant.clone());
        self.entries.insert(tenant.clone(), Entry { index, bytes: 0, used });
        self.measure(tenant);
    }

    fn measure(&mut self, tenant: &K) {
        if let Some(entry) = self.entries.get_mut(tenant)
            && let Ok(index) = entry.index.try_read()
        {
            let bytes = index.memory_bytes();
            self.stats.bytes = self.stats.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    /// Drops indexes that are not in use: first those that no budget could hold, then the least
    /// recently used, until the others keep to the budget.
    fn evict(&mut self, budget_bytes: usize) {
        if self.stats.bytes <= budget_bytes {
            return;
        }
        let unused = |entries: &HashMap<K, Entry>, tenant: &K| {
            // Nobody can get hold of an index while the cache is locked, so a count of one stays
            // one.
            entries.get(tenant).is_none_or(|entry| Arc::strong_count(&entry.index) == 1)
        };
        let oversized: Vec<K> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.bytes > budget_bytes)
            .map(|(tenant, _)| tenant.clone())
            .collect();
        // What is left of these is in use and larger than the budget: nothing makes room for it.
        let mut beyond = 0;
        for tenant in oversized {
            if unused(&self.entries, &tenant) {
                self.drop_entry(&tenant);
                self.stats.evictions += 1;
            } else {
                beyond += self.entries.get(&tenant).map_or(0, |entry| entry.bytes);
            }
        }
        let mut after = 0;
        while self.stats.bytes - beyond > budget_bytes {
            let oldest = self.by_use.range(after..).find(|(_, tenant)| {
                let bytes = self.entries.get(*tenant).map_or(0, |entry| entry.bytes);
                bytes <= budget_bytes && unused(&self.entries, tenant)
            });
            let Some((tick, tenant)) = oldest.map(|(tick, tenant)| (*tick, tenant.clone())) else {
                return;
            };
            after = tick + 1;
            self.drop_entry(&tenant);
            self.stats.evictions += 1;
        }
    }

    fn drop_entry(&mut self, tenant: &K) -> bool {
        let Some(entry) = self.entries.remove(tenant) else { return false };
        self.by_use.remove(&entry.used);
        self.stats.bytes -= entry.bytes;
        true
    }

    fn tick(&mut self) -> u64 {
        self.next_tick += 1;
        self.next_tick
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DocEntry;

    /// An index of a little over 100 kB.
    fn large() -> TenantIndex {
        let mut index = TenantIndex::new();
        let word = "x".repeat(100_000);
        index.upsert(&DocEntry::new(1, 1, &[(word, 1)])).unwrap();
        index
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let cache = IndexCache::new(250_000);
        drop(cache.get_or_create(&"a", large));
        drop(cache.get_or_create(&"b", large));
        drop(cache.get_or_create(&"a", large));
        drop(cache.get_or_create(&"c", large));
        assert!(cache.get(&"b").is_none());
        assert!(cache.get(&"a").is_some() && cache.get(&"c").is_some());
        let stats = cache.stats();
        assert_eq!((stats.hits, stats.misses, stats.evictions, stats.entries), (3, 4, 1, 2));
        assert!((200_000..250_000).contains(&stats.bytes));
    }

    #[test]
    fn an_index_in_use_stays() {
        let cache = IndexCache::new(0);
        let held = cache.get_or_create(&1, large);
        drop(cache.get_or_create(&2, large));
        cache.settle(&2);
        assert!(cache.get(&2).is_none());
        assert!(Arc::ptr_eq(&held, &cache.get_or_create(&1, large)));
        drop(held);
        cache.settle(&1);
        assert_eq!((cache.stats().entries, cache.stats().bytes), (0, 0));
    }

    #[test]
    fn growth_is_noticed() {
        let cache = IndexCache::new(50_000);
        drop(cache.get_or_create(&"quiet", TenantIndex::new));
        let growing = cache.get_or_create(&"growing", TenantIndex::new);
        assert_eq!(cache.stats().evictions, 0);
        *growing.write().unwrap() = large();
        cache.settle(&"growing");
        let stats = cache.stats();
        assert!(stats.bytes > 100_000);
        assert_eq!((stats.entries, stats.oversized, stats.evictions), (2, 1, 0));
        drop(growing);
        cache.settle(&"growing");
        assert_eq!((cache.stats().entries, cache.stats().oversized), (1, 0));
    }

    /// It serves who asks for it again at once, makes no other go, and goes with the next call.
    #[test]
    fn an_index_larger_than_the_budget_displaces_no_other() {
        let cache = IndexCache::new(250_000);
        drop(cache.get_or_create(&"a", large));
        drop(cache.get_or_create(&"b", large));
        let huge = cache.get_or_create(&"huge", || {
            let mut index = TenantIndex::new();
            index.upsert(&DocEntry::new(1, 1, &[("x".repeat(300_000), 1)])).unwrap();
            index
        });
        assert_eq!((cache.stats().entries, cache.stats().oversized), (3, 1));
        drop(huge);
        let again = cache.get_or_create(&"huge", TenantIndex::new);
        assert_eq!(again.read().unwrap().len(), 1, "it is still there");
        drop(again);
        drop(cache.get_or_create(&"a", TenantIndex::new));
        assert!(cache.get(&"huge").is_none());
        assert!(cache.get(&"a").is_some() && cache.get(&"b").is_some());
        let stats = cache.stats();
        assert_eq!((stats.evictions, stats.oversized), (1, 0));
        assert!(stats.bytes <= 250_000);
    }

    #[test]
    fn an_index_locked_for_writing_does_not_block_the_cache() {
        let cache = IndexCache::new(1_000_000);
        let index = cache.get_or_create(&1, TenantIndex::new);
        let guard = index.write().unwrap();
        cache.settle(&1);
        assert!(cache.get(&1).is_some());
        drop(guard);
    }

    #[test]
    fn a_poisoned_index_is_made_anew() {
        let cache = IndexCache::new(1_000_000);
        let index = cache.get_or_create(&1, large);
        let poisoning = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _guard = index.write().unwrap();
            panic!("half way");
        }));
        assert!(poisoning.is_err());
        let fresh = cache.get_or_create(&1, TenantIndex::new);
        assert!(!Arc::ptr_eq(&index, &fresh));
        assert!(fresh.read().unwrap().is_empty());
        assert_eq!(cache.stats().entries, 1);
    }

    #[test]
    fn removed_and_cleared_indexes_are_gone() {
        let cache = IndexCache::new(1_000_000);
        drop(cache.get_or_create(&1, large));
        drop(cache.get_or_create(&2, large));
        assert!(cache.remove(&1));
        assert!(!cache.remove(&1));
        assert!(cache.get(&2).is_some());
        cache.clear();
        assert!(cache.get(&2).is_none());
        assert_eq!(cache.stats().bytes, 0);
    }
}

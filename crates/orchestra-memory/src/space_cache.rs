//! Which embedding space each tenant had when it was last read: saves a round trip for every
//! vector.
//!
//! What is remembered is a guess. Another process, or an operator, may have given the tenant
//! another space since. Two things keep a wrong guess from doing harm: the store refuses a vector
//! of a space that the tenant does not have, upon which the spaces are read again; and a guess
//! ends after [`MOST_AGE`], for the one case that the store cannot refuse, which is a former
//! active space that the tenant keeps as its next one.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::{EmbeddingSpace, TenantId};

/// Most tenants that something is remembered of. 10,000: with names of usual lengths two megabytes.
pub(crate) const MOST_TENANTS: usize = 10_000;

/// How long a space is remembered. 5 s: a busy tenant then reads its spaces a few times a minute,
/// and whoever swaps a tenant's active and next space has to wait no longer than that for every
/// process to have seen it.
const MOST_AGE: Duration = Duration::from_secs(5);

/// The active spaces of tenants, as last read. Times are the clock's monotonic ones.
#[derive(Debug, Default)]
pub(crate) struct SpaceCache {
    known: Mutex<HashMap<TenantId, (EmbeddingSpace, Duration)>>,
}

impl SpaceCache {
    /// The space that the tenant had, unless that was too long ago.
    pub(crate) fn get(&self, tenant: &TenantId, now: Duration) -> Option<EmbeddingSpace> {
        let known = self.known();
        let (space, read_at) = known.get(tenant)?;
        (now.saturating_sub(*read_at) < MOST_AGE).then(|| space.clone())
    }

    /// Remembers a space whose reading began at `read_at`.
    pub(crate) fn put(&self, tenant: &TenantId, space: EmbeddingSpace, read_at: Duration) {
        let mut known = self.known();
        make_room(&mut known, tenant);
        known.insert(tenant.clone(), (space, read_at));
    }

    /// Forgets a tenant's space.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.known().remove(tenant);
    }

    /// Every change is one call on the map, so that a panic elsewhere leaves it whole.
    fn known(&self) -> MutexGuard<'_, HashMap<TenantId, (EmbeddingSpace, Duration)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes room for what is to be remembered of a tenant. Where there are too many, all are
/// forgotten: each costs one question to the store to come back.
pub(crate) fn make_room<T>(known: &mut HashMap<TenantId, T>, tenant: &TenantId) {
    if known.len() >= MOST_TENANTS && !known.contains_key(tenant) {
        known.clear();
    }
}

#[cfg(test)]
mod tests {
    use memory_core::Metric;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn space(model: &str) -> EmbeddingSpace {
        EmbeddingSpace::new(model, "1", 2, Metric::Cosine).unwrap()
    }

    #[test]
    fn each_tenant_has_its_own_space_until_it_is_forgotten_or_too_old() {
        let cache = SpaceCache::default();
        let (acme, other) = (tenant("acme"), tenant("other"));
        let at = Duration::from_secs(100);
        assert_eq!(cache.get(&acme, at), None);
        cache.put(&acme, space("a"), at);
        cache.put(&other, space("b"), at);
        assert_eq!(cache.get(&acme, at), Some(space("a")));
        cache.put(&acme, space("c"), at);
        assert_eq!(cache.get(&acme, at + MOST_AGE / 2), Some(space("c")));
        assert_eq!(cache.get(&acme, at + MOST_AGE), None);
        cache.forget(&acme);
        assert_eq!(cache.get(&acme, at), None);
        assert_eq!(cache.get(&other, at), Some(space("b")));
    }

    #[test]
    fn it_is_bounded() {
        let cache = SpaceCache::default();
        let put = |n: usize| cache.put(&tenant(&format!("t{n}")), space("a"), Duration::ZERO);
        (0..MOST_TENANTS).for_each(put);
        assert_eq!(cache.known().len(), MOST_TENANTS);
        put(0);
        assert_eq!(cache.known().len(), MOST_TENANTS, "one that is known takes no room");
        put(MOST_TENANTS);
        assert_eq!(cache.known().len(), 1);
        assert!(cache.get(&tenant(&format!("t{MOST_TENANTS}")), Duration::ZERO).is_some());
    }
}

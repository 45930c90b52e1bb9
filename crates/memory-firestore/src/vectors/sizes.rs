//! How many vectors tenants have: an estimate, for the ledger alone.
//!
//! A nearest-neighbour query is billed for the index entries that it scans, and the service does
//! not say how many those were. They are the vectors of the space, so these are counted once in
//! each process, and again after so many writes or so much time.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use memory_core::{Result, TenantId};
use tokio::sync::OnceCell;

use crate::wire::Entries;

/// Index entries of a nearest-neighbour query that are billed as one read.
const ENTRIES_A_READ: u64 = 100;
/// Tenants that are remembered. The least recently used is counted anew at its next search.
const TENANTS: usize = 10_000;
/// Spaces of a tenant that are remembered: it has two, and may have had others.
const SPACES: usize = 4;
/// Writes of this process after which a count is made anew.
const WRITES: u64 = 1_000;
/// Time after which a count is made anew.
const AGE: Duration = Duration::from_mins(10);

/// The estimates of a tenant, by the short names of its spaces.
type Spaces = Vec<(String, Arc<Size>)>;

/// The estimates.
pub(crate) struct Sizes(Mutex<LruCache<TenantId, Spaces>>);

impl Default for Sizes {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(NonZeroUsize::new(TENANTS).unwrap_or(NonZeroUsize::MIN))))
    }
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sizes({} tenants)", self.lock().len())
    }
}

/// How many vectors one space of a tenant has.
#[derive(Debug)]
pub(super) struct Size {
    since: Duration,
    counted: OnceCell<u64>,
    /// Vectors that came and went since.
    changed: AtomicI64,
    /// Writes since.
    writes: AtomicU64,
}

impl Sizes {
    fn lock(&self) -> MutexGuard<'_, LruCache<TenantId, Spaces>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The estimate of a space, given its short name; one that has to be counted where there is
    /// none, or one that is too old. `now` is the clock's monotonic time.
    pub(super) fn of(&self, tenant: &TenantId, space: &str, now: Duration) -> Arc<Size> {
        let mut sizes = self.lock();
        let spaces = sizes.get_or_insert_mut(tenant.clone(), Vec::new);
        if let Some((_, size)) = spaces.iter().find(|(name, _)| name == space)
            && size.is_fresh(now)
        {
            return Arc::clone(size);
        }
        spaces.retain(|(name, _)| name != space);
        if spaces.len() == SPACES {
            spaces.remove(0);
        }
        let size = Arc::new(Size {
            since: now,
            counted: OnceCell::new(),
            changed: AtomicI64::new(0),
            writes: AtomicU64::new(0),
        });
        spaces.push((space.to_owned(), Arc::clone(&size)));
        size
    }

    /// Notes that vectors of a space came, or went where `by` is negative.
    pub(super) fn changed(&self, tenant: &TenantId, space: &str, by: i64) {
        if let Some(spaces) = self.lock().peek(tenant)
            && let Some((_, size)) = spaces.iter().find(|(name, _)| name == space)
        {
            size.changed.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Notes writes of items, of which it is not known what became of their vectors.
    pub(crate) fn wrote(&self, tenant: &TenantId, writes: usize) {
        let writes = u64::try_from(writes).unwrap_or(u64::MAX);
        for (_, size) in self.lock().peek(tenant).into_iter().flatten() {
            size.writes.fetch_add(writes, Ordering::Relaxed);
        }
    }
}

impl Size {
    fn is_fresh(&self, now: Duration) -> bool {
        self.writes.load(Ordering::Relaxed) < WRITES && now.saturating_sub(self.since) < AGE
    }

    /// What a search of the whole space scans, if that is known.
    pub(super) fn known(&self) -> Option<Entries> {
        let counted = *self.counted.get()?;
        let count = counted.saturating_add_signed(self.changed.load(Ordering::Relaxed));
        Some(Entries { count, a_read: ENTRIES_A_READ })
    }

    /// As [`Size::known`], counted first where that is not done yet. Several that ask at once wait
    /// for one count.
    ///
    /// A count that fails fails no search: where it makes sense to try again the next search does,
    /// otherwise the bill has no entries until the estimate is old.
    pub(super) async fn entries(&self, count: impl Future<Output = Result<u64>>) -> Entries {
        let counting = async {
            // What is written from here on may be counted or not.
            self.changed.store(0, Ordering::Relaxed);
            match count.await {
                Err(error) if !error.is_retryable() => {
                    tracing::debug!(%error, "the vectors of a space cannot be counted");
                    Ok(0)
                }
                answer => answer,
            }
        };
        // The error has been dealt with: a later search counts.
        let _ = self.counted.get_or_try_init(|| counting).await;
        self.known().unwrap_or(Entries::FREE)
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{Error, ErrorKind};

    use super::*;

    fn tenant() -> TenantId {
        TenantId::new("t").unwrap()
    }

    async fn counted(size: &Size, count: u64) -> u64 {
        size.entries(async { Ok(count) }).await.count
    }

    #[tokio::test]
    async fn a_count_is_made_once_and_then_follows_the_writes() {
        let (sizes, tenant) = (Sizes::default(), tenant());
        let now = Duration::from_secs(5);
        assert_eq!(counted(&sizes.of(&tenant, "a", now), 25).await, 25);
        assert_eq!(counted(&sizes.of(&tenant, "a", now), 99).await, 25);
        assert_eq!(counted(&sizes.of(&tenant, "b", now), 7).await, 7);
        sizes.changed(&tenant, "a", 3);
        sizes.changed(&tenant, "a", -1);
        let known = sizes.of(&tenant, "a", now).known().unwrap();
        assert_eq!((known.count, known.a_read), (27, 100));
        sizes.changed(&tenant, "a", -1_000);
        assert_eq!(sizes.of(&tenant, "a", now).known().unwrap().count, 0);
        assert_eq!(sizes.of(&tenant, "b", now).known().unwrap().count, 7);
        let other = TenantId::new("u").unwrap();
        assert!(sizes.of(&other, "a", now).known().is_none());
    }

    #[tokio::test]
    async fn a_count_is_made_anew_after_time_or_writes() {
        let (sizes, tenant) = (Sizes::default(), tenant());
        let start = Duration::from_secs(5);
        counted(&sizes.of(&tenant, "a", start), 25).await;
        let later = start + AGE;
        assert!(sizes.of(&tenant, "a", later - Duration::from_micros(1)).known().is_some());
        assert!(sizes.of(&tenant, "a", later).known().is_none());
        counted(&sizes.of(&tenant, "a", later), 30).await;
        sizes.wrote(&tenant, 999);
        assert!(sizes.of(&tenant, "a", later).known().is_some());
        sizes.wrote(&tenant, 1);
        assert!(sizes.of(&tenant, "a", later).known().is_none());
    }

    #[tokio::test]
    async fn a_count_that_fails_is_tried_again_where_that_helps() {
        let (sizes, tenant) = (Sizes::default(), tenant());
        let size = sizes.of(&tenant, "a", Duration::ZERO);
        let failed = |kind| async move { Err(Error::new(kind, "no")) };
        assert_eq!(size.entries(failed(ErrorKind::Unavailable)).await.count, 0);
        assert!(size.known().is_none());
        assert_eq!(size.entries(failed(ErrorKind::Config)).await.count, 0);
        assert!(size.known().is_some());
    }

    #[tokio::test]
    async fn no_more_spaces_are_remembered_than_a_tenant_can_use() {
        let (sizes, tenant) = (Sizes::default(), tenant());
        for n in 0..10 {
            counted(&sizes.of(&tenant, &n.to_string(), Duration::ZERO), n).await;
        }
        let known = |n: u32| sizes.of(&tenant, &n.to_string(), Duration::ZERO).known().is_some();
        assert!((6..10).all(known) && !known(0));
        assert_eq!(format!("{sizes:?}"), "Sizes(1 tenants)");
    }
}

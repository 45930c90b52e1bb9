//! The cache layer: items by id and first pages of conversations, from a shared cache.
//!
//! It stands inside the tenant guard, which judges what comes from the cache as it judges what comes
//! from the store, and outside of everything that a hit can spare. The protocol is described in
//! [`protocol`], its promises by [`memory_core::traits::Cache`].
//!
//! # What is kept
//!
//! | value | group | wider group | entry |
//! |---|---|---|---|
//! | an item, read without vectors | `i:` and its id | `all` | the parts that were read |
//! | the first page of a conversation: a filter whose conditions include equalities of user, agent or session, in the order of `occurred_at`, up to `history_limit` | `h:` and these three | `hist` | order, limit, parts, and a digest of the filter as it was written, for the page's cursor is bound to it |
//!
//! That an item is not there is not kept, nor is anything else. Each value is judged again when it
//! is served: that it is of this tenant and key, and that nothing in it has expired.
//!
//! # What a write touches
//!
//! The items that it names, and the conversations that they stand in: those of the item that is put,
//! and those of the item that is replaced, which are known where a write names its revision and the
//! item can be read at it. Otherwise, and of deletes by id alone, every conversation of the tenant.
//! An erasure touches everything. A sweep touches nothing, for nothing that it removes can be seen;
//! nor do vectors, for they are not kept.
//!
//! # How old a value can be
//!
//! While the cache can be reached, what is read after a write was acknowledged is never older than
//! that write, in any process. A value can be old, for `max_stale_ms` after it was read at the
//! longest, where
//!
//! - a write could tell the cache neither before the commit nor after it, or only before it and the
//!   commit took longer than its mark stood, or the mark was lost (a flush, an eviction, a failover)
//!   before the commit: counted as unconfirmed, where this process can know;
//! - the cache lost the last step of a write that it had acknowledged (a failover);
//! - a commit takes effect after its caller gave up, later than its mark stands;
//! - somebody writes to the store past the layer.
//!
//! With `strict` a write that could not tell the cache before the commit is refused.

mod counts;
mod door;
mod flights;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod keys;
mod local;
pub mod protocol;
mod reader;
mod records;
mod settings;
mod value;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_core::traits::{
    BulkWriter, Cache, ChangeLog, DocumentSource, Embedder, KeywordIndex, LeaseStore, RecordStore,
    StoreMeta, StoreUpkeep, TenantDirectory, VectorIndex,
};
use memory_core::{CallContext, Clock, MemoryItem, Page, Result, Timer};

use crate::bounds;
use crate::layer::Layer;
use crate::telemetry::SharedRecorder;
use counts::Counts;
use door::Door;
use flights::Flights;
use records::{Cached, CachedBulk};

pub(crate) use counts::{AGE, AGES};
pub use counts::{CacheCounts, CacheTally};
pub use local::LocalCache;
pub use settings::CacheSettings;

/// What all wrappers of one layer share.
#[derive(Debug)]
struct State {
    door: Door,
    items: Flights<Option<MemoryItem>>,
    pages: Flights<Page>,
    closed: AtomicBool,
}

impl State {
    /// Whether a call concerns the cache: the store alone answers those whose deadline has passed,
    /// and all when it is closed.
    fn is_asked(&self, context: &CallContext) -> bool {
        !self.closed.load(Ordering::Acquire)
            && context.check_deadline(self.door.clock.monotonic()).is_ok()
    }
}

/// The cache layer. Clones share their counts and flights.
///
/// A layer belongs to one store: its keys name tenants, and not the store.
#[derive(Clone, Debug)]
pub struct CacheLayer {
    state: Arc<State>,
}

impl CacheLayer {
    /// A layer over a cache; `clock` has to be the store's, for it decides what has expired, and
    /// `timer` waits at its pace. Figures go to the recorder, if there is one.
    ///
    /// # Errors
    /// `Config`: a value out of its range.
    pub fn new(
        settings: CacheSettings,
        cache: Arc<dyn Cache>,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        recorder: Option<SharedRecorder>,
    ) -> Result<Self> {
        bounds::refused(&settings.faults())?;
        let recorder = recorder.unwrap_or_else(|| Arc::new(metrics::NoopRecorder));
        let door = Door::new(settings, cache, clock, timer, Counts::new(&recorder));
        let (items, pages) = (Flights::default(), Flights::default());
        Ok(Self { state: Arc::new(State { door, items, pages, closed: AtomicBool::new(false) }) })
    }

    /// What it has counted so far.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        self.state.door.counts.counts()
    }

    /// Its settings.
    #[must_use]
    pub fn settings(&self) -> CacheSettings {
        self.state.door.settings
    }

    /// How many reads of the store are under way that others may join.
    #[must_use]
    pub fn loading(&self) -> usize {
        self.state.items.len() + self.state.pages.len()
    }
}

/// Around a store of record and a bulk writer; every other part stays as it is.
impl Layer for CacheLayer {
    fn records(&self, inner: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        Arc::new(Cached { inner, state: Arc::clone(&self.state) })
    }
    fn vectors(&self, inner: Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex> {
        inner
    }
    fn keywords(&self, inner: Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex> {
        inner
    }
    fn changes(&self, inner: Arc<dyn ChangeLog>, _backend: &'static str) -> Arc<dyn ChangeLog> {
        inner
    }
    fn bulk(&self, inner: Arc<dyn BulkWriter>, _backend: &'static str) -> Arc<dyn BulkWriter> {
        Arc::new(CachedBulk { inner, state: Arc::clone(&self.state) })
    }
    fn tenants(
        &self,
        inner: Arc<dyn TenantDirectory>,
        _backend: &'static str,
    ) -> Arc<dyn TenantDirectory> {
        inner
    }
    fn meta(&self, inner: Arc<dyn StoreMeta>, _backend: &'static str) -> Arc<dyn StoreMeta> {
        inner
    }
    fn leases(&self, inner: Arc<dyn LeaseStore>, _backend: &'static str) -> Arc<dyn LeaseStore> {
        inner
    }
    fn upkeep(&self, inner: Arc<dyn StoreUpkeep>, _backend: &'static str) -> Arc<dyn StoreUpkeep> {
        inner
    }
    fn embedder(&self, inner: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        inner
    }
    fn source(
        &self,
        inner: Arc<dyn DocumentSource>,
        _backend: &'static str,
    ) -> Arc<dyn DocumentSource> {
        inner
    }
}

//! Redis through all layers, and a cache on Redis before the embedded store.

use std::sync::Arc;

use memory_core::traits::{KeywordIndex, NoLedger};
use memory_core::{ManualClock, MetaKey};
use memory_layers::{CacheLayer, CacheSettings, TokioTimer};
use memory_redis::{FilterKeyType, RedisCache, RedisParts, RedisSettings, RedisStore};
use memory_testkit::conformance::{FILTER_KEYS, start};
use memory_testkit::{Harness, Overlay};
use orchestra_memory::{Settings, StoreUrl};

use super::{behind, over};
use crate::redis::{Own, SEARCH};

fn settings(own: &Own) -> RedisSettings {
    let url = StoreUrl::parse(&own.url()).unwrap();
    orchestra_memory::redis::settings(&url, &Settings::default()).unwrap()
}

/// A store with a prefix of its own, on a clock that the checks move.
struct OnRedis {
    store: Arc<RedisStore>,
    clock: Arc<ManualClock>,
    _own: Own,
}

impl OnRedis {
    async fn new() -> Option<Self> {
        let own = Own::new(SEARCH)?;
        let mut settings = settings(&own);
        let kind = |of| match of {
            "number" => FilterKeyType::Number,
            "text" => FilterKeyType::Text,
            "bool" => FilterKeyType::Bool,
            "list" => FilterKeyType::List,
            other => panic!("no type is {other}"),
        };
        settings.filter_keys =
            FILTER_KEYS.map(|(key, of)| (MetaKey::new(key).unwrap(), kind(of))).into();
        // Small steps, so that erasures of a few items take several.
        settings.erase_batch = 3;
        let clock = Arc::new(ManualClock::new(start()));
        let parts = RedisParts::new(clock.clone(), Arc::new(NoLedger));
        let store = RedisStore::open(settings, parts).await.unwrap();
        Some(Self { store, clock, _own: own })
    }
}

impl Harness for OnRedis {
    memory_testkit::one_store!();
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        Some(self.store.clone())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

async fn through() -> Option<Overlay> {
    Some(over(OnRedis::new().await?, super::stack))
}

memory_testkit::conformance!(
    on_redis,
    through(),
    requires = [
        AtomicCommit,
        Preconditions,
        CommitIds,
        IdempotencyKeys,
        TypedFilters,
        Cursors,
        Projection,
        Counts,
        Expiry,
        Erase,
        Leases,
        TenantDirectory,
        ChangeLog,
        VectorSearch,
        KeywordSearch,
        CoLocated,
    ]
);

/// The embedded store, and what the cache before it has written.
#[cfg(feature = "sqlite")]
struct OnFile {
    store: Arc<memory_sqlite::SqliteStore>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
    _own: Own,
}

#[cfg(feature = "sqlite")]
impl Harness for OnFile {
    memory_testkit::one_store!();
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        Some(self.store.clone())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
    fn backup_target(&self) -> Option<String> {
        Some(self.folder.path().join("backup.db").to_string_lossy().into_owned())
    }
}

#[cfg(feature = "sqlite")]
async fn cached() -> Option<Overlay> {
    let own = Own::new(SEARCH)?;
    let settings = settings(&own);
    let super::sqlite::OnFile { store, clock, folder } = super::sqlite::OnFile::new();
    let parts = RedisParts::new(clock.clone(), Arc::new(NoLedger));
    let cache = RedisCache::open(settings, parts).await.unwrap();
    let mut bounds = CacheSettings::default();
    // A busy machine is slow, and a cache that is not asked would prove nothing.
    bounds.timeout_ms = 10_000;
    let layer = CacheLayer::new(bounds, cache, clock.clone(), Arc::new(TokioTimer), None).unwrap();
    Some(behind(&layer, OnFile { store, clock, folder, _own: own }))
}

#[cfg(feature = "sqlite")]
memory_testkit::conformance!(
    cache_before_sqlite,
    cached(),
    requires = [
        AtomicCommit,
        Preconditions,
        CommitIds,
        IdempotencyKeys,
        TypedFilters,
        Cursors,
        Projection,
        Counts,
        Expiry,
        Erase,
        Leases,
        TenantDirectory,
        ChangeLog,
        VectorSearch,
        KeywordSearch,
        CoLocated,
        OnlineBackup,
    ]
);

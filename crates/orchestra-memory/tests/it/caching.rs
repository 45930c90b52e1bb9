//! A cache of the caller's own before a store: what it spares, and that it ends with the memory.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::Cache;
use memory_core::{CallContext, ManualClock, RandomIds};
use memory_testkit::ReferenceStore;
use orchestra_memory::memory_layers::{ApplyLayers, LocalCache};
use orchestra_memory::{Backend, ErrorKind, HealthStatus, HistoryRequest, Memory, Settings};

use crate::support::{block_on, id, note, plain, start, user};

/// A memory behind a cache of its own, and the two.
fn cached(settings: Settings) -> (Memory, Arc<LocalCache>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(start()));
    let store = Arc::new(ReferenceStore::new(clock.clone()));
    let cache = Arc::new(LocalCache::new(clock.clone(), Arc::new(RandomIds), 1_000, 1_000_000));
    let builder = Memory::builder().settings(settings).backend(Backend::of(store));
    let memory = block_on(builder.clock(clock.clone()).cache(cache.clone()).open()).unwrap();
    (memory, cache, clock)
}

#[test]
fn hot_reads_come_from_the_cache_whichever_layers_there_are() {
    for apply in [ApplyLayers::Auto, ApplyLayers::All, ApplyLayers::None] {
        let mut settings = plain();
        settings.layers.apply = apply;
        let (memory, _, clock) = cached(settings);
        let tenant = memory.default_tenant();
        block_on(tenant.add(note("x").with_id(id("a")))).unwrap();
        for _ in 0..4 {
            assert!(block_on(tenant.get(&id("a"))).unwrap().is_some());
        }
        let history = HistoryRequest::new().with_user(user("ada")).with_kinds([]);
        for _ in 0..3 {
            assert_eq!(block_on(tenant.history(&history)).unwrap().items.len(), 1);
        }
        let counts = memory.layers().cache.unwrap();
        assert_eq!((counts.items.hits, counts.items.misses), (3, 1), "{apply:?}");
        assert_eq!((counts.history.hits, counts.history.misses), (2, 1), "{apply:?}");
        assert_eq!(counts.writes, 1);
        if let Some(stack) = memory.layers().backend {
            assert_eq!(stack.cache, Some(counts), "they are one");
        }
        // Nothing is served that is older than the bound.
        clock.advance(Duration::from_millis(memory.settings().layers.cache.max_stale_ms + 1));
        assert!(block_on(tenant.get(&id("a"))).unwrap().is_some());
        assert_eq!(memory.layers().cache.unwrap().items.misses, 2);
        block_on(memory.close()).unwrap();
    }
}

#[test]
fn a_memory_without_a_cache_counts_none() {
    let store = Arc::new(ReferenceStore::new(Arc::new(memory_core::SystemClock::new())));
    let builder = Memory::builder().settings(plain()).backend(Backend::of(store));
    assert_eq!(block_on(builder.open()).unwrap().layers().cache, None);
}

#[test]
fn the_cache_is_part_of_the_health_and_closed_with_the_memory() {
    let (memory, cache, _) = cached(plain());
    let health = block_on(memory.health());
    assert_eq!(health.status, HealthStatus::Healthy);
    assert!(health.details.iter().any(|(name, _)| name.contains("cache.")), "{health:?}");
    let context = CallContext::new(memory.default_tenant().id().clone());
    let read = || block_on(Cache::read(&*cache, &context, &[], Duration::from_secs(1)));
    read().unwrap();
    block_on(memory.close()).unwrap();
    assert_eq!(read().unwrap_err().kind(), ErrorKind::Unavailable);
    block_on(memory.close()).unwrap();
}

#[test]
fn there_is_one_cache_at_the_most() {
    let mut settings = plain();
    settings.cache = Some("redis://127.0.0.1".to_owned());
    let clock = Arc::new(ManualClock::new(start()));
    let cache = LocalCache::new(clock.clone(), Arc::new(RandomIds), 10, 1_000);
    let builder = Memory::builder().settings(settings).cache(Arc::new(cache));
    let error = block_on(builder.backend(Backend::of(Arc::new(ReferenceStore::new(clock)))).open());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("cache"), "{error}");
}

#[cfg(not(feature = "redis"))]
#[test]
fn a_cache_that_is_not_compiled_in_names_its_feature() {
    let mut settings = plain();
    settings.cache = Some("redis://127.0.0.1".to_owned());
    let clock = Arc::new(ManualClock::new(start()));
    let builder = Memory::builder().settings(settings);
    let error = block_on(builder.backend(Backend::of(Arc::new(ReferenceStore::new(clock)))).open());
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("feature `redis`"), "{error}");
}

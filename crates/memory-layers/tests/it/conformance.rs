//! The conformance suite over the reference store, through each layer alone and through all.

use std::sync::Arc;

use memory_core::{Clock, RandomIds};
use memory_layers::{
    CacheLayer, CacheSettings, ConcurrencyLimitLayer, GuardSettings, Layer, LayersSettings,
    LimitSettings, LocalCache, RetryLayer, RetrySettings, Scope, Stack, TelemetryLayer,
    TelemetrySettings, TenantGuardLayer, TimeoutLayer, TimeoutSettings, TokioTimer, Waiting,
};
use memory_testkit::{Harness, Overlay, ReferenceHarness};

/// A harness with a layer around every part.
fn behind(layer: &dyn Layer, harness: impl Harness + 'static) -> Overlay {
    let backend = harness.records().capabilities().backend;
    Overlay::new(harness)
        .map_records(|inner| layer.records(inner))
        .map_vectors(|inner| layer.vectors(inner))
        .map_keywords(|inner| layer.keywords(inner))
        .map_changes(|inner| layer.changes(inner, backend))
        .map_tenants(|inner| layer.tenants(inner, backend))
        .map_meta(|inner| layer.meta(inner, backend))
        .map_leases(|inner| layer.leases(inner, backend))
        .map_upkeep(|inner| layer.upkeep(inner, backend))
}

/// The reference store behind the layer that is made for its clock.
fn layered(make: impl FnOnce(Arc<dyn Clock>) -> Box<dyn Layer>) -> Overlay {
    let harness = ReferenceHarness::new();
    let layer = make(harness.clock());
    behind(&*layer, harness)
}

/// What must not be lost behind a layer.
macro_rules! stamp {
    ($name:ident, $make:expr) => {
        memory_testkit::conformance!(
            $name,
            async { layered($make) },
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
    };
}

stamp!(telemetry, |clock| {
    let recorder = Arc::new(metrics::NoopRecorder);
    let settings = TelemetrySettings::default();
    Box::new(TelemetryLayer::new(settings, recorder, clock, Scope::Call))
});

stamp!(guard, |clock| Box::new(TenantGuardLayer::new(GuardSettings::default(), clock)));

stamp!(retry, |clock| {
    let (timer, ids) = (Arc::new(TokioTimer), Arc::new(RandomIds));
    Box::new(RetryLayer::new(RetrySettings::default(), clock, timer, ids).unwrap())
});

stamp!(limit, |clock| {
    let made = ConcurrencyLimitLayer::new(LimitSettings::default(), clock, Arc::new(TokioTimer));
    Box::new(made.unwrap())
});

stamp!(timeout, |clock| {
    let limit = TimeoutSettings::default().attempt();
    Box::new(TimeoutLayer::new(limit, clock, Arc::new(TokioTimer)))
});

/// A cache that is small enough for evictions to happen.
fn small_cache(settings: CacheSettings, clock: Arc<dyn Clock>) -> CacheLayer {
    let local = Arc::new(LocalCache::new(clock.clone(), Arc::new(RandomIds), 64, 1 << 20));
    CacheLayer::new(settings, local, clock, Arc::new(TokioTimer), None).unwrap()
}

stamp!(cache, |clock| Box::new(small_cache(CacheSettings::default(), clock)));

stamp!(stack, |clock| {
    let waiting = Waiting { timer: Arc::new(TokioTimer), ids: Arc::new(RandomIds) };
    let mut settings = LayersSettings::default();
    settings.cache.strict = true;
    let recorder = Arc::new(metrics::NoopRecorder);
    let stack = Stack::remote(&settings, clock.clone(), &waiting, Some(recorder)).unwrap();
    Box::new(stack.with_cache(small_cache(settings.cache, clock)))
});

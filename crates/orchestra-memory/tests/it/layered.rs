//! The conformance suite through the layers, over the real stores, and many callers through all of
//! them over a connection that fails.

#[cfg(feature = "firestore")]
mod callers;
#[cfg(feature = "firestore")]
mod firestore;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::sync::Arc;

use memory_core::{Clock, RandomIds};
use memory_layers::{
    ConcurrencyLimitLayer, GuardSettings, Layer, LayersSettings, LimitSettings, RetryLayer,
    RetrySettings, Scope, Stack, TelemetryLayer, TelemetrySettings, TenantGuardLayer, TimeoutLayer,
    TokioTimer, Waiting,
};
use memory_testkit::{Harness, Overlay};

/// A harness with a layer around every part.
pub(crate) fn behind(layer: &dyn Layer, harness: impl Harness + 'static) -> Overlay {
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

/// A harness behind the layer that is made for its clock.
pub(crate) fn over(
    harness: impl Harness + 'static,
    make: impl FnOnce(Arc<dyn Clock>) -> Box<dyn Layer>,
) -> Overlay {
    let layer = make(harness.clock());
    behind(&*layer, harness)
}

pub(crate) fn telemetry(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    let recorder = Arc::new(metrics::NoopRecorder);
    let settings = TelemetrySettings::default();
    Box::new(TelemetryLayer::new(settings, recorder, clock, Scope::Call))
}

pub(crate) fn guard(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    Box::new(TenantGuardLayer::new(GuardSettings::default(), clock))
}

pub(crate) fn retry(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    let (timer, ids) = (Arc::new(TokioTimer), Arc::new(RandomIds));
    Box::new(RetryLayer::new(RetrySettings::default(), clock, timer, ids).unwrap())
}

pub(crate) fn limit(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    let settings = LimitSettings::default();
    Box::new(ConcurrencyLimitLayer::new(settings, clock, Arc::new(TokioTimer)).unwrap())
}

pub(crate) fn timeout(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    Box::new(TimeoutLayer::new(BUSY, clock, Arc::new(TokioTimer)))
}

pub(crate) fn stack(clock: Arc<dyn Clock>) -> Box<dyn Layer> {
    let waiting = Waiting { timer: Arc::new(TokioTimer), ids: Arc::new(RandomIds) };
    Box::new(
        Stack::remote(&patient(), clock, &waiting, Some(Arc::new(metrics::NoopRecorder))).unwrap(),
    )
}

/// What a call may take of a machine that is busy with other things.
const BUSY: std::time::Duration = std::time::Duration::from_secs(120);

/// The settings of all layers, with timeouts that no busy machine meets.
pub(crate) fn patient() -> LayersSettings {
    let mut settings = LayersSettings::default();
    settings.timeout.call_ms = 300_000;
    settings.timeout.attempt_ms = 120_000;
    settings
}

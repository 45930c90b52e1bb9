//! The store bare, each layer around it alone, and the whole stack; and what takes all telemetry
//! and keeps none of it.

use std::fmt::Debug;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use memory_core::traits::RecordStore;
use memory_core::{Clock, Health, IdSource, RandomIds, SystemClock, Timer};
use memory_layers::{
    Answer, Attempt, Call, ConcurrencyLimitLayer, GuardSettings, Layer, LayersSettings,
    LimitSettings, Policy, RetryLayer, RetrySettings, Scope, SharedRecorder, Stack, TelemetryLayer,
    TelemetrySettings, TenantGuardLayer, TimeoutLayer, TokioTimer, Waiting,
};
use memory_testkit::ReferenceStore;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber, span};

/// A store with what stands around it.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) store: Arc<dyn RecordStore>,
}

/// The bare store first, the whole stack last.
pub(crate) fn contestants() -> Result<Vec<Contestant>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let timer: Arc<dyn Timer> = Arc::new(TokioTimer);
    let ids: Arc<dyn IdSource> = Arc::new(RandomIds);
    let recorder: SharedRecorder = Arc::new(Discard);
    let telemetry = |scope| {
        TelemetryLayer::new(TelemetrySettings::default(), recorder.clone(), clock.clone(), scope)
    };
    let limit = LimitSettings::default();
    let waiting = Waiting { timer: timer.clone(), ids: ids.clone() };
    let settings = LayersSettings::default();
    let layers: Vec<(&'static str, Arc<dyn Layer>)> = vec![
        ("a layer that does nothing", Arc::new(Through)),
        ("telemetry of calls", Arc::new(telemetry(Scope::Call))),
        ("telemetry of attempts", Arc::new(telemetry(Scope::Attempt))),
        ("tenant guard", Arc::new(TenantGuardLayer::new(GuardSettings::default(), clock.clone()))),
        (
            "timeout",
            Arc::new(TimeoutLayer::new(Duration::from_secs(10), clock.clone(), timer.clone())),
        ),
        (
            "retry",
            Arc::new(RetryLayer::new(RetrySettings::default(), clock.clone(), timer.clone(), ids)?),
        ),
        (
            "concurrency limit",
            Arc::new(ConcurrencyLimitLayer::new(limit, clock.clone(), timer.clone())?),
        ),
        (
            "the whole stack",
            Arc::new(Stack::remote(&settings, clock.clone(), &waiting, Some(recorder.clone()))?),
        ),
    ];
    let store = || -> Arc<dyn RecordStore> { Arc::new(ReferenceStore::new(clock.clone())) };
    let mut contestants = vec![Contestant { name: "nothing", store: store() }];
    for (name, layer) in layers {
        contestants.push(Contestant { name, store: layer.records(store()) });
    }
    Ok(contestants)
}

/// Hands every call on.
#[derive(Clone, Copy, Debug)]
struct Through;

impl Policy for Through {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> memory_core::Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = memory_core::Result<T>> + Send,
    {
        send(call.attempt()).await
    }

    fn health(&self, _health: &mut Health) {}

    async fn close<A>(&self, close: A) -> memory_core::Result<()>
    where
        A: Future<Output = memory_core::Result<()>> + Send,
    {
        close.await
    }
}

/// Installs the subscriber that takes every span and every field and keeps nothing.
pub(crate) fn subscribe() -> Result<()> {
    tracing::subscriber::set_global_default(Spans { next: AtomicU64::new(1) })
        .context("a bench has one subscriber")
}

struct Spans {
    next: AtomicU64,
}

struct Look;

impl Visit for Look {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        black_box((field.name(), value));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut Look);
        span::Id::from_u64(self.next.fetch_add(1, Ordering::Relaxed))
    }
    fn record(&self, _span: &span::Id, values: &span::Record<'_>) {
        values.record(&mut Look);
    }
    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut Look);
    }
    fn enter(&self, _span: &span::Id) {}
    fn exit(&self, _span: &span::Id) {}
}

/// Takes every figure and keeps nothing.
#[derive(Debug)]
struct Discard;

impl CounterFn for Discard {
    fn increment(&self, value: u64) {
        black_box(value);
    }
    fn absolute(&self, value: u64) {
        black_box(value);
    }
}

impl GaugeFn for Discard {
    fn increment(&self, value: f64) {
        black_box(value);
    }
    fn decrement(&self, value: f64) {
        black_box(value);
    }
    fn set(&self, value: f64) {
        black_box(value);
    }
}

impl HistogramFn for Discard {
    fn record(&self, value: f64) {
        black_box(value);
    }
}

impl Recorder for Discard {
    fn describe_counter(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
    fn describe_gauge(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
    fn describe_histogram(&self, _key: KeyName, _unit: Option<Unit>, _text: SharedString) {}
    fn register_counter(&self, _key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(Self))
    }
    fn register_gauge(&self, _key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(Self))
    }
    fn register_histogram(&self, _key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(Self))
    }
}

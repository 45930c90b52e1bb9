//! Figures as Prometheus text, without a server.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory_core::{Error, ErrorKind, Result};
use metrics::{
    Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::figures::buckets;

/// After how many values the histograms take them in. Until then each waits in eight bytes, so
/// this bounds what a process holds that nobody scrapes.
const TAKE_IN: u64 = 16_384;

/// A recorder that keeps figures and shows them as Prometheus text. Clones share them.
#[derive(Clone)]
pub struct Prometheus {
    recorder: Arc<PrometheusRecorder>,
    waiting: Arc<Waiting>,
}

struct Waiting {
    handle: PrometheusHandle,
    values: AtomicU64,
}

struct Bounded {
    inner: Histogram,
    waiting: Arc<Waiting>,
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").finish_non_exhaustive()
    }
}

impl Prometheus {
    /// An empty one, with the documented buckets.
    ///
    /// # Errors
    /// `Config`: the buckets are refused.
    pub fn new() -> Result<Self> {
        let mut builder = PrometheusBuilder::new();
        for (name, ends) in buckets() {
            builder = builder
                .set_buckets_for_metric(Matcher::Full(name.to_owned()), ends)
                .map_err(|error| {
                    Error::new(ErrorKind::Config, "the buckets of a histogram are refused")
                        .with_source(error)
                })?;
        }
        let recorder = builder.build_recorder();
        let waiting = Waiting { handle: recorder.handle(), values: AtomicU64::new(0) };
        Ok(Self { recorder: Arc::new(recorder), waiting: Arc::new(waiting) })
    }

    /// All figures in the text format, version 0.0.4, to be served as `/metrics`.
    #[must_use]
    pub fn render(&self) -> String {
        self.waiting.handle.render()
    }
}

impl HistogramFn for Bounded {
    fn record(&self, value: f64) {
        self.inner.record(value);
        if self.waiting.values.fetch_add(1, Ordering::Relaxed) % TAKE_IN == TAKE_IN - 1 {
            self.waiting.handle.run_upkeep();
        }
    }
}

impl Recorder for Prometheus {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.recorder.describe_counter(key, unit, text);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.recorder.describe_gauge(key, unit, text);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.recorder.describe_histogram(key, unit, text);
    }
    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.recorder.register_counter(key, metadata)
    }
    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.recorder.register_gauge(key, metadata)
    }
    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        let inner = self.recorder.register_histogram(key, metadata);
        Histogram::from_arc(Arc::new(Bounded { inner, waiting: Arc::clone(&self.waiting) }))
    }
}

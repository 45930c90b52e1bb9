//! A recorder of the crate `metrics` over a meter of OpenTelemetry.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use opentelemetry::KeyValue;
use opentelemetry::metrics as otel;

use crate::telemetry::figures::buckets;

/// Unit and description of a figure, by its name.
type Described = HashMap<String, (&'static str, String)>;

pub(super) struct Bridge {
    meter: otel::Meter,
    described: Mutex<Described>,
}

struct Sum {
    counter: otel::Counter<u64>,
    attributes: Vec<KeyValue>,
    /// The highest value that was set.
    set: AtomicU64,
}

struct Level {
    gauge: otel::Gauge<f64>,
    attributes: Vec<KeyValue>,
    /// The bits of its value.
    value: AtomicU64,
}

struct Values {
    histogram: otel::Histogram<f64>,
    attributes: Vec<KeyValue>,
}

impl Bridge {
    pub(super) fn new(meter: otel::Meter) -> Self {
        Self { meter, described: Mutex::default() }
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.insert(key.as_str().to_owned(), (symbol(key.as_str(), unit), text.to_string()));
    }

    fn about(&self, key: &Key) -> (&'static str, String) {
        let described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        described.get(key.name()).cloned().unwrap_or_default()
    }
}

/// The unit as the conventions write it.
fn symbol(name: &str, unit: Option<Unit>) -> &'static str {
    match unit {
        Some(Unit::Seconds) => "s",
        Some(Unit::Bytes) => "By",
        _ if name.ends_with("rows") => "{row}",
        _ => "1",
    }
}

fn attributes(key: &Key) -> Vec<KeyValue> {
    key.labels()
        .map(|label| KeyValue::new(label.key().to_owned(), label.value().to_owned()))
        .collect()
}

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.counter.add(value, &self.attributes);
    }
    fn absolute(&self, value: u64) {
        let before = self.set.fetch_max(value, Ordering::Relaxed);
        if value > before {
            self.counter.add(value - before, &self.attributes);
        }
    }
}

impl Level {
    fn change(&self, change: impl Fn(f64) -> f64) {
        let next = |bits| Some(change(f64::from_bits(bits)).to_bits());
        let before = self.value.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let before = before.unwrap_or_else(|bits| bits);
        self.gauge.record(change(f64::from_bits(before)), &self.attributes);
    }
}

impl GaugeFn for Level {
    fn increment(&self, value: f64) {
        self.change(|before| before + value);
    }
    fn decrement(&self, value: f64) {
        self.change(|before| before - value);
    }
    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Values {
    fn record(&self, value: f64) {
        self.histogram.record(value, &self.attributes);
    }
}

impl Recorder for Bridge {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&key, unit, &text);
    }
    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        let (unit, text) = self.about(key);
        let builder = self.meter.u64_counter(key.name().to_owned());
        let counter = builder.with_unit(unit).with_description(text).build();
        Counter::from_arc(Arc::new(Sum {
            counter,
            attributes: attributes(key),
            set: AtomicU64::new(0),
        }))
    }
    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        let (unit, text) = self.about(key);
        let builder = self.meter.f64_gauge(key.name().to_owned());
        let gauge = builder.with_unit(unit).with_description(text).build();
        Gauge::from_arc(Arc::new(Level {
            gauge,
            attributes: attributes(key),
            value: AtomicU64::new(0),
        }))
    }
    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        let (unit, text) = self.about(key);
        let builder = self.meter.f64_histogram(key.name().to_owned());
        let mut builder = builder.with_unit(unit).with_description(text);
        if let Some((_, ends)) = buckets().into_iter().find(|(name, _)| *name == key.name()) {
            builder = builder.with_boundaries(ends.to_vec());
        }
        Histogram::from_arc(Arc::new(Values {
            histogram: builder.build(),
            attributes: attributes(key),
        }))
    }
}

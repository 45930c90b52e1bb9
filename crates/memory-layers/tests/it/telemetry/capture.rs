//! A recorder and a subscriber that keep what they are told.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use memory_layers::SharedRecorder;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

/// What was recorded: name, labels, value.
type Log = Vec<(String, String, f64)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Kept {
    log: Arc<Mutex<Log>>,
    units: Arc<Mutex<BTreeMap<String, String>>>,
}

struct Figure {
    kept: Kept,
    name: String,
    labels: String,
}

impl Kept {
    pub(super) fn recorder(&self) -> SharedRecorder {
        Arc::new(self.clone())
    }
    pub(super) fn values(&self, name: &str, labels: &str) -> Vec<f64> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.0 == name && line.1 == labels).map(|line| line.2).collect()
    }
    pub(super) fn names_of(&self, operation: &str) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|line| line.1.contains(operation)).map(|line| line.0.clone()).collect()
    }
    pub(super) fn unit(&self, name: &str) -> Option<String> {
        self.units.lock().unwrap().get(name).cloned()
    }
    pub(super) fn log(&self) -> Vec<String> {
        let log = self.log.lock().unwrap();
        log.iter().map(|(name, labels, value)| format!("{name} {labels} {value}")).collect()
    }
    fn figure(&self, key: &Key) -> Arc<Figure> {
        let labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let (name, labels) = (key.name().to_owned(), labels.join(" "));
        Arc::new(Figure { kept: self.clone(), name, labels })
    }
    fn describe(&self, key: &KeyName, unit: Option<Unit>) {
        let unit = unit.map_or("", |unit| unit.as_str());
        self.units.lock().unwrap().insert(key.as_str().to_owned(), unit.to_owned());
    }
}

impl Figure {
    fn keep(&self, value: f64) {
        self.kept.log.lock().unwrap().push((self.name.clone(), self.labels.clone(), value));
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
impl CounterFn for Figure {
    fn increment(&self, value: u64) {
        self.keep(value as f64);
    }
    fn absolute(&self, value: u64) {
        self.keep(value as f64);
    }
}

impl GaugeFn for Figure {
    fn increment(&self, value: f64) {
        self.keep(value);
    }
    fn decrement(&self, value: f64) {
        self.keep(-value);
    }
    fn set(&self, value: f64) {
        self.keep(value);
    }
}

impl HistogramFn for Figure {
    fn record(&self, value: f64) {
        self.keep(value);
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, _text: SharedString) {
        self.describe(&key, unit);
    }
    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, _text: SharedString) {
        self.describe(&key, unit);
    }
    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, _text: SharedString) {
        self.describe(&key, unit);
    }
    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.figure(key))
    }
    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.figure(key))
    }
    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.figure(key))
    }
}

/// A span that was closed.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) name: &'static str,
    pub(super) level: tracing::Level,
    pub(super) parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

impl Seen {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.fields.keys().copied().collect()
    }
}

/// The layer that keeps spans in the order in which they were opened.
#[derive(Clone, Default)]
pub(super) struct Spans {
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Spans {
    /// All spans that `work` opens on this thread, with their last fields.
    pub(super) fn during<T>(work: impl FnOnce() -> T) -> (Vec<Seen>, T) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        let answer = tracing::subscriber::with_default(subscriber, work);
        let seen = spans.seen.lock().unwrap().clone();
        (seen, answer)
    }
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// The place of a span among those seen.
struct Place(usize);

impl<S> Layer<S> for Spans
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let parent = span.parent().map(|parent| parent.name());
        let (name, level) = (span.name(), *span.metadata().level());
        let mut seen = self.seen.lock().unwrap();
        span.extensions_mut().insert(Place(seen.len()));
        seen.push(Seen { name, level, parent, fields });
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let place = span.extensions().get::<Place>().unwrap().0;
        values.record(&mut Fields(&mut self.seen.lock().unwrap()[place].fields));
    }
}

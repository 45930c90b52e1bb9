//! The concurrency limit as gauges.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Key, KeyName, Label, Unit};

use super::SharedRecorder;
use super::figures::{METADATA, SYSTEM};
use crate::limit::ConcurrencyLimitLayer;

/// How often the gauges are written at the most: scrapes are seconds apart.
const EVERY_MS: u64 = 1_000;

const GAUGES: [(&str, &str); 4] = [
    ("orchestra_memory.limit.concurrency", "How many attempts may be under way at once."),
    ("orchestra_memory.limit.in_flight", "How many are under way."),
    ("orchestra_memory.limit.queued", "How many wait for their turn."),
    ("orchestra_memory.limit.saturation", "How full limit and queue are; 1 is full."),
];
const REJECTED: &str = "orchestra_memory.limit.rejected";

pub(super) struct LimitGauges {
    recorder: SharedRecorder,
    limit: ConcurrencyLimitLayer,
    handles: OnceLock<([Gauge; 4], Counter)>,
    /// Milliseconds of the clock's monotonic time from which on they are written again.
    next: AtomicU64,
}

impl LimitGauges {
    pub(super) fn new(recorder: SharedRecorder, limit: ConcurrencyLimitLayer) -> Self {
        for (name, text) in GAUGES {
            recorder.describe_gauge(KeyName::from(name), Some(Unit::Count), text.into());
        }
        let text = "Attempts that the limit refused.".into();
        recorder.describe_counter(KeyName::from(REJECTED), Some(Unit::Count), text);
        Self { recorder, limit, handles: OnceLock::new(), next: AtomicU64::new(0) }
    }

    /// Writes them if it is time to.
    pub(super) fn observe(&self, backend: &'static str, now: Duration) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let next = self.next.load(Ordering::Relaxed);
        let after = now.saturating_add(EVERY_MS);
        if now < next
            || self
                .next
                .compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return;
        }
        let key = |name| Key::from_parts(name, vec![Label::from_static_parts(SYSTEM, backend)]);
        let (gauges, rejected) = self.handles.get_or_init(|| {
            let gauges =
                GAUGES.map(|(name, _)| self.recorder.register_gauge(&key(name), &METADATA));
            (gauges, self.recorder.register_counter(&key(REJECTED), &METADATA))
        });
        let stats = self.limit.stats();
        let values = [stats.limit, stats.in_flight, stats.queued].map(f64::from);
        for (gauge, value) in gauges.iter().zip(values.into_iter().chain([stats.saturation])) {
            gauge.set(value);
        }
        rejected.absolute(stats.rejected());
    }
}

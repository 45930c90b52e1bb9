//! What the layer counts, for `stats` and for the recorder.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, Key, KeyName, Label, Unit};

use crate::telemetry::{METADATA, SharedRecorder};

/// Seconds since the store was read, of what was served from the cache.
pub(crate) const AGE: &str = "orchestra_memory.cache.age";
/// The upper ends of its buckets: from what was read just now to an hour.
pub(crate) const AGES: &[f64] = &[0.01, 0.1, 1.0, 5.0, 15.0, 30.0, 60.0, 300.0, 3_600.0];

const KIND: &str = "orchestra_memory.cache.kind";
const KINDS: [&str; 2] = ["item", "history"];

macro_rules! counted {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// What is counted of each kind of value.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "the names are those of the fields")]
        pub(super) enum Of {
            $($name,)*
        }

        /// Counts of one kind of value since the layer was made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct CacheTally {
            $($(#[$doc])* pub $name: u64,)*
        }

        const OF: &[(&str, &str)] = &[$((
            concat!("orchestra_memory.cache.", stringify!($name)),
            $text,
        ),)*];

        impl CacheTally {
            fn read(counts: &[Count]) -> Self {
                Self { $($name: counts[Of::$name as usize].get(),)* }
            }
        }
    };
}

counted! {
    /// Values that were served.
    hits, "Values served from the cache.";
    /// Keys that had no value, and were read from the store.
    misses, "Keys that had no value in the cache.";
    /// Keys that a write under way kept from the cache: read from the store and not kept.
    in_flight, "Keys with a write under way.";
    /// Keys for which the cache was not asked, or did not answer.
    bypasses, "Keys for which the cache was not asked or did not answer.";
    /// Misses that took what another caller of this process was just reading.
    joined, "Misses that took what another caller was just reading.";
    /// Values that were not served, for they or a part of them had expired.
    expired, "Values not served because they had expired.";
    /// Bytes that were no value of their key.
    undecodable, "Bytes from the cache that were no value of their key.";
    /// Values that were kept.
    fills, "Values kept.";
    /// Values that the cache refused: a write came between.
    fills_refused, "Values refused, because a write came between.";
    /// Values that were too large to be kept.
    too_large, "Values too large to be kept.";
    /// Bytes of values that were read.
    bytes_read, "Bytes of values read from the cache.";
    /// Bytes of values that were kept.
    bytes_written, "Bytes of values kept in the cache.";
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident, $text:literal;)*) => {
        /// What is counted of the layer as a whole.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, reason = "the names are those of the fields")]
        pub(super) enum Total {
            $($name,)*
        }

        /// What a cache layer has counted since it was made.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct CacheCounts {
            /// Items by id.
            pub items: CacheTally,
            /// First pages of conversations.
            pub history: CacheTally,
            $($(#[$doc])* pub $name: u64,)*
        }

        const TOTALS: &[(&str, &str)] = &[$((
            concat!("orchestra_memory.cache.", stringify!($name)),
            $text,
        ),)*];

        impl Counts {
            /// All counts.
            pub(super) fn counts(&self) -> CacheCounts {
                CacheCounts {
                    items: CacheTally::read(&self.of[0]),
                    history: CacheTally::read(&self.of[1]),
                    $($name: self.totals[Total::$name as usize].get(),)*
                }
            }
        }
    };
}

totals! {
    /// Writes that told the cache.
    writes, "Writes that told the cache.";
    /// Writes after which values from before may be in the cache, for `max_stale_ms` at the longest.
    unconfirmed, "Writes after which old values may be in the cache.";
    /// Writes that were refused because the cache did not answer and the settings are strict.
    writes_refused, "Writes refused because the cache did not answer.";
    /// Requests to the cache that failed or took too long.
    failures, "Requests to the cache that failed or took too long.";
    /// How often reads began to leave the cache alone.
    pauses, "How often reads began to leave the cache alone.";
}

impl CacheTally {
    /// Of the keys that were asked for, the share that was served from the cache: 0 to 1. 0 where
    /// none was asked for.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let asked = self.hits + self.misses + self.in_flight + self.bypasses;
        if asked == 0 {
            return 0.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of more than 2^53 keys is as good")]
        let (hits, asked) = (self.hits as f64, asked as f64);
        hits / asked
    }
}

/// Which kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    Item,
    History,
}

struct Count {
    value: AtomicU64,
    figure: Counter,
}

impl Count {
    fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }

    fn add(&self, amount: u64) {
        if amount > 0 {
            self.value.fetch_add(amount, Ordering::Relaxed);
            self.figure.increment(amount);
        }
    }
}

/// The counts, and the figures that go along with them.
pub(super) struct Counts {
    of: [Vec<Count>; 2],
    totals: Vec<Count>,
    ages: [Histogram; 2],
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.counts().fmt(f)
    }
}

impl Counts {
    pub(super) fn new(recorder: &SharedRecorder) -> Arc<Self> {
        for (name, text) in OF.iter().chain(TOTALS) {
            let unit = if name.contains("bytes") { Unit::Bytes } else { Unit::Count };
            recorder.describe_counter(KeyName::from(*name), Some(unit), (*text).into());
        }
        let text = "Age of what was served from the cache.".into();
        recorder.describe_histogram(KeyName::from(AGE), Some(Unit::Seconds), text);
        let count = |name: &'static str, labels| Count {
            value: AtomicU64::new(0),
            figure: recorder.register_counter(&Key::from_parts(name, labels), &METADATA),
        };
        let label = |kind| vec![Label::from_static_parts(KIND, kind)];
        Arc::new(Self {
            of: KINDS.map(|kind| OF.iter().map(|(name, _)| count(name, label(kind))).collect()),
            totals: TOTALS.iter().map(|(name, _)| count(name, Vec::new())).collect(),
            ages: KINDS.map(|kind| {
                recorder.register_histogram(&Key::from_parts(AGE, label(kind)), &METADATA)
            }),
        })
    }

    pub(super) fn note(&self, kind: ValueKind, of: Of, amount: usize) {
        self.of[kind as usize][of as usize].add(u64::try_from(amount).unwrap_or(u64::MAX));
    }

    pub(super) fn total(&self, total: Total) {
        self.totals[total as usize].add(1);
    }

    pub(super) fn age(&self, kind: ValueKind, age: Duration) {
        self.ages[kind as usize].record(age.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_rate_is_of_all_that_was_asked() {
        let tally =
            CacheTally { hits: 3, misses: 1, in_flight: 1, bypasses: 1, ..Default::default() };
        assert!((tally.hit_rate() - 0.5).abs() < 1e-12);
        assert!(CacheTally::default().hit_rate().abs() < 1e-12);
    }

    #[test]
    fn counts_stand_in_their_places() {
        let recorder: SharedRecorder = Arc::new(metrics::NoopRecorder);
        let counts = Counts::new(&recorder);
        counts.note(ValueKind::Item, Of::hits, 2);
        counts.note(ValueKind::History, Of::bytes_written, 5);
        counts.total(Total::pauses);
        let seen = counts.counts();
        assert_eq!((seen.items.hits, seen.history.bytes_written, seen.pauses), (2, 5, 1));
        assert_eq!((seen.history.hits, seen.writes), (0, 0));
    }
}

//! The bounds of the concurrency limit, with defaults and reasons.

use serde::{Deserialize, Serialize};

/// Settings of [`crate::ConcurrencyLimitLayer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// The limit never falls below it; 1 to 10,000. 8: small enough to spare a back end that
    /// struggles, enough to keep one busy that shares a sync between its writers.
    pub min: u32,
    /// The limit never rises above it; `min` to 10,000. 512: two full groups of the embedded
    /// store's writer; five connections of HTTP/2 at the 100 streams that servers commonly allow.
    /// The same as `min`: a fixed limit.
    pub max: u32,
    /// Where the limit begins; `min` to `max`. 32: what a back end of 10 ms an answer needs for
    /// 3,200 calls a second, and what the limit leaves within a second when it is wrong.
    pub start: u32,
    /// Calls that may wait for a permit; one more is refused as `Overloaded`. 0 to 100,000.
    /// 1,024: a burst of a batch program, a quarter of a second at 4,000 calls a second. The wait
    /// in a full queue is its length over the back end's answers a second.
    pub queue: u32,
    /// The longest wait for a permit in milliseconds; 0 (the deadline alone decides) to 3,600,000.
    /// 1,000: who has waited longer than a person's patience with a click is better told so.
    pub queue_wait_ms: u64,
    /// How many times its typical duration at rest a call may take before it counts as slow;
    /// 1.1 to 100. 3: a writer that shares syncs makes a call wait for up to two of them, which is
    /// no congestion.
    pub tolerance: f64,
    /// The share of the limit that a decrease takes, in percent; 1 to 90. 20: between the 10 of
    /// Netflix's `AIMDLimit` and the 30 of CUBIC (RFC 9438), so that half the capacity is met in
    /// four round trips.
    pub decrease_percent: u32,
    /// For how long calls have to have been waiting before health says `Degraded`, in
    /// milliseconds; 0 to 3,600,000. 5,000: longer than a burst, shorter than the 10 seconds
    /// between two probes of a platform.
    pub saturated_after_ms: u64,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            min: 8,
            max: 512,
            start: 32,
            queue: 1_024,
            queue_wait_ms: 1_000,
            tolerance: 3.0,
            decrease_percent: 20,
            saturated_after_ms: 5_000,
        }
    }
}

/// The highest limit that may be set.
const MOST: u32 = 10_000;
/// The longest queue that may be set.
const LONGEST_QUEUE: u32 = 100_000;
/// The longest wait that may be set: an hour, in milliseconds.
const LONGEST_WAIT_MS: u64 = 3_600_000;

impl LimitSettings {
    /// One sentence for each value out of its range; empty when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |holds: bool, name: &str, range: String, value: String| {
            if !holds {
                faults.push(format!("limit.{name} lies in {range}; this is {value}"));
            }
        };
        let (min, max) = (self.min, self.max);
        check((1..=MOST).contains(&min), "min", format!("1 to {MOST}"), min.to_string());
        check(
            (min..=MOST).contains(&max),
            "max",
            format!("limit.min ({min}) to {MOST}"),
            max.to_string(),
        );
        check(
            (min..=max).contains(&self.start),
            "start",
            format!("limit.min ({min}) to limit.max ({max})"),
            self.start.to_string(),
        );
        check(
            self.queue <= LONGEST_QUEUE,
            "queue",
            format!("0 to {LONGEST_QUEUE}"),
            self.queue.to_string(),
        );
        check(
            (1.1..=100.0).contains(&self.tolerance),
            "tolerance",
            "1.1 to 100".to_owned(),
            self.tolerance.to_string(),
        );
        check(
            (1..=90).contains(&self.decrease_percent),
            "decrease_percent",
            "1 to 90".to_owned(),
            self.decrease_percent.to_string(),
        );
        for (name, value) in
            [("queue_wait_ms", self.queue_wait_ms), ("saturated_after_ms", self.saturated_after_ms)]
        {
            let range = format!("0 to {LONGEST_WAIT_MS}");
            check(value <= LONGEST_WAIT_MS, name, range, value.to_string());
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_sound_and_each_fault_is_named() {
        assert_eq!(LimitSettings::default().faults(), Vec::<String>::new());
        let wrong = LimitSettings {
            min: 0,
            max: 20_000,
            start: 30_000,
            queue: 100_001,
            queue_wait_ms: 3_600_001,
            tolerance: f64::NAN,
            decrease_percent: 0,
            saturated_after_ms: u64::MAX,
        };
        let faults = wrong.faults();
        assert_eq!(faults.len(), 8, "{faults:?}");
        assert_eq!(faults[0], "limit.min lies in 1 to 10000; this is 0");
        let crossed = LimitSettings { min: 10, max: 5, start: 7, ..LimitSettings::default() };
        assert_eq!(crossed.faults().len(), 2, "{:?}", crossed.faults());
    }
}

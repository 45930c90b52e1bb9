//! The settings of the cache layer.

use std::time::Duration;

use memory_core::limits::PAGE;
use serde::{Deserialize, Serialize};

use crate::bounds::within;

/// How a cache is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CacheSettings {
    /// Milliseconds that anything is kept at the longest, and so the bound of staleness where a
    /// write could not tell the cache: 100 to 86,400,000. 60,000: the turns of a conversation lie
    /// seconds apart, so that most hits come within it, and a minute of an old memory after the
    /// cache was away harms little.
    pub max_stale_ms: u64,
    /// Milliseconds that the mark of a write stands at the longest: 100 to 3,600,000, and longer
    /// than `timeout.call_ms`. 45,000: once and a half the time of a call, for a request that was
    /// given up may still take effect. It is how long the groups of a writer that crashed cannot
    /// be kept. A call with a later deadline gets a longer mark.
    pub mark_ms: u64,
    /// Whether a write that cannot put its mark is refused, as `Unavailable` and not applied.
    /// `false`: memories can be written while the cache is away, and what other processes see is
    /// old for `max_stale_ms` at the longest.
    pub strict: bool,
    /// Whether first pages of conversations are kept. `true`: they are what an agent reads at each
    /// turn.
    pub history: bool,
    /// Most items of such a page: 1 to 1,000. 100: what fits into a prompt.
    pub history_limit: u32,
    /// Most bytes of an item's value: 256 to 1,048,576; larger ones are not kept. 65,536: a long
    /// memory has some kilobytes, and one large value takes the place of a thousand small ones.
    pub item_max_bytes: u32,
    /// Most bytes of a page's value: 256 to 16,777,216. 524,288: a hundred items of five
    /// kilobytes.
    pub history_max_bytes: u32,
    /// Milliseconds that one request to the cache may take: 1 to 10,000, and never beyond the
    /// call's deadline. 100: a cache answers within one, and what a slow one costs a read has to
    /// stay below what the store costs.
    pub timeout_ms: u64,
    /// After how many failures in a row reads leave the cache alone: 1 to 1,000. 5: more than one
    /// lost connection, fewer than would be noticed.
    pub failures: u32,
    /// Milliseconds that they leave it alone; then one read tries: 10 to 600,000. 1,000: a restart
    /// takes about as long. Writes go on telling the cache meanwhile.
    pub pause_ms: u64,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self {
            max_stale_ms: 60_000,
            mark_ms: 45_000,
            strict: false,
            history: true,
            history_limit: 100,
            item_max_bytes: 65_536,
            history_max_bytes: 524_288,
            timeout_ms: 100,
            failures: 5,
            pause_ms: 1_000,
        }
    }
}

impl CacheSettings {
    /// Every value that lies out of its range, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "cache.max_stale_ms", self.max_stale_ms, 100, 86_400_000);
        within(&mut faults, "cache.mark_ms", self.mark_ms, 100, 3_600_000);
        within(&mut faults, "cache.history_limit", self.history_limit, 1, PAGE);
        within(&mut faults, "cache.item_max_bytes", self.item_max_bytes, 256, 1 << 20);
        within(&mut faults, "cache.history_max_bytes", self.history_max_bytes, 256, 1 << 24);
        within(&mut faults, "cache.timeout_ms", self.timeout_ms, 1, 10_000);
        within(&mut faults, "cache.failures", self.failures, 1, 1_000);
        within(&mut faults, "cache.pause_ms", self.pause_ms, 10, 600_000);
        faults
    }

    /// As [`CacheSettings::faults`], and that a mark outlasts a call. `call` is the limit of a call;
    /// zero is none.
    #[must_use]
    pub fn faults_beside(&self, call: Duration) -> Vec<String> {
        let mut faults = self.faults();
        if self.mark() <= call {
            faults.push(format!(
                "cache.mark_ms is longer than timeout.call_ms, which is {}; this is {}",
                call.as_millis(),
                self.mark_ms
            ));
        }
        faults
    }

    /// How long anything is kept.
    #[must_use]
    pub fn max_stale(&self) -> Duration {
        Duration::from_millis(self.max_stale_ms)
    }

    /// How long a mark stands.
    #[must_use]
    pub fn mark(&self) -> Duration {
        Duration::from_millis(self.mark_ms)
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_beside_those_of_timeouts() {
        let call = crate::TimeoutSettings::default().call();
        assert_eq!(CacheSettings::default().faults_beside(call), Vec::<String>::new());
        let settings = CacheSettings { mark_ms: 30_000, ..CacheSettings::default() };
        let faults = settings.faults_beside(call);
        assert!(faults.len() == 1 && faults[0].starts_with("cache.mark_ms"), "{faults:?}");
        assert!(settings.faults_beside(Duration::ZERO).is_empty());
        let none = CacheSettings {
            max_stale_ms: 0,
            mark_ms: 0,
            history_limit: 0,
            item_max_bytes: 0,
            history_max_bytes: 0,
            timeout_ms: 0,
            failures: 0,
            pause_ms: 0,
            ..CacheSettings::default()
        };
        assert_eq!(none.faults().len(), 8);
    }
}

//! The settings of all layers, and which of them a back end gets.

use serde::{Deserialize, Serialize};

use crate::cache::CacheSettings;
use crate::guard::GuardSettings;
use crate::limit::LimitSettings;
use crate::retry::RetrySettings;
use crate::telemetry::TelemetrySettings;
use crate::timeout::TimeoutSettings;

/// Which layers stand around a back end and an embedder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ApplyLayers {
    /// What is remote gets all of them; what is embedded gets telemetry and tenant guard.
    ///
    /// An embedded store has a bounded queue of its own, heeds deadlines itself, fails for reasons
    /// that another attempt does not mend, and is used without a runtime, which waiting between
    /// attempts could need. A back end is remote where what it acknowledges is a service's promise
    /// ([`memory_core::Durability::Service`]), or it is Redis; an embedder where it is a server of the settings.
    #[default]
    Auto,
    /// All of them, around everything.
    All,
    /// None: the caller puts layers around the parts, or does without.
    None,
}

/// The settings of all layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LayersSettings {
    /// Which layers there are. `auto`: each policy where it can mend something.
    pub apply: ApplyLayers,
    /// How calls are sent again.
    pub retry: RetrySettings,
    /// How many calls a server is given at once.
    pub limit: LimitSettings,
    /// How long calls may take.
    pub timeout: TimeoutSettings,
    /// What telemetry tells.
    pub telemetry: TelemetrySettings,
    /// The tenant guard.
    pub guard: GuardSettings,
    /// How a cache is used, where there is one.
    pub cache: CacheSettings,
}

impl LayersSettings {
    /// All that is wrong with the values, one sentence each, beginning with the setting; empty when
    /// nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.retry.faults();
        faults.extend(self.limit.faults());
        faults.extend(self.timeout.faults());
        faults.extend(self.telemetry.faults());
        faults.extend(self.guard.faults());
        faults.extend(self.cache.faults_beside(self.timeout.call()));
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_faults_of_every_layer_are_told_at_once() {
        assert_eq!(LayersSettings::default().faults(), Vec::<String>::new());
        let mut settings = LayersSettings::default();
        settings.retry.attempts = 0;
        settings.limit.min = 0;
        settings.timeout.call_ms = u64::MAX;
        settings.telemetry.most_tenants = 0;
        settings.cache.timeout_ms = 0;
        let faults = settings.faults().join("\n");
        for part in [
            "retry.attempts",
            "limit.min",
            "timeout.call_ms",
            "telemetry.most_tenants",
            "cache.timeout_ms",
            "cache.mark_ms",
        ] {
            assert!(faults.contains(part), "{faults}");
        }
    }
}

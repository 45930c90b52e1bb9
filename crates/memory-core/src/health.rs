//! How a component is.

use std::collections::BTreeMap;

use serde::Serialize;

/// How a component is, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// All is well.
    Healthy,
    /// It serves, with less than it should.
    Degraded,
    /// It does not serve.
    Unhealthy,
}

impl HealthStatus {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// How a component is, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// The worst of its parts.
    pub status: HealthStatus,
    /// Why it is not healthy: one sentence each. Empty when it is.
    pub reasons: Vec<String>,
    /// Facts for an operator; never memory text, never a secret.
    pub details: BTreeMap<String, String>,
}

impl Health {
    /// A healthy component.
    #[must_use]
    pub fn healthy() -> Self {
        Self { status: HealthStatus::Healthy, reasons: Vec::new(), details: BTreeMap::new() }
    }

    /// Lowers the status and says why.
    pub fn lower(&mut self, status: HealthStatus, reason: impl Into<String>) {
        self.status = self.status.max(status);
        self.reasons.push(reason.into());
    }

    /// Adds a fact.
    pub fn detail(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.details.insert(key.into(), value.into());
    }

    /// Takes in the health of a part.
    pub fn merge(&mut self, part: &str, other: Self) {
        self.status = self.status.max(other.status);
        self.reasons.extend(other.reasons.into_iter().map(|reason| format!("{part}: {reason}")));
        self.details
            .extend(other.details.into_iter().map(|(key, value)| (format!("{part}.{key}"), value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_part_decides() {
        let mut health = Health::healthy();
        let mut part = Health::healthy();
        part.lower(HealthStatus::Degraded, "slow");
        health.merge("store", part);
        assert_eq!(health.status, HealthStatus::Degraded);
        assert_eq!(health.reasons, ["store: slow"]);
        health.lower(HealthStatus::Unhealthy, "gone");
        health.lower(HealthStatus::Degraded, "slow");
        assert_eq!(health.status, HealthStatus::Unhealthy);
    }
}

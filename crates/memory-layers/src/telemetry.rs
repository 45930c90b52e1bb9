//! Telemetry: a span and figures of each call or attempt, by the OpenTelemetry conventions for
//! databases.
//!
//! The layer stands twice in a stack: outside of all others for calls ([`Scope::Call`]) and within
//! the retries for attempts ([`Scope::Attempt`]). It knows a call's operation, tenant, back end and
//! how it ended, and nothing of its content; so none of that can get into spans or figures.

mod figures;
mod gauges;
mod ledger;
pub(crate) mod notes;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "prometheus")]
mod prometheus;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use memory_core::{Clock, Error, Health, Outcome, Result};
use metrics::Recorder;
use serde::{Deserialize, Serialize};
use tracing::field::Empty;
use tracing::{Instrument, Span};

use crate::answer::Answer;
use crate::bounds::within;
use crate::limit::ConcurrencyLimitLayer;
use crate::policy::{Attempt, Call, Policy};

use figures::{Ended, Figures};
use gauges::LimitGauges;
use notes::Notes;

pub(crate) use figures::METADATA;
pub use figures::buckets;
pub use ledger::TelemetryLedger;
pub use notes::{CacheResult, note_cache};
#[cfg(feature = "otlp")]
pub use otlp::{Otlp, OtlpSettings};
#[cfg(feature = "prometheus")]
pub use prometheus::Prometheus;

/// What figures are written to: never a global, always one that was given.
pub type SharedRecorder = Arc<dyn Recorder + Send + Sync>;

/// What telemetry tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TelemetrySettings {
    /// Whether spans and figures name the tenant. `false`: each tenant multiplies the series that a
    /// metrics back end keeps, and a tenant's id may be a person's.
    pub tenant_labels: bool,
    /// How many tenants get series of their own: 1 to 10,000; the ones after them share `_OTHER`.
    /// 100: with ten operations in use that is some thousand histograms, which a small Prometheus
    /// bears. Counts only with `tenant_labels`.
    pub most_tenants: u32,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { tenant_labels: false, most_tenants: 100 }
    }
}

impl TelemetrySettings {
    /// Every value that lies out of its range, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "telemetry.most_tenants", self.most_tenants, 1, 10_000);
        faults
    }
}

/// What a telemetry layer watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whole calls, with their waits and attempts: span `memory.call`, histogram
    /// `db.client.operation.duration`.
    Call,
    /// Single attempts: span `memory.attempt`, histogram `orchestra_memory.attempt.duration`.
    Attempt,
}

/// Writes a span and figures of each call. Clones share their handles.
#[derive(Clone)]
pub struct TelemetryLayer {
    settings: TelemetrySettings,
    clock: Arc<dyn Clock>,
    figures: Arc<Figures>,
    limit: Option<Arc<LimitGauges>>,
}

impl fmt::Debug for TelemetryLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryLayer")
            .field("settings", &self.settings)
            .field("scope", &self.figures.scope)
            .finish_non_exhaustive()
    }
}

impl TelemetryLayer {
    /// A layer that writes to a recorder, and to whatever subscriber of `tracing` is in force.
    #[must_use]
    pub fn new(
        settings: TelemetrySettings,
        recorder: SharedRecorder,
        clock: Arc<dyn Clock>,
        scope: Scope,
    ) -> Self {
        let figures = Arc::new(Figures::new(recorder, settings, scope));
        Self { settings, clock, figures, limit: None }
    }

    /// Writes the gauges of a limit as well, once a second at the most, when a call ends.
    #[must_use]
    pub fn with_limit(mut self, limit: ConcurrencyLimitLayer) -> Self {
        self.limit = Some(Arc::new(LimitGauges::new(Arc::clone(&self.figures.recorder), limit)));
        self
    }

    fn span(&self, call: &Call<'_>) -> Span {
        let (system, operation) = (call.backend, call.operation.name());
        let span = match self.figures.scope {
            Scope::Call => tracing::info_span!(
                target: "memory_layers::telemetry",
                "memory.call",
                otel.name = operation,
                otel.kind = "client",
                otel.status_code = Empty,
                db.system.name = system,
                db.operation.name = operation,
                db.operation.batch.size = Empty,
                db.response.returned_rows = Empty,
                "error.type" = Empty,
                orchestra_memory.outcome = Empty,
                orchestra_memory.attempts = Empty,
                orchestra_memory.cache = Empty,
                orchestra_memory.tenant = Empty,
            ),
            Scope::Attempt => tracing::debug_span!(
                target: "memory_layers::telemetry",
                "memory.attempt",
                otel.name = operation,
                otel.kind = "internal",
                otel.status_code = Empty,
                db.system.name = system,
                db.operation.name = operation,
                db.response.returned_rows = Empty,
                "error.type" = Empty,
                orchestra_memory.outcome = Empty,
                orchestra_memory.attempt = Empty,
                orchestra_memory.tenant = Empty,
            ),
        };
        if span.is_disabled() {
            return span;
        }
        if self.figures.scope == Scope::Call && call.asked > 1 {
            span.record("db.operation.batch.size", call.asked);
        }
        if self.settings.tenant_labels
            && let Some(context) = call.context
        {
            span.record("orchestra_memory.tenant", context.tenant.as_str());
        }
        span
    }
}

/// A call under way: what is not ended when it is dropped, was cancelled.
struct Watch<'a> {
    layer: &'a TelemetryLayer,
    call: &'a Call<'a>,
    span: &'a Span,
    notes: Option<Arc<Notes>>,
    begun: Duration,
    is_ended: bool,
}

impl Watch<'_> {
    fn end(&mut self, ended: Ended, rows: Option<usize>, is_retryable: bool) {
        self.is_ended = true;
        let layer = self.layer;
        let now = layer.clock.monotonic();
        let spent = now.saturating_sub(self.begun);
        let attempts = self.notes.as_ref().map_or(0, |notes| notes.attempts());
        let rows = rows.filter(|_| !self.call.operation.writes());
        let given_up = is_retryable && attempts > 1;
        layer.figures.record(self.call, ended, spent, rows, attempts, given_up);
        if let Some(limit) = &layer.limit {
            limit.observe(self.call.backend, now);
        }
        let span = self.span;
        if span.is_disabled() {
            return;
        }
        span.record("orchestra_memory.outcome", ended.outcome());
        if let Some(kind) = ended.error_type() {
            span.record("error.type", kind);
            span.record("otel.status_code", "ERROR");
        }
        if let Some(rows) = rows {
            span.record("db.response.returned_rows", rows);
        }
        if let Some(notes) = &self.notes {
            if attempts > 0 {
                span.record("orchestra_memory.attempts", attempts);
            }
            if let Some(cache) = notes.cache() {
                span.record("orchestra_memory.cache", cache.name());
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.end(Ended::Cancelled, None, false);
        }
    }
}

fn failed(error: &Error) -> Ended {
    Ended::Failed(error.kind(), error.outcome() == Outcome::Unknown)
}

impl Policy for TelemetryLayer {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        let span = self.span(call);
        let notes = match self.figures.scope {
            Scope::Call => Some(Arc::new(Notes::default())),
            Scope::Attempt => {
                if let Some(number) = notes::note_attempt() {
                    span.record("orchestra_memory.attempt", number);
                }
                None
            }
        };
        let begun = self.clock.monotonic();
        let mut watch =
            Watch { layer: self, call, span: &span, notes: notes.clone(), begun, is_ended: false };
        let answer = {
            let mut work = pin!(send(call.attempt()).instrument(span.clone()));
            poll_fn(|context| {
                let _entered = notes.as_ref().map(notes::enter);
                work.as_mut().poll(context)
            })
            .await
        };
        match &answer {
            Ok(answer) => watch.end(Ended::Ok, Some(answer.rows()), false),
            Err(error) => watch.end(failed(error), None, error.is_retryable()),
        }
        answer
    }

    fn health(&self, _health: &mut Health) {}

    async fn close<A>(&self, close: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        close.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_name_no_tenant() {
        let settings = TelemetrySettings::default();
        assert!(settings.faults().is_empty() && !settings.tenant_labels);
        let faults = TelemetrySettings { most_tenants: 0, ..settings }.faults();
        assert_eq!(faults, ["telemetry.most_tenants lies in 1 to 10000; this is 0"]);
    }
}

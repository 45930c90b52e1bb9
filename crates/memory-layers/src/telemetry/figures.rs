//! The figures of calls: their names, and handles that are registered once.
//!
//! A handle stands in an array by back end, operation and end, so that a call that ends hashes
//! nothing and allocates nothing; a handle is registered when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use memory_core::{ErrorKind, TenantId};
use metrics::{
    Counter, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString, Unit,
};

use super::{Scope, SharedRecorder, TelemetrySettings};
use crate::cache::{AGE, AGES};
use crate::operation::Operation;
use crate::policy::Call;

pub(super) const CALL_DURATION: &str = "db.client.operation.duration";
pub(super) const ATTEMPT_DURATION: &str = "orchestra_memory.attempt.duration";
pub(super) const ROWS: &str = "db.client.response.returned_rows";
pub(super) const RETRIES: &str = "orchestra_memory.retries";
pub(super) const GIVEN_UP: &str = "orchestra_memory.given_up";

pub(super) const SYSTEM: &str = "db.system.name";
pub(super) const OPERATION: &str = "db.operation.name";
const ERROR_TYPE: &str = "error.type";
const OUTCOME: &str = "orchestra_memory.outcome";
const TENANT: &str = "orchestra_memory.tenant";

/// What stands for the back ends and tenants beyond those with series of their own.
const OTHER: &str = "_OTHER";
/// How many back ends get handles of their own. A process has one or two, and an embedder.
const BACK_ENDS: usize = 8;

/// Seconds: what the conventions recommend for `db.client.operation.duration`.
const DURATIONS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Seconds of an attempt, with three more for stores that are in memory or on a disk.
const ATTEMPTS: &[f64] =
    &[0.000_01, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
/// Rows: what the conventions recommend for `db.client.response.returned_rows`.
const ROW_COUNTS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];

/// Every histogram with the upper ends of its buckets, for recorders that want to be told them.
#[must_use]
pub fn buckets() -> [(&'static str, &'static [f64]); 4] {
    [(CALL_DURATION, DURATIONS), (ATTEMPT_DURATION, ATTEMPTS), (ROWS, ROW_COUNTS), (AGE, AGES)]
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Ok,
    /// With the kind, and whether the outcome is unknown.
    Failed(ErrorKind, bool),
    Cancelled,
}

/// One for what is well, two for each kind, one for what was cancelled.
const ENDS: usize = 2 + 2 * ErrorKind::ALL.len();

impl Ended {
    fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Cancelled => 1,
            // Kinds are listed in the order in which they are declared.
            Self::Failed(kind, is_unknown) => 2 + 2 * (kind as usize) + usize::from(is_unknown),
        }
    }

    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed(_, false) => "not_applied",
            Self::Failed(_, true) => "unknown",
            Self::Cancelled => "cancelled",
        }
    }

    pub(super) fn error_type(self) -> Option<&'static str> {
        match self {
            Self::Ok => None,
            Self::Failed(kind, _) => Some(kind.name()),
            Self::Cancelled => Some("cancelled"),
        }
    }
}

/// Where a figure comes from, for recorders that filter by it.
pub(crate) const METADATA: Metadata<'static> =
    Metadata::new("memory_layers::telemetry", Level::INFO, None);

pub(super) struct Figures {
    pub(super) recorder: SharedRecorder,
    pub(super) scope: Scope,
    tenant_labels: bool,
    most_tenants: usize,
    shared: BackEnds,
    tenants: RwLock<HashMap<TenantId, Arc<BackEnds>>>,
    others: OnceLock<Arc<BackEnds>>,
}

#[derive(Default)]
struct BackEnds {
    tenant: Option<SharedString>,
    known: [OnceLock<BackEnd>; BACK_ENDS],
    other: OnceLock<BackEnd>,
}

struct BackEnd {
    name: &'static str,
    operations: [OnceLock<Box<Handles>>; Operation::COUNT],
}

struct Handles {
    durations: [OnceLock<Histogram>; ENDS],
    rows: OnceLock<Histogram>,
    retries: OnceLock<Counter>,
    given_up: OnceLock<Counter>,
}

impl BackEnds {
    fn of(tenant: SharedString) -> Self {
        Self { tenant: Some(tenant), ..Self::default() }
    }

    fn get(&self, name: &'static str) -> &BackEnd {
        for place in &self.known {
            let found = place.get_or_init(|| BackEnd::new(name));
            if std::ptr::eq(found.name, name) || found.name == name {
                return found;
            }
        }
        self.other.get_or_init(|| BackEnd::new(OTHER))
    }
}

impl BackEnd {
    fn new(name: &'static str) -> Self {
        Self { name, operations: [const { OnceLock::new() }; Operation::COUNT] }
    }
}

impl Handles {
    fn new() -> Box<Self> {
        Box::new(Self {
            durations: [const { OnceLock::new() }; ENDS],
            rows: OnceLock::new(),
            retries: OnceLock::new(),
            given_up: OnceLock::new(),
        })
    }
}

impl Figures {
    pub(super) fn new(recorder: SharedRecorder, settings: TelemetrySettings, scope: Scope) -> Self {
        describe(&*recorder, scope);
        Self {
            recorder,
            scope,
            tenant_labels: settings.tenant_labels,
            most_tenants: usize::try_from(settings.most_tenants).unwrap_or(usize::MAX),
            shared: BackEnds::default(),
            tenants: RwLock::default(),
            others: OnceLock::new(),
        }
    }

    /// Notes the end of a call. `attempts` is 0 where they were not counted.
    pub(super) fn record(
        &self,
        call: &Call<'_>,
        ended: Ended,
        spent: Duration,
        rows: Option<usize>,
        attempts: u32,
        given_up: bool,
    ) {
        let tenant = call.context.filter(|_| self.tenant_labels).map(|c| &c.tenant);
        match tenant {
            None => self.note(&self.shared, call, ended, spent, rows, attempts, given_up),
            Some(tenant) => {
                let own = self.of_tenant(tenant);
                self.note(&own, call, ended, spent, rows, attempts, given_up);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "those of `record`, and where to")]
    fn note(
        &self,
        back_ends: &BackEnds,
        call: &Call<'_>,
        ended: Ended,
        spent: Duration,
        rows: Option<usize>,
        attempts: u32,
        given_up: bool,
    ) {
        let back_end = back_ends.get(call.backend);
        let handles = back_end.operations[call.operation.index()].get_or_init(Handles::new);
        let labels = |ended: Option<Ended>| {
            let mut labels = vec![
                Label::from_static_parts(SYSTEM, back_end.name),
                Label::from_static_parts(OPERATION, call.operation.name()),
            ];
            if let Some(ended) = ended {
                labels.push(Label::from_static_parts(OUTCOME, ended.outcome()));
                labels.extend(
                    ended.error_type().map(|kind| Label::from_static_parts(ERROR_TYPE, kind)),
                );
            }
            labels.extend(back_ends.tenant.clone().map(|tenant| Label::new(TENANT, tenant)));
            labels
        };
        let duration = match self.scope {
            Scope::Call => CALL_DURATION,
            Scope::Attempt => ATTEMPT_DURATION,
        };
        handles.durations[ended.index()]
            .get_or_init(|| self.histogram(duration, labels(Some(ended))))
            .record(spent.as_secs_f64());
        if self.scope == Scope::Attempt {
            return;
        }
        if let Some(rows) = rows {
            // More rows than a u32 holds would be none that fit into an answer.
            let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
            handles.rows.get_or_init(|| self.histogram(ROWS, labels(None))).record(rows);
        }
        if attempts > 1 {
            let retries = handles.retries.get_or_init(|| self.counter(RETRIES, labels(None)));
            retries.increment(u64::from(attempts - 1));
        }
        if given_up {
            handles.given_up.get_or_init(|| self.counter(GIVEN_UP, labels(None))).increment(1);
        }
    }

    fn of_tenant(&self, tenant: &TenantId) -> Arc<BackEnds> {
        let known = self.tenants.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(tenant) {
            return Arc::clone(found);
        }
        drop(known);
        let mut known = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(tenant) && known.len() >= self.most_tenants {
            return Arc::clone(
                self.others.get_or_init(|| Arc::new(BackEnds::of(SharedString::from(OTHER)))),
            );
        }
        let new = || Arc::new(BackEnds::of(SharedString::from(tenant.as_str().to_owned())));
        Arc::clone(known.entry(tenant.clone()).or_insert_with(new))
    }

    fn histogram(&self, name: &'static str, labels: Vec<Label>) -> Histogram {
        self.recorder.register_histogram(&Key::from_parts(name, labels), &METADATA)
    }

    fn counter(&self, name: &'static str, labels: Vec<Label>) -> Counter {
        self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
    }
}

fn describe(recorder: &dyn Recorder, scope: Scope) {
    let histogram = |name: &'static str, unit, text: &'static str| {
        recorder.describe_histogram(KeyName::from(name), Some(unit), text.into());
    };
    let counter = |name: &'static str, text: &'static str| {
        recorder.describe_counter(KeyName::from(name), Some(Unit::Count), text.into());
    };
    match scope {
        Scope::Attempt => {
            histogram(ATTEMPT_DURATION, Unit::Seconds, "Duration of single attempts.");
        }
        Scope::Call => {
            histogram(CALL_DURATION, Unit::Seconds, "Duration of database client operations.");
            histogram(ROWS, Unit::Count, "The number of rows that reads returned.");
            counter(RETRIES, "Attempts after the first of a call.");
            counter(GIVEN_UP, "Calls that failed after more than one attempt.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_a_place_of_its_own() {
        let mut places: Vec<_> = ErrorKind::ALL
            .into_iter()
            .flat_map(|kind| [Ended::Failed(kind, false), Ended::Failed(kind, true)])
            .chain([Ended::Ok, Ended::Cancelled])
            .map(Ended::index)
            .collect();
        places.sort_unstable();
        assert_eq!(places, (0..ENDS).collect::<Vec<_>>());
    }

    #[test]
    fn back_ends_beyond_the_last_place_share_one() {
        const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let back_ends = BackEnds::default();
        let found: Vec<_> = NAMES.iter().map(|name| back_ends.get(name).name).collect();
        assert_eq!(found[..8], NAMES[..8]);
        assert_eq!(found[8..], [OTHER, OTHER]);
        assert_eq!(back_ends.get("b").name, "b");
    }
}

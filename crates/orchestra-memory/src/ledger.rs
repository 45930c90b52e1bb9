//! The book of what operations cost, by back end and operation; what that is in money; and the
//! budgets of a day.

mod budget;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use memory_core::traits::{Ledger, Usage};
use memory_core::{Clock, Result};
use serde::Serialize;

use crate::settings::CostSettings;
use budget::Budget;

/// The back ends that bill each operation, by the names in their capabilities.
const BILLED: [&str; 1] = ["firestore"];

/// Whether a back end bills each operation.
pub(crate) fn bills(backend: &str) -> bool {
    BILLED.contains(&backend)
}

/// What all calls of one operation cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct OperationUsage {
    /// Entries that the back end made.
    pub calls: u64,
    /// Records read; where the back end bills, the reads that it bills, those for index entries
    /// included.
    pub reads: u64,
    /// Records written.
    pub writes: u64,
    /// Records deleted.
    pub deletes: u64,
    /// Index entries read, where the back end bills them; for information, as `reads` has what is
    /// billed for them.
    pub index_entries: u64,
    /// Bytes sent or received.
    pub bytes: u64,
}

/// What operations cost in money, by the prices of the settings. The bill may say otherwise: what
/// is free each day, storage and traffic are not in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CostEstimate {
    /// What the amount is in.
    pub currency: String,
    /// How much, to nine decimals.
    pub amount: f64,
    /// When the prices were looked up.
    pub as_of: String,
}

/// What all operations cost since the book was opened.
#[derive(Clone, Debug, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct UsageReport {
    /// By `BACKEND.OPERATION`.
    pub operations: BTreeMap<String, OperationUsage>,
    /// All together.
    pub total: OperationUsage,
    /// In money; `None` where no back end bills, or the book has no prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<CostEstimate>,
}

/// A ledger that counts, and passes every entry on to another if there is one.
///
/// With [`UsageLedger::with_cost`] it knows what operations cost, and refuses further ones of a
/// back end that bills once a budget of the day is spent.
///
/// Counters wrap at 2^64. An entry takes one shared lock and six atomic additions, and where there
/// is a budget one short lock more; the exclusive lock is taken once for each new name.
#[derive(Debug, Default)]
pub struct UsageLedger {
    counters: RwLock<BTreeMap<(&'static str, &'static str), Arc<Counters>>>,
    cost: Option<CostSettings>,
    budget: Option<Budget>,
    next: Option<Arc<dyn Ledger>>,
}

#[derive(Debug, Default)]
struct Counters {
    calls: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    deletes: AtomicU64,
    index_entries: AtomicU64,
    bytes: AtomicU64,
}

impl UsageLedger {
    /// An empty book.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty book whose entries go on to another ledger.
    #[must_use]
    pub fn passing_on_to(next: Arc<dyn Ledger>) -> Self {
        Self { next: Some(next), ..Self::default() }
    }

    /// Sets prices and budgets. Budgets count what is entered from now on; their days are those of
    /// the clock, in UTC.
    #[must_use]
    pub fn with_cost(mut self, cost: CostSettings, clock: Arc<dyn Clock>) -> Self {
        self.budget = cost.has_budget().then(|| Budget::new(clock));
        self.cost = Some(cost);
        self
    }

    /// Whether the budgets of these settings are its own: all of them, and no other.
    pub(crate) fn has_budgets_of(&self, settings: &CostSettings) -> bool {
        self.cost.as_ref().is_some_and(|own| own.has_same_budgets(settings))
    }

    /// What was counted so far. Entries that are made meanwhile may be in it in part.
    #[must_use]
    pub fn report(&self) -> UsageReport {
        let mut report = UsageReport::default();
        let mut billed: Option<OperationUsage> = None;
        let counters = self.counters.read().unwrap_or_else(PoisonError::into_inner);
        for ((backend, operation), counters) in counters.iter() {
            let usage = counters.read();
            report.total.add(&usage);
            if bills(backend) {
                billed.get_or_insert_default().add(&usage);
            }
            report.operations.insert(format!("{backend}.{operation}"), usage);
        }
        report.estimate = self.cost.as_ref().zip(billed).map(|(cost, usage)| CostEstimate {
            currency: cost.currency.clone(),
            amount: (cost.amount(usage.reads, usage.writes, usage.deletes) * 1e9).round() / 1e9,
            as_of: cost.as_of.clone(),
        });
        report
    }

    fn counters(&self, backend: &'static str, operation: &'static str) -> Arc<Counters> {
        let key = (backend, operation);
        let known = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
            counters.entry(key).or_default().clone()
        })
    }
}

impl Ledger for UsageLedger {
    fn admit(&self, backend: &'static str, operation: &'static str) -> Result<()> {
        if let (Some(cost), Some(budget)) = (&self.cost, &self.budget)
            && bills(backend)
        {
            budget
                .admit(cost)
                .map_err(|error| error.with_backend(backend).with_operation(operation))?;
        }
        self.next.as_ref().map_or(Ok(()), |next| next.admit(backend, operation))
    }

    fn record(&self, backend: &'static str, operation: &'static str, usage: Usage) {
        self.counters(backend, operation).add(&usage);
        if let Some(budget) = self.budget.as_ref().filter(|_| bills(backend)) {
            budget.add(&usage);
        }
        if let Some(next) = &self.next {
            next.record(backend, operation, usage);
        }
    }
}

impl Counters {
    fn add(&self, usage: &Usage) {
        for (counter, amount) in [
            (&self.calls, 1),
            (&self.reads, usage.reads),
            (&self.writes, usage.writes),
            (&self.deletes, usage.deletes),
            (&self.index_entries, usage.index_entries),
            (&self.bytes, usage.bytes),
        ] {
            counter.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn read(&self) -> OperationUsage {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OperationUsage {
            calls: get(&self.calls),
            reads: get(&self.reads),
            writes: get(&self.writes),
            deletes: get(&self.deletes),
            index_entries: get(&self.index_entries),
            bytes: get(&self.bytes),
        }
    }
}

impl OperationUsage {
    fn add(&mut self, other: &Self) {
        self.calls = self.calls.wrapping_add(other.calls);
        self.reads = self.reads.wrapping_add(other.reads);
        self.writes = self.writes.wrapping_add(other.writes);
        self.deletes = self.deletes.wrapping_add(other.deletes);
        self.index_entries = self.index_entries.wrapping_add(other.index_entries);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_add_up_by_operation_and_are_passed_on() {
        let second = Arc::new(UsageLedger::new());
        let first = UsageLedger::passing_on_to(second.clone());
        assert_eq!(first.report(), UsageReport::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        first.record("s", "fetch", Usage::reads(2).with_bytes(10));
                        first.record("s", "commit", Usage::writes(1, 3));
                    }
                });
            }
        });
        let report = first.report();
        let fetch = report.operations["s.fetch"];
        assert_eq!((fetch.calls, fetch.reads, fetch.bytes), (400, 800, 4_000));
        let commit = report.operations["s.commit"];
        assert_eq!((commit.writes, commit.deletes, commit.reads), (400, 1_200, 0));
        assert_eq!((report.total.calls, report.total.reads), (800, 800));
        assert_eq!(second.report(), report);
    }
    #[test]
    fn what_is_billed_has_a_price_and_a_budget_and_nothing_else_has() {
        let cost = CostSettings { daily_reads: Some(1_000), ..CostSettings::default() };
        let clock = Arc::new(memory_core::SystemClock::new());
        let book = UsageLedger::new().with_cost(cost, clock);
        assert_eq!(book.report().estimate, None, "nothing is billed yet");
        book.record("sqlite", "fetch", Usage::reads(1_000_000));
        assert_eq!(book.report().estimate, None, "nor does this store bill");
        book.admit("firestore", "fetch").unwrap();
        book.record("firestore", "fetch", Usage::reads(1_000));
        book.record("firestore", "commit", Usage::writes(100, 10));
        let estimate = book.report().estimate.unwrap();
        assert_eq!((estimate.currency.as_str(), estimate.as_of.as_str()), ("USD", "2026-11"));
        assert!((estimate.amount - 0.000_391).abs() < 1e-12, "{estimate:?}");
        let error = book.admit("firestore", "fetch").unwrap_err();
        assert_eq!(error.kind(), memory_core::ErrorKind::RateLimited);
        assert_eq!((error.backend(), error.operation()), ("firestore", "fetch"));
        book.admit("sqlite", "fetch").unwrap();
        assert_eq!(UsageLedger::new().report(), UsageReport::default());
    }

    #[test]
    fn the_next_ledger_has_a_say_too() {
        let cost = CostSettings { daily_writes: Some(1), ..CostSettings::default() };
        let clock = Arc::new(memory_core::SystemClock::new());
        let strict = Arc::new(UsageLedger::new().with_cost(cost, clock));
        let book = UsageLedger::passing_on_to(strict);
        book.admit("firestore", "commit").unwrap();
        book.record("firestore", "commit", Usage::writes(1, 0));
        assert!(book.admit("firestore", "commit").is_err());
    }
}

//! The book of what operations cost, by back end and operation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use memory_core::traits::{Ledger, Usage};
use serde::Serialize;

/// What all calls of one operation cost together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct OperationUsage {
    /// Entries that the back end made.
    pub calls: u64,
    /// Records read.
    pub reads: u64,
    /// Records written.
    pub writes: u64,
    /// Records deleted.
    pub deletes: u64,
    /// Index entries read, where the back end bills them.
    pub index_entries: u64,
    /// Bytes sent or received.
    pub bytes: u64,
}

/// What all operations cost since the book was opened.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct UsageReport {
    /// By `BACKEND.OPERATION`.
    pub operations: BTreeMap<String, OperationUsage>,
    /// All together.
    pub total: OperationUsage,
}

/// A ledger that counts, and passes every entry on to another if there is one.
///
/// Counters wrap at 2^64. An entry takes one shared lock and six atomic additions; the exclusive
/// lock is taken once for each new name.
#[derive(Debug, Default)]
pub struct UsageLedger {
    counters: RwLock<BTreeMap<(&'static str, &'static str), Arc<Counters>>>,
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

    /// What was counted so far. Entries that are made meanwhile may be in it in part.
    #[must_use]
    pub fn report(&self) -> UsageReport {
        let mut report = UsageReport::default();
        let counters = self.counters.read().unwrap_or_else(PoisonError::into_inner);
        for ((backend, operation), counters) in counters.iter() {
            let usage = counters.read();
            report.total.add(&usage);
            report.operations.insert(format!("{backend}.{operation}"), usage);
        }
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
    fn record(&self, backend: &'static str, operation: &'static str, usage: Usage) {
        self.counters(backend, operation).add(&usage);
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
}

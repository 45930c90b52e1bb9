//! The ledger as figures.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use memory_core::Result;
use memory_core::traits::{Ledger, Usage};
use metrics::{Counter, Key, KeyName, Label, Unit};

use super::SharedRecorder;
use super::figures::{METADATA, OPERATION, SYSTEM};

const NAMES: [(&str, &str, Unit); 6] = [
    ("orchestra_memory.ledger.reads", "Records read.", Unit::Count),
    ("orchestra_memory.ledger.writes", "Records written.", Unit::Count),
    ("orchestra_memory.ledger.deletes", "Records deleted.", Unit::Count),
    ("orchestra_memory.ledger.index_entries", "Index entries read and billed.", Unit::Count),
    ("orchestra_memory.ledger.bytes", "Bytes sent or received.", Unit::Bytes),
    ("orchestra_memory.ledger.refused", "Operations that a budget refused.", Unit::Count),
];
/// The place of `refused` in [`NAMES`].
const REFUSED: usize = 5;

/// Counters by back end and operation.
type Counters = HashMap<(&'static str, &'static str), Arc<[Counter; 6]>>;

/// A ledger that counts what is entered, and passes it on to another.
///
/// An entry takes one shared lock; the exclusive one is taken once for each new name.
pub struct TelemetryLedger {
    recorder: SharedRecorder,
    next: Arc<dyn Ledger>,
    counters: RwLock<Counters>,
}

impl fmt::Debug for TelemetryLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryLedger").field("next", &self.next).finish_non_exhaustive()
    }
}

impl TelemetryLedger {
    /// A ledger around another, which has the say about budgets.
    #[must_use]
    pub fn new(recorder: SharedRecorder, next: Arc<dyn Ledger>) -> Self {
        for (name, text, unit) in NAMES {
            recorder.describe_counter(KeyName::from(name), Some(unit), text.into());
        }
        Self { recorder, next, counters: RwLock::default() }
    }

    fn counters(&self, backend: &'static str, operation: &'static str) -> Arc<[Counter; 6]> {
        let key = (backend, operation);
        let known = self.counters.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        known.unwrap_or_else(|| {
            let mut counters = self.counters.write().unwrap_or_else(PoisonError::into_inner);
            let new = || {
                Arc::new(NAMES.map(|(name, _, _)| {
                    let labels = vec![
                        Label::from_static_parts(SYSTEM, backend),
                        Label::from_static_parts(OPERATION, operation),
                    ];
                    self.recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
                }))
            };
            Arc::clone(counters.entry(key).or_insert_with(new))
        })
    }
}

impl Ledger for TelemetryLedger {
    fn admit(&self, backend: &'static str, operation: &'static str) -> Result<()> {
        self.next
            .admit(backend, operation)
            .inspect_err(|_| self.counters(backend, operation)[REFUSED].increment(1))
    }

    fn record(&self, backend: &'static str, operation: &'static str, usage: Usage) {
        let counters = self.counters(backend, operation);
        let amounts = [usage.reads, usage.writes, usage.deletes, usage.index_entries, usage.bytes];
        for (counter, amount) in counters.iter().zip(amounts).filter(|(_, amount)| *amount > 0) {
            counter.increment(amount);
        }
        self.next.record(backend, operation, usage);
    }
}

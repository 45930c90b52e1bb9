//! What operations cost the store: by operation, together, and as an estimate in money.

use orchestra_memory::{Memory, OperationUsage, UsageReport};
use serde_json::json;

use crate::app::App;
use crate::human;
use crate::output::complain;

/// Says on standard error what the command cost, where that was asked for.
pub(super) fn tell(app: &App, memory: &Memory) {
    if !app.tells_usage() {
        return;
    }
    let report = memory.usage();
    if app.output.is_json() {
        let mut told = json!({ "usage": report });
        if let Some(counts) = memory.layers().cache {
            told["cache"] = super::cache::counts(&counts);
        }
        return complain(&told.to_string());
    }
    let mut rows = rows(&report);
    if let Some(counts) = memory.layers().cache {
        let of_cache = super::cache::count_rows(&counts).into_iter();
        rows.extend(of_cache.map(|(name, value)| (format!("cache: {name}"), value)));
    }
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in rows {
        complain(&format!("  {}  {value}", human::pad(&name, width)));
    }
}

/// A report as rows: each operation, then all together, then the estimate.
pub(super) fn rows(report: &UsageReport) -> Vec<(String, String)> {
    let row = |(name, usage): (&String, &OperationUsage)| (human::safe(name), counts(usage));
    let mut rows: Vec<_> = report.operations.iter().map(row).collect();
    rows.push(("all together".to_owned(), counts(&report.total)));
    if let Some(estimate) = &report.estimate {
        let amount = match estimate.amount {
            0.0 => "0".to_owned(),
            amount if amount < 0.000_001 => "less than 0.000001".to_owned(),
            amount => format!("{amount:.6}"),
        };
        let text = format!("{amount} {}, by prices of {}", estimate.currency, estimate.as_of);
        rows.push(("estimate".to_owned(), human::one_line(&text)));
    }
    rows
}

/// What was counted, without what is 0: `2 calls, 20 reads, 1,024 bytes`.
fn counts(usage: &OperationUsage) -> String {
    let parts = [
        (usage.calls, "call", "calls"),
        (usage.reads, "read", "reads"),
        (usage.writes, "write", "writes"),
        (usage.deletes, "delete", "deletes"),
        (usage.index_entries, "index entry", "index entries"),
        (usage.bytes, "byte", "bytes"),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| human::count(number, one, many))
        .collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use orchestra_memory::memory_core::SystemClock;
    use orchestra_memory::memory_core::traits::{Ledger as _, Usage};
    use orchestra_memory::{CostSettings, UsageLedger};

    use super::*;

    #[test]
    fn operations_stand_by_name_and_what_bills_has_an_estimate() {
        let clock = Arc::new(SystemClock::new());
        let book = UsageLedger::new().with_cost(CostSettings::default(), clock);
        let shown = |book: &UsageLedger| -> Vec<String> {
            rows(&book.report()).into_iter().map(|(name, text)| format!("{name}: {text}")).collect()
        };
        assert_eq!(shown(&book), ["all together: nothing"]);
        book.record("sqlite", "fetch", Usage::reads(1).with_bytes(1_024));
        assert_eq!(
            shown(&book),
            [
                "sqlite.fetch: 1 call, 1 read, 1,024 bytes",
                "all together: 1 call, 1 read, 1,024 bytes",
            ]
        );
        let billed =
            UsageLedger::new().with_cost(CostSettings::default(), Arc::new(SystemClock::new()));
        billed.record("firestore", "open", Usage::default());
        assert_eq!(shown(&billed)[2], "estimate: 0 USD, by prices of 2026-11");
        billed.record("firestore", "fetch", Usage::reads(1));
        assert_eq!(shown(&billed)[3], "estimate: less than 0.000001 USD, by prices of 2026-11");
        billed.record("firestore", "commit", Usage::writes(2_000, 1));
        let lines = shown(&billed);
        assert_eq!(lines[0], "firestore.commit: 1 call, 2,000 writes, 1 delete");
        assert_eq!(lines[4], "estimate: 0.001800 USD, by prices of 2026-11");
    }
}

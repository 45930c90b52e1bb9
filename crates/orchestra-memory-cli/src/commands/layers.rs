//! What the layers around store and embedder have counted: for `stats`.

use orchestra_memory::LayersReport;
use orchestra_memory::memory_layers::{GiveUp, StackStats};
use serde_json::{Value, json};

use crate::human;

/// A report as JSON; `null` where there are no layers.
pub(super) fn json(report: &LayersReport) -> Value {
    json!({
        "store": report.backend.as_ref().map(stack),
        "embedder": report.embedder.as_ref().map(stack),
    })
}

fn stack(stats: &StackStats) -> Value {
    let retry = stats.retry.as_ref().map(|retry| {
        let given_up: serde_json::Map<String, Value> = GiveUp::ALL
            .iter()
            .map(|reason| (reason.name().to_owned(), retry.given_up_for(*reason).into()))
            .collect();
        json!({
            "calls": retry.calls, "attempts": retry.attempts, "recovered": retry.recovered,
            "given_up": given_up,
        })
    });
    let limit = stats.limit.as_ref().map(|limit| {
        json!({
            "limit": limit.limit, "in_flight": limit.in_flight, "queued": limit.queued,
            "saturation": limit.saturation, "admitted": limit.admitted, "waited": limit.waited,
            "rejected": limit.rejected(), "timed_out": limit.timed_out,
            "increases": limit.increases, "decreases": limit.decreases,
        })
    });
    let guard = &stats.guard;
    json!({
        "retry": retry,
        "limit": limit,
        "guard": {
            "denied": guard.denied, "refused": guard.refused, "expired": guard.expired,
            "changed": guard.changed, "broken": guard.broken(),
        },
    })
}

/// A report as rows; the counters of a process that has just begun are mostly 0 and say nothing.
pub(super) fn rows(report: &LayersReport) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (name, stats) in [("store", &report.backend), ("embedder", &report.embedder)] {
        let Some(stats) = stats else { continue };
        let mut numbers: Vec<(&str, u64)> = Vec::new();
        if let Some(retry) = &stats.retry {
            let given_up: u64 = retry.given_up.iter().sum();
            let sent_again = retry.attempts.saturating_sub(retry.calls);
            numbers.extend([
                ("attempts", retry.attempts),
                ("sent again", sent_again),
                ("recovered", retry.recovered),
                ("failed calls", given_up),
            ]);
        }
        if let Some(limit) = &stats.limit {
            numbers.extend([
                ("limit", limit.limit.into()),
                ("waited for a permit", limit.waited),
                ("rejected as too many", limit.rejected()),
            ]);
        }
        let guard = &stats.guard;
        numbers.extend([
            ("denied by the guard", guard.denied),
            ("refused by the guard", guard.refused),
            ("rows left out by the guard", guard.expired + guard.changed),
            ("answers that broke a rule", guard.broken()),
        ]);
        let told = numbers.into_iter().filter(|(_, number)| *number > 0);
        rows.extend(told.map(|(what, number)| (format!("{name}: {what}"), human::grouped(number))));
    }
    rows
}

//! What the cache before the store has counted in this process, and how it is: for `stats` and
//! `--usage`.

use orchestra_memory::Memory;
use orchestra_memory::memory_layers::{CacheCounts, CacheTally};
use serde_json::{Map, Value, json};

use crate::human;

/// What the details of a health say of the cache begin with.
const PART: &str = "cache.";

/// Counts, the bound of staleness, and what the server says; `null` where there is no cache.
pub(super) async fn json(memory: &Memory) -> Value {
    let Some(found) = memory.layers().cache else { return Value::Null };
    let settings = &memory.settings().layers.cache;
    let details: Map<String, Value> = details(memory).await.into_iter().collect();
    json!({
        "counts": counts(&found),
        "max_stale_ms": settings.max_stale_ms,
        "strict": settings.strict,
        "health": details,
    })
}

/// The same as rows; none where there is no cache.
pub(super) async fn rows(memory: &Memory) -> Vec<(String, String)> {
    let Some(counts) = memory.layers().cache else { return Vec::new() };
    let settings = &memory.settings().layers.cache;
    let mut rows = count_rows(&counts);
    let strict = if settings.strict { ", strict" } else { "" };
    rows.push((
        "oldest value served after an unconfirmed write".to_owned(),
        format!("{} ms{strict}", human::grouped(settings.max_stale_ms)),
    ));
    for (name, value) in details(memory).await {
        let text = value.as_str().unwrap_or_default();
        rows.push((human::one_line(&name.replace('_', " ")), human::one_line(text)));
    }
    rows
}

/// What the health says of the cache, by names without the part's.
async fn details(memory: &Memory) -> Vec<(String, Value)> {
    let health = memory.health().await;
    let of_cache = |(name, value): (String, String)| {
        let place = name.rfind(PART)?;
        Some((name[place + PART.len()..].to_owned(), Value::from(value)))
    };
    health.details.into_iter().filter_map(of_cache).collect()
}

/// Counts as JSON.
pub(super) fn counts(counts: &CacheCounts) -> Value {
    let tally = |tally: &CacheTally| {
        json!({
            "hit_rate": tally.hit_rate(), "hits": tally.hits, "misses": tally.misses,
            "in_flight": tally.in_flight, "bypasses": tally.bypasses, "joined": tally.joined,
            "expired": tally.expired, "undecodable": tally.undecodable, "fills": tally.fills,
            "fills_refused": tally.fills_refused, "too_large": tally.too_large,
            "bytes_read": tally.bytes_read, "bytes_written": tally.bytes_written,
        })
    };
    json!({
        "items": tally(&counts.items),
        "history": tally(&counts.history),
        "writes": counts.writes, "unconfirmed": counts.unconfirmed,
        "writes_refused": counts.writes_refused, "failures": counts.failures,
        "pauses": counts.pauses,
    })
}

/// Counts as rows, without what is 0 but for the rates of what was asked.
pub(super) fn count_rows(counts: &CacheCounts) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (name, tally) in [("items", &counts.items), ("conversations", &counts.history)] {
        let asked = tally.hits + tally.misses + tally.in_flight + tally.bypasses;
        if asked > 0 {
            let text = format!(
                "{} of {} from the cache, {:.0} %",
                human::grouped(tally.hits),
                human::grouped(asked),
                tally.hit_rate() * 100.0
            );
            rows.push((name.to_owned(), text));
        }
        let more = [
            ("bytes read", tally.bytes_read),
            ("bytes kept", tally.bytes_written),
            ("not asked or not answered", tally.bypasses),
            ("could not be read", tally.undecodable),
            ("refused, as a write came between", tally.fills_refused),
        ];
        let more = more.into_iter().filter(|(_, number)| *number > 0);
        rows.extend(more.map(|(what, number)| (format!("  {what}"), human::grouped(number))));
    }
    let totals = [
        ("writes", counts.writes),
        ("unconfirmed writes", counts.unconfirmed),
        ("refused writes", counts.writes_refused),
        ("failed requests", counts.failures),
        ("pauses", counts.pauses),
    ];
    let totals = totals.into_iter().filter(|(_, number)| *number > 0);
    rows.extend(totals.map(|(what, number)| (what.to_owned(), human::grouped(number))));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_shown_of_what_was_asked_and_the_rest_where_it_is_not_0() {
        let mut found = CacheCounts::default();
        assert!(count_rows(&found).is_empty());
        (found.items.hits, found.items.misses, found.items.bytes_read) = (3, 1, 1_200);
        (found.history.misses, found.unconfirmed) = (1, 2);
        let lines: Vec<String> =
            count_rows(&found).into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
        assert_eq!(
            lines,
            [
                "items: 3 of 4 from the cache, 75 %",
                "  bytes read: 1,200",
                "conversations: 0 of 1 from the cache, 0 %",
                "unconfirmed writes: 2",
            ]
        );
        assert_eq!(counts(&found)["items"]["hit_rate"], 0.75);
    }
}

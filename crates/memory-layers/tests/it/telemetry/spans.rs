//! The spans' names, levels and fields, as they are documented.

use memory_core::Result;
use memory_layers::{CacheResult, Operation, Policy, Scope, note_cache};

use super::capture::{Kept, Spans};
use super::{call, clock, context, layer};

#[test]
fn a_call_has_one_span_and_one_for_each_attempt_within() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let outer = layer(&recorder, clock.clone(), Scope::Call);
    let inner = layer(&recorder, clock, Scope::Attempt);
    let context = context("acme");
    let call = call(Operation::Fetch, Some(&context));
    let (spans, answer) = Spans::during(|| {
        futures::executor::block_on(outer.run(&call, |_| async {
            for _ in 0..2 {
                inner.run(&call, |_| async { Ok(()) }).await?;
            }
            note_cache(CacheResult::Miss);
            Ok(())
        }))
    });
    answer.unwrap();
    let shape: Vec<_> = spans.iter().map(|span| (span.name, span.level, span.parent)).collect();
    let attempt = ("memory.attempt", tracing::Level::DEBUG, Some("memory.call"));
    assert_eq!(shape, [("memory.call", tracing::Level::INFO, None), attempt, attempt]);
    let names = [
        "db.operation.batch.size",
        "db.operation.name",
        "db.response.returned_rows",
        "db.system.name",
        "orchestra_memory.attempts",
        "orchestra_memory.cache",
        "orchestra_memory.outcome",
        "otel.kind",
        "otel.name",
    ];
    assert_eq!(spans[0].names(), names);
    for (name, value) in [
        ("db.operation.batch.size", "3"),
        ("db.operation.name", "fetch"),
        ("db.response.returned_rows", "0"),
        ("db.system.name", "fake"),
        ("orchestra_memory.attempts", "2"),
        ("orchestra_memory.cache", "miss"),
        ("orchestra_memory.outcome", "ok"),
        ("otel.kind", "client"),
        ("otel.name", "fetch"),
    ] {
        assert_eq!(spans[0].field(name), Some(value), "{name}");
    }
    assert_eq!(spans[2].field("orchestra_memory.attempt"), Some("2"));
    assert_eq!(spans[2].field("otel.kind"), Some("internal"));
    assert_eq!(spans[2].field("error.type"), None);
}

#[test]
fn notes_of_calls_that_take_turns_are_kept_apart() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let outer = layer(&recorder, clock.clone(), Scope::Call);
    let inner = layer(&recorder, clock, Scope::Attempt);
    let context = context("acme");
    let call = call(Operation::Fetch, Some(&context));
    let run = async |attempts: usize| -> Result<()> {
        outer
            .run(&call, |_| async {
                for _ in 0..attempts {
                    inner
                        .run(&call, |_| async {
                            tokio::task::yield_now().await;
                            Ok(())
                        })
                        .await?;
                }
                Ok(())
            })
            .await
    };
    let (spans, _) =
        Spans::during(|| futures::executor::block_on(futures::future::join(run(2), run(3))));
    let attempts: Vec<_> =
        spans.iter().filter_map(|span| span.field("orchestra_memory.attempts")).collect();
    assert_eq!(attempts, ["2", "3"]);
}

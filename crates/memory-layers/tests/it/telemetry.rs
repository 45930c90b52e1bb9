//! Telemetry: what spans and figures hold, and where they go.

mod capture;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "prometheus")]
mod prometheus;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use capture::{Kept, Spans};
use memory_core::traits::{Ledger, NoLedger, RecordStore, Usage};
use memory_core::{
    CallContext, Clock, Commit, CommitId, Error, ErrorKind, ManualClock, MemoryId, MemoryItem,
    Precondition, Projection, Result, TenantId, Timestamp, UserId, Vectors, Write,
};
use memory_layers::{
    Attempt, Call, ConcurrencyLimitLayer, Layer, LimitSettings, Operation, Policy, Scope,
    SharedRecorder, TelemetryLayer, TelemetryLedger, TelemetrySettings, TokioTimer,
};
use memory_testkit::ReferenceStore;

const DURATION: &str = "db.client.operation.duration";
const ATTEMPT: &str = "orchestra_memory.attempt.duration";

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::from_micros(1_700_000_000_000_000).unwrap()))
}

fn settings(tenant_labels: bool, most_tenants: u32) -> TelemetrySettings {
    let json = serde_json::json!({ "tenant_labels": tenant_labels, "most_tenants": most_tenants });
    serde_json::from_value(json).unwrap()
}

fn layer(recorder: &SharedRecorder, clock: Arc<dyn Clock>, scope: Scope) -> TelemetryLayer {
    TelemetryLayer::new(TelemetrySettings::default(), Arc::clone(recorder), clock, scope)
}

fn context(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new(tenant).unwrap())
}

fn call(operation: Operation, context: Option<&CallContext>) -> Call<'_> {
    Call { operation, backend: "fake", context, asked: 3, resend: false }
}

/// One call of a tenant `acme` that ends with `answer` after `spent`.
fn one(
    layer: &TelemetryLayer,
    clock: &ManualClock,
    operation: Operation,
    spent: Duration,
    answer: impl Fn() -> Result<Vec<MemoryId>> + Send + Sync,
) -> Result<Vec<MemoryId>> {
    let context = context("acme");
    let answer = &answer;
    futures::executor::block_on(layer.run(&call(operation, Some(&context)), |_| async move {
        clock.advance(spent);
        answer()
    }))
}

#[test]
fn a_call_is_in_the_histogram_of_its_operation_and_end() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let layer = layer(&recorder, clock.clone(), Scope::Call);
    let ids = || Ok(vec![MemoryId::new("a").unwrap(), MemoryId::new("b").unwrap()]);
    one(&layer, &clock, Operation::VectorMissing, Duration::from_millis(250), ids).unwrap();
    let labels = "db.system.name=fake db.operation.name=vector_missing orchestra_memory.outcome=ok";
    assert_eq!(kept.values(DURATION, labels), [0.25]);
    let labels = "db.system.name=fake db.operation.name=vector_missing";
    assert_eq!(kept.values("db.client.response.returned_rows", labels), [2.0]);
    assert_eq!(kept.unit(DURATION).as_deref(), Some("seconds"));
    // A write returns no rows.
    one(&layer, &clock, Operation::VectorRemove, Duration::ZERO, || Ok(Vec::new())).unwrap();
    assert_eq!(kept.names_of("vector_remove"), [DURATION]);
}

#[test]
fn every_kind_of_error_has_its_type_and_outcome() {
    for kind in ErrorKind::ALL {
        let (kept, clock) = (Kept::default(), clock());
        let recorder = kept.recorder();
        let layer = layer(&recorder, clock.clone(), Scope::Attempt);
        let (spans, answers) = Spans::during(|| {
            [false, true].map(|is_unknown| {
                one(&layer, &clock, Operation::Commit, Duration::ZERO, move || {
                    let error = Error::new(kind, "no");
                    Err(if is_unknown { error.with_unknown_outcome() } else { error })
                })
            })
        });
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap_err().kind() == kind));
        for (span, outcome) in spans.iter().zip(["not_applied", "unknown"]) {
            let name = kind.name();
            let labels = format!(
                "db.system.name=fake db.operation.name=commit orchestra_memory.outcome={outcome} \
                 error.type={name}"
            );
            assert_eq!(kept.values(ATTEMPT, &labels), [0.0], "{labels}");
            assert_eq!(span.field("error.type"), Some(name));
            assert_eq!(span.field("orchestra_memory.outcome"), Some(outcome));
            assert_eq!(span.field("otel.status_code"), Some("ERROR"));
        }
        assert_eq!(spans.len(), 2);
    }
}

#[test]
fn a_dropped_call_is_counted_as_cancelled_and_a_finished_one_is_not() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let layer = layer(&recorder, clock.clone(), Scope::Call);
    let context = context("acme");
    let call = call(Operation::Fetch, Some(&context));
    let cancelled = "db.system.name=fake db.operation.name=fetch \
                     orchestra_memory.outcome=cancelled error.type=cancelled";
    {
        let mut running =
            std::pin::pin!(layer.run(&call, |_| std::future::pending::<Result<()>>()));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(running.as_mut().poll(&mut nobody).is_pending());
        clock.advance(Duration::from_secs(2));
        assert!(kept.values(DURATION, cancelled).is_empty());
    }
    assert_eq!(kept.values(DURATION, cancelled), [2.0]);
    futures::executor::block_on(layer.run(&call, |_| async { Ok(()) })).unwrap();
    assert_eq!(kept.values(DURATION, cancelled), [2.0]);
    let ok = "db.system.name=fake db.operation.name=fetch orchestra_memory.outcome=ok";
    assert_eq!(kept.values(DURATION, ok), [0.0]);
}

#[test]
fn a_tenant_is_named_by_choice_only_and_no_more_than_allowed() {
    for (is_named, expected) in [(false, vec![]), (true, vec!["a", "b", "_OTHER", "_OTHER", "a"])] {
        let (kept, clock) = (Kept::default(), clock());
        let settings = settings(is_named, 2);
        let layer = TelemetryLayer::new(settings, kept.recorder(), clock, Scope::Call);
        let (spans, ()) = Spans::during(|| {
            for tenant in ["a", "b", "c", "d", "a"] {
                let context = context(tenant);
                let call = call(Operation::Fetch, Some(&context));
                futures::executor::block_on(layer.run(&call, |_| async { Ok(()) })).unwrap();
            }
        });
        let seen: Vec<_> = kept.log().into_iter().filter(|line| line.contains(DURATION)).collect();
        let tenants: Vec<_> = seen
            .iter()
            .filter_map(|line| line.split("orchestra_memory.tenant=").nth(1))
            .map(|rest| rest.split(' ').next().unwrap())
            .collect();
        assert_eq!(seen.len(), 5);
        assert_eq!(tenants, expected);
        let in_spans: Vec<_> =
            spans.iter().filter_map(|span| span.field("orchestra_memory.tenant")).collect();
        assert_eq!(in_spans, if is_named { vec!["a", "b", "c", "d", "a"] } else { vec![] });
    }
}

#[derive(Debug)]
struct Strict;

impl Ledger for Strict {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        Err(Error::new(ErrorKind::RateLimited, "spent"))
    }
    fn record(&self, _backend: &'static str, _operation: &'static str, _usage: Usage) {}
}

#[test]
fn the_ledger_is_counted_and_passed_on() {
    let kept = Kept::default();
    let labels = "db.system.name=fake db.operation.name=commit";
    let ledger = TelemetryLedger::new(kept.recorder(), Arc::new(NoLedger));
    ledger.admit("fake", "commit").unwrap();
    ledger.record("fake", "commit", Usage::writes(3, 2).with_bytes(100));
    ledger.record("fake", "commit", Usage::reads(7));
    let sum = |name: &str| {
        let name = format!("orchestra_memory.ledger.{name}");
        kept.values(&name, labels).iter().sum::<f64>()
    };
    let sums = ["reads", "writes", "deletes", "index_entries", "bytes", "refused"].map(sum);
    assert_eq!(sums, [7.0, 3.0, 2.0, 0.0, 100.0, 0.0]);
    let strict = TelemetryLedger::new(kept.recorder(), Arc::new(Strict));
    assert_eq!(strict.admit("fake", "commit").unwrap_err().kind(), ErrorKind::RateLimited);
    assert!((sum("refused") - 1.0).abs() < f64::EPSILON);
}

#[test]
fn a_limit_is_in_gauges_at_most_once_a_second() {
    let (kept, clock) = (Kept::default(), clock());
    let limit =
        ConcurrencyLimitLayer::new(LimitSettings::default(), clock.clone(), Arc::new(TokioTimer))
            .unwrap();
    let recorder = kept.recorder();
    let layer = layer(&recorder, clock.clone(), Scope::Attempt).with_limit(limit.clone());
    for _ in 0..3 {
        one(&layer, &clock, Operation::Fetch, Duration::from_millis(600), || Ok(vec![])).unwrap();
    }
    let values = kept.values("orchestra_memory.limit.concurrency", "db.system.name=fake");
    // At 600 and at 1,800 milliseconds; at 1,200 it was too early.
    assert_eq!(values, [f64::from(limit.stats().limit); 2]);
}

/// Content, metadata and ids that telemetry must not hold.
fn secret_commit() -> Commit {
    let item = MemoryItem::new(MemoryId::new("secret-id").unwrap(), "secret-text", Timestamp::MIN)
        .unwrap()
        .with_user(UserId::new("secret-user").unwrap());
    let write = Write::put(item, Vectors::default(), Precondition::Any);
    Commit::new(CommitId::from_bytes([7; 16]), vec![write])
}

#[test]
fn neither_text_nor_ids_reach_spans_and_figures() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let bare: Arc<dyn RecordStore> = Arc::new(ReferenceStore::new(clock.clone()));
    let inner = layer(&recorder, clock.clone(), Scope::Attempt).records(bare);
    let store = layer(&recorder, clock, Scope::Call).records(inner);
    let context = context("secret-tenant");
    let id = MemoryId::new("secret-id").unwrap();
    let (spans, found) = Spans::during(|| {
        futures::executor::block_on(async {
            store.commit(&context, secret_commit()).await.unwrap();
            store.fetch(&context, &[id], &Projection::full()).await.unwrap()
        })
    });
    assert_eq!(found[0].as_ref().unwrap().content(), "secret-text");
    let told = format!("{spans:?} {:?}", kept.log());
    assert!(!told.contains("secret"), "{told}");
    assert!(told.contains("commit") && told.contains("fetch"), "it told nothing at all");
    assert_eq!(spans.len(), 4);
}

/// Attempts one after the other, each well or not; the last one's answer.
async fn attempts(inner: &TelemetryLayer, call: &Call<'_>, ends: &[bool]) -> Result<()> {
    let mut last = Ok(());
    for &is_well in ends {
        let end = move || {
            if is_well { Ok(()) } else { Err(Error::new(ErrorKind::Unavailable, "away")) }
        };
        last = inner.run(call, |_: Attempt| std::future::ready(end())).await;
    }
    last
}

#[test]
fn attempts_retries_and_what_was_given_up_are_counted() {
    let (kept, clock) = (Kept::default(), clock());
    let recorder = kept.recorder();
    let outer = layer(&recorder, clock.clone(), Scope::Call);
    let inner = layer(&recorder, clock, Scope::Attempt);
    let context = context("acme");
    let call = call(Operation::Fetch, Some(&context));
    let ends: [&[bool]; 3] = [&[true], &[false, false, true], &[false, false]];
    let (spans, _) = Spans::during(|| {
        for ends in ends {
            let _ = futures::executor::block_on(
                outer.run(&call, |_| async { attempts(&inner, &call, ends).await }),
            );
        }
    });
    let labels = "db.system.name=fake db.operation.name=fetch";
    assert_eq!(kept.values("orchestra_memory.retries", labels), [2.0, 1.0]);
    assert_eq!(kept.values("orchestra_memory.given_up", labels), [1.0]);
    let of = |name: &str, field: &str| -> Vec<String> {
        let named = spans.iter().filter(|span| span.name == name);
        named.filter_map(|span| span.field(field).map(str::to_owned)).collect()
    };
    assert_eq!(of("memory.call", "orchestra_memory.attempts"), ["1", "3", "2"]);
    assert_eq!(of("memory.attempt", "orchestra_memory.attempt"), ["1", "1", "2", "3", "1", "2"]);
}

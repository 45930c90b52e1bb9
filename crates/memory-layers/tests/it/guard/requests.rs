//! Requests that the guard does not send. The mocks expect no call, so that one fails the test.

use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use memory_core::limits::{COMMIT_WRITES, FETCH_IDS};
use memory_core::traits::{
    ChangePosition, EraseScope, KeywordQuery, MockChangeLog, MockKeywordIndex, MockLeaseStore,
    MockRecordStore, MockStoreMeta, MockStoreUpkeep, MockVectorIndex, RecordStore, TenantStats,
    VectorEntry, VectorQuery,
};
use memory_core::{
    Commit, CommitId, Cursor, CursorKey, EmbeddingSpace, Error, ErrorKind, Field, Filter,
    LeaseName, Metric, Outcome, Page, Precondition, Projection, Query, Revision, Scalar, TenantId,
    Vectors, Write,
};
use memory_layers::{GuardSettings, Layer};

use super::{Bench, bench, bench_with, capabilities, context, id, item};

fn records(bench: &Bench) -> Arc<dyn RecordStore> {
    let mut store = MockRecordStore::new();
    store.expect_capabilities().returning(capabilities);
    bench.guard.records(Arc::new(store))
}

#[track_caller]
fn refused<T: std::fmt::Debug>(bench: &Bench, answer: Result<T, Error>) {
    let counts = bench.guard.counts();
    let error = answer.expect_err("the request breaks a rule");
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert_eq!((error.outcome(), error.backend()), (Outcome::NotApplied, "mock"));
    assert!(!error.operation().is_empty());
    assert!(!format!("{error:?}").contains(super::CANARY));
    assert!(counts.refused > 0 && counts.broken() == 0, "{counts:?}");
}

fn commit_of(writes: Vec<Write>) -> Commit {
    Commit::new(CommitId::from_bytes([1; 16]), writes)
}

#[test]
fn commits_that_make_no_sense_are_not_sent() {
    let bench = bench();
    let store = records(&bench);
    let keep = Write::put(item("a", 1), Vectors::Keep, Precondition::Any);
    let mut nobody = item("a", 1);
    nobody.user_id = None;
    let nobody = Write::put(nobody, Vectors::default(), Precondition::Any);
    let many =
        (0..=COMMIT_WRITES).map(|n| Write::delete(id(&n.to_string()), Precondition::Any)).collect();
    for writes in
        [vec![], many, vec![keep], vec![nobody], vec![Write::delete(id("a"), Precondition::Absent)]]
    {
        refused(&bench, block_on(store.commit(&bench.ctx, commit_of(writes))));
    }
    assert_eq!(bench.guard.counts().refused, 5);
}

#[test]
fn limits_and_filters_out_of_range_are_not_sent() {
    let bench = bench();
    let store = records(&bench);
    let many: Vec<_> = (0..=FETCH_IDS).map(|n| id(&n.to_string())).collect();
    refused(&bench, block_on(store.fetch(&bench.ctx, &many, &Projection::full())));
    refused(&bench, block_on(store.query(&bench.ctx, &Query::new(0))));
    refused(&bench, block_on(store.query(&bench.ctx, &Query::new(1_001))));
    let bad = Filter::In(Field::Kind, vec![]);
    let query = Query::new(1).with_filter(bad.clone());
    refused(&bench, block_on(store.query(&bench.ctx, &query)));
    refused(&bench, block_on(store.count(&bench.ctx, &bad)));
    refused(&bench, block_on(store.sweep_expired(&bench.ctx, 0)));
    refused(&bench, block_on(store.sweep_expired(&bench.ctx, 10_001)));

    let space = EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap();
    let mut index = MockVectorIndex::new();
    index.expect_capabilities().returning(capabilities);
    let index = bench.guard.vectors(Arc::new(index));
    let entry = VectorEntry { id: id("a"), revision: Revision::from_number(1), vector: vec![1.0] };
    refused(&bench, block_on(index.upsert(&bench.ctx, &space, &[entry])));
    refused(&bench, block_on(index.remove(&bench.ctx, &space, &many)));
    refused(&bench, block_on(index.missing(&bench.ctx, &space, None, 0)));
    for query in [
        VectorQuery::new(space.clone(), vec![1.0], 1),
        VectorQuery::new(space.clone(), vec![f32::NAN, 0.0], 1),
        VectorQuery::new(space, vec![1.0, 0.0], 1_001),
    ] {
        refused(&bench, block_on(index.search(&bench.ctx, &query)));
    }

    let mut index = MockKeywordIndex::new();
    index.expect_capabilities().returning(capabilities);
    let index = bench.guard.keywords(Arc::new(index));
    refused(&bench, block_on(index.remove(&bench.ctx, &many)));
    for query in [KeywordQuery::new("tea", 0), KeywordQuery::new("tea", 1).with_bm25(-1.0, 0.0)] {
        refused(&bench, block_on(index.search(&bench.ctx, &query)));
    }

    let log = bench.guard.changes(Arc::new(MockChangeLog::new()), "mock");
    refused(&bench, block_on(log.read_changes(&bench.ctx, ChangePosition(0), 0)));
    let meta = bench.guard.meta(Arc::new(MockStoreMeta::new()), "mock");
    refused(&bench, block_on(meta.erased(&bench.ctx, &many)));
}

#[test]
fn a_cursor_of_another_tenant_filter_or_order_is_not_sent() {
    let bench = bench();
    let store = records(&bench);
    let query = Query::new(1);
    let key = CursorKey { sort: 1, id: id("a") };
    let filtered = query.clone().with_filter(Filter::eq(Field::Kind, Scalar::from("fact")));
    for cursor in [
        Cursor::issue(&TenantId::new("other").unwrap(), &query, &key),
        Cursor::issue(&bench.ctx.tenant, &filtered, &key),
        Cursor::issue(&bench.ctx.tenant, &query.clone().with_order(super::by_id()), &key),
        "nothing of the kind".parse().unwrap(),
    ] {
        let query = query.clone().with_cursor(Some(cursor));
        refused(&bench, block_on(store.query(&bench.ctx, &query)));
    }

    // Its own one is.
    let mut store = MockRecordStore::new();
    store.expect_capabilities().returning(capabilities);
    store.expect_query().times(1).returning(|_, _| Ok(Page::default()));
    let cursor = Cursor::issue(&bench.ctx.tenant, &query, &key);
    let query = query.with_cursor(Some(cursor));
    let store = bench.guard.records(Arc::new(store));
    assert!(block_on(store.query(&bench.ctx, &query)).is_ok());
}

#[track_caller]
fn denied<T: std::fmt::Debug>(answer: Result<T, Error>) {
    let error = answer.expect_err("the tenant is not served");
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::PermissionDenied, false));
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(error.message().contains("guard.tenants"), "{error}");
    assert!(!format!("{error:?}").contains("umbrella"), "{error:?}");
}

/// A process that serves `acme` alone.
fn bound() -> Bench {
    bench_with(GuardSettings::default().with_tenants([TenantId::new("acme").unwrap()]))
}

#[test]
fn a_process_bound_to_a_tenant_serves_no_other() {
    let (bench, other) = (bound(), context("umbrella"));
    let store = records(&bench);
    denied(block_on(store.commit(&other, commit_of(vec![]))));
    denied(block_on(store.fetch(&other, &[], &Projection::full())));
    denied(block_on(store.query(&other, &Query::new(1))));
    denied(block_on(store.count(&other, &Filter::All)));
    denied(block_on(store.sweep_expired(&other, 1)));
    denied(block_on(store.erase(&other, &EraseScope::Tenant, None)));

    let space = EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap();
    let mut index = MockVectorIndex::new();
    index.expect_capabilities().returning(capabilities);
    let index = bench.guard.vectors(Arc::new(index));
    denied(block_on(index.upsert(&other, &space, &[])));
    denied(block_on(index.remove(&other, &space, &[])));
    denied(block_on(index.missing(&other, &space, None, 1)));
    let query = VectorQuery::new(space, vec![1.0, 0.0], 1);
    denied(block_on(index.search(&other, &query)));

    let mut index = MockKeywordIndex::new();
    index.expect_capabilities().returning(capabilities);
    let index = bench.guard.keywords(Arc::new(index));
    denied(block_on(index.upsert(&other, &[])));
    denied(block_on(index.remove(&other, &[])));
    denied(block_on(index.search(&other, &KeywordQuery::new("tea", 1))));
    denied(block_on(index.authors(&other, &[])));

    let log = bench.guard.changes(Arc::new(MockChangeLog::new()), "mock");
    denied(block_on(log.read_changes(&other, ChangePosition(0), 1)));
    denied(block_on(log.consumers(&other)));
    let meta = bench.guard.meta(Arc::new(MockStoreMeta::new()), "mock");
    denied(block_on(meta.spaces(&other)));
    denied(block_on(meta.erased(&other, &[])));
    let leases = bench.guard.leases(Arc::new(MockLeaseStore::new()), "mock");
    let job = LeaseName::new("job").unwrap();
    denied(block_on(leases.acquire(&other, &job, Duration::from_secs(1))));
    denied(block_on(leases.set_write_fence(&other, None)));
    let upkeep = bench.guard.upkeep(Arc::new(MockStoreUpkeep::new()), "mock");
    denied(block_on(upkeep.tenant_stats(&other)));

    let counts = bench.guard.counts();
    assert_eq!((counts.denied, counts.refused, counts.broken()), (21, 0, 0));
}

#[test]
fn a_process_bound_to_a_tenant_serves_that_one() {
    let bench = bound();
    let mut store = MockRecordStore::new();
    store.expect_capabilities().returning(capabilities);
    store.expect_count().times(1).returning(|_, _| Ok(3));
    let store = bench.guard.records(Arc::new(store));
    assert_eq!(block_on(store.count(&bench.ctx, &Filter::All)).unwrap(), 3);
    let mut upkeep = MockStoreUpkeep::new();
    upkeep.expect_tenant_stats().times(1).returning(|_| Ok(TenantStats::default()));
    let upkeep = bench.guard.upkeep(Arc::new(upkeep), "mock");
    assert!(block_on(upkeep.tenant_stats(&bench.ctx)).is_ok());
    bench.clean();
}

#[test]
fn settings_take_tenants_and_name_what_is_amiss() {
    let read = |text: &str| serde_json::from_str::<GuardSettings>(text);
    assert_eq!(read("{}").unwrap(), GuardSettings::default());
    let settings = read(r#"{"tenants": ["acme", "umbrella"]}"#).unwrap();
    assert_eq!((settings.tenants.len(), settings.faults()), (2, vec![]));
    assert!(read(r#"{"tenants": [""]}"#).is_err());
    assert!(read(r#"{"tenant": "acme"}"#).unwrap_err().to_string().contains("tenants"));
    let many = (0..10_001).map(|n| TenantId::new(n.to_string()).unwrap());
    let faults = GuardSettings::default().with_tenants(many).faults();
    assert!(faults.len() == 1 && faults[0].contains("guard.tenants"), "{faults:?}");
}

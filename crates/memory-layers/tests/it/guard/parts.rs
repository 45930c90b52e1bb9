//! Answers of the other parts of a back end, and of an embedder.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use memory_core::traits::{
    BulkObserver, BulkWriter, Change, ChangeBatch, ChangeOp, ChangePosition, EmbedPurpose,
    FencingToken, Lease, MockChangeLog, MockEmbedder, MockLeaseStore, MockStoreMeta,
    MockTenantDirectory, NoObserver, TenantPage,
};
use memory_core::{
    CallContext, CommitId, EmbeddingSpace, Error, ErrorKind, LeaseName, Metric, Outcome,
    Precondition, Result, Revision, TenantId, Write, WriteResult,
};
use memory_layers::{GuardRule, GuardSettings, Layer};

use super::{at, bench, bench_with, id};

#[test]
fn changes_stand_in_order_behind_the_position() {
    let read = |positions: &[u64]| {
        let bench = bench();
        let change = |at: &u64| Change { position: ChangePosition(*at), op: ChangeOp::Reset };
        let changes = positions.iter().map(change).collect();
        let batch = ChangeBatch { changes, head: ChangePosition(9), gap: false };
        let mut log = MockChangeLog::new();
        log.expect_read_changes().times(1).return_once(|_, _, _| Ok(batch));
        let log = bench.guard.changes(Arc::new(log), "mock");
        let answer = block_on(log.read_changes(&bench.ctx, ChangePosition(3), 2));
        (bench, answer)
    };
    let (bench, answer) = read(&[4, 7]);
    assert_eq!(answer.unwrap().changes.len(), 2);
    bench.clean();
    for (rule, positions) in [
        (GuardRule::Limit, &[4, 5, 6][..]),
        (GuardRule::Order, &[5, 4]),
        (GuardRule::Order, &[4, 4]),
        (GuardRule::Order, &[3]),
    ] {
        let (bench, answer) = read(positions);
        bench.broke(rule, answer);
    }
}

/// What a bulk writer answers.
type Answer = fn() -> Vec<Result<WriteResult>>;

/// A bulk writer that answers by this.
#[derive(Debug)]
struct Answers(Answer);

#[async_trait]
impl BulkWriter for Answers {
    async fn write_many(
        &self,
        _context: &CallContext,
        _id: CommitId,
        _writes: Vec<Write>,
        _resend: bool,
        _observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        Ok(self.0())
    }
}

fn wrote(name: &str) -> Result<WriteResult> {
    Ok(WriteResult { id: id(name), revision: Some(Revision::from_number(1)), existed: false })
}

fn failed() -> Result<WriteResult> {
    Err(Error::new(ErrorKind::Conflict, "somebody else wrote"))
}

#[test]
fn each_write_of_many_has_its_answer() {
    let write = |answers: Answer| {
        let bench = bench();
        let bulk = bench.guard.bulk(Arc::new(Answers(answers)), "mock");
        let writes = ["a", "b"].map(|name| Write::delete(id(name), Precondition::Any)).to_vec();
        let commit = CommitId::from_bytes([1; 16]);
        let answer = block_on(bulk.write_many(&bench.ctx, commit, writes, false, &NoObserver));
        (bench, answer)
    };
    let good: [Answer; 2] = [|| vec![wrote("a"), wrote("b")], || vec![failed(), wrote("b")]];
    for good in good {
        let (bench, answer) = write(good);
        assert_eq!(answer.unwrap().len(), 2);
        bench.clean();
    }
    let bad: [(GuardRule, Answer); 2] =
        [(GuardRule::Count, || vec![wrote("a")]), (GuardRule::Id, || vec![failed(), wrote("a")])];
    for (rule, answers) in bad {
        let (bench, answer) = write(answers);
        assert_eq!(bench.broke(rule, answer).outcome(), Outcome::Unknown);
    }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn tenants(names: &[&str], more: bool) -> TenantPage {
    TenantPage { tenants: names.iter().map(|name| tenant(name)).collect(), more }
}

#[test]
fn tenants_stand_in_order() {
    let list = |page: TenantPage| {
        let bench = bench();
        let mut directory = MockTenantDirectory::new();
        directory.expect_list_tenants().times(1).return_once(|_, _| Ok(page));
        let directory = bench.guard.tenants(Arc::new(directory), "mock");
        let answer = block_on(directory.list_tenants(Some(tenant("b")), 2));
        (bench, answer)
    };
    let (bench, answer) = list(tenants(&["c", "d"], true));
    assert_eq!(answer.unwrap(), tenants(&["c", "d"], true));
    bench.clean();
    for (rule, names) in [
        (GuardRule::Limit, &["c", "d", "e"][..]),
        (GuardRule::Order, &["d", "c"]),
        (GuardRule::Order, &["b"]),
    ] {
        let (bench, answer) = list(tenants(names, true));
        bench.broke(rule, answer);
    }
}

#[test]
fn a_bound_process_lists_its_own_tenants() {
    let bench = bench_with(GuardSettings::default().with_tenants([tenant("d"), tenant("x")]));
    let directory = |pages: fn(Option<TenantId>) -> TenantPage| {
        let mut directory = MockTenantDirectory::new();
        directory.expect_list_tenants().returning(move |after, _| Ok(pages(after)));
        bench.guard.tenants(Arc::new(directory), "mock")
    };
    let store = directory(|after| match after.as_ref().map(TenantId::as_str) {
        None => tenants(&["a", "b"], true),
        Some("b") => tenants(&["c", "d"], true),
        Some("d") => tenants(&["e"], false),
        other => panic!("nobody asked after {other:?}"),
    });
    let first = block_on(store.list_tenants(None, 2)).unwrap();
    assert_eq!(first, tenants(&["d"], true));
    let last = block_on(store.list_tenants(first.tenants.last().cloned(), 2)).unwrap();
    assert_eq!(last, tenants(&[], false));
    bench.clean();
    let endless = directory(|_| tenants(&[], true));
    bench.broke(GuardRule::Step, block_on(endless.list_tenants(None, 2)));
}

#[test]
fn each_id_is_erased_or_not() {
    let asked = |flags: Vec<bool>| {
        let bench = bench();
        let mut meta = MockStoreMeta::new();
        meta.expect_erased().times(1).return_once(|_, _| Ok(flags));
        let meta = bench.guard.meta(Arc::new(meta), "mock");
        let answer = block_on(meta.erased(&bench.ctx, &[id("a"), id("b")]));
        (bench, answer)
    };
    let (bench, answer) = asked(vec![true, false]);
    assert_eq!(answer.unwrap(), [true, false]);
    bench.clean();
    let (bench, answer) = asked(vec![true]);
    bench.broke(GuardRule::Count, answer);
}

#[test]
fn a_lease_is_the_one_asked_for() {
    let lease = |name: &str, token| Lease {
        name: LeaseName::new(name).unwrap(),
        token: FencingToken(token),
        expires_at: at(5_000),
    };
    let life = Duration::from_secs(1);
    let job = LeaseName::new("job").unwrap();
    for (granted, good) in [(lease("job", 1), true), (lease("other", 1), false)] {
        let bench = bench();
        let mut store = MockLeaseStore::new();
        store.expect_acquire().times(1).return_once(|_, _, _| Ok(Some(granted)));
        let store = bench.guard.leases(Arc::new(store), "mock");
        let answer = block_on(store.acquire(&bench.ctx, &job, life));
        if good {
            assert!(answer.unwrap().is_some());
            bench.clean();
        } else {
            assert_eq!(bench.broke(GuardRule::Id, answer).outcome(), Outcome::Unknown);
        }
    }
    for (renewed, good) in
        [(lease("job", 1), true), (lease("job", 2), false), (lease("other", 1), false)]
    {
        let bench = bench();
        let mut store = MockLeaseStore::new();
        store.expect_renew().times(1).return_once(|_, _, _| Ok(Some(renewed)));
        let store = bench.guard.leases(Arc::new(store), "mock");
        let answer = block_on(store.renew(&bench.ctx, &lease("job", 1), life));
        if good {
            assert!(answer.unwrap().is_some());
            bench.clean();
        } else {
            bench.broke(GuardRule::Id, answer);
        }
    }
}

#[test]
fn an_embedder_answers_each_text_with_a_vector_of_its_space() {
    let embed = |vectors: Vec<Vec<f32>>| {
        let bench = bench();
        let mut embedder = MockEmbedder::new();
        let space = EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap();
        embedder.expect_space().return_const(space);
        embedder.expect_embed().times(1).return_once(|_, _, _| Ok(vectors));
        let embedder = bench.guard.embedder(Arc::new(embedder));
        let texts = ["one".to_owned(), "two".to_owned()];
        let answer = block_on(embedder.embed(&bench.ctx, &texts, EmbedPurpose::Document));
        (bench, answer)
    };
    let (bench, answer) = embed(vec![vec![1.0, 0.0], vec![0.0, 1.0]]);
    assert_eq!(answer.unwrap().len(), 2);
    bench.clean();
    for (rule, vectors) in [
        (GuardRule::Count, vec![vec![1.0, 0.0]]),
        (GuardRule::Shape, vec![vec![1.0, 0.0], vec![0.0]]),
    ] {
        let (bench, answer) = embed(vectors);
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.backend()), (ErrorKind::Corrupt, "embedder"));
        assert_eq!(bench.guard.counts().of(rule), 1);
    }
}

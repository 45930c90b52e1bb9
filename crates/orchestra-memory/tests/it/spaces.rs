//! The tenant's embedding space is read once and remembered; what is remembered may be wrong.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{
    IndexHits, MockRecordStore, MockStoreMeta, MockVectorIndex, TenantSpaces,
};
use memory_core::{
    Commit, Error, ErrorKind, ManualClock, MemoryItem, Metric, Revision, SequentialIds, SpaceId,
    Vectors, Write,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, Backend, Change, EmbeddingSpace, EraseOptions, ImportOptions, Memory, Patch,
    Projection, SearchRequest, TenantMemory, UpdateOptions, VectorProjection,
};

use crate::support::{
    block_on, builder, capabilities, id, mock_backend, note, over, plain, start, user, written,
};

fn space(model: &str, dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new(model, "1", dimensions, Metric::Cosine).unwrap()
}

fn active(space: EmbeddingSpace) -> TenantSpaces {
    TenantSpaces { active: Some(space), ..TenantSpaces::default() }
}

fn embedded(vector: &[f32]) -> orchestra_memory::NewMemory {
    note("x").with_embedding(vector.to_vec())
}

/// A store that answers each reading of the spaces with the next of these, and with no more.
fn meta(answers: Vec<TenantSpaces>) -> MockStoreMeta {
    let mut meta = MockStoreMeta::new();
    let reads = AtomicUsize::new(0);
    meta.expect_spaces()
        .times(answers.len())
        .returning(move |_| Ok(answers[reads.fetch_add(1, Ordering::SeqCst)].clone()));
    meta
}

/// The space that each write of a commit names.
fn named(commit: &Commit) -> Vec<SpaceId> {
    let of = |write: &Write| {
        let Write::Put(put) = write else { panic!("only puts are sent") };
        let Vectors::Replace(vectors) = &put.vectors else { panic!("nothing is kept") };
        vectors.keys().cloned().collect::<Vec<_>>()
    };
    commit.writes.iter().flat_map(of).collect()
}

/// A store that knows one space and refuses every other; and a list of what commits named.
fn only(known: &EmbeddingSpace) -> (MockRecordStore, Arc<Mutex<Vec<Vec<SpaceId>>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let (seen, known) = (log.clone(), known.id());
    let mut records = MockRecordStore::new();
    records.expect_commit().returning(move |_, commit| {
        let named = named(&commit);
        let foreign = named.iter().any(|space| *space != known);
        seen.lock().unwrap().push(named);
        if foreign { Err(Error::invalid("no such space")) } else { Ok(written(&commit)) }
    });
    records.expect_fetch().returning(|_, ids, _| {
        let item = |id: &memory_core::MemoryId| {
            let mut item = MemoryItem::new(id.clone(), "old", start()).unwrap();
            item.user_id = Some(user("ada"));
            item.revision = Some(Revision::from_number(1));
            item
        };
        Ok(ids.iter().map(|id| Some(item(id))).collect())
    });
    (records, log)
}

fn searchable(mut backend: Backend, known: &EmbeddingSpace) -> Backend {
    let known = known.clone();
    let mut vectors = MockVectorIndex::new();
    vectors.expect_capabilities().returning(|| capabilities("mock"));
    vectors.expect_search().returning(move |_, query| match query.space == known {
        true => Ok(IndexHits { hits: Vec::new(), exact: true }),
        false => Err(Error::invalid("no such space")),
    });
    backend.vectors = Arc::new(vectors);
    backend
}

/// Every call that takes a vector, one after another.
async fn every_call(tenant: &TenantMemory) {
    tenant.add(embedded(&[1.0, 0.0])).await.unwrap();
    let patch = Patch::new().with_embedding(Change::Set(vec![0.0, 1.0]));
    tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
    let report = tenant.add_many([embedded(&[1.0, 1.0])], AddManyOptions::new()).await;
    assert_eq!(report.added, 1);
    let options = ImportOptions::new("x").with_include_erased(true);
    let line = br#"{"content": "x", "user_id": "ada", "embedding": [1, 0]}"#;
    assert_eq!(tenant.import(&line[..], options).await.added, 1);
    tenant.search_with_vector(SearchRequest::new(), vec![1.0, 0.0]).await.unwrap();
}

#[test]
fn the_space_is_read_once_for_all_calls_and_again_after_five_seconds() {
    let known = space("a", 2);
    let (records, log) = only(&known);
    let backend = mock_backend(records, meta(vec![active(known.clone()), active(known.clone())]));
    let clock = Arc::new(ManualClock::new(start()));
    let builder = builder()
        .backend(searchable(backend, &known))
        .clock(clock.clone())
        .ids(Arc::new(SequentialIds::default()));
    let memory = block_on(builder.open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(every_call(&tenant));
    block_on(every_call(&memory.default_tenant()));
    clock.advance(Duration::from_secs(5));
    block_on(every_call(&tenant));
    assert_eq!(log.lock().unwrap().len(), 12, "none was sent twice");
}

#[test]
fn a_declared_space_is_remembered_and_tenants_share_nothing() {
    let known = space("caller", 2);
    let (records, _) = only(&known);
    let mut meta = meta(vec![TenantSpaces::default(), TenantSpaces::default()]);
    meta.expect_set_spaces().times(2).returning(|_, spaces| Ok(spaces.clone()));
    let memory = over(mock_backend(records, meta), plain());
    for name in ["one", "two"] {
        let tenant = memory.tenant(name).unwrap();
        block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
        block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
    }
}

#[test]
fn a_refused_space_is_read_again_and_the_call_made_once_more() {
    let (old, new) = (space("old", 2), space("new", 2));
    type Call = fn(&TenantMemory);
    let calls: [Call; 4] = [
        |tenant| drop(block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap()),
        |tenant| {
            let patch = Patch::new().with_embedding(Change::Set(vec![1.0, 0.0]));
            block_on(tenant.update(&id("m"), &patch, UpdateOptions::new())).unwrap();
        },
        |tenant| {
            let many = [note("plain"), embedded(&[1.0, 0.0]), embedded(&[0.0, 1.0])];
            let report = block_on(tenant.add_many(many, AddManyOptions::new()));
            assert_eq!((report.added, report.failed), (3, 0));
        },
        |tenant| {
            let request = SearchRequest::new();
            block_on(tenant.search_with_vector(request, vec![1.0, 0.0])).unwrap();
        },
    ];
    for call in calls {
        let (records, log) = only(&new);
        let mut meta = MockStoreMeta::new();
        let reads = Arc::new(AtomicUsize::new(0));
        let (count, answers) = (reads.clone(), [old.clone(), new.clone()]);
        meta.expect_spaces().returning(move |_| {
            Ok(active(answers[count.fetch_add(1, Ordering::SeqCst).min(1)].clone()))
        });
        let backend = mock_backend(records, meta);
        let memory = over(searchable(backend, &new), plain());
        let tenant = memory.default_tenant();
        // The first reading: a vector that fits nothing needs the space to be known.
        let request = SearchRequest::new();
        let error = block_on(tenant.search_with_vector(request, vec![1.0; 3])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        call(&tenant);
        let once = reads.load(Ordering::SeqCst);
        assert!((2..=3).contains(&once), "{once}");
        call(&tenant);
        assert_eq!(reads.load(Ordering::SeqCst), once, "the new one is remembered");
        for named in log.lock().unwrap().iter().skip(1) {
            assert!(named.iter().all(|space| *space == new.id()), "{named:?}");
        }
    }
}

#[test]
fn a_refusal_for_another_reason_is_not_sent_again() {
    let known = space("a", 2);
    let mut records = MockRecordStore::new();
    let commits = AtomicUsize::new(0);
    records.expect_commit().times(3).returning(move |_, commit| {
        match commits.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(written(&commit)),
            _ => Err(Error::invalid("for what it is")),
        }
    });
    let three = vec![active(known.clone()), active(known.clone()), active(known)];
    let memory = over(mock_backend(records, meta(three)), plain());
    let tenant = memory.default_tenant();
    block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
    let error = block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap_err();
    assert_eq!(error.message(), "for what it is");
    let report = block_on(tenant.add_many([embedded(&[1.0, 0.0])], AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (0, 1));
    assert!(report.stopped.is_none());
}

#[test]
fn what_may_have_happened_already_is_not_done_again_in_another_space() {
    let known = space("a", 2);
    let mut records = MockRecordStore::new();
    let commits = AtomicUsize::new(0);
    records.expect_commit().times(3).returning(move |_, commit| {
        match commits.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(written(&commit)),
            1 => Err(Error::new(ErrorKind::Unavailable, "lost").with_unknown_outcome()),
            _ => Err(Error::invalid("no such space")),
        }
    });
    let memory = over(mock_backend(records, meta(vec![active(known)])), plain());
    let tenant = memory.default_tenant();
    block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
    let error = block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_batch_that_moves_to_another_space_loses_only_what_does_not_fit_it() {
    let (old, new) = (space("old", 2), space("new", 3));
    let (records, log) = only(&new);
    let backend = mock_backend(records, meta(vec![active(old), active(new.clone())]));
    let memory = over(backend, plain());
    let tenant = memory.default_tenant();
    block_on(tenant.search_with_vector(SearchRequest::new(), vec![1.0])).unwrap_err();
    // The first fits what is remembered, so that it is taken for the space until others do not.
    let many = [embedded(&[1.0, 0.0]), embedded(&[1.0; 3]), note("plain"), embedded(&[2.0; 3])];
    let report = block_on(tenant.add_many(many, AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (3, 1));
    assert_eq!(report.failures[0].index, 0);
    assert!(report.failures[0].error.message().contains('3'), "{:?}", report.failures);
    assert_eq!(*log.lock().unwrap(), [vec![new.id(), new.id()]]);
}

/// Two memories on one store, as two processes have them, over each store that can be shared.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
fn each_pair(check: impl AsyncFn(&Memory, &Memory)) {
    let clock = Arc::new(ManualClock::new(start()));
    // Random ids: two processes do not count up together.
    let open = |builder: orchestra_memory::MemoryBuilder| {
        block_on(builder.clock(clock.clone()).open()).unwrap()
    };
    let store = Arc::new(ReferenceStore::new(clock.clone()));
    let mut pairs = vec![[(); 2].map(|()| open(builder().backend(Backend::of(store.clone()))))];
    let folder = tempfile::tempdir().unwrap();
    if cfg!(feature = "sqlite") {
        let url = format!("sqlite:{}", folder.path().join("pair.db").display());
        pairs.push([(); 2].map(|()| open(builder().url(&url))));
    }
    for [one, other] in &pairs {
        block_on(check(one, other));
        block_on(one.close()).unwrap();
        block_on(other.close()).unwrap();
    }
}

/// Declares another active space, which takes the vectors of the former one away.
async fn declare(memory: &Memory, space: &EmbeddingSpace) {
    let tenant = memory.default_tenant();
    let spaces = tenant.spaces().await.unwrap();
    let spaces = TenantSpaces { active: Some(space.clone()), next: None, ..spaces };
    let admin = memory.admin();
    admin.meta().set_spaces(&admin.context(tenant.id().clone()), &spaces).await.unwrap();
}

async fn spaces_of(tenant: &TenantMemory, name: &str) -> Vec<SpaceId> {
    let projection = Projection::full().with_vectors(VectorProjection::All);
    let found = tenant.get_many(&[id(name)], &projection).await.unwrap();
    found.into_iter().flatten().flat_map(|item| item.vectors.into_keys()).collect()
}

#[test]
fn a_space_that_another_process_declares_anew_is_noticed() {
    each_pair(async |here, there| {
        let tenant = here.default_tenant();
        let named = |name: &str| embedded(&[1.0, 0.0]).with_id(id(name));
        let search = async || {
            let answer = tenant.search_with_vector(SearchRequest::new(), vec![1.0, 0.0]).await;
            answer.unwrap().hits.len()
        };
        tenant.add(named("first")).await.unwrap();
        assert_eq!(search().await, 1);

        declare(there, &space("two", 2)).await;
        tenant.add(named("second")).await.unwrap();
        assert_eq!(spaces_of(&tenant, "second").await, [space("two", 2).id()]);
        assert!(spaces_of(&tenant, "first").await.is_empty(), "its space is gone");

        declare(there, &space("three", 2)).await;
        let patch = Patch::new().with_embedding(Change::Set(vec![1.0, 0.0]));
        tenant.update(&id("first"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(spaces_of(&tenant, "first").await, [space("three", 2).id()]);

        declare(there, &space("four", 2)).await;
        let report =
            tenant.add_many([named("third"), named("fourth")], AddManyOptions::new()).await;
        assert_eq!((report.added, report.failed), (2, 0));
        assert_eq!(spaces_of(&tenant, "fourth").await, [space("four", 2).id()]);

        declare(there, &space("five", 2)).await;
        let line = br#"{"id": "fifth", "content": "x", "user_id": "ada", "embedding": [1, 0]}"#;
        let report = tenant.import(&line[..], ImportOptions::new("x")).await;
        assert_eq!((report.added, report.bad), (1, 0));
        assert_eq!(spaces_of(&tenant, "fifth").await, [space("five", 2).id()]);
        assert_eq!(search().await, 1);

        declare(there, &space("six", 2)).await;
        there.default_tenant().add(named("sixth")).await.unwrap();
        assert_eq!(search().await, 1);

        // Another length is noticed before anything is sent.
        declare(there, &space("seven", 3)).await;
        tenant.add(embedded(&[1.0; 3]).with_id(id("seventh"))).await.unwrap();
        assert_eq!(spaces_of(&tenant, "seventh").await, [space("seven", 3).id()]);
        let error = tenant.add(named("eighth")).await.unwrap_err();
        assert!(error.message().contains('2') && error.message().contains('3'), "{error}");
    });
}

#[test]
fn a_tenant_that_another_process_erases_is_noticed() {
    each_pair(async |here, there| {
        let (tenant, other) = (here.default_tenant(), there.default_tenant());
        tenant.add(embedded(&[1.0, 0.0])).await.unwrap();
        other.add(embedded(&[1.0, 0.0])).await.unwrap();

        other.erase_tenant(EraseOptions::new()).await.unwrap();
        let search = SearchRequest::new();
        let error = tenant.search_with_vector(search.clone(), vec![1.0, 0.0]).await.unwrap_err();
        assert!(error.message().contains("no embedding space yet"), "{error}");

        // It may be declared anew, by either, with another length.
        other.add(embedded(&[1.0; 3])).await.unwrap();
        let error = tenant.add(embedded(&[1.0, 0.0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        tenant.add(embedded(&[1.0; 3])).await.unwrap();

        other.erase_tenant(EraseOptions::new()).await.unwrap();
        let words = search.with_text("x");
        let answer = tenant.search_with_vector(words, vec![1.0; 3]).await.unwrap();
        assert!(answer.notes.iter().any(|note| note.contains("not used")), "{answer:?}");
        other.add(embedded(&[1.0; 3])).await.unwrap();
        tenant.add(embedded(&[1.0; 3])).await.unwrap();
        other.erase_tenant(EraseOptions::new()).await.unwrap();
        tenant.add(embedded(&[1.0; 3])).await.unwrap();
        assert_eq!(tenant.spaces().await.unwrap().active, Some(space("caller", 3)));
    });
}

#[test]
fn an_erasure_of_its_own_forgets_the_space() {
    let known = space("a", 2);
    let (mut records, _) = only(&known);
    records.expect_erase().times(1).returning(|_, _, _| {
        Ok(memory_core::traits::EraseStep {
            erased: 0,
            next: None,
            receipt: Some(memory_core::traits::EraseReceipt {
                began_at: start(),
                ended_at: start(),
                bytes_cleared: true,
            }),
        })
    });
    // Two readings: one before the erasure, one after it.
    let meta = meta(vec![active(known.clone()), active(known)]);
    let memory = over(mock_backend(records, meta), plain());
    let tenant = memory.default_tenant();
    block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
    block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
    block_on(tenant.erase_tenant(EraseOptions::new())).unwrap();
    block_on(tenant.add(embedded(&[1.0, 0.0]))).unwrap();
}

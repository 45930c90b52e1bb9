//! Many memories by a store's own way for many writes: over a writer that does them one by one, and
//! answers as a test tells it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::traits::{BulkObserver, BulkProgress, BulkWriter, RecordStore, StoreMeta as _};
use memory_core::{
    CallContext, Commit, CommitId, EmbeddingSpace, Error, ErrorKind, ManualClock, Metric, Outcome,
    Result, Write, WriteResult,
};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, Backend, EraseOptions, Filter, ImportOptions, Memory, NewMemory, OnConflict,
    TenantId,
};

use crate::support::{block_on, builder, id, note, start, user};

/// What becomes of the first write of an id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fate {
    /// It is refused with this kind and not done.
    Refused(ErrorKind),
    /// It is done, and the answer is lost.
    Lost,
    /// It is not done, and the answer is lost.
    Vanished,
}

/// A bulk writer that commits each write alone.
#[derive(Clone)]
pub(crate) struct OneByOne {
    store: Arc<dyn RecordStore>,
    fates: Arc<Mutex<BTreeMap<String, Fate>>>,
    /// For each call its id, whether it was a resend, and how many writes it had.
    calls: Arc<Mutex<Vec<(CommitId, bool, usize)>>>,
}

impl OneByOne {
    pub(crate) fn over(store: Arc<dyn RecordStore>) -> Self {
        Self { store, fates: Arc::default(), calls: Arc::default() }
    }

    fn calls(&self) -> Vec<(CommitId, bool, usize)> {
        self.calls.lock().unwrap().clone()
    }
}

impl fmt::Debug for OneByOne {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OneByOne")
    }
}

#[async_trait]
impl BulkWriter for OneByOne {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        self.calls.lock().unwrap().push((id, resend, writes.len()));
        let mut progress = BulkProgress { total: writes.len() as u64, ..BulkProgress::default() };
        let mut answers = Vec::new();
        for write in writes {
            let fate = self.fates.lock().unwrap().remove(write.id().as_str());
            let lost = || Error::new(ErrorKind::Unavailable, "lost").with_unknown_outcome();
            let mut commit = Commit::new(id, vec![write]);
            if resend {
                commit = commit.resent();
            }
            let answer = match fate {
                Some(Fate::Refused(kind)) => Err(Error::new(kind, "as the test says")),
                Some(Fate::Vanished) => Err(lost()),
                fate => {
                    let done = self.store.commit(context, commit).await;
                    match fate {
                        Some(_) => Err(lost()),
                        None => done.map(|mut receipt| receipt.results.remove(0)),
                    }
                }
            };
            progress.done += 1;
            progress.failed += u64::from(answer.is_err());
            observer.progress(progress);
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// A memory over the reference store and a writer that does as it is told.
fn world(fates: &[(&str, Fate)]) -> (Memory, Arc<ReferenceStore>, OneByOne) {
    let store = Arc::new(ReferenceStore::new(Arc::new(ManualClock::new(start()))));
    let bulk = OneByOne::over(store.clone());
    bulk.fates.lock().unwrap().extend(fates.iter().map(|(id, fate)| ((*id).to_owned(), *fate)));
    let backend = Backend { bulk: Some(Arc::new(bulk.clone())), ..Backend::of(store.clone()) };
    let memory = block_on(builder().backend(backend).open()).unwrap();
    (memory, store, bulk)
}

fn named(name: &str) -> NewMemory {
    note(&format!("the text of {name}")).with_id(id(name))
}

#[test]
fn a_batch_is_larger_and_is_sent_once() {
    let (memory, _, bulk) = world(&[]);
    let tenant = memory.default_tenant();
    let many = (0..2_500).map(|n| named(&format!("m{n}")));
    let report = block_on(tenant.add_many(many.clone(), AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (2_500, 0), "{:?}", report.stopped);
    let sizes: Vec<_> = bulk.calls().iter().map(|(_, _, writes)| *writes).collect();
    assert_eq!(sizes, [2_000, 500]);
    // Again: what is taken is found with reads of at most a thousand, and nothing is written.
    let skip = AddManyOptions::new().with_on_conflict(OnConflict::Skip);
    let report = block_on(tenant.add_many(many, skip.with_batch_size(1_000)));
    assert_eq!((report.skipped, report.added), (2_500, 0), "{:?}", report.stopped);
    assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 2_500);
}

#[test]
fn a_memory_that_is_refused_takes_no_other_with_it() {
    use Fate::Refused;
    let (memory, _, bulk) = world(&[("m3", Refused(InvalidInput)), ("m5", Refused(Unsupported))]);
    let tenant = memory.default_tenant();
    block_on(tenant.add(named("m7"))).unwrap();
    block_on(tenant.add(note("another text").with_id(id("m8")))).unwrap();
    let options = || AddManyOptions::new();
    let many = || (0..10).map(|n| named(&format!("m{n}")));
    let report = block_on(tenant.add_many(many(), options()));
    let failures: Vec<_> =
        report.failures.iter().map(|failed| (failed.index, failed.error.kind())).collect();
    use ErrorKind::{AlreadyExists, InvalidInput, Unsupported};
    let expected = [(3, InvalidInput), (5, Unsupported), (7, AlreadyExists), (8, AlreadyExists)];
    assert_eq!((report.added, failures.as_slice()), (6, expected.as_slice()));
    assert_eq!(bulk.calls().len(), 1, "those whose ids are taken are not sent again");
    let replaced =
        block_on(tenant.add_many(many(), options().with_on_conflict(OnConflict::Replace)));
    assert_eq!((replaced.added, replaced.replaced), (2, 8));

    let lines = "{\"id\": \"m1\", \"user_id\": \"ada\", \"content\": \"the text of m1\"}\n\
                 {\"id\": \"m2\", \"user_id\": \"ada\", \"content\": \"something else\"}\n\
                 {\"id\": \"new\", \"user_id\": \"ada\", \"content\": \"new\"}\n";
    let report = block_on(tenant.import(lines.as_bytes(), ImportOptions::new("f")));
    assert_eq!((report.added, report.unchanged, report.bad), (1, 1, 1), "{report:?}");
}

#[test]
fn an_id_that_is_taken_and_free_again_is_sent_once_more() {
    let taken = Fate::Refused(ErrorKind::AlreadyExists);
    let (memory, _, bulk) = world(&[("a", taken)]);
    let report =
        block_on(memory.default_tenant().add_many([named("a"), named("b")], AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (2, 0), "{report:?}");
    let calls: Vec<_> = bulk.calls().iter().map(|(_, resend, writes)| (*resend, *writes)).collect();
    assert_eq!(calls, [(false, 2), (false, 1)]);
}

#[test]
fn an_unknown_outcome_is_sent_once_more_under_the_same_id() {
    let (memory, _, bulk) = world(&[("b", Fate::Lost), ("c", Fate::Vanished)]);
    let tenant = memory.default_tenant();
    let many = ["a", "b", "c", "d"].map(named);
    let report = block_on(tenant.add_many(many, AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (4, 0), "{report:?}");
    let calls = bulk.calls();
    assert_eq!((calls[0].1, calls[0].2), (false, 4));
    assert_eq!((calls[1].1, calls[1].2), (true, 2));
    assert_eq!(calls[0].0, calls[1].0, "so that the store recognises its own work");
    assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 4);
}

#[test]
fn an_id_that_is_taken_at_the_second_attempt_goes_by_the_policy() {
    // The first attempt is not done, and another writer takes the id before the second.
    #[derive(Debug)]
    struct Overtaken(OneByOne, Arc<ReferenceStore>, &'static str);

    #[async_trait]
    impl BulkWriter for Overtaken {
        async fn write_many(
            &self,
            context: &CallContext,
            id: CommitId,
            writes: Vec<Write>,
            resend: bool,
            observer: &dyn BulkObserver,
        ) -> Result<Vec<Result<WriteResult>>> {
            if resend {
                let backend = Backend::of(self.1.clone());
                let memory = builder().backend(backend).open().await?;
                let other = note(self.2).with_id(crate::support::id("b"));
                memory.default_tenant().add(other).await?;
            }
            // The store keeps no note of attempts: it sees that the id is taken, and no more.
            self.0.write_many(context, id, writes, false, observer).await
        }
    }

    let same = "the text of b";
    for (text, policy, counts) in [
        (same, OnConflict::Fail, (2, 0, 1)),
        (same, OnConflict::Skip, (2, 1, 0)),
        ("another", OnConflict::Fail, (2, 0, 1)),
        ("another", OnConflict::Skip, (2, 1, 0)),
    ] {
        let (_, store, bulk) = world(&[("b", Fate::Vanished)]);
        let bulk = Arc::new(Overtaken(bulk, store.clone(), text));
        let backend = Backend { bulk: Some(bulk), ..Backend::of(store) };
        let memory = block_on(builder().backend(backend).open()).unwrap();
        let tenant = memory.default_tenant();
        let options = AddManyOptions::new().with_on_conflict(policy);
        let report = block_on(tenant.add_many(["a", "b", "c"].map(named), options));
        assert_eq!((report.added, report.skipped, report.failed), counts, "{report:?}");
        assert!(report.stopped.is_none(), "{report:?}");
    }
    // An import takes the same text for its own.
    let (_, store, bulk) = world(&[("b", Fate::Vanished)]);
    let bulk = Arc::new(Overtaken(bulk, store.clone(), same));
    let backend = Backend { bulk: Some(bulk), ..Backend::of(store) };
    let memory = block_on(builder().backend(backend).open()).unwrap();
    let lines = "{\"id\": \"b\", \"user_id\": \"ada\", \"content\": \"the text of b\"}\n";
    let options = ImportOptions::new("f");
    let report = block_on(memory.default_tenant().import(lines.as_bytes(), options));
    assert_eq!((report.added, report.unchanged, report.bad), (0, 1, 0), "{report:?}");
}

#[test]
fn a_fault_of_the_store_ends_the_batch_and_what_was_written_is_reported() {
    for kind in [ErrorKind::RateLimited, ErrorKind::Conflict, ErrorKind::PermissionDenied] {
        let (memory, _, _) =
            world(&[("b", Fate::Refused(kind)), ("c", Fate::Refused(ErrorKind::InvalidInput))]);
        let tenant = memory.default_tenant();
        let many = ["a", "b", "c", "d"].map(named);
        let report = block_on(tenant.add_many(many, AddManyOptions::new().with_batch_size(4)));
        assert_eq!((report.seen, report.added, report.failed), (4, 2, 1), "{report:?}");
        let stopped = report.stopped.unwrap();
        assert_eq!((stopped.kind(), stopped.outcome()), (kind, Outcome::NotApplied));
        assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 2);
    }
    let (memory, _, _) = world(&[("a", Fate::Refused(ErrorKind::RateLimited)), ("b", Fate::Lost)]);
    let tenant = memory.default_tenant();
    let report = block_on(tenant.add_many(["a", "b"].map(named), AddManyOptions::new()));
    assert_eq!(report.added, 1, "the second attempt says what became of it");
    assert_eq!(report.stopped.unwrap().outcome(), Outcome::NotApplied);
}

#[test]
fn an_import_takes_back_what_was_erased_while_it_wrote() {
    // Erased before the writer comes to it, and after the import has looked.
    #[derive(Debug)]
    struct Erasing(OneByOne, Arc<ReferenceStore>);

    #[async_trait]
    impl BulkWriter for Erasing {
        async fn write_many(
            &self,
            context: &CallContext,
            id: CommitId,
            writes: Vec<Write>,
            resend: bool,
            observer: &dyn BulkObserver,
        ) -> Result<Vec<Result<WriteResult>>> {
            let scope = memory_core::traits::EraseScope::User(user("ada"));
            let mut resume = None;
            loop {
                let step = self.1.erase(context, &scope, resume).await?;
                resume = step.next;
                if resume.is_none() {
                    break;
                }
            }
            self.0.write_many(context, id, writes, resend, observer).await
        }
    }

    let (_, store, bulk) = world(&[]);
    let erasing = Erasing(bulk, store.clone());
    let backend = Backend { bulk: Some(Arc::new(erasing)), ..Backend::of(store) };
    let memory = block_on(builder().backend(backend).open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(tenant.add(named("gone"))).unwrap();
    let lines = "{\"id\": \"gone\", \"user_id\": \"ada\", \"content\": \"back again\"}\n\
                 {\"id\": \"new\", \"user_id\": \"ada\", \"content\": \"new\"}\n";
    let options = ImportOptions::new("f").with_on_conflict(OnConflict::Replace);
    let report = block_on(tenant.import(lines.as_bytes(), options));
    assert_eq!((report.added, report.erased), (1, 1), "{report:?}");
    assert!(block_on(tenant.get(&id("gone"))).unwrap().is_none());
    assert!(block_on(tenant.get(&id("new"))).unwrap().is_some());
    block_on(tenant.erase_tenant(EraseOptions::new())).unwrap();
}

#[test]
fn a_space_that_has_moved_is_read_again() {
    let (memory, store, bulk) = world(&[]);
    let tenant = memory.default_tenant();
    let vector = |name: &str, vector: Vec<f32>| named(name).with_embedding(vector);
    block_on(tenant.add(vector("first", vec![1.0, 0.0]))).unwrap();
    // Somebody else gives the tenant another space, which this memory does not know of.
    let context = CallContext::new(TenantId::new("default").unwrap());
    let mut spaces = block_on(store.spaces(&context)).unwrap();
    spaces.active = Some(EmbeddingSpace::new("caller", "2", 2, Metric::Dot).unwrap());
    block_on(store.set_spaces(&context, &spaces)).unwrap();
    let many = [vector("a", vec![1.0, 0.0]), vector("b", vec![0.0, 1.0]), named("c")];
    let report = block_on(tenant.add_many(many, AddManyOptions::new()));
    assert_eq!((report.added, report.failed), (3, 0), "{report:?}");
    let sizes: Vec<_> = bulk.calls().iter().map(|(_, _, writes)| *writes).collect();
    assert_eq!(sizes, [3, 2], "only those with a vector are sent again");
    assert_eq!(block_on(tenant.stats()).unwrap().embedded, 2);
}

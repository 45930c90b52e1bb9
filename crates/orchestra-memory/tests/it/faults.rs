//! What happens when the store fails, answers late, or is raced: over mocks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{
    EraseReceipt, EraseStep, EraseToken, MockRecordStore, MockStoreMeta, SweepStep, TenantSpaces,
};
use memory_core::{
    EmbeddingSpace, Error, ErrorKind, Health, HealthStatus, MemoryItem, Metric, Outcome,
    Precondition, Revision, Vectors, Write,
};
use orchestra_memory::memory_layers::ApplyLayers;
use orchestra_memory::{
    AddManyOptions, AddOptions, AddOutcome, Callback, CancelFlag, Change, EmbeddingSettings,
    EraseOptions, ImportOptions, OnConflict, Patch, UpdateOptions,
};

use crate::support::{
    block_on, id, mock_backend, mock_memory, note, over, plain, start, user, written,
};

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the answer was lost").with_unknown_outcome()
}

/// A stored item at a revision.
fn stored(name: &str, content: &str, revision: u64) -> MemoryItem {
    let mut item = MemoryItem::new(id(name), content, start()).unwrap().with_user(user("ada"));
    item.revision = Some(Revision::from_number(revision));
    item
}

#[test]
fn an_unknown_outcome_is_sent_once_more_under_the_same_commit_id() {
    let mut records = MockRecordStore::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    records.expect_commit().times(2).returning(move |_, commit| {
        let mut log = log.lock().unwrap();
        log.push((commit.id, commit.resend));
        if log.len() == 1 { Err(lost()) } else { Ok(written(&commit)) }
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let item = block_on(memory.default_tenant().add(note("x"))).unwrap();
    assert_eq!(item.revision, Some(Revision::from_number(1)));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0].0, seen[1].0);
    assert_eq!((seen[0].1, seen[1].1), (false, true));
}

#[test]
fn a_second_failure_leaves_the_outcome_unknown() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Conflict] {
        let mut records = MockRecordStore::new();
        records.expect_commit().times(2).returning(move |_, commit| match commit.resend {
            false => Err(lost()),
            true => Err(Error::new(kind, "the second attempt failed by itself")),
        });
        let memory = mock_memory(records, MockStoreMeta::new());
        let error = block_on(memory.default_tenant().add(note("x"))).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::Unknown));
    }
    // The twin: a failure that is known not to have taken effect is not sent again.
    let mut records = MockRecordStore::new();
    records
        .expect_commit()
        .times(1)
        .returning(|_, _| Err(Error::new(ErrorKind::Unavailable, "refused")));
    let memory = mock_memory(records, MockStoreMeta::new());
    let error = block_on(memory.default_tenant().add(note("x"))).unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[test]
fn an_update_that_keeps_losing_ends_with_a_conflict() {
    let mut records = MockRecordStore::new();
    records.expect_fetch().times(8).returning(|_, _, _| Ok(vec![Some(stored("m", "old", 1))]));
    records
        .expect_commit()
        .times(8)
        .returning(|_, _| Err(Error::new(ErrorKind::Conflict, "somebody else wrote")));
    let memory = mock_memory(records, MockStoreMeta::new());
    let patch = Patch::new().with_content("new");
    let update = memory.default_tenant();
    let error = block_on(update.update(&id("m"), &patch, UpdateOptions::new())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains("attempts=8"), "{error}");
}

#[test]
fn an_update_that_loses_once_goes_onto_what_the_winner_wrote() {
    let mut records = MockRecordStore::new();
    let round = Arc::new(AtomicUsize::new(0));
    let fetches = round.clone();
    records.expect_fetch().times(2).returning(move |_, _, _| {
        let mut item = stored("m", "old", 1);
        if fetches.load(Ordering::SeqCst) > 0 {
            item.author = Some("the winner".into());
            item.revision = Some(Revision::from_number(2));
        }
        Ok(vec![Some(item)])
    });
    records.expect_commit().times(2).returning(move |_, commit| {
        let Write::Put(put) = &commit.writes[0] else { panic!("an update is a put") };
        assert_eq!(put.vectors, Vectors::Keep);
        if round.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(Error::new(ErrorKind::Conflict, "somebody else wrote"));
        }
        assert_eq!(put.precondition, Precondition::Revision(Revision::from_number(2)));
        Ok(written(&commit))
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let patch = Patch::new().with_content("new");
    let item = block_on(memory.default_tenant().update(&id("m"), &patch, UpdateOptions::new()));
    let item = item.unwrap();
    assert_eq!((item.content(), item.author.as_deref()), ("new", Some("the winner")));
}

#[test]
fn an_update_does_not_patch_again_what_it_may_have_patched_already() {
    let mut records = MockRecordStore::new();
    records.expect_fetch().times(1).returning(|_, _, _| Ok(vec![Some(stored("m", "old", 1))]));
    records.expect_commit().times(2).returning(|_, commit| match commit.resend {
        false => Err(lost()),
        true => Err(Error::new(ErrorKind::Conflict, "a later writer has covered it")),
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let patch = Patch::new().with_author(Change::Clear);
    let tenant = memory.default_tenant();
    let error = block_on(tenant.update(&id("m"), &patch, UpdateOptions::new())).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Conflict, Outcome::Unknown));
}

#[test]
fn a_bad_memory_does_not_take_its_batch_with_it() {
    let mut records = MockRecordStore::new();
    let accepted = Arc::new(Mutex::new(BTreeSet::new()));
    let log = accepted.clone();
    records.expect_fetch().returning(|_, ids, _| Ok(vec![None; ids.len()]));
    // The store refuses what the library cannot foresee: two of the items.
    records.expect_commit().returning(move |_, commit| {
        let names: Vec<_> = commit.writes.iter().map(|w| w.id().as_str().to_owned()).collect();
        if names.iter().any(|name| name == "m3" || name == "m7") {
            return Err(Error::invalid("the store does not take it"));
        }
        log.lock().unwrap().extend(names);
        Ok(written(&commit))
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let many = (0..10).map(|n| note("x").with_id(id(&format!("m{n}"))));
    let options = AddManyOptions::new().with_ids();
    let report = block_on(memory.default_tenant().add_many(many, options));
    assert_eq!((report.seen, report.added, report.failed), (10, 8, 2));
    assert!(report.stopped.is_none());
    let places: Vec<_> = report.failures.iter().map(|failed| failed.index).collect();
    assert_eq!(places, [3, 7]);
    assert_eq!(report.ids[4], Some(id("m4")));
    assert_eq!(report.ids[3], None);
    assert_eq!(accepted.lock().unwrap().len(), 8);
    let error = report.into_result().unwrap_err();
    assert!(error.to_string().contains("index=3"), "{error}");
}

#[test]
fn a_fault_of_the_store_stops_the_call_and_keeps_the_report() {
    let mut records = MockRecordStore::new();
    let commits = AtomicUsize::new(0);
    records.expect_fetch().returning(|_, ids, _| Ok(vec![None; ids.len()]));
    records.expect_commit().times(3).returning(move |_, commit| {
        match commits.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Ok(written(&commit)),
            _ => Err(Error::new(ErrorKind::Unavailable, "the disk is full")),
        }
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let told = Arc::new(AtomicUsize::new(0));
    let heard = told.clone();
    let options = AddManyOptions::new().with_batch_size(2).with_progress(Callback::new(
        move |report: &orchestra_memory::AddManyReport| {
            heard.fetch_add(1, Ordering::SeqCst);
            assert!(report.seen <= 6);
        },
    ));
    let many = std::iter::repeat_with(|| note("x"));
    let report = block_on(memory.default_tenant().add_many(many, options));
    assert_eq!((report.seen, report.added, report.failed), (6, 4, 0));
    assert_eq!(report.stopped.as_ref().unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(told.load(Ordering::SeqCst), 3);
    assert!(report.into_result().is_err());
}

#[test]
fn a_raised_flag_stops_before_the_next_batch() {
    let mut records = MockRecordStore::new();
    let flag = CancelFlag::new();
    let raise = flag.clone();
    records.expect_commit().times(1).returning(move |_, commit| {
        raise.cancel();
        Ok(written(&commit))
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let options = AddManyOptions::new().with_batch_size(3).with_cancel(flag);
    let many = std::iter::repeat_with(|| note("x"));
    let report = block_on(memory.default_tenant().add_many(many, options));
    assert!(report.cancelled);
    assert_eq!((report.seen, report.added), (3, 3));
}

#[test]
fn batch_sizes_of_nothing_and_of_a_billion_are_refused() {
    for size in [0, 1_001, 1_000_000_000] {
        let memory = mock_memory(MockRecordStore::new(), MockStoreMeta::new());
        let tenant = memory.default_tenant();
        let options = AddManyOptions::new().with_batch_size(size);
        let report = block_on(tenant.add_many([note("x")], options));
        assert_eq!(report.stopped.unwrap().kind(), ErrorKind::InvalidInput);
        let options = ImportOptions::new("x").with_batch_size(size);
        let report = block_on(tenant.import(&b"{}"[..], options));
        assert_eq!(report.stopped.unwrap().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn an_id_that_is_taken_between_read_and_commit_is_one_failure() {
    let mut records = MockRecordStore::new();
    let taken = Arc::new(Mutex::new(false));
    let state = taken.clone();
    records.expect_fetch().returning(move |_, ids, _| {
        let taken = *state.lock().unwrap();
        Ok(ids
            .iter()
            .map(|wanted| (taken && wanted.as_str() == "b").then(|| stored("b", "other", 9)))
            .collect())
    });
    records.expect_commit().returning(move |_, commit| {
        if commit.writes.iter().any(|write| write.id().as_str() == "b") {
            *taken.lock().unwrap() = true;
            return Err(Error::new(ErrorKind::AlreadyExists, "taken"));
        }
        Ok(written(&commit))
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let many = ["a", "b", "c"].map(|name| note("x").with_id(id(name)));
    let tenant = memory.default_tenant();
    let report = block_on(tenant.add_many(many.clone(), AddManyOptions::new()));
    assert_eq!((report.added, report.failed, report.skipped), (2, 1, 0));
    let options = AddManyOptions::new().with_on_conflict(OnConflict::Skip);
    let report = block_on(tenant.add_many(many, options));
    assert_eq!((report.added, report.failed, report.skipped), (2, 0, 1));
}

#[test]
fn a_lost_race_for_the_space_takes_the_winners() {
    let theirs = EmbeddingSpace::new("theirs", "1", 2, Metric::Dot).unwrap();
    let space = theirs.clone();
    let mut meta = MockStoreMeta::new();
    let reads = AtomicUsize::new(0);
    meta.expect_spaces().times(2).returning(move |_| {
        let raced = reads.fetch_add(1, Ordering::SeqCst) > 0;
        Ok(TenantSpaces { active: raced.then(|| space.clone()), ..TenantSpaces::default() })
    });
    meta.expect_set_spaces()
        .times(1)
        .returning(|_, _| Err(Error::new(ErrorKind::Conflict, "somebody else changed them")));
    let mut records = MockRecordStore::new();
    records.expect_commit().times(1).returning(move |_, commit| {
        let Write::Put(put) = &commit.writes[0] else { panic!("an add is a put") };
        let wanted = [(theirs.id(), vec![1.0, 0.0])].into();
        assert_eq!(put.vectors, Vectors::Replace(wanted));
        Ok(written(&commit))
    });
    let memory = mock_memory(records, meta);
    block_on(memory.default_tenant().add(note("x").with_embedding(vec![1.0, 0.0]))).unwrap();
}

#[test]
fn a_space_that_keeps_changing_is_a_conflict_and_a_useless_vector_declares_nothing() {
    let mut meta = MockStoreMeta::new();
    meta.expect_spaces().returning(|_| Ok(TenantSpaces::default()));
    meta.expect_set_spaces()
        .times(4)
        .returning(|_, _| Err(Error::new(ErrorKind::Conflict, "somebody else changed them")));
    let memory = mock_memory(MockRecordStore::new(), meta);
    let tenant = memory.default_tenant();
    for vector in [vec![], vec![f32::NAN], vec![0.0, 0.0], vec![1.0; 8_193]] {
        let error = block_on(tenant.add(note("x").with_embedding(vector))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let error = block_on(tenant.add(note("x").with_embedding(vec![1.0]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
}

#[test]
fn settings_that_name_another_space_than_the_tenants_are_refused() {
    let mut meta = MockStoreMeta::new();
    meta.expect_spaces().returning(|_| {
        let active = Some(EmbeddingSpace::new("theirs", "1", 2, Metric::Cosine).unwrap());
        Ok(TenantSpaces { active, ..TenantSpaces::default() })
    });
    let mut settings = plain();
    settings.embedding = EmbeddingSettings::new("ours", 2);
    let memory = over(mock_backend(MockRecordStore::new(), meta), settings);
    let tenant = memory.default_tenant();
    let memory = note("x").with_embedding(vec![1.0, 0.0]);
    let error = block_on(tenant.add(memory.clone())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("ours") && error.message().contains("theirs"), "{error}");
    let report = block_on(tenant.add_many([memory], AddManyOptions::new()));
    assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Config);
}

#[test]
fn an_erasure_goes_on_where_its_step_ended_and_needs_a_receipt() {
    let mut records = MockRecordStore::new();
    records.expect_erase().times(3).returning(|_, _, resume| {
        let step = resume.map_or(0, |token| token.0.parse::<u32>().unwrap());
        let done = step == 2;
        Ok(EraseStep {
            erased: 10,
            next: (!done).then(|| EraseToken((step + 1).to_string())),
            receipt: done.then(|| EraseReceipt {
                began_at: start(),
                ended_at: start(),
                bytes_cleared: true,
            }),
        })
    });
    let steps = Arc::new(AtomicUsize::new(0));
    let heard = steps.clone();
    let options = EraseOptions::new().with_progress(Callback::new(
        move |progress: &orchestra_memory::EraseProgress| {
            let steps = heard.fetch_add(1, Ordering::SeqCst) + 1;
            assert_eq!((progress.steps, progress.removed), (steps as u64, steps as u64 * 10));
        },
    ));
    let memory = mock_memory(records, MockStoreMeta::new());
    let report = block_on(memory.default_tenant().erase_user(&user("ada"), options)).unwrap();
    assert_eq!((report.erased, report.receipt.bytes_cleared), (30, true));
    assert_eq!(steps.load(Ordering::SeqCst), 3);

    // The tenant guard says so, and where there is none, the handle itself.
    for (apply, kind) in
        [(ApplyLayers::Auto, ErrorKind::Corrupt), (ApplyLayers::None, ErrorKind::Unexpected)]
    {
        let mut records = MockRecordStore::new();
        records
            .expect_erase()
            .times(1)
            .returning(|_, _, _| Ok(EraseStep { erased: 0, next: None, receipt: None }));
        let mut settings = plain();
        settings.layers.apply = apply;
        let memory = over(mock_backend(records, MockStoreMeta::new()), settings);
        let erased = block_on(memory.default_tenant().erase_tenant(EraseOptions::new()));
        assert_eq!(erased.unwrap_err().kind(), kind);
    }
}

#[test]
fn a_purge_ends_even_if_the_store_promises_more_for_ever() {
    let mut records = MockRecordStore::new();
    let steps = AtomicUsize::new(0);
    records.expect_sweep_expired().times(3).returning(move |_, limit| {
        assert_eq!(limit, 1_000);
        let removed = if steps.fetch_add(1, Ordering::SeqCst) < 2 { 7 } else { 0 };
        Ok(SweepStep { removed, more: true })
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    assert_eq!(block_on(memory.default_tenant().purge_expired(EraseOptions::new())).unwrap(), 14);
}

#[test]
fn the_shorter_timeout_is_the_deadline_and_the_tenant_is_the_handles() {
    let mut records = MockRecordStore::new();
    records.expect_commit().times(1).returning(|context, commit| {
        assert_eq!(context.tenant.as_str(), "acme");
        let left = context.deadline.unwrap().remaining(Duration::ZERO);
        assert_eq!(left, Duration::from_secs(2));
        Ok(written(&commit))
    });
    let memory = mock_memory(records, MockStoreMeta::new());
    let tenant = memory.tenant("acme").unwrap().with_timeout(Duration::from_secs(2));
    let options = AddOptions::new().with_timeout(Duration::from_secs(5));
    let receipt = block_on(tenant.add_with(note("x"), options)).unwrap();
    assert_eq!(receipt.outcome, AddOutcome::Added);
    for bad in ["", "a\0b", &"x".repeat(10_240)] {
        assert_eq!(memory.tenant(bad).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn health_and_close_speak_for_every_part() {
    let mut records = MockRecordStore::new();
    records.expect_health().times(1).returning(|| {
        let mut health = Health::healthy();
        health.lower(HealthStatus::Degraded, "slow");
        health
    });
    records.expect_close().times(1).returning(|| Ok(()));
    let mut backend = mock_backend(records, MockStoreMeta::new());
    let mut vectors = memory_core::traits::MockVectorIndex::new();
    vectors.expect_capabilities().returning(|| crate::support::capabilities("mock"));
    vectors.expect_health().times(1).returning(Health::healthy);
    vectors.expect_close().times(1).returning(|| Err(Error::new(ErrorKind::Unavailable, "gone")));
    backend.vectors = Arc::new(vectors);
    let mut keywords = memory_core::traits::MockKeywordIndex::new();
    keywords.expect_capabilities().returning(|| crate::support::capabilities("mock"));
    keywords.expect_health().times(1).returning(Health::healthy);
    keywords.expect_close().times(1).returning(|| Ok(()));
    backend.keywords = Some(Arc::new(keywords));
    let memory = over(backend, plain());
    let health = block_on(memory.health());
    assert_eq!(
        (health.status, health.reasons),
        (HealthStatus::Degraded, vec!["records: slow".to_owned()])
    );
    // One part that fails keeps no other from being closed.
    assert_eq!(block_on(memory.close()).unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn an_import_takes_back_what_was_erased_while_it_wrote() {
    // Nothing was erased when the import looked, and one id was by the time it had written.
    let mut meta = MockStoreMeta::new();
    let looks = AtomicUsize::new(0);
    meta.expect_erased().times(2).returning(move |_, ids| {
        let first = looks.fetch_add(1, Ordering::SeqCst) == 0;
        Ok(ids.iter().map(|id| !first && id.as_str() == "gone").collect())
    });
    let mut records = MockRecordStore::new();
    let deleted = Arc::new(Mutex::new(Vec::new()));
    let log = deleted.clone();
    records.expect_commit().times(2).returning(move |_, commit| {
        for write in &commit.writes {
            if let Write::Delete(delete) = write {
                log.lock().unwrap().push((delete.id.clone(), delete.precondition.clone()));
            }
        }
        Ok(written(&commit))
    });
    let memory = mock_memory(records, meta);
    let lines = "{\"id\":\"gone\",\"user_id\":\"ada\",\"content\":\"x\"}\n\
                 {\"id\":\"stays\",\"user_id\":\"ada\",\"content\":\"y\"}\n";
    let import = memory.default_tenant();
    let report = block_on(import.import(lines.as_bytes(), ImportOptions::new("lines")));
    assert!(report.stopped.is_none(), "{report:?}");
    assert_eq!((report.added, report.erased), (1, 1), "{report:?}");
    let deleted = deleted.lock().unwrap();
    assert_eq!(deleted.len(), 1);
    assert_eq!(deleted[0].0, id("gone"));
    assert!(matches!(deleted[0].1, Precondition::Revision(_)), "only what this import wrote");
}

//! Loads of many memories: each write by itself, in bounded requests, told of as they go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memory_core::traits::{
    BulkObserver, BulkProgress, BulkWriter, FencingToken, LeaseStore, NoObserver, RecordStore,
};
use memory_core::{
    CallContext, Clock as _, Commit, CommitId, Deadline, ErrorKind, Filter, IdSource as _,
    MemoryId, MemoryItem, Outcome, Precondition, RandomIds, TenantId, UserId, Vectors, Write,
};
use memory_firestore::Ramp;

use crate::common::FirestoreHarness;

#[derive(Default)]
struct Seen(Mutex<Vec<BulkProgress>>);

impl BulkObserver for Seen {
    fn progress(&self, progress: BulkProgress) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(progress);
    }
}

fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).expect("a tenant id"))
}

fn item(harness: &FirestoreHarness, id: &str) -> MemoryItem {
    MemoryItem::new(MemoryId::new(id).expect("an id"), format!("text of {id}"), harness.clock.now())
        .expect("a valid item")
        .with_user(UserId::new("ada").expect("a user id"))
}

fn create(item: MemoryItem) -> Write {
    Write::put(item, Vectors::default(), Precondition::Absent)
}

fn commit_id() -> CommitId {
    RandomIds.commit_id()
}

#[tokio::test]
async fn one_that_fails_takes_no_other_with_it() {
    let Some(harness) = FirestoreHarness::new(|settings| settings.bulk.batch_documents = 7).await
    else {
        return;
    };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let store = &harness.store;
    let there = Commit::new(commit_id(), vec![create(item(&harness, "005"))]);
    store.commit(&context, there).await.expect("a commit");

    let mut writes: Vec<_> = (0..40).map(|n| create(item(&harness, &format!("{n:03}")))).collect();
    // No vector of the space, nobody's, and a revision of nothing.
    let misshapen = Vectors::Replace(BTreeMap::from([(space.id(), vec![1.0, 2.0])]));
    writes[11] = Write::put(item(&harness, "011"), misshapen, Precondition::Absent);
    let mut orphan = item(&harness, "012");
    orphan.user_id = None;
    writes[12] = create(orphan);
    let revision = memory_core::Revision::new("1.-.000000000000000000000000").expect("a revision");
    writes[33] =
        Write::put(item(&harness, "033"), Vectors::default(), Precondition::Revision(revision));
    writes[34] = Write::delete(MemoryId::new("never was").expect("an id"), Precondition::Any);

    let seen = Seen::default();
    let answers = store
        .write_many(&context, commit_id(), writes, false, &seen)
        .await
        .expect("the load as a whole");
    let failed: Vec<_> = answers
        .iter()
        .enumerate()
        .filter_map(|(place, answer)| answer.as_ref().err().map(|error| (place, error.kind())))
        .collect();
    let expected = [
        (5, ErrorKind::AlreadyExists),
        (11, ErrorKind::InvalidInput),
        (12, ErrorKind::InvalidInput),
        (33, ErrorKind::NotFound),
    ];
    assert_eq!(failed, expected);
    assert!(answers.iter().flatten().all(|result| !result.existed));
    let count = store.count(&context, &Filter::All).await.expect("a count");
    assert_eq!(count, 40 - 3 - 1, "all but the three that cannot be and the delete");

    let seen = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
    let last = *seen.last().expect("a report");
    assert_eq!(last, BulkProgress { done: 40, failed: 4, total: 40 });
    assert!(seen.len() >= 6 && seen.windows(2).all(|two| two[0].done < two[1].done), "{seen:?}");
}

#[tokio::test]
async fn a_load_that_is_sent_again_recognises_its_own_work() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (context, store) = (tenant("t"), &harness.store);
    let writes =
        || (0..120).map(|n| create(item(&harness, &format!("{n:03}")))).collect::<Vec<_>>();
    let id = commit_id();
    let first = store.write_many(&context, id, writes(), false, &NoObserver).await.expect("a load");
    let again = store.write_many(&context, id, writes(), true, &NoObserver).await.expect("again");
    for (first, again) in first.iter().zip(&again) {
        let (first, again) = (first.as_ref().expect("written"), again.as_ref().expect("its own"));
        assert_eq!(first.revision, again.revision);
    }
    let other = store.write_many(&context, commit_id(), writes(), true, &NoObserver).await;
    let other = other.expect("the load as a whole");
    assert!(
        other.iter().all(|answer| {
            answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict)
        })
    );
    assert_eq!(store.count(&context, &Filter::All).await.expect("a count"), 120);
}

#[tokio::test]
async fn what_the_deadline_leaves_is_answered_so_and_not_written() {
    let Some(harness) = FirestoreHarness::new(|settings| {
        settings.bulk.ramp = Ramp::On;
        settings.bulk.ramp_start = 100;
        settings.bulk.batch_documents = 50;
        settings.bulk.concurrency = 1;
    })
    .await
    else {
        return;
    };
    let (context, store) = (tenant("t"), &harness.store);
    // The clock of the test stands still, so the pace alone decides: the second request would have
    // to wait for half a second and the deadline is before that.
    let by = harness.clock.monotonic() + Duration::from_millis(400);
    let hurried = context.clone().with_deadline(Some(Deadline::at(by)));
    let writes = (0..150).map(|n| create(item(&harness, &format!("{n:03}")))).collect();
    let answers = store
        .write_many(&hurried, commit_id(), writes, false, &NoObserver)
        .await
        .expect("the load as a whole");
    let late = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(late.clone().all(|error| {
        error.kind() == ErrorKind::Timeout && error.outcome() == Outcome::NotApplied
    }));
    assert_eq!(late.count(), 100);
    assert_eq!(store.count(&context, &Filter::All).await.expect("a count"), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_dropped_sends_nothing_more() {
    let Some(harness) = FirestoreHarness::new(|settings| {
        settings.bulk.ramp = Ramp::On;
        settings.bulk.ramp_start = 10;
        settings.bulk.batch_documents = 10;
        settings.bulk.concurrency = 1;
    })
    .await
    else {
        return;
    };
    let (context, store) = (tenant("t"), Arc::clone(&harness.store));
    let writes: Vec<_> = (0..100).map(|n| create(item(&harness, &format!("{n:03}")))).collect();
    let seen = Arc::new(Seen::default());
    let load = {
        let (context, store, seen) = (context.clone(), Arc::clone(&store), Arc::clone(&seen));
        tokio::spawn(
            async move { store.write_many(&context, commit_id(), writes, false, &*seen).await },
        )
    };
    // The pace holds the second request back for a second: the load is dropped before.
    let answered = || !seen.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
    tokio::time::timeout(Duration::from_secs(20), async {
        while !answered() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the first request is answered");
    load.abort();
    assert!(load.await.is_err_and(|error| error.is_cancelled()));
    let count = store.count(&context, &Filter::All).await.expect("a count");
    assert!((10..100).contains(&count), "{count} of 100");
    store.close().await.expect("nothing is under way that a close would wait for");
}

#[tokio::test]
async fn a_fence_keeps_a_load_out_and_twice_the_same_id_is_refused() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (context, store) = (tenant("t"), &harness.store);
    let twice = vec![create(item(&harness, "a")), create(item(&harness, "a"))];
    let refused = store.write_many(&context, commit_id(), twice, false, &NoObserver).await;
    assert_eq!(refused.expect_err("one id twice").kind(), ErrorKind::InvalidInput);

    let one = || vec![create(item(&harness, "a"))];
    let token = FencingToken(7);
    let holder = context.clone().with_fence(Some(token));
    // Another process sets the fence: this one knows the tenant without it.
    let first = store.write_many(&context, commit_id(), one(), false, &NoObserver).await;
    assert!(first.expect("a load")[0].is_ok());
    harness.another().await.set_write_fence(&holder, Some(token)).await.expect("a fence");
    let two = || vec![create(item(&harness, "b"))];
    let late = store.write_many(&context, commit_id(), two(), false, &NoObserver).await;
    let late = late.map(|mut answers| answers.remove(0)).and_then(|answer| answer);
    assert_eq!(late.expect_err("a fence stands").kind(), ErrorKind::Conflict);
    let held = store.write_many(&holder, commit_id(), two(), false, &NoObserver).await;
    assert!(held.expect("a load")[0].is_ok());
}

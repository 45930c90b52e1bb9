//! Loads of many memories whose connections are cut, and loads that are sent again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{BulkWriter as _, NoObserver, RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, CommitId, Error, ErrorKind, Filter, IdSource as _, MemoryId, Outcome,
    Precondition, RandomIds, Result, Revision, Write, WriteResult,
};
use memory_firestore::FirestoreSettings;
use memory_testkit::proxy::{Cut, Plan};
use tokio::task::JoinSet;

use super::rig::{Rig, SLACK, recovered};
use crate::common::{id, item, put, tenant};

/// Loads at once.
const LOADS: usize = 16;
/// Memories of each.
const MEMORIES: usize = 40;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(10);
/// Calls after which a load says that it never gets through.
const ATTEMPTS: usize = 200;

/// Several requests a load, none of which ends where a load sent again begins.
fn small_requests(settings: &mut FirestoreSettings) {
    settings.bulk.batch_documents = 7;
}

fn creates(load: usize) -> Vec<Write> {
    let name = |n| format!("{load}-{n}");
    (0..MEMORIES).map(|n| put(item(&name(n), "a memory"), Precondition::Absent)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_are_cut_before_the_server_has_them() {
    cut(21, Plan::pass().cut_percent(Cut::BeforeForwarding, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_are_cut_before_their_answer() {
    cut(22, Plan::pass().cut_percent(Cut::BeforeAnswering, 8)).await;
}

async fn cut(seed: u64, plan: Plan) {
    let Some(rig) = Rig::new(seed, small_requests).await else { return };
    let rig = Arc::new(rig);
    rig.proxy.set(plan);
    let mut loads = JoinSet::new();
    for load in 0..LOADS {
        let rig = Arc::clone(&rig);
        loads.spawn(async move { insist(&rig, &tenant("t"), creates(load)).await });
    }
    let acknowledged: Vec<_> = loads.join_all().await.into_iter().flatten().collect();
    assert!(rig.proxy.stats().cuts >= 5, "too few cuts: {}", rig.proxy.describe());

    let context = tenant("t");
    let count = rig.direct.count(&context, &Filter::All).await.unwrap();
    assert_eq!(count as usize, LOADS * MEMORIES, "{}", rig.proxy.describe());
    assert_eq!(acknowledged.len(), LOADS * MEMORIES);
    for (id, revision) in acknowledged {
        let found = rig.direct.fetch_one(&context, &id).await.unwrap().unwrap();
        assert_eq!(found.revision, Some(revision), "{id} was written again");
    }
    rig.proxy.heal();
    recovered(&rig.store, &context).await;
}

/// Sends writes until each is acknowledged: those whose outcome is unknown with `resend`, and the
/// others as they are.
async fn insist(
    rig: &Rig,
    context: &CallContext,
    writes: Vec<Write>,
) -> BTreeMap<MemoryId, Revision> {
    let commit = RandomIds.commit_id();
    let mut acknowledged = BTreeMap::new();
    let (mut fresh, mut lost) = (writes, Vec::new());
    for _ in 0..ATTEMPTS {
        let mut next = (Vec::new(), Vec::new());
        for (part, resend) in
            [(std::mem::take(&mut fresh), false), (std::mem::take(&mut lost), true)]
        {
            if part.is_empty() {
                continue;
            }
            let answers = send(rig, context, commit, &part, resend).await;
            for (write, answer) in part.into_iter().zip(answers) {
                match answer {
                    Ok(result) => {
                        let revision = result.revision.expect("a put has a revision");
                        assert!(acknowledged.insert(result.id, revision).is_none());
                    }
                    Err(error) => {
                        let kind = error.kind();
                        assert!(
                            matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout)
                                && error.is_retryable(),
                            "resent: {resend}, {error:?}: {}",
                            rig.proxy.describe()
                        );
                        // What was unknown once stays so until it is acknowledged.
                        if resend || error.outcome() == Outcome::Unknown {
                            next.1.push(write);
                        } else {
                            next.0.push(write);
                        }
                    }
                }
            }
        }
        if next.0.is_empty() && next.1.is_empty() {
            return acknowledged;
        }
        (fresh, lost) = next;
    }
    panic!("never acknowledged: {}", rig.proxy.describe());
}

/// One call: an answer for each write.
async fn send(
    rig: &Rig,
    context: &CallContext,
    commit: CommitId,
    writes: &[Write],
    resend: bool,
) -> Vec<Result<WriteResult>> {
    let context = rig.within(context, DEADLINE);
    let call = rig.store.write_many(&context, commit, writes.to_vec(), resend, &NoObserver);
    let (answers, took) = rig.timed(call).await;
    assert!(took < DEADLINE + SLACK, "{took:?}: {}", rig.proxy.describe());
    match answers {
        Ok(answers) => {
            assert_eq!(answers.len(), writes.len());
            answers
        }
        // Where the store does not get as far as the writes, the error is that of each.
        Err(error) => {
            assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
            let again =
                || Error::new(error.kind(), "the call").with_retryable(error.is_retryable());
            writes.iter().map(|_| Err(again())).collect()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_sent_again_knows_its_own_work_among_what_was_never_done() {
    let Some(rig) = Rig::new(23, |_| {}).await else { return };
    let context = tenant("t");
    let commit = RandomIds.commit_id();
    let create = |name: &str| put(item(name, "a memory"), Precondition::Absent);
    let send = |writes: Vec<Write>, resend| {
        let store = Arc::clone(&rig.store);
        let context = context.clone();
        async move { store.write_many(&context, commit, writes, resend, &NoObserver).await }
    };
    // Somebody else's.
    let other = RandomIds.commit_id();
    let taken = vec![create("taken")];
    rig.store.write_many(&context, other, taken, false, &NoObserver).await.unwrap();

    let first = send(vec![create("a"), create("b")], false).await.unwrap();
    let first: Vec<_> = first.into_iter().map(|answer| answer.unwrap().revision).collect();
    let writes = vec![create("a"), create("never"), create("taken"), create("b")];
    let again = send(writes, true).await.unwrap();
    let [a, never, taken, b] = &again[..] else { panic!("four answers: {again:?}") };
    assert_eq!(a.as_ref().unwrap().revision, first[0]);
    assert_eq!(b.as_ref().unwrap().revision, first[1]);
    assert!(never.as_ref().is_ok_and(|result| !result.existed), "{never:?}");
    // It may have been another's all along, or a later writer's.
    let kind = taken.as_ref().unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::AlreadyExists | ErrorKind::Conflict), "{taken:?}");
    let found = rig.direct.fetch_one(&context, &id("never")).await.unwrap();
    assert!(found.is_some(), "what was never done is done now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_ends_at_its_deadline_and_says_what_was_not_sent() {
    let Some(rig) = Rig::new(24, small_requests).await else { return };
    let context = tenant("t");
    recovered(&rig.store, &context).await;
    // The first requests are swallowed, the others are never sent.
    rig.proxy.set(Plan::pass().black_hole());
    let span = Duration::from_millis(600);
    let within = rig.within(&context, span);
    let call = rig.store.write_many(&within, RandomIds.commit_id(), creates(0), false, &NoObserver);
    let (answers, took) = rig.timed(call).await;
    assert!(took >= span && took < span + SLACK, "{took:?}");
    match answers {
        Ok(answers) => {
            assert_eq!(answers.len(), MEMORIES);
            for answer in answers {
                let error = answer.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
            }
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}"),
    }
    rig.proxy.heal();
    recovered(&rig.store, &context).await;
    assert_eq!(rig.direct.count(&context, &Filter::All).await.unwrap(), 0);
}

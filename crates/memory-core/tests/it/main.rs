//! The mocks as a downstream crate uses them: a unit test of a caller's own code, without a store.
#![cfg(feature = "mock")]

use std::sync::Arc;
use std::time::Duration;

use futures::executor::block_on;
use memory_core::traits::{MockRecordStore, RecordStore, RecordStoreExt};
use memory_core::{
    CallContext, Clock, Commit, CommitReceipt, Error, ErrorKind, IdSource, ManualClock, MemoryId,
    MemoryItem, Outcome, Precondition, Result, SequentialIds, TenantId, Timestamp, UserId, Vectors,
    Write,
};

/// What a downstream crate might write: remember a note once, and once more if the answer is lost.
async fn remember(
    store: Arc<dyn RecordStore>,
    clock: &dyn Clock,
    ids: &dyn IdSource,
    text: &str,
) -> Result<CommitReceipt> {
    let context = CallContext::new(TenantId::new("acme")?);
    let item = MemoryItem::new(ids.memory_id(), text, clock.now())?.with_user(UserId::new("ada")?);
    let commit = Commit::new(
        ids.commit_id(),
        vec![Write::put(item, Vectors::default(), Precondition::Absent)],
    );
    match store.commit(&context, commit.clone()).await {
        Err(error) if error.is_retryable() && error.outcome() == Outcome::Unknown => {
            store.commit(&context, commit.resent()).await
        }
        answer => answer,
    }
}

fn parts() -> (ManualClock, SequentialIds) {
    (ManualClock::new(Timestamp::MIN), SequentialIds::default())
}

#[test]
fn a_lost_answer_is_sent_again_under_the_same_commit_id() {
    let mut store = MockRecordStore::new();
    let mut sent = Vec::new();
    store.expect_commit().times(2).returning(move |context, commit| {
        assert_eq!(context.tenant.as_str(), "acme");
        sent.push((commit.id, commit.resend));
        if sent.len() == 1 {
            return Err(Error::new(ErrorKind::Unavailable, "cut off").with_unknown_outcome());
        }
        assert_eq!(sent[0].0, sent[1].0);
        assert_eq!((sent[0].1, sent[1].1), (false, true));
        Ok(CommitReceipt { results: Vec::new(), position: None, replayed: true })
    });
    let (clock, ids) = parts();
    let receipt = block_on(remember(Arc::new(store), &clock, &ids, "tea")).unwrap();
    assert!(receipt.replayed);
}

#[test]
fn a_known_failure_is_not_sent_again() {
    let mut store = MockRecordStore::new();
    store
        .expect_commit()
        .times(1)
        .returning(|_, _| Err(Error::new(ErrorKind::AlreadyExists, "taken")));
    let (clock, ids) = parts();
    let error = block_on(remember(Arc::new(store), &clock, &ids, "tea")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn conveniences_rest_on_the_mocked_methods() {
    let mut store = MockRecordStore::new();
    store.expect_fetch().times(1).returning(|_, ids, _| Ok(vec![None; ids.len()]));
    let context = CallContext::new(TenantId::new("acme").unwrap());
    let found = block_on(store.fetch_one(&context, &MemoryId::new("x").unwrap())).unwrap();
    assert!(found.is_none());
}

#[test]
fn the_manual_clock_moves_only_when_told() {
    let (clock, _) = parts();
    let start = clock.now();
    assert_eq!(clock.now(), start);
    clock.advance(Duration::from_secs(60));
    assert_eq!(clock.now(), start.saturating_add(Duration::from_secs(60)));
    assert_eq!(clock.monotonic(), Duration::from_secs(60));
}

//! The fault store does what it says, and a caller who resends loses and doubles nothing.

use std::sync::Arc;

use futures::executor::block_on;
use memory_core::traits::RecordStore;
use memory_core::{
    CallContext, Commit, CommitId, ErrorKind, Filter, MemoryId, MemoryItem, Outcome, Precondition,
    Projection, TenantId, Timestamp, UserId, Vectors, Write,
};
use memory_testkit::{Fault, FaultRates, FaultStore, Harness, ReferenceHarness};

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap())
}

fn put(id: &str, content: &str, precondition: Precondition) -> Write {
    let item = MemoryItem::new(MemoryId::new(id).unwrap(), content, Timestamp::MIN)
        .unwrap()
        .with_user(UserId::new("u").unwrap());
    Write::put(item, Vectors::default(), precondition)
}

fn commit(number: u32, write: Write) -> Commit {
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    Commit::new(CommitId::from_bytes(id), vec![write])
}

#[test]
fn each_fault_does_what_it_says() {
    let reference = ReferenceHarness::new();
    let inner = reference.records();
    let store = FaultStore::new(Arc::clone(&inner), 1, FaultRates::NONE);
    let context = context();
    let count = |store: &dyn RecordStore| block_on(store.count(&context, &Filter::All)).unwrap();
    store.script([
        Some(Fault::Refused(ErrorKind::RateLimited)),
        Some(Fault::CallLost),
        Some(Fault::AnswerLost),
        None,
    ]);
    let send = || block_on(store.commit(&context, commit(1, put("a", "x", Precondition::Absent))));
    let error = send().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::RateLimited, Outcome::NotApplied));
    assert!(error.retry_after().is_some() && error.is_retryable());
    assert_eq!(send().unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(count(&*inner), 0, "a refused and a lost call did nothing");
    assert_eq!(send().unwrap_err().outcome(), Outcome::Unknown);
    assert_eq!(count(&*inner), 1, "the call whose answer was lost did what it should");
    assert_eq!(send().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.struck().len(), 3);
    assert_eq!(count(&store), 1, "no script, no rate, no fault");
}

#[test]
fn a_seed_repeats_its_faults() {
    let run = |seed| {
        let store = FaultStore::new(ReferenceHarness::new().records(), seed, FaultRates::each(20));
        for number in 0..100 {
            let _ = block_on(
                store.commit(&context(), commit(number, put("a", "x", Precondition::Any))),
            );
        }
        store.struck()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
    assert!(run(3).len() > 30, "faults at 60 percent");
}

#[test]
fn who_resends_loses_and_doubles_nothing() {
    for seed in 0..20 {
        let store = FaultStore::new(ReferenceHarness::new().records(), seed, FaultRates::each(20));
        let context = context();
        let ids = [MemoryId::new("counter").unwrap()];
        let retry = |mut commit: Commit| loop {
            match block_on(store.commit(&context, commit.clone())) {
                Ok(receipt) => return receipt,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    commit.resend |= error.outcome() == Outcome::Unknown;
                }
            }
        };
        let mut last = retry(commit(0, put("counter", "0", Precondition::Absent)));
        for number in 1..=30_u32 {
            let revision = last.results[0].revision.clone().unwrap();
            let swap = put("counter", &number.to_string(), Precondition::Revision(revision));
            last = retry(commit(number, swap));
        }
        let found = loop {
            if let Ok(found) = block_on(store.fetch(&context, &ids, &Projection::full())) {
                break found;
            }
        };
        let counter = found[0].as_ref().unwrap();
        assert_eq!(counter.content(), "30", "seed {seed}");
        assert_eq!(counter.revision, last.results[0].revision, "seed {seed}");
        assert!(store.struck().iter().any(|(_, fault)| *fault == Fault::AnswerLost));
    }
}

//! Connections are cut under sixteen callers: what was acknowledged is there, once.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, Commit, CommitReceipt, ErrorKind, Filter, IdSource as _, IdempotencyKey,
    MemoryItem, MetaKey, MetaValue, Outcome, Precondition, RandomIds, Revision, Write,
};
use memory_testkit::proxy::{Cut, Plan};
use tokio::task::JoinSet;

use super::rig::{Rig, SLACK};
use crate::common::{id, item, put, revision, tenant};

/// Callers at once.
const CALLERS: usize = 16;
/// Creates of each, and additions of each to a number of its own.
const ROUNDS: usize = 6;
/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(5);
/// Attempts after which a caller says that it never gets through.
const ATTEMPTS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_cut_before_the_server_has_them() {
    cut(11, Plan::pass().cut_percent(Cut::BeforeForwarding, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_cut_before_their_answer() {
    cut(12, Plan::pass().cut_percent(Cut::BeforeAnswering, 8)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_reset_on_either_side_of_the_server() {
    let plan = Plan::pass()
        .cut_percent(Cut::BeforeForwarding, 5)
        .cut_percent(Cut::BeforeAnswering, 5)
        .resetting();
    cut(13, plan).await;
}

async fn cut(seed: u64, plan: Plan) {
    let Some(rig) = Rig::new(seed, |_| {}).await else { return };
    let rig = Arc::new(rig);
    rig.proxy.set(plan);
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let rig = Arc::clone(&rig);
        callers.spawn(async move { call(&rig, caller).await });
    }
    let acknowledged: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let stats = rig.proxy.stats();
    assert!(stats.cuts >= 5, "too few cuts to prove anything: {}", rig.proxy.describe());

    let context = tenant("t");
    let count = rig.direct.count(&context, &Filter::All).await.unwrap();
    assert_eq!(count as usize, CALLERS * (ROUNDS + 1), "{}", rig.proxy.describe());
    assert_eq!(acknowledged.len(), CALLERS * ROUNDS);
    for (name, revision) in acknowledged {
        let found = rig.direct.fetch_one(&context, &id(&name)).await.unwrap().unwrap();
        assert_eq!(found.content(), content(&name));
        assert_eq!(found.revision, Some(revision), "{name} was written again");
    }
    for caller in 0..CALLERS {
        let found = rig.direct.fetch_one(&context, &id(&number_of(caller))).await.unwrap().unwrap();
        assert_eq!(value(&found), ROUNDS as i64, "an addition was lost or made twice");
    }
    // The store has outlived it.
    rig.proxy.heal();
    super::rig::recovered(&rig.store, &context).await;
}

/// One caller: the names that it created and their revisions. Every other one has idempotency keys.
async fn call(rig: &Rig, caller: usize) -> Vec<(String, Revision)> {
    let context = tenant("t");
    let number = number_of(caller);
    let key = |name: &str| (caller % 2 == 1).then(|| format!("the key of {name}"));
    let zero = put(with_value(item(&number, "a number"), 0), Precondition::Absent);
    insist(rig, &context, zero, key(&number)).await;
    let mut created = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("{caller}-{round}");
        let create = put(item(&name, &content(&name)), Precondition::Absent);
        let receipt = insist(rig, &context, create, key(&name)).await;
        created.push((name, revision(&receipt)));

        let before = read(rig, &context, &number).await;
        let seen = before.revision.clone().unwrap();
        let next = value(&before) + 1;
        let write = put(with_value(before, next), Precondition::Revision(seen));
        insist(rig, &context, write, key(&format!("{number} to {next}"))).await;
    }
    created
}

/// Sends a write until it is acknowledged, as callers do who keep to the contract: with `resend`
/// from the first outcome on that is unknown, or each time anew under one key.
async fn insist(
    rig: &Rig,
    context: &CallContext,
    write: Write,
    key: Option<String>,
) -> CommitReceipt {
    let id = RandomIds.commit_id();
    let key = key.map(|key| IdempotencyKey::new(key, [7; 32]).expect("a valid key"));
    let mut unknown = false;
    for _ in 0..ATTEMPTS {
        let mut attempt = Commit::new(id, vec![write.clone()]);
        if key.is_some() {
            attempt.id = RandomIds.commit_id();
            attempt = attempt.with_idempotency(key.clone());
        } else if unknown {
            attempt = attempt.resent();
        }
        let context = rig.within(context, DEADLINE);
        let (answer, took) = rig.timed(rig.store.commit(&context, attempt)).await;
        assert!(took < DEADLINE + SLACK, "{took:?}: {}", rig.proxy.describe());
        match answer {
            Ok(receipt) => return receipt,
            Err(error) => {
                let expected = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
                assert!(
                    expected && error.is_retryable(),
                    "resent: {unknown}, {error:?}: {}",
                    rig.proxy.describe()
                );
                unknown |= error.outcome() == Outcome::Unknown;
            }
        }
    }
    panic!("never acknowledged: {}", rig.proxy.describe());
}

/// Reads an item until there is an answer.
async fn read(rig: &Rig, context: &CallContext, name: &str) -> MemoryItem {
    for _ in 0..ATTEMPTS {
        let context = rig.within(context, DEADLINE);
        let (answer, took) = rig.timed(rig.store.fetch_one(&context, &id(name))).await;
        assert!(took < DEADLINE + SLACK, "{took:?}: {}", rig.proxy.describe());
        match answer {
            Ok(found) => return found.expect("it was acknowledged"),
            Err(error) => {
                let expected = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout);
                assert!(expected && error.is_retryable(), "{error:?}");
                assert_eq!(error.outcome(), Outcome::NotApplied, "a read changes nothing");
            }
        }
    }
    panic!("never read: {}", rig.proxy.describe());
}

fn number_of(caller: usize) -> String {
    format!("number-{caller}")
}

fn content(name: &str) -> String {
    format!("what {name} is about")
}

fn key() -> MetaKey {
    MetaKey::new("value").expect("a valid key")
}

pub(crate) fn with_value(mut item: MemoryItem, value: i64) -> MemoryItem {
    item.metadata.insert(key(), MetaValue::Int(value));
    item
}

pub(crate) fn value(item: &MemoryItem) -> i64 {
    match item.metadata.get(&key()) {
        Some(MetaValue::Int(value)) => *value,
        other => panic!("no number: {other:?}"),
    }
}

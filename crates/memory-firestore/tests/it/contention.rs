//! Writers who meet on the same memories: nothing is lost, all finish, what belongs together stays
//! so.

use std::sync::Arc;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, ErrorKind, MemoryItem, Order, Precondition, Projection, Query, Result, Vectors,
    Write,
};
use memory_firestore::{FirestoreStore, GuardMode};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::common::{FirestoreHarness, add, commit, id, item, put, tenant};
use crate::faults::cuts::{value, with_value};

/// Writers at once.
const WRITERS: usize = 16;

async fn harness(guard: GuardMode) -> Option<FirestoreHarness> {
    FirestoreHarness::new(|settings| settings.guard = guard).await
}

/// Puts what was read back, if it is still as it was read.
fn put_back(item: MemoryItem) -> Write {
    let seen = item.revision.clone().expect("it was read");
    Write::put(item, Vectors::Keep, Precondition::Revision(seen))
}

/// Runs a task for each writer, all of them from the same moment on.
async fn together<F>(writers: usize, work: impl Fn(usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let barrier = Arc::new(Barrier::new(writers));
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let (barrier, work) = (Arc::clone(&barrier), work(writer));
        tasks.spawn(async move {
            barrier.wait().await;
            work.await;
        });
    }
    tasks.join_all().await;
}

/// Adds one to the number of a memory, however often somebody else is quicker.
async fn increment(store: &FirestoreStore, context: &CallContext) {
    for _ in 0..10_000 {
        let before = store.fetch_one(context, &id("number")).await.unwrap().unwrap();
        let next = value(&before) + 1;
        let write = put_back(with_value(before, next));
        match store.commit(context, commit(vec![write])).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }
    panic!("a writer never finishes");
}

async fn count_up(guard: GuardMode, writers: usize, times: usize) {
    let Some(harness) = harness(guard).await else { return };
    let context = tenant("t");
    let store = Arc::clone(&harness.store);
    add(&store, &context, with_value(item("number", "a number"), 0)).await.unwrap();
    together(writers, |_| {
        let (store, context) = (Arc::clone(&store), context.clone());
        async move {
            for _ in 0..times {
                increment(&store, &context).await;
            }
        }
    })
    .await;
    let after = store.fetch_one(&context, &id("number")).await.unwrap().unwrap();
    assert_eq!(value(&after), (writers * times) as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_add_to_one_number_and_nothing_is_lost() {
    count_up(GuardMode::Auto, WRITERS, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_transactions_add_to_one_number_and_nothing_is_lost() {
    count_up(GuardMode::Transaction, 4, 2).await;
}

/// All overwrite one memory, whatever is there: the revisions that they got, each its own.
async fn overwrite(guard: GuardMode, writers: usize) {
    let Some(harness) = harness(guard).await else { return };
    let context = tenant("t");
    let store = Arc::clone(&harness.store);
    let (sent, mut got) = tokio::sync::mpsc::unbounded_channel();
    together(writers, |writer| {
        let (store, context, sent) = (Arc::clone(&store), context.clone(), sent.clone());
        async move {
            let new = with_value(item("one", "a memory"), writer as i64);
            let receipt =
                store.commit(&context, commit(vec![put(new, Precondition::Any)])).await.unwrap();
            let revision = receipt.results[0].revision.clone().unwrap();
            sent.send((revision, writer as i64)).unwrap();
        }
    })
    .await;
    drop(sent);
    let mut revisions = Vec::new();
    while let Some(one) = got.recv().await {
        revisions.push(one);
    }
    assert_eq!(revisions.len(), writers);
    let found = store.fetch_one(&context, &id("one")).await.unwrap().unwrap();
    let last = revisions.iter().find(|(revision, _)| Some(revision) == found.revision.as_ref());
    assert_eq!(last.map(|(_, writer)| *writer), Some(value(&found)), "the last one's is there");
    let mut each: Vec<_> = revisions.iter().map(|(revision, _)| revision.to_string()).collect();
    each.sort();
    each.dedup();
    assert_eq!(each.len(), writers, "a revision was given twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_overwrite_one_memory_and_all_finish() {
    overwrite(GuardMode::Auto, WRITERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_transactions_overwrite_one_memory_and_all_finish() {
    overwrite(GuardMode::Transaction, 4).await;
}

/// All create one id: one of them wins, and the others are told.
async fn create(guard: GuardMode, writers: usize) {
    let Some(harness) = harness(guard).await else { return };
    let context = tenant("t");
    let store = Arc::clone(&harness.store);
    let (sent, mut got) = tokio::sync::mpsc::unbounded_channel();
    together(writers, |writer| {
        let (store, context, sent) = (Arc::clone(&store), context.clone(), sent.clone());
        async move {
            let new = with_value(item("one", "a memory"), writer as i64);
            sent.send((writer as i64, add(&store, &context, new).await)).unwrap();
        }
    })
    .await;
    drop(sent);
    let (mut won, mut lost) = (Vec::new(), 0);
    while let Some((writer, answer)) = got.recv().await {
        match answer {
            Ok(revision) => won.push((writer, revision)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
                lost += 1;
            }
        }
    }
    assert_eq!((won.len(), lost), (1, writers - 1));
    let found = store.fetch_one(&context, &id("one")).await.unwrap().unwrap();
    assert_eq!((value(&found), found.revision), (won[0].0, Some(won[0].1.clone())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sixteen_creates_of_one_id_one_wins() {
    create(GuardMode::Auto, WRITERS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_creates_in_transactions_one_wins() {
    create(GuardMode::Transaction, 4).await;
}

/// What there is to begin with on each of the two sides.
const STAKE: i64 = 100;

/// Both sides as of one moment: a page is one query.
async fn sides(store: &FirestoreStore, context: &CallContext) -> Result<(MemoryItem, MemoryItem)> {
    let page = store.query(context, &Query::new(5).with_order(Order::BY_ID)).await?;
    let [left, right] = page.items.try_into().expect("two memories");
    Ok((left, right))
}

/// Moves one from a side to the other, however often somebody else is quicker.
async fn transfer(store: &FirestoreStore, context: &CallContext, back: bool) {
    for _ in 0..10_000 {
        let ids = [id("left"), id("right")];
        let found = store.fetch(context, &ids, &Projection::full()).await.unwrap();
        let [Some(left), Some(right)] = &found[..] else { panic!("both are there: {found:?}") };
        let amount = if back { -1 } else { 1 };
        let writes = vec![
            put_back(with_value(left.clone(), value(left) - amount)),
            put_back(with_value(right.clone(), value(right) + amount)),
        ];
        match store.commit(context, commit(writes)).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }
    panic!("a writer never finishes");
}

async fn transfers(guard: GuardMode, writers: usize, times: usize) {
    let Some(harness) = harness(guard).await else { return };
    let context = tenant("t");
    let store = Arc::clone(&harness.store);
    for side in ["left", "right"] {
        add(&store, &context, with_value(item(side, "a side"), STAKE)).await.unwrap();
    }
    let reader = {
        let (store, context) = (harness.another().await, context.clone());
        tokio::spawn(async move {
            let mut seen = std::collections::BTreeSet::new();
            loop {
                let (left, right) = sides(&store, &context).await.unwrap();
                assert_eq!(value(&left) + value(&right), 2 * STAKE, "a half was seen");
                seen.insert(value(&left));
                tokio::task::yield_now().await;
                if value(&left) == -1 {
                    return seen.len();
                }
            }
        })
    };
    // Of each pair of writers one moves back what the other has moved, but for the first.
    together(writers, |writer| {
        let (store, context) = (Arc::clone(&store), context.clone());
        async move {
            for _ in 0..times {
                transfer(&store, &context, writer % 2 == 1).await;
            }
        }
    })
    .await;
    let (left, right) = sides(&store, &context).await.unwrap();
    assert_eq!((value(&left), value(&right)), (STAKE, STAKE), "a transfer was lost");
    // The sign for the reader to stop, itself a commit of both.
    let stop = vec![put_back(with_value(left, -1)), put_back(with_value(right, 2 * STAKE + 1))];
    store.commit(&context, commit(stop)).await.unwrap();
    let seen = reader.await.unwrap();
    assert!(seen > 2, "the reader saw nothing move: {seen} states");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_move_between_two_memories_and_the_sum_stays() {
    transfers(GuardMode::Auto, 8, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_transactions_move_between_two_memories_and_the_sum_stays() {
    transfers(GuardMode::Transaction, 2, 2).await;
}

//! Writers who meet on the same memories: nothing is lost, all finish, what belongs together stays
//! so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use memory_core::traits::{LeaseStore as _, RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, ErrorKind, LeaseName, MemoryItem, Order, Precondition, Projection, Query, Result,
    Revision, Vectors, Write,
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

/// Both sides, as a page has them.
async fn sides(store: &FirestoreStore, context: &CallContext) -> Result<(MemoryItem, MemoryItem)> {
    let page = store.query(context, &Query::new(5).with_order(Order::BY_ID)).await?;
    let [left, right] = page.items.try_into().expect("two memories");
    Ok((left, right))
}

/// What each acknowledged commit made of the two sides, by the revision that it gave them. Both get
/// the same: it tells the commit's time and the content, which is that of both.
type History = Arc<Mutex<HashMap<Revision, [i64; 2]>>>;

/// Commits both sides as one, if they are still as they were read.
async fn move_both(
    store: &FirestoreStore,
    context: &CallContext,
    history: &History,
    sides: [&MemoryItem; 2],
    values: [i64; 2],
) -> Result<()> {
    let writes = sides.iter().zip(values).map(|(side, v)| put_back(with_value((*side).clone(), v)));
    let receipt = store.commit(context, commit(writes.collect())).await?;
    let revisions: Vec<_> = receipt.results.into_iter().map(|r| r.revision.unwrap()).collect();
    assert_eq!(revisions[0], revisions[1], "one commit, one time");
    history.lock().unwrap().insert(revisions[0].clone(), values);
    Ok(())
}

/// Moves one from a side to the other, however often somebody else is quicker.
async fn transfer(store: &FirestoreStore, context: &CallContext, history: &History, back: bool) {
    for _ in 0..10_000 {
        let ids = [id("left"), id("right")];
        let found = store.fetch(context, &ids, &Projection::full()).await.unwrap();
        let [Some(left), Some(right)] = &found[..] else { panic!("both are there: {found:?}") };
        let amount = if back { -1 } else { 1 };
        let values = [value(left) - amount, value(right) + amount];
        match move_both(store, context, history, [left, right], values).await {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}"),
        }
    }
    panic!("a writer never finishes");
}

/// The emulator does not answer a query as of one moment, not even within a transaction or at a
/// given time: of two documents written by one commit it may show one as it was before. So what is
/// asked of a reader is that whatever it sees is of an acknowledged commit, as that commit wrote it,
/// and that two sides of one commit fit together.
async fn transfers(guard: GuardMode, writers: usize, times: usize) {
    let Some(harness) = harness(guard).await else { return };
    let context = tenant("t");
    let store = Arc::clone(&harness.store);
    let both = ["left", "right"]
        .map(|side| put(with_value(item(side, "a side"), STAKE), Precondition::Absent));
    let receipt = store.commit(&context, commit(both.into())).await.unwrap();
    let first = receipt.results[0].revision.clone().unwrap();
    let history: History = Arc::new(Mutex::new(HashMap::from([(first, [STAKE, STAKE])])));
    let reader = {
        let (store, context) = (harness.another().await, context.clone());
        tokio::spawn(async move {
            let mut seen = [const { BTreeMap::new() }; 2];
            loop {
                let (left, right) = sides(&store, &context).await.unwrap();
                if left.revision == right.revision {
                    assert_eq!(value(&left) + value(&right), 2 * STAKE, "a half was seen");
                }
                let values = [value(&left), value(&right)];
                for (seen, side) in seen.iter_mut().zip([left, right]) {
                    seen.insert(side.revision.clone().unwrap().as_str().to_owned(), value(&side));
                }
                tokio::task::yield_now().await;
                if values == [-1, 2 * STAKE + 1] {
                    return seen;
                }
            }
        })
    };
    // Of each pair of writers one moves back what the other has moved, but for the first.
    together(writers, |writer| {
        let (store, context, history) = (Arc::clone(&store), context.clone(), Arc::clone(&history));
        async move {
            for _ in 0..times {
                transfer(&store, &context, &history, writer % 2 == 1).await;
            }
        }
    })
    .await;
    let (left, right) = sides(&store, &context).await.unwrap();
    assert_eq!((value(&left), value(&right)), (STAKE, STAKE), "a transfer was lost");
    assert_eq!(left.revision, right.revision, "the last commit wrote both");
    // The sign for the reader to stop, itself a commit of both.
    let stop = [-1, 2 * STAKE + 1];
    move_both(&store, &context, &history, [&left, &right], stop).await.unwrap();
    let seen = reader.await.unwrap();
    let history = history.lock().unwrap();
    assert_eq!(history.len(), writers * times + 2, "one state a commit");
    assert!(seen[0].len() > 2, "the reader saw nothing move: {seen:?}");
    for (side, seen) in seen.iter().enumerate() {
        for (revision, value) in seen {
            let revision = Revision::new(revision.as_str()).unwrap();
            assert_eq!(history.get(&revision).map(|values| values[side]), Some(*value));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_move_between_two_memories_and_the_sum_stays() {
    transfers(GuardMode::Auto, 8, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_in_transactions_move_between_two_memories_and_the_sum_stays() {
    transfers(GuardMode::Transaction, 2, 2).await;
}

/// Adds memories, all at once, and says how each went.
async fn add_at_once(
    store: &Arc<FirestoreStore>,
    context: &CallContext,
    names: impl Iterator<Item = String>,
) -> Vec<Result<Revision>> {
    let mut tasks = JoinSet::new();
    for name in names {
        let (store, context) = (Arc::clone(store), context.clone());
        tasks.spawn(async move { add(&store, &context, item(&name, "x")).await });
    }
    tasks.join_all().await
}

fn names(prefix: &str) -> impl Iterator<Item = String> {
    (0..2 * WRITERS).map(move |n| format!("{prefix}-{n}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shares_of_the_guard_keep_a_fence_as_well_as_the_tenants_document() {
    let Some(harness) = harness(GuardMode::Verify).await else { return };
    let (store, other, context) = (&harness.store, harness.another().await, tenant("t"));
    let guards = || harness.project.list("tenants/t/guards").len();
    add(store, &context, item("alone", "x")).await.unwrap();
    add(store, &context, item("alone too", "x")).await.unwrap();
    assert_eq!(guards(), 0, "a writer by itself makes none");
    for (store, prefix) in [(store, "a"), (&other, "b"), (store, "c"), (&other, "d")] {
        let added = add_at_once(store, &context, names(prefix)).await;
        assert!(added.iter().all(Result::is_ok), "{added:?}");
    }
    assert!(guards() > 2, "writers at once make shares");
    // Known shares cost neither a read nor a write.
    harness.book.take();
    add_at_once(store, &context, names("e")).await;
    let bill = harness.book.total();
    let writers = 2 * WRITERS as u64;
    assert!(bill.writes < writers + 8 && bill.reads <= 8, "{bill:?}");

    // Of those that others made each is looked at once, and no commit is sent twice.
    let third = harness.another().await;
    add(&third, &context, item("third", "x")).await.unwrap();
    harness.book.take();
    let added = add_at_once(&third, &context, names("h")).await;
    assert!(added.iter().all(Result::is_ok), "{added:?}");
    let bill = harness.book.total();
    assert!(bill.writes < writers + 8 && (1..=8).contains(&bill.reads), "{bill:?}");

    let name = LeaseName::new("job").unwrap();
    let lease = other.acquire(&context, &name, std::time::Duration::from_secs(9)).await.unwrap();
    let token = lease.map(|lease| lease.token);
    let holder = context.clone().with_fence(token);
    harness.another().await.set_write_fence(&holder, token).await.unwrap();
    assert_eq!(guards(), 0, "a change of the tenant's document deletes its shares");
    for (store, prefix) in [(store, "f"), (&other, "g")] {
        for refused in add_at_once(store, &context, names(prefix)).await {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
        }
        let added = add_at_once(store, &holder, names(prefix)).await;
        assert!(added.iter().all(Result::is_ok), "{added:?}");
    }
    assert!(guards() > 2, "there are shares again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_that_is_gone_or_strange_stops_nobody() {
    let Some(harness) = harness(GuardMode::Verify).await else { return };
    let (store, context, project) = (&harness.store, tenant("t"), &harness.project);
    add_at_once(store, &context, names("a")).await;
    let paths = project.list("tenants/t/guards");
    assert!(paths.len() > 2, "{paths:?}");
    // One is deleted by hand, another stands for a state of the tenant that never was.
    let documents = format!("/v1/projects/{}/databases/(default)/documents", project.name);
    let (status, _) = project.http("DELETE", &format!("{documents}/{}", paths[0]), "").unwrap();
    assert_eq!(status, 200);
    let fields = serde_json::json!({"v": {"integerValue": "1"}, "of": {"integerValue": "7"}});
    project.write(&paths[1], &fields);
    let other = harness.another().await;
    for (store, prefix) in [(store, "b"), (&other, "c"), (store, "d")] {
        let added = add_at_once(store, &context, names(prefix)).await;
        assert!(added.iter().all(Result::is_ok), "{added:?}");
    }
}

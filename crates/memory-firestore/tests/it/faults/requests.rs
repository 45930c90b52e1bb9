//! One attempt is one request, and ten thousand calls open no further connection and spawn no
//! thread: counted at the proxy and in the process.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    CallContext, Clock as _, CompareOp, ErrorKind, Field, Filter, MemoryItem, Outcome,
    Precondition, Query, Scalar, SessionId,
};
use memory_testkit::proxy::{Cut, Direction, Plan};
use tokio::task::JoinSet;

use super::rig::{Rig, recovered};
use crate::common::{add, commit, emulator, id, item, put, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_fails_was_sent_once() {
    let Some(rig) = Rig::new(41, |settings| settings.channels = 1).await else { return };
    let context = tenant("t");
    // The first makes the tenant, the second finds out how its document is verified.
    add(&rig.store, &context, item("first", "a memory")).await.unwrap();
    add(&rig.store, &context, item("warm", "a memory")).await.unwrap();
    let create = || commit(vec![put(item("a", "a memory"), Precondition::Absent)]);
    let pass = Plan::pass;
    for plan in [
        pass().cut_next(Cut::BeforeForwarding, 1),
        pass().cut_next(Cut::BeforeAnswering, 1),
        pass().cut_next(Cut::BeforeForwarding, 1).resetting(),
        pass().cut_next(Cut::BeforeAnswering, 1).resetting(),
        pass().delay(Direction::ToClient, Duration::from_secs(2)),
    ] {
        recovered(&rig.store, &context).await;
        rig.proxy.set(plan.clone());
        let before = rig.proxy.stats().requests;
        let within = rig.within(&context, Duration::from_millis(500));
        let error = rig.store.fetch_one(&within, &id("first")).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(rig.proxy.stats().requests, before + 1, "{plan:?}");

        rig.proxy.heal();
        recovered(&rig.store, &context).await;
        rig.proxy.set(plan.clone());
        let before = rig.proxy.stats().requests;
        let within = rig.within(&context, Duration::from_millis(500));
        let error = rig.store.commit(&within, create()).await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert_eq!(error.outcome(), Outcome::Unknown, "{error:?}");
        assert_eq!(rig.proxy.stats().requests, before + 1, "{plan:?}");
        rig.proxy.heal();
        // What came through is taken away again, for the next plan.
        recovered(&rig.direct, &context).await;
        let delete = memory_core::Write::delete(id("a"), Precondition::Any);
        rig.direct.commit(&context, commit(vec![delete])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_succeeds_was_sent_once() {
    let Some(rig) = Rig::new(42, |_| {}).await else { return };
    let context = tenant("t");
    // The second add is the first that finds its tenant, and finds out whether the server can hold
    // a commit to that.
    add(&rig.store, &context, item("first", "a memory")).await.unwrap();
    add(&rig.store, &context, item("warm", "a memory")).await.unwrap();
    let before = rig.proxy.stats().requests;
    add(&rig.store, &context, item("a", "a memory")).await.unwrap();
    assert_eq!(rig.proxy.stats().requests, before + 1, "an add is one request");
    rig.store.fetch_one(&context, &id("a")).await.unwrap().unwrap();
    assert_eq!(rig.proxy.stats().requests, before + 2, "a fetch is one request");
    assert_eq!(rig.store.query(&context, &Query::new(10)).await.unwrap().items.len(), 3);
    assert_eq!(rig.proxy.stats().requests, before + 3, "a page is one request");
    // An id that is taken: the commit, and a look at the document and the tenant.
    let error = add(&rig.store, &context, item("a", "another")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(rig.proxy.stats().requests, before + 6);
}

/// Set for a child process, where no other test starts threads.
const CHILD: &str = "MEMORY_FIRESTORE_TEST_CHILD";
/// Calls that are counted.
const CALLS: usize = 10_000;
/// Calls at once.
const CALLERS: usize = 32;
/// Memories of the tenant that is read, in two sessions.
const READ: usize = 20;

#[test]
fn ten_thousand_calls_open_no_connection_and_spawn_no_thread() {
    if emulator().is_none() {
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::requests::child_calls_ten_thousand_times", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complained = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}\n{complained}");
    let figures = said.lines().find(|line| line.contains("10000 calls")).unwrap_or_else(|| {
        panic!("the child did not say that it did its work: {said}\n{complained}")
    });
    println!("{figures}");
}

/// The child of the test above.
#[test]
fn child_calls_ten_thousand_times() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(count_calls());
}

async fn count_calls() {
    let rig = Rig::new(43, |_| {}).await.expect("the parent has an emulator");
    let rig = Arc::new(rig);
    let read = tenant("read");
    for n in 0..READ {
        add(&rig.store, &read, in_session(n)).await.unwrap();
    }
    // Every tenant is known and every connection open before the count begins.
    for caller in 0..CALLERS {
        let context = written(caller);
        // The first makes the tenant, the second finds out how its document is verified.
        add(&rig.store, &context, item("first", "a memory")).await.unwrap();
        add(&rig.store, &context, item("warm", "a memory")).await.unwrap();
    }
    let before = rig.proxy.stats();
    let threads = threads();
    let began = rig.clock.monotonic();
    let (next, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (rig, read, next, most) =
            (Arc::clone(&rig), read.clone(), Arc::clone(&next), Arc::clone(&most));
        callers.spawn(async move {
            let written = written(caller);
            loop {
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= CALLS {
                    return;
                }
                one_call(&rig, &read, &written, call).await;
                if call % 100 == 0 {
                    most.fetch_max(self::threads(), Ordering::Relaxed);
                }
            }
        });
    }
    callers.join_all().await;
    let took = rig.clock.monotonic() - began;
    let after = rig.proxy.stats();
    let most = most.load(Ordering::Relaxed);
    println!(
        "{CALLS} calls by {CALLERS} callers took {took:.1?}: {} connections, {} threads before, \
         {most} at the most",
        after.accepted, threads
    );
    assert!(after.accepted <= u64::from(rig.settings.channels), "{after:?}");
    assert_eq!(after.accepted, before.accepted, "a call opened a connection");
    assert_eq!(after.requests - before.requests, CALLS as u64, "a call is a request");
    assert_eq!(most, threads, "a call spawned a thread");
}

/// A fetch, a page or an add.
async fn one_call(rig: &Rig, read: &CallContext, written: &CallContext, call: usize) {
    match call % 10 {
        0 | 1 => {
            let new = item(&format!("n-{call}"), "a memory");
            add(&rig.store, written, new).await.unwrap();
        }
        2 => {
            let query = Query::new(5).with_filter(Filter::Compare(
                Field::SessionId,
                CompareOp::Eq,
                Scalar::Text(format!("s{}", call / 10 % 2)),
            ));
            let page = rig.store.query(read, &query).await.unwrap();
            assert_eq!(page.items.len(), 5);
        }
        _ => {
            let wanted = id(&format!("m-{}", call % READ));
            assert!(rig.store.fetch_one(read, &wanted).await.unwrap().is_some());
        }
    }
}

fn in_session(n: usize) -> MemoryItem {
    let session = SessionId::new(format!("s{}", n % 2)).expect("a valid id");
    item(&format!("m-{n}"), "a memory").with_session(session)
}

/// A tenant for the adds of one caller: the emulator slows down with the size of a collection.
fn written(caller: usize) -> CallContext {
    tenant(&format!("written-{caller}"))
}

/// The threads of this process.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Threads:")).expect("a count");
    line["Threads:".len()..].trim().parse().expect("a number")
}

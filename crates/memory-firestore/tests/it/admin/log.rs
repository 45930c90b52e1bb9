//! The change log between processes, trimmed and dropped.

use memory_core::traits::{
    ChangeLog as _, ChangeOp, ChangePosition, EraseScope, RecordStore as _, StoreUpkeep as _,
};
use memory_core::{ConsumerName, ErrorKind, Precondition, UserId};
use memory_firestore::{FirestoreSettings, FirestoreStore, GuardMode};

use crate::common::{FirestoreHarness, add, commit, erase, item, put, tenant};

const START: ChangePosition = ChangePosition(0);

/// What was put after a position, and whether something is missing.
async fn puts(store: &FirestoreStore, after: ChangePosition) -> (Vec<String>, bool) {
    let batch = store.read_changes(&tenant("t"), after, 1_000).await.expect("changes");
    let ids = batch.changes.iter().filter_map(|change| match &change.op {
        ChangeOp::Put(id, _) => Some(id.to_string()),
        _ => None,
    });
    (ids.collect(), batch.gap)
}

#[tokio::test]
async fn a_log_that_is_off_says_how_to_turn_it_on() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    add(store, &context, item("a", "x")).await.unwrap();
    let consumer = ConsumerName::new("index").unwrap();
    for answer in [
        store.read_changes(&context, START, 10).await.map(|_| ()),
        store.acknowledge(&context, &consumer, START).await,
        store.consumers(&context).await.map(|_| ()),
        store.forget_consumer(&context, &consumer).await,
    ] {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("change_log"), "{error}");
    }
    assert_eq!(store.tenant_stats(&context).await.unwrap().head, START);
}

#[tokio::test]
async fn processes_that_write_in_turns_leave_no_gap() {
    for guard in [GuardMode::Verify, GuardMode::Transaction] {
        let adapt = |settings: &mut FirestoreSettings| {
            settings.change_log = true;
            settings.guard = guard;
        };
        let Some(harness) = FirestoreHarness::new(adapt).await else { return };
        let (one, other) = (&harness.store, harness.another().await);
        for n in 0..6 {
            let store = if n % 3 == 0 { one } else { &other };
            add(store, &tenant("t"), item(&format!("{n}"), "x")).await.unwrap();
        }
        let write = async |store: &FirestoreStore, name: &str| {
            for n in 0..8 {
                add(store, &tenant("t"), item(&format!("{name}{n}"), "x")).await.unwrap();
            }
        };
        tokio::join!(write(one, "a"), write(&other, "b"), write(one, "c"));
        let (ids, gap) = puts(one, START).await;
        assert_eq!((ids.len(), gap), (30, false), "{guard:?}");
        assert_eq!(ids[..6], ["0", "1", "2", "3", "4", "5"]);
    }
}

#[tokio::test]
async fn a_large_commit_takes_several_entries_and_one_position() {
    let Some(harness) = FirestoreHarness::new(|s| s.change_log = true).await else { return };
    let writes: Vec<_> =
        (0..450).map(|n| put(item(&format!("{n:03}"), "x"), Precondition::Absent)).collect();
    let receipt = harness.store.commit(&tenant("t"), commit(writes)).await.unwrap();
    let batch = harness.store.read_changes(&tenant("t"), START, 1_000).await.unwrap();
    assert_eq!((batch.changes.len(), Some(batch.head)), (450, receipt.position));
    assert!(batch.changes.windows(2).all(|two| two[0].position < two[1].position));
    for (change, result) in batch.changes.iter().zip(&receipt.results) {
        let expected = ChangeOp::Put(result.id.clone(), result.revision.clone().unwrap());
        assert_eq!(change.op, expected);
    }
    let middle = batch.changes[299].position;
    let rest = harness.store.read_changes(&tenant("t"), middle, 100).await.unwrap();
    assert_eq!(rest.changes[..], batch.changes[300..400]);
}

#[tokio::test]
async fn who_slept_through_a_reset_writes_after_it() {
    let Some(harness) = FirestoreHarness::new(|s| s.change_log = true).await else { return };
    let (eraser, sleeper) = (&harness.store, harness.another().await);
    add(&sleeper, &tenant("t"), item("hers", "x")).await.unwrap();
    for scope in [EraseScope::User(UserId::new("ada").unwrap()), EraseScope::Tenant] {
        add(eraser, &tenant("t"), item("more", "x")).await.unwrap();
        let before = eraser.read_changes(&tenant("t"), START, 10).await.unwrap().head;
        erase(eraser, &tenant("t"), &scope).await;
        // It remembers a number whose entry is gone, and the next of which is free.
        let position = sleeper
            .commit(&tenant("t"), commit(vec![put(item("anew", "x"), Precondition::Absent)]))
            .await
            .unwrap()
            .position;
        assert!(position > Some(before), "{position:?} after {before:?}");
        assert_eq!(puts(eraser, START).await.0, ["anew"], "after {scope:?}");
        let late = eraser.read_changes(&tenant("t"), before, 10).await.unwrap();
        let told = late.gap || late.changes.iter().any(|change| change.op == ChangeOp::Reset);
        assert!(told, "who had read up to {before:?} is not told of {scope:?}");
        erase(eraser, &tenant("t"), &EraseScope::Tenant).await;
        assert!(harness.project.list("tenants/t/changes").is_empty(), "entries are left");
    }
}

#[tokio::test]
async fn a_trim_that_fails_does_not_fail_the_commit_before_it() {
    let adapt = |settings: &mut FirestoreSettings| {
        settings.change_log = true;
        settings.change_log_keep = 1;
    };
    let Some(harness) = FirestoreHarness::new(adapt).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let entries = || harness.project.list("tenants/t/changes").len();
    for name in ["a", "b"] {
        add(store, &context, item(name, "x")).await.unwrap();
    }
    assert_eq!(entries(), 1);
    // One request, which is the commit.
    harness.book.allow(1);
    add(store, &context, item("c", "x")).await.unwrap();
    harness.book.refuse(false);
    assert_eq!(entries(), 2, "and no trim");
    add(store, &context, item("d", "x")).await.unwrap();
    assert_eq!(entries(), 1);
}

#[tokio::test]
async fn old_entries_are_dropped_when_nobody_needs_them() {
    let adapt = |settings: &mut FirestoreSettings| {
        settings.change_log = true;
        settings.change_log_keep = 4;
    };
    let Some(harness) = FirestoreHarness::new(adapt).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let slow = ConsumerName::new("slow/é").unwrap();
    let idle = harness.another().await;
    add(&idle, &context, item("first", "x")).await.unwrap();
    let first = idle.read_changes(&context, START, 10).await.unwrap().head;
    store.acknowledge(&context, &slow, first).await.unwrap();
    for n in 0..12 {
        add(store, &context, item(&format!("{n:02}"), "x")).await.unwrap();
    }
    let (ids, gap) = puts(store, first).await;
    assert_eq!((ids.len(), gap), (12, false), "what the slow one has not read");
    store.forget_consumer(&context, &slow).await.unwrap();
    for n in 12..20 {
        add(store, &context, item(&format!("{n:02}"), "x")).await.unwrap();
    }
    let kept = harness.project.list("tenants/t/changes").len();
    assert!(kept <= 5, "{kept} entries are left of 21");
    let (ids, gap) = puts(store, first).await;
    assert!(gap && ids.len() == kept, "a reader of what was dropped is told");
    assert_eq!(ids.last().map(String::as_str), Some("19"));
    // Whoever has not written for so long finds its place.
    add(&idle, &context, item("last", "x")).await.unwrap();
    let head = store.read_changes(&context, START, 10).await.unwrap();
    assert_eq!(head.changes.last().map(|change| change.position), Some(head.head));
    assert_eq!(puts(store, first).await.0.last().map(String::as_str), Some("last"));
}

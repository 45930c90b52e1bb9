//! Erasure: what is left, what stays, and who is at work meanwhile.

use std::time::Duration;

use memory_core::traits::{
    ChangeLog as _, EraseScope, FencingToken, LeaseStore as _, RecordStore as _, StoreMeta as _,
    TenantDirectory as _,
};
use memory_core::{
    ConsumerName, ErrorKind, Filter, IdempotencyKey, LeaseName, Precondition, UserId,
};

use crate::common::{FirestoreHarness, add, commit, erase, id, item, put, tenant};

fn ada() -> EraseScope {
    EraseScope::User(UserId::new("ada").expect("a valid user"))
}

fn of(user: &str, name: &str) -> memory_core::MemoryItem {
    item(name, "x").with_user(UserId::new(user).expect("a valid user"))
}

#[tokio::test]
async fn of_an_erased_tenant_nothing_tells_its_name() {
    let Some(harness) = FirestoreHarness::new(|s| s.change_log = true).await else { return };
    let (store, context) = (&harness.store, tenant("acme"));
    harness.space(&context).await;
    for n in 0..5 {
        add(store, &context, item(&format!("m{n}"), "x")).await.unwrap();
    }
    let keyed = commit(vec![put(item("keyed", "x"), Precondition::Any)])
        .with_idempotency(Some(IdempotencyKey::new("key", [1; 32]).unwrap()));
    store.commit(&context, keyed).await.unwrap();
    store
        .acknowledge(&context, &ConsumerName::new("c").unwrap(), Default::default())
        .await
        .unwrap();
    let name = LeaseName::new("job").unwrap();
    let lease = store.acquire(&context, &name, Duration::from_secs(60)).await.unwrap().unwrap();
    store.release(&context, &lease).await.unwrap();
    let collections = ["memories", "keys", "changes", "consumers", "leases"];
    let left = |of: &str| harness.project.list(&format!("tenants/acme/{of}")).len();
    for of in collections {
        assert!(left(of) > 0, "no {of} before");
    }
    let (erased, receipt) = erase(store, &context, &EraseScope::Tenant).await;
    assert_eq!((erased, receipt.bytes_cleared), (6, false));
    for of in collections {
        assert_eq!(left(of), 0, "{of} after");
    }
    assert!(harness.project.read("tenants/acme").is_none(), "the tenant's document");
    assert_eq!(harness.project.list("tombstones").len(), 6);
    let beside = harness.project.list("meta");
    assert!(beside.iter().all(|path| !path.contains("acme")), "{beside:?}");
    assert_eq!(beside.len(), 3, "the store, the clock, the tenant's last numbers: {beside:?}");
    // The space is to be named again for the harness's book of indexes: it knows it already.
    assert!(store.spaces(&context).await.unwrap().active.is_none());
}

#[tokio::test]
async fn what_is_made_after_it_began_stays_and_what_was_there_goes() {
    let Some(harness) = FirestoreHarness::new(|s| s.erase_batch = 3).await else { return };
    let (store, context, another) = (&harness.store, tenant("t"), harness.another().await);
    for scope in [ada(), EraseScope::Tenant] {
        for n in 0..9 {
            add(store, &context, item(&format!("old {n}"), "x")).await.unwrap();
        }
        let mut step = store.erase(&context, &scope, None).await.unwrap();
        assert_eq!(step.erased, 3);
        // Another process writes in the middle: before, among and behind what is still to go.
        for name in ["a new one", "old 0", "old 5a", "z new"] {
            add(&another, &context, item(name, "y")).await.unwrap();
        }
        let over = commit(vec![put(item("old 7", "z"), Precondition::Any)]);
        assert!(another.commit(&context, over).await.unwrap().results[0].existed);
        let mut erased = step.erased;
        while let Some(next) = step.next {
            step = store.erase(&context, &scope, Some(next)).await.unwrap();
            erased += step.erased;
        }
        assert_eq!(erased, 9, "{scope:?}");
        let left = store.count(&context, &Filter::All).await.unwrap();
        assert_eq!(left, 4, "what was made since, {scope:?}");
        let listed = store.list_tenants(None, 10).await.unwrap().tenants;
        assert_eq!(
            listed,
            std::slice::from_ref(&context.tenant),
            "the tenant of new items is listed"
        );
        assert_eq!(erase(store, &context, &scope).await.0, 4);
    }
}

#[tokio::test]
async fn an_item_that_became_anothers_is_spared() {
    let Some(harness) = FirestoreHarness::new(|s| s.erase_batch = 1).await else { return };
    let (store, context, another) = (&harness.store, tenant("t"), harness.another().await);
    for name in ["a", "b"] {
        add(store, &context, of("ada", name)).await.unwrap();
    }
    let step = store.erase(&context, &ada(), None).await.unwrap();
    another.commit(&context, commit(vec![put(of("bob", "b"), Precondition::Any)])).await.unwrap();
    let mut next = step.next;
    while let Some(token) = next {
        next = store.erase(&context, &ada(), Some(token)).await.unwrap().next;
    }
    let left = store.fetch(&context, &[id("a"), id("b")], &Default::default()).await.unwrap();
    assert!(left[0].is_none() && left[1].is_some());
    assert_eq!(store.erased(&context, &[id("a"), id("b")]).await.unwrap(), [true, false]);
}

#[tokio::test]
async fn a_users_answers_are_forgotten_and_others_kept() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let keyed = |key: &str, items: &[(&str, &str)]| {
        let writes = items.iter().map(|(user, name)| put(of(user, name), Precondition::Any));
        commit(writes.collect()).with_idempotency(Some(IdempotencyKey::new(key, [1; 32]).unwrap()))
    };
    let (hers, both, his) = ([("ada", "a")], [("bob", "b"), ("ada", "c")], [("bob", "d")]);
    for (key, items) in [("hers", &hers[..]), ("both", &both), ("his", &his)] {
        store.commit(&context, keyed(key, items)).await.unwrap();
        assert!(store.commit(&context, keyed(key, items)).await.unwrap().replayed);
    }
    erase(store, &context, &ada()).await;
    for (key, items) in [("hers", &hers[..]), ("both", &both)] {
        let error = store.commit(&context, keyed(key, items)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{key}");
        let text = harness.project.read(&format!("tenants/t/keys/{key}")).unwrap().to_string();
        assert!(!text.contains("ada") && text.contains("digest"), "{text}");
    }
    assert!(store.commit(&context, keyed("his", &his)).await.unwrap().replayed);
    erase(store, &context, &EraseScope::Tenant).await;
    assert!(!store.commit(&context, keyed("hers", &hers)).await.unwrap().replayed);
}

#[tokio::test]
async fn a_fence_or_a_lease_outlasts_the_tenants_erasure() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    harness.space(&context).await;
    add(store, &context, item("a", "x")).await.unwrap();
    let name = LeaseName::new("job").unwrap();
    let lease = store.acquire(&context, &name, Duration::from_secs(60)).await.unwrap().unwrap();
    let holder = context.clone().with_fence(Some(lease.token));
    store.set_write_fence(&holder, Some(lease.token)).await.unwrap();
    let version = store.spaces(&context).await.unwrap().version;
    assert_eq!(erase(store, &context, &EraseScope::Tenant).await.0, 1);
    assert!(store.list_tenants(None, 10).await.unwrap().tenants.is_empty());
    let spaces = store.spaces(&context).await.unwrap();
    assert!(spaces.active.is_none() && spaces.version > version);
    let late = add(store, &context, item("late", "x")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "the fence stands");
    let renewed = store.renew(&context, &lease, Duration::from_secs(60)).await.unwrap();
    assert!(renewed.is_some(), "the lease is held");
    store.set_write_fence(&holder, None).await.unwrap();
    store.release(&context, &lease).await.unwrap();
    erase(store, &context, &EraseScope::Tenant).await;
    assert!(harness.project.read("tenants/t").is_none());
    assert!(harness.project.list("tenants/t/leases").is_empty());
    let next = store.acquire(&context, &name, Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(next.token > FencingToken(lease.token.0), "a token is used again");
}

/// Writers and an erasure at once: in the end the tenant is listed exactly if it has memories, and
/// nothing that was there before is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_beside_an_erasure_are_listed_if_anything_of_theirs_is_left() {
    for log in [false, true] {
        let Some(harness) = FirestoreHarness::new(|s| {
            s.change_log = log;
            s.erase_batch = 4;
        })
        .await
        else {
            return;
        };
        let (store, context, another) = (&harness.store, tenant("t"), harness.another().await);
        for round in 0..4 {
            for n in 0..6 {
                add(store, &context, item(&format!("old {round} {n}"), "x")).await.unwrap();
            }
            let write = async {
                for n in 0..5 {
                    let name = format!("new {round} {n}");
                    add(&another, &context, item(&name, "x")).await.unwrap();
                    if round % 2 == 0 {
                        let gone = memory_core::Write::delete(id(&name), Precondition::Any);
                        another.commit(&context, commit(vec![gone])).await.unwrap();
                    }
                }
            };
            let (_, ()) = tokio::join!(erase(store, &context, &EraseScope::Tenant), write);
            let old: Vec<_> = (0..6).map(|n| id(&format!("old {round} {n}"))).collect();
            let left = store.fetch(&context, &old, &Default::default()).await.unwrap();
            assert!(left.iter().all(Option::is_none), "round {round}");
            let count = store.count(&context, &Filter::All).await.unwrap();
            let listed = !store.list_tenants(None, 1).await.unwrap().tenants.is_empty();
            assert!(listed || count == 0, "round {round}: {count} items of nobody");
        }
    }
}

#[tokio::test]
async fn sweeps_go_in_small_commits_and_skip_what_lives() {
    let Some(harness) = FirestoreHarness::new(|s| s.sweep_batch = 2).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    for n in 0..7 {
        let mut short = item(&format!("{n}"), "x");
        short.expires_at = Some(memory_core::Clock::now(&*harness.clock));
        add(store, &context, short).await.unwrap();
    }
    add(store, &context, item("lives", "x")).await.unwrap();
    harness.book.take();
    let step = store.sweep_expired(&context, 5).await.unwrap();
    assert_eq!((step.removed, step.more), (5, true));
    let usage = harness.book.total();
    assert_eq!((usage.deletes, usage.writes), (5, 0));
    let step = store.sweep_expired(&context, 5).await.unwrap();
    assert_eq!((step.removed, step.more), (2, false));
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 1);
    assert!(harness.project.list("tombstones").is_empty(), "a sweep leaves no tombstone");
}

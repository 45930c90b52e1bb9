//! Erasure: what is left, what stays, and who is at work meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{
    ChangeLog as _, EraseScope, FencingToken, Lease, LeaseStore as _, NoLedger, RecordStore as _,
    StoreMeta as _, TenantDirectory as _,
};
use memory_core::{
    ConsumerName, ErrorKind, Filter, IdempotencyKey, LeaseName, Precondition, UserId,
};
use memory_firestore::{FirestoreParts, FirestoreStore, GuardMode, QueryRecorder};

use crate::common::{FirestoreHarness, Owner, add, commit, erase, id, item, put, tenant};

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

/// As an erasure leaves it that ended between the unlisting and the listing that takes it back.
#[tokio::test]
async fn a_tenant_that_was_left_unlisted_with_memories_is_listed_by_the_next_erasure() {
    let Some(harness) = FirestoreHarness::new(|s| s.erase_batch = 1).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let space = harness.space(&context).await;
    for name in ["a", "b"] {
        add(store, &context, item(name, "x")).await.unwrap();
    }
    let step = store.erase(&context, &EraseScope::Tenant, None).await.unwrap();
    add(store, &context, item("new", "x")).await.unwrap();
    let mut fields = harness.project.read("tenants/t").unwrap();
    fields["listed"] = serde_json::json!({ "booleanValue": false });
    harness.project.write("tenants/t", &fields);
    assert!(store.list_tenants(None, 10).await.unwrap().tenants.is_empty());
    let mut next = step.next;
    while let Some(token) = next {
        next = store.erase(&context, &EraseScope::Tenant, Some(token)).await.unwrap().next;
    }
    assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 1);
    let listed = store.list_tenants(None, 10).await.unwrap().tenants;
    assert_eq!(listed, std::slice::from_ref(&context.tenant));
    assert_eq!(store.spaces(&context).await.unwrap().active, Some(space), "and keeps its spaces");
    erase(store, &context, &EraseScope::Tenant).await;
    assert!(store.list_tenants(None, 10).await.unwrap().tenants.is_empty());
}

/// Whatever request of a step is refused: an error says that nothing was removed, and an answer says
/// how much was.
#[tokio::test]
async fn a_step_that_is_cut_short_says_what_it_removed() {
    let adapt = |settings: &mut memory_firestore::FirestoreSettings| {
        settings.change_log = true;
        settings.erase_batch = 3;
        settings.sweep_batch = 2;
    };
    let Some(harness) = FirestoreHarness::new(adapt).await else { return };
    let (store, context, book) = (&harness.store, tenant("t"), &harness.book);
    add(store, &context, of("bob", "bobs")).await.unwrap();
    let (mut refused, mut early, mut whole) = (0, 0, 0);
    for requests in 1..40 {
        for n in 0..2 {
            add(store, &context, item(&format!("{requests} {n}"), "x")).await.unwrap();
        }
        let before = store.count(&context, &Filter::All).await.unwrap();
        book.allow(requests);
        let step = store.erase(&context, &ada(), None).await;
        book.refuse(false);
        let after = store.count(&context, &Filter::All).await.unwrap();
        match step {
            Err(_) => {
                refused += 1;
                assert_eq!(before, after, "{requests} requests: an error after an effect");
            }
            Ok(mut step) => {
                assert_eq!(step.erased, before - after, "{requests} requests");
                if step.receipt.is_some() {
                    whole += 1;
                } else {
                    early += 1;
                }
                while let Some(token) = step.next {
                    step = store.erase(&context, &ada(), Some(token)).await.unwrap();
                }
                assert_eq!(store.count(&context, &Filter::All).await.unwrap(), 1);
                if whole == 2 {
                    break;
                }
            }
        }
    }
    assert!(refused > 0 && early > 0 && whole == 2, "{refused}, {early}, {whole}");

    for n in 0..5 {
        let mut short = item(&format!("short {n}"), "x");
        short.expires_at = Some(memory_core::Clock::now(&*harness.clock));
        add(store, &context, short).await.unwrap();
    }
    let expired = || harness.project.list("tenants/t/memories").len() - 1;
    book.allow(1);
    store.sweep_expired(&context, 10).await.unwrap_err();
    assert_eq!(expired(), 5, "an error says that nothing was removed");
    // What to remove, the newest entry of the log, the commit; and no look for more.
    book.allow(3);
    let step = store.sweep_expired(&context, 10).await.unwrap();
    assert_eq!((step.removed, step.more, expired()), (2, true, 3));
    book.refuse(false);
    let step = store.sweep_expired(&context, 10).await.unwrap();
    assert_eq!((step.removed, step.more, expired()), (3, false, 0));
}

/// With requests of the least size that can be set.
#[tokio::test]
async fn an_erasure_keeps_to_the_size_of_a_request() {
    let adapt = |settings: &mut memory_firestore::FirestoreSettings| {
        settings.change_log = true;
        settings.max_request_bytes = Some(64 * 1024);
        settings.erase_batch = 500;
    };
    let Some(harness) = FirestoreHarness::new(adapt).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let long = |n: usize| format!("{n:03}{}", "é".repeat(150));
    for n in 0..120 {
        let keyed = commit(vec![put(item(&format!("{n}"), "x"), Precondition::Any)])
            .with_idempotency(Some(IdempotencyKey::new(long(n), [1; 32]).unwrap()));
        store.commit(&context, keyed).await.unwrap();
        let name = LeaseName::new(long(n)).unwrap();
        let lease = store.acquire(&context, &name, Duration::from_secs(60)).await.unwrap().unwrap();
        store.release(&context, &lease).await.unwrap();
        store
            .acknowledge(&context, &ConsumerName::new(long(n)).unwrap(), Default::default())
            .await
            .unwrap();
    }
    let of = ["memories", "keys", "changes", "consumers", "leases"];
    let left = |of: &str| harness.project.list(&format!("tenants/t/{of}")).len();
    assert_eq!(of.map(left), [120; 5]);
    assert_eq!(erase(store, &context, &EraseScope::Tenant).await.0, 120);
    assert_eq!(of.map(left), [0; 5]);
}

/// Grants a lease in another process once the store that it is the recorder of has looked for leases
/// and sends its next query.
#[derive(Debug)]
struct GrantsAfterTheLook {
    other: Arc<FirestoreStore>,
    looked: AtomicBool,
    granted: Mutex<Option<Lease>>,
}

impl QueryRecorder for GrantsAfterTheLook {
    fn record(&self, _method: &'static str, request: &[u8]) {
        if request.windows(6).any(|part| part == b"leases") {
            self.looked.store(true, Ordering::SeqCst);
        } else if self.looked.swap(false, Ordering::SeqCst) {
            let mut granted = self.granted.lock().unwrap();
            if granted.is_none() {
                let (context, name) = (tenant("t"), LeaseName::new("late").unwrap());
                let grant = self.other.acquire(&context, &name, Duration::from_secs(60));
                let here = tokio::runtime::Handle::current();
                *granted = tokio::task::block_in_place(|| here.block_on(grant)).unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_granted_at_the_end_of_an_erasure_holds_the_tenant() {
    for guard in [GuardMode::Verify, GuardMode::Transaction] {
        let Some(harness) = FirestoreHarness::new(|s| s.guard = guard).await else { return };
        let (other, context) = (&harness.store, tenant("t"));
        let recorder = Arc::new(GrantsAfterTheLook {
            other: Arc::clone(other),
            looked: AtomicBool::new(false),
            granted: Mutex::default(),
        });
        let clock = harness.clock.clone();
        let mut parts = FirestoreParts::new(Arc::new(Owner), clock, Arc::new(NoLedger));
        parts.recorder = Some(Arc::clone(&recorder) as Arc<dyn QueryRecorder>);
        let store = FirestoreStore::open_with(harness.settings.clone(), parts).await.unwrap();
        add(&store, &context, item("a", "x")).await.unwrap();
        // So that the tenant has numbers already.
        let (early, life) = (LeaseName::new("early").unwrap(), Duration::from_secs(60));
        let lease = other.acquire(&context, &early, life).await.unwrap().unwrap();
        other.release(&context, &lease).await.unwrap();
        assert_eq!(erase(&store, &context, &EraseScope::Tenant).await.0, 1);
        let lease = recorder.granted.lock().unwrap().clone().expect("it was granted");
        assert!(harness.project.read("tenants/t").is_some(), "{guard:?}: the lease is held");
        other.release(&context, &lease).await.unwrap();
        erase(&store, &context, &EraseScope::Tenant).await;
        assert!(harness.project.read("tenants/t").is_none(), "{guard:?}: nobody holds it");
    }
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

//! Erasures that are cut off at every step, and tenants that come again.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use memory_core::traits::{
    EraseReceipt, EraseScope, EraseToken, RecordStore as _, RecordStoreExt as _, StoreMeta as _,
    TenantDirectory as _, TenantSpaces,
};
use memory_core::{
    CallContext, Precondition, Projection, Result, UserId, VectorProjection, Vectors, Write,
};
use memory_redis::RedisStore;
use serde_json::json;

use super::rig::{Rig, SERVERS, commit, id, item, put_one, revision, space, tenant};

const MEMORIES: usize = 20;

/// Fills a tenant: memories of two users with vectors, and an answer under a key.
async fn fill(store: &RedisStore, context: &CallContext) -> Result<()> {
    let known = store.spaces(context).await?;
    let spaces = TenantSpaces { active: Some(space("m", 2)), next: None, version: known.version };
    store.set_spaces(context, &spaces).await?;
    for n in 0..MEMORIES {
        let user = UserId::new(if n % 2 == 0 { "ada" } else { "bob" })?;
        let item = item(&format!("m{n}"), "secret words").with_user(user);
        let vectors = Vectors::Replace([(space("m", 2).id(), vec![1.0, 0.0])].into());
        let write = Write::put(item, vectors, Precondition::Absent);
        store.commit(context, commit(vec![write])).await?;
    }
    Ok(())
}

/// One step of an erasure, dropped after so many looks at it; `None` where it was.
async fn step(
    store: &RedisStore,
    context: &CallContext,
    scope: &EraseScope,
    resume: Option<EraseToken>,
    looks: usize,
) -> Option<(Option<EraseToken>, Option<EraseReceipt>)> {
    let mut work = pin!(store.erase(context, scope, resume));
    for _ in 0..looks {
        if let Poll::Ready(step) = work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            let step = step.unwrap();
            return Some((step.next, step.receipt));
        }
        tokio::time::sleep(Duration::from_micros(50)).await;
    }
    None
}

/// Erases to the end. Each step is dropped after ever more looks, and done again until it is whole;
/// says how many were dropped.
async fn erased(store: &RedisStore, context: &CallContext, scope: &EraseScope) -> usize {
    let (mut resume, mut looks, mut dropped) = (None, 1, 0);
    loop {
        match step(store, context, scope, resume.clone(), looks).await {
            None => {
                dropped += 1;
                // Now and then it is begun anew, as by one who has lost the token.
                if dropped % 7 == 0 {
                    resume = None;
                }
                looks += 1;
            }
            Some((_, Some(receipt))) => {
                assert!(!receipt.bytes_cleared && receipt.began_at <= receipt.ended_at);
                return dropped;
            }
            Some((next, None)) => {
                resume = Some(next.unwrap());
                looks = 1;
            }
        }
    }
}

async fn listed(store: &RedisStore) -> Vec<String> {
    let page = store.list_tenants(None, 100).await.unwrap();
    page.tenants.iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_cut_off_everywhere_leaves_nothing() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let store = rig.with(json!({"erase_batch": 3})).await;
        let (gone, stays) = (tenant("gone"), tenant("stays"));
        fill(&store, &gone).await.unwrap();
        fill(&store, &stays).await.unwrap();
        assert_eq!(listed(&store).await, ["gone", "stays"]);
        let before = rig.raw("stays").dump();
        let dropped = erased(&store, &gone, &EraseScope::Tenant).await;
        assert!(dropped > 10, "only {dropped} were cut off");
        // What keeps numbers from being given out twice, and nothing else.
        let mut raw = rig.raw("gone");
        let left: Vec<_> =
            raw.keys().into_iter().map(|key| String::from_utf8(key).unwrap()).collect();
        assert!(left.iter().all(|key| key == "s" || key == "l"), "{left:?}");
        let text = format!("{:?}", raw.dump());
        assert!(!text.contains("secret") && !text.contains("m1"), "{text}");
        assert_eq!(listed(&store).await, ["stays"]);
        rig.raw("stays").assert_unchanged(&before);
        assert!(format!("{before:?}").contains("secret"), "the other has its words");
        assert_eq!(rig.raw("stays").check().len(), MEMORIES);
        let erased = store.erased(&gone, &[id("m1"), id("never")]).await.unwrap();
        assert_eq!(erased, [true, false]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_user_is_gone_and_the_other_stays() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let store = rig.with(json!({"erase_batch": 3})).await;
        let context = tenant("t");
        fill(&store, &context).await.unwrap();
        let ada = EraseScope::User(UserId::new("ada").unwrap());
        assert!(erased(&store, &context, &ada).await > 5);
        let mut raw = rig.raw("t");
        let ids = raw.check();
        assert_eq!(ids.len(), MEMORIES / 2);
        assert!(ids.contains("m1") && !ids.contains("m2"));
        assert!(!raw.keys().contains(&b"x:U:ada"[..]));
        assert!(raw.keys().contains(&b"x:U:bob"[..]));
        assert_eq!(listed(&store).await, ["t"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_comes_again_has_nothing_of_the_old_one() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (store, other) = (&rig.store, rig.another().await);
        let context = tenant("t");
        fill(store, &context).await.unwrap();
        let first = put_one(&other, &context, item("again", "old")).await.unwrap();
        erased(store, &context, &EraseScope::Tenant).await;
        assert!(store.fetch_one(&context, &id("again")).await.unwrap().is_none());
        assert!(listed(store).await.is_empty());
        // A process that has seen none of it.
        let second = put_one(&other, &context, item("again", "new")).await.unwrap();
        assert_ne!(first, second);
        assert_eq!(listed(store).await, ["t"]);
        let all = Projection::full().with_vectors(VectorProjection::All);
        let found = other.fetch(&context, &[id("again"), id("m1")], &all).await.unwrap();
        assert_eq!(found[0].as_ref().unwrap().content(), "new");
        assert!(found[0].as_ref().unwrap().vectors.is_empty() && found[1].is_none());
        assert_eq!(store.spaces(&context).await.unwrap().active, None);
        fill(&other, &context).await.unwrap();
        let third = put_one(store, &context, item("again", "newer")).await.unwrap();
        assert!(third != first && third != second);
        assert_eq!(rig.raw("t").check().len(), MEMORIES + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_that_make_a_tenant_at_once_list_it_once() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let processes = [rig.store.clone(), rig.another().await, rig.another().await];
        for round in 0..10 {
            let context = tenant(&format!("t{round}"));
            let writers = processes.iter().enumerate().map(|(n, store)| {
                let (store, context) = (Arc::clone(store), context.clone());
                tokio::spawn(async move {
                    put_one(&store, &context, item(&format!("m{n}"), "x")).await.unwrap()
                })
            });
            for revision in futures::future::join_all(writers).await {
                revision.unwrap();
            }
            let mut raw = rig.raw(&format!("t{round}"));
            assert_eq!(raw.check().len(), 3);
        }
        let mut wanted: Vec<_> = (0..10).map(|round| format!("t{round}")).collect();
        wanted.sort();
        assert_eq!(listed(&rig.store).await, wanted);
        // The token that each has is the list's: erased, it is gone from it.
        for round in 0..10 {
            let context = tenant(&format!("t{round}"));
            erased(&rig.store, &context, &EraseScope::Tenant).await;
        }
        assert!(listed(&rig.store).await.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_space_that_is_dropped_and_named_again_has_no_old_vectors() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (store, context) = (&rig.store, tenant("t"));
        fill(store, &context).await.unwrap();
        let all = Projection::narrow().with_vectors(VectorProjection::All);
        let vectors = async || {
            let found = store.fetch(&context, &[id("m1")], &all).await.unwrap();
            found[0].as_ref().unwrap().vectors.len()
        };
        assert_eq!(vectors().await, 1);
        let version = store.spaces(&context).await.unwrap().version;
        let other = TenantSpaces { active: Some(space("n", 3)), next: None, version };
        let version = store.set_spaces(&context, &other).await.unwrap().version;
        assert_eq!(vectors().await, 0);
        let back = TenantSpaces { active: Some(space("m", 2)), next: None, version };
        store.set_spaces(&context, &back).await.unwrap();
        assert_eq!(vectors().await, 0, "they went with their space");
        // Of the tenant's own accord there are new ones.
        let vectors_of = Vectors::Replace([(space("m", 2).id(), vec![0.0, 1.0])].into());
        let write = Write::put(item("m1", "new"), vectors_of, Precondition::Any);
        revision(&store.commit(&context, commit(vec![write])).await.unwrap());
        assert_eq!(vectors().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_that_is_written_to_while_it_is_erased_is_listed() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (mut kept, mut gone) = (0, 0);
        for round in 0..40 {
            let name = format!("t{round}");
            let context = tenant(&name);
            put_one(&rig.store, &context, item("old", "x")).await.unwrap();
            let other = rig.another().await;
            let writer = tokio::spawn({
                let context = context.clone();
                async move {
                    for n in 0..round % 8 {
                        put_one(&other, &context, item(&format!("m{n}"), "x")).await.unwrap();
                    }
                }
            });
            let mut resume = None;
            loop {
                let scope = EraseScope::Tenant;
                let step = rig.store.erase(&context, &scope, resume).await.unwrap();
                resume = step.next;
                if step.receipt.is_some() {
                    break;
                }
            }
            writer.await.unwrap();
            let ids = rig.raw(&name).check();
            assert!(!ids.contains("old"));
            let is_listed = listed(&rig.store).await.contains(&name);
            // An entry in vain is harmless.
            assert!(is_listed || ids.is_empty(), "{name} has {ids:?} and is not listed");
            kept += usize::from(!ids.is_empty());
            gone += usize::from(!is_listed);
        }
        assert!(kept > 0 && gone > 0, "{kept} were written to, {gone} are gone");
    }
}

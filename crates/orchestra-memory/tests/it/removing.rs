//! Deleting, expiring and erasing, over every real store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use orchestra_memory::{
    AddManyOptions, Callback, EraseOptions, EraseProgress, ErrorKind, Filter, Revision,
    SearchRequest, TenantMemory,
};

use crate::support::{
    each_store, each_store_embedding, each_store_with, embedding, id, note, plain, start, user,
};
use crate::words::Words;

#[test]
fn a_delete_says_whether_something_was_there() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let item = tenant.add(note("x").with_id(id("m"))).await.unwrap();
        let stale = Some(Revision::from_number(987_654_321));
        let error = tenant.delete(&id("m"), stale.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(tenant.delete(&id("m"), item.revision).await.unwrap());
        assert!(!tenant.delete(&id("m"), None).await.unwrap());
        let error = tenant.delete(&id("m"), stale).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        tenant.add(note("x").with_id(id("m"))).await.unwrap();
    });
}

#[test]
fn what_has_expired_is_invisible_and_a_purge_removes_it() {
    let mut settings = plain();
    settings.write.sweep_step = 2;
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.default_tenant();
        let soon = start().saturating_add(Duration::from_secs(10));
        let brief = (0..5).map(|_| note("brief").with_expires_at(soon));
        assert_eq!(tenant.add_many(brief, AddManyOptions::new()).await.added, 5);
        tenant.add(note("lasting")).await.unwrap();
        assert_eq!(tenant.purge_expired(EraseOptions::new()).await.unwrap(), 0);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 6);
        stack.clock.advance(Duration::from_secs(10));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 1);
        assert_eq!(tenant.stats().await.unwrap().expired, 5);
        let steps = Arc::new(AtomicU64::new(0));
        let heard = steps.clone();
        let options =
            EraseOptions::new().with_progress(Callback::new(move |progress: &EraseProgress| {
                heard.store(progress.steps, Ordering::SeqCst)
            }));
        assert_eq!(tenant.purge_expired(options).await.unwrap(), 5);
        assert!(steps.load(Ordering::SeqCst) >= 3, "two a step");
        assert_eq!(tenant.stats().await.unwrap().expired, 0);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 1);
    });
}

#[test]
fn an_erased_user_is_gone_and_the_others_stay() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        let many = (0..1_200).map(|n| {
            let owner = user(if n % 2 == 0 { "ada" } else { "bob" });
            orchestra_memory::NewMemory::new(format!("turn {n} about kestrels"))
                .with_user(owner)
                .with_embedding(vec![1.0, 0.5])
        });
        assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 1_200);
        let request = SearchRequest::new().with_text("kestrels");
        assert!(!tenant.search(&request).await.unwrap().hits.is_empty());
        let report = tenant.erase_user(&user("ada"), EraseOptions::new()).await.unwrap();
        assert_eq!(report.erased, 600);
        assert!(report.receipt.began_at <= report.receipt.ended_at);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 600);
        for hit in tenant.search(&request).await.unwrap().hits {
            assert_eq!(hit.item.user_id, Some(user("bob")));
        }
        let again = tenant.erase_user(&user("ada"), EraseOptions::new()).await.unwrap();
        assert_eq!(again.erased, 0);
    });
}

#[test]
fn an_erased_tenant_is_gone_with_its_space_and_can_be_used_anew() {
    each_store(async |stack| {
        let (one, two) = (stack.memory.tenant("one").unwrap(), stack.memory.tenant("two").unwrap());
        one.add(note("x").with_embedding(vec![1.0, 0.5])).await.unwrap();
        two.add(note("x").with_embedding(vec![1.0, 0.5])).await.unwrap();
        let report = one.erase_tenant(EraseOptions::new()).await.unwrap();
        assert_eq!(report.erased, 1);
        assert_eq!(one.count(&Filter::All).await.unwrap(), 0);
        assert!(one.spaces().await.unwrap().active.is_none());
        assert!(two.spaces().await.unwrap().active.is_some());
        assert_eq!(stack.memory.admin().tenants().await.unwrap(), [two.id().clone()]);
        one.add(note("x").with_embedding(vec![1.0, 0.5, 0.25])).await.unwrap();
        assert_eq!(one.spaces().await.unwrap().active.unwrap().dimensions(), 3);
        assert_eq!(two.count(&Filter::All).await.unwrap(), 1);
    });
}

#[test]
fn an_erasure_takes_along_what_is_kept_of_the_texts() {
    let mut settings = embedding();
    settings.embedding.cache_entries = 100;
    // Without a provider there is no cache: then each text is embedded each time.
    let again = if cfg!(any(feature = "minilm", feature = "http")) { 0 } else { 1 };
    each_store_embedding(&settings, Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let other = stack.memory.tenant("other").unwrap();
        let add = async |tenant: &TenantMemory| {
            tenant.add(note("the same")).await.unwrap();
            words.take().len()
        };
        for tenant in [&tenant, &other] {
            assert_eq!(add(tenant).await, 1, "tenants share nothing");
            assert_eq!(add(tenant).await, again);
        }
        tenant.erase_user(&user("ada"), EraseOptions::new()).await.unwrap();
        assert_eq!(add(&tenant).await, 1);
        assert_eq!(add(&tenant).await, again);
        tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        assert_eq!(add(&tenant).await, 1);
        assert_eq!(add(&other).await, again, "it is another's");
    });
}

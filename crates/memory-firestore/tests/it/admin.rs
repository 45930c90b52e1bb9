//! Administration and erasure on the emulator, beyond what the suite asks of every store.

mod erasure;
mod keys;
mod log;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{LeaseStore as _, NoLedger, RecordStore as _, StoreMeta as _};
use memory_core::traits::{TenantDirectory as _, TenantSpaces};
use memory_core::{EmbeddingSpace, ErrorKind, LeaseName, Metric, Precondition};
use memory_firestore::{FirestoreSettings, FirestoreStore};
use serde_json::json;

use crate::common::{FirestoreHarness, Owner, add, commit, erase, item, put, tenant};
use memory_core::traits::EraseScope;

/// Another process on the harness's project, under settings of its own.
pub(crate) async fn open(
    harness: &FirestoreHarness,
    adapt: impl FnOnce(&mut FirestoreSettings),
) -> Arc<FirestoreStore> {
    let mut settings = harness.settings.clone();
    adapt(&mut settings);
    let clock = harness.clock.clone();
    FirestoreStore::open(settings, Arc::new(Owner), clock, Arc::new(NoLedger))
        .await
        .expect("the store opens")
}

#[tokio::test]
async fn a_store_of_a_newer_shape_is_refused() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let key = json!({ "bytesValue": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=" });
    let fields = |shape: &str| {
        json!({
            "v": { "integerValue": shape },
            "store_key": key,
            "filter_keys": { "mapValue": { "fields": {} } },
        })
    };
    harness.project.write("meta/store", &fields("2"));
    let error = harness.store.schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("shape 2") && error.message().contains("up to 1"), "{error}");
    let error = harness.store.fetch(&tenant("t"), &[], &Default::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "every call is refused");
    // And the twin: the same of this build's shape is taken, by the same process.
    harness.project.write("meta/store", &fields("1"));
    assert_eq!(harness.store.schema().await.unwrap().stored, 1);
    assert_eq!(harness.store.store_key().await.unwrap().expose()[..3], [0, 1, 2]);
}

#[tokio::test]
async fn readers_write_nothing_and_writers_share_one_key() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    store.schema().await.unwrap();
    assert!(store.list_tenants(None, 10).await.unwrap().tenants.is_empty());
    assert_eq!(store.erased(&context, &[crate::common::id("a")]).await.unwrap(), [false]);
    store.spaces(&context).await.unwrap();
    assert_eq!(harness.book.total().writes, 0);
    assert!(harness.project.read("meta/store").is_none());
    // Two that have both seen no store.
    let another = harness.another().await;
    another.schema().await.unwrap();
    let (one, other) = tokio::join!(store.store_key(), another.store_key());
    assert!(one.unwrap() == other.unwrap(), "two keys");
    assert!(harness.project.read("meta/store").is_some());
}

#[tokio::test]
async fn tenants_that_only_have_spaces_leases_or_fences_are_not_listed() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let store = &harness.store;
    harness.space(&tenant("spaces")).await;
    let name = LeaseName::new("job").unwrap();
    let lease = store.acquire(&tenant("leases"), &name, Duration::from_secs(9)).await.unwrap();
    store.set_write_fence(&tenant("fences"), lease.map(|lease| lease.token)).await.unwrap();
    assert!(store.list_tenants(None, 10).await.unwrap().tenants.is_empty());
    let space = store.spaces(&tenant("spaces")).await.unwrap();
    add(store, &tenant("spaces"), item("a", "x")).await.unwrap();
    let listed = store.list_tenants(None, 10).await.unwrap().tenants;
    assert_eq!(listed, [tenant("spaces").tenant]);
    assert_eq!(store.spaces(&tenant("spaces")).await.unwrap(), space, "the listing keeps spaces");
}

#[tokio::test]
async fn no_number_is_given_out_again_after_an_erasure() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context) = (&harness.store, tenant("t"));
    let name = LeaseName::new("job").unwrap();
    let space = EmbeddingSpace::new("test", "1", 3, Metric::Cosine).unwrap();
    let wanted = TenantSpaces { active: Some(space), ..TenantSpaces::default() };
    let (mut tokens, mut versions) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        for _ in 0..2 {
            let lease = store.acquire(&context, &name, Duration::from_secs(9)).await.unwrap();
            let lease = lease.expect("nobody holds it");
            store.release(&context, &lease).await.unwrap();
            tokens.push(lease.token);
        }
        // The first grant of another name has a number of its own, too.
        let other = LeaseName::new("other").unwrap();
        let lease = store.acquire(&context, &other, Duration::from_secs(9)).await.unwrap();
        let lease = lease.expect("nobody holds it");
        store.release(&context, &lease).await.unwrap();
        let spaces = store.set_spaces(&context, &wanted).await.unwrap();
        versions.push(spaces.version);
        add(store, &context, item("a", "x")).await.unwrap();
        erase(store, &context, &EraseScope::Tenant).await;
        assert_eq!(store.spaces(&context).await.unwrap(), TenantSpaces::default());
        let late = store.set_spaces(&context, &spaces).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Conflict, "a version from before the erasure");
    }
    assert!(tokens.windows(2).all(|two| two[0] < two[1]), "{tokens:?}");
    assert!(versions[0] < versions[1], "{versions:?}");
}

#[tokio::test]
async fn a_fence_set_elsewhere_is_noticed_without_a_read() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, context, another) = (&harness.store, tenant("t"), harness.another().await);
    add(store, &context, item("a", "x")).await.unwrap();
    let name = LeaseName::new("job").unwrap();
    let lease = another.acquire(&context, &name, Duration::from_secs(9)).await.unwrap();
    let token = lease.map(|lease| lease.token);
    another.set_write_fence(&context.clone().with_fence(token), token).await.unwrap();
    let writes = vec![put(item("b", "x"), Precondition::Any)];
    let error = store.commit(&context, commit(writes.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    store.commit(&context.clone().with_fence(token), commit(writes)).await.unwrap();
}

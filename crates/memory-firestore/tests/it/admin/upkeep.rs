//! Numbers and checks.

use memory_core::ErrorKind;
use memory_core::traits::StoreUpkeep as _;
use serde_json::json;

use crate::common::{FirestoreHarness, add, item, tenant};

#[tokio::test]
async fn a_check_names_what_is_wrong() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let store = &harness.store;
    for name in ["a", "b", "c", "é/d"] {
        add(store, &tenant("t"), item(name, "x")).await.unwrap();
    }
    assert!(store.verify().await.unwrap().faults.is_empty());
    let path = |name: &str| format!("tenants/t/memories/{name}");
    let with = |name: &str, field: &str, value: serde_json::Value| {
        let mut fields = harness.project.read(&path(name)).unwrap();
        fields[field] = value;
        harness.project.write(&path(name), &fields);
    };
    with("a", "kind", json!({ "integerValue": "7" }));
    with("b", "by_occurred", json!({ "stringValue": "0" }));
    with("c", "v", json!({ "integerValue": "9" }));
    with("~c3~a9.1d", "keys", json!({ "mapValue": { "fields": {} } }));
    let fields = harness.project.read(&path("b")).unwrap();
    harness.project.write("tenants/lost/memories/x", &fields);
    harness.project.write("tenants/odd", &json!({ "v": { "integerValue": "1" } }));
    let report = store.verify().await.unwrap();
    let faults = report.faults.join("\n");
    for part in [
        "memory a of tenant t: a stored document has no valid",
        "memory b of tenant t: a sort key",
        "memory c of tenant t: a document has shape 9",
        "memory ~c3~a9.1d of tenant t: a filter key",
        "tenant lost has memories and is not listed",
        "tenant odd: a stored document has no valid",
    ] {
        assert!(faults.contains(part), "{part:?} in\n{faults}");
    }
    assert_eq!(report.faults.len(), 7, "{faults}");
}

#[tokio::test]
async fn numbers_of_the_store_and_no_backup() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    for name in ["one", "two"] {
        add(&harness.store, &tenant(name), item("a", "x")).await.unwrap();
    }
    let numbers = harness.store.store_stats().await.unwrap().numbers;
    assert_eq!((numbers["tenants"], numbers["tombstones"]), (2, 0));
    let error = harness.store.backup("anywhere").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("gcloud firestore export"), "{error}");
}

//! Filter keys that are declared after memories were written.

use std::collections::BTreeMap;

use memory_core::traits::{RecordStore as _, TenantDirectory as _};
use memory_core::{
    ErrorKind, Field, Filter, MemoryItem, MetaKey, MetaValue, Order, Query, Timestamp,
    VectorProjection,
};
use memory_firestore::{FilterKeyType, FirestoreSettings, FirestoreStore};

use super::open;
use crate::common::{FirestoreHarness, add, commit, id, item, tenant, with_vector};

fn key(name: &str) -> MetaKey {
    MetaKey::new(name).expect("a valid key")
}

fn none(settings: &mut FirestoreSettings) {
    settings.filter_keys.clear();
}

fn two(settings: &mut FirestoreSettings) {
    settings.filter_keys =
        BTreeMap::from([(key("topic"), FilterKeyType::Text), (key("tags"), FilterKeyType::List)]);
}

fn about(name: &str, topic: &str) -> MemoryItem {
    let mut item = item(name, "x");
    item.metadata.insert(key("topic"), MetaValue::Text(topic.to_owned()));
    item.metadata.insert(key("tags"), MetaValue::List(vec![topic.to_owned()]));
    item
}

async fn found(store: &FirestoreStore, filter: Filter) -> Vec<String> {
    let query = Query::new(100).with_filter(filter).with_order(Order::BY_ID);
    let page = store.query(&tenant("t"), &query).await.expect("a page");
    page.items.iter().map(|item| item.id.to_string()).collect()
}

#[tokio::test]
async fn keys_declared_later_are_given_to_every_memory() {
    let Some(harness) = FirestoreHarness::new(none).await else { return };
    let context = tenant("t");
    let old = &harness.store;
    let space = harness.space(&context).await;
    for n in 0..3 {
        add(old, &context, about(&format!("tea {n}"), "tea")).await.unwrap();
        add(old, &tenant("other"), about(&format!("{n}"), "tea")).await.unwrap();
    }
    add(old, &context, about("rain", "rain")).await.unwrap();
    add(old, &context, item("plain", "x")).await.unwrap();
    let write = with_vector(about("vector", "rain"), &space, [1.0, 0.0, 0.0]);
    old.commit(&context, commit(vec![write])).await.unwrap();
    let ids: Vec<_> = ["plain", "rain", "tea 0", "vector"].map(id).into();
    let all = memory_core::Projection::full().with_vectors(VectorProjection::All);
    let before = old.fetch(&context, &ids, &all).await.unwrap();

    // Another process declares two keys: whatever it asks is refused, with the keys' names.
    let new = open(&harness, two).await;
    for answer in [
        new.fetch(&context, &ids, &all).await.map(|_| ()),
        new.list_tenants(None, 1).await.map(|_| ()),
        add(&new, &context, about("late", "tea")).await.map(|_| ()),
    ] {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        for part in ["tags, topic", "declare_filter_keys"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
    assert_eq!(new.declare_filter_keys().await.unwrap(), 9);
    assert_eq!(new.declare_filter_keys().await.unwrap(), 0, "the second time");
    let tea = Filter::eq(Field::Metadata(key("topic")), "tea");
    assert_eq!(found(&new, tea.clone()).await, ["tea 0", "tea 1", "tea 2"]);
    let contains = Filter::Contains(Field::Metadata(key("tags")), "rain".into());
    assert_eq!(found(&new, contains).await, ["rain", "vector"]);
    let not = Filter::Not(Box::new(tea));
    assert_eq!(found(&new, not).await, ["plain", "rain", "vector"]);
    // Nothing else has changed: revisions, times and vectors are those from before.
    assert_eq!(new.fetch(&context, &ids, &all).await.unwrap(), before);
    let swap = memory_core::Precondition::Revision(before[1].clone().unwrap().revision.unwrap());
    let write = crate::common::put(about("rain", "tea"), swap);
    new.commit(&context, commit(vec![write])).await.unwrap();
    // A third process finds the store as it needs it.
    assert_eq!(found(&*open(&harness, two).await, Filter::All).await.len(), 6);
}

#[tokio::test]
async fn an_empty_store_takes_any_keys_and_fewer_take_them_back() {
    let Some(harness) = FirestoreHarness::new(none).await else { return };
    // The store's document is there, and no memory.
    harness.space(&tenant("t")).await;
    let new = open(&harness, two).await;
    add(&new, &tenant("t"), about("a", "tea")).await.unwrap();
    // Memories of a process with fewer keys lack them: whoever declares them again is told.
    add(&*open(&harness, none).await, &tenant("t"), about("b", "tea")).await.unwrap();
    let error = open(&harness, two).await.fetch(&tenant("t"), &[], &Default::default()).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(open(&harness, two).await.declare_filter_keys().await.unwrap(), 1);
    let store = open(&harness, two).await;
    let tea = Filter::eq(Field::Metadata(key("topic")), "tea");
    assert_eq!(found(&store, tea).await, ["a", "b"]);
}

#[tokio::test]
async fn writers_beside_a_declaration_lose_nothing() {
    let Some(harness) = FirestoreHarness::new(none).await else { return };
    for n in 0..40 {
        add(&harness.store, &tenant("t"), about(&format!("{n:02}"), "tea")).await.unwrap();
    }
    let (declaring, writing) = (open(&harness, two).await, open(&harness, none).await);
    let write = async {
        for n in 0..20 {
            let mut again = about(&format!("{n:02}"), "rain");
            again.updated_at = Timestamp::from_micros(n).unwrap();
            let write = crate::common::put(again, memory_core::Precondition::Any);
            writing.commit(&tenant("t"), commit(vec![write])).await.unwrap();
        }
    };
    let (declared, ()) = tokio::join!(declaring.declare_filter_keys(), write);
    declared.unwrap();
    // The other process wrote without the keys: once more, now that it has ended.
    declaring.declare_filter_keys().await.unwrap();
    let rain = Filter::eq(Field::Metadata(key("topic")), "rain");
    assert_eq!(found(&declaring, rain).await.len(), 20);
    let tea = Filter::eq(Field::Metadata(key("topic")), "tea");
    assert_eq!(found(&declaring, tea).await.len(), 20);
}

//! Pages, counts and fetches beyond the conformance suite: what is asked in parts, what is not asked
//! at all, what cannot be read.

use std::time::Duration;

use memory_core::traits::RecordStore as _;
use memory_core::{
    CompareOp, Direction, ErrorKind, Field, Filter, MemoryItem, Order, OrderField, Precondition,
    Projection, Query, Scalar,
};
use memory_firestore::FirestoreStore;
use memory_testkit::conformance::start;
use serde_json::json;

use crate::common::{FirestoreHarness, commit, id, item, put, tenant};

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

/// Items whose times do not go by their ids, some expired.
async fn fill(store: &FirestoreStore) -> Vec<MemoryItem> {
    let mut items = Vec::new();
    for n in 0..45_u64 {
        let mut one = item(&format!("{:02}", n * 7 % 45), "x");
        one.occurred_at = start().saturating_sub(Duration::from_secs(n / 2));
        one.author = (n % 5 > 0).then(|| format!("{:02}", n % 9));
        one.importance = (n % 3 > 0).then_some(0.5);
        one.expires_at = (n % 11 == 0).then(start);
        items.push(one);
    }
    let writes = items.iter().map(|item| put(item.clone(), Precondition::Any)).collect();
    store.commit(&tenant("acme"), commit(writes)).await.expect("a commit");
    items.retain(|item| item.expires_at.is_none());
    items
}

async fn walk(store: &FirestoreStore, mut query: Query) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = store.query(&tenant("acme"), &query).await.expect("a page");
        assert!(page.items.len() <= query.limit as usize);
        ids.extend(page.items.iter().map(|item| item.id.to_string()));
        query.cursor = page.next;
        if query.cursor.is_none() {
            return ids;
        }
        assert!(ids.len() < 1_000, "the pages do not end");
    }
}

#[tokio::test]
async fn what_is_asked_in_parts_comes_in_one_order() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let items = fill(&bed.store).await;
    let texts = |step: usize, count: usize| -> Vec<Scalar> {
        (0..count).map(|n| Scalar::Text(format!("{:02}", n * step))).collect()
    };
    let thirty = Filter::In(Field::Id, texts(1, 30));
    let authors = Filter::In(Field::Author, texts(2, 5));
    for filter in [
        not(Filter::In(Field::Id, texts(2, 30))),
        not(Filter::In(Field::Author, texts(1, 30))),
        thirty.clone().and(authors.clone()),
        not(thirty).and(not(authors)),
    ] {
        for field in [OrderField::OccurredAt, OrderField::Id] {
            for direction in [Direction::Ascending, Direction::Descending] {
                let order = Order { field, direction };
                let mut expected: Vec<_> =
                    items.iter().filter(|item| filter.matches(item)).collect();
                assert!(expected.len() > 3, "{filter:?}");
                expected.sort_by_key(|item| (order.sort_value(item), item.id.clone()));
                if direction == Direction::Descending {
                    expected.reverse();
                }
                let expected: Vec<_> = expected.iter().map(|item| item.id.to_string()).collect();
                for limit in [2, 5, 100] {
                    let query = Query::new(limit).with_order(order).with_filter(filter.clone());
                    assert_eq!(walk(&bed.store, query).await, expected, "{order:?} {filter:?}");
                }
                let count = bed.store.count(&tenant("acme"), &filter).await.expect("a count");
                assert_eq!(count, expected.len() as u64, "{filter:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_request_is_sent_for_what_nothing_can_pass() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let acme = tenant("acme");
    let items = fill(&bed.store).await;
    let asked = bed.book.asked();
    let nobody = Filter::eq(Field::UserId, "ada").and(Filter::eq(Field::UserId, "bob"));
    assert_eq!(bed.store.count(&acme, &nobody).await.expect("a count"), 0);
    let expired = Filter::Compare(Field::ExpiresAt, CompareOp::Lte, start().into());
    assert!(walk(&bed.store, Query::new(5).with_filter(expired)).await.is_empty());
    let none = bed.store.fetch(&acme, &[], &Projection::full()).await.expect("a fetch");
    assert!(none.is_empty());
    assert_eq!(bed.book.asked(), asked, "requests");
    assert_eq!(bed.store.count(&acme, &Filter::All).await.expect("a count"), items.len() as u64);
    assert_eq!(bed.book.asked(), asked + 1, "a count is one request");
}

#[tokio::test]
async fn an_id_that_is_asked_for_twice_is_read_once() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let acme = tenant("acme");
    fill(&bed.store).await;
    bed.book.take();
    let ids = ["01", "02", "01", "none", "01"].map(id);
    let found = bed.store.fetch(&acme, &ids, &Projection::full()).await.expect("a fetch");
    let found: Vec<_> =
        found.iter().map(|item| item.as_ref().map(|item| item.id.as_str())).collect();
    assert_eq!(found, [Some("01"), Some("02"), Some("01"), None, Some("01")]);
    assert_eq!(bed.book.total().reads, 3, "two that are there and one that is not");
    let many: Vec<_> = (0..1_001).map(|n| id(&format!("{n}"))).collect();
    let refused = bed.store.fetch(&acme, &many, &Projection::full()).await.expect_err("too many");
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert_eq!(bed.book.total().reads, 0);
}

#[tokio::test]
async fn a_page_is_filled_past_documents_that_cannot_be_read() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let items = fill(&bed.store).await;
    // Ten that share the sort key of one that can be read, on both sides of it.
    let path = |name: &str| format!("tenants/acme/memories/{name}");
    let mut fields = bed.project.read(&path("22")).expect("a document");
    fields["kind"] = json!({"integerValue": "1"});
    for n in 0..5 {
        for name in [format!("1x{n}"), format!("9x{n}")] {
            bed.project.write(&path(&name), &fields);
        }
    }
    let mut expected: Vec<_> = items.iter().map(|item| item.id.to_string()).collect();
    expected.sort();
    for limit in [1, 3, 100] {
        for order in [Order::NEWEST, Order::OLDEST, Order::BY_ID] {
            let mut found = walk(&bed.store, Query::new(limit).with_order(order)).await;
            found.sort();
            assert_eq!(found, expected, "{order:?} by pages of {limit}");
        }
    }
    let full = Projection::full();
    let one = bed.store.fetch(&tenant("acme"), &[id("1x0")], &full).await.expect_err("its fetch");
    assert_eq!(one.kind(), ErrorKind::Corrupt);
    assert!(one.to_string().contains("1x0"), "{one}");
    let both = bed.store.fetch(&tenant("acme"), &["1x0", "22"].map(id), &full).await;
    let both = both.expect_err("absent is none and nothing else is");
    assert!(both.kind() == ErrorKind::Corrupt && both.to_string().contains("1x0"), "{both}");
    let other = bed.store.fetch(&tenant("acme"), &["22"].map(id), &full).await.expect("a fetch");
    assert!(other[0].is_some());
}

//! Vectors on the emulator: what a search asks for and is billed, how it fills up, what is refused
//! before it is sent, and how vectors are kept without their items changing.

use std::time::Duration;

use memory_core::traits::{
    ChangePosition, HitRecords, IndexHits, RecordStore as _, TenantSpaces, UpsertOutcome,
    VectorEntry, VectorIndex as _, VectorQuery,
};
use memory_core::{
    CallContext, Clock as _, EmbeddingSpace, ErrorKind, Field, Filter, HealthStatus, MemoryItem,
    MetaKey, MetaValue, Metric, Precondition, Projection, Result, Revision, Vectors, Write,
};
use memory_firestore::{FilterKeyType, FirestoreSettings};
use memory_testkit::Harness as _;
use serde_json::json;

use crate::common::{FirestoreHarness, commit, id, item, put, revision, tenant, with_vector};

const X: [f32; 3] = [1.0, 0.0, 0.0];

/// A vector at some angle from [`X`]: the greater the number, the farther.
fn at(n: u32) -> [f32; 3] {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let angle = n as f32 / 2_000.0;
    [angle.cos(), angle.sin(), 0.0]
}

/// Items `0000`, `0001` and so on, each farther than the one before.
async fn load(
    harness: &FirestoreHarness,
    context: &CallContext,
    space: &EmbeddingSpace,
    count: u32,
    adapt: impl Fn(u32, &mut MemoryItem),
) -> Vec<Revision> {
    let writes = (0..count).map(|n| {
        let mut one = item(&format!("{n:04}"), "a text");
        adapt(n, &mut one);
        with_vector(one, space, at(n))
    });
    let writes: Vec<_> = writes.collect();
    let mut revisions = Vec::new();
    for writes in writes.chunks(1_000) {
        let commit = commit(writes.to_vec());
        let receipt = harness.store.commit(context, commit).await.expect("the items are put");
        revisions.extend(receipt.results.into_iter().filter_map(|result| result.revision));
    }
    revisions
}

fn nearest(space: &EmbeddingSpace, limit: u32) -> VectorQuery {
    VectorQuery::new(space.clone(), X.to_vec(), limit)
}

fn ids(hits: &IndexHits) -> Vec<&str> {
    hits.hits.iter().map(|hit| hit.id.as_str()).collect()
}

/// The ids from `first` on.
fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{n:04}")).collect()
}

/// How often the server was asked for neighbours so far.
fn asked(harness: &FirestoreHarness) -> usize {
    harness.recorder.queries().iter().filter(|(method, _)| *method == "RunQuery").count()
}

#[tokio::test]
async fn a_search_is_billed_its_hits_and_the_entries_it_scans() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let revisions = load(&harness, &context, &space, 25, |_, _| {}).await;
    harness.book.take();
    for round in 0..2 {
        let hits = harness.store.search(&context, &nearest(&space, 10)).await.unwrap();
        assert_eq!(ids(&hits), numbers(0..10));
        assert!(hits.exact && hits.hits[0].score == 1.0);
        assert_eq!(hits.hits[3].revision, revisions[3]);
        let lines = harness.book.take();
        let bill = |operation| {
            let of = lines.iter().filter(|(name, _)| *name == operation);
            of.map(|(_, usage)| (usage.reads, usage.index_entries)).collect::<Vec<_>>()
        };
        assert_eq!(bill("nearest"), [(11, 25)]);
        // Counted by the first search alone, and under a name of its own.
        assert_eq!(bill("vector_count"), if round == 0 { vec![(1, 25)] } else { vec![] });
    }
    // The estimate follows what is kept and forgotten here.
    let gone = [id("0003"), id("0004"), id("no such")];
    harness.store.remove(&context, &space, &gone).await.unwrap();
    harness.book.take();
    let hits = harness.store.search(&context, &nearest(&space, 4)).await.unwrap();
    assert_eq!(ids(&hits), ["0000", "0001", "0002", "0005"]);
    let usage = harness.book.total();
    assert_eq!((usage.reads, usage.index_entries), (5, 23));
    // Nothing to find is one read.
    let other = tenant("empty");
    let space = harness.space(&other).await;
    harness.store.search(&other, &nearest(&space, 10)).await.unwrap();
    harness.book.take();
    assert!(harness.store.search(&other, &nearest(&space, 10)).await.unwrap().hits.is_empty());
    assert_eq!(harness.book.total().reads, 1);
}

#[tokio::test]
async fn what_has_expired_leaves_its_place_to_others() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let soon = harness.clock.now().saturating_add(Duration::from_secs(5));
    load(&harness, &context, &space, 30, |n, one| one.expires_at = (n < 5).then_some(soon)).await;
    let hits = harness.store.search(&context, &nearest(&space, 4)).await.unwrap();
    assert_eq!(ids(&hits), numbers(0..4));
    let before = asked(&harness);
    harness.clock.advance(Duration::from_secs(5));
    harness.book.take();
    let hits = harness.store.search(&context, &nearest(&space, 4)).await.unwrap();
    assert_eq!(ids(&hits), numbers(5..9));
    // Four, of which none is left, eight, of which three are, sixteen.
    assert_eq!(asked(&harness) - before, 3);
    let usage = harness.book.total();
    assert_eq!((usage.reads, usage.deletes), (4 + 1 + 8 + 1 + 16 + 1, 0));
    // All there is: no request beyond the one that brings less than it asks for.
    let before = asked(&harness);
    let hits = harness.store.search(&context, &nearest(&space, 40)).await.unwrap();
    assert_eq!(ids(&hits), numbers(5..30));
    assert_eq!(asked(&harness) - before, 1);
}

#[tokio::test]
async fn what_a_filter_drops_is_filled_up_and_records_come_along() {
    let key = MetaKey::new("topic").unwrap();
    let declared = |settings: &mut FirestoreSettings| {
        settings.filter_keys.insert(key.clone(), FilterKeyType::Text);
    };
    let Some(harness) = FirestoreHarness::new(declared).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    load(&harness, &context, &space, 20, |n, one| {
        one.importance = Some(if n < 6 { 0.1 } else { 0.9 });
        one.metadata.insert(key.clone(), MetaValue::Text(format!("topic {}", n % 2)));
    })
    .await;
    let important = Filter::Compare(Field::Importance, memory_core::CompareOp::Gt, 0.5.into());
    let query = nearest(&space, 3).with_filter(important.clone());
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(ids(&hits), numbers(6..9));
    assert!(hits.hits.iter().all(|hit| hit.item.is_none()));

    let topic = Filter::eq(Field::Metadata(key.clone()), "topic 1");
    let narrow = HitRecords { first: 2, projection: Projection::narrow() };
    let query = nearest(&space, 3).with_filter(important.and(topic)).with_records(Some(narrow));
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(ids(&hits), ["0007", "0009", "0011"]);
    let item = hits.hits[1].item.as_ref().expect("a record of the first two");
    assert_eq!(item.revision.as_ref(), Some(&hits.hits[1].revision));
    assert!(item.content().is_empty() && item.metadata.is_empty() && item.vectors.is_empty());
    assert!(hits.hits[2].item.is_none());

    harness.book.take();
    let full = HitRecords { first: 3, projection: Projection::full() };
    let query = nearest(&space, 3).with_records(Some(full));
    let hits = harness.store.search(&context, &query).await.unwrap();
    let item = hits.hits[2].item.clone().expect("a record");
    let fetched = harness.store.fetch(&context, &[id("0002")], &Projection::full()).await.unwrap();
    assert_eq!(Some(*item), fetched[0]);
    let bills = harness.book.take();
    let search = bills.iter().find(|(name, _)| *name == "nearest").expect("a bill");
    assert_eq!(search.1.reads, 3 + 1, "records cost no reads of their own");
}

#[tokio::test]
async fn beyond_a_thousand_what_has_expired_is_removed_and_a_filter_is_refused() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let soon = harness.clock.now().saturating_add(Duration::from_secs(5));
    load(&harness, &context, &space, 1_004, |n, one| {
        one.author = Some(if n < 1_001 { "ada" } else { "bob" }.to_owned());
        one.expires_at = (n < 1_001).then_some(soon);
    })
    .await;
    // An equality that no scope covers, and a range, which none can.
    let bobs = Filter::eq(Field::Author, "bob");
    let query = nearest(&space, 2).with_filter(bobs.clone());
    let error = harness.store.search(&context, &query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("vector_scopes"), "{error}");
    assert!(error.message().contains("a scope of author"), "{error}");
    let important = Filter::Compare(Field::Importance, memory_core::CompareOp::Gt, 0.5.into());
    let query = nearest(&space, 2).with_filter(important);
    let error = harness.store.search(&context, &query).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("one more field"), "{error}");

    harness.clock.advance(Duration::from_secs(5));
    harness.book.take();
    let hits = harness.store.search(&context, &nearest(&space, 900)).await.unwrap();
    assert_eq!(ids(&hits), numbers(1_001..1_004));
    let usage = harness.book.total();
    // 900, then 1,000 twice: what the second brings is removed.
    assert_eq!((usage.deletes, usage.writes), (1_000, 0));
    assert_eq!(usage.reads, 900 + 11 + 1_000 + 11 + 4 + 11);
    let query = nearest(&space, 2).with_filter(bobs);
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(ids(&hits), numbers(1_001..1_003));
}

#[tokio::test]
async fn what_cannot_be_searched_or_kept_is_refused_before_it_is_sent() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let revisions = load(&harness, &context, &space, 1, |_, _| {}).await;
    harness.store.search(&context, &nearest(&space, 1)).await.unwrap();
    let before = harness.book.asked();
    let wide = EmbeddingSpace::new("wide", "1", 2_049, Metric::Cosine).unwrap();
    let refused = |answer: Result<()>, kind, what: &str| {
        assert_eq!(answer.unwrap_err().kind(), kind, "{what}");
    };
    let bad: [(&EmbeddingSpace, Vec<f32>); 6] = [
        (&space, vec![]),
        (&space, vec![1.0; 4]),
        (&space, vec![f32::NAN, 0.0, 0.0]),
        (&space, vec![f32::INFINITY, 0.0, 0.0]),
        (&space, vec![0.0; 3]),
        (&wide, vec![1.0; 2_049]),
    ];
    for (space, vector) in bad {
        let query = VectorQuery::new(space.clone(), vector.clone(), 1);
        let answer = harness.store.search(&context, &query).await.map(|_| ());
        refused(answer, ErrorKind::InvalidInput, "a search");
        let entry = VectorEntry { id: id("0000"), revision: revisions[0].clone(), vector };
        let answer = harness.store.upsert(&context, space, &[entry]).await.map(|_| ());
        refused(answer, ErrorKind::InvalidInput, "an upsert");
    }
    for limit in [0, 1_001, u32::MAX] {
        let answer = harness.store.search(&context, &nearest(&space, limit)).await.map(|_| ());
        refused(answer, ErrorKind::InvalidInput, "a limit");
        let answer = harness.store.missing(&context, &space, None, limit).await.map(|_| ());
        refused(answer, ErrorKind::InvalidInput, "a limit of a list");
    }
    let many = vec![id("0000"); 1_001];
    refused(harness.store.remove(&context, &space, &many).await, ErrorKind::InvalidInput, "ids");
    let key = Field::Metadata(MetaKey::new("undeclared").unwrap());
    let query = nearest(&space, 1).with_filter(Filter::eq(key, "x"));
    let answer = harness.store.search(&context, &query).await.map(|_| ());
    refused(answer, ErrorKind::Unsupported, "an undeclared key");
    assert_eq!(harness.book.asked(), before, "a refusal was sent");
    // The positive twin: what is right is sent and found.
    let hits = harness.store.search(&context, &nearest(&space, 1)).await.unwrap();
    assert_eq!((hits.hits.len(), harness.book.asked()), (1, before + 1));
}

#[tokio::test]
async fn two_spaces_stand_side_by_side_in_an_item_that_does_not_change() {
    let Some(harness) = FirestoreHarness::new(|s| s.bulk.batch_documents = 2).await else { return };
    let context = tenant("t");
    let old = harness.space(&context).await;
    let new = EmbeddingSpace::new("test", "2", 2, Metric::Euclidean).unwrap();
    let meta = harness.meta().expect("the store's own");
    let before = meta.spaces(&context).await.unwrap();
    let both = TenantSpaces { next: Some(new.clone()), ..before };
    meta.set_spaces(&context, &both).await.unwrap();
    let revisions = load(&harness, &context, &old, 5, |_, _| {}).await;
    let all: Vec<_> = (0..5).map(|n| id(&format!("{n:04}"))).collect();
    let items = harness.store.fetch(&context, &all, &Projection::full()).await.unwrap();

    // One entry is stale, one of another vector comes twice: the last of these stays.
    let entry = |n: usize, revision: &Revision, vector: [f32; 2]| VectorEntry {
        id: all[n].clone(),
        revision: revision.clone(),
        vector: vector.to_vec(),
    };
    let stale = Revision::new("stale").unwrap();
    let entries = vec![
        entry(0, &revisions[0], [9.0, 9.0]),
        entry(1, &stale, [1.0, 0.0]),
        entry(2, &revisions[2], [2.0, 0.0]),
        entry(3, &revisions[3], [3.0, 0.0]),
        entry(4, &revisions[4], [4.0, 0.0]),
        entry(0, &revisions[0], [0.0, 3.0]),
    ];
    use UpsertOutcome::{Stale, Stored};
    harness.book.take();
    let outcomes = harness.store.upsert(&context, &new, &entries).await.unwrap();
    assert_eq!(outcomes, [Stored, Stale, Stored, Stored, Stored, Stored]);
    let usage = harness.book.total();
    assert_eq!((usage.reads, usage.writes), (5, 4));
    let query = VectorQuery::new(new.clone(), vec![0.0, 0.0], 10);
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(ids(&hits), ["0002", "0000", "0003", "0004"]);
    assert_eq!(hits.hits[0].score, -4.0);
    assert_eq!(hits.hits[1].revision, revisions[0]);
    let lacking = harness.store.missing(&context, &new, None, 10).await.unwrap();
    assert_eq!(lacking, [id("0001")]);

    harness.store.remove(&context, &old, &all[..4]).await.unwrap();
    let hits = harness.store.search(&context, &nearest(&old, 10)).await.unwrap();
    assert_eq!(ids(&hits), ["0004"]);
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(hits.hits.len(), 4, "the other space stays");
    let lacking = harness.store.missing(&context, &old, None, 10).await.unwrap();
    assert_eq!(lacking, all[..4]);

    // The items are as they were, and their revisions hold.
    let now = harness.store.fetch(&context, &all, &Projection::full()).await.unwrap();
    assert_eq!(now, items);
    let swap = |n: usize| {
        let one = item(&format!("{n:04}"), "a text");
        Write::put(one, Vectors::Keep, Precondition::Revision(revisions[n].clone()))
    };
    let receipt = harness.store.commit(&context, commit(vec![swap(0), swap(4)])).await.unwrap();
    assert_ne!(revision(&receipt), revisions[0]);
    let hits = harness.store.search(&context, &query).await.unwrap();
    assert_eq!(ids(&hits), ["0002", "0000", "0003", "0004"]);
    assert_eq!(hits.hits[1].revision, revision(&receipt));
}

#[tokio::test]
async fn vectors_of_two_writers_meet_and_none_is_lost() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let first = harness.space(&context).await;
    let second = EmbeddingSpace::new("test", "2", 3, Metric::Cosine).unwrap();
    let meta = harness.meta().expect("the store's own");
    let before = meta.spaces(&context).await.unwrap();
    let both = TenantSpaces { next: Some(second.clone()), ..before };
    meta.set_spaces(&context, &both).await.unwrap();
    let writes = (0..10).map(|n| put(item(&format!("{n:04}"), "x"), Precondition::Absent));
    let receipt = harness.store.commit(&context, commit(writes.collect())).await.unwrap();
    let another = harness.another().await;
    let entries: Vec<_> = receipt
        .results
        .into_iter()
        .filter_map(|result| {
            Some(VectorEntry { id: result.id, revision: result.revision?, vector: X.to_vec() })
        })
        .collect();
    for _ in 0..5 {
        let (a, b, c) = tokio::join!(
            harness.store.upsert(&context, &first, &entries),
            another.upsert(&context, &second, &entries),
            another.upsert(&context, &first, &entries),
        );
        for outcomes in [a, b, c] {
            assert_eq!(outcomes.unwrap(), [UpsertOutcome::Stored; 10]);
        }
    }
    for space in [&first, &second] {
        let hits = harness.store.search(&context, &nearest(space, 100)).await.unwrap();
        assert_eq!(ids(&hits), numbers(0..10));
        assert!(another.missing(&context, space, None, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_list_of_what_is_missing_reads_what_it_walks_past() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    load(&harness, &context, &space, 20, |_, _| {}).await;
    let bare = ["0003b", "0012b", "0019b"];
    let writes = bare.map(|name| put(item(name, "x"), Precondition::Absent));
    harness.store.commit(&context, commit(writes.to_vec())).await.unwrap();
    harness.book.take();
    let lacking = harness.store.missing(&context, &space, None, 2).await.unwrap();
    assert_eq!(lacking, [id("0003b"), id("0012b")]);
    // Two, four, eight, and of sixteen the nine that are left.
    assert_eq!(harness.book.total().reads, 2 + 4 + 8 + 9);
    let after = Some(id("0012b"));
    let lacking = harness.store.missing(&context, &space, after, 100).await.unwrap();
    assert_eq!(lacking, [id("0019b")]);
    assert_eq!(harness.book.total().reads, 8);
}

#[tokio::test]
async fn documents_that_cannot_be_read_are_left_out_and_newer_ones_are_not() {
    let Some(harness) = FirestoreHarness::new(|_| {}).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    load(&harness, &context, &space, 3, |_, _| {}).await;
    let health = memory_core::traits::VectorIndex::health(&*harness.store).await;
    assert_eq!(health.status, HealthStatus::Healthy);
    let mut fields = harness.project.read("tenants/t/memories/0001").expect("a document");
    fields["content_hash"] = json!({ "integerValue": "7" });
    harness.project.write("tenants/t/memories/0001", &fields);
    let hits = harness.store.search(&context, &nearest(&space, 2)).await.unwrap();
    assert_eq!(ids(&hits), ["0000", "0002"]);
    let health = memory_core::traits::VectorIndex::health(&*harness.store).await;
    assert_eq!(health.status, HealthStatus::Degraded);

    fields["v"] = json!({ "integerValue": "2" });
    harness.project.write("tenants/t/memories/0001", &fields);
    let error = harness.store.search(&context, &nearest(&space, 2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("0001"), "{error}");
}

#[tokio::test]
async fn a_position_that_was_given_out_is_reached_and_no_other_is() {
    let logged = |settings: &mut FirestoreSettings| settings.change_log = true;
    let Some(harness) = FirestoreHarness::new(logged).await else { return };
    let context = tenant("t");
    let space = harness.space(&context).await;
    let write = with_vector(item("a", "x"), &space, X);
    let receipt = harness.store.commit(&context, commit(vec![write])).await.unwrap();
    let position = receipt.position.expect("the log gives positions");
    let query = |position| nearest(&space, 1).with_at_least(Some(position));
    harness.store.search(&context, &query(position)).await.unwrap();
    harness.book.take();
    let hits = harness.store.search(&context, &query(position)).await.unwrap();
    assert_eq!(ids(&hits), ["a"]);
    assert_eq!(harness.book.total().reads, 1 + 1, "a position that is remembered is not read");
    let another = harness.another().await;
    assert_eq!(ids(&another.search(&context, &query(position)).await.unwrap()), ["a"]);
    for store in [&harness.store, &another] {
        let beyond = ChangePosition(position.0 + 1);
        let error = store.search(&context, &query(beyond)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}

#[tokio::test]
async fn a_space_that_comes_back_is_empty_and_its_items_are_as_they_were() {
    let Some(harness) = FirestoreHarness::new(|settings| settings.sweep_batch = 2).await else {
        return;
    };
    let context = tenant("t");
    let old = harness.space(&context).await;
    let revisions = load(&harness, &context, &old, 5, |_, _| {}).await;
    let meta = harness.meta().expect("the store's own");
    let new = EmbeddingSpace::new("test", "2", 3, Metric::Cosine).unwrap();
    let to = async |active: &EmbeddingSpace, next: Option<&EmbeddingSpace>| {
        let before = meta.spaces(&context).await.unwrap();
        let spaces = TenantSpaces { active: Some(active.clone()), next: next.cloned(), ..before };
        meta.set_spaces(&context, &spaces).await.unwrap();
    };
    to(&old, Some(&new)).await;
    let entry = VectorEntry { id: id("0004"), revision: revisions[4].clone(), vector: X.to_vec() };
    harness.store.upsert(&context, &new, &[entry]).await.unwrap();
    to(&new, None).await;
    harness.book.take();
    to(&new, Some(&old)).await;
    let usage = harness.book.total();
    assert!(usage.writes >= 5, "the vectors were removed: {usage:?}");
    assert!(harness.store.search(&context, &nearest(&old, 10)).await.unwrap().hits.is_empty());
    let hits = harness.store.search(&context, &nearest(&new, 10)).await.unwrap();
    assert_eq!((ids(&hits), &hits.hits[0].revision), (vec!["0004"], &revisions[4]));
    let all: Vec<_> = (0..5).map(|n| id(&format!("{n:04}"))).collect();
    assert_eq!(harness.store.missing(&context, &old, None, 10).await.unwrap(), all);
    for (item, revision) in harness
        .store
        .fetch(&context, &all, &Projection::full())
        .await
        .unwrap()
        .into_iter()
        .zip(revisions)
    {
        assert_eq!(item.expect("an item").revision, Some(revision));
    }
}

//! Neighbours: of the tenant, visible, by score; and what is asked of the service.

use std::time::Duration;

use memory_core::traits::{
    ChangePosition, UpsertOutcome, VectorEntry, VectorIndex as _, VectorQuery,
};
use memory_core::{
    Capability, CompareOp, EmbeddingSpace, ErrorKind, Field, Filter, FilterKeys, HealthStatus,
    MemoryItem, MetaKey, MetaValue, Metric, Revision, Scalar,
};
use memory_vector::google::{ItemVector, ScoreFrom};
use serde_json::json;

use super::server::Fault;
use super::{Rig, context, id, item, now, of_tenant, space};

fn query(limit: u32) -> VectorQuery {
    VectorQuery::new(space(), vec![1.0, 0.0], limit)
}

/// Ten items around a quarter of a circle, the nearest first.
async fn fan(rig: &Rig) -> Vec<MemoryItem> {
    let mut items = Vec::new();
    for n in 0..10_u8 {
        let mut one = item(&format!("{n}"));
        one.metadata.insert(MetaKey::new("n").unwrap(), MetaValue::Int(i64::from(n)));
        one.metadata.insert(MetaKey::new("on").unwrap(), MetaValue::Bool(n % 2 == 0));
        if n >= 8 {
            one.metadata.insert(MetaKey::new("topic").unwrap(), MetaValue::Text("tea".to_owned()));
            let tags = MetaValue::List(vec!["x".to_owned(), n.to_string()]);
            one.metadata.insert(MetaKey::new("tags").unwrap(), tags);
        }
        let vector = [1.0, f32::from(n) / 10.0];
        let entry = [ItemVector { item: &one, vector: &vector }];
        let outcomes = rig.index.upsert_items(&context(), &space(), &entry).await.unwrap();
        assert_eq!(outcomes, [UpsertOutcome::Stored]);
        items.push(one);
    }
    rig.server.forget_seen();
    items
}

async fn found(rig: &Rig, query: &VectorQuery) -> Vec<String> {
    let hits = rig.index.search(&context(), query).await.unwrap().hits;
    hits.iter().map(|hit| hit.id.as_str().to_owned()).collect()
}

#[tokio::test]
async fn nearest_first_with_their_cosine() {
    for (scores, similarity) in
        [(ScoreFrom::Distance, false), (ScoreFrom::Vectors, false), (ScoreFrom::Distance, true)]
    {
        let rig = Rig::with(|settings| settings.scores = scores).await;
        rig.prepared().await;
        rig.server.with(|state| state.similarity = similarity);
        fan(&rig).await;
        let answer = rig.index.search(&context(), &query(4)).await.unwrap();
        assert!(!answer.exact);
        for (n, hit) in (0_u8..).zip(&answer.hits) {
            let cosine = 1.0 / f64::hypot(1.0, f64::from(n) / 10.0);
            assert_eq!(hit.id, id(&n.to_string()));
            assert_eq!(hit.revision, Revision::from_number(1));
            assert!((hit.score - cosine).abs() < 1e-6, "{scores:?} {hit:?}");
        }
        assert_eq!(answer.hits.len(), 4);
    }
}

#[tokio::test]
async fn dot_products_are_computed_here_for_their_sign_is_not_told() {
    let rig = Rig::ready().await;
    let space = EmbeddingSpace::new("model", "1", 2, Metric::Dot).unwrap();
    rig.index.prepare(&space).await.unwrap();
    let vectors = [[2.0_f32, 0.0], [0.5, 0.0], [-1.0, 1.0], [0.0, 0.0]];
    let entries: Vec<VectorEntry> = vectors
        .iter()
        .enumerate()
        .map(|(n, vector)| VectorEntry {
            id: id(&n.to_string()),
            revision: Revision::from_number(1),
            vector: vector.to_vec(),
        })
        .collect();
    rig.index.upsert(&context(), &space, &entries).await.unwrap();
    let query = VectorQuery::new(space, vec![1.0, 0.0], 10);
    let hits = rig.index.search(&context(), &query).await.unwrap().hits;
    let scores: Vec<f64> = hits.iter().map(|hit| hit.score).collect();
    assert_eq!(scores, [2.0, 0.5, 0.0, -1.0]);
}

#[tokio::test]
async fn equal_scores_come_by_id() {
    let rig = Rig::ready().await;
    let entries: Vec<VectorEntry> = ["b", "c", "a"]
        .map(|name| VectorEntry {
            id: id(name),
            revision: Revision::from_number(1),
            vector: vec![1.0, 1.0],
        })
        .to_vec();
    rig.index.upsert(&context(), &space(), &entries).await.unwrap();
    assert_eq!(found(&rig, &query(10)).await, ["a", "b", "c"]);
}

#[tokio::test]
async fn filters_are_asked_of_the_service() {
    let rig = Rig::ready().await;
    let items = fan(&rig).await;
    let meta = |name: &str| Field::Metadata(MetaKey::new(name).unwrap());
    let n = |op, value| Filter::Compare(meta("n"), op, Scalar::Int(value));
    let table = [
        (Filter::eq(meta("topic"), "tea"), true),
        (Filter::eq(meta("on"), true), true),
        (n(CompareOp::Eq, 7), true),
        (n(CompareOp::Gte, 6), true),
        (n(CompareOp::Gt, 6), false),
        (n(CompareOp::Lt, 3), false),
        (n(CompareOp::Ne, 3), false),
        (Filter::In(meta("n"), vec![1.into(), 5.into()]), true),
        (Filter::In(meta("topic"), vec!["tea".into(), "ale".into()]), true),
        (Filter::Contains(meta("tags"), "9".to_owned()), true),
        (Filter::Exists(meta("tags")), true),
        (Filter::Not(Box::new(Filter::Exists(meta("tags")))), false),
        (Filter::eq(Field::Id, "4"), true),
        (Filter::eq(Field::UserId, "ada"), true),
        (Filter::eq(Field::UserId, "bob"), true),
        (Filter::eq(Field::ContentHash, items[0].content_hash().to_string().as_str()), true),
        (Filter::Compare(Field::OccurredAt, CompareOp::Lte, now().into()), true),
        (Filter::Compare(Field::OccurredAt, CompareOp::Lt, now().into()), false),
        (Filter::Exists(Field::ExpiresAt), true),
        (Filter::Or(vec![n(CompareOp::Eq, 1), Filter::eq(meta("topic"), "tea")]), true),
        (Filter::And(vec![n(CompareOp::Gte, 4), Filter::eq(meta("on"), false)]), true),
        (Filter::Or(vec![]), true),
    ];
    for (filter, exact) in table {
        let passing: Vec<String> = items
            .iter()
            .filter(|item| filter.matches(item))
            .map(|item| item.id.to_string())
            .collect();
        let found = found(&rig, &query(100).with_filter(filter.clone())).await;
        // All that pass are candidates, whatever else is.
        assert!(passing.iter().all(|id| found.contains(id)), "{filter:?}: {found:?}");
        assert_eq!(found == passing, exact, "{filter:?}: {found:?}");
    }
    let undeclared = query(10).with_filter(Filter::eq(meta("other"), 1));
    let error = rig.index.search(&context(), &undeclared).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("metadata.other"));
}

#[tokio::test]
async fn objects_without_attributes_pass_every_filter() {
    let rig = Rig::ready().await;
    fan(&rig).await;
    let bare =
        VectorEntry { id: id("bare"), revision: Revision::from_number(1), vector: vec![1.0, 0.95] };
    rig.index.upsert(&context(), &space(), &[bare]).await.unwrap();
    let teas = Filter::eq(Field::Metadata(MetaKey::new("topic").unwrap()), "tea");
    assert_eq!(found(&rig, &query(10).with_filter(teas)).await, ["8", "9", "bare"]);
}

#[tokio::test]
async fn tenants_and_spaces_do_not_meet() {
    let rig = Rig::ready().await;
    fan(&rig).await;
    assert_eq!(found(&rig, &query(100)).await.len(), 10);
    let others = rig.index.search(&of_tenant("other"), &query(100)).await.unwrap();
    assert!(others.hits.is_empty());
    // Nearer ones of another tenant take no places.
    let near = |n: u64| VectorEntry {
        id: id(&format!("near {n}")),
        revision: Revision::from_number(1),
        vector: vec![1.0, 0.0],
    };
    let nearer: Vec<VectorEntry> = (0..20).map(near).collect();
    rig.index.upsert(&of_tenant("other"), &space(), &nearer).await.unwrap();
    assert_eq!(found(&rig, &query(2)).await, ["0", "1"]);
    let others = rig.index.search(&of_tenant("other"), &query(100)).await.unwrap();
    assert_eq!(others.hits.len(), 20);
    let second = EmbeddingSpace::new("model", "2", 2, Metric::Cosine).unwrap();
    let other = VectorQuery::new(second.clone(), vec![1.0, 0.0], 10);
    let error = rig.index.search(&context(), &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("prepare"), "{error}");
    rig.index.prepare(&second).await.unwrap();
    assert!(rig.index.search(&context(), &other).await.unwrap().hits.is_empty());
    // An answer with a stranger's object in it, as no condition lets it come.
    let stranger = json!({"results": [
        {"distance": 0.1, "dataObject": {"name": "x", "data": {"tenant": "other", "id": "a", "revision": "1"}}},
        {"distance": 0.2, "dataObject": {"name": "y", "data": {"tenant": "t", "id": "b", "revision": "1"}}},
    ]});
    rig.server.fail_next([Fault::Refused(200, stranger)]);
    assert_eq!(found(&rig, &query(10)).await, ["b"]);
}

#[tokio::test]
async fn expired_items_are_not_found() {
    let rig = Rig::ready().await;
    let mut short = item("short");
    short.expires_at = Some(now().saturating_add(Duration::from_secs(5)));
    let long = item("long");
    let entries = [&short, &long].map(|item| ItemVector { item, vector: &[1.0, 0.0] });
    rig.index.upsert_items(&context(), &space(), &entries).await.unwrap();
    assert_eq!(found(&rig, &query(10)).await, ["long", "short"]);
    rig.clock.advance(Duration::from_secs(6));
    assert_eq!(found(&rig, &query(10)).await, ["long"]);
}

#[tokio::test]
async fn answers_in_pages_are_put_together() {
    let rig = Rig::with(|settings| settings.exact = true).await;
    rig.prepared().await;
    fan(&rig).await;
    rig.server.with(|state| state.page = Some(3));
    let answer = rig.index.search(&context(), &query(8)).await.unwrap();
    assert!(answer.exact);
    assert_eq!(answer.hits.len(), 8);
    assert_eq!(rig.server.lines(), ["POST :search"; 3]);
    let asked = &rig.server.seen()[1].body;
    assert_eq!((&asked["pageToken"], &asked["pageSize"]), (&json!("3"), &json!(8)));
    assert!(asked["vectorSearch"]["searchHint"]["knnHint"].is_object(), "{asked}");
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let part = rig.index.list(&context(), &space(), after.as_deref(), 1_000).await.unwrap();
        assert!(part.entries.len() <= 3);
        listed.extend(part.entries);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    listed.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[9], (id("9"), Revision::from_number(1)));
}

#[tokio::test]
async fn a_search_of_the_largest_limit_is_taken_and_others_are_refused() {
    let rig = Rig::with(|settings| settings.exact = true).await;
    rig.prepared().await;
    fan(&rig).await;
    assert_eq!(found(&rig, &query(1_000)).await.len(), 10);
    rig.server.forget_seen();
    for bad in [query(0), query(1_001), VectorQuery::new(space(), vec![1.0], 1)] {
        let error = rig.index.search(&context(), &bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    for limit in [0, 1_001] {
        let error = rig.index.list(&context(), &space(), None, limit).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let positioned = query(1).with_at_least(Some(ChangePosition(7)));
    let error = rig.index.search(&context(), &positioned).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let error = rig.index.missing(&context(), &space(), None, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(rig.server.seen().is_empty());
}

#[tokio::test]
async fn answers_that_are_not_of_this_crate_are_corrupt() {
    let rig = Rig::ready().await;
    for object in [
        json!({"dataObject": {"data": {"tenant": "t", "id": "a", "revision": "1"}}}),
        json!({"distance": 0.1, "dataObject": {"data": {"tenant": "t", "revision": "1"}}}),
        json!({"distance": 0.1, "dataObject": {"data": {"tenant": "t", "id": "", "revision": "1"}}}),
        json!({"distance": 0.1, "dataObject": {"data": {"tenant": "t", "id": "a"}}}),
        json!({"distance": 0.1, "dataObject": {}}),
        json!({"distance": 0.1}),
    ] {
        rig.server.fail_next([Fault::Refused(200, json!({"results": [object]}))]);
        let error = rig.index.search(&context(), &query(10)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{object}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn what_it_can_do_and_how_it_is() {
    let rig = Rig::with(|settings| settings.exact = true).await;
    let able = rig.index.capabilities();
    assert_eq!(able.backend, "google-vector-search");
    assert_eq!(able.set, [Capability::VectorSearch].into());
    assert!(able.exact_vectors);
    assert!(matches!(able.filter_keys, FilterKeys::Declared(keys) if keys.len() == 4));
    assert_eq!(rig.index.health().await.status, HealthStatus::Healthy);
    rig.server
        .fail_next([Fault::status(503, "UNAVAILABLE"), Fault::status(403, "PERMISSION_DENIED")]);
    assert_eq!(rig.index.health().await.status, HealthStatus::Degraded);
    assert_eq!(rig.index.health().await.status, HealthStatus::Unhealthy);
    rig.index.close().await.unwrap();
}

//! The index definitions: every query that the store can send is served by them, and every one of
//! them is needed.

use std::collections::BTreeSet;
use std::time::Duration;

use memory_core::traits::{
    ChangeLog as _, ChangePosition, EraseScope, RecordStore as _, StoreUpkeep as _,
    TenantDirectory as _, VectorIndex as _, VectorQuery,
};
use memory_core::{
    AgentId, CallContext, CompareOp, ConsumerName, Direction, EmbeddingSpace, Field, Filter,
    IdempotencyKey, MetaKey, MetaValue, Metric, Order, OrderField, Precondition, Query, Scalar,
    SessionId, UserId,
};
use memory_firestore::{FieldName, FilterKeyType, FirestoreSettings, FirestoreStore, VectorScope};
use serde_json::Value;

use crate::checker::Definitions;
use crate::common::{FirestoreHarness, commit, definitions, erase, item, put, tenant, with_vector};
use memory_testkit::conformance::start;

fn field(name: &str) -> Field {
    Field::parse(name).expect("a field")
}

fn compare(name: &str, op: CompareOp, value: impl Into<Scalar>) -> Filter {
    Filter::Compare(field(name), op, value.into())
}

fn not(filter: Filter) -> Filter {
    Filter::Not(Box::new(filter))
}

fn space(revision: &str, dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new("m", revision, dimensions, Metric::Cosine).expect("a space")
}

/// Everything that settings can ask for.
fn wide(settings: &mut FirestoreSettings) {
    settings.change_log = true;
    settings.change_log_keep = 1;
    settings
        .vector_scopes
        .insert(VectorScope([Field::Kind, field("metadata.text")].map(FieldName).into()));
}

/// A value that a field can be equal to.
fn equality(one: &Field) -> Filter {
    let value: Scalar = match one.to_string().as_str() {
        "content_hash" => memory_core::ContentHash::of("x").to_string().as_str().into(),
        "metadata.number" => 1.into(),
        "metadata.flag" => true.into(),
        "kind" => "fact".into(),
        "role" => "user".into(),
        _ => "ada".into(),
    };
    Filter::eq(one.clone(), value)
}

fn equalities(settings: &FirestoreSettings) -> Vec<Filter> {
    let declared = settings.filter_keys.keys().cloned().map(Field::Metadata);
    let fields: BTreeSet<_> =
        settings.equals.iter().map(|name| name.0.clone()).chain(declared).collect();
    fields.iter().map(equality).collect()
}

/// Filters of every kind that is not an equality alone.
fn others() -> Vec<Filter> {
    let contains = || Filter::Contains(field("metadata.list"), "a".to_owned());
    let session = || Filter::eq(Field::SessionId, "s");
    vec![
        Filter::All,
        contains(),
        contains().and(session()),
        contains().and(compare("metadata.number", CompareOp::Gt, 1)),
        session().and(Filter::eq(Field::UserId, "ada")),
        session().and(equality(&Field::ContentHash)).and(equality(&field("metadata.text"))),
        compare("metadata.number", CompareOp::Lt, 5),
        compare("metadata.number", CompareOp::Ne, 5).and(session()),
        compare("metadata.text", CompareOp::Gte, "a").and(session()),
        compare("metadata.text", CompareOp::Gte, "a").and(compare("importance", CompareOp::Lt, 1)),
        compare("importance", CompareOp::Gt, 0.5),
        compare("occurred_at", CompareOp::Gte, start()),
        compare("created_at", CompareOp::Gte, start()),
        compare("updated_at", CompareOp::Lt, start()),
        compare("expires_at", CompareOp::Lt, start().saturating_add(Duration::from_secs(9))),
        compare("id", CompareOp::Gt, "m"),
        compare("author", CompareOp::Lt, "m"),
        compare("kind", CompareOp::Ne, "fact"),
        not(Filter::eq(Field::UserId, "ada")),
        not(session().and(Filter::eq(Field::UserId, "ada"))),
        Filter::eq(Field::Author, "ada"),
        Filter::eq(Field::Role, "user").and(session()),
        Filter::eq(Field::Importance, 0.5),
        Filter::eq(Field::Id, "m"),
        Filter::eq(Field::OccurredAt, start()),
        Filter::Exists(Field::SessionId),
        Filter::Exists(field("metadata.flag")),
        not(Filter::Exists(Field::ExpiresAt)),
        Filter::In(Field::UserId, vec!["ada".into(), "bob".into()]),
        Filter::In(field("metadata.number"), vec![1.into(), 2.5.into()]).and(session()),
        Filter::In(Field::Id, vec!["a".into(), "b".into()]),
        Filter::Or(vec![session(), Filter::eq(Field::UserId, "bob")]),
        Filter::Or(vec![session(), compare("importance", CompareOp::Gt, 0.5)]),
        Filter::Or(vec![session(), contains()]),
    ]
}

async fn pages(store: &FirestoreStore, context: &CallContext, filter: &Filter) {
    let fields =
        [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id];
    for field in fields {
        for direction in [Direction::Ascending, Direction::Descending] {
            let order = Order { field, direction };
            let mut query = Query::new(2).with_filter(filter.clone()).with_order(order);
            for _ in 0..2 {
                let page = store.query(context, &query).await;
                let page = page.unwrap_or_else(|error| panic!("{query:?}: {error}"));
                query.cursor = page.next;
                if query.cursor.is_none() {
                    break;
                }
            }
        }
    }
    store.count(context, filter).await.expect("a count");
}

/// Sends every form of query that there is.
async fn everything(bed: &FirestoreHarness) {
    let (store, acme) = (&bed.store, tenant("acme"));
    let spaces = [space("1", 3), space("2", 3)];
    bed.set_spaces(&acme, spaces[0].clone(), Some(spaces[1].clone())).await;
    for n in 0..6_u8 {
        let mut one = item(&format!("m{n}"), "x");
        one.session_id = (n < 4).then(|| SessionId::new("s").expect("a session"));
        one.agent_id = (n % 2 == 0).then(|| AgentId::new("ada").expect("an agent"));
        one.importance = Some(f64::from(n) / 8.0);
        for (key, value) in [
            ("number", MetaValue::Int(i64::from(n))),
            ("text", MetaValue::Text("ada".to_owned())),
            ("list", MetaValue::List(vec!["a".to_owned()])),
        ] {
            one.metadata.insert(MetaKey::new(key).expect("a key"), value);
        }
        let write = with_vector(one, &spaces[usize::from(n % 2)], [1.0, f32::from(n), 0.0]);
        let key = IdempotencyKey::new(format!("key {n}"), [n; 32]).expect("a key");
        let keyed = commit(vec![write]).with_idempotency(Some(key));
        store.commit(&acme, keyed).await.expect("a commit");
    }
    for filter in equalities(&bed.settings).iter().chain(&others()) {
        pages(store, &acme, filter).await;
    }
    for space in &spaces {
        for scope in &bed.settings.vector_scopes {
            let each = scope.0.iter().map(|name| equality(&name.0));
            let filter = each.fold(Filter::All, Filter::and);
            let query = VectorQuery::new(space.clone(), vec![1.0, 1.0, 0.0], 3);
            for filter in [filter.clone(), filter.and(compare("importance", CompareOp::Gt, 0.0))] {
                let query = query.clone().with_filter(filter);
                store.search(&acme, &query).await.expect("a search");
            }
        }
        store.missing(&acme, space, None, 2).await.expect("a list");
        store.missing(&acme, space, Some(crate::common::id("m1")), 2).await.expect("a list");
    }
    store.tenant_stats(&acme).await.expect("numbers");
    store.store_stats().await.expect("numbers");
    assert_eq!(store.verify().await.expect("a check").faults, [""; 0]);
    store.list_tenants(None, 10).await.expect("tenants");
    let name = ConsumerName::new("c").expect("a name");
    let changes = store.read_changes(&acme, ChangePosition(0), 100).await.expect("changes");
    store.acknowledge(&acme, &name, changes.head).await.expect("an answer");
    store.consumers(&acme).await.expect("consumers");
    store.forget_consumer(&acme, &name).await.expect("an answer");
    let mut short = item("short", "x");
    short.expires_at = Some(start().saturating_add(Duration::from_secs(5)));
    let writes = vec![put(short, Precondition::Any)];
    store.commit(&acme, commit(writes)).await.expect("a commit");
    bed.clock.advance(Duration::from_secs(5));
    store.sweep_expired(&acme, 10).await.expect("a sweep");
    let ada = EraseScope::User(UserId::new("ada").expect("a user"));
    erase(store, &acme, &ada).await;
    erase(store, &acme, &EraseScope::Tenant).await;
}

/// Without one of its definitions.
fn without(json: &Value, part: &str, place: usize) -> Value {
    let mut json = json.clone();
    json[part].as_array_mut().expect("a list").remove(place);
    json
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_is_served_and_every_index_is_needed() {
    let Some(bed) = FirestoreHarness::new(wide).await else { return };
    everything(&bed).await;
    let json = definitions(&bed.settings, &[space("1", 3), space("2", 3)]);
    let whole = Definitions::parse(&json).expect("valid definitions");
    assert_eq!(bed.recorder.complaints(&whole), [""; 0]);
    assert!(bed.recorder.queries().len() > 500, "{}", bed.recorder.queries().len());

    let count = json["indexes"].as_array().expect("a list").len();
    let unneeded: Vec<_> = (0..count)
        .filter(|place| {
            let less = Definitions::parse(&without(&json, "indexes", *place)).expect("valid");
            bed.recorder.complaints(&less).is_empty()
        })
        .map(|place| json["indexes"][place].to_string())
        .collect();
    assert_eq!(unneeded, [""; 0], "no query needs {} of {count}", unneeded.len());
}

/// The harness of every other test would notice a query without its index.
#[tokio::test]
async fn a_query_without_its_index_is_noticed() {
    let Some(mut bed) = FirestoreHarness::new(|_| {}).await else { return };
    bed.store.query(&tenant("acme"), &Query::new(5)).await.expect("a page");
    assert_eq!(bed.complaints(), [""; 0]);
    let whole = std::mem::replace(&mut bed.settings.orders, [OrderField::Id].into());
    let complaints = bed.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("by_occurred"), "{complaints:?}");
    bed.settings.orders = whole;
}

/// What every definition of a field is for: an expiry that the service acts on, or a field that no
/// query is served by alone and whose own indexes would only cost: what is large, what has many
/// entries, what grows with time, and the vectors.
fn fields_are_as_they_must_be(read: &Definitions, vectors: &[String]) -> bool {
    const ALONE: [&str; 15] = [
        "content",
        "payload",
        "metadata",
        "keys",
        "lists",
        "commit",
        "rev",
        "content_hash",
        "occurred_at",
        "created_at",
        "updated_at",
        "by_id",
        "by_occurred",
        "by_created",
        "by_updated",
    ];
    let exempt = ALONE.map(str::to_owned).into_iter().chain(vectors.iter().cloned());
    read.expiring("memories").as_deref() == Some("visible_until")
        && read.expiring("keys").as_deref() == Some("delete_at")
        && read.exempt("memories") == exempt.collect()
}

#[test]
fn every_definition_of_a_field_is_needed() {
    let mut settings = FirestoreSettings::new("p");
    settings.filter_keys.insert(MetaKey::new("text").expect("a key"), FilterKeyType::Text);
    wide(&mut settings);
    let json = definitions(&settings, &[space("1", 3), space("2", 3)]);
    let whole = Definitions::parse(&json).expect("valid definitions");
    let vectors: BTreeSet<_> = json["indexes"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|index| index["fields"].as_array().cloned().unwrap_or_default())
        .filter(|field| field.get("vectorConfig").is_some())
        .map(|field| field["fieldPath"].as_str().expect("a path").to_owned())
        .collect();
    let vectors: Vec<_> = vectors.into_iter().collect();
    assert_eq!(vectors.len(), 2, "one of each space");
    let overrides = json["fieldOverrides"].as_array().expect("a list");
    assert!(fields_are_as_they_must_be(&whole, &vectors), "{overrides:?}");
    for (place, one) in overrides.iter().enumerate() {
        let less = Definitions::parse(&without(&json, "fieldOverrides", place)).expect("valid");
        assert!(!fields_are_as_they_must_be(&less, &vectors), "nothing is the worse without {one}");
    }
}

//! Frozen samples: documents of shape 1 are read, what is written today has their fields, and
//! documents that this build cannot read are told apart from those that it can.
//!
//! A sample is a document's path and its fields as the service's REST interface has them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use memory_core::traits::{
    ChangeLog as _, ChangeOp, ChangePosition, EraseScope, FencingToken, LeaseStore as _,
    RecordStore as _, RecordStoreExt as _, StoreMeta as _, StoreUpkeep as _, TenantDirectory as _,
    UpsertOutcome, VectorEntry, VectorIndex as _, VectorQuery,
};
use memory_core::{
    AgentId, CallContext, Commit, ConsumerName, EmbeddingSpace, ErrorKind, Filter, HealthStatus,
    IdempotencyKey, Kind, LeaseName, MemoryItem, MetaKey, MetaValue, Metric, Order, Precondition,
    Projection, Query, Role, SessionId, UserId, VectorProjection, Vectors, Write,
};
use memory_firestore::{FirestoreSettings, OpenMode};
use serde_json::{Value, json};

use crate::common::{FirestoreHarness, add, commit, erase, id, item, put, revision, tenant, time};

/// The samples, by name.
const SAMPLES: [(&str, &str); 15] = [
    ("store", include_str!("../samples/v1/store.json")),
    ("clock", include_str!("../samples/v1/clock.json")),
    ("remains", include_str!("../samples/v1/remains.json")),
    ("tenant", include_str!("../samples/v1/tenant.json")),
    ("full", include_str!("../samples/v1/full.json")),
    ("bare", include_str!("../samples/v1/bare.json")),
    ("vectors", include_str!("../samples/v1/vectors.json")),
    ("key", include_str!("../samples/v1/key.json")),
    ("lease", include_str!("../samples/v1/lease.json")),
    ("reset", include_str!("../samples/v1/reset.json")),
    ("puts", include_str!("../samples/v1/puts.json")),
    ("vectored", include_str!("../samples/v1/vectored.json")),
    ("deleted", include_str!("../samples/v1/deleted.json")),
    ("consumer", include_str!("../samples/v1/consumer.json")),
    ("tombstone", include_str!("../samples/v1/tombstone.json")),
];

fn samples() -> BTreeMap<&'static str, (String, Value)> {
    let read = |(name, text): (&'static str, &str)| {
        let sample: Value = serde_json::from_str(text).expect("JSON");
        let path = sample["path"].as_str().expect("a path").to_owned();
        (name, (path, sample["fields"].clone()))
    };
    SAMPLES.map(read).into()
}

fn logging(settings: &mut FirestoreSettings) {
    settings.change_log = true;
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("m", "1", 3, Metric::Cosine).expect("a space")
}

/// A tenant of the samples, allowed through its fence.
fn acme() -> CallContext {
    tenant("acme/1").with_fence(Some(FencingToken(7)))
}

/// A memory with everything.
fn full() -> MemoryItem {
    let mut one = item("full/1", "the whole of it: \u{1f600}");
    one.agent_id = Some(AgentId::new("agent").expect("an agent"));
    one.session_id = Some(SessionId::new("session").expect("a session"));
    one.kind = Kind::Message;
    one.role = Some(Role::Assistant);
    one.author = Some("Ada".to_owned());
    one.payload = Some(json!({"list": [1, 2.5, null, "x"], "deep": {"a": true}}));
    one.importance = Some(0.25);
    one.occurred_at = time("2024-02-29T12:00:00.123456Z");
    one.created_at = time("2024-03-01T00:00:00Z");
    one.updated_at = time("2024-03-02T00:00:00.5Z");
    one.expires_at = Some(time("2031-01-01T00:00:00Z"));
    for (key, value) in [
        ("number", MetaValue::Int(i64::MAX)),
        ("text", MetaValue::Text("text".to_owned())),
        ("flag", MetaValue::Bool(true)),
        ("list", MetaValue::List(vec!["a".to_owned(), "b".to_owned()])),
        ("undeclared.key", MetaValue::Float(0.1)),
    ] {
        one.metadata.insert(MetaKey::new(key).expect("a key"), value);
    }
    one
}

/// Writes documents of each kind through the store.
async fn write_all(bed: &FirestoreHarness) {
    let (store, acme) = (&bed.store, acme());
    bed.set_spaces(&acme, space(), None).await;
    let mut erased = item("erased", "x");
    erased.user_id = Some(UserId::new("bob").expect("a user"));
    add(store, &acme, erased).await.expect("a create");
    let bob = EraseScope::User(UserId::new("bob").expect("a user"));
    erase(store, &acme, &bob).await;
    // The change log begins here with what an erasure leaves of it.
    let receipt = store.commit(&acme, keyed()).await.expect("a commit");
    let held = receipt.results[2].revision.clone().expect("a revision");
    let entry = VectorEntry { id: id("vectors"), revision: held, vector: vec![0.6, 0.8, 0.0] };
    let outcome = store.upsert(&acme, &space(), &[entry]).await.expect("an upsert");
    assert_eq!(outcome, [UpsertOutcome::Stored]);
    let delete = Write::delete(id("gone"), Precondition::Any);
    store.commit(&acme, commit(vec![delete])).await.expect("a delete");
    let job = LeaseName::new("job").expect("a name");
    let lease = store.acquire(&acme, &job, Duration::from_secs(3_600)).await.expect("an answer");
    assert!(lease.is_some());
    let head = store.read_changes(&acme, ChangePosition(0), 1).await.expect("changes").head;
    let consumer = ConsumerName::new("c").expect("a name");
    store.acknowledge(&acme, &consumer, head).await.expect("an answer");
    store.set_write_fence(&acme, Some(FencingToken(7))).await.expect("a fence");
}

/// The commit that the idempotency key of the samples stands for.
fn keyed() -> Commit {
    let writes = [full(), item("bare", "x"), item("vectors", "x"), item("gone", "x")];
    let writes = writes.map(|item| put(item, Precondition::Absent)).to_vec();
    let key = IdempotencyKey::new("request 1", [1; 32]).expect("a key");
    commit(writes).with_idempotency(Some(key))
}

/// The names and types of a document's fields, those of maps and lists too, and of the JSON that
/// texts hold.
fn shape(fields: &Value) -> BTreeSet<String> {
    fn of_json(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    of_json(value, &format!("{path}/{key}"), into);
                }
            }
            Value::Array(values) => {
                for value in values {
                    of_json(value, &format!("{path}/*"), into);
                }
            }
            Value::Null => drop(into.insert(format!("{path}: null"))),
            Value::Bool(_) => drop(into.insert(format!("{path}: bool"))),
            Value::Number(_) => drop(into.insert(format!("{path}: number"))),
            Value::String(_) => drop(into.insert(format!("{path}: text"))),
        }
    }
    fn of(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else {
            panic!("{path} has no value");
        };
        match kind.as_str() {
            "mapValue" => {
                into.insert(format!("{path}: map"));
                for (key, value) in value["fields"].as_object().into_iter().flatten() {
                    of(value, &format!("{path}.{key}"), into);
                }
            }
            "arrayValue" => {
                into.insert(format!("{path}: list"));
                for value in value["values"].as_array().into_iter().flatten() {
                    of(value, &format!("{path}[]"), into);
                }
            }
            kind => {
                into.insert(format!("{path}: {kind}"));
                let json = value.as_str().and_then(|text| serde_json::from_str(text).ok());
                if kind == "stringValue"
                    && let Some(json @ (Value::Object(_) | Value::Array(_))) = json
                {
                    of_json(&json, path, into);
                }
            }
        }
    }
    let mut all = BTreeSet::new();
    for (name, value) in fields.as_object().expect("fields") {
        of(value, name, &mut all);
    }
    all
}

#[tokio::test]
async fn what_is_written_has_the_fields_of_the_samples() {
    let Some(bed) = FirestoreHarness::new(logging).await else { return };
    write_all(&bed).await;
    for (name, (path, sample)) in samples() {
        // Names of these depend on the store's key.
        let path = match name {
            "tombstone" => bed.project.list("tombstones").pop().expect("a tombstone"),
            "remains" => {
                let mut all = bed.project.list("meta").into_iter();
                all.find(|path| path.starts_with("meta/tenant-")).expect("what remains of a tenant")
            }
            _ => path,
        };
        let written = bed.project.read(&path).unwrap_or_else(|| panic!("no {name} at {path}"));
        assert_eq!(shape(&written), shape(&sample), "{name}: {written}");
    }
}

/// A store over the samples.
async fn sampled() -> Option<FirestoreHarness> {
    let bed = FirestoreHarness::new(logging).await?;
    bed.know(&space());
    for (path, fields) in samples().values() {
        bed.project.write(path, fields);
    }
    Some(bed)
}

fn without_revision(mut item: MemoryItem) -> MemoryItem {
    assert!(item.revision.take().is_some());
    item
}

#[tokio::test]
async fn samples_are_read() {
    let Some(bed) = sampled().await else { return };
    let (store, acme) = (&bed.store, acme());
    let schema = store.schema().await.expect("the schema");
    assert_eq!((schema.stored, schema.current), (1, 1));
    let listed = store.list_tenants(None, 10).await.expect("tenants").tenants;
    assert_eq!(listed, std::slice::from_ref(&acme.tenant));
    let spaces = store.spaces(&acme).await.expect("the spaces");
    assert_eq!((spaces.active, spaces.next, spaces.version), (Some(space()), None, 1));

    let one = async |name: &str| {
        let found = store.fetch_one(&acme, &id(name)).await.expect("a fetch");
        without_revision(found.expect("it is there"))
    };
    let mut bare = item("bare", "x");
    assert_eq!(one("full/1").await, full());
    assert_eq!(one("bare").await, bare);
    let all = Projection::full().with_vectors(VectorProjection::All);
    let found = store.fetch(&acme, &[id("vectors")], &all).await.expect("a fetch");
    let found = found.into_iter().next().flatten().expect("it is there");
    bare.id = id("vectors");
    bare.vectors = [(space().id(), vec![0.6, 0.8, 0.0])].into();
    // Its revision is the one from before the vector came.
    let rev = &samples()["vectors"].1["rev"]["stringValue"];
    assert_eq!(found.revision.as_ref().map(|rev| rev.as_str()), rev.as_str());
    let held = found.revision.clone().expect("a revision");
    assert_eq!(without_revision(found), bare);
    let page = store.query(&acme, &Query::new(10).with_order(Order::BY_ID)).await.expect("a page");
    let ids: Vec<_> = page.items.iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["bare", "full/1", "vectors"]);
    for filter in [
        Filter::eq(field("metadata.number"), i64::MAX),
        Filter::eq(field("metadata.text"), "text"),
        Filter::eq(field("metadata.flag"), true),
        Filter::Contains(field("metadata.list"), "b".to_owned()),
        Filter::eq(field("session_id"), "session"),
        Filter::eq(field("importance"), 0.25),
    ] {
        assert_eq!(store.count(&acme, &filter).await.expect("a count"), 1, "{filter:?}");
    }
    let query = VectorQuery::new(space(), vec![0.6, 0.8, 0.0], 5);
    let hits = store.search(&acme, &query).await.expect("a search").hits;
    assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["vectors"]);

    // The key gives its answer, the fence keeps others out, the lease is held.
    assert!(store.commit(&acme, keyed()).await.expect("a replay").replayed);
    let outside = tenant("acme/1");
    let error = add(store, &outside, item("late", "x")).await.expect_err("a fence stands");
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let job = LeaseName::new("job").expect("a name");
    let life = Duration::from_secs(60);
    assert_eq!(store.acquire(&acme, &job, life).await.expect("an answer"), None);
    bed.clock.advance(Duration::from_secs(3_600));
    let lease = store.acquire(&acme, &job, life).await.expect("an answer").expect("it is free");
    assert_eq!(lease.token, FencingToken(2), "greater than the sample's");

    let changes = store.read_changes(&acme, ChangePosition(0), 10).await.expect("changes");
    let named = changes.changes.iter().map(|change| match &change.op {
        ChangeOp::Put(id, _) => format!("put {id}"),
        ChangeOp::Vectors(id, _) => format!("vectors {id}"),
        ChangeOp::Delete(id) => format!("delete {id}"),
        ChangeOp::Reset => "reset".to_owned(),
    });
    assert_eq!(
        named.collect::<Vec<_>>(),
        [
            "reset",
            "put full/1",
            "put bare",
            "put vectors",
            "put gone",
            "vectors vectors",
            "delete gone",
        ]
    );
    let consumers = store.consumers(&acme).await.expect("consumers");
    assert_eq!(consumers.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["c"]);
    let ids = [id("erased"), id("bare")];
    assert_eq!(store.erased(&acme, &ids).await.expect("an answer"), [true, false]);

    // What was read can be written over, at the revision that it has.
    bare.vectors.clear();
    let swap = Write::put(bare, Vectors::Keep, Precondition::Revision(held));
    let receipt = store.commit(&acme, commit(vec![swap])).await.expect("a swap");
    let found = store.fetch(&acme, &[id("vectors")], &all).await.expect("a fetch");
    let found = found.into_iter().next().flatten().expect("it is there");
    assert_eq!((found.vectors.len(), found.revision), (1, Some(revision(&receipt))));
}

fn field(name: &str) -> memory_core::Field {
    memory_core::Field::parse(name).expect("a field")
}

/// The path of a memory of the samples' tenant, and a sample with one field in place of another.
fn spoilt(name: &str, spoil: impl FnOnce(&mut serde_json::Map<String, Value>)) -> (String, Value) {
    let (path, mut fields) = samples()["bare"].clone();
    spoil(fields.as_object_mut().expect("fields"));
    (path.replace("/bare", &format!("/{name}")), fields)
}

#[tokio::test]
async fn documents_of_a_newer_shape_are_refused() {
    let Some(bed) = sampled().await else { return };
    let (store, acme) = (&bed.store, acme());
    let newer = json!({"integerValue": "2"});
    let (path, fields) = spoilt("newer", |fields| drop(fields.insert("v".into(), newer.clone())));
    bed.project.write(&path, &fields);
    let unsupported = |error: memory_core::Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("shape 2"), "{error}");
    };
    unsupported(store.fetch_one(&acme, &id("newer")).await.expect_err("a fetch"));
    unsupported(store.query(&acme, &Query::new(10)).await.expect_err("a page"));
    let over = put(item("newer", "x"), Precondition::Any);
    unsupported(store.commit(&acme, commit(vec![over])).await.expect_err("a commit"));
    let report = store.verify().await.expect("a check");
    assert!(report.faults.iter().any(|fault| fault.contains("newer")), "{:?}", report.faults);
    // The others are there, each by its id.
    assert!(store.fetch_one(&acme, &id("bare")).await.expect("a fetch").is_some());

    // A tenant's document of a newer shape keeps every write out, and the store's everything.
    let (path, mut fields) = samples()["tenant"].clone();
    fields["v"] = newer.clone();
    bed.project.write(&path, &fields);
    let other = bed.another().await;
    unsupported(add(&other, &acme, item("z", "x")).await.expect_err("a commit"));
    let (path, mut fields) = samples()["store"].clone();
    fields["v"] = newer;
    bed.project.write(&path, &fields);
    let other = bed.another().await;
    unsupported(other.fetch_one(&acme, &id("bare")).await.expect_err("a fetch"));
    let mut settings = bed.settings.clone();
    settings.open = OpenMode::FailFast;
    let opened = memory_firestore::FirestoreStore::open(
        settings,
        std::sync::Arc::new(crate::common::Owner),
        bed.clock.clone(),
        std::sync::Arc::new(memory_core::traits::NoLedger),
    );
    unsupported(opened.await.expect_err("an opening"));
}

#[tokio::test]
async fn documents_that_cannot_be_read_are_named_and_spare_the_others() {
    let Some(bed) = sampled().await else { return };
    let (store, acme) = (&bed.store, acme());
    assert_eq!(store.health_of_records().await, HealthStatus::Healthy);
    assert_eq!(store.verify().await.expect("a check").faults, [""; 0]);
    let spoils: [(&str, &str, Option<Value>); 8] = [
        ("spoilt-0", "content_hash", Some(json!({"integerValue": "1"}))),
        ("spoilt-1", "content_hash", Some(json!({"stringValue": "abc"}))),
        ("spoilt-2", "occurred_at", Some(json!({"stringValue": "yesterday"}))),
        ("spoilt-3", "kind", Some(json!({"stringValue": ""}))),
        ("spoilt-4", "metadata", Some(json!({"stringValue": "x"}))),
        ("spoilt-5", "payload", Some(json!({"stringValue": "{"}))),
        ("spoilt-6", "v", None),
        ("spoilt-7", "importance", Some(json!({"doubleValue": 7.5}))),
    ];
    for (name, field, value) in &spoils {
        let (path, fields) = spoilt(name, |fields| {
            match value {
                Some(value) => fields.insert((*field).to_owned(), value.clone()),
                None => fields.remove(*field),
            };
            // Each has a place of its own in every order.
            fields.insert("by_id".to_owned(), json!({"stringValue": name}));
            let at = fields["by_occurred"]["stringValue"].as_str().expect("a sort key");
            let at = at.replace("bare", name);
            fields.insert("by_occurred".to_owned(), json!({"stringValue": at}));
        });
        bed.project.write(&path, &fields);
    }
    for (name, field, _) in &spoils {
        let error = store.fetch_one(&acme, &id(name)).await.expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{field}: {error}");
        assert!(error.to_string().contains(name), "{field}: {error}");
    }
    // Pages of any size go on past them.
    for limit in [1, 2, 5, 100] {
        for order in [Order::BY_ID, Order::NEWEST] {
            let mut query = Query::new(limit).with_order(order);
            let mut ids = BTreeSet::new();
            for _ in 0..20 {
                let page = store.query(&acme, &query).await.expect("a page");
                ids.extend(page.items.iter().map(|item| item.id.to_string()));
                query.cursor = page.next;
                if query.cursor.is_none() {
                    break;
                }
            }
            assert!(query.cursor.is_none(), "the pages do not end");
            let ids: Vec<_> = ids.iter().map(String::as_str).collect();
            assert_eq!(ids, ["bare", "full/1", "vectors"], "pages of {limit}");
        }
    }
    let health = store.health_of_records().await;
    assert_eq!(health, HealthStatus::Degraded);
    let report = store.verify().await.expect("a check");
    for (name, ..) in &spoils {
        assert!(report.faults.iter().any(|fault| fault.contains(name)), "{:?}", report.faults);
    }
    assert!(!format!("{report:?}").contains("yesterday"), "a report shows what is stored");
    // One that cannot be read can be erased with its user.
    let ada = EraseScope::User(UserId::new("ada").expect("a user"));
    assert_eq!(erase(store, &acme, &ada).await.0, 3 + spoils.len() as u64);
    assert_eq!(store.verify().await.expect("a check").faults, [""; 0]);
}

/// What the tests above ask for in one word.
trait Asking {
    async fn health_of_records(&self) -> HealthStatus;
}

impl Asking for memory_firestore::FirestoreStore {
    async fn health_of_records(&self) -> HealthStatus {
        memory_core::traits::RecordStore::health(self).await.status
    }
}

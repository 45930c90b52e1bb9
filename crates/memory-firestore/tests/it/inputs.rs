//! Hostile names, sizes beyond the limits, depth at the limits, vectors that are none.

use std::collections::BTreeMap;

use memory_core::limits::{
    CONTENT_BYTES, METADATA_BYTES, METADATA_KEYS, METADATA_LIST, METADATA_STRING_BYTES,
    PAYLOAD_DEPTH,
};
use memory_core::traits::{
    EraseScope, RecordStore as _, RecordStoreExt as _, StoreMeta as _, TenantDirectory as _,
    TenantSpaces, VectorEntry, VectorIndex as _, VectorQuery,
};
use memory_core::{
    AgentId, CallContext, EmbeddingSpace, ErrorKind, Field, Filter, IdempotencyKey, LeaseName,
    MemoryItem, MetaKey, MetaValue, Metric, Order, Outcome, Precondition, Projection, Query,
    SessionId, Timestamp, UserId, VectorProjection, Vectors, Write,
};
use serde_json::{Value, json};

use crate::common::{FirestoreHarness, add, commit, erase, id, item, put, tenant, with_vector};

/// Names that a path, a pattern or a reserved word could be mistaken for, in the order of bytes.
fn hostile() -> Vec<String> {
    let mut names: Vec<_> = [
        "%",
        "%2F",
        "%2f",
        ".",
        "..",
        "../x",
        "./",
        "/",
        "//",
        "/x",
        "__",
        "__x__",
        "_",
        "_-",
        "a b",
        "a",
        "a.",
        "a.0",
        "a.b",
        "a/",
        "a/b",
        "a/memories/b",
        "`",
        "~",
        "~2f",
        "~7e",
        "é",
        "e\u{301}",
        "\u{feff}",
        "\u{202e}x",
        "\u{1f600}",
        "(default)",
        "*",
        "'\"\\",
        "null",
        "0",
    ]
    .map(str::to_owned)
    .to_vec();
    names.extend(["x".repeat(480), "/".repeat(480), ".".repeat(480), "\u{1f600}".repeat(120)]);
    names.push("é".repeat(240));
    names.sort();
    names
}

fn ids(items: &[MemoryItem]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_tenants_and_ids_are_kept_apart_and_in_order() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, names) = (&bed.store, hostile());
    let text = |tenant: &str, name: &str| format!("{} of {}", name.len(), tenant.len());
    for each in &names {
        let writes = names.iter().map(|name| {
            let mut one = item(name, &text(each, name));
            one.user_id = Some(UserId::new(name).expect("a user"));
            one.agent_id = Some(AgentId::new(name).expect("an agent"));
            one.session_id = Some(SessionId::new(name).expect("a session"));
            put(one, Precondition::Absent)
        });
        store.commit(&tenant(each), commit(writes.collect())).await.expect("a commit");
    }
    for each in &names {
        let context = tenant(each);
        let query = Query::new(1_000).with_order(Order::BY_ID);
        let page = store.query(&context, &query).await.expect("a page");
        assert_eq!(ids(&page.items), names, "ids of {each:?}");
        for found in &page.items {
            assert_eq!(found.content(), text(each, found.id.as_str()));
        }
    }
    let context = tenant("a/b");
    for name in &names {
        let found = store.fetch_one(&context, &id(name)).await.expect("a fetch").expect("there");
        assert_eq!(found.user_id.as_ref().map(UserId::as_str), Some(name.as_str()));
        for field in [Field::UserId, Field::SessionId, Field::Id] {
            let filter = Filter::eq(field, name.as_str());
            let page = store.query(&context, &Query::new(10).with_filter(filter)).await;
            assert_eq!(ids(&page.expect("a page").items), [name.as_str()]);
        }
    }
    let listed = store.list_tenants(None, 1_000).await.expect("tenants").tenants;
    assert_eq!(listed.iter().map(|one| one.as_str()).collect::<Vec<_>>(), names);
    let after = store.list_tenants(Some(listed[4].clone()), 3).await.expect("tenants").tenants;
    assert_eq!(after, listed[5..8]);

    // What goes from one goes from no other.
    let mine = tenant("..");
    let delete = Write::delete(id("a/b"), Precondition::Any);
    store.commit(&mine, commit(vec![delete])).await.expect("a delete");
    let hers = EraseScope::User(UserId::new("/").expect("a user"));
    assert_eq!(erase(store, &mine, &hers).await.0, 1);
    assert_eq!(erase(store, &tenant("."), &EraseScope::Tenant).await.0, names.len() as u64);
    for each in &names {
        let count = store.count(&tenant(each), &Filter::All).await.expect("a count");
        let left = match each.as_str() {
            "." => 0,
            ".." => names.len() - 2,
            _ => names.len(),
        };
        assert_eq!(count, left as u64, "items of {each:?}");
    }
}

#[tokio::test]
async fn hostile_names_of_leases_and_keys_are_kept_apart() {
    use memory_core::traits::LeaseStore as _;

    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    let life = std::time::Duration::from_secs(60);
    for name in hostile() {
        let lease = LeaseName::new(&name).expect("a name");
        let held = store.acquire(&acme, &lease, life).await.expect("an answer");
        assert!(held.is_some_and(|held| held.name == lease), "{name:?}");
        assert!(store.acquire(&acme, &lease, life).await.expect("an answer").is_none());
        let key = IdempotencyKey::new(&name, [7; 32]).expect("a key");
        let keyed = commit(vec![put(item(&name, "x"), Precondition::Absent)]);
        let keyed = keyed.with_idempotency(Some(key));
        let first = store.commit(&acme, keyed.clone()).await.expect("a commit");
        let again = store.commit(&acme, keyed).await.expect("a replay");
        assert_eq!((first.replayed, again.replayed), (false, true), "{name:?}");
        assert_eq!(first.results, again.results);
    }
}

/// A payload of arrays and objects, as deep as may be.
fn deep(depth: usize) -> Value {
    (1..depth).fold(json!({"text": "\u{1f600}", "n": i64::MAX}), |inner, level| {
        if level % 2 == 0 { json!([inner]) } else { json!({ "a.b/`__x__": inner }) }
    })
}

#[tokio::test]
async fn payload_and_metadata_at_their_limits_come_back_as_they_were() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    let mut one = item("deep", "x");
    one.payload = (1..=PAYLOAD_DEPTH).rev().map(deep).find(|value| {
        let mut probe = item("probe", "x");
        probe.payload = Some(value.clone());
        probe.validate().is_ok()
    });
    assert!(one.payload.is_some());
    let odd = [
        "a.b",
        ".a",
        "`",
        "\\",
        "a/b",
        "é",
        "\u{1f600}",
        "_",
        "__",
        "__a",
        "1",
        "a b",
        "-",
        "$",
        "\"",
        "'",
        "[0]",
        "*",
        "%2F",
        "number",
    ];
    for (n, key) in odd.iter().enumerate() {
        let value = match n % 4 {
            0 => MetaValue::Int(i64::MIN),
            1 => MetaValue::Float(5e-324),
            2 => MetaValue::Text("\u{1f600}".repeat(10)),
            _ => MetaValue::Bool(true),
        };
        one.metadata.insert(MetaKey::new(key).expect("a key"), value);
    }
    let members = (0..METADATA_LIST).map(|n| format!("member {n}")).collect();
    one.metadata.insert(MetaKey::new("list").expect("a key"), MetaValue::List(members));
    let long = MetaValue::Text("x".repeat(METADATA_STRING_BYTES));
    one.metadata.insert(MetaKey::new("text").expect("a key"), long.clone());
    let mut n = 0;
    while one.metadata.len() < METADATA_KEYS {
        one.metadata.insert(MetaKey::new(format!("more {n}")).expect("a key"), MetaValue::Int(n));
        n += 1;
    }
    add(store, &acme, one.clone()).await.expect("a create");
    let found = store.fetch_one(&acme, &one.id).await.expect("a fetch").expect("there");
    assert_eq!((&found.payload, &found.metadata), (&one.payload, &one.metadata));
    for filter in [
        Filter::Contains(Field::parse("metadata.list").expect("a field"), "member 99".to_owned()),
        Filter::eq(Field::parse("metadata.text").expect("a field"), "x".repeat(1_500).as_str()),
    ] {
        assert_eq!(store.count(&acme, &filter).await.expect("a count"), 1, "{filter:?}");
    }
}

/// The tenant holds what it held, and nothing was billed but reads.
async fn untouched(bed: &FirestoreHarness, context: &CallContext, held: u64) {
    // What is known of the tenant is forgotten with a refusal, and known again from here on.
    bed.store.spaces(context).await.expect("the spaces");
    let usage = bed.book.total();
    assert_eq!((usage.writes, usage.deletes), (0, 0));
    let count = bed.store.count(context, &Filter::All).await.expect("a count");
    assert_eq!(count, held, "only what was there before");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    add(store, &acme, item("there", "x")).await.expect("a create");
    // Whether the server takes `verify` is known from here on.
    add(store, &acme, item("here", "x")).await.expect("a create");
    bed.book.take();

    // More than a request holds, though each document fits.
    let writes = (0..6).map(|n| {
        put(item(&format!("large {n}"), &"x".repeat(CONTENT_BYTES)), Precondition::Absent)
    });
    let (commit_of_six, asked) = (commit(writes.collect()), bed.book.asked());
    let error = store.commit(&acme, commit_of_six).await.expect_err("too large");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotApplied));
    assert!(error.message().contains("bytes"), "{error}");
    assert_eq!(bed.book.asked(), asked, "no request was made");
    untouched(&bed, &acme, 2).await;

    // More than a document holds: the answer that an idempotency key keeps of 2,000 long ids.
    let long = |n: usize| item(&format!("{n:0480}"), "x");
    let writes = (0..2_000).map(|n| put(long(n), Precondition::Absent)).collect();
    let key = IdempotencyKey::new("key", [1; 32]).expect("a key");
    let (keyed, asked) = (commit(writes).with_idempotency(Some(key)), bed.book.asked());
    let error = store.commit(&acme, keyed).await.expect_err("too large");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotApplied));
    assert_eq!(bed.book.asked(), asked, "no request was made");
    untouched(&bed, &acme, 2).await;

    // More than an entry of an index holds: every name and every declared key at its longest.
    let mut one = item(&"/".repeat(480), "x");
    one.user_id = Some(UserId::new("u".repeat(480)).expect("a user"));
    one.agent_id = Some(AgentId::new("a".repeat(480)).expect("an agent"));
    one.session_id = Some(SessionId::new("s".repeat(480)).expect("a session"));
    for key in ["text", "number", "flag", "list"] {
        let text = MetaValue::Text("x".repeat(METADATA_STRING_BYTES));
        one.metadata.insert(MetaKey::new(key).expect("a key"), text);
    }
    let asked = bed.book.asked();
    let error = add(store, &acme, one.clone()).await.expect_err("too large");
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidInput, Outcome::NotApplied));
    assert!(error.message().contains("index"), "{error}");
    assert_eq!(bed.book.asked(), asked, "no request was made");
    untouched(&bed, &acme, 2).await;
    one.metadata.clear();
    add(store, &acme, one).await.expect("a create");
}

/// As much as the data model allows is less than a document holds, its vectors too.
#[tokio::test]
async fn the_largest_memory_fits_with_its_vectors() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    let spaces = ["1", "2"].map(|revision| {
        EmbeddingSpace::new("large", revision, 2_048, Metric::Cosine).expect("a space")
    });
    bed.set_spaces(&acme, spaces[0].clone(), Some(spaces[1].clone())).await;
    let mut full = item("full", &"x".repeat(CONTENT_BYTES));
    full.payload = Some(json!("x".repeat(128 * 1024 - 2)));
    full.author = Some("a".repeat(480));
    for n in 0..21 {
        let text = MetaValue::Text("y".repeat(METADATA_STRING_BYTES));
        let key = if n == 0 { "text".to_owned() } else { format!("k{n:03}") };
        full.metadata.insert(MetaKey::new(key).expect("a key"), text);
    }
    let members = vec!["z".repeat(400)];
    full.metadata.insert(MetaKey::new("list").expect("a key"), MetaValue::List(members));
    let size: usize = full.metadata.keys().map(|key| key.as_str().len()).sum();
    assert!(size + 21 * METADATA_STRING_BYTES + 400 > METADATA_BYTES - 1_024, "nearly as much");
    let vectors: BTreeMap<_, _> =
        spaces.iter().map(|space| (space.id(), vec![0.5; 2_048])).collect();
    let write = Write::put(full.clone(), Vectors::Replace(vectors.clone()), Precondition::Absent);
    store.commit(&acme, commit(vec![write])).await.expect("the largest memory");
    let all = Projection::full().with_vectors(VectorProjection::All);
    let found = store.fetch(&acme, &[id("full")], &all).await.expect("a fetch");
    let found = found.into_iter().next().flatten().expect("it is there");
    assert_eq!(found.content().len(), CONTENT_BYTES);
    assert_eq!((found.payload, found.metadata), (full.payload, full.metadata));
    assert_eq!(found.vectors, vectors);
}

#[tokio::test]
async fn vectors_that_are_none_are_refused_before_they_are_sent() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    let space = bed.space(&acme).await;
    let held = add(store, &acme, item("there", "x")).await.expect("a create");
    bed.book.take();
    let bad: [&[f32]; 6] = [
        &[f32::NAN, 0.0, 1.0],
        &[f32::INFINITY, 0.0, 1.0],
        &[0.0, 0.0, 0.0],
        &[1.0, 0.0],
        &[1.0, 0.0, 0.0, 0.0],
        &[],
    ];
    for vector in bad {
        let asked = bed.book.asked();
        let vectors = BTreeMap::from([(space.id(), vector.to_vec())]);
        let write = Write::put(item("v", "x"), Vectors::Replace(vectors), Precondition::Absent);
        let error = store.commit(&acme, commit(vec![write])).await.expect_err("a commit");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{vector:?}");
        // The tenant's document may be looked at, for its spaces may have changed.
        assert!(bed.book.asked() <= asked + 1, "{vector:?}");
        let asked = bed.book.asked();
        let (id, revision) = (id("there"), held.clone());
        let entry = VectorEntry { id, revision, vector: vector.to_vec() };
        let error = store.upsert(&acme, &space, &[entry]).await.expect_err("an upsert");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{vector:?}");
        let query = VectorQuery::new(space.clone(), vector.to_vec(), 5);
        let error = store.search(&acme, &query).await.expect_err("a search");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{vector:?}");
        assert_eq!(bed.book.asked(), asked, "{vector:?}");
    }
    untouched(&bed, &acme, 1).await;
    let good = with_vector(item("v", "x"), &space, [f32::MIN_POSITIVE, 1e15, -1e-15]);
    store.commit(&acme, commit(vec![good])).await.expect("a commit");
    let query = VectorQuery::new(space, vec![0.0, 1.0, 0.0], 5);
    assert_eq!(store.search(&acme, &query).await.expect("a search").hits.len(), 1);

    let large = EmbeddingSpace::new("large", "1", 2_049, Metric::Cosine).expect("a space");
    let before = store.spaces(&acme).await.expect("the spaces");
    let wanted = TenantSpaces { active: Some(large), next: None, ..before };
    let error = store.set_spaces(&acme, &wanted).await.expect_err("too many dimensions");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("2048") || error.message().contains("2,048"), "{error}");
}

#[tokio::test]
async fn times_at_the_ends_of_the_calendar_keep_their_place() {
    let Some(bed) = FirestoreHarness::new(|_| {}).await else { return };
    let (store, acme) = (&bed.store, tenant("acme"));
    for (name, at) in [("first", Timestamp::MIN), ("last", Timestamp::MAX)] {
        let mut one = item(name, "x");
        (one.occurred_at, one.created_at, one.updated_at) = (at, at, at);
        one.expires_at = (at == Timestamp::MAX).then_some(at);
        add(store, &acme, one).await.expect("a create");
    }
    add(store, &acme, item("now", "x")).await.expect("a create");
    let page = store.query(&acme, &Query::new(10).with_order(Order::OLDEST)).await.expect("a page");
    assert_eq!(ids(&page.items), ["first", "now", "last"]);
    assert_eq!(page.items[2].expires_at, Some(Timestamp::MAX));
}

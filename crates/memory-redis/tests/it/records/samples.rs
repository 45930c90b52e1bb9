//! Frozen samples: keys of shape 1 are read, and what is written today is the same, byte for byte.
//!
//! A sample is a key and what it holds: a hash's fields, or a sorted set's members. Texts are texts;
//! other bytes are hexadecimal digits after `hex:`.

use std::collections::BTreeMap;

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{
    AgentId, Commit, CommitId, IdempotencyKey, Kind, MemoryItem, MetaKey, MetaValue, Precondition,
    Projection, Role, SessionId, VectorProjection, Vectors, Write,
};
use serde_json::{Value, json};

use super::rig::{Raw, Rig, SERVERS, id, item, set_spaces, space, tenant, time};

/// The samples, by the name of their file.
const SAMPLES: [(&str, &str); 6] = [
    ("full", include_str!("../samples/v1/full.json")),
    ("bare", include_str!("../samples/v1/bare.json")),
    ("key", include_str!("../samples/v1/key.json")),
    ("keys", include_str!("../samples/v1/keys.json")),
    ("occurred", include_str!("../samples/v1/occurred.json")),
    ("expiry", include_str!("../samples/v1/expiry.json")),
];

/// A memory with everything.
fn full() -> MemoryItem {
    let mut one = item("full/1", "the whole of it: \u{1f600}");
    one.agent_id = Some(AgentId::new("agent").unwrap());
    one.session_id = Some(SessionId::new("session").unwrap());
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
        one.metadata.insert(MetaKey::new(key).unwrap(), value);
    }
    one
}

/// The commit that wrote the samples.
fn keyed() -> Commit {
    let vectors = [(space("m", 3).id(), vec![0.6, 0.8, 0.0])].into();
    let writes = vec![
        Write::put(full(), Vectors::Replace(vectors), Precondition::Absent),
        Write::put(item("bare", "x"), Vectors::default(), Precondition::Absent),
        Write::delete(id("gone"), Precondition::Any),
    ];
    let key = IdempotencyKey::new("request 1", [1; 32]).unwrap();
    Commit::new(CommitId::from_bytes([0xab; 16]), writes).with_idempotency(Some(key))
}

fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c: char| c.is_control() && c != '\n') => text.to_owned(),
        _ => bytes.iter().fold("hex:".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

fn bytes(shown: &Value) -> Vec<u8> {
    let shown = shown.as_str().unwrap();
    match shown.strip_prefix("hex:") {
        Some(digits) => (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect(),
        None => shown.as_bytes().to_vec(),
    }
}

/// What a key holds, as a sample has it.
fn read(raw: &mut Raw, key: &str) -> Value {
    if key.starts_with("x:") {
        let members: Vec<_> = raw.set(key).iter().map(|member| shown(member)).collect();
        return json!({"key": key, "members": members});
    }
    let fields: BTreeMap<_, _> =
        raw.hash(key).into_iter().map(|(name, value)| (name, shown(&value))).collect();
    json!({"key": key, "fields": fields})
}

fn write(raw: &mut Raw, sample: &Value) {
    let key = sample["key"].as_str().unwrap();
    for (name, value) in sample["fields"].as_object().into_iter().flatten() {
        raw.run("HSET", key, &[name.as_bytes(), &bytes(value)]);
    }
    for member in sample["members"].as_array().into_iter().flatten() {
        raw.run("ZADD", key, &[b"0", &bytes(member)]);
    }
}

fn samples() -> BTreeMap<&'static str, Value> {
    SAMPLES.map(|(name, text)| (name, serde_json::from_str(text).unwrap())).into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_today_is_what_was_written() {
    for server in [SERVERS[1], SERVERS[2]] {
        let Some(rig) = Rig::on(server).await else { continue };
        let context = tenant("t");
        set_spaces(&rig, &context, space("m", 3), None).await;
        rig.store.commit(&context, keyed()).await.unwrap();
        for (name, sample) in samples() {
            let today = read(&mut rig.raw("t"), sample["key"].as_str().unwrap());
            assert_eq!(today, sample, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_is_read() {
    for server in SERVERS {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, mut raw) = (tenant("t"), rig.raw("t"));
        set_spaces(&rig, &context, space("m", 3), None).await;
        for sample in samples().values() {
            write(&mut raw, sample);
        }
        let all = Projection::full().with_vectors(VectorProjection::All);
        let found = rig.store.fetch(&context, &[id("full/1"), id("bare")], &all).await.unwrap();
        let [Some(one), Some(bare)] = <[_; 2]>::try_from(found).unwrap() else {
            panic!("a sample is not there")
        };
        let mut wanted = full();
        wanted.revision = one.revision.clone();
        wanted.vectors = [(space("m", 3).id(), vec![0.6, 0.8, 0.0])].into();
        assert_eq!(one, wanted);
        assert_eq!(one.revision.unwrap().as_str(), "1-abababababab");
        assert_eq!(bare.content(), "x");
        assert_eq!(bare.expires_at, None);
        let again = rig.store.commit(&context, keyed()).await.unwrap();
        assert!(again.replayed);
        let ids: Vec<_> = again.results.iter().map(|result| result.id.as_str()).collect();
        assert_eq!(ids, ["full/1", "bare", "gone"]);
        assert_eq!(
            rig.store.fetch_one(&context, &id("bare")).await.unwrap().unwrap().id,
            id("bare")
        );
    }
}

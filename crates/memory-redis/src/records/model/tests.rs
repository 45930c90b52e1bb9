//! Items to fields and back, and bytes that nobody wrote.

use std::collections::BTreeMap;

use memory_core::{ErrorKind, Metric, Precondition, Vectors};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn space(dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new("m", "1", dimensions, Metric::Cosine).unwrap()
}

fn spaces() -> TenantSpaces {
    TenantSpaces { active: Some(space(3)), next: Some(space(2)), version: 1 }
}

fn time(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

fn full() -> MemoryItem {
    let mut item =
        MemoryItem::new(MemoryId::new("id").unwrap(), "text \u{1f600}", time(-5)).unwrap();
    item.user_id = Some(UserId::new("u").unwrap());
    item.agent_id = Some(AgentId::new("a").unwrap());
    item.session_id = Some(SessionId::new("s").unwrap());
    item.kind = Kind::Message;
    item.role = Some(Role::Tool);
    item.author = Some("Ada".to_owned());
    item.payload = Some(json!({"a": [1, 0.1, null]}));
    item.importance = Some(0.1);
    item.expires_at = Some(Timestamp::FAR_FUTURE);
    for (key, value) in [
        ("b", MetaValue::Bool(true)),
        ("i", MetaValue::Int((1 << 53) + 1)),
        ("f", MetaValue::Float(0.1 + 0.2)),
        ("t", MetaValue::Text("text".to_owned())),
        ("l", MetaValue::List(vec![String::new(), "x".to_owned()])),
    ] {
        item.metadata.insert(MetaKey::new(key).unwrap(), value);
    }
    item
}

/// The values of a shape's fields, as a read of what a put wrote gives them.
fn stored(shape: &Shape, item: &MemoryItem, vectors: &BTreeMap<SpaceId, Vec<f32>>) -> Vec<Value> {
    let put =
        Put { item: item.clone(), vectors: Vectors::default(), precondition: Precondition::Any };
    let mut fields: BTreeMap<String, Vec<u8>> = fields_of(&put)
        .unwrap()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_owned()))
        .collect();
    fields.insert(f::REVISION.to_owned(), b"7-0123456789ab".to_vec());
    for (space, vector) in vectors {
        fields.insert(TenantKeys::vector_field(space), vector_bytes(vector));
    }
    shape
        .fields()
        .map(|name| fields.get(name).map_or(Value::Nil, |bytes| Value::BulkString(bytes.clone())))
        .collect()
}

fn back(item: &MemoryItem, projection: &Projection) -> MemoryItem {
    let shape = Shape::of(projection, &spaces());
    let vectors = BTreeMap::from([(space(3).id(), vec![1.0, -0.5, 0.25])]);
    shape.read(item.id.clone(), stored(&shape, item, &vectors)).unwrap().unwrap()
}

#[test]
fn an_item_comes_back_as_it_was() {
    let mut item = full();
    let got = back(&item, &Projection::full());
    item.revision = Some(Revision::new("7-0123456789ab").unwrap());
    assert_eq!(got, item);
    let got = back(&item, &Projection::full().with_vectors(VectorProjection::All));
    item.vectors.insert(space(3).id(), vec![1.0, -0.5, 0.25]);
    assert_eq!(got, item);
    item.expires_at = None;
    assert_eq!(back(&item, &Projection::full()).expires_at, None);
}

#[test]
fn a_projection_reads_what_it_asks_for() {
    let item = full();
    let narrow = Shape::of(&Projection::narrow(), &spaces());
    assert!(!narrow.fields().any(|field| [f::CONTENT, f::PAYLOAD].contains(&field)));
    assert!(!narrow.fields().any(|field| field.starts_with(f::VECTOR)));
    let got = back(&item, &Projection::narrow());
    assert_eq!(got.content(), "");
    assert_eq!(got.content_hash(), item.content_hash());
    assert_eq!((got.payload.as_ref(), got.metadata.len()), (None, 0));
    let one = VectorProjection::Space(space(3).id());
    let got = back(&item, &Projection::narrow().with_vectors(one));
    assert_eq!(got.vectors.len(), 1);
    let other = VectorProjection::Space(space(9).id());
    let shape = Shape::of(&Projection::full().with_vectors(other), &spaces());
    assert!(!shape.fields().any(|field| field.starts_with(f::VECTOR)));
}

#[test]
fn what_is_not_there_is_none_and_half_of_it_is_corrupt() {
    let shape = Shape::of(&Projection::full().with_vectors(VectorProjection::All), &spaces());
    let id = MemoryId::new("id").unwrap();
    let nothing = vec![Value::Nil; shape.fields().len()];
    assert_eq!(shape.read(id.clone(), nothing).unwrap(), None);
    let vectors = BTreeMap::from([(space(3).id(), vec![1.0; 3])]);
    let whole = stored(&shape, &full(), &vectors);
    for (place, field) in shape.fields().enumerate() {
        let mut values = whole.clone();
        values[place] = Value::Nil;
        let needed =
            ![f::USER, f::AGENT, f::SESSION, f::ROLE, f::AUTHOR, f::IMPORTANCE, f::PAYLOAD]
                .contains(&field)
                && !field.starts_with(f::VECTOR);
        match shape.read(id.clone(), values) {
            Ok(_) => assert!(!needed, "{field} can be missing"),
            Err(error) => {
                assert!(needed, "{field} cannot be missing");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.context().contains(&("memory", "id".to_owned())));
                assert!(error.context().contains(&("field", field.to_owned())));
            }
        }
        for odd in [Value::Int(1), Value::Array(Vec::new()), Value::BulkString(vec![0xff])] {
            let mut values = whole.clone();
            values[place] = odd;
            let kind = shape.read(id.clone(), values).map(drop).map_err(|error| error.kind());
            // A head that begins with 0xff says that it is of version 255.
            assert!(
                matches!(kind, Err(ErrorKind::Corrupt))
                    || field == f::HEAD && kind == Err(ErrorKind::Unsupported),
                "{field}: {kind:?}"
            );
        }
    }
}

#[test]
fn a_newer_version_is_told_apart() {
    let shape = Shape::of(&Projection::narrow(), &spaces());
    let mut values = stored(&shape, &full(), &BTreeMap::new());
    values[0] = Value::BulkString(vec![SHAPE + 1, 9, 9]);
    let error = shape.read(MemoryId::new("id").unwrap(), values).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("shape 2"));
}

#[test]
fn vectors_are_checked() {
    assert_eq!(read_vector(&vector_bytes(&[1.0, 2.0]), 2).unwrap(), [1.0, 2.0]);
    for (bytes, dimensions) in [(vec![0; 8], 3), (vec![0; 9], 2), (vec![], 1)] {
        assert_eq!(read_vector(&bytes, dimensions).unwrap_err().kind(), ErrorKind::Corrupt);
    }
    assert!(read_vector(&vector_bytes(&[f32::NAN]), 1).is_err());
}

fn meta_value() -> impl Strategy<Value = MetaValue> {
    prop_oneof![
        any::<bool>().prop_map(MetaValue::Bool),
        any::<i64>().prop_map(MetaValue::Int),
        any::<f64>().prop_filter("finite", |float| float.is_finite()).prop_map(MetaValue::Float),
        ".{0,20}".prop_map(MetaValue::Text),
        prop::collection::vec(".{0,5}", 0..5).prop_map(MetaValue::List),
    ]
}

proptest! {
    #[test]
    fn metadata_is_exact(entries in prop::collection::btree_map("[a-z]{1,9}", meta_value(), 0..9)) {
        let metadata: Metadata = entries
            .into_iter()
            .map(|(key, value)| (MetaKey::new(key).unwrap(), value))
            .collect();
        let bytes = head(&metadata).unwrap();
        let read = Head::new(&bytes).unwrap().read().unwrap();
        prop_assert_eq!(&read, &metadata);
        // Bit for bit, where numbers are equal that are written differently.
        prop_assert_eq!(head(&read).unwrap(), bytes);
    }

    #[test]
    fn a_cut_or_changed_head_never_panics(
        entries in prop::collection::btree_map("[a-z]{1,9}", meta_value(), 0..9),
        cut in 0_usize..200,
        at in 0_usize..200,
        byte in any::<u8>(),
    ) {
        let metadata: Metadata = entries
            .into_iter()
            .map(|(key, value)| (MetaKey::new(key).unwrap(), value))
            .collect();
        let mut bytes = head(&metadata).unwrap();
        let short = &bytes[..cut.min(bytes.len())];
        if short.len() < bytes.len() {
            prop_assert!(Head::new(short).and_then(Head::read).is_err());
        }
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Head::new(&bytes).and_then(Head::read);
    }

    #[test]
    fn bytes_that_nobody_wrote_never_panic(
        values in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), 16)
    ) {
        let shape = Shape::of(&Projection::full(), &spaces());
        let values = values
            .into_iter()
            .map(|bytes| bytes.map_or(Value::Nil, Value::BulkString))
            .collect();
        let _ = shape.read(MemoryId::new("id").unwrap(), values);
    }
}

//! What the fuzz target of the stored hashes checks: what a server with foreign or damaged keys may
//! answer.

use std::collections::BTreeMap;

use memory_core::traits::TenantSpaces;
use memory_core::{
    EmbeddingSpace, MemoryId, MemoryItem, Metric, Precondition, Projection, Put, Vectors,
};
use redis::Value;

use crate::cache::{Standing, seen};
use crate::fields as f;
use crate::records::model::{Shape, fields_of, read_vector, vector_bytes};

/// A length that stands for a field that is not there.
const ABSENT: u16 = u16::MAX;

/// The first byte chooses what the others are: a vector, the two fields that a read of the cache
/// asks for, or the fields of a memory, each after its length as a little-endian u16. A memory is
/// refused as corrupt or newer, or read, the same each time; one that is valid comes back from the
/// fields that a put of it writes.
///
/// # Panics
/// Where an invariant is broken.
pub fn hashes(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => {
            if let Ok(vector) = read_vector(rest, rest.len() / 4) {
                assert!(vector.iter().all(|component| component.is_finite()));
                assert_eq!(vector_bytes(&vector), rest);
            }
        }
        1 => group(rest),
        _ => memory(rest),
    }
}

/// The fields that the bytes hold.
fn values(mut rest: &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while let Some((length, bytes)) = rest.split_first_chunk::<2>() {
        let length = u16::from_le_bytes(*length);
        if length == ABSENT {
            values.push(Value::Nil);
            rest = bytes;
            continue;
        }
        let (value, bytes) = bytes.split_at(bytes.len().min(length.into()));
        values.push(Value::BulkString(value.to_vec()));
        rest = bytes;
    }
    values
}

fn group(bytes: &[u8]) {
    let fields = values(bytes);
    let (standing, value) = seen(Value::Array(fields.clone()));
    if let Some(standing) = standing {
        assert_eq!(fields.first(), Some(&Value::BulkString(standing.to_bytes())));
    }
    let Some(value) = value else { return };
    let Some(Value::BulkString(whole)) = fields.last() else { panic!("a value out of nothing") };
    let (Some(Standing::Token(under) | Standing::Mark(under)), true) =
        (standing, fields.len() == 2)
    else {
        return;
    };
    match value.under(&under) {
        Some(value) => assert_eq!([value.as_slice(), &under].concat(), *whole),
        None => assert!(!whole.ends_with(&under)),
    }
}

fn memory(bytes: &[u8]) {
    let space = EmbeddingSpace::new("test", "1", 3, Metric::Cosine).expect("a valid space");
    let spaces = TenantSpaces { active: Some(space), next: None, version: 1 };
    let shape = Shape::of(&Projection::full(), &spaces);
    let mut fields = values(bytes);
    fields.resize(shape.fields().len(), Value::Nil);
    let id = || MemoryId::new("m").expect("a valid id");
    match (shape.read(id(), fields.clone()), shape.read(id(), fields)) {
        (Ok(Some(item)), Ok(Some(again))) => {
            assert!(item == again, "the same fields give the same item");
            if item.validate().is_ok() {
                written(&shape, plain(item));
            }
        }
        (Ok(None), Ok(None)) => {}
        (Err(error), Err(_)) => assert!(!error.message().is_empty()),
        _ => panic!("fields were read once and refused once"),
    }
}

/// The fields of an item give it back.
fn written(shape: &Shape, item: MemoryItem) {
    let id = item.id.clone();
    let put = Put { item, vectors: Vectors::Keep, precondition: Precondition::Any };
    let fields = fields_of(&put).expect("a valid item has fields");
    let mut fields: BTreeMap<&str, Vec<u8>> =
        fields.into_iter().map(|(name, value)| (name, value.into_owned())).collect();
    fields.insert(f::REVISION, b"1-000000000000".to_vec());
    let values = shape
        .fields()
        .map(|name| fields.remove(name).map_or(Value::Nil, Value::BulkString))
        .collect();
    assert!(fields.is_empty(), "every field is read");
    let back = shape.read(id, values).expect("written fields are read").expect("an item");
    assert!(plain(back) == put.item, "an item comes back from its fields");
}

/// An item without what a put of it does not write.
fn plain(mut item: MemoryItem) -> MemoryItem {
    item.revision = None;
    item.vectors.clear();
    item
}

//! What fits into a document, by the service's own way of counting.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Error, Result, Write};
use proto::Value;
use proto::value::ValueType;

use crate::fields as f;
use crate::settings::FirestoreSettings;

/// Largest document: the service's limit, 1 MiB.
const DOCUMENT: usize = 1024 * 1024;
/// Largest entry of a composite index: the service's limit, 7.5 KiB.
const INDEX_ENTRY: usize = 7_680;
/// Most bytes of a value that an index holds.
const INDEXED_VALUE: usize = 1_500;

/// Refuses a document that the service would refuse.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check(settings: &FirestoreSettings, document: &proto::Document) -> Result<()> {
    let path = document.name.split("/documents/").nth(1).unwrap_or_default();
    let name: usize = path.split('/').map(|part| part.len() + 1).sum::<usize>() + 16;
    let fields: usize =
        document.fields.iter().map(|(key, value)| key.len() + 1 + bytes(value)).sum();
    let stored = name + fields + 32;
    if stored > DOCUMENT {
        return Err(Error::invalid(format!(
            "the memory takes {stored} bytes as a Firestore document; the limit is {DOCUMENT}"
        )));
    }
    if settings.ranges {
        let entry = name + range_entry(document);
        if entry > INDEX_ENTRY {
            return Err(Error::invalid(format!(
                "the memory's ids and declared metadata take {entry} bytes in an index; the limit \
                 is {INDEX_ENTRY}: shorten them, declare fewer filter_keys, or set ranges = false"
            )));
        }
    }
    Ok(())
}

/// Bytes of the largest entry that the indexes of range filters hold of a document.
fn range_entry(document: &proto::Document) -> usize {
    let indexed = |value: &Value| bytes(value).min(INDEXED_VALUE);
    let of = |field: &str| document.fields.get(field).map_or(0, indexed);
    let named: usize = [
        f::USER_ID,
        f::AGENT_ID,
        f::SESSION_ID,
        f::KIND,
        f::ROLE,
        f::AUTHOR,
        f::CONTENT_HASH,
        f::IMPORTANCE,
        f::BY_ID,
        f::BY_OCCURRED,
        f::OCCURRED_AT,
        f::CREATED_AT,
        f::UPDATED_AT,
        f::VISIBLE_UNTIL,
    ]
    .into_iter()
    .map(of)
    .sum();
    let keys = match document.fields.get(f::KEYS).and_then(|value| value.value_type.as_ref()) {
        Some(ValueType::MapValue(map)) => map.fields.values().map(indexed).sum(),
        _ => 0,
    };
    named + keys
}

/// Bytes of a value.
fn bytes(value: &Value) -> usize {
    match &value.value_type {
        None | Some(ValueType::NullValue(_) | ValueType::BooleanValue(_)) => 1,
        Some(ValueType::StringValue(text)) => text.len() + 1,
        Some(ValueType::BytesValue(bytes)) => bytes.len(),
        Some(ValueType::ReferenceValue(name)) => name.len() + 1,
        Some(ValueType::ArrayValue(array)) => array.values.iter().map(bytes).sum(),
        Some(ValueType::MapValue(map)) => {
            map.fields.iter().map(|(key, value)| key.len() + 1 + bytes(value)).sum()
        }
        Some(ValueType::GeoPointValue(_)) => 16,
        Some(_) => 8,
    }
}

/// Roughly the bytes that a write has as it is sent.
pub(crate) fn sent_bytes(write: &Write) -> usize {
    match write {
        // A component is sent as a value of its own: eleven bytes.
        Write::Put(put) => {
            let vectors = match &put.vectors {
                memory_core::Vectors::Replace(vectors) => {
                    vectors.values().map(|vector| vector.len() * 13).sum()
                }
                memory_core::Vectors::Keep => 0,
            };
            put.item.size_bytes() + vectors + 1_500
        }
        Write::Delete(_) => 600,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use memory_core::{
        EmbeddingSpace, MemoryId, MemoryItem, MetaKey, Metric, Precondition, Put, Timestamp,
        UserId, Vectors, limits,
    };

    use super::*;
    use crate::settings::FilterKeyType;

    fn name(id: &str) -> String {
        format!("projects/p/databases/d/documents/tenants/t/memories/{id}")
    }

    #[test]
    fn the_largest_memory_fits_with_two_vectors_and_one_byte_too_many_does_not() {
        let id = "é".repeat(limits::ID_BYTES / 2);
        let mut item = MemoryItem::new(
            MemoryId::new(&id).unwrap(),
            "x".repeat(limits::CONTENT_BYTES),
            Timestamp::MIN,
        )
        .unwrap()
        .with_user(UserId::new(&id).unwrap());
        item.payload = Some("y".repeat(limits::PAYLOAD_BYTES - 2).into());
        for n in 0..21 {
            let key = MetaKey::new(format!("{n}")).unwrap();
            item.metadata.insert(key, "z".repeat(limits::METADATA_STRING_BYTES).as_str().into());
        }
        item.validate().unwrap();
        let vectors: BTreeMap<_, _> = ["1", "2"]
            .map(|model| {
                let space = EmbeddingSpace::new(model, "1", 2_048, Metric::Cosine).unwrap();
                (space.id(), vec![1.0; 2_048])
            })
            .into();
        let put = Put { item, vectors: Vectors::default(), precondition: Precondition::Any };
        let settings = FirestoreSettings::new("p");
        let encoded = crate::names::encode(&id);
        let mut document = crate::model::document(&settings, name(&encoded), &put, &[0; 16]);
        crate::model::with_vectors(&mut document, &vectors);
        check(&settings, &document).unwrap();
        document.fields.insert("more".to_owned(), crate::model::text("x".repeat(DOCUMENT / 8)));
        assert!(check(&settings, &document).unwrap_err().message().contains("1048576"));
    }

    #[test]
    fn an_index_entry_that_is_too_large_is_refused_while_ranges_are_on() {
        let mut settings = FirestoreSettings::new("p");
        let keys: HashMap<_, _> = (0..5)
            .map(|n| {
                (format!("k{n}"), crate::model::value(ValueType::BytesValue(vec![b'x'; 1_500])))
            })
            .collect();
        settings.filter_keys.insert(MetaKey::new("k0").unwrap(), FilterKeyType::Text);
        let fields = HashMap::from([(f::KEYS.to_owned(), crate::model::map(keys))]);
        let mut document =
            proto::Document { name: name("a"), fields, create_time: None, update_time: None };
        document.fields.insert(f::USER_ID.to_owned(), crate::model::text("u".repeat(400)));
        assert!(check(&settings, &document).unwrap_err().message().contains("filter_keys"));
        settings.ranges = false;
        check(&settings, &document).unwrap();
    }
}

//! What an object carries of its item, and the schema that says so to the service.
//!
//! Numbers and times are 64-bit floats there, as in JSON. Rounding keeps their order, so a filter
//! that asks for the rounded bound or beyond finds all that it should and may find more.

use std::collections::BTreeSet;

use memory_core::{EmbeddingSpace, Field, MemoryItem, MetaKey, MetaValue, Revision, TenantId};
use memory_core::{MemoryId, Timestamp};
use serde_json::{Map, Value, json};

use super::names::{self, Held};

/// The data of an object whose item is not known: it stands for every filter.
pub(crate) fn bare(tenant: &TenantId, id: &MemoryId, revision: &Revision) -> Map<String, Value> {
    let mut data = common(tenant, id, revision, None);
    data.insert(names::BARE.to_owned(), json!(true));
    data
}

/// The data of an object of a known item.
pub(crate) fn of_item(
    tenant: &TenantId,
    item: &MemoryItem,
    revision: &Revision,
    keys: &BTreeSet<MetaKey>,
) -> Map<String, Value> {
    let mut data = common(tenant, &item.id, revision, item.expires_at);
    data.insert(names::BARE.to_owned(), json!(false));
    let mut has = Vec::new();
    let mut text = |field: &Field, text: Option<&str>| {
        if let Some(text) = text {
            let name = names::field(field);
            has.push(Value::from(name.as_str()));
            data.insert(name, Value::from(text));
        }
    };
    text(&Field::UserId, item.user_id.as_ref().map(AsRef::as_ref));
    text(&Field::AgentId, item.agent_id.as_ref().map(AsRef::as_ref));
    text(&Field::SessionId, item.session_id.as_ref().map(AsRef::as_ref));
    text(&Field::Kind, Some(item.kind.name()));
    text(&Field::Role, item.role.map(memory_core::Role::name));
    text(&Field::Author, item.author.as_deref());
    text(&Field::ContentHash, Some(&item.content_hash().to_string()));
    let mut number = |field: &Field, number: Option<f64>| {
        if let Some(number) = number {
            let name = names::field(field);
            has.push(Value::from(name.as_str()));
            data.insert(name, Value::from(number));
        }
    };
    number(&Field::Importance, item.importance);
    number(&Field::OccurredAt, Some(time(item.occurred_at)));
    number(&Field::CreatedAt, Some(time(item.created_at)));
    number(&Field::UpdatedAt, Some(time(item.updated_at)));
    number(&Field::ExpiresAt, item.expires_at.map(time));
    for key in keys {
        let Some(value) = item.metadata.get(key) else { continue };
        has.push(Value::from(names::field(&Field::Metadata(key.clone()))));
        let (held, value) = match value {
            MetaValue::Bool(value) => (Held::Bool, json!(value)),
            MetaValue::Int(value) => (Held::Number, Value::from(rounded(*value))),
            MetaValue::Float(value) => (Held::Number, Value::from(*value)),
            MetaValue::Text(value) => (Held::Text, Value::from(value.as_str())),
            MetaValue::List(values) => (Held::List, json!(values)),
        };
        data.insert(names::metadata(key, held), value);
    }
    data.insert(names::HAS.to_owned(), Value::from(has));
    data
}

fn common(
    tenant: &TenantId,
    id: &MemoryId,
    revision: &Revision,
    expires_at: Option<Timestamp>,
) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert(names::TENANT.to_owned(), Value::from(tenant.as_str()));
    data.insert(names::ID.to_owned(), Value::from(id.as_str()));
    data.insert(names::REVISION.to_owned(), Value::from(revision.as_str()));
    let until = time(expires_at.unwrap_or(Timestamp::MAX));
    data.insert(names::VISIBLE_UNTIL.to_owned(), Value::from(until));
    data
}

/// A time as the service keeps it: microseconds as the nearest float.
pub(crate) fn time(time: Timestamp) -> f64 {
    rounded(time.as_micros())
}

/// The nearest float. It keeps the order: of two integers the lesser is never above the other.
#[expect(clippy::cast_precision_loss, reason = "rounding is what it is for")]
pub(crate) fn rounded(number: i64) -> f64 {
    number as f64
}

/// The JSON schema of the objects' data.
pub(crate) fn schema(keys: &BTreeSet<MetaKey>) -> Map<String, Value> {
    let mut properties = Map::new();
    let of = |kind: &str| json!({ "type": kind });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    for name in [names::TENANT, names::REVISION] {
        properties.insert(name.to_owned(), of("string"));
    }
    properties.insert(names::BARE.to_owned(), of("boolean"));
    properties.insert(names::VISIBLE_UNTIL.to_owned(), of("number"));
    properties.insert(names::HAS.to_owned(), texts.clone());
    for field in &Field::FIXED {
        let number = field.is_time() || *field == Field::Importance;
        properties.insert(names::field(field), of(if number { "number" } else { "string" }));
    }
    for key in keys {
        for held in Held::ALL {
            let kind = match held {
                Held::Bool => of("boolean"),
                Held::Number => of("number"),
                Held::Text => of("string"),
                Held::List => texts.clone(),
            };
            properties.insert(names::metadata(key, held), kind);
        }
    }
    let mut schema = Map::new();
    schema.insert("type".to_owned(), Value::from("object"));
    schema.insert("properties".to_owned(), Value::Object(properties));
    schema
}

/// The names in a schema that are missing from another, in order.
pub(crate) fn lacking(
    wanted: &Map<String, Value>,
    found: Option<&Map<String, Value>>,
) -> Vec<String> {
    let properties = |schema: &Map<String, Value>| {
        schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    let found = found.map(properties).unwrap_or_default();
    properties(wanted)
        .into_iter()
        .filter(|(name, kind)| {
            let other = found.get(name).and_then(|found| found.get("type"));
            other != kind.get("type")
        })
        .map(|(name, _)| name)
        .collect()
}

/// The dot product, in 64 bits.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// How near two vectors are by the metric of a space that [`super::collection`] takes.
pub(crate) fn nearness(space: &EmbeddingSpace, a: &[f32], b: &[f32]) -> f64 {
    match space.metric() {
        memory_core::Metric::Cosine => dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt()),
        _ => dot(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_an_item_carries_is_in_the_schema() {
        let now = Timestamp::parse("2025-03-01T09:30:00Z").unwrap();
        let tenant = TenantId::new("t").unwrap();
        let mut item = MemoryItem::new(MemoryId::new("a").unwrap(), "secret", now).unwrap();
        item.user_id = Some("u".parse().unwrap());
        item.agent_id = Some("a".parse().unwrap());
        item.session_id = Some("s".parse().unwrap());
        item.role = Some(memory_core::Role::User);
        item.author = Some("Ada".to_owned());
        item.importance = Some(0.5);
        item.expires_at = Some(now.saturating_add(std::time::Duration::from_secs(1)));
        let key = |text: &str| MetaKey::new(text).unwrap();
        let keys: BTreeSet<MetaKey> = ["b", "i", "f", "t", "l", "none"].map(key).into();
        item.metadata.insert(key("b"), MetaValue::Bool(true));
        item.metadata.insert(key("i"), MetaValue::Int(i64::MAX));
        item.metadata.insert(key("f"), MetaValue::Float(0.25));
        item.metadata.insert(key("t"), MetaValue::Text("x".to_owned()));
        item.metadata.insert(key("l"), MetaValue::List(vec!["x".to_owned()]));
        item.metadata.insert(key("undeclared"), MetaValue::Bool(true));
        let revision = Revision::new("7").unwrap();
        let schema = schema(&keys);
        let properties = schema["properties"].as_object().unwrap();
        for data in [of_item(&tenant, &item, &revision, &keys), bare(&tenant, &item.id, &revision)]
        {
            for (name, value) in &data {
                let kind = match value {
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    _ => "array",
                };
                assert_eq!(properties[name]["type"], kind, "{name}");
            }
            assert!(!Value::from(data).to_string().contains("secret"));
        }
        let data = of_item(&tenant, &item, &revision, &keys);
        // 12 fields but the id, and the five keys.
        assert_eq!(data[names::HAS].as_array().unwrap().len(), 17);
        assert!(data.keys().all(|name| !name.contains("undeclared")));
        assert!(lacking(&schema, Some(&schema)).is_empty());
        assert_eq!(lacking(&schema, None).len(), properties.len());
        let fewer = super::schema(&BTreeSet::new());
        assert_eq!(lacking(&schema, Some(&fewer)).len(), 24);
    }
}

//! The JSON form of filters, as files, settings and the command line write them.
//!
//! ```json
//! {"and": [{"field": "user_id", "op": "eq", "value": "ada"},
//!          {"not": {"field": "metadata.topic", "op": "in", "value": ["work", "tax"]}},
//!          {"field": "occurred_at", "op": "gte", "value": "2025-01-01T00:00:00Z"},
//!          {"field": "metadata.tags", "op": "contains", "value": "tea"},
//!          {"field": "expires_at", "op": "exists"}]}
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::filter::{CompareOp, Field, Filter, Scalar};
use crate::limits::FILTER_DEPTH;
use crate::time::Timestamp;

impl Filter {
    /// Reads and validates the JSON form. An empty object is [`Filter::All`].
    ///
    /// # Errors
    /// `InvalidInput`: unknown keys, operators or fields, wrong types, too deep or too large.
    pub fn from_json(value: &Value) -> Result<Self> {
        let filter = read(value, FILTER_DEPTH)?;
        filter.validate()?;
        Ok(filter)
    }

    /// The JSON form; equal filters give equal text.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::All => json!({}),
            Self::And(filters) => {
                json!({"and": filters.iter().map(Self::to_json).collect::<Vec<_>>()})
            }
            Self::Or(filters) => {
                json!({"or": filters.iter().map(Self::to_json).collect::<Vec<_>>()})
            }
            Self::Not(filter) => json!({"not": filter.to_json()}),
            Self::Compare(field, op, value) => {
                json!({"field": field.to_string(), "op": op.name(), "value": write_value(value)})
            }
            Self::In(field, values) => {
                let values: Vec<_> = values.iter().map(write_value).collect();
                json!({"field": field.to_string(), "op": "in", "value": values})
            }
            Self::Contains(field, text) => {
                json!({"field": field.to_string(), "op": "contains", "value": text})
            }
            Self::Exists(field) => json!({"field": field.to_string(), "op": "exists"}),
        }
    }
}

impl Serialize for Filter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}

fn read(value: &Value, depth_left: usize) -> Result<Filter> {
    if depth_left == 0 {
        return Err(Error::invalid(format!("the filter is more than {FILTER_DEPTH} deep")));
    }
    let map = value.as_object().ok_or_else(|| Error::invalid("a filter is a JSON object"))?;
    let list = |value: &Value| -> Result<Vec<Filter>> {
        value
            .as_array()
            .ok_or_else(|| Error::invalid("`and` and `or` take a list of filters"))?
            .iter()
            .map(|filter| read(filter, depth_left - 1))
            .collect()
    };
    let mut entries = map.iter();
    match (entries.next(), entries.next()) {
        (None, _) => Ok(Filter::All),
        (Some((key, value)), None) if key == "and" => Ok(Filter::And(list(value)?)),
        (Some((key, value)), None) if key == "or" => Ok(Filter::Or(list(value)?)),
        (Some((key, value)), None) if key == "not" => {
            Ok(Filter::Not(Box::new(read(value, depth_left - 1)?)))
        }
        _ => read_condition(map),
    }
}

fn read_condition(map: &Map<String, Value>) -> Result<Filter> {
    if let Some(key) = map.keys().find(|key| !["field", "op", "value"].contains(&key.as_str())) {
        let shown: String = key.chars().take(40).collect();
        return Err(Error::invalid(format!(
            "unknown key {shown:?} in a filter; known: and, or, not, field, op, value"
        )));
    }
    let text = |key: &str| {
        map.get(key)
            .and_then(Value::as_str)
            .ok_or_else(|| Error::invalid(format!("a filter's condition needs the text {key:?}")))
    };
    let field = Field::parse(text("field")?)?;
    let op = text("op")?;
    let value =
        || map.get("value").ok_or_else(|| Error::invalid(format!("{op:.20} needs a value")));
    let compare = |op| Ok(Filter::Compare(field.clone(), op, read_value(&field, value()?)?));
    match op {
        "eq" => compare(CompareOp::Eq),
        "ne" => compare(CompareOp::Ne),
        "lt" => compare(CompareOp::Lt),
        "lte" => compare(CompareOp::Lte),
        "gt" => compare(CompareOp::Gt),
        "gte" => compare(CompareOp::Gte),
        "in" => {
            let values = value()?
                .as_array()
                .ok_or_else(|| Error::invalid("`in` takes a list of values"))?
                .iter()
                .map(|value| read_value(&field, value))
                .collect::<Result<_>>()?;
            Ok(Filter::In(field, values))
        }
        "contains" => {
            let text = value()?
                .as_str()
                .ok_or_else(|| Error::invalid("`contains` takes a string"))?
                .to_owned();
            Ok(Filter::Contains(field, text))
        }
        "exists" if map.contains_key("value") => {
            Err(Error::invalid("`exists` takes no value; negate it with `not`"))
        }
        "exists" => Ok(Filter::Exists(field)),
        _ => Err(Error::invalid(
            "an unknown operator in a filter; known: eq, ne, lt, lte, gt, gte, in, contains, exists",
        )),
    }
}

fn read_value(field: &Field, value: &Value) -> Result<Scalar> {
    match value {
        Value::String(text) if field.is_time() => Ok(Scalar::Time(Timestamp::parse(text)?)),
        Value::String(text) => Ok(Scalar::Text(text.clone())),
        Value::Bool(value) => Ok(Scalar::Bool(*value)),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(int), _) => Ok(Scalar::Int(int)),
            (None, Some(float)) if !number.is_u64() => Ok(Scalar::Float(float)),
            _ => Err(Error::invalid("a filter's integer is beyond 64 bits with a sign")),
        },
        _ => Err(Error::invalid("a filter's value is a boolean, a number or a string")),
    }
}

fn write_value(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(value) => Value::from(*value),
        Scalar::Int(value) => Value::from(*value),
        Scalar::Float(value) => Value::from(*value),
        Scalar::Text(text) => Value::from(text.as_str()),
        Scalar::Time(time) => Value::from(time.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_round_trips() {
        let text = r#"{"and":[{"field":"user_id","op":"eq","value":"ada"},
            {"or":[{"field":"importance","op":"gte","value":0.5},
                   {"not":{"field":"metadata.n","op":"in","value":[1,2.5,"x",true]}}]},
            {"field":"occurred_at","op":"lt","value":"2025-01-01T00:00:00Z"},
            {"field":"metadata.tags","op":"contains","value":"tea"},
            {"field":"expires_at","op":"exists"}, {}]}"#;
        let filter = Filter::from_json(&serde_json::from_str(text).unwrap()).unwrap();
        assert_eq!(Filter::from_json(&filter.to_json()).unwrap(), filter);
        assert_eq!(filter.fields().len(), 6);
    }

    #[test]
    fn malformed_json_is_refused() {
        for bad in [
            json!(null),
            json!([]),
            json!("x"),
            json!({"and": {}}),
            json!({"nand": []}),
            json!({"and": [], "or": []}),
            json!({"field": "user_id"}),
            json!({"field": "user_id", "op": "eq"}),
            json!({"field": "user_id", "op": "like", "value": "x"}),
            json!({"field": "colour", "op": "eq", "value": "x"}),
            json!({"field": "user_id", "op": "eq", "value": 1}),
            json!({"field": "user_id", "op": "eq", "value": null}),
            json!({"field": "user_id", "op": "exists", "value": false}),
            json!({"field": "occurred_at", "op": "lt", "value": "soon"}),
            json!({"field": "metadata.", "op": "exists"}),
            json!({"field": "metadata.x", "op": "eq", "value": u64::MAX}),
        ] {
            assert!(Filter::from_json(&bad).is_err(), "{bad}");
        }
        let mut deep = json!({});
        for _ in 0..=FILTER_DEPTH {
            deep = json!({"not": deep});
        }
        assert!(Filter::from_json(&deep).is_err());
    }
}

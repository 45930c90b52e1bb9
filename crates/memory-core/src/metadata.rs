//! Metadata: a map of scalars and lists of strings that filters can use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::ids::check_name;
use crate::limits::{
    METADATA_BYTES, METADATA_KEY_BYTES, METADATA_KEYS, METADATA_LIST, METADATA_STRING_BYTES,
};

/// The name of a metadata value: 1 to 128 bytes, no control character, not `.`, `..` or `__x__`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MetaKey(Arc<str>);

impl MetaKey {
    /// Checks and wraps a key.
    ///
    /// # Errors
    /// `InvalidInput`: empty, too long, with a control character, or a reserved name.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check_name("metadata key", text, METADATA_KEY_BYTES)?;
        let reserved = text == "."
            || text == ".."
            || (text.len() >= 4 && text.starts_with("__") && text.ends_with("__"));
        if reserved {
            return Err(Error::invalid("the metadata key is a reserved name"));
        }
        Ok(Self(text.into()))
    }

    /// The text as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MetaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MetaKey({:?})", &*self.0)
    }
}

impl TryFrom<String> for MetaKey {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<MetaKey> for String {
    fn from(key: MetaKey) -> Self {
        key.0.as_ref().to_owned()
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
pub enum MetaValue {
    /// True or false.
    Bool(bool),
    /// An integer, exact over the whole range.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A text of at most 1,500 bytes.
    Text(String),
    /// At most 100 texts, in order.
    List(Vec<String>),
}

impl MetaValue {
    /// Reads a JSON value.
    ///
    /// # Errors
    /// `InvalidInput`: null, an object, a list of other than strings, an integer beyond i64.
    pub fn from_json(value: &Value) -> Result<Self> {
        match value {
            Value::Bool(value) => Ok(Self::Bool(*value)),
            Value::Number(number) => {
                if let Some(int) = number.as_i64() {
                    Ok(Self::Int(int))
                } else if number.is_u64() {
                    Err(Error::invalid("a metadata integer is beyond 64 bits with a sign"))
                } else {
                    number
                        .as_f64()
                        .filter(|float| float.is_finite())
                        .map(Self::Float)
                        .ok_or_else(|| Error::invalid("a metadata number is not finite"))
                }
            }
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Array(values) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map(Self::List)
                .ok_or_else(|| Error::invalid("a metadata list holds strings only")),
            Value::Null | Value::Object(_) => Err(Error::invalid(
                "a metadata value is a boolean, a number, a string or a list of strings",
            )),
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Bool(value) => Value::Bool(*value),
            Self::Int(value) => Value::from(*value),
            Self::Float(value) => Value::from(*value),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(texts) => texts.iter().map(|text| Value::String(text.clone())).collect(),
        }
    }

    fn check(&self) -> Result<usize> {
        let text_ok = |text: &String| {
            if text.len() > METADATA_STRING_BYTES {
                Err(Error::invalid(format!(
                    "a metadata string has {} bytes; the limit is {METADATA_STRING_BYTES}",
                    text.len()
                )))
            } else {
                Ok(text.len())
            }
        };
        match self {
            Self::Bool(_) => Ok(1),
            Self::Int(_) => Ok(8),
            Self::Float(float) if float.is_finite() => Ok(8),
            Self::Float(_) => Err(Error::invalid("a metadata number is not finite")),
            Self::Text(text) => text_ok(text),
            Self::List(texts) if texts.len() > METADATA_LIST => Err(Error::invalid(format!(
                "a metadata list has {} strings; the limit is {METADATA_LIST}",
                texts.len()
            ))),
            Self::List(texts) => texts.iter().try_fold(0, |sum, text| Ok(sum + text_ok(text)?)),
        }
    }
}

impl Serialize for MetaValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for MetaValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Self::from_json(&value).map_err(serde::de::Error::custom)
    }
}

impl From<&str> for MetaValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for MetaValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for MetaValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

/// The metadata of one item, ordered by key.
pub type Metadata = BTreeMap<MetaKey, MetaValue>;

/// Checks counts and sizes; returns the bytes of keys and values.
pub(crate) fn check_metadata(metadata: &Metadata) -> Result<usize> {
    if metadata.len() > METADATA_KEYS {
        return Err(Error::invalid(format!(
            "the metadata has {} keys; the limit is {METADATA_KEYS}",
            metadata.len()
        )));
    }
    let mut bytes = 0;
    for (key, value) in metadata {
        bytes += key.as_str().len() + value.check()?;
    }
    if bytes > METADATA_BYTES {
        return Err(Error::invalid(format!(
            "the metadata has {bytes} bytes; the limit is {METADATA_BYTES}"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_round_trips_with_types() {
        let text = r#"{"a":true,"b":9223372036854775807,"c":1.0,"d":"x","e":["y","z"],"f":0.1}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(metadata[&MetaKey::new("b").unwrap()], MetaValue::Int(i64::MAX));
        assert_eq!(metadata[&MetaKey::new("c").unwrap()], MetaValue::Float(1.0));
        let again: Metadata =
            serde_json::from_str(&serde_json::to_string(&metadata).unwrap()).unwrap();
        assert_eq!(again, metadata);
        assert!(check_metadata(&metadata).is_ok());
    }

    #[test]
    fn what_is_not_a_scalar_is_refused() {
        for bad in [json!(null), json!({"x": 1}), json!([1]), json!(u64::MAX)] {
            assert!(MetaValue::from_json(&bad).is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "__x__", "a\0"] {
            assert!(MetaKey::new(bad).is_err(), "{bad:?}");
        }
        assert!(MetaKey::new("__x").is_ok());
        let mut metadata = Metadata::new();
        metadata.insert(MetaKey::new("x").unwrap(), MetaValue::Float(f64::NAN));
        assert!(check_metadata(&metadata).is_err());
        metadata.insert(MetaKey::new("x").unwrap(), MetaValue::Text("x".repeat(1_501)));
        assert!(check_metadata(&metadata).is_err());
    }
}

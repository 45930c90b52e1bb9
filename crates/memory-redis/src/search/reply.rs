//! What the query engine answers, read without a panic.

use memory_core::{Error, ErrorKind, Result};
use redis::Value;

use crate::error::corrupt;

/// What an error of the engine means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// There is no index of that name.
    NoIndex,
    /// There is one already.
    Exists,
    /// The server does not know the command.
    NoCommand,
    /// The user may not.
    Denied,
    /// The engine's own time limit passed.
    TimedOut,
    /// Anything else.
    Other,
}

/// What an error that the wire gave means.
pub(super) fn meaning(error: &Error) -> Meaning {
    read(&crate::error::told(error).unwrap_or_else(|| error.message().to_owned()))
}

/// What the text of an error means: versions word it differently.
fn read(text: &str) -> Meaning {
    let text = text.to_lowercase();
    let has = |part: &str| text.contains(part);
    if has("noperm") || has("no permissions") {
        Meaning::Denied
    } else if has("unknown command") {
        Meaning::NoCommand
    } else if has("no such index") || has("unknown index name") || has("index not found") {
        Meaning::NoIndex
    } else if has("index already exists") {
        Meaning::Exists
    } else if has("timeout limit was reached") || has("timeout_limit") {
        Meaning::TimedOut
    } else {
        Meaning::Other
    }
}

/// The value of a key, in a map or a list of pairs.
pub(super) fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .find(|(name, _)| text(name) == Some(key.as_bytes()))
            .map(|(_, value)| value),
        Value::Array(values) => {
            let (pairs, _) = values.as_chunks::<2>();
            pairs
                .iter()
                .find(|[name, _]| text(name) == Some(key.as_bytes()))
                .map(|[_, value]| value)
        }
        _ => None,
    }
}

/// The bytes of a text.
pub(super) fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.as_bytes()),
        _ => None,
    }
}

/// An integer, also one that is written as text.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        #[expect(clippy::cast_possible_truncation, reason = "whole counts, far below 2^53")]
        Value::Double(number) if number.is_finite() => Some(*number as i64),
        other => std::str::from_utf8(text(other)?).ok()?.parse().ok(),
    }
}

/// A number, also one that is written as text.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "counts, far below 2^53")]
        Value::Int(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        other => std::str::from_utf8(text(other)?).ok()?.parse().ok(),
    }
}

/// One row of an answer: the key and its fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    /// The memory's key; empty in an aggregation.
    pub(super) key: Vec<u8>,
    /// The fields that were asked for and are there.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Row {
    /// The bytes of a field.
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(field, _)| field == name.as_bytes())
            .map(|(_, value)| value.as_slice())
    }
}

/// An answer of FT.SEARCH or FT.AGGREGATE.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rows {
    /// Documents that match, whatever the limit.
    pub(super) total: u64,
    /// Those that came.
    pub(super) rows: Vec<Row>,
}

/// Reads an answer.
///
/// # Errors
/// `Timeout`: the engine ran out of time, and what came is not all. `Unavailable`: a warning that
/// says the answer is not whole for another reason. `Corrupt`: not such an answer.
pub(super) fn rows(answer: Value) -> Result<Rows> {
    check_warnings(&answer)?;
    let Value::Map(pairs) = answer else { return Err(unexpected()) };
    let mut found = Rows::default();
    for (name, value) in pairs {
        match text(&name) {
            Some(b"total_results") => {
                found.total = integer(&value).and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            }
            Some(b"results") => {
                let Value::Array(results) = value else { return Err(unexpected()) };
                found.rows = results.into_iter().map(row).collect::<Result<_>>()?;
            }
            _ => {}
        }
    }
    Ok(found)
}

fn check_warnings(answer: &Value) -> Result<()> {
    let warnings = get(answer, "warning").or_else(|| get(answer, "warnings"));
    let texts: Vec<&[u8]> = match warnings {
        Some(Value::Array(warnings)) => warnings.iter().filter_map(text).collect(),
        Some(Value::Set(warnings)) => warnings.iter().filter_map(text).collect(),
        Some(other) => text(other).into_iter().collect(),
        None => Vec::new(),
    };
    for warning in texts {
        let warning = String::from_utf8_lossy(warning).to_lowercase();
        if warning.contains("timeout") || warning.contains("time limit") {
            return Err(timed_out());
        }
        if warning.contains("partial") || warning.contains("indexing") {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "the query engine says that its index is not whole, for lack of memory perhaps: see \
                 FT.INFO on the server",
            ));
        }
    }
    Ok(())
}

/// The error of a search that the engine cut short.
pub(super) fn timed_out() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the query engine did not finish in time, and what it found so far is not all: give the call \
         more time, or narrow the search",
    )
}

fn row(result: Value) -> Result<Row> {
    let Value::Map(pairs) = result else { return Err(unexpected()) };
    let mut row = Row::default();
    for (name, value) in pairs {
        match (text(&name), value) {
            (Some(b"id"), Value::BulkString(key)) => row.key = key,
            (Some(b"id"), Value::SimpleString(key)) => row.key = key.into_bytes(),
            (Some(b"extra_attributes"), Value::Map(fields)) => {
                row.fields = fields.into_iter().filter_map(field).collect();
            }
            (Some(b"extra_attributes"), Value::Array(fields)) => {
                let mut fields = fields.into_iter();
                while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
                    row.fields.extend(field((name, value)));
                }
            }
            _ => {}
        }
    }
    Ok(row)
}

fn field((name, value): (Value, Value)) -> Option<(Vec<u8>, Vec<u8>)> {
    Some((bytes(name)?, bytes(value)?))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.into_bytes()),
        Value::Double(number) => Some(number.to_string().into_bytes()),
        Value::Int(number) => Some(number.to_string().into_bytes()),
        _ => None,
    }
}

fn unexpected() -> Error {
    corrupt("the query engine's answer has a shape that is not known: this build speaks RESP3")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn answer(warnings: Vec<Value>) -> Value {
        let row = Value::Map(vec![
            (t("id"), t("k")),
            (t("extra_attributes"), Value::Map(vec![(t("r"), t("1-a"))])),
            (t("values"), Value::Array(Vec::new())),
        ]);
        Value::Map(vec![
            (t("attributes"), Value::Array(Vec::new())),
            (t("total_results"), Value::Int(7)),
            (t("results"), Value::Array(vec![row])),
            (t("warning"), Value::Array(warnings)),
        ])
    }

    #[test]
    fn answers_are_read_and_what_is_not_whole_is_an_error() {
        let found = rows(answer(Vec::new())).unwrap();
        assert_eq!(found.total, 7);
        assert_eq!(found.rows[0].key, b"k");
        assert_eq!(found.rows[0].field("r"), Some(&b"1-a"[..]));
        assert_eq!(found.rows[0].field("x"), None);
        for (text, kind) in [
            ("Timeout limit was reached", ErrorKind::Timeout),
            ("Index contains partial data due to an indexing failure", ErrorKind::Unavailable),
        ] {
            assert_eq!(rows(answer(vec![t(text)])).unwrap_err().kind(), kind);
        }
        assert!(rows(answer(vec![t("something harmless")])).is_ok());
        for bad in [Value::Nil, Value::Int(1), Value::Array(Vec::new())] {
            assert_eq!(rows(bad).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let bad = Value::Map(vec![(t("results"), Value::Array(vec![Value::Nil]))]);
        assert_eq!(rows(bad).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn errors_are_told_apart_whatever_their_wording() {
        for (text, is) in [
            ("x: no such index", Meaning::NoIndex),
            ("Unknown Index name", Meaning::NoIndex),
            ("SEARCH_INDEX_NOT_FOUND Index not found: x", Meaning::NoIndex),
            ("Index already exists", Meaning::Exists),
            ("unknown command 'FT.SEARCH', with args", Meaning::NoCommand),
            ("NOPERM User x has no permissions to run the 'ft.search' command", Meaning::Denied),
            ("Timeout limit was reached", Meaning::TimedOut),
            ("LOADING Redis is loading", Meaning::Other),
        ] {
            assert_eq!(read(text), is, "{text}");
        }
    }

    #[test]
    fn numbers_come_in_several_shapes() {
        assert_eq!(integer(&t("12")), Some(12));
        assert_eq!(integer(&Value::Double(3.0)), Some(3));
        assert_eq!(integer(&Value::Nil), None);
        assert_eq!(number(&t("0.5")), Some(0.5));
        assert_eq!(number(&Value::Int(2)), Some(2.0));
        assert_eq!(number(&t("x")), None);
        let pairs = Value::Array(vec![t("a"), t("b"), t("c")]);
        assert_eq!(get(&pairs, "a"), Some(&t("b")));
        assert_eq!(get(&pairs, "c"), None);
    }
}

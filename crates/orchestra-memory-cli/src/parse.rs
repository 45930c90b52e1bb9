//! What the command line's values mean: times, metadata, vectors, texts.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use orchestra_memory::memory_core::{Error, MetaKey, MetaValue, Timestamp, limits};
use serde_json::Value;

use crate::failure::{Failure, Result};

/// Largest file or standard input that is read whole, in bytes: a vector of 8,192 components of
/// 24 digits is below 200 KiB, a content below 1 MiB, and what is larger is no such thing.
const INPUT_BYTES: u64 = 16 * 1024 * 1024;

/// Reads a time: RFC 3339, a date (its midnight in UTC), `now`, or a span from now such as `+7d`
/// or `-90m` with the units `s`, `m`, `h`, `d` and `w`.
pub(crate) fn time(text: &str, now: Timestamp) -> Result<Timestamp> {
    if text == "now" {
        return Ok(now);
    }
    if let Some(sign @ (b'+' | b'-')) = text.bytes().next() {
        let span = span(&text[1..])?;
        return Ok(if sign == b'+' { now.saturating_add(span) } else { now.saturating_sub(span) });
    }
    let date = text.len() == 10 && text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let full = if date { format!("{text}T00:00:00Z") } else { text.to_owned() };
    Timestamp::parse(&full).map_err(|_| {
        Failure::usage(
            "a time is written as RFC 3339 with an offset (2025-03-01T09:30:00Z), as a date \
             (2025-03-01), or as a span from now (+7d, -90m; units s, m, h, d, w)",
        )
    })
}

fn span(text: &str) -> Result<Duration> {
    let bad = || Failure::usage("a span is a whole number and a unit: s, m, h, d or w");
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return Err(bad()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    Ok(Duration::from_secs(number.saturating_mul(seconds)))
}

/// Reads `key=text` or `key:=json`; the first of the two signs decides.
pub(crate) fn metadata(text: &str) -> Result<(MetaKey, MetaValue)> {
    let at = text
        .find('=')
        .ok_or_else(|| Failure::usage("metadata is written as key=text or key:=json"))?;
    let (key, value) = (&text[..at], &text[at + 1..]);
    match key.strip_suffix(':') {
        Some(key) => {
            let value: Value = json("the metadata value", value)?;
            Ok((MetaKey::new(key)?, MetaValue::from_json(&value)?))
        }
        None => Ok((MetaKey::new(key)?, MetaValue::Text(value.to_owned()))),
    }
}

/// Reads a JSON value, naming what it is for.
pub(crate) fn json(what: &str, text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| Failure::usage(format!("{what} is no JSON: {}", place(&error))))
}

/// Where a JSON text stops being one, without repeating it.
fn place(error: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Eof => "it ends early",
        Category::Data => "a value has the wrong type",
        Category::Syntax | Category::Io => "it is malformed",
    };
    format!("{what} at line {}, column {}", error.line(), error.column())
}

/// Reads a vector: a JSON list of numbers, or `@FILE` with one in it (`@-` for standard input).
pub(crate) fn vector(text: &str) -> Result<Vec<f32>> {
    let read;
    let text = match text.strip_prefix('@') {
        Some(path) => {
            read = file(path)?;
            read.trim()
        }
        None => text,
    };
    let vector: Vec<f32> = serde_json::from_str(text).map_err(|error| {
        Failure::usage(format!("a vector is a JSON list of finite numbers: {}", place(&error)))
    })?;
    if u32::try_from(vector.len()).map_or(true, |len| len > limits::DIMENSIONS) {
        return Err(Failure::usage(format!(
            "the vector has {} components; the limit is {}",
            vector.len(),
            limits::DIMENSIONS
        )));
    }
    Ok(vector)
}

/// Reads a text argument: itself, or all of standard input for `-`, less one line break at its end.
pub(crate) fn text(argument: &str) -> Result<String> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = file("-")?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// Reads a file whole, or standard input for `-`.
fn file(path: &str) -> Result<String> {
    let what = || if path == "-" { "standard input".to_owned() } else { path.to_owned() };
    let mut source: Box<dyn Read> = if path == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(|error| Failure::file(&what(), error))?)
    };
    let mut bytes = Vec::new();
    source
        .by_ref()
        .take(INPUT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file(&what(), error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > INPUT_BYTES {
        return Err(Failure::usage(format!("{} has more than {INPUT_BYTES} bytes", what())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::invalid(format!("{} is not UTF-8 at byte {at}", what())).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::parse("2025-03-01T12:00:00Z").unwrap()
    }

    #[test]
    fn times_are_read_in_every_form() {
        for (text, expected) in [
            ("2025-01-02T03:04:05+01:00", "2025-01-02T02:04:05Z"),
            ("2025-01-02", "2025-01-02T00:00:00Z"),
            ("now", "2025-03-01T12:00:00Z"),
            ("+7d", "2025-03-08T12:00:00Z"),
            ("-90m", "2025-03-01T10:30:00Z"),
            ("+2w", "2025-03-15T12:00:00Z"),
            ("+1s", "2025-03-01T12:00:01Z"),
            ("-12h", "2025-03-01T00:00:00Z"),
        ] {
            assert_eq!(time(text, now()).unwrap().to_string(), expected, "{text}");
        }
        assert_eq!(time("+99999999999999999w", now()).unwrap(), Timestamp::MAX);
        for bad in
            ["", "+", "-", "+d", "7d", "+7", "+7y", "+7é", "+-7d", "+1.5d", "soon", "2025-13-01"]
        {
            assert_eq!(time(bad, now()).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn metadata_is_typed() {
        let read = |text| metadata(text).map(|(key, value)| (key.to_string(), value));
        assert_eq!(read("a=1").unwrap(), ("a".to_owned(), MetaValue::Text("1".to_owned())));
        assert_eq!(read("a:=1").unwrap(), ("a".to_owned(), MetaValue::Int(1)));
        assert_eq!(read("a:=true").unwrap(), ("a".to_owned(), MetaValue::Bool(true)));
        assert_eq!(
            read(r#"a:=["x","y"]"#).unwrap(),
            ("a".to_owned(), MetaValue::List(vec!["x".to_owned(), "y".to_owned()]))
        );
        assert_eq!(read("u=a:=b").unwrap(), ("u".to_owned(), MetaValue::Text("a:=b".to_owned())));
        assert_eq!(read("a=").unwrap(), ("a".to_owned(), MetaValue::Text(String::new())));
        for bad in ["", "a", "=x", ":=1", "a:=", "a:={", "a:=null", "a:={\"b\":1}", "__x__=1"] {
            assert_eq!(metadata(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn vectors_are_lists_of_numbers() {
        assert_eq!(vector("[1, -0.5, 2e1]").unwrap(), [1.0, -0.5, 20.0]);
        for bad in ["", "1", "[NaN]", "[null]", "[\"1\"]", "[1,]", "[1e999]", "{}"] {
            assert_eq!(vector(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
        let long = format!("[{}1]", "1,".repeat(8_192));
        assert_eq!(vector(&long).unwrap_err().exit_code(), 2);
        assert_eq!(vector("@no/such/file").unwrap_err().exit_code(), 3);
    }

    #[test]
    fn a_vector_is_read_from_a_file() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, b"[0.5, 1]\n").unwrap();
        assert_eq!(vector(&format!("@{}", file.path().display())).unwrap(), [0.5, 1.0]);
    }
}

//! The OpenAI-compatible shapes: requests, answers, and the few words taken from a refusal.

use std::fmt;

use memory_core::{EmbeddingSpace, Error, ErrorKind, Result};
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::error::Category;

/// Longest identifier taken over from a refusal, in bytes.
const IDENTIFIER_BYTES: usize = 64;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    input: &'a [String],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// The body of a request.
pub(super) fn request(model: &str, input: &[String], dimensions: Option<u32>) -> Result<Vec<u8>> {
    let request = Request { model, input, encoding_format: "float", dimensions };
    serde_json::to_vec(&request)
        .map_err(|_| Error::new(ErrorKind::Unexpected, "a request cannot be written as JSON"))
}

/// The vectors of an answer, in the order of the texts, each checked against the space.
///
/// # Errors
/// `Corrupt`, naming what is wrong by numbers, with nothing of the body.
pub(super) fn vectors(body: &[u8], texts: usize, space: &EmbeddingSpace) -> Result<Vec<Vec<f32>>> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => return Err(corrupt("the server's answer is empty")),
        Some(b'{') => {}
        Some(b'<') => return Err(corrupt("the server answered with a page of HTML or XML")),
        Some(_) => return Err(corrupt("the server's answer is not a JSON object")),
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|error| unreadable(&error))?;
    let items = answer.data.ok_or_else(|| corrupt("the server's answer has no data"))?;
    if items.len() != texts {
        return Err(corrupt(format!(
            "the server answered {} vectors for {texts} texts",
            items.len()
        )));
    }
    let vectors = in_order(items)?;
    for (at, vector) in vectors.iter().enumerate() {
        if let Err(error) = space.check(vector) {
            return Err(corrupt(format!("vector {at} of the answer: {}", error.message())));
        }
    }
    Ok(vectors)
}

/// Puts vectors in the order of their indexes. An answer without any index is in order.
fn in_order(items: Vec<Item>) -> Result<Vec<Vec<f32>>> {
    let count = items.len();
    let indexed = items.iter().filter(|item| item.index.is_some()).count();
    if indexed != 0 && indexed != count {
        return Err(corrupt(format!(
            "{indexed} of the {count} vectors of the answer have an index"
        )));
    }
    let mut slots: Vec<Option<Vec<f32>>> = vec![None; count];
    for (at, item) in items.into_iter().enumerate() {
        let index = item.index.map_or(Some(at), |index| usize::try_from(index).ok());
        let slot = index.and_then(|index| slots.get_mut(index)).ok_or_else(|| {
            corrupt(format!("entry {at} of the answer has an index beyond its {count} texts"))
        })?;
        let vector = match item.embedding {
            None => Err(corrupt(format!("entry {at} of the answer has no embedding"))),
            Some(Numbers::Other) => {
                Err(corrupt(format!("the embedding of entry {at} is not a list of numbers")))
            }
            Some(Numbers::Broken(component)) => Err(corrupt(format!(
                "component {component} of entry {at} of the answer is not a number"
            ))),
            Some(Numbers::List(vector)) => Ok(vector),
        }?;
        if slot.replace(vector).is_some() {
            return Err(corrupt(format!("entry {at} of the answer repeats an index")));
        }
    }
    // As many entries as slots, and none twice: every slot is filled.
    Ok(slots.into_iter().flatten().collect())
}

/// What the server calls its refusal: `error.type` and `error.code` where they are short
/// identifiers. Its message is not looked at, for it may repeat what was sent.
pub(super) fn identifiers(body: &[u8]) -> Vec<(&'static str, String)> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    [("server_type", "/error/type"), ("server_code", "/error/code")]
        .into_iter()
        .filter_map(|(name, at)| {
            let text = body.pointer(at)?.as_str()?;
            let fits = (1..=IDENTIFIER_BYTES).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
            fits.then(|| (name, text.to_owned()))
        })
        .collect()
}

pub(crate) fn corrupt(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, message)
}

/// The parser's own words may repeat the body: only the place is taken from it.
pub(crate) fn unreadable(error: &serde_json::Error) -> Error {
    let words = match error.classify() {
        Category::Eof => "ends in the middle of its JSON",
        Category::Data => "is JSON of another shape than embeddings have",
        Category::Syntax | Category::Io => "is not JSON",
    };
    corrupt(format!(
        "the server's answer {words}, at line {} column {}",
        error.line(),
        error.column()
    ))
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Item {
    index: Option<u64>,
    embedding: Option<Numbers>,
}

/// A list of numbers, or what stands in its place.
pub(crate) enum Numbers {
    List(Vec<f32>),
    /// A list whose component of this number is something else.
    Broken(usize),
    Other,
}

/// One component; `None` for anything but a number.
struct Component(Option<f32>);

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumbersVisitor)
    }
}

impl<'de> Deserialize<'de> for Component {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ComponentVisitor)
    }
}

struct NumbersVisitor;
struct ComponentVisitor;

/// The visits of values that are of no use: each is read to its end and stands for nothing.
macro_rules! nothing {
    ($value:expr; $($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok($value)
        })*

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

impl<'de> Visitor<'de> for NumbersVisitor {
    type Value = Numbers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Numbers, A::Error> {
        let mut numbers = Vec::new();
        let mut broken = None;
        while let Some(Component(number)) = list.next_element()? {
            match number {
                Some(number) if broken.is_none() => numbers.push(number),
                Some(_) => {}
                None => broken = broken.or(Some(numbers.len())),
            }
        }
        Ok(broken.map_or(Numbers::List(numbers), Numbers::Broken))
    }

    nothing!(Numbers::Other; visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64,
        visit_str: &str);
}

impl<'de> Visitor<'de> for ComponentVisitor {
    type Value = Component;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    // A number beyond f32 becomes an infinity, which the check of the vector finds.
    #[expect(clippy::cast_possible_truncation, reason = "vectors are f32")]
    fn visit_f64<E>(self, number: f64) -> Result<Component, E> {
        Ok(Component(Some(number as f32)))
    }

    #[expect(clippy::cast_precision_loss, reason = "vectors are f32")]
    fn visit_i64<E>(self, number: i64) -> Result<Component, E> {
        Ok(Component(Some(number as f32)))
    }

    #[expect(clippy::cast_precision_loss, reason = "vectors are f32")]
    fn visit_u64<E>(self, number: u64) -> Result<Component, E> {
        Ok(Component(Some(number as f32)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Component, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Component(None))
    }

    nothing!(Component(None); visit_bool: bool, visit_str: &str);
}

#[cfg(test)]
mod tests {
    use memory_core::Metric;

    use super::*;

    fn read(body: &str) -> Result<Vec<Vec<f32>>> {
        let space = EmbeddingSpace::new("m", "1", 2, Metric::Cosine).unwrap();
        vectors(body.as_bytes(), 2, &space)
    }

    #[test]
    fn answers_are_read_in_the_order_of_their_indexes_or_as_they_stand() {
        let expected = [vec![1.0, 0.5], vec![-2.0, 3.25]];
        for body in [
            r#"{"data":[{"index":0,"embedding":[1,0.5]},{"index":1,"embedding":[-2,3.25]}]}"#,
            r#" {"data":[{"index":1,"embedding":[-2,3.25]},{"embedding":[1,0.5],"index":0}],"x":[]}"#,
            r#"{"object":"list","data":[{"embedding":[1,5e-1]},{"embedding":[-2.0,3.25]}]}"#,
        ] {
            assert_eq!(read(body).unwrap(), expected, "{body}");
        }
    }

    #[test]
    fn every_fault_is_named_by_numbers() {
        let table = [
            ("", "empty"),
            (" \r\n", "empty"),
            ("<!doctype html>", "HTML"),
            ("[[1,2],[3,4]]", "not a JSON object"),
            ("secret", "not a JSON object"),
            (r#"{"secret"}"#, "is not JSON, at line 1 column 10"),
            (r#"{"data":[{"index":0,"embedding":[1,NaN]}]}"#, "is not JSON"),
            (r#"{"data":[{"index":0,"#, "ends in the middle"),
            (r#"{"data":[]} secret"#, "is not JSON"),
            ("{}", "no data"),
            (r#"{"data":null}"#, "no data"),
            (r#"{"data":"secret"}"#, "another shape"),
            (r#"{"data":["secret","secret"]}"#, "another shape"),
            (r#"{"data":[{"index":"secret"},{}]}"#, "another shape"),
            (r#"{"data":[{"index":-1},{"index":0}]}"#, "another shape"),
            (r#"{"data":[{"embedding":[1,2]}]}"#, "1 vectors for 2 texts"),
            (r#"{"data":[{},{},{}]}"#, "3 vectors for 2 texts"),
            (r#"{"data":[{"index":0,"embedding":[1,2]},{"embedding":[1,2]}]}"#, "1 of the 2"),
            (
                r#"{"data":[{"index":1,"embedding":[1,2]},{"index":1,"embedding":[1,2]}]}"#,
                "entry 1 of the answer repeats",
            ),
            (
                r#"{"data":[{"index":0,"embedding":[1,2]},{"index":2,"embedding":[1,2]}]}"#,
                "entry 1 of the answer has an index beyond",
            ),
            (r#"{"data":[{"embedding":[1,2]},{}]}"#, "entry 1 of the answer has no embedding"),
            (r#"{"data":[{"embedding":null},{}]}"#, "entry 0 of the answer has no embedding"),
            (r#"{"data":[{"embedding":"secret"},{}]}"#, "entry 0 is not a list"),
            (r#"{"data":[{"embedding":{"secret":[1]}},{}]}"#, "entry 0 is not a list"),
            (r#"{"data":[{"embedding":7},{}]}"#, "entry 0 is not a list"),
            (r#"{"data":[{"embedding":[1,null]},{}]}"#, "component 1 of entry 0"),
            (r#"{"data":[{"embedding":["secret",2,"x"]},{}]}"#, "component 0 of entry 0"),
            (r#"{"data":[{"embedding":[1,[2]]},{}]}"#, "component 1 of entry 0"),
            (r#"{"data":[{"embedding":[1,{"secret":2}]},{}]}"#, "component 1 of entry 0"),
            (r#"{"data":[{"embedding":[1,true]},{}]}"#, "component 1 of entry 0"),
            (
                r#"{"data":[{"embedding":[1,2]},{"embedding":[1,2,3]}]}"#,
                "vector 1 of the answer: the vector has 3 components; its space has 2",
            ),
            (
                r#"{"data":[{"embedding":[1,2]},{"embedding":[1,1e300]}]}"#,
                "vector 1 of the answer: component 1 of the vector is not a finite number",
            ),
            (r#"{"data":[{"embedding":[1,2]},{"embedding":[1,1e999]}]}"#, "is not JSON"),
            (r#"{"data":[{"embedding":[0,0]},{"embedding":[1,2]}]}"#, "norm is zero"),
        ];
        for (body, words) in table {
            let error = read(body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{body}");
            assert!(!error.is_retryable());
            assert!(error.message().contains(words), "{body}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{body}: {error:?}");
        }
    }

    #[test]
    fn only_short_identifiers_are_taken_from_a_refusal() {
        let of = |text: &str| identifiers(text.as_bytes());
        assert_eq!(
            of(r#"{"error":{"message":"m","type":"invalid_request_error","code":"a.b-C_9"}}"#),
            [
                ("server_type", "invalid_request_error".to_owned()),
                ("server_code", "a.b-C_9".to_owned())
            ]
        );
        let long = format!(r#"{{"error":{{"type":"{}","code":"x y"}}}}"#, "a".repeat(65));
        for none in [
            "",
            "no JSON",
            "{}",
            r#"{"error":"text"}"#,
            r#"{"error":{"type":"","code":7}}"#,
            long.as_str(),
        ] {
            assert_eq!(of(none), []);
        }
    }

    #[test]
    fn requests_carry_every_character() {
        let texts = ["\u{0}\u{1f}\"\\\u{7f}\u{2028}🦀".to_owned()];
        let body: Value = serde_json::from_slice(&request("m", &texts, None).unwrap()).unwrap();
        assert_eq!(body["input"][0], texts[0]);
        assert!(body.get("dimensions").is_none());
        let body: Value = serde_json::from_slice(&request("m", &texts, Some(7)).unwrap()).unwrap();
        assert_eq!(body["dimensions"], 7);
    }
}

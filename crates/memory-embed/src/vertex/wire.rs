//! The shapes of `predict`: requests, and the vectors of an answer.

use memory_core::{EmbeddingSpace, Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::settings::TaskType;
use crate::http::wire::{Numbers, corrupt, unreadable};

#[derive(Serialize)]
struct Request<'a> {
    instances: Vec<Instance<'a>>,
    parameters: Parameters,
}

#[derive(Serialize)]
struct Instance<'a> {
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_type: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Parameters {
    auto_truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

/// The body of a request.
pub(super) fn request(
    input: &[String],
    task: Option<TaskType>,
    dimensions: Option<u32>,
    auto_truncate: bool,
) -> Result<Vec<u8>> {
    let task_type = task.map(TaskType::name);
    let instances = input.iter().map(|content| Instance { content, task_type }).collect();
    let parameters = Parameters { auto_truncate, output_dimensionality: dimensions };
    serde_json::to_vec(&Request { instances, parameters })
        .map_err(|_| Error::new(ErrorKind::Unexpected, "a request cannot be written as JSON"))
}

#[derive(Deserialize)]
struct Answer {
    predictions: Option<Vec<Prediction>>,
}

#[derive(Deserialize)]
struct Prediction {
    embeddings: Option<Embeddings>,
}

#[derive(Deserialize)]
struct Embeddings {
    values: Option<Numbers>,
}

/// The vectors of an answer, which are in the order of the texts, each checked against the space.
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
    let items = answer.predictions.ok_or_else(|| corrupt("the answer has no predictions"))?;
    if items.len() != texts {
        return Err(corrupt(format!(
            "the server answered {} vectors for {texts} texts",
            items.len()
        )));
    }
    let mut vectors = Vec::with_capacity(texts);
    for (at, item) in items.into_iter().enumerate() {
        let vector = match item.embeddings.and_then(|embeddings| embeddings.values) {
            None => return Err(corrupt(format!("entry {at} of the answer has no values"))),
            Some(Numbers::Other) => {
                return Err(corrupt(format!("the values of entry {at} are not a list of numbers")));
            }
            Some(Numbers::Broken(component)) => {
                return Err(corrupt(format!(
                    "component {component} of entry {at} of the answer is not a number"
                )));
            }
            Some(Numbers::List(vector)) => vector,
        };
        if let Err(error) = space.check(&vector) {
            return Err(corrupt(format!("vector {at} of the answer: {}", error.message())));
        }
        vectors.push(vector);
    }
    Ok(vectors)
}

/// What a refusal says of itself: its code, if it is one of Google's, and how long to wait, in
/// seconds as text. Nothing else is looked at, for it may repeat what was sent.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Refusal {
    pub(super) code: Option<&'static str>,
    pub(super) delay: Option<String>,
}

/// Google's codes.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Reads a refusal. Some servers put it into a list.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return Refusal::default() };
    let error = body.pointer("/error").or_else(|| body.pointer("/0/error"));
    let Some(error) = error else { return Refusal::default() };
    let told = error.get("status").and_then(Value::as_str).unwrap_or_default();
    let code = CODES.into_iter().find(|code| *code == told);
    let details = error.get("details").and_then(Value::as_array);
    let delay = details.into_iter().flatten().find_map(|detail| {
        let kind = detail.get("@type")?.as_str()?;
        kind.ends_with("google.rpc.RetryInfo").then_some(())?;
        Some(detail.get("retryDelay")?.as_str()?.to_owned())
    });
    Refusal { code, delay }
}

#[cfg(test)]
mod tests {
    use memory_core::Metric;
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_have_the_published_shape() {
        let input = ["a \"b\"\u{0}🦀".to_owned()];
        let task = Some(TaskType::RetrievalQuery);
        let body: Value =
            serde_json::from_slice(&request(&input, task, Some(7), false).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "instances": [{"content": input[0], "task_type": "RETRIEVAL_QUERY"}],
                "parameters": {"autoTruncate": false, "outputDimensionality": 7},
            })
        );
        let body: Value =
            serde_json::from_slice(&request(&input, None, None, true).unwrap()).unwrap();
        assert_eq!(
            body,
            json!({"instances": [{"content": input[0]}], "parameters": {"autoTruncate": true}})
        );
    }

    #[test]
    fn every_fault_is_named_by_numbers() {
        let space = EmbeddingSpace::new("m", "1", 2, Metric::Cosine).unwrap();
        let read = |body: &str| vectors(body.as_bytes(), 2, &space);
        let good = r#"{"predictions":[{"embeddings":{"values":[1,0.5],"statistics":{"truncated":false}}},
            {"embeddings":{"values":[-2,3]}}],"metadata":{}}"#;
        assert_eq!(read(good).unwrap(), [vec![1.0, 0.5], vec![-2.0, 3.0]]);
        for (body, words) in [
            ("", "empty"),
            ("<html>secret", "HTML"),
            ("[1]", "not a JSON object"),
            (r#"{"secret"}"#, "is not JSON"),
            ("{}", "no predictions"),
            (r#"{"predictions":["secret"]}"#, "another shape"),
            (r#"{"predictions":[{}]}"#, "1 vectors for 2"),
            (r#"{"predictions":[{},{}]}"#, "entry 0 of the answer has no values"),
            (
                r#"{"predictions":[{"embeddings":{"values":[1,2]}},{"embeddings":{}}]}"#,
                "entry 1 of the answer has no values",
            ),
            (
                r#"{"predictions":[{"embeddings":{"values":"secret"}},{}]}"#,
                "values of entry 0 are not a list",
            ),
            (
                r#"{"predictions":[{"embeddings":{"values":[1,"secret"]}},{}]}"#,
                "component 1 of entry 0",
            ),
            (
                r#"{"predictions":[{"embeddings":{"values":[1,2,3]}},{}]}"#,
                "vector 0 of the answer: the vector has 3",
            ),
            (r#"{"predictions":[{"embeddings":{"values":[0,0]}},{}]}"#, "norm is zero"),
            (r#"{"predictions":[{"embeddings":{"values":[1,1e300]}},{}]}"#, "not a finite"),
        ] {
            let error = read(body).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{body}");
            assert!(error.message().contains(words), "{body}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{body}: {error:?}");
        }
    }

    #[test]
    fn only_codes_and_delays_are_taken_from_a_refusal() {
        let of = |body: Value| refusal(body.to_string().as_bytes());
        let error = json!({"error": {
            "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "secret",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.Help"},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "12.5s"},
            ],
        }});
        let expected =
            Refusal { code: Some("RESOURCE_EXHAUSTED"), delay: Some("12.5s".to_owned()) };
        assert_eq!(of(error.clone()), expected);
        assert_eq!(of(json!([error])), expected);
        for none in [json!({}), json!("secret"), json!({"error": {"status": "secret"}})] {
            assert_eq!(of(none), Refusal::default());
        }
        assert_eq!(refusal(b"secret"), Refusal::default());
    }
}

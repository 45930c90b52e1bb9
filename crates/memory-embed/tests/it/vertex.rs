//! The embedder on Vertex AI against a server on loopback that speaks the published shapes and
//! refuses what the service refuses.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::executor::block_on;
use memory_core::traits::{AccessToken, CredentialProvider, EmbedPurpose, Embedder};
use memory_core::{
    CallContext, Clock as _, Deadline, Error, ErrorKind, HealthStatus, ManualClock, Metric, Result,
    TenantId, Timestamp,
};
use memory_embed::vertex::{TaskType, VertexEmbedder, VertexSettings};
use serde_json::{Value, json};

use crate::http::stub::{Answer, Request, Stub};

const NOW: &str = "2025-11-06T08:49:00Z";
const MODEL: &str = "text-embedding-005";

/// A token, or a failure.
#[derive(Debug)]
struct Tokens(Option<&'static str>);

#[async_trait]
impl CredentialProvider for Tokens {
    async fn token(&self, scopes: &[String]) -> Result<AccessToken> {
        assert_eq!(scopes, ["https://www.googleapis.com/auth/cloud-platform"]);
        match self.0 {
            Some(token) => Ok(AccessToken::new(token.to_owned(), None)),
            None => Err(Error::new(ErrorKind::Config, "there are no credentials")
                .with_backend("google-auth")),
        }
    }
}

fn refusal(http: u16, status: &str) -> Answer {
    let error = json!({"code": http, "status": status, "message": "canary words"});
    Answer::json(http, &json!({ "error": error }))
}

/// The service: one vector for each text, of its length and of what it is for.
fn service(request: &Request) -> Answer {
    if request.header("authorization") != Some("Bearer good-canary") {
        return refusal(401, "UNAUTHENTICATED");
    }
    let path = format!(
        "POST /v1/projects/a-project/locations/us-central1/publishers/google/models/{MODEL}:predict"
    );
    if request.line != path && request.line != path.replace(MODEL, "gemini-embedding-001") {
        return refusal(404, "NOT_FOUND");
    }
    let body = request.json();
    let instances = body["instances"].as_array().unwrap();
    let most = if request.line.contains("gemini") { 1 } else { 5 };
    let texts: Vec<&str> =
        instances.iter().filter_map(|instance| instance["content"].as_str()).collect();
    let dimensions = &body["parameters"]["outputDimensionality"];
    // A token is three bytes here.
    let tokens: usize = texts.iter().map(|text| text.len().div_ceil(3)).sum();
    if !(1..=most).contains(&instances.len())
        || texts.len() != instances.len()
        || texts.contains(&"")
        || tokens > 20_000
        || (!dimensions.is_null() && *dimensions != json!(3))
    {
        return refusal(400, "INVALID_ARGUMENT");
    }
    let vector = |instance: &Value| {
        let length = instance["content"].as_str().unwrap().len();
        let task = match instance["task_type"].as_str() {
            Some("RETRIEVAL_DOCUMENT") => 1,
            Some("RETRIEVAL_QUERY") => 2,
            Some(_) => 3,
            None => 0,
        };
        json!({"embeddings": {
            "values": [length, task, 1],
            "statistics": {"truncated": false, "token_count": 4},
        }})
    };
    let predictions: Vec<Value> = instances.iter().map(vector).collect();
    Answer::json(200, &json!({ "predictions": predictions }))
}

fn settings(stub: &Stub) -> VertexSettings {
    let mut settings = VertexSettings::new("a-project", "us-central1", MODEL, 3);
    settings.endpoint = Some(stub.url().trim_end_matches("/v1").to_owned());
    settings
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::parse(NOW).unwrap()))
}

fn embedder(settings: VertexSettings) -> VertexEmbedder {
    VertexEmbedder::new(settings, Arc::new(Tokens(Some("good-canary"))), clock()).unwrap()
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("t").unwrap())
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn embed(embedder: &VertexEmbedder, input: &[&str]) -> Result<Vec<Vec<f32>>> {
    block_on(embedder.embed(&context(), &texts(input), EmbedPurpose::Document))
}

/// All that an error shows of itself and of its causes.
fn shown(error: &Error) -> String {
    format!("{error}\n{error:?}\n{error:#?}")
}

#[test]
fn texts_come_back_in_order_in_requests_that_the_model_takes() {
    let stub = Stub::start(service);
    let embedder = embedder(settings(&stub));
    let input: Vec<String> = (1..=12).map(|n| "x".repeat(n)).collect();
    let vectors = block_on(embedder.embed(&context(), &input, EmbedPurpose::Document)).unwrap();
    let lengths: Vec<f32> = vectors.iter().map(|vector| vector[0]).collect();
    assert_eq!(lengths, (1..=12_u8).map(f32::from).collect::<Vec<_>>());
    assert!(vectors.iter().all(|vector| vector[1..] == [1.0, 1.0]));
    let mut sizes: Vec<usize> =
        stub.seen().iter().map(|seen| seen.json()["instances"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 5, 5]);
    let space = embedder.space();
    assert_eq!((space.model(), space.dimensions(), space.metric()), (MODEL, 3, Metric::Cosine));
    assert_eq!(embedder.max_batch(), 5 * 64);
    assert!(embed(&embedder, &[]).unwrap().is_empty());
}

#[test]
fn models_of_one_text_a_request_get_one() {
    let stub = Stub::start(service);
    let mut settings = settings(&stub);
    settings.model = "gemini-embedding-001".to_owned();
    let one = embedder(settings.clone());
    assert_eq!(embed(&one, &["a", "bb", "ccc"]).unwrap().len(), 3);
    assert_eq!(stub.seen().len(), 3);
    settings.max_batch = Some(2);
    let error = embed(&embedder(settings), &["a", "bb"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_model_is_told_what_a_text_is_for() {
    let stub = Stub::start(service);
    let mut settings = settings(&stub);
    let asked = |settings: &VertexSettings, purpose| {
        let embedder = embedder(settings.clone());
        block_on(embedder.embed(&context(), &texts(&["a"]), purpose)).unwrap()[0][1]
    };
    assert_eq!(asked(&settings, EmbedPurpose::Document).to_bits(), 1.0_f32.to_bits());
    assert_eq!(asked(&settings, EmbedPurpose::Query).to_bits(), 2.0_f32.to_bits());
    settings.query_task = Some(TaskType::CodeRetrievalQuery);
    assert_eq!(asked(&settings, EmbedPurpose::Query).to_bits(), 3.0_f32.to_bits());
    settings.query_task = None;
    settings.send_dimensions = false;
    settings.auto_truncate = false;
    settings.quota_project = Some("who-pays".to_owned());
    assert_eq!(asked(&settings, EmbedPurpose::Query).to_bits(), 0.0_f32.to_bits());
    let seen = stub.seen();
    assert_eq!(
        seen[0].json()["parameters"],
        json!({"autoTruncate": true, "outputDimensionality": 3})
    );
    assert_eq!(seen[3].json()["parameters"], json!({"autoTruncate": false}));
    assert_eq!(seen[0].header("x-goog-user-project"), None);
    assert_eq!(seen[3].header("x-goog-user-project"), Some("who-pays"));
}

#[test]
fn long_texts_are_cut_into_windows_and_requests_stay_within_their_bytes() {
    let stub = Stub::start(service);
    let mut settings = settings(&stub);
    settings.window_bytes = 1_000;
    settings.batch_bytes = 2_500;
    let embedder = embedder(settings);
    let long = "word ".repeat(800);
    let vectors = embed(&embedder, &["a", &long, "bb"]).unwrap();
    assert_eq!(vectors.len(), 3);
    // A pooled vector has length 1, the others are as they came.
    let norm: f32 = vectors[1].iter().map(|x| x * x).sum();
    assert!((norm - 1.0).abs() < 1e-5, "{norm}");
    assert_eq!(
        (vectors[0][0].to_bits(), vectors[2][0].to_bits()),
        (1.0_f32.to_bits(), 2.0_f32.to_bits())
    );
    for seen in stub.seen() {
        let body = seen.json();
        let bytes: usize = body["instances"]
            .as_array()
            .unwrap()
            .iter()
            .map(|instance| instance["content"].as_str().unwrap().len())
            .sum();
        assert!(bytes <= 2_500, "{bytes}");
    }
}

#[test]
fn refusals_are_typed_sent_once_and_repeat_nothing() {
    use ErrorKind::*;
    for (http, status, kind, retryable) in [
        (400, "INVALID_ARGUMENT", InvalidInput, false),
        (401, "UNAUTHENTICATED", PermissionDenied, false),
        (403, "PERMISSION_DENIED", PermissionDenied, false),
        (404, "NOT_FOUND", Config, false),
        (429, "RESOURCE_EXHAUSTED", RateLimited, true),
        (500, "INTERNAL", Unavailable, true),
        (503, "UNAVAILABLE", Unavailable, true),
        (504, "DEADLINE_EXCEEDED", Timeout, true),
        (302, "", Config, false),
    ] {
        let stub = Stub::start(move |_| refusal(http, status).with_header("Retry-After", "7"));
        let embedder = embedder(settings(&stub));
        let error = embed(&embedder, &["canary"]).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{status}");
        assert_eq!((error.backend(), error.operation()), ("vertex", "embed"));
        let waits = matches!(kind, RateLimited | Unavailable).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after(), waits, "{status}");
        assert!(!shown(&error).contains("canary"), "{}", shown(&error));
        assert_eq!(stub.seen().len(), 1);
        let health = block_on(embedder.health());
        let degraded = health.status == HealthStatus::Degraded;
        assert_eq!(degraded, kind != InvalidInput, "{status}");
    }
}

#[test]
fn answers_that_are_not_vectors_of_the_space_are_corrupt() {
    for body in [
        json!({}),
        json!({"predictions": []}),
        json!({"predictions": [{"embeddings": {"values": [1, 2]}}]}),
        json!({"predictions": [{"embeddings": {"values": [1, 2, "canary"]}}]}),
        json!({"predictions": [{"embeddings": {"values": [0, 0, 0]}}]}),
    ] {
        let answer = body.clone();
        let stub = Stub::start(move |_| Answer::json(200, &answer));
        let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Corrupt, false), "{body}");
        assert!(!shown(&error).contains("canary"));
    }
    let endless = Stub::start(|_| {
        Answer::Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n        ".to_vec())
    });
    let error = embed(&embedder(settings(&endless)), &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn deadlines_bound_a_request() {
    let stub = Stub::start(|_| Answer::Hang(Vec::new()));
    let clock = clock();
    let tokens = Arc::new(Tokens(Some("good-canary")));
    let embedder = VertexEmbedder::new(settings(&stub), tokens, Arc::clone(&clock) as _).unwrap();
    let soon = Deadline::at(clock.monotonic() + Duration::from_millis(100));
    let hurried = context().with_deadline(Some(soon));
    let ask = || block_on(embedder.embed(&hurried, &texts(&["a"]), EmbedPurpose::Query));
    let error = ask().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // A caller in a hurry says nothing of the service.
    assert_eq!(block_on(embedder.health()).status, HealthStatus::Healthy);
    clock.advance(Duration::from_millis(100));
    assert_eq!(ask().unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn credentials_fail_as_themselves_and_are_shown_nowhere() {
    let stub = Stub::start(service);
    let with =
        |token| VertexEmbedder::new(settings(&stub), Arc::new(Tokens(token)), clock()).unwrap();
    let error = embed(&with(None), &["a"]).unwrap_err();
    assert_eq!((error.kind(), error.backend()), (ErrorKind::Config, "google-auth"));
    let error = embed(&with(Some("a\nb")), &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(stub.seen().is_empty());
    let stale = with(Some("stale-canary"));
    let error = embed(&stale, &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!shown(&error).contains("canary"));
    assert!(!format!("{stale:?}").contains("canary"));
}

#[test]
fn inputs_are_checked_before_anything_is_sent() {
    let stub = Stub::start(service);
    let embedder = embedder(settings(&stub));
    let error = embed(&embedder, &["a", ""]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = embed(&embedder, &["a"; 321]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(stub.seen().is_empty());
}

#[test]
fn settings_that_are_wrong_are_named() {
    type Change = fn(&mut VertexSettings);
    let table: [(&str, Change); 16] = [
        ("project", |s| s.project = "a/b".to_owned()),
        ("quota_project", |s| s.quota_project = Some(String::new())),
        ("location", |s| s.location = "evil.example/".to_owned()),
        ("model", |s| s.model = "../x".to_owned()),
        ("endpoint", |s| s.endpoint = Some("http://example.com".to_owned())),
        ("endpoint", |s| s.endpoint = Some("https://user:canary@example.com".to_owned())),
        ("endpoint", |s| s.endpoint = Some("https://example.com/path".to_owned())),
        ("endpoint", |s| s.endpoint = Some("example.com".to_owned())),
        ("dimensions", |s| s.dimensions = 0),
        ("timeout", |s| s.timeout = Duration::ZERO),
        ("max_batch", |s| s.max_batch = Some(251)),
        ("max_batch", |s| s.max_batch = Some(0)),
        ("batch_bytes", |s| s.batch_bytes = 999),
        ("concurrency", |s| s.concurrency = 65),
        ("window_bytes", |s| s.window_bytes = 63),
        ("revision", |s| s.revision.clear()),
    ];
    for (name, change) in table {
        let mut settings = VertexSettings::new("p", "us-central1", MODEL, 3);
        settings.validate().unwrap();
        change(&mut settings);
        let error = settings.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(name), "{name}: {error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
    for location in ["global", "europe-west4"] {
        VertexSettings::new("p", location, MODEL, 3).validate().unwrap();
    }
}

//! What is sent, and what is made of good answers.

use std::time::Duration;

use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{Deadline, Metric};
use memory_embed::http::{ApiKey, MOST_WINDOWS};
use serde_json::json;

use super::stub::{Answer, Stub};
use super::{context, embed, embedder, length, lengths, settings, texts};

#[test]
fn a_request_has_the_shape_that_servers_know() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub));
    assert_eq!(embed(&embedder, &["abc", "de"]).unwrap(), [[3.0, 1.0], [2.0, 1.0]]);
    let request = &stub.seen()[0];
    assert_eq!(request.line, "POST /v1/embeddings");
    assert_eq!(request.header("content-type"), Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(request.header("authorization"), None);
    assert!(request.header("user-agent").unwrap().starts_with("orchestra-memory/"));
    assert_eq!(
        request.json(),
        json!({"model": "a-model", "input": ["abc", "de"], "encoding_format": "float"})
    );
    assert_eq!(embedder.space().to_string(), "2/cosine/a-model@1");
}

#[test]
fn dimensions_and_the_key_are_sent_when_set() {
    let stub = Stub::start(lengths);
    let key = ApiKey::new("key-canary").unwrap();
    let embedder = embedder(settings(&stub).with_send_dimensions(true).with_api_key(Some(key)));
    embed(&embedder, &["abc"]).unwrap();
    let request = &stub.seen()[0];
    assert_eq!(request.json()["dimensions"], 2);
    assert_eq!(request.header("authorization"), Some("Bearer key-canary"));
}

#[test]
fn no_text_is_no_request() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub));
    assert!(embed(&embedder, &[]).unwrap().is_empty());
    assert!(stub.seen().is_empty());
    embed(&embedder, &["a"]).unwrap();
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn every_character_arrives() {
    let stub = Stub::start(lengths);
    let text = "\u{0}\u{1}\n\t\u{1f}\"\\/\u{7f}\u{85}\u{2028}\u{fffd}🦀e\u{301}";
    embed(&embedder(settings(&stub)), &[text]).unwrap();
    assert_eq!(stub.seen()[0].input(), [text]);
}

#[test]
fn answers_are_put_in_the_order_of_their_indexes() {
    let stub = Stub::start(|_| {
        Answer::json(
            200,
            &json!({"data": [
                {"index": 2, "embedding": [3, 1]},
                {"index": 0, "embedding": [1, 1]},
                {"index": 1, "embedding": [2, 1]},
            ]}),
        )
    });
    let vectors = embed(&embedder(settings(&stub)), &["a", "b", "c"]).unwrap();
    assert_eq!(vectors, [[1.0, 1.0], [2.0, 1.0], [3.0, 1.0]]);
}

#[test]
fn many_texts_are_sent_in_full_requests_and_joined_in_order() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub).with_max_batch(3).with_concurrency(4));
    assert_eq!(embedder.max_batch(), 12);
    let input: Vec<String> = (1..=11).map(|n| "x".repeat(n)).collect();
    let vectors = block_on(embedder.embed(&context(), &input, EmbedPurpose::Document)).unwrap();
    let expected: Vec<Vec<f32>> =
        input.iter().map(|text| vec![f32::from(length(text)), 1.0]).collect();
    assert_eq!(vectors, expected);
    let mut sizes: Vec<usize> = stub.seen().iter().map(|request| request.input().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3, 3, 3]);
}

#[test]
fn prefixes_stand_before_each_window_and_follow_the_purpose() {
    let stub = Stub::start(lengths);
    let embedder = embedder(
        settings(&stub)
            .with_window_bytes(64)
            .with_query_prefix("query: ")
            .with_document_prefix("passage: "),
    );
    let long = "x".repeat(100);
    let input = texts(&["short", &long]);
    for purpose in [EmbedPurpose::Query, EmbedPurpose::Document] {
        block_on(embedder.embed(&context(), &input, purpose)).unwrap();
    }
    let half = "x".repeat(50);
    for (request, prefix) in stub.seen().iter().zip(["query: ", "passage: "]) {
        let expected = ["short", &half, &half].map(|text| format!("{prefix}{text}"));
        assert_eq!(request.input(), expected);
    }
}

/// 71 bytes: 40, a space, 30.
fn two_windows() -> String {
    format!("{} {}", "a".repeat(40), "b".repeat(30))
}

#[test]
fn windows_of_a_long_text_are_pooled_by_their_bytes() {
    // 71 bytes are two windows of 36; the last quarter of the first has no space.
    let stub = Stub::start(lengths);
    let dot = embedder(settings(&stub).with_window_bytes(64).with_metric(Metric::Dot));
    let vectors = embed(&dot, &["abc", &two_windows(), "de"]).unwrap();
    assert_eq!(
        stub.seen()[0].input(),
        ["abc".to_owned(), "a".repeat(36), format!("aaaa {}", "b".repeat(30)), "de".to_owned()]
    );
    // (36 * 36 + 35 * 35) / 71
    let mean = 2_521.0 / 71.0;
    assert_eq!(vectors, [vec![3.0, 1.0], vec![mean, 1.0], vec![2.0, 1.0]]);

    let cosine = embedder(settings(&stub).with_window_bytes(64));
    let vectors = embed(&cosine, &["abc", &two_windows()]).unwrap();
    assert_eq!(vectors[0], [3.0, 1.0], "a text that fits comes as the server gave it");
    let length = (mean * mean + 1.0_f32).sqrt();
    for (component, expected) in vectors[1].iter().zip([mean / length, 1.0 / length]) {
        assert!((component - expected).abs() < 1e-6, "{component} is not {expected}");
    }
}

#[test]
fn windows_count_as_texts_of_a_request_and_are_bounded() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub).with_window_bytes(64).with_max_batch(5));
    let long = "x".repeat(64 * 40);
    let vectors = embed(&embedder, &["abc", &long]).unwrap();
    assert_eq!(vectors.len(), 2);
    assert_eq!(vectors[0], [3.0, 1.0]);
    let sizes: Vec<usize> = stub.seen().iter().map(|request| request.input().len()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 1 + MOST_WINDOWS);
    assert!(sizes.iter().all(|size| *size <= 5), "{sizes:?}");
}

#[test]
fn without_a_window_no_text_is_split() {
    let stub = Stub::start(lengths);
    let long = "x".repeat(20_000);
    embed(&embedder(settings(&stub).with_window_bytes(0)), &[&long]).unwrap();
    assert_eq!(stub.seen()[0].input(), [long.as_str()]);
    embed(&embedder(settings(&stub)), &[&long]).unwrap();
    assert_eq!(stub.seen()[1].input().len(), 3);
}

#[test]
fn an_answer_in_chunks_is_read_whole() {
    let stub = Stub::start(|_| {
        let pieces = [r#"{"data":[{"index":0,"#, r#""embedding":[1.5,"#, "-2]}]}"];
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for piece in pieces {
            bytes.extend(format!("{:x}\r\n{piece}\r\n", piece.len()).bytes());
        }
        bytes.extend(b"0\r\n\r\n");
        Answer::Raw(bytes)
    });
    assert_eq!(embed(&embedder(settings(&stub)), &["a"]).unwrap(), [[1.5, -2.0]]);
}

#[test]
fn a_deadline_that_has_not_passed_lets_a_call_through() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub));
    let context = context().with_deadline(Some(Deadline::at(Duration::from_secs(5))));
    let vectors =
        block_on(embedder.embed(&context, &texts(&["abc"]), EmbedPurpose::Query)).unwrap();
    assert_eq!(vectors, [[3.0, 1.0]]);
}

//! Refusals, broken answers and broken connections; and that none of them repeats what was sent.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{Deadline, ErrorKind, HealthStatus};
use memory_embed::http::{ApiKey, HttpSettings};
use serde_json::json;

use super::stub::{Answer, Stub};
use super::{context, embed, embedder, lengths, settings, shown};

const TEXT: &str = "text-canary-5161";
const KEY: &str = "key-canary-8080";

#[test]
fn every_status_has_its_kind_over_the_wire() {
    use ErrorKind::*;
    let table = [
        (307, Config),
        (400, InvalidInput),
        (401, PermissionDenied),
        (403, PermissionDenied),
        (404, Config),
        (408, Timeout),
        (413, InvalidInput),
        (418, Unexpected),
        (422, InvalidInput),
        (429, RateLimited),
        (500, Unavailable),
        (503, Unavailable),
        (504, Timeout),
    ];
    let stub = Stub::start(move |request| {
        let status = request.input()[0].parse().unwrap();
        Answer::status(status)
            .with_header("Retry-After", "7")
            .with_header("Location", "http://127.0.0.1:1/v1/embeddings")
    });
    let embedder = embedder(settings(&stub));
    for (status, kind) in table {
        let error = embed(&embedder, &[&status.to_string()]).unwrap_err();
        assert_eq!(error.kind(), kind, "{status}");
        assert_eq!(error.is_retryable(), kind.retryable_by_default(), "{status}");
        assert_eq!((error.backend(), error.operation()), ("http", "embed"));
        let waits = matches!(kind, RateLimited | Unavailable);
        assert_eq!(error.retry_after(), waits.then(|| Duration::from_secs(7)), "{status}");
        assert_eq!(error.to_string().contains("a-model"), status == 404, "{error}");
    }
    // Each once: redirects are not followed, and nothing is tried again.
    assert_eq!(stub.seen().len(), table.len());
}

#[test]
fn a_wait_until_a_date_is_counted_by_the_clock() {
    let stub = Stub::start(|_| {
        Answer::status(429).with_header("Retry-After", "Thu, 06 Nov 2025 08:50:30 GMT")
    });
    let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(90)));
}

#[test]
fn bad_answers_are_corrupt_and_not_worth_a_second_attempt() {
    let answer = |body: &str| Answer::Whole(200, Vec::new(), body.as_bytes().to_vec());
    let table = [
        ("", "empty"),
        ("<html><body>login</body></html>", "HTML"),
        ("[]", "not a JSON object"),
        (r#"{"object":"list"}"#, "no data"),
        (r#"{"data":[]}"#, "0 vectors for 1 texts"),
        (r#"{"data":[{"embedding":[1,2]},{"embedding":[1,2]}]}"#, "2 vectors for 1 texts"),
        (r#"{"data":[{"index":1,"embedding":[1,2]}]}"#, "beyond"),
        (r#"{"data":[{"index":0,"embedding":[1,2,3]}]}"#, "3 components"),
        (r#"{"data":[{"index":0,"embedding":[1,null]}]}"#, "component 1"),
        (r#"{"data":[{"index":0,"embedding":["1",2]}]}"#, "component 0"),
        (r#"{"data":[{"index":0,"embedding":[1,1e60]}]}"#, "not a finite number"),
        (r#"{"data":[{"index":0,"embedding":[0,0]}]}"#, "zero"),
        (r#"{"data":[{"index":0,"embedding":[1"#, "ends in the middle"),
    ];
    for (body, words) in table {
        let stub = Stub::start(move |_| answer(body));
        let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{body}");
        assert!(!error.is_retryable(), "{body}");
        assert!(error.message().contains(words), "{body}: {error}");
    }
    let stub = Stub::start(|_| Answer::vectors(&[vec![1.0, 2.0], vec![1.0, 2.0]]));
    assert!(embed(&embedder(settings(&stub)), &["a", "b"]).is_ok());
}

#[test]
fn one_bad_vector_in_one_of_many_requests_fails_the_call() {
    let stub = Stub::start(|request| match request.input()[0].as_str() {
        "c" => Answer::vectors(&[vec![f32::MAX, 1.0]]),
        _ => lengths(request),
    });
    let embedder = embedder(settings(&stub).with_max_batch(1).with_concurrency(4));
    let error = embed(&embedder, &["a", "b", "c", "d"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(embed(&embedder, &["a", "b", "d"]).is_ok());
}

#[test]
fn windows_whose_vectors_cancel_out_have_no_direction() {
    let stub = Stub::start(|_| Answer::vectors(&[vec![1.0, 2.0], vec![-1.0, -2.0]]));
    let embedder = embedder(settings(&stub).with_window_bytes(64));
    let error = embed(&embedder, &["x".repeat(100).as_str()]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("cancel out"), "{error}");
    // Two texts are not one.
    assert!(embed(&embedder, &["a", "b"]).is_ok());
}

#[test]
fn bad_input_is_refused_before_anything_is_sent() {
    let stub = Stub::start(lengths);
    let embedder = embedder(settings(&stub).with_max_batch(2).with_concurrency(1));
    for (input, words) in [(&["a", ""][..], "text 1 is empty"), (&["a", "b", "c"][..], "2 texts")] {
        let error = embed(&embedder, input).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(words), "{error}");
    }
    assert!(stub.seen().is_empty());
    assert_eq!(block_on(embedder.health()).status, HealthStatus::Healthy);
    assert!(embed(&embedder, &["a", " "]).is_ok());
    assert_eq!(stub.seen().len(), 1);
}

#[test]
fn a_body_longer_than_its_numbers_can_be_is_not_read_to_its_end() {
    let endless = |head: &'static [u8]| {
        Stub::start(move |_| {
            let mut bytes = head.to_vec();
            bytes.resize(1 << 20, b' ');
            Answer::Endless(bytes)
        })
    };
    let whole = endless(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
    let open = endless(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    for stub in [whole, open] {
        let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("longer than"), "{error}");
    }
    // The same with indentation enough for a person stays below the bound.
    let stub = Stub::start(|_| {
        let body = format!(r#"{{"data":[{{"embedding":[{0}1,{0}2]}}]}}"#, " ".repeat(60));
        Answer::Whole(200, Vec::new(), body.into_bytes())
    });
    assert!(embed(&embedder(settings(&stub)), &["a"]).is_ok());
}

#[test]
fn headers_without_end_are_refused() {
    let stub = Stub::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nX-Filler: ".to_vec();
        bytes.resize(300_000, b'x');
        Answer::Raw(bytes)
    });
    let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn broken_connections_are_unavailable() {
    let closed = || Answer::Raw(Vec::new());
    let cut_short = || {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"data\":[";
        Answer::Raw(head.as_bytes().to_vec())
    };
    let cut_chunk = || {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{\"data\":[";
        Answer::Raw(head.as_bytes().to_vec())
    };
    for answer in [closed as fn() -> Answer, cut_short, cut_chunk] {
        let stub = Stub::start(move |_| answer());
        let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.is_retryable());
    }
    let stub = Stub::start(|_| Answer::Raw(b"not HTTP at all\r\n\r\n".to_vec()));
    let error = embed(&embedder(settings(&stub)), &["a"]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn a_reset_connection_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        // Closed with bytes that were not read, a connection is reset.
        stream.peek(&mut [0]).unwrap();
    });
    let error = embed(&embedder(HttpSettings::new(url, "m", 2)), &["a"]).unwrap_err();
    server.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
}

#[test]
fn a_server_that_does_not_run_or_does_not_exist_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = embed(&embedder(HttpSettings::new(format!("http://{free}/v1"), "m", 2)), &["a"])
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.is_retryable());
    assert!(error.message().contains("does it run"), "{error}");
}

#[test]
fn a_failure_of_tls_is_not_worth_a_second_attempt() {
    // A server that speaks plainly where a handshake is expected.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/v1", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let error = embed(&embedder(HttpSettings::new(url, "m", 2)), &["a"]).unwrap_err();
    server.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.is_retryable());
    assert!(error.message().contains("secure"), "{error}");
}

#[test]
fn nothing_that_a_server_repeats_reaches_an_error() {
    let echo = format!("{TEXT} Bearer {KEY}");
    let refusal = |status, code: &str| {
        let error = json!({"error": {"message": echo, "type": TEXT, "code": code, "param": echo}});
        Answer::json(status, &error).with_header("X-Echo", &echo).with_header("Retry-After", &echo)
    };
    let raw = |head: &str| Answer::Raw(format!("{head}{echo}\r\n\r\n{echo}").into_bytes());
    let ok = |body: String| Answer::Whole(200, vec![("X-Echo", echo.clone())], body.into_bytes());
    let answers = vec![
        refusal(400, KEY),
        refusal(401, &KEY[4..]),
        refusal(429, &TEXT[5..]),
        refusal(422, &format!("bad.{TEXT}")),
        refusal(500, &format!("{KEY}-2")),
        refusal(200, KEY),
        refusal(302, KEY).with_header("Location", &format!("http://127.0.0.1/{KEY}")),
        ok(echo.clone()),
        ok(json!({"data": echo}).to_string()),
        ok(json!({"data": [{"index": echo}]}).to_string()),
        ok(json!({"data": [{"index": 0, "embedding": echo}]}).to_string()),
        ok(json!({"data": [{"index": 0, "embedding": [echo, 1]}]}).to_string()),
        ok(format!("{{\"{TEXT}\": \"{KEY}")),
        raw(""),
        raw("HTTP/1.1 200 "),
        raw("HTTP/1.1 200 OK\r\n"),
        raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        raw("HTTP/1.1 200 OK\r\nContent-Length: "),
        raw("HTTP/1.1 "),
    ];
    let count = answers.len();
    let answers = std::sync::Mutex::new(answers.into_iter());
    let stub = Stub::start(move |_| answers.lock().unwrap().next().unwrap());
    let key = ApiKey::new(KEY).unwrap();
    let embedder = embedder(settings(&stub).with_api_key(Some(key)));
    for at in 0..count {
        let error = embed(&embedder, &[TEXT]).unwrap_err();
        let shown = format!("{}{:?}{embedder:?}", shown(&error), block_on(embedder.health()));
        for canary in ["canary", "5161", "8080"] {
            assert!(!shown.contains(canary), "answer {at}: {shown}");
        }
    }
    // Both were sent, so that there was something to repeat.
    let request = &stub.seen()[0];
    assert_eq!(request.input(), [TEXT]);
    assert_eq!(request.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(stub.seen().len(), count);
}

#[test]
fn what_a_server_calls_its_refusal_is_told() {
    let stub = Stub::start(|request| {
        let status = if request.input()[0] == "first" { 404 } else { 200 };
        let error = json!({"message": "m", "type": "not_found", "code": "model.unknown-1"});
        Answer::json(status, &json!({"error": error}))
    });
    for text in ["first", "second"] {
        let error = embed(&embedder(settings(&stub)), &[text]).unwrap_err();
        assert!(
            error.to_string().contains("server_type=not_found, server_code=model.unknown-1"),
            "{error}"
        );
    }
}

#[test]
fn health_follows_the_last_request() {
    let stub = Stub::start(|request| match request.input()[0].as_str() {
        "bad" => Answer::status(500),
        _ => lengths(request),
    });
    let embedder = embedder(settings(&stub));
    let health = || block_on(embedder.health());
    assert_eq!(health().status, HealthStatus::Healthy);
    for failures in ["1", "2"] {
        embed(&embedder, &["bad"]).unwrap_err();
        assert_eq!(health().status, HealthStatus::Degraded);
        assert_eq!(health().reasons, ["the last request failed: unavailable"]);
        assert_eq!(health().details["failures_since_success"], failures);
    }
    embed(&embedder, &["good"]).unwrap();
    assert_eq!(health().status, HealthStatus::Healthy);
    assert!(health().reasons.is_empty());
    assert_eq!(health().details["model"], "a-model");
}

#[test]
fn what_is_the_callers_own_affair_does_not_lower_health() {
    let stub = Stub::start(|request| match request.input()[0].as_str() {
        "hang" => Answer::Hang(Vec::new()),
        "late" => Answer::status(504),
        status => Answer::status(status.parse().unwrap()),
    });
    let embedder = embedder(settings(&stub));
    let failures = || block_on(embedder.health()).details.get("failures_since_success").cloned();
    let hurry = |text: &str, left: u64| {
        let deadline = Deadline::at(Duration::from_millis(left));
        let context = context().with_deadline(Some(deadline));
        block_on(embedder.embed(&context, &[text.to_owned()], EmbedPurpose::Query)).unwrap_err()
    };
    for refused in ["400", "413", "422"] {
        assert_eq!(embed(&embedder, &[refused]).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(hurry("hang", 60).kind(), ErrorKind::Timeout);
    assert_eq!(failures(), None);
    assert_eq!(block_on(embedder.health()).status, HealthStatus::Healthy);
    // The server's own timeout counts, however little time its caller has.
    assert_eq!(hurry("late", 29_000).kind(), ErrorKind::Timeout);
    assert_eq!(failures().as_deref(), Some("1"));
    // Nor does a refusal take away what is known.
    embed(&embedder, &["400"]).unwrap_err();
    assert_eq!(failures().as_deref(), Some("1"));
    assert_eq!(block_on(embedder.health()).status, HealthStatus::Degraded);
}

#[test]
fn the_timeout_of_the_settings_lowers_health() {
    let stub = Stub::start(|_| Answer::Hang(Vec::new()));
    let embedder = embedder(settings(&stub).with_timeout(Duration::from_millis(60)));
    assert_eq!(embed(&embedder, &["a"]).unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(block_on(embedder.health()).reasons, ["the last request failed: timeout"]);
}

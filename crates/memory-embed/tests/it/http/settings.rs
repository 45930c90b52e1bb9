//! Which settings are refused, what they show of themselves, and whom a proxy is used for.

use std::process::Command;
use std::time::Duration;

use memory_core::{ErrorKind, Metric};
use memory_embed::http::{ApiKey, HttpEmbedder, HttpSettings};

use super::stub::{Answer, Stub};
use super::{clock, embed, embedder, lengths, settings, shown};

fn good() -> HttpSettings {
    HttpSettings::new("https://embeddings.example/v1", "a-model", 2)
}

fn key() -> Option<ApiKey> {
    Some(ApiKey::new("key-canary").unwrap())
}

fn fault(settings: HttpSettings) -> String {
    let error = settings.validate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let message = error.to_string();
    assert!(HttpEmbedder::new(settings, clock()).is_err_and(|error| error.to_string() == message));
    message
}

#[test]
fn urls_are_checked_without_being_repeated() {
    let url = |url: &str| HttpSettings::new(url, "m", 2);
    for (bad, words) in [
        ("", "neither http"),
        ("http://", "not a URL"),
        ("http://canary host/v1", "not a URL"),
        ("canary.example/v1", "neither http"),
        ("ftp://canary/v1", "neither http"),
        ("/canary/v1", "neither http"),
        ("https://user:canary@host/v1", "user or password"),
        ("https://canary@host/v1", "user or password"),
        ("https://host", "no path"),
        ("https://host/", "no path"),
        ("https://host?canary=1", "no path"),
    ] {
        let message = fault(url(bad));
        assert!(message.contains(words), "{bad}: {message}");
        assert!(!message.contains("canary"), "{message}");
        let shown = format!("{:?}", url(bad));
        assert!(!shown.contains("canary"), "{shown}");
    }
    for good in ["http://10.0.0.1/v1", "https://host:8443/v1/", "http://[::1]:1/a/embeddings"] {
        assert!(url(good).validate().is_ok(), "{good}");
    }
}

#[test]
fn a_key_travels_only_where_nobody_can_read_it() {
    let with = |url: &str| HttpSettings::new(url, "m", 2).with_api_key(key());
    for clear in ["http://host/v1", "http://10.0.0.1/v1", "http://localhost.example/v1"] {
        assert!(fault(with(clear)).contains("in the clear"));
        assert!(with(clear).with_api_key(None).validate().is_ok());
    }
    for safe in
        ["https://host/v1", "http://localhost:1/v1", "http://127.0.0.1/v1", "http://[::1]/v1"]
    {
        assert!(with(safe).validate().is_ok(), "{safe}");
    }
}

#[test]
fn keys_that_no_header_can_carry_are_refused() {
    for bad in
        ["", "canary\n", "canary\r\nX-Other: 1", "can\0ary", "can ary", "canäry", "canary\u{7f}"]
    {
        let error = ApiKey::new(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(!format!("{error:?}").contains("can"), "{error:?}");
    }
    assert!(ApiKey::new("sk-0.9_/+=~canary").is_ok());
}

#[test]
fn no_key_and_no_query_is_shown() {
    let settings = HttpSettings::new("https://localhost/v1?code=query-canary", "a-model", 2)
        .with_api_key(key());
    let embedder = HttpEmbedder::new(settings.clone(), clock()).unwrap();
    for shown in [format!("{settings:?}"), format!("{settings:#?}"), format!("{embedder:?}")] {
        assert!(!shown.contains("canary"), "{shown}");
        assert!(shown.contains("https://localhost/v1/embeddings"), "{shown}");
        assert!(shown.contains("ApiKey(redacted)"), "{shown}");
        assert!(shown.contains("a-model"), "{shown}");
    }
}

#[test]
fn every_bound_is_checked_and_all_faults_are_told_at_once() {
    assert!(good().validate().is_ok());
    for (settings, words) in [
        (HttpSettings::new("https://host/v1", "", 2), "model name"),
        (good().with_revision(""), "model revision"),
        (HttpSettings::new("https://host/v1", "m", 0), "dimensions"),
        (HttpSettings::new("https://host/v1", "m", 8_193), "dimensions"),
        (good().with_timeout(Duration::ZERO), "timeout"),
        (good().with_timeout(Duration::MAX), "timeout"),
        (good().with_max_batch(0), "max_batch"),
        (good().with_max_batch(2_049), "max_batch"),
        (good().with_concurrency(0), "concurrency"),
        (good().with_concurrency(65), "concurrency"),
        (good().with_window_bytes(63), "window_bytes"),
        (good().with_query_prefix("x".repeat(4_097)), "query_prefix"),
        (good().with_document_prefix("x".repeat(4_097)), "document_prefix"),
    ] {
        let message = fault(settings);
        assert!(message.contains(words), "{message}");
    }
    let many = fault(HttpSettings::new("", "", 2).with_max_batch(0).with_concurrency(0));
    for words in ["url", "model name", "max_batch", "concurrency"] {
        assert!(many.contains(words), "{many}");
    }
    let all = good()
        .with_revision("2")
        .with_metric(Metric::Dot)
        .with_timeout(Duration::from_millis(1))
        .with_max_batch(2_048)
        .with_concurrency(64)
        .with_window_bytes(64)
        .with_query_prefix("q")
        .with_document_prefix("d");
    assert!(all.validate().is_ok());
}

/// Set for the process that has a proxy in its environment.
const CHILD: &str = "MEMORY_EMBED_TEST_BEHIND_A_PROXY";

/// The variables in which the client looks for a proxy.
const PROXY: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs a test of this module once more, in a process that has these variables and no others that
/// name a proxy: the environment of a process is set when it starts.
fn again(test: &str, variables: &[(&str, &str)]) {
    let mut child = Command::new(std::env::current_exe().unwrap());
    for name in PROXY.into_iter().chain(["NO_PROXY", "no_proxy"]) {
        child.env_remove(name);
    }
    child.args(["--exact", &format!("http::settings::{test}")]).env(CHILD, "1");
    let output = child.envs(variables.iter().copied()).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

fn away() -> HttpSettings {
    HttpSettings::new("http://embeddings.test/v1", "m", 2)
}

#[test]
fn the_proxy_of_the_environment_is_for_other_machines_only() {
    if is_child() {
        let stub = Stub::start(lengths);
        assert_eq!(embed(&embedder(settings(&stub)), &["abc"]).unwrap(), [[3.0, 1.0]]);
        assert_eq!(stub.seen()[0].line, "POST /v1/embeddings");
        let error = embed(&embedder(away()), &["abc"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable());
        assert!(error.message().contains("proxy"), "{error}");
        return;
    }
    let proxy = Stub::start(|_| Answer::Raw(b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec()));
    let address = proxy.url().trim_end_matches("/v1").to_owned();
    let variables = PROXY.map(|name| (name, address.as_str()));
    again("the_proxy_of_the_environment_is_for_other_machines_only", &variables);
    let lines: Vec<String> = proxy.seen().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, ["CONNECT embeddings.test:80"]);
}

#[test]
fn a_proxy_that_wants_other_credentials_is_not_worth_a_second_attempt() {
    if is_child() {
        let error = embed(&embedder(away()), &["abc"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(!error.is_retryable());
        assert!(error.to_string().contains("status=407"), "{error}");
        assert!(error.message().contains("proxy"), "{error}");
        assert!(!shown(&error).contains("canary"), "{error:?}");
        return;
    }
    let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\n\
        Proxy-Authenticate: Basic realm=\"canary\"\r\nContent-Length: 0\r\n\r\n";
    let proxy = Stub::start(|_| Answer::Raw(refusal.to_vec()));
    let address = proxy.url().replace("http://", "http://user:canary@");
    let variables = [("HTTP_PROXY", address.trim_end_matches("/v1"))];
    again("a_proxy_that_wants_other_credentials_is_not_worth_a_second_attempt", &variables);
    let seen = proxy.seen();
    assert_eq!(seen[0].line, "CONNECT embeddings.test:80");
    assert!(seen[0].header("proxy-authorization").is_some());
    assert_eq!(seen.len(), 1);
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_and_not_passed_over() {
    if is_child() {
        let error = HttpEmbedder::new(away(), clock()).unwrap_err();
        assert_eq!((error.kind(), error.backend()), (ErrorKind::Config, "http"));
        assert!(error.message().contains("HTTPS_PROXY"), "{error}");
        assert!(!shown(&error).contains("canary"), "{error:?}");
        // What never goes through a proxy needs none, and neither does what is exempt.
        let stub = Stub::start(lengths);
        assert_eq!(embed(&embedder(settings(&stub)), &["abc"]).unwrap(), [[3.0, 1.0]]);
        let exempt = HttpSettings::new("http://exempt.test/v1", "m", 2);
        assert!(HttpEmbedder::new(exempt, clock()).is_ok());
        return;
    }
    for value in ["socks5://user:canary@127.0.0.1:1", "not a canary"] {
        let variables = [("HTTPS_PROXY", value), ("NO_PROXY", "other.test,exempt.test")];
        again("a_proxy_that_cannot_be_used_is_refused_and_not_passed_over", &variables);
    }
}

//! What goes wrong on the way: typed, told without secrets, and never tried again here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    AccessToken, CredentialProvider, NoLedger, VectorEntry, VectorIndex as _, VectorQuery,
};
use memory_core::{Clock as _, Deadline, Error, ErrorKind, ManualClock, Outcome, Result, Revision};
use memory_vector::google::{GoogleVectorIndex, GoogleVectorSettings};
use serde_json::json;

use super::server::Fault;
use super::{Rig, context, id, now, settings, space};

fn query() -> VectorQuery {
    VectorQuery::new(space(), vec![1.0, 0.0], 10)
}

fn entry() -> VectorEntry {
    VectorEntry { id: id("a"), revision: Revision::from_number(1), vector: vec![1.0, 0.0] }
}

#[tokio::test]
async fn refusals_are_typed_and_sent_once() {
    use ErrorKind::*;
    let rig = Rig::ready().await;
    let table = [
        (400, "INVALID_ARGUMENT", InvalidInput, false),
        (401, "UNAUTHENTICATED", PermissionDenied, false),
        (403, "PERMISSION_DENIED", PermissionDenied, false),
        (429, "RESOURCE_EXHAUSTED", RateLimited, false),
        (409, "ABORTED", Unavailable, false),
        (500, "INTERNAL", Unavailable, true),
        (503, "UNAVAILABLE", Unavailable, true),
        (504, "DEADLINE_EXCEEDED", Timeout, true),
    ];
    for (http, name, kind, lost) in table {
        rig.server.forget_seen();
        rig.server.fail_next([Fault::status(http, name)]);
        let error = rig.index.search(&context(), &query()).await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (kind, Outcome::NotApplied), "{name}");
        assert_eq!(rig.server.lines().len(), 1, "{name}");
        rig.server.fail_next([Fault::status(http, name)]);
        let error = rig.index.remove(&context(), &space(), &[id("a")]).await.unwrap_err();
        assert_eq!(error.outcome() == Outcome::Unknown, lost, "{name}");
        assert_eq!((error.backend(), error.operation()), ("google-vector-search", "remove"));
        assert!(error.context().contains(&("code", name.to_owned())), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert_eq!(rig.server.lines().len(), 2, "{name}");
    }
}

#[tokio::test]
async fn a_quota_tells_how_long_to_wait() {
    let rig = Rig::ready().await;
    let body = json!({"error": {
        "code": 429, "status": "RESOURCE_EXHAUSTED", "message": "secret",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}],
    }});
    rig.server.fail_next([Fault::Refused(429, body)]);
    let error = rig.index.search(&context(), &query()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, true));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn a_lost_answer_leaves_a_write_unknown_and_sending_it_again_mends_it() {
    let rig = Rig::ready().await;
    rig.server.fail_next([Fault::Lost]);
    let error = rig.index.upsert(&context(), &space(), &[entry()]).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
    assert!(error.is_retryable());
    assert_eq!(rig.server.objects(), 1);
    rig.index.upsert(&context(), &space(), &[entry()]).await.unwrap();
    rig.server.fail_next([Fault::Lost]);
    let error = rig.index.remove(&context(), &space(), &[id("a")]).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    rig.index.remove(&context(), &space(), &[id("a")]).await.unwrap();
    assert_eq!(rig.server.objects(), 0);
    rig.server.fail_next([Fault::Lost]);
    let error = rig.index.search(&context(), &query()).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn deadlines_and_the_settings_bound_a_request() {
    let rig = Rig::with(|settings| settings.request_timeout_ms = 200).await;
    rig.prepared().await;
    rig.server.fail_next([Fault::Hangs]);
    let error = rig.index.search(&context(), &query()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied));
    assert!(error.context().contains(&("limit_ms", "200".to_owned())), "{error}");
    rig.server.fail_next([Fault::Hangs]);
    let soon = Deadline::at(rig.clock.monotonic() + Duration::from_millis(50));
    let hurried = context().with_deadline(Some(soon));
    let error = rig.index.upsert(&hurried, &space(), &[entry()]).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::Unknown));
    rig.server.forget_seen();
    rig.clock.advance(Duration::from_millis(50));
    let error = rig.index.search(&hurried, &query()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(rig.server.seen().is_empty());
}

#[tokio::test]
async fn answers_that_are_none_are_told_apart() {
    let rig = Rig::ready().await;
    for (status, body, kind) in [
        ("200 OK", "Content-Length: 7\r\n\r\n<html/>", ErrorKind::Corrupt),
        ("200 OK", "Content-Length: 99\r\n\r\n{\"results\":", ErrorKind::Unavailable),
        ("502 Bad", "Content-Length: 7\r\n\r\n<html/>", ErrorKind::Unavailable),
        ("429 Slow", "Content-Length: 0\r\n\r\n", ErrorKind::RateLimited),
        ("nonsense", "\r\n", ErrorKind::Unavailable),
    ] {
        // The client must not keep a connection that the server ends.
        let raw = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{body}");
        rig.server.fail_next([Fault::Raw(raw.clone().into_bytes())]);
        let error = rig.index.search(&context(), &query()).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{raw}: {error}");
        assert!(!format!("{error:?}").contains("html"), "{error:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_away_was_not_reached() {
    let rig = Rig::ready().await;
    let mut settings = rig.index.settings().clone();
    // A port that was free a moment ago, and on which nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let away = super::index(settings, &rig.clock, &rig.book).await;
    let error = away.prepare(&space()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert!(error.is_retryable());
}

/// Credentials that are refused, or that nobody takes.
#[derive(Debug)]
struct Odd(Option<&'static str>);

#[async_trait]
impl CredentialProvider for Odd {
    async fn token(&self, scopes: &[String]) -> Result<AccessToken> {
        assert_eq!(scopes, ["https://www.googleapis.com/auth/cloud-platform"]);
        match self.0 {
            Some(token) => Ok(AccessToken::new(token.to_owned(), None)),
            None => Err(Error::new(ErrorKind::Unavailable, "the issuer is away")
                .with_retry_after(Duration::from_secs(3))),
        }
    }
}

#[tokio::test]
async fn failures_of_the_credentials_keep_their_kind() {
    let rig = Rig::ready().await;
    let open = |token| {
        let credentials = Arc::new(Odd(token));
        let clock = Arc::new(ManualClock::new(now()));
        GoogleVectorIndex::open(settings(&rig.server), credentials, clock, Arc::new(NoLedger))
    };
    let error = open(None).await.unwrap().prepare(&space()).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unavailable, "the issuer is away"));
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    let error = open(Some("a\nb")).await.unwrap().prepare(&space()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(rig.server.seen().is_empty());
    let error = open(Some("stale-secret")).await.unwrap().prepare(&space()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!format!("{error:?}").contains("stale-secret"));
    assert_eq!(rig.server.seen().len(), 1);
}

#[tokio::test]
async fn the_ledger_admits_and_counts() {
    let rig = Rig::ready().await;
    rig.index.upsert(&context(), &space(), &[entry()]).await.unwrap();
    rig.index.search(&context(), &query()).await.unwrap();
    rig.index.held(&context(), &space(), &[id("a"), id("b")]).await.unwrap();
    rig.index.remove(&context(), &space(), &[id("a")]).await.unwrap();
    let [kept] = rig.book.of("upsert")[..] else { panic!("one request") };
    assert_eq!((kept.writes, kept.deletes, kept.reads), (1, 0, 0));
    assert!(kept.bytes > 26, "{kept:?}");
    assert_eq!(rig.book.of("search")[0].reads, 1);
    // What is not there is no read that is answered.
    assert_eq!(rig.book.of("held").len(), 1);
    assert_eq!(rig.book.of("remove")[0].deletes, 1);
    *rig.book.spent.lock().unwrap() = true;
    rig.server.forget_seen();
    let error = rig.index.search(&context(), &query()).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, false));
    assert!(rig.server.seen().is_empty());
}

#[tokio::test]
async fn settings_that_are_wrong_are_refused_at_open() {
    let clock = Arc::new(ManualClock::new(now()));
    let settings = GoogleVectorSettings::new("", "us-central1");
    let error = GoogleVectorIndex::open(settings, Arc::new(Odd(None)), clock, Arc::new(NoLedger))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Config, "open"));
}

//! Each way to a token, through the same table: success, refusal, a server that fails, garbage,
//! silence, and none at all.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::ErrorKind;
use memory_core::traits::CredentialProvider;
use memory_google_auth::CredentialChoice;
use serde_json::json;
use tempfile::TempDir;

use crate::stub::{Answer, Request, Stub};
use crate::support::*;

/// A way to a token, the last request of which the test scripts.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flow {
    User,
    External,
    Impersonated,
    Metadata,
}

const FLOWS: [Flow; 4] = [Flow::User, Flow::External, Flow::Impersonated, Flow::Metadata];

impl Flow {
    /// The path of the request that is scripted.
    fn path(self) -> &'static str {
        match self {
            Self::User => "/token",
            Self::External => "/sts",
            Self::Impersonated => "/serviceAccounts/a@b:generateAccessToken",
            Self::Metadata => "/computeMetadata/v1/instance/service-accounts/default/token",
        }
    }

    /// The answer of an issuer.
    fn success(self) -> Answer {
        match self {
            Self::Impersonated => Answer::json(
                200,
                &json!({"accessToken": ACCESS_TOKEN, "expireTime": "2099-01-01T00:00:00Z"}),
            ),
            _ => Answer::json(
                200,
                &json!({
                    "access_token": ACCESS_TOKEN,
                    "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                    "token_type": "Bearer",
                    "expires_in": 3600,
                }),
            ),
        }
    }
}

/// An issuer whose last answer can be changed.
struct Bench {
    flow: Flow,
    stub: Stub,
    answer: Arc<Mutex<Answer>>,
    folder: TempDir,
}

impl Bench {
    fn new(flow: Flow) -> Self {
        let answer = Arc::new(Mutex::new(flow.success()));
        let scripted = Arc::clone(&answer);
        let stub = Stub::start(move |request: &Request| {
            if request.line.contains(flow.path()) {
                return scripted.lock().unwrap().clone();
            }
            if request.line.ends_with("/default/email") {
                return Answer::Whole(200, vec![("Metadata-Flavor", "Google")], "a@b".to_owned());
            }
            // What an impersonation asks for first.
            Flow::User.success()
        });
        Self { flow, stub, answer, folder: tempfile::tempdir().unwrap() }
    }

    fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn provider(&self, timeout_ms: u64) -> Arc<dyn CredentialProvider> {
        self.provider_at(clock(), timeout_ms)
    }

    fn provider_at(
        &self,
        clock: Arc<memory_core::ManualClock>,
        timeout_ms: u64,
    ) -> Arc<dyn CredentialProvider> {
        let folder = self.folder.path();
        let subject = folder.join("subject");
        std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
        let document = match self.flow {
            Flow::Metadata => {
                let mut settings = settings(CredentialChoice::Metadata);
                settings.metadata_host = Some(self.stub.host());
                settings.timeout_ms = timeout_ms;
                return open(&settings, &TestEnvironment::default(), clock).unwrap().provider;
            }
            Flow::User => user(&self.stub.url("/token")),
            Flow::External => external(&self.stub.url("/sts"), &subject),
            Flow::Impersonated => {
                impersonated(&self.stub.url("/token"), &self.stub.url(self.flow.path()))
            }
        };
        let path = write(folder, "credentials.json", &document);
        open_file_within(&path, clock, timeout_ms).unwrap().provider
    }
}

#[test]
fn each_way_gives_its_token_and_asks_once() {
    for flow in FLOWS {
        let bench = Bench::new(flow);
        let provider = bench.provider(10_000);
        assert_eq!(bench.stub.count(flow.path()), 0, "{flow:?}: nothing is fetched at open");
        for _ in 0..3 {
            let token = token(&provider).unwrap();
            assert_eq!(token.expose(), ACCESS_TOKEN, "{flow:?}");
            assert_eq!(token.expires_at(), None);
        }
        assert_eq!(bench.stub.count(flow.path()), 1, "{flow:?}");
        assert!(!leaks(&format!("{provider:?} {provider:#?}")), "{flow:?}");
    }
}

#[test]
fn a_user_sends_the_refresh_token() {
    let bench = Bench::new(Flow::User);
    token(&bench.provider(10_000)).unwrap();
    let request = bench.stub.seen().pop().unwrap().json();
    assert_eq!(request["grant_type"], "refresh_token");
    assert_eq!(request["refresh_token"], REFRESH_TOKEN);
    assert_eq!(request["client_secret"], CLIENT_SECRET);
}

#[test]
fn a_workload_exchanges_the_token_of_its_file() {
    let bench = Bench::new(Flow::External);
    token(&bench.provider(10_000)).unwrap();
    let body = bench.stub.seen().pop().unwrap().body;
    for part in [
        format!("subject_token={SUBJECT_TOKEN}"),
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange".to_owned(),
        "audience=%2F%2Fiam.googleapis.com%2Fprojects%2F1".to_owned(),
        "scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdatastore".to_owned(),
    ] {
        assert!(body.contains(&part), "{part} is not in {body}");
    }
}

#[test]
fn an_impersonation_shows_the_users_token_and_asks_for_the_scopes() {
    let bench = Bench::new(Flow::Impersonated);
    token(&bench.provider(10_000)).unwrap();
    assert_eq!(bench.stub.count("/token"), 1);
    let request = bench.stub.seen().pop().unwrap();
    assert_eq!(request.header("authorization").unwrap(), format!("Bearer {ACCESS_TOKEN}"));
    assert_eq!(request.json()["scope"][0], scopes()[0]);
}

#[test]
fn the_metadata_server_is_asked_in_its_way() {
    let bench = Bench::new(Flow::Metadata);
    token(&bench.provider(10_000)).unwrap();
    let request = bench.stub.seen().pop().unwrap();
    assert_eq!(request.header("metadata-flavor"), Some("Google"));
    assert!(request.line.contains("scopes=https"), "{}", request.line);
}

#[test]
fn each_status_has_its_kind_on_each_way() {
    for flow in FLOWS {
        for (status, kind, retryable) in [
            (400, ErrorKind::PermissionDenied, false),
            (401, ErrorKind::PermissionDenied, false),
            (403, ErrorKind::PermissionDenied, false),
            (404, ErrorKind::Config, false),
            (408, ErrorKind::Unavailable, true),
            (418, ErrorKind::Unavailable, false),
            (429, ErrorKind::Unavailable, true),
            (500, ErrorKind::Unavailable, true),
            (503, ErrorKind::Unavailable, true),
        ] {
            let bench = Bench::new(flow);
            // A server that says again what it was sent.
            bench.answers(Answer::json(
                status,
                &json!({
                    "error": "invalid_grant",
                    "error_description": format!("{REFRESH_TOKEN} {SUBJECT_TOKEN} {ACCESS_TOKEN}"),
                }),
            ));
            // The library tries an impersonation again for a minute, and is cut short.
            let again = flow == Flow::Impersonated && [429, 503].contains(&status);
            let error = token(&bench.provider(if again { 100 } else { 10_000 })).unwrap_err();
            let of = format!("{flow:?} {status}: {error}");
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{of}");
            assert_eq!(error.retry_after().is_some(), retryable, "{of}");
            let words = if again { "within 100 ms".into() } else { format!("HTTP {status}") };
            assert!(error.message().contains(&words), "{of}");
            assert_eq!((error.backend(), error.operation()), ("google-auth", "token"));
            if flow == Flow::User {
                assert!(error.message().contains("127.0.0.1"), "{of}");
                assert!(error.message().contains("invalid_grant"), "{of}");
            }
            assert_clean(&error);
        }
    }
}

#[test]
fn an_issuer_that_is_away_is_unavailable() {
    for flow in FLOWS {
        let bench = Bench::new(flow);
        let provider = bench.provider(10_000);
        bench.stub.stop();
        let error = token(&provider).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
        assert!(error.message().contains("cannot be reached"), "{flow:?}: {error}");
        assert_clean(&error);
    }
}

#[test]
fn garbage_is_no_token() {
    let page = "<html>canary of a captive portal</html>".to_owned();
    for flow in FLOWS {
        let whole = |body: &str| Answer::Whole(200, Vec::new(), body.to_owned());
        let cut =
            format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{{\"a\": \"{ACCESS_TOKEN}");
        for (name, answer, retryable) in [
            ("a page", whole(&page), false),
            ("no token", whole(&format!("{{\"canary\": \"{SUBJECT_TOKEN}\"}}")), false),
            ("a number", whole("{\"access_token\": 1, \"accessToken\": 1}"), false),
            ("cut off", Answer::Raw(cut.clone()), true),
            ("not HTTP", Answer::Raw("canary\r\n\r\n".to_owned()), true),
            ("closed", Answer::Raw(String::new()), true),
        ] {
            let bench = Bench::new(flow);
            bench.answers(answer);
            let again = flow == Flow::Impersonated && ["not HTTP", "closed"].contains(&name);
            let error = token(&bench.provider(if again { 100 } else { 10_000 })).unwrap_err();
            let of = format!("{flow:?}, {name}: {error}");
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{of}");
            assert_eq!(error.is_retryable(), retryable, "{of}");
            assert_clean(&error);
        }
    }
}

#[test]
fn a_token_that_no_header_can_carry_is_refused() {
    for bad in ["", "canary\r\nx-injected: 1", "canary canary", "canaryé"] {
        let bench = Bench::new(Flow::User);
        bench.answers(Answer::json(
            200,
            &json!({"access_token": bad, "token_type": "Bearer", "expires_in": 3600}),
        ));
        let error = token(&bench.provider(10_000)).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, false));
        assert_clean(&error);
    }
}

#[test]
fn silence_ends_at_the_bound_and_the_next_call_may_succeed() {
    for flow in FLOWS {
        let bench = Bench::new(flow);
        bench.answers(Answer::Hang);
        let clock = clock();
        let provider = bench.provider_at(Arc::clone(&clock), 200);
        let error = token(&provider).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
        assert!(error.message().contains("within 200 ms"), "{error}");
        assert_clean(&error);
        bench.answers(flow.success());
        clock.advance(error.retry_after().unwrap());
        assert_eq!(token(&provider).unwrap().expose(), ACCESS_TOKEN, "{flow:?}");
    }
}

#[test]
fn a_subject_token_that_is_gone_or_of_another_form_is_a_wrong_setting() {
    let bench = Bench::new(Flow::External);
    let provider = bench.provider(10_000);
    let subject = bench.folder.path().join("subject");
    std::fs::remove_file(&subject).unwrap();
    let error = token(&provider).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error}");
    assert!(error.message().contains("a file that the credentials name"), "{error}");
    assert_clean(&error);

    // The library quotes what it read where a field is missing.
    let mut document = external(&bench.stub.url("/sts"), &subject);
    document["credential_source"]["format"] =
        json!({"type": "json", "subject_token_field_name": "id_token"});
    let path = write(bench.folder.path(), "json.json", &document);
    for (content, good) in [
        (json!({"id_token": SUBJECT_TOKEN}).to_string(), true),
        (json!({"other": SUBJECT_TOKEN}).to_string(), false),
        (SUBJECT_TOKEN.to_owned(), false),
    ] {
        std::fs::write(&subject, content).unwrap();
        let provider = open_file(Path::new(&path), clock()).unwrap().provider;
        match token(&provider) {
            Ok(token) => assert!(good && token.expose() == ACCESS_TOKEN),
            Err(error) => {
                assert!(!good, "{error}");
                assert!(!error.is_retryable(), "{error}");
                assert_clean(&error);
            }
        }
    }
}

#[test]
fn a_token_that_has_ended_already_is_an_error_and_no_panic_of_the_caller() {
    let bench = Bench::new(Flow::Impersonated);
    bench.answers(Answer::json(
        200,
        &json!({"accessToken": ACCESS_TOKEN, "expireTime": "2001-01-01T00:00:00Z"}),
    ));
    let clock = clock();
    let provider = bench.provider_at(Arc::clone(&clock), 10_000);
    let error = token(&provider).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unavailable, true), "{error}");
    assert_clean(&error);
    bench.answers(Flow::Impersonated.success());
    clock.advance(error.retry_after().unwrap());
    assert_eq!(token(&provider).unwrap().expose(), ACCESS_TOKEN);
}

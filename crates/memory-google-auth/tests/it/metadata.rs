//! Whether there is a metadata server: a bounded question, and no other server is taken for one.

use std::time::Duration;

use memory_core::{Clock as _, ErrorKind, SystemClock};
use memory_google_auth::{CredentialChoice, Place};

use crate::stub::{Answer, Request, Stub};
use crate::support::*;

const FLAVOR: (&str, &str) = ("Metadata-Flavor", "Google");

fn email() -> Answer {
    Answer::Whole(200, vec![FLAVOR], "a@b".to_owned())
}

fn open_at(stub: &Stub, probe_ms: u64) -> memory_core::Result<Place> {
    let mut settings = settings(CredentialChoice::Metadata);
    settings.metadata_host = Some(stub.host());
    settings.probe_timeout_ms = probe_ms;
    open(&settings, &TestEnvironment::default(), clock()).map(|found| found.place)
}

#[test]
fn it_is_asked_for_the_name_of_its_account() {
    let stub = Stub::start(|_| email());
    assert_eq!(open_at(&stub, 1_000).unwrap(), Place::Metadata);
    let seen: Vec<Request> = stub.seen();
    assert_eq!(seen.len(), 1);
    let line = "GET /computeMetadata/v1/instance/service-accounts/default/email";
    assert_eq!(seen[0].line, line);
    assert_eq!(seen[0].header("metadata-flavor"), Some("Google"));
}

#[test]
fn what_does_not_serve_is_told() {
    let page = || Answer::Whole(200, Vec::new(), "canary".to_owned());
    for (answer, words) in [
        (page(), "is not a metadata server"),
        (page().with_header("Metadata-Flavor", "canary"), "is not a metadata server"),
        (Answer::Whole(302, vec![("Location", "http://127.0.0.1:1/")], String::new()), "is not a"),
        (Answer::Whole(404, vec![FLAVOR], String::new()), "the machine has no service account"),
        (Answer::Whole(403, vec![FLAVOR], "canary".to_owned()), "it answered with HTTP 403"),
        (Answer::Whole(503, vec![FLAVOR], "canary".to_owned()), "it answered with HTTP 503"),
        (Answer::Raw("canary".to_owned()), "it cannot be reached"),
    ] {
        let stub = Stub::start(move |_| answer.clone());
        let error = open_at(&stub, 10_000).unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false));
        assert!(error.message().contains(words), "{words}: {error}");
        assert_clean(&error);
    }
}

#[test]
fn silence_ends_at_the_bound() {
    let stub = Stub::start(|_| Answer::Hang);
    let clock = SystemClock::new();
    let error = open_at(&stub, 100).unwrap_err();
    assert!(error.message().contains("it did not answer within 100 ms"), "{error}");
    // Not the time it took, but that it came to an end.
    assert!(clock.monotonic() < Duration::from_secs(30));
}

#[test]
fn the_variable_names_the_host_and_must_agree_with_the_settings() {
    let stub = Stub::start(|_| email());
    let mut choice = settings(CredentialChoice::Metadata);
    choice.metadata_host = None;
    let named = TestEnvironment::default().with("GCE_METADATA_HOST", stub.host());
    assert_eq!(open(&choice, &named, clock()).unwrap().place, Place::Metadata);
    choice.metadata_host = Some(stub.host());
    assert_eq!(open(&choice, &named, clock()).unwrap().place, Place::Metadata);
    choice.metadata_host = Some("metadata.example".to_owned());
    let error = open(&choice, &named, clock()).unwrap_err();
    assert!(error.message().contains("name different hosts"), "{error}");
    let wrong = TestEnvironment::default().with("GCE_METADATA_HOST", "http://canary/");
    let error = open(&choice, &wrong, clock()).unwrap_err();
    assert!(error.message().contains("GCE_METADATA_HOST is HOST or HOST:PORT"), "{error}");
    assert_clean(&error);
    // What was tried before it is not forgotten.
    let mut auto = settings(CredentialChoice::Auto);
    auto.metadata_host = None;
    let error = open(&auto, &wrong, clock()).unwrap_err();
    assert!(error.message().contains("(1) the key file of the settings"), "{error}");
    assert!(error.message().contains("(5) the metadata server: GCE_METADATA_HOST"), "{error}");
    assert_clean(&error);
}

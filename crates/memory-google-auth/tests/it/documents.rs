//! Files and variables that hold no usable credentials fail at open, and are not quoted.

use std::path::Path;

use memory_core::{Error, ErrorKind};
use memory_google_auth::{CredentialChoice, Place};
use serde_json::{Value, json};

use crate::support::*;

/// Opens a text as a file, and as a variable.
fn both(folder: &Path, text: &[u8]) -> [Result<Place, Error>; 2] {
    let path = folder.join("key.json");
    std::fs::write(&path, text).unwrap();
    let file = open_file(&path, clock());
    let text = String::from_utf8_lossy(text).into_owned();
    let environment = TestEnvironment::default().with("ORCHESTRA_GOOGLE_KEY", text);
    let variable = open(&settings(CredentialChoice::KeyEnv), &environment, clock());
    [file.map(|found| found.place), variable.map(|found| found.place)]
}

#[track_caller]
fn assert_refused(folder: &Path, text: &[u8], words: &str) {
    for answer in both(folder, text) {
        let error = answer.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false), "{error}");
        assert!(error.message().contains(words), "{words}: {error}");
        assert_clean(&error);
    }
}

/// A document without a field, or with another value of it.
fn changed(document: &Value, field: &str, value: Option<Value>) -> Vec<u8> {
    let mut document = document.clone();
    let fields = document.as_object_mut().unwrap();
    match value {
        Some(value) => fields.insert(field.to_owned(), value),
        None => fields.remove(field),
    };
    document.to_string().into_bytes()
}

#[test]
fn each_kind_is_taken_from_a_file_and_from_a_variable() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("subject");
    std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
    let account = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@b:generateAccessToken";
    let mut over_key = impersonated("https://a/token", account);
    over_key["source_credentials"] = service_account();
    for document in [
        service_account(),
        user("https://oauth2.googleapis.com/token"),
        external("https://sts.googleapis.com/v1/token", &subject),
        impersonated("http://[::1]:1/token", account),
        over_key,
    ] {
        let [file, variable] = both(folder.path(), document.to_string().as_bytes());
        assert_eq!(file.unwrap(), Place::KeyFile, "{}", document["type"]);
        assert_eq!(variable.unwrap(), Place::KeyVariable, "{}", document["type"]);
    }
}

#[test]
fn a_text_that_is_no_document_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_refused(folder, b"{\"canary\": ", "is not JSON (line 1, column 11)");
    assert_refused(folder, b"canary-refresh-token", "is not JSON");
    assert_refused(folder, b"\"canary\"", "is not a JSON object");
    assert_refused(folder, b"[\"canary\"]", "is not a JSON object");
    assert_refused(folder, b"{}", "`type` is missing");
    assert_refused(folder, b"{\"type\": 1}", "`type` is not a text");
    assert_refused(folder, b"{\"type\": \"canary\"}", "`type` is none of service_account, ");
    assert_refused(folder, b"{\"type\": \"gdch_service_account\"}", "`type` is none of");
    let client = json!({"installed": {"client_id": "c", "client_secret": CLIENT_SECRET}});
    assert_refused(folder, client.to_string().as_bytes(), "an OAuth client, not credentials");
    let long = format!("{{\"type\": \"service_account\", \"a\": \"{}\"}}", "a".repeat(70_000));
    assert_refused(folder, long.as_bytes(), "more than 65536 bytes");
    // A file alone can be empty: an empty variable is not set.
    let path = folder.join("empty.json");
    std::fs::write(&path, b"").unwrap();
    let error = open_file(&path, clock()).unwrap_err();
    assert!(error.message().contains("is not JSON"), "{error}");
}

#[test]
fn each_field_has_to_be_there_and_be_a_text() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let subject = folder.join("subject");
    std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
    for (document, fields) in [
        (
            service_account(),
            ["client_email", "private_key_id", "private_key", "project_id"].as_slice(),
        ),
        (user("https://a/"), &["client_id", "client_secret", "refresh_token"]),
        (external("https://a/", &subject), &["audience", "subject_token_type", "token_url"]),
        (impersonated("https://a/", "https://b/"), &["service_account_impersonation_url"]),
    ] {
        for field in fields {
            let missing = format!("`{field}` is missing");
            assert_refused(folder, &changed(&document, field, None), &missing);
            for other in [json!(""), json!(1), json!({"canary": 1})] {
                let text = changed(&document, field, Some(other));
                assert_refused(folder, &text, &format!("`{field}` is not a text"));
            }
        }
    }
    for (document, field) in [
        (external("https://a/", &subject), "credential_source"),
        (impersonated("https://a/", "https://b/"), "source_credentials"),
    ] {
        for value in [None, Some(json!("canary"))] {
            let words = format!("`{field}` is missing or not an object");
            assert_refused(folder, &changed(&document, field, value), &words);
        }
    }
}

#[test]
fn a_key_has_to_be_rsa_in_pkcs8() {
    let folder = tempfile::tempdir().unwrap();
    let key = |text: &str| changed(&service_account(), "private_key", Some(json!(text)));
    let damaged = RSA_KEY.replace(RSA_KEY.lines().nth(2).unwrap(), "AAAA");
    for (text, words) in [
        ("canary", "is not a key in PEM"),
        ("-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n", "it is damaged or"),
        (include_str!("keys/throwaway-ca.pem"), "is not a key in PEM"),
        (include_str!("keys/throwaway-rsa-pkcs1.pem"), "is not PKCS#8"),
        (include_str!("keys/throwaway-ec.pem"), "is not an RSA key"),
        (&damaged, "it is damaged or of a kind"),
    ] {
        assert_refused(folder.path(), &key(text), words);
    }
}

#[test]
fn secrets_are_sent_over_tls_or_to_this_machine() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("subject");
    std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
    for bad in [
        "http://token.example.com/",
        "http://127.0.0.1.example.com/",
        "http://localhost.example.com/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "token",
        "",
    ] {
        let words = "is not an https:// address";
        assert_refused(folder.path(), user(bad).to_string().as_bytes(), words);
        if !bad.is_empty() {
            let text = external(bad, &subject).to_string();
            assert_refused(folder.path(), text.as_bytes(), words);
            let text = impersonated("https://a/", bad).to_string();
            assert_refused(folder.path(), text.as_bytes(), words);
            let text = impersonated(bad, "https://b/").to_string();
            assert_refused(folder.path(), text.as_bytes(), "in its `source_credentials`");
        }
    }
}

#[test]
fn what_the_library_refuses_is_refused_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let elsewhere = changed(&user("https://a/"), "universe_domain", Some(json!("canary.example")));
    assert_refused(folder, &elsewhere, "the library does not support it");
    let wrong = changed(&user("https://a/"), "quota_project_id", Some(json!({"canary": 1})));
    assert_refused(folder, &wrong, "the library does not take its fields");
    // An address without the name of an account.
    let text = impersonated("https://a/", "https://b/canary").to_string();
    assert_refused(folder, text.as_bytes(), "the library does not take its fields");
}

#[test]
fn the_source_of_an_impersonation_is_looked_at_too() {
    let folder = tempfile::tempdir().unwrap();
    let account = "https://b/serviceAccounts/a@b:generateAccessToken";
    let mut document = impersonated("https://a/", account);
    document["source_credentials"] = json!({"type": "canary"});
    assert_refused(
        folder.path(),
        document.to_string().as_bytes(),
        "`source_credentials`: its `type`",
    );
    document["source_credentials"] = impersonated("https://a/", account);
    let words = "are impersonated themselves";
    assert_refused(folder.path(), document.to_string().as_bytes(), words);
}

#[test]
fn the_file_of_a_workloads_token_has_to_be_there_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let subject = folder.path().join("canary-of-a-name");
    let text = external("https://a/", &subject).to_string();
    assert_refused(folder.path(), text.as_bytes(), "`credential_source` names is not there");
    std::fs::write(&subject, SUBJECT_TOKEN).unwrap();
    assert!(both(folder.path(), text.as_bytes()).into_iter().all(|answer| answer.is_ok()));
}

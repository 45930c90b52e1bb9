//! The settings: their form, their bounds, and that they show no secret.

use memory_core::ErrorKind;
use memory_google_auth::{CredentialChoice, DEFAULT_KEY_VARIABLE, GoogleAuthSettings};
use serde_json::{Value, json};

use crate::support::*;

fn read(value: Value) -> serde_json::Result<GoogleAuthSettings> {
    serde_json::from_value(value)
}

#[test]
fn nothing_set_is_auto() {
    let settings = read(json!({})).unwrap();
    assert_eq!(settings, GoogleAuthSettings::default());
    assert_eq!(settings.credentials, CredentialChoice::Auto);
    assert_eq!(settings.key_variable, DEFAULT_KEY_VARIABLE);
    assert_eq!((settings.probe_timeout_ms, settings.timeout_ms), (1_000, 10_000));
    settings.validate().unwrap();
}

#[test]
fn every_field_is_read_and_written_again() {
    let value = json!({
        "credentials": "auto",
        "key_file": "/keys/key.json",
        "key_variable": "A_KEY",
        "workload_identity_file": "/keys/workload.json",
        "metadata_host": "127.0.0.1:80",
        "quota_project": "example.com:a-project",
        "probe_timeout_ms": 10,
        "timeout_ms": 300_000,
    });
    let settings = read(value.clone()).unwrap();
    settings.validate().unwrap();
    assert_eq!(serde_json::to_value(&settings).unwrap(), value);
    for part in ["/keys/key.json", "A_KEY", "/keys/workload.json", "127.0.0.1:80", "a-project"] {
        assert!(format!("{settings:?}").contains(part), "{settings:?}");
    }
}

#[test]
fn each_choice_has_its_name() {
    for name in [
        "auto",
        "key_file",
        "key_env",
        "application_default",
        "metadata",
        "workload_identity",
        "none",
    ] {
        let settings = read(json!({ "credentials": name })).unwrap();
        assert_eq!(settings.credentials.name(), name);
    }
    let error = read(json!({"credentials": CLIENT_SECRET})).unwrap_err().to_string();
    assert!(error.contains("`credentials` is one of auto, key_file, "), "{error}");
    assert!(!leaks(&error), "{error}");
    assert!(read(json!({"key": "a"})).is_err());
}

#[test]
fn each_fault_is_named_and_no_value_is() {
    let long = "a".repeat(300);
    for (value, words) in [
        (json!({"credentials": "key_file"}), "needs `key_file`"),
        (json!({"credentials": "workload_identity"}), "needs `workload_identity_file`"),
        (json!({"credentials": "metadata", "key_file": "k.json"}), "`key_file` would not be used"),
        (
            json!({"credentials": "key_env", "workload_identity_file": "k.json"}),
            "`workload_identity_file` would not be used",
        ),
        (json!({"key_file": ""}), "`key_file` is empty"),
        (json!({"workload_identity_file": ""}), "`workload_identity_file` is empty"),
        (json!({"key_variable": ""}), "`key_variable` is the name"),
        (json!({"key_variable": service_account().to_string()}), "`key_variable` is the name"),
        (json!({"metadata_host": "http://canary"}), "`metadata_host` is HOST"),
        (json!({"metadata_host": long}), "`metadata_host` is HOST"),
        (json!({"quota_project": "canary project"}), "`quota_project` is the id"),
        (json!({"probe_timeout_ms": 9}), "`probe_timeout_ms` is 10 to 60,000"),
        (json!({"probe_timeout_ms": 60_001}), "`probe_timeout_ms` is 10 to 60,000"),
        (json!({"timeout_ms": 99}), "`timeout_ms` is 100 to 300,000"),
        (json!({"timeout_ms": 300_001}), "`timeout_ms` is 100 to 300,000"),
    ] {
        let settings = read(value).unwrap();
        let error = settings.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains(words), "{words}: {error}");
        assert_clean(&error);
        // Opening checks them first.
        let opened = open(&settings, &TestEnvironment::default(), clock()).unwrap_err();
        assert_eq!(opened.message(), error.message());
    }
    let two = read(json!({"timeout_ms": 0, "key_variable": "1"})).unwrap().validate().unwrap_err();
    assert!(two.message().contains("`timeout_ms`") && two.message().contains("`key_variable`"));
}

#[test]
fn a_secret_in_the_wrong_field_is_not_shown() {
    let document = user("https://a/").to_string();
    for secret in [document.as_str(), RSA_KEY, REFRESH_TOKEN, "canary secret"] {
        for field in ["key_file", "workload_identity_file", "key_variable", "metadata_host"] {
            // What a field may hold is shown.
            if field == "metadata_host" && secret == REFRESH_TOKEN {
                continue;
            }
            let settings = read(json!({ field: secret })).unwrap();
            let shown = format!("{settings:?} {settings:#?}");
            assert!(!leaks(&shown), "{field}: {shown}");
        }
        if secret != REFRESH_TOKEN {
            let settings = read(json!({"quota_project": secret})).unwrap();
            assert!(!leaks(&format!("{settings:?}")));
        }
    }
}

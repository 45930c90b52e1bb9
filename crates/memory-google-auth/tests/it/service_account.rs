//! The key of a service account: the token is signed here, and nobody is asked for it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::executor::block_on;
use memory_core::{Clock as _, SystemClock};
use memory_google_auth::{CLOUD_PLATFORM_SCOPE, DATASTORE_SCOPE, Place, install_crypto};
use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use serde_json::Value;

use crate::support::*;

/// The parts of a token: header, claims, and whether the signature is that of the test's key.
fn opened(token: &str) -> (Value, Value, bool) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3);
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let signed = format!("{}.{}", parts[0], parts[1]);
    (json(parts[0]), json(parts[1]), verified(signed.as_bytes(), &signature))
}

fn verified(signed: &[u8], signature: &[u8]) -> bool {
    let pem = include_str!("keys/throwaway-rsa.pub.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = STANDARD.decode(body).unwrap();
    let known = CryptoProvider::get_default().unwrap().signature_verification_algorithms.mapping;
    let (_, ways) =
        known.iter().find(|(scheme, _)| *scheme == SignatureScheme::RSA_PKCS1_SHA256).unwrap();
    ways.iter().any(|way| way.verify_signature(&key, signed, signature).is_ok())
}

#[test]
fn the_token_is_a_signed_assertion_with_its_claims() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "key.json", &service_account());
    let clock = std::sync::Arc::new(SystemClock::new());
    let found = open_file(&path, clock.clone()).unwrap();
    assert_eq!(found.place, Place::KeyFile);
    let before = clock.now();
    let first = token(&found.provider).unwrap();

    let (header, claims, signed) = opened(first.expose());
    assert_eq!(header["alg"], "RS256");
    assert_eq!(header["typ"], "JWT");
    assert_eq!(header["kid"], "key-1");
    assert!(signed);
    let email = "memory@test-project.iam.gserviceaccount.com";
    assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from(email), &Value::from(email)));
    assert_eq!(claims["scope"], DATASTORE_SCOPE);
    let (issued, ends) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    assert!(issued * 1_000_000 <= clock.now().as_micros());
    assert!((3_600..=3_660).contains(&(ends - issued)), "{issued} {ends}");

    // What is told of the end is what is signed, and far enough away.
    let told = first.expires_at().unwrap();
    assert_eq!(told.as_micros(), ends * 1_000_000);
    assert!(told > before.saturating_add(Duration::from_secs(60)));

    // The same one is given out again.
    assert!(token(&found.provider).unwrap() == first);
    assert!(!leaks(&format!("{:?} {found:?} {first:?}", found.provider)));
    assert!(!format!("{found:?} {first:?}").contains(first.expose()));
}

#[test]
fn a_signature_of_something_else_is_told() {
    install_crypto();
    assert!(!verified(b"anything", &[0; 256]));
}

#[test]
fn each_set_of_scopes_has_its_token_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "key.json", &service_account());
    let provider = open_file(&path, clock()).unwrap().provider;
    let of = |scopes: &[&str]| {
        let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        block_on(provider.token(&scopes)).unwrap()
    };
    let scope =
        |token: &memory_core::traits::AccessToken| opened(token.expose()).1["scope"].clone();
    assert_eq!(scope(&of(&[])), CLOUD_PLATFORM_SCOPE);
    assert!(of(&[]) == of(&[CLOUD_PLATFORM_SCOPE]));
    assert_eq!(scope(&of(&["b", "a", "b"])), "a b");
    assert!(of(&["a", "b"]) == of(&["b", "a"]));
    assert!(of(&["a"]) != of(&["b"]));
    // More sets than are kept: the ones of long ago are made anew.
    for number in 0..20 {
        let name = format!("scope-{number}");
        assert_eq!(scope(&of(&[&name])), *name);
    }
    assert_eq!(scope(&of(&["a"])), "a");
}

#[test]
fn scopes_that_no_request_can_carry_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "key.json", &service_account());
    let provider = open_file(&path, clock()).unwrap().provider;
    let many: Vec<String> = (0..33).map(|number| format!("s{number}")).collect();
    let long = "s".repeat(257);
    for bad in [vec![String::new()], vec!["a b".into()], vec!["a,b".into()], vec![long], many] {
        let error = block_on(provider.token(&bad)).unwrap_err();
        assert_eq!(error.kind(), memory_core::ErrorKind::InvalidInput);
    }
}

//! TLS as it will be met: the library's own client, the certificates of the system, rustls.
//!
//! Which certificates a system has is settled for a process when it starts. So these tests run
//! themselves again, as a child with other certificates, which asks a server of the parent's.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::sync::Arc;
use std::thread;

use futures::executor::block_on;
use memory_core::ErrorKind;
use memory_google_auth::{CredentialChoice, install_crypto};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::stub::{read, whole};
use crate::support::*;

/// Names the address of the parent's server to a child.
const ADDRESS: &str = "MEMORY_GOOGLE_AUTH_TEST_TLS";
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/keys/");

/// A token server with TLS. It ends with the process.
fn server() -> SocketAddr {
    install_crypto();
    let chain = vec![
        CertificateDer::from_pem_slice(include_bytes!("keys/throwaway-server.crt.pem")).unwrap(),
    ];
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("keys/throwaway-server.pem")).unwrap();
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let stream = StreamOwned::new(session, stream.unwrap());
            let mut reader = BufReader::new(stream);
            // A client that does not trust the certificate goes.
            if read(&mut reader).is_some() {
                let body = json!({"access_token": "over-tls", "token_type": "Bearer"}).to_string();
                let _ = reader.get_mut().write_all(whole(200, &[], &body).as_bytes());
            }
        }
    });
    address
}

/// Runs one test of this binary again, with other certificates.
fn child(test: &str, certificates: &str, address: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ADDRESS, address)
        .env("SSL_CERT_FILE", certificates)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap()
}

/// What a child says about a token over TLS.
fn ask(address: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "user.json", &user(&format!("https://{address}/token")));
    match open_file(&path, clock()).and_then(|found| token(&found.provider)) {
        Ok(token) => format!("said: token {}", token.expose()),
        Err(error) => {
            assert_clean(&error);
            format!("said: {} {} {}", error.kind(), error.is_retryable(), error.message())
        }
    }
}

#[track_caller]
fn assert_said(output: &Output, words: &str) {
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains(&format!("said: {words}")), "{said}\n{errors}");
}

#[test]
fn a_certificate_is_trusted_if_the_system_has_its_authority() {
    if let Ok(address) = std::env::var(ADDRESS) {
        println!("{}", ask(&address));
        return;
    }
    let test = "tls::a_certificate_is_trusted_if_the_system_has_its_authority";
    let address = server().to_string();
    let file = |name: &str| format!("{KEYS}{name}");
    assert_said(&child(test, &file("throwaway-ca.pem"), &address), "token over-tls");
    let output = child(test, &file("throwaway-other-ca.pem"), &address);
    assert_said(&output, "unavailable false ");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("its certificate is not trusted here")
    );
}

#[test]
fn a_system_without_certificates_fails_at_open_and_signs_all_the_same() {
    if std::env::var(ADDRESS).is_ok() {
        println!("{}", ask("127.0.0.1:1"));
        // A service account asks nobody.
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "key.json", &service_account());
        let found = open_file(&path, clock()).unwrap();
        assert!(token(&found.provider).unwrap().expires_at().is_some());
        // Metadata is plain HTTP, but the library makes its client in one way.
        let choice = settings(CredentialChoice::Metadata);
        let environment = TestEnvironment::default();
        let found = block_on(memory_google_auth::find(&choice, &environment, clock()));
        let error = found.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("no certificates of authorities"), "{error}");
        return;
    }
    let test = "tls::a_system_without_certificates_fails_at_open_and_signs_all_the_same";
    let output = child(test, "/nowhere/certificates.pem", "none");
    assert_said(&output, "config false TLS cannot be set up: this system has no certificates");
}

#[test]
fn a_provider_of_cryptography_is_installed_once() {
    install_crypto();
    let first = Arc::clone(CryptoProvider::get_default().unwrap());
    install_crypto();
    assert!(Arc::ptr_eq(&first, CryptoProvider::get_default().unwrap()));
}

//! What the tests share: an environment, documents with canaries, and the search for these.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures::executor::block_on;
use memory_core::traits::{AccessToken, CredentialProvider};
use memory_core::{Clock, Error, ManualClock, Result, SystemClock, Timestamp};
use memory_google_auth::{CredentialChoice, Environment, GoogleAuthSettings, Located, locate};
use serde_json::{Value, json};

pub(crate) const RSA_KEY: &str = include_str!("keys/throwaway-rsa.pem");
const SCOPE: &str = "https://www.googleapis.com/auth/datastore";

/// Secrets that no error and no `Debug` may show. A part of the RSA key is looked for too.
pub(crate) const CLIENT_SECRET: &str = "canary-client-secret";
pub(crate) const REFRESH_TOKEN: &str = "canary-refresh-token";
pub(crate) const SUBJECT_TOKEN: &str = "canary-subject-token";
pub(crate) const ACCESS_TOKEN: &str = "canary-access-token";
const CANARY: &str = "canary";

/// An environment that a test makes.
#[derive(Clone, Debug, Default)]
pub(crate) struct TestEnvironment {
    pub(crate) variables: BTreeMap<String, OsString>,
    pub(crate) home: Option<PathBuf>,
}

impl TestEnvironment {
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }
}

impl Environment for TestEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn home(&self) -> Option<PathBuf> {
        self.home.clone()
    }
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(Timestamp::parse("2025-11-06T08:49:00Z").unwrap()))
}

/// Settings under which no test waits long, and no server but a stub is asked.
pub(crate) fn settings(choice: CredentialChoice) -> GoogleAuthSettings {
    let mut settings = GoogleAuthSettings::default();
    settings.credentials = choice;
    settings.metadata_host = Some(closed_port());
    settings
}

/// An address of this machine where nothing listens.
fn closed_port() -> String {
    // Port 1 is reserved, and nothing is served there.
    "127.0.0.1:1".to_owned()
}

pub(crate) fn open(
    settings: &GoogleAuthSettings,
    environment: &TestEnvironment,
    clock: Arc<dyn Clock>,
) -> Result<Located> {
    block_on(locate(settings, environment, clock))
}

/// Opens the credentials of one file.
pub(crate) fn open_file(path: &Path, clock: Arc<dyn Clock>) -> Result<Located> {
    open_file_within(path, clock, 10_000)
}

pub(crate) fn open_file_within(
    path: &Path,
    clock: Arc<dyn Clock>,
    timeout_ms: u64,
) -> Result<Located> {
    let mut settings = settings(CredentialChoice::KeyFile);
    settings.key_file = Some(path.to_owned());
    settings.timeout_ms = timeout_ms;
    open(&settings, &TestEnvironment::default(), clock)
}

pub(crate) fn scopes() -> Vec<String> {
    vec![SCOPE.to_owned()]
}

/// A token, without a runtime of the caller's.
pub(crate) fn token(provider: &Arc<dyn CredentialProvider>) -> Result<AccessToken> {
    block_on(provider.token(&scopes()))
}

/// Writes a document into a folder.
pub(crate) fn write(folder: &Path, name: &str, document: &Value) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

pub(crate) fn service_account() -> Value {
    json!({
        "type": "service_account",
        "project_id": "test-project",
        "private_key_id": "key-1",
        "private_key": RSA_KEY,
        "client_email": "memory@test-project.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": "https://oauth2.googleapis.com/token",
    })
}

pub(crate) fn user(token_uri: &str) -> Value {
    json!({
        "type": "authorized_user",
        "client_id": "client.apps.googleusercontent.com",
        "client_secret": CLIENT_SECRET,
        "refresh_token": REFRESH_TOKEN,
        "token_uri": token_uri,
    })
}

pub(crate) fn external(token_url: &str, subject_file: &Path) -> Value {
    json!({
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/o",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": token_url,
        "client_id": "client",
        "client_secret": CLIENT_SECRET,
        "credential_source": {"file": subject_file},
    })
}

/// A user's credentials that stand in for a service account.
pub(crate) fn impersonated(token_uri: &str, impersonation_url: &str) -> Value {
    json!({
        "type": "impersonated_service_account",
        "service_account_impersonation_url": impersonation_url,
        "source_credentials": user(token_uri),
    })
}

/// All that an error shows of itself and of its causes.
pub(crate) fn shown(error: &Error) -> String {
    let mut shown = format!("{error}\n{error:?}\n{error:#?}");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        write!(shown, "\n{error}\n{error:?}").unwrap();
        cause = error.source();
    }
    shown
}

/// Whether a text has a canary in it, or a part of the key.
pub(crate) fn leaks(text: &str) -> bool {
    let key_line = RSA_KEY.lines().nth(3).unwrap();
    text.contains(CANARY) || text.contains(&key_line[..16])
}

#[track_caller]
pub(crate) fn assert_clean(error: &Error) {
    let shown = shown(error);
    assert!(!leaks(&shown), "a secret is shown: {shown}");
}

/// Asks again and again, for 30 s at most.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !reached() {
        assert!(clock.monotonic() < Duration::from_secs(30), "in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_search_for_canaries_finds_them() {
    let planted = std::io::Error::other(CLIENT_SECRET);
    let error = Error::invalid("x").with_source(planted);
    assert!(leaks(&shown(&error)));
    assert!(leaks(&service_account().to_string()));
    assert!(!leaks(&shown(&Error::invalid("x"))));
}

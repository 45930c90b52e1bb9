//! The JSON of credentials: read, and checked as far as that goes without asking anybody.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use reqwest::Url;
use rustls::SignatureAlgorithm;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

/// Most bytes of a file or variable with credentials; those of Google have some 3,000.
const MOST_BYTES: u64 = 64 * 1024;

/// The kinds of credentials that the library knows, by their `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    ServiceAccount,
    AuthorizedUser,
    Impersonated,
    ExternalAccount,
}

impl DocumentKind {
    const ALL: [Self; 4] =
        [Self::ServiceAccount, Self::AuthorizedUser, Self::Impersonated, Self::ExternalAccount];

    /// The value of `type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ServiceAccount => "service_account",
            Self::AuthorizedUser => "authorized_user",
            Self::Impersonated => "impersonated_service_account",
            Self::ExternalAccount => "external_account",
        }
    }

    /// The fields with a text that such a document has to have.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::ServiceAccount => {
                &["client_email", "private_key_id", "private_key", "project_id"]
            }
            Self::AuthorizedUser => &["client_id", "client_secret", "refresh_token"],
            Self::Impersonated => &["service_account_impersonation_url"],
            Self::ExternalAccount => &["audience", "subject_token_type", "token_url"],
        }
    }

    /// The fields with an address to which a secret is sent.
    fn addresses(self) -> &'static [&'static str] {
        match self {
            Self::ServiceAccount => &[],
            Self::AuthorizedUser => &["token_uri"],
            Self::Impersonated => &["service_account_impersonation_url"],
            Self::ExternalAccount => &["token_url", "service_account_impersonation_url"],
        }
    }

    /// The field with an object that such a document has to have.
    fn object(self) -> Option<&'static str> {
        match self {
            Self::ServiceAccount | Self::AuthorizedUser => None,
            Self::Impersonated => Some("source_credentials"),
            Self::ExternalAccount => Some("credential_source"),
        }
    }
}

/// Credentials as a file or variable held them. They are shown nowhere.
#[derive(Clone)]
pub(crate) struct Document {
    pub(crate) kind: DocumentKind,
    pub(crate) json: Value,
}

impl Document {
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// Why it cannot be used, without a word of what it holds.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, String> {
        let gone = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        };
        let unreadable = |error: std::io::Error| format!("it cannot be read: {}", error.kind());
        let metadata = match path.metadata() {
            Err(error) if gone(&error) => return Ok(None),
            other => other.map_err(unreadable)?,
        };
        // Opening a pipe waits for its writer.
        if !metadata.is_file() {
            return Err("it is not a file".to_owned());
        }
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut text))
            .map_err(unreadable)?;
        Self::parse(&text).map(Some)
    }

    /// Reads the JSON of credentials.
    ///
    /// # Errors
    /// Why it cannot be used, without a word of what it holds.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        if text.len() as u64 > MOST_BYTES {
            return Err(format!("it has more than {MOST_BYTES} bytes"));
        }
        let json: Value = serde_json::from_slice(text).map_err(|error| {
            format!("it is not JSON (line {}, column {})", error.line(), error.column())
        })?;
        let kind = check(&json)?;
        if kind == DocumentKind::Impersonated
            && check(&json["source_credentials"]).is_ok_and(|k| k == kind)
        {
            return Err(
                "its `source_credentials` are impersonated themselves; the way over several \
                        accounts is written in `delegates`"
                    .to_owned(),
            );
        }
        Ok(Self { kind, json })
    }

    /// The project that quota counts for, if it says so and the id has the shape of one.
    pub(crate) fn quota_project(&self) -> Option<&str> {
        self.json.get("quota_project_id")?.as_str().filter(|id| crate::shown::is_project(id))
    }

    /// Whether a token comes out of the key itself, without a request.
    pub(crate) fn is_self_signed(&self) -> bool {
        self.kind == DocumentKind::ServiceAccount
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Document").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Checks type, fields, addresses and key.
fn check(json: &Value) -> Result<DocumentKind, String> {
    if !json.is_object() {
        return Err("it is not a JSON object".to_owned());
    }
    let kind = kind(json)?;
    for field in kind.fields() {
        match json.get(field) {
            None => return Err(format!("the field `{field}` is missing")),
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(format!("the field `{field}` is not a text")),
        }
    }
    for field in kind.addresses() {
        match json.get(field).and_then(Value::as_str) {
            Some(address) if !is_safe_address(address) => {
                return Err(format!(
                    "the field `{field}` is not an https:// address (http:// is for this machine \
                     alone)"
                ));
            }
            _ => {}
        }
    }
    if let Some(field) = kind.object()
        && !json.get(field).is_some_and(Value::is_object)
    {
        return Err(format!("the field `{field}` is missing or not an object"));
    }
    match kind {
        DocumentKind::ServiceAccount => check_key(json["private_key"].as_str().unwrap_or_default()),
        DocumentKind::AuthorizedUser => Ok(()),
        DocumentKind::Impersonated => check(&json["source_credentials"])
            .map(|_| ())
            .map_err(|why| format!("in its `source_credentials`: {why}")),
        DocumentKind::ExternalAccount => check_source(&json["credential_source"]),
    }
    .map(|()| kind)
}

fn kind(json: &Value) -> Result<DocumentKind, String> {
    let name = match json.get("type") {
        // What the console gives out for a user's own program to sign in with.
        None if json.get("installed").or(json.get("web")).is_some() => {
            return Err("it holds an OAuth client, not credentials; make the key of a service \
                        account, or run `gcloud auth application-default login`"
                .to_owned());
        }
        None => return Err("the field `type` is missing".to_owned()),
        Some(name) => name.as_str().ok_or("the field `type` is not a text")?,
    };
    DocumentKind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let names = DocumentKind::ALL.map(DocumentKind::name).join(", ");
        format!("its `type` is none of {names}")
    })
}

/// The library takes a key only as PKCS#8, and signs by RSA with SHA-256.
fn check_key(pem: &str) -> Result<(), String> {
    let key = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| "its `private_key` is not a key in PEM".to_owned())?;
    if !matches!(key, PrivateKeyDer::Pkcs8(_)) {
        return Err("its `private_key` is not PKCS#8 (-----BEGIN PRIVATE KEY-----)".to_owned());
    }
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| {
        "its `private_key` cannot be used: it is damaged or of a kind that is not \
                      supported"
            .to_owned()
    })?;
    if key.algorithm() != SignatureAlgorithm::RSA {
        return Err("its `private_key` is not an RSA key".to_owned());
    }
    Ok(())
}

/// A token of another identity provider that is read from a file has to be there.
fn check_source(source: &Value) -> Result<(), String> {
    match source.get("file").map(Value::as_str) {
        None => Ok(()),
        Some(Some(file)) if Path::new(file).is_file() => Ok(()),
        Some(_) => Err("the file that `file` of its `credential_source` names is not there, or \
                        not a file"
            .to_owned()),
    }
}

/// Whether a secret may be sent there: encrypted, or to this machine.
fn is_safe_address(address: &str) -> bool {
    let Ok(url) = Url::parse(address) else { return false };
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some("localhost")) => true,
        ("http", Some(host)) => host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|address| address.to_canonical().is_loopback()),
        _ => false,
    }
}

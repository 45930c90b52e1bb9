//! The library's errors as the kinds that the trait names; nothing of their text is kept.
//!
//! Messages of the library quote answers of servers, and its causes hold addresses and keys' names.
//! What is told on is a status, a host, and a code out of a fixed list.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use google_cloud_auth::errors::CredentialsError;
use memory_core::{Error, ErrorKind};

use crate::BACKEND;

/// The codes of RFC 6749 and RFC 8693 that are told on.
const CODES: [&str; 8] = [
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "access_denied",
    "invalid_scope",
    "invalid_target",
    "unsupported_grant_type",
    "invalid_request",
];

/// How the library words the status of an answer where it gives no other access to it: of the
/// metadata server, and of nothing else. A test for each status holds it to that.
const STATUS_WORDS: &str = "the HTTP transport reports a [";

/// Why there is no token. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) retryable: bool,
    pub(crate) what: String,
}

impl Failure {
    pub(crate) fn config(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Config, retryable: false, what: what.into() }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self { kind: ErrorKind::PermissionDenied, retryable: false, what: what.into() }
    }

    /// The issuer cannot serve; `retryable` says whether it may in a moment.
    pub(crate) fn away(what: impl Into<String>, retryable: bool) -> Self {
        Self { kind: ErrorKind::Unavailable, retryable, what: what.into() }
    }

    /// The error for a caller, from the place of the credentials; `wait` is how long the same error
    /// is given without asking again.
    pub(crate) fn error(&self, place: &str, wait: Duration) -> Error {
        let error =
            Error::new(self.kind, format!("no token of Google from {place}: {}", self.what))
                .with_retryable(self.retryable)
                .with_backend(BACKEND)
                .with_operation("token");
        if self.retryable { error.with_retry_after(wait) } else { error }
    }

    /// What the library's error means.
    pub(crate) fn of(error: &CredentialsError) -> Self {
        let chain = Chain::of(error);
        let host = chain.host.as_deref().unwrap_or("the issuer of tokens");
        if let Some(status) = chain.status {
            return by_status(status, host, chain.code);
        }
        if chain.untrusted {
            return Self::away(
                format!(
                    "TLS with {host} failed: its certificate is not trusted here; are the \
                     system's certificates current, and is the clock right?"
                ),
                false,
            );
        }
        if let Some(cut) = chain.garbage {
            let what = if cut { "was cut off" } else { "is not that of an issuer of tokens" };
            return Self::away(format!("the answer of {host} {what}"), cut);
        }
        if chain.http {
            return Self::away(format!("{host} cannot be reached"), true);
        }
        if chain.io {
            return Self::config("a file that the credentials name cannot be read");
        }
        if error.is_transient() {
            return Self::away("the issuer of tokens cannot serve", true);
        }
        Self::config("a field of the credentials, or of an answer to them, is not as it has to be")
    }
}

fn by_status(status: u16, host: &str, code: Option<&'static str>) -> Failure {
    let told = code.map_or_else(String::new, |code| format!(", {code}"));
    let answer = format!("{host} answered with HTTP {status}{told}");
    match status {
        408 | 429 | 500..=599 => Failure::away(answer, true),
        400 | 401 | 403 => Failure::refused(format!(
            "{answer}: the credentials are not accepted; they may have ended, been revoked, or \
             lack a right (with impersonation, roles/iam.serviceAccountTokenCreator)"
        )),
        404 => Failure::config(format!(
            "{answer}: there is no such account or address; a metadata server says so where the \
             machine has no service account"
        )),
        _ => Failure::away(answer, false),
    }
}

/// What the causes of an error tell.
#[derive(Debug, Default)]
struct Chain {
    status: Option<u16>,
    host: Option<String>,
    code: Option<&'static str>,
    /// A request failed, one way or another.
    http: bool,
    /// The answer could not be read; whether it ended too early.
    garbage: Option<bool>,
    untrusted: bool,
    /// A file could not be read.
    io: bool,
}

impl Chain {
    fn of(error: &CredentialsError) -> Self {
        let mut found = Self::default();
        let mut next: Option<&(dyn StdError + 'static)> = Some(error);
        while let Some(cause) = next {
            found.look_at(cause);
            next = cause.source();
        }
        found
    }

    fn look_at(&mut self, cause: &(dyn StdError + 'static)) {
        if let Some(error) = cause.downcast_ref::<reqwest::Error>() {
            self.http = true;
            self.status = self.status.or(error.status().map(|status| status.as_u16()));
            self.host = self.host.take().or_else(|| Some(error.url()?.host_str()?.to_owned()));
            if error.is_decode() || error.is_body() {
                // The cause of a whole answer that makes no sense is the parser's.
                self.garbage.get_or_insert(true);
            }
        } else if let Some(error) = cause.downcast_ref::<serde_json::Error>() {
            self.garbage = Some(error.is_eof());
        } else if let Some(error) = cause.downcast_ref::<io::Error>() {
            self.io = true;
            self.untrusted |= is_untrusted(error);
        } else if is_untrusted(cause) {
            self.untrusted = true;
        } else {
            let words = cause.to_string();
            self.status = self
                .status
                .or_else(|| words.strip_prefix(STATUS_WORDS)?.split(']').next()?.parse().ok());
            self.code = self
                .code
                .or_else(|| CODES.into_iter().find(|code| words.contains(&format!("\"{code}\""))));
        }
    }
}

/// Whether a certificate was refused. An I/O error does not count what it wraps among its causes.
fn is_untrusted(cause: &(dyn StdError + 'static)) -> bool {
    match cause.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().is_some_and(|inner| is_untrusted(inner)),
        None => matches!(cause.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_kind() {
        for (status, kind, retryable) in [
            (302, ErrorKind::Unavailable, false),
            (400, ErrorKind::PermissionDenied, false),
            (401, ErrorKind::PermissionDenied, false),
            (403, ErrorKind::PermissionDenied, false),
            (404, ErrorKind::Config, false),
            (408, ErrorKind::Unavailable, true),
            (418, ErrorKind::Unavailable, false),
            (429, ErrorKind::Unavailable, true),
            (500, ErrorKind::Unavailable, true),
            (503, ErrorKind::Unavailable, true),
            (599, ErrorKind::Unavailable, true),
        ] {
            let failure = by_status(status, "host", Some("invalid_grant"));
            assert_eq!((failure.kind, failure.retryable), (kind, retryable), "{status}");
            let error = failure.error("a place", Duration::from_secs(1));
            assert_eq!(error.retry_after().is_some(), retryable);
            assert!(error.message().contains(&format!("HTTP {status}, invalid_grant")), "{error}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_quoted() {
        for (transient, kind) in [(true, ErrorKind::Unavailable), (false, ErrorKind::Config)] {
            let cause = CredentialsError::from_msg(transient, "a canary: \"canary_grant\"");
            let failure = Failure::of(&CredentialsError::new(transient, "canary", cause));
            assert_eq!((failure.kind, failure.retryable), (kind, transient));
            assert!(!format!("{failure:?}").contains("canary"), "{failure:?}");
        }
    }
}

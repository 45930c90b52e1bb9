//! Why the program ends before its work is done, how it says so, and with which exit code.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;

use orchestra_memory::{Error, ErrorKind, Outcome};
use serde::Serialize;

/// The result of every step of the program.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// The exit code when some of the input was refused and the rest was not.
pub(crate) const PARTIAL: u8 = 10;
/// The exit code after Ctrl-C, as shells have it: 128 and the signal's number.
pub(crate) const INTERRUPTED: u8 = 130;

/// The back ends of whose errors none is about a file of the store: those of embedders and of
/// stores on a service.
const NO_FILES: [&str; 6] = ["http", "minilm", "firestore", "google-auth", "redis", "cache"];

/// Why the program ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Error(Error),
    /// Some of the input was refused.
    Partial(String),
    /// Ctrl-C.
    Interrupted(String),
    /// Whoever read the output has had enough; nothing is left to say, and nobody to say it to.
    ClosedPipe,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// The input breaks a rule of the command line.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Error(Error::invalid(message))
    }

    /// A thing that was asked for is not there.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::Error(Error::new(ErrorKind::NotFound, message))
    }

    /// Reading or writing a file of the caller's failed.
    pub(crate) fn file(what: &str, error: io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::BrokenPipe => return Self::ClosedPipe,
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::PermissionDenied
            }
            io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory => ErrorKind::InvalidInput,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Unavailable,
            _ => ErrorKind::Unexpected,
        };
        Self::Error(Error::new(kind, format!("{what}: {}", error.kind())).with_source(error))
    }

    /// The exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Error(error) => exit_code(error.kind()),
            Self::Partial(_) => PARTIAL,
            Self::Interrupted(_) => INTERRUPTED,
            Self::ClosedPipe => 0,
        }
    }

    /// The object that `--json` writes to standard error.
    pub(crate) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct Wrapped<'a> {
            error: ErrorJson<'a>,
        }
        let error = match self {
            Self::Error(error) => describe(error),
            Self::Partial(message) => plain("partial", message),
            Self::Interrupted(message) => plain("interrupted", message),
            Self::ClosedPipe => plain("closed_pipe", "the output was closed"),
        };
        serde_json::to_string(&Wrapped { error }).unwrap_or_default()
    }

    /// The lines that a person reads on standard error.
    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Error(error) => {
                let mut text = error.message().to_owned();
                let context: Vec<_> =
                    error.context().iter().map(|(key, value)| format!("{key}: {value}")).collect();
                if !context.is_empty() {
                    text.push_str(&format!(" ({})", context.join(", ")));
                }
                // The first is nearest to what happened; `--json` has them all.
                if let Some(cause) = cause(error) {
                    text.push_str(&format!("\n  because: {cause}"));
                }
                if error.outcome() == Outcome::Unknown {
                    text.push_str(
                        "\n  It may have taken effect all the same: look before you try again.",
                    );
                }
                if let Some(hint) = hint(error) {
                    text.push_str("\n  ");
                    text.push_str(hint);
                }
                text
            }
            Self::Partial(message) | Self::Interrupted(message) => message.clone(),
            Self::ClosedPipe => String::new(),
        }
    }
}

/// The exit code of a kind of error; the one place where they are matched.
pub(crate) fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidInput => 2,
        ErrorKind::NotFound => 3,
        ErrorKind::Conflict | ErrorKind::AlreadyExists => 4,
        ErrorKind::PermissionDenied => 5,
        ErrorKind::Unavailable
        | ErrorKind::Overloaded
        | ErrorKind::Timeout
        | ErrorKind::RateLimited => 6,
        ErrorKind::Corrupt => 7,
        ErrorKind::Unsupported => 8,
        ErrorKind::Config => 9,
        // `ErrorKind` may grow; what this program does not know yet is unexpected to it.
        _ => 1,
    }
}

/// What `error` holds wherever the program reports one as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorJson<'a> {
    kind: &'a str,
    message: &'a str,
    retryable: bool,
    outcome: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    operation: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    backend: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    context: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

/// An error as JSON.
pub(crate) fn describe(error: &Error) -> ErrorJson<'_> {
    ErrorJson {
        kind: error.kind().name(),
        message: error.message(),
        retryable: error.is_retryable(),
        outcome: match error.outcome() {
            Outcome::NotApplied => "not_applied",
            Outcome::Unknown => "unknown",
        },
        operation: error.operation(),
        backend: error.backend(),
        context: error.context().iter().map(|(key, value)| (*key, value.as_str())).collect(),
        retry_after_ms: error
            .retry_after()
            .map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        causes: causes(error),
    }
}

fn plain<'a>(kind: &'a str, message: &'a str) -> ErrorJson<'a> {
    ErrorJson {
        kind,
        message,
        retryable: false,
        outcome: "not_applied",
        operation: "",
        backend: "",
        context: BTreeMap::new(),
        retry_after_ms: None,
        causes: Vec::new(),
    }
}

/// The cause that is nearest to what happened and that the message does not tell itself.
fn cause(error: &Error) -> Option<&(dyn std::error::Error + 'static)> {
    let mut cause = error.source();
    while let Some(inner) = cause.and_then(|cause| cause.downcast_ref::<Error>()) {
        if !error.message().contains(inner.message()) {
            break;
        }
        cause = inner.source();
    }
    cause
}

fn causes(error: &Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

/// What a person can do about an error, where there is something to say that the message does not.
fn hint(error: &Error) -> Option<&'static str> {
    match error.kind() {
        // There is no file to keep a copy of; the messages say what to do.
        ErrorKind::Corrupt if error.backend().is_empty() || NO_FILES.contains(&error.backend()) => {
            None
        }
        ErrorKind::Corrupt => Some(
            "Keep a copy of the file before anything else; `orchestra-memory doctor` tells more.",
        ),
        ErrorKind::Conflict => Some("Read it again and decide."),
        _ if error.is_retryable() && !error.message().contains("again") => {
            Some("This may pass: try again in a moment.")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_kind_has_its_documented_exit_code() {
        let table = [
            (ErrorKind::NotFound, 3),
            (ErrorKind::AlreadyExists, 4),
            (ErrorKind::Conflict, 4),
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::PermissionDenied, 5),
            (ErrorKind::RateLimited, 6),
            (ErrorKind::Overloaded, 6),
            (ErrorKind::Timeout, 6),
            (ErrorKind::Unavailable, 6),
            (ErrorKind::Unsupported, 8),
            (ErrorKind::Corrupt, 7),
            (ErrorKind::Config, 9),
            (ErrorKind::Unexpected, 1),
        ];
        assert_eq!(table.map(|(kind, _)| kind), ErrorKind::ALL);
        for (kind, code) in table {
            assert_eq!(exit_code(kind), code, "{kind}");
            assert_eq!(Failure::from(Error::new(kind, "x")).exit_code(), code, "{kind}");
        }
        assert_eq!(Failure::Partial(String::new()).exit_code(), 10);
        assert_eq!(Failure::Interrupted(String::new()).exit_code(), 130);
        assert_eq!(Failure::ClosedPipe.exit_code(), 0);
    }

    #[test]
    fn the_json_of_an_error_tells_all_it_knows() {
        let error = Error::new(ErrorKind::RateLimited, "slow down")
            .with_backend("sqlite")
            .with_operation("commit")
            .with_context("attempt", "2")
            .with_retry_after(std::time::Duration::from_millis(1_500))
            .with_source(io::Error::other("the cause"))
            .with_unknown_outcome();
        let read =
            |failure: Failure| -> Value { serde_json::from_str(&failure.to_json()).unwrap() };
        assert_eq!(
            read(Failure::from(error)),
            json!({"error": {
                "kind": "rate_limited", "message": "slow down", "retryable": true,
                "outcome": "unknown", "operation": "commit", "backend": "sqlite",
                "context": {"attempt": "2"}, "retry_after_ms": 1500, "causes": ["the cause"],
            }})
        );
        assert_eq!(
            read(Failure::usage("no")),
            json!({"error": {"kind": "invalid_input", "message": "no", "retryable": false,
                "outcome": "not_applied"}})
        );
    }

    #[test]
    fn a_person_reads_causes_and_doubts() {
        let error = Error::new(ErrorKind::Unavailable, "the commit failed")
            .with_source(io::Error::other("disk full"))
            .with_unknown_outcome();
        let text = Failure::from(error).to_text();
        assert!(text.starts_with("the commit failed\n  because: disk full\n"), "{text}");
        assert!(text.contains("may have taken effect"), "{text}");
        assert_eq!(Failure::usage("no").to_text(), "no");
    }

    #[test]
    fn nothing_is_said_twice() {
        let cause = Error::new(ErrorKind::Corrupt, "the answer is no JSON")
            .with_source(io::Error::other("column 1"));
        let outer = Error::new(ErrorKind::Corrupt, "not embedded: the answer is no JSON; do this")
            .with_source(cause);
        let text = Failure::from(outer).to_text();
        assert_eq!(text, "not embedded: the answer is no JSON; do this\n  because: column 1");
        let text = |error: Error| Failure::from(error).to_text();
        let damaged = |backend| Error::new(ErrorKind::Corrupt, "bad page").with_backend(backend);
        assert!(text(damaged("sqlite")).contains("Keep a copy"));
        for embedder in ["http", "minilm", ""] {
            assert_eq!(text(damaged(embedder)), "bad page");
        }
        let away = |message: &str| Error::new(ErrorKind::Unavailable, message);
        assert!(text(away("it is away")).contains("try again"));
        assert_eq!(text(away("it is away: pull again later")), "it is away: pull again later");
    }

    #[test]
    fn files_fail_by_their_kind() {
        let code = |kind: io::ErrorKind| Failure::file("x", kind.into()).exit_code();
        assert_eq!(code(io::ErrorKind::NotFound), 3);
        assert_eq!(code(io::ErrorKind::PermissionDenied), 5);
        assert_eq!(code(io::ErrorKind::BrokenPipe), 0);
        assert_eq!(code(io::ErrorKind::StorageFull), 6);
        assert_eq!(code(io::ErrorKind::Other), 1);
    }
}

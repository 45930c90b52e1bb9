//! The errors of the service as the project's own: one table.

use std::error::Error as StdError;
use std::time::Duration;

use memory_core::{Error, ErrorKind};
use tonic::{Code, Status};

/// Whether a request that fails without an answer may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads.
    Reads,
    /// It writes.
    Writes,
}

/// A failed request as the project's error.
///
/// The service's text stays out of the message where it may name what was stored; the code is
/// always there.
pub(crate) fn map(status: &Status, effect: Effect) -> Error {
    let code = if caused_by::<tonic::TimeoutExpired>(status) {
        Code::DeadlineExceeded
    } else {
        status.code()
    };
    let (kind, message, retryable, lost) = judge(code);
    let mut error = Error::new(kind, message)
        .with_retryable(retryable)
        .with_context("code", format!("{code:?}"));
    if effect == Effect::Writes && lost && !never_sent(status) {
        error = error.with_unknown_outcome();
    }
    if let Some(wait) = retry_after(status) {
        error = error.with_retry_after(wait);
    }
    if code == Code::FailedPrecondition
        && let Some(index) = missing_index(status.message())
    {
        return index;
    }
    error
}

/// Kind, message, whether sending it again can help, whether the effect may have happened.
fn judge(code: Code) -> (ErrorKind, &'static str, bool, bool) {
    match code {
        Code::Ok => (ErrorKind::Unexpected, "an answer without an error failed", false, true),
        Code::Cancelled => (ErrorKind::Unavailable, "the request was cancelled", true, true),
        Code::Unknown => {
            (ErrorKind::Unavailable, "the connection or the server failed", true, true)
        }
        Code::InvalidArgument => (
            ErrorKind::InvalidInput,
            "Firestore refuses the request: something in it is beyond its limits",
            false,
            false,
        ),
        Code::DeadlineExceeded => {
            (ErrorKind::Timeout, "Firestore did not answer in time", true, true)
        }
        Code::NotFound => (
            ErrorKind::NotFound,
            "Firestore does not know the document, the database or the project",
            false,
            false,
        ),
        Code::AlreadyExists => (ErrorKind::AlreadyExists, "the document exists", false, false),
        Code::PermissionDenied => (
            ErrorKind::PermissionDenied,
            "the credentials may not do this: the role is roles/datastore.user",
            false,
            false,
        ),
        Code::Unauthenticated => {
            (ErrorKind::PermissionDenied, "Firestore does not accept the credentials", false, false)
        }
        Code::ResourceExhausted => (
            ErrorKind::RateLimited,
            "a quota of the project is used up, or the request is too large",
            true,
            false,
        ),
        Code::FailedPrecondition => {
            (ErrorKind::Conflict, "a document is not as the request needs it", false, false)
        }
        Code::Aborted => (
            ErrorKind::Unavailable,
            "other writers hold the documents; nothing was written",
            true,
            false,
        ),
        Code::OutOfRange => (ErrorKind::InvalidInput, "a value is out of its range", false, false),
        Code::Unimplemented => {
            (ErrorKind::Unsupported, "this server does not offer the operation", false, false)
        }
        Code::Internal => (ErrorKind::Unavailable, "Firestore met an internal fault", true, true),
        Code::Unavailable => (ErrorKind::Unavailable, "Firestore cannot be reached", true, true),
        Code::DataLoss => (ErrorKind::Corrupt, "Firestore reports lost data", false, true),
    }
}

/// The same error, known not to have taken effect: of a request that prepared a call, so that nothing
/// of the call itself was sent.
pub(crate) fn not_applied(error: &Error) -> Error {
    let mut own =
        Error::new(error.kind(), error.message().to_owned()).with_retryable(error.is_retryable());
    if let Some(wait) = error.retry_after() {
        own = own.with_retry_after(wait);
    }
    error.context().iter().fold(own, |own, (key, value)| own.with_context(key, value.clone()))
}

/// Whether the connection was refused, so that nothing can have been sent.
pub(crate) fn never_sent(status: &Status) -> bool {
    caused_by::<tonic::ConnectError>(status)
}

fn caused_by<E: StdError + 'static>(status: &Status) -> bool {
    let mut source = StdError::source(status);
    while let Some(cause) = source {
        if cause.is::<E>() {
            return true;
        }
        source = cause.source();
    }
    false
}

/// How long the server asks to wait, from its error details.
fn retry_after(status: &Status) -> Option<Duration> {
    use googleapis_tonic_google_rpc::google::rpc;
    use prost::Message as _;

    let details = rpc::Status::decode(status.details()).ok()?;
    details.details.iter().find_map(|any| {
        if !any.type_url.ends_with("google.rpc.RetryInfo") {
            return None;
        }
        let delay = rpc::RetryInfo::decode(any.value.as_slice()).ok()?.retry_delay?;
        let nanos = u32::try_from(delay.nanos).ok()?;
        Some(Duration::new(u64::try_from(delay.seconds).ok()?, nanos))
    })
}

/// The error for an index that is not there or not ready, if the server's text is about one.
fn missing_index(text: &str) -> Option<Error> {
    let lower = text.to_lowercase();
    if !lower.contains("index") {
        return None;
    }
    let building = lower.contains("building") || lower.contains("not ready");
    let message = if building {
        "an index that the query needs is still being built: try again later; \
         `gcloud firestore indexes composite list` shows its state"
    } else {
        "an index that the query needs is missing: `orchestra-memory setup firestore` prints the \
         commands that make it"
    };
    let kind = if building { ErrorKind::Unavailable } else { ErrorKind::Config };
    let mut error = Error::new(kind, message)
        .with_retryable(building)
        .with_context("code", "FailedPrecondition");
    // The server's text holds the command or a link that makes the index: field names and no values.
    if let Some(at) = text.find("gcloud ").or_else(|| text.find("https://")) {
        let command: String = text[at..].lines().next().unwrap_or("").chars().take(2_000).collect();
        error = error.with_context("create", command);
    }
    Some(error)
}

/// The error of a document that was not written by this crate, or by a newer build.
pub(crate) fn corrupt(what: &'static str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a stored document has no valid {what}"))
}

#[cfg(test)]
mod tests {
    use memory_core::Outcome;

    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        use ErrorKind::*;
        for number in 0..=16 {
            let code = Code::from(number);
            let error = map(&Status::new(code, "secret text"), Effect::Writes);
            let (kind, retryable, lost) = match code {
                Code::Ok => (Unexpected, false, true),
                Code::Cancelled | Code::Unknown | Code::Internal => (Unavailable, true, true),
                Code::InvalidArgument | Code::OutOfRange => (InvalidInput, false, false),
                Code::DeadlineExceeded => (Timeout, true, true),
                Code::NotFound => (NotFound, false, false),
                Code::AlreadyExists => (AlreadyExists, false, false),
                Code::PermissionDenied | Code::Unauthenticated => (PermissionDenied, false, false),
                Code::ResourceExhausted => (RateLimited, true, false),
                Code::FailedPrecondition => (Conflict, false, false),
                Code::Aborted => (Unavailable, true, false),
                Code::Unimplemented => (Unsupported, false, false),
                Code::Unavailable => (Unavailable, true, true),
                Code::DataLoss => (Corrupt, false, true),
            };
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code:?}");
            assert_eq!(error.outcome() == Outcome::Unknown, lost, "{code:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{code:?}");
            let read = map(&Status::new(code, "x"), Effect::Reads);
            assert_eq!(read.outcome(), Outcome::NotApplied, "{code:?}");
        }
    }

    #[test]
    fn an_index_that_is_missing_is_named_with_its_command() {
        let text = "Missing vector index configuration. Please create the required index with the \
                    following gcloud command: gcloud firestore indexes composite create \
                    --collection-group=memories --field-config=field-path=vectors.s1";
        let error = map(&Status::failed_precondition(text), Effect::Reads);
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Config, false));
        assert!(error.message().contains("setup firestore"), "{error}");
        assert!(error.to_string().contains("gcloud firestore indexes composite create"), "{error}");

        let text = "The query requires an index. That index is currently building and cannot be \
                    used yet. See its status here: https://console.example/indexes?x=1";
        let error = map(&Status::failed_precondition(text), Effect::Reads);
        assert!(error.is_retryable() && error.message().contains("still being built"), "{error}");
        assert!(error.to_string().contains("https://console.example"), "{error}");
    }
}

//! The errors of the service as the workspace's own: one table.

use std::error::Error as StdError;
use std::time::Duration;

use google_cloud_gax::error::Error as Fault;
use google_cloud_gax::error::rpc::{Code, StatusDetails};
use memory_core::{Error, ErrorKind};

/// Longest wait that is taken over from the service: a day. Beyond it a caller gives up anyway.
const MOST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Whether a request that fails without an answer may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It reads.
    Reads,
    /// It writes.
    Writes,
}

/// What a failed request comes to, and the code that the service gave, if it gave one.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) code: Option<Code>,
    pub(crate) error: Error,
}

/// A failed request as the project's error. The service's own text stays out of it, for it may
/// repeat what was sent.
pub(crate) fn map(fault: &Fault, effect: Effect) -> Failed {
    if let Some(own) = cause::<Error>(fault) {
        return Failed { code: None, error: of_credentials(own) };
    }
    let code = fault.status().map(|status| status.code).or_else(|| {
        fault.http_status_code().filter(|_| !fault.is_deserialization()).map(of_status)
    });
    let mut lost_text = None;
    let (kind, message, retryable, lost) = match code {
        Some(code) => judge(code),
        None if fault.is_timeout() => judge(Code::DeadlineExceeded),
        None if fault.is_connect() => {
            (ErrorKind::Unavailable, "Vector Search cannot be reached", true, false)
        }
        None if fault.is_io() || fault.is_transport() => {
            (ErrorKind::Unavailable, "the connection to Vector Search broke", true, true)
        }
        None if fault.is_deserialization() => {
            (ErrorKind::Corrupt, "the answer is not of the published definitions", false, true)
        }
        None if fault.is_authentication() => {
            (ErrorKind::PermissionDenied, "no credentials could be had", false, false)
        }
        None if fault.is_binding() || fault.is_serialization() => (
            ErrorKind::Unexpected,
            "the request cannot be made of these settings and arguments",
            false,
            false,
        ),
        None => {
            lost_text = Some("none");
            (ErrorKind::Unexpected, "the request failed in an unknown way", false, true)
        }
    };
    let mut error = Error::new(kind, message).with_retryable(retryable);
    match (code, fault.http_status_code()) {
        (Some(code), _) => error = error.with_context("code", code.name()),
        (None, Some(status)) => error = error.with_context("status", status.to_string()),
        (None, None) => {}
    }
    if let Some(text) = lost_text {
        error = error.with_context("code", text);
    }
    if effect == Effect::Writes && lost {
        error = error.with_unknown_outcome();
    }
    if retryable && let Some(wait) = retry_after(fault) {
        error = error.with_retry_after(wait);
    }
    Failed { code, error }
}

/// Kind, message, whether sending it again can help, whether the effect may have happened.
fn judge(code: Code) -> (ErrorKind, &'static str, bool, bool) {
    match code {
        Code::Ok => (ErrorKind::Unexpected, "an answer without an error failed", false, true),
        Code::Cancelled => (ErrorKind::Unavailable, "the request was cancelled", true, true),
        Code::Unknown => (ErrorKind::Unavailable, "the service failed", true, true),
        Code::InvalidArgument => (
            ErrorKind::InvalidInput,
            "Vector Search refuses the request: something in it is beyond its limits, or the \
             collection is made otherwise",
            false,
            false,
        ),
        Code::DeadlineExceeded => {
            (ErrorKind::Timeout, "Vector Search did not answer in time", true, true)
        }
        Code::NotFound => (
            ErrorKind::NotFound,
            "Vector Search does not know the object, the collection or the project",
            false,
            false,
        ),
        Code::AlreadyExists => (ErrorKind::AlreadyExists, "the object exists", false, false),
        Code::PermissionDenied => (
            ErrorKind::PermissionDenied,
            "the credentials may not do this: is the API enabled and a role of Vector Search given?",
            false,
            false,
        ),
        Code::Unauthenticated => (
            ErrorKind::PermissionDenied,
            "Vector Search does not accept the credentials",
            false,
            false,
        ),
        Code::ResourceExhausted => {
            (ErrorKind::RateLimited, "a quota of the project is used up", true, false)
        }
        Code::FailedPrecondition => (
            ErrorKind::Conflict,
            "the collection or an index is not in a state that allows it",
            false,
            false,
        ),
        Code::Aborted => (
            ErrorKind::Unavailable,
            "another request was in the way; nothing was done",
            true,
            false,
        ),
        Code::OutOfRange => (ErrorKind::InvalidInput, "a value is out of its range", false, false),
        Code::Unimplemented => {
            (ErrorKind::Unsupported, "the service does not offer this", false, false)
        }
        Code::Internal => {
            (ErrorKind::Unavailable, "Vector Search met an internal fault", true, true)
        }
        Code::Unavailable => (ErrorKind::Unavailable, "Vector Search cannot serve", true, true),
        Code::DataLoss => (ErrorKind::Corrupt, "Vector Search reports lost data", false, true),
        _ => (ErrorKind::Unexpected, "the service answered with an unknown code", false, true),
    }
}

/// The code of an HTTP status that came without one: of a balancer, or a proxy.
fn of_status(status: u16) -> Code {
    match status {
        400 | 413 | 422 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 | 407 => Code::PermissionDenied,
        404 => Code::NotFound,
        408 | 504 => Code::DeadlineExceeded,
        409 => Code::AlreadyExists,
        412 => Code::FailedPrecondition,
        429 => Code::ResourceExhausted,
        499 => Code::Cancelled,
        500 => Code::Internal,
        501 => Code::Unimplemented,
        502 | 503 => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// The error of the credentials, as it was before the client wrapped it. Nothing was sent.
fn of_credentials(own: &Error) -> Error {
    let mut error =
        Error::new(own.kind(), own.message().to_owned()).with_retryable(own.is_retryable());
    if let Some(wait) = own.retry_after() {
        error = error.with_retry_after(wait);
    }
    own.context().iter().fold(error, |error, (key, value)| error.with_context(key, value.clone()))
}

fn cause<E: StdError + 'static>(fault: &Fault) -> Option<&E> {
    let mut source = StdError::source(fault);
    while let Some(found) = source {
        if let Some(found) = found.downcast_ref::<E>() {
            return Some(found);
        }
        source = found.source();
    }
    None
}

/// How long the service asks to wait: its details, or else the header `Retry-After` in seconds.
fn retry_after(fault: &Fault) -> Option<Duration> {
    let details = fault.status().and_then(|status| {
        status.details.iter().find_map(|detail| match detail {
            StatusDetails::RetryInfo(info) => {
                let delay = info.retry_delay.as_ref()?;
                let seconds = u64::try_from(delay.seconds()).ok()?;
                Some(Duration::new(seconds, u32::try_from(delay.nanos()).ok()?))
            }
            _ => None,
        })
    });
    let header = || {
        let value = fault.http_headers()?.get(http::header::RETRY_AFTER)?.to_str().ok()?;
        value.trim().parse().ok().map(Duration::from_secs)
    };
    details.or_else(header).map(|wait| wait.min(MOST_WAIT))
}

#[cfg(test)]
mod tests {
    use google_cloud_gax::error::CredentialsError;
    use google_cloud_gax::error::rpc::Status;
    use memory_core::Outcome;

    use super::*;

    fn service(code: Code) -> Fault {
        Fault::service(Status::default().set_code(code).set_message("secret text"))
    }

    #[test]
    fn every_code_has_its_kind() {
        use ErrorKind::*;
        for number in 0..=17 {
            let code = Code::from(number);
            let Failed { code: told, error } = map(&service(code), Effect::Writes);
            assert_eq!(told, Some(code));
            let (kind, retryable, lost) = match number {
                0 => (Unexpected, false, true),
                1 | 2 | 13 | 14 => (Unavailable, true, true),
                3 | 11 => (InvalidInput, false, false),
                4 => (Timeout, true, true),
                5 => (NotFound, false, false),
                6 => (AlreadyExists, false, false),
                7 | 16 => (PermissionDenied, false, false),
                8 => (RateLimited, true, false),
                9 => (Conflict, false, false),
                10 => (Unavailable, true, false),
                12 => (Unsupported, false, false),
                15 => (Corrupt, false, true),
                // Unknown numbers are the code UNKNOWN in this client.
                _ => (Unavailable, true, true),
            };
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code:?}");
            assert_eq!(error.outcome() == Outcome::Unknown, lost, "{code:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{code:?}");
            let read = map(&service(code), Effect::Reads).error;
            assert_eq!(read.outcome(), Outcome::NotApplied, "{code:?}");
        }
    }

    #[test]
    fn every_status_without_a_code_has_its_kind() {
        use ErrorKind::*;
        for (status, kind) in [
            (302, Unavailable),
            (400, InvalidInput),
            (401, PermissionDenied),
            (403, PermissionDenied),
            (404, NotFound),
            (407, PermissionDenied),
            (408, Timeout),
            (409, AlreadyExists),
            (412, Conflict),
            (413, InvalidInput),
            (422, InvalidInput),
            (429, RateLimited),
            (499, Unavailable),
            (500, Unavailable),
            (501, Unsupported),
            (502, Unavailable),
            (503, Unavailable),
            (504, Timeout),
            (599, Unavailable),
        ] {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("7"));
            let fault = Fault::http(status, headers, "secret".into());
            let error = map(&fault, Effect::Writes).error;
            assert_eq!(error.kind(), kind, "{status}");
            let wait = error.is_retryable().then_some(Duration::from_secs(7));
            assert_eq!(error.retry_after(), wait, "{status}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{status}");
        }
    }

    #[test]
    fn waits_are_taken_from_the_details_within_bounds() {
        let of = |delay: &str| {
            let detail: StatusDetails = serde_json::from_value(serde_json::json!({
                "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay,
            }))
            .unwrap();
            let status = Status::default().set_code(Code::ResourceExhausted).set_details([detail]);
            map(&Fault::service(status), Effect::Reads).error.retry_after()
        };
        assert_eq!(of("1.5s"), Some(Duration::from_millis(1_500)));
        assert_eq!(of("100000s"), Some(MOST_WAIT));
        assert_eq!(of("-1s"), None);
    }

    #[test]
    fn failures_of_the_way_there_are_told_apart() {
        use ErrorKind::*;
        for (fault, kind, lost) in [
            (Fault::timeout("secret"), Timeout, true),
            (Fault::connect("secret"), Unavailable, false),
            (Fault::io("secret"), Unavailable, true),
            (Fault::deser("secret"), Corrupt, true),
            (Fault::ser("secret"), Unexpected, false),
            (Fault::binding("secret"), Unexpected, false),
            (
                Fault::authentication(CredentialsError::from_msg(false, "secret")),
                PermissionDenied,
                false,
            ),
        ] {
            let Failed { code, error } = map(&fault, Effect::Writes);
            assert_eq!((code, error.kind()), (None, kind), "{fault:?}");
            assert_eq!(error.outcome() == Outcome::Unknown, lost, "{kind:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{kind:?}");
        }
        let own = Error::new(Config, "no credentials").with_context("place", "x");
        let fault = Fault::authentication(CredentialsError::from_source(false, own));
        let error = map(&fault, Effect::Writes).error;
        assert_eq!((error.kind(), error.message()), (Config, "no credentials"));
        assert_eq!(error.context()[0], ("place", "x".to_owned()));
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
}

//! From the service's codes, and from statuses that come without one, to the workspace's one error.

use std::time::Duration;

use memory_core::{Error, ErrorKind, Timestamp};

use super::wire::Refusal;
use crate::retry_after;

/// The longest wait that is taken over: a day.
const MOST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// What a code means: kind, and words for a person.
fn meaning(code: &str) -> Option<(ErrorKind, &'static str)> {
    Some(match code {
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" => (
            ErrorKind::InvalidInput,
            "Vertex AI refuses the request: do the model, its dimensions, tasks and max_batch fit?",
        ),
        "UNAUTHENTICATED" => {
            (ErrorKind::PermissionDenied, "Vertex AI does not accept the credentials")
        }
        "PERMISSION_DENIED" => (
            ErrorKind::PermissionDenied,
            "the credentials may not do this: is the API enabled, and the role \
             roles/aiplatform.user given?",
        ),
        "NOT_FOUND" => (
            ErrorKind::Config,
            "Vertex AI does not know the model there: check project, location and model",
        ),
        "UNIMPLEMENTED" => (ErrorKind::Unsupported, "the model does not offer this"),
        "FAILED_PRECONDITION" | "ALREADY_EXISTS" => (
            ErrorKind::Config,
            "the project is not in a state that allows it: is the model open to it?",
        ),
        "RESOURCE_EXHAUSTED" => (ErrorKind::RateLimited, "a quota of the project is used up"),
        "DEADLINE_EXCEEDED" => {
            (ErrorKind::Timeout, "Vertex AI did not answer in the time it allows itself")
        }
        "CANCELLED" | "UNKNOWN" | "ABORTED" | "INTERNAL" | "UNAVAILABLE" | "DATA_LOSS" => {
            (ErrorKind::Unavailable, "Vertex AI cannot serve just now")
        }
        _ => return None,
    })
}

/// What a status without a code means.
fn of_number(status: u16) -> (ErrorKind, &'static str) {
    let code = match status {
        300..=399 => {
            return (
                ErrorKind::Config,
                "the server redirects, which is not followed; check the endpoint",
            );
        }
        400 | 413 | 422 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 | 405 | 410 => "NOT_FOUND",
        407 => {
            return (
                ErrorKind::PermissionDenied,
                "the proxy of the environment wants other credentials",
            );
        }
        408 | 504 => "DEADLINE_EXCEEDED",
        429 => "RESOURCE_EXHAUSTED",
        500..=599 => "UNAVAILABLE",
        _ => "",
    };
    meaning(code).unwrap_or((
        ErrorKind::Unexpected,
        "the server answered with a status that means nothing here",
    ))
}

/// The error of an answer that is no success. `header`: the value of `Retry-After` as it came.
pub(super) fn of_refusal(
    status: u16,
    refusal: &Refusal,
    model: &str,
    header: Option<&str>,
    now: Timestamp,
) -> Error {
    let (kind, words) = refusal.code.and_then(meaning).unwrap_or_else(|| of_number(status));
    let mut error = Error::new(kind, words).with_context("status", status.to_string());
    if let Some(code) = refusal.code {
        error = error.with_context("code", code);
    }
    if kind == ErrorKind::Config {
        error = error.with_context("model", model);
    }
    if matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable) {
        let told = refusal.delay.as_deref().and_then(seconds);
        let wait = told.or_else(|| retry_after::wait(header?, now));
        if let Some(wait) = wait {
            error = error.with_retry_after(wait);
        }
    }
    error
}

/// A span as Google's JSON has it: `1.5s`.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok().map(|wait| wait.min(MOST_WAIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(status: u16, code: Option<&'static str>, header: Option<&str>) -> Error {
        let now = Timestamp::parse("2025-11-06T08:49:00Z").unwrap();
        let refusal = Refusal { code, delay: None };
        of_refusal(status, &refusal, "the-model", header, now)
    }

    #[test]
    fn every_code_has_its_kind() {
        use ErrorKind::*;
        for (code, kind) in [
            ("CANCELLED", Unavailable),
            ("UNKNOWN", Unavailable),
            ("INVALID_ARGUMENT", InvalidInput),
            ("DEADLINE_EXCEEDED", Timeout),
            ("NOT_FOUND", Config),
            ("ALREADY_EXISTS", Config),
            ("PERMISSION_DENIED", PermissionDenied),
            ("RESOURCE_EXHAUSTED", RateLimited),
            ("FAILED_PRECONDITION", Config),
            ("ABORTED", Unavailable),
            ("OUT_OF_RANGE", InvalidInput),
            ("UNIMPLEMENTED", Unsupported),
            ("INTERNAL", Unavailable),
            ("UNAVAILABLE", Unavailable),
            ("DATA_LOSS", Unavailable),
            ("UNAUTHENTICATED", PermissionDenied),
        ] {
            let error = error(599, Some(code), None);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.context().contains(&("code", code.to_owned())));
        }
    }

    #[test]
    fn every_status_without_a_code_has_its_kind() {
        use ErrorKind::*;
        for (status, kind) in [
            (302, Config),
            (400, InvalidInput),
            (401, PermissionDenied),
            (403, PermissionDenied),
            (404, Config),
            (405, Config),
            (407, PermissionDenied),
            (408, Timeout),
            (409, Unexpected),
            (413, InvalidInput),
            (418, Unexpected),
            (429, RateLimited),
            (500, Unavailable),
            (503, Unavailable),
            (504, Timeout),
            (599, Unavailable),
        ] {
            assert_eq!(error(status, None, None).kind(), kind, "{status}");
        }
    }

    #[test]
    fn waits_come_from_the_details_or_the_header() {
        assert_eq!(error(429, None, Some("9")).retry_after(), Some(Duration::from_secs(9)));
        assert_eq!(error(400, None, Some("9")).retry_after(), None);
        for (text, wait) in [
            ("1.5s", Some(1_500)),
            ("0s", Some(0)),
            ("1e9s", Some(86_400_000)),
            ("-1s", None),
            ("NaNs", None),
            ("1", None),
            ("s", None),
        ] {
            assert_eq!(seconds(text), wait.map(Duration::from_millis), "{text}");
        }
    }
}

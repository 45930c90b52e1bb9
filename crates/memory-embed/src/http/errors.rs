//! From statuses and failures of the connection to the workspace's one error.
//!
//! Nothing that a server sent stands in a message but short identifiers, and no error of the
//! client is kept as the cause, for a server can repeat the texts and the key that it was sent.

use std::io;
use std::time::Duration;

use memory_core::{Error, ErrorKind, Timestamp};

use crate::{proxy, retry_after};

/// What a status other than success means: kind, and words for a person.
fn meaning(status: u16) -> (ErrorKind, &'static str) {
    match status {
        300..=399 => (
            ErrorKind::Config,
            "the server redirects, which is not followed; set url to where it redirects",
        ),
        400 | 413 | 422 => (
            ErrorKind::InvalidInput,
            "the server refuses the request; a smaller window_bytes or max_batch may help",
        ),
        401 | 403 => (
            ErrorKind::PermissionDenied,
            "the server refuses the request; is api_key set, valid and allowed to use the model?",
        ),
        404 | 405 | 410 => (ErrorKind::Config, "no such model or path; check model and url"),
        407 => {
            (ErrorKind::PermissionDenied, "the proxy of the environment wants other credentials")
        }
        408 | 504 => (ErrorKind::Timeout, "the server did not answer in the time it allows itself"),
        429 => (ErrorKind::RateLimited, "the server asks for a slower pace"),
        500..=599 => (ErrorKind::Unavailable, "the server cannot serve just now"),
        _ => (ErrorKind::Unexpected, "the server answered with a status that means nothing here"),
    }
}

/// The error of a status. `wait` is the value of `Retry-After` as it came.
pub(super) fn of_status(
    status: u16,
    model: &str,
    wait: Option<&str>,
    now: Timestamp,
    identifiers: Vec<(&'static str, String)>,
) -> Error {
    let (kind, words) = meaning(status);
    let mut error = Error::new(kind, words).with_context("status", status.to_string());
    if matches!(status, 404 | 405 | 410) {
        error = error.with_context("model", model);
    }
    for (name, identifier) in identifiers {
        error = error.with_context(name, identifier);
    }
    if matches!(kind, ErrorKind::RateLimited | ErrorKind::Unavailable)
        && let Some(wait) = wait.and_then(|text| retry_after::wait(text, now))
    {
        error = error.with_retry_after(wait);
    }
    error
}

/// The error of a request that got no whole answer. `limit`: the longest time it might take.
pub(crate) fn of_transport(error: &ureq::Error, https: bool, limit: Duration) -> Error {
    use ureq::Error as E;
    let unavailable = |words| Error::new(ErrorKind::Unavailable, words);
    match error {
        E::Timeout(_) => timeout(limit),
        E::Io(error) => of_io(error, https, limit),
        E::HostNotFound => unavailable("the server's name cannot be resolved"),
        E::ConnectionFailed => unavailable("the server cannot be reached"),
        E::ConnectProxyFailed(words) => of_proxy(words),
        E::Tls(_) | E::Rustls(_) | E::Pem(_) | E::TlsRequired => tls(),
        E::InvalidProxyUrl => {
            Error::new(ErrorKind::Config, "the proxy's URL in the environment is not a URL")
        }
        E::Protocol(_) => {
            Error::new(ErrorKind::Corrupt, "the server's answer breaks the rules of HTTP")
        }
        E::LargeResponseHeader(..) => {
            Error::new(ErrorKind::Corrupt, "the headers of the server's answer are too large")
        }
        E::BodyExceedsLimit(most) => Error::new(
            ErrorKind::Corrupt,
            format!("the server's answer is longer than {most} bytes, more than it can need"),
        ),
        E::Http(_) | E::BadUri(_) => {
            Error::new(ErrorKind::Config, "no request can be made of url, model and API key")
        }
        _ => Error::new(ErrorKind::Unexpected, "the request failed"),
    }
}

/// A proxy that does not connect. Refused credentials do not become good by themselves.
fn of_proxy(words: &str) -> Error {
    let status = proxy::refusal(words);
    let error = match status {
        Some(407) => {
            let (kind, words) = meaning(407);
            Error::new(kind, words)
        }
        _ => Error::new(ErrorKind::Unavailable, "the proxy does not connect to the server"),
    };
    match status {
        Some(status) => error.with_context("status", status.to_string()),
        None => error,
    }
}

fn of_io(error: &io::Error, https: bool, limit: Duration) -> Error {
    match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => return timeout(limit),
        // How the TLS library tells that certificate or handshake are bad.
        io::ErrorKind::InvalidData if https => return tls(),
        _ => {}
    }
    let words = match error.kind() {
        io::ErrorKind::ConnectionRefused => "the server refuses connections; does it run?",
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => {
            "the server closed the connection before its answer ended"
        }
        _ => "the server cannot be reached",
    };
    // The kind is a word of the standard library; the message may be anybody's.
    Error::new(ErrorKind::Unavailable, words).with_context("io", format!("{:?}", error.kind()))
}

/// A request that took longer than it might.
fn timeout(limit: Duration) -> Error {
    Error::new(ErrorKind::Timeout, "the server did not answer in time")
        .with_context("limit_ms", limit.as_millis().to_string())
}

fn tls() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "no secure connection to the server; check its certificate, and that url should be https",
    )
    .with_retryable(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2025-11-06T08:49:00Z";

    fn error(status: u16, retry_after: Option<&str>) -> Error {
        of_status(status, "the-model", retry_after, Timestamp::parse(NOW).unwrap(), Vec::new())
    }

    #[test]
    fn every_status_has_its_kind() {
        use ErrorKind::*;
        let table = [
            (301, Config, false),
            (302, Config, false),
            (308, Config, false),
            (400, InvalidInput, false),
            (401, PermissionDenied, false),
            (402, Unexpected, false),
            (403, PermissionDenied, false),
            (404, Config, false),
            (405, Config, false),
            (407, PermissionDenied, false),
            (408, Timeout, true),
            (409, Unexpected, false),
            (410, Config, false),
            (413, InvalidInput, false),
            (415, Unexpected, false),
            (418, Unexpected, false),
            (422, InvalidInput, false),
            (429, RateLimited, true),
            (500, Unavailable, true),
            (502, Unavailable, true),
            (503, Unavailable, true),
            (504, Timeout, true),
            (529, Unavailable, true),
            (600, Unexpected, false),
        ];
        for (status, kind, retryable) in table {
            let error = error(status, Some("3"));
            assert_eq!(error.kind(), kind, "{status}");
            assert_eq!(error.is_retryable(), retryable, "{status}");
            let waits = matches!(kind, RateLimited | Unavailable);
            assert_eq!(error.retry_after(), waits.then(|| Duration::from_secs(3)), "{status}");
            assert!(error.to_string().contains(&format!("status={status}")), "{error}");
        }
        assert!(error(404, None).to_string().contains("model=the-model"));
        assert!(!error(500, None).to_string().contains("the-model"));
    }

    #[test]
    fn every_failure_of_a_connection_has_its_kind() {
        use io::ErrorKind as Io;
        use ureq::Error as E;
        let io = |kind: Io| E::Io(io::Error::new(kind, "secret"));
        let proxy = |words: &str| E::ConnectProxyFailed(words.to_owned());
        let table = [
            (E::Timeout(ureq::Timeout::Global), ErrorKind::Timeout, true),
            (io(Io::TimedOut), ErrorKind::Timeout, true),
            (io(Io::WouldBlock), ErrorKind::Timeout, true),
            (io(Io::ConnectionRefused), ErrorKind::Unavailable, true),
            (io(Io::ConnectionReset), ErrorKind::Unavailable, true),
            (io(Io::UnexpectedEof), ErrorKind::Unavailable, true),
            (io(Io::Other), ErrorKind::Unavailable, true),
            (io(Io::InvalidData), ErrorKind::Unavailable, false),
            (E::HostNotFound, ErrorKind::Unavailable, true),
            (E::ConnectionFailed, ErrorKind::Unavailable, true),
            (proxy("secret"), ErrorKind::Unavailable, true),
            (proxy("proxy server responded 502/502"), ErrorKind::Unavailable, true),
            (proxy("proxy server responded 407/407"), ErrorKind::PermissionDenied, false),
            (E::Tls("secret"), ErrorKind::Unavailable, false),
            (E::TlsRequired, ErrorKind::Unavailable, false),
            (E::InvalidProxyUrl, ErrorKind::Config, false),
            (E::LargeResponseHeader(2, 1), ErrorKind::Corrupt, false),
            (E::BodyExceedsLimit(7), ErrorKind::Corrupt, false),
            (E::BadUri("secret".to_owned()), ErrorKind::Config, false),
            (E::RedirectFailed, ErrorKind::Unexpected, false),
        ];
        for (cause, kind, retryable) in table {
            let error = of_transport(&cause, true, Duration::from_millis(1_500));
            assert_eq!(error.kind(), kind, "{cause:?}");
            assert_eq!(error.is_retryable(), retryable, "{cause:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
            if kind == ErrorKind::Timeout {
                assert!(error.to_string().contains("limit_ms=1500"), "{error}");
            }
        }
        // Without TLS the same failure is the connection's.
        let error = of_transport(&io(Io::InvalidData), false, Duration::ZERO);
        assert!(error.is_retryable());
    }
}

//! The client's errors in the workspace's own.
//!
//! Of the server's answer only its code is taken: its text may quote arguments, and so memories.

use std::error::Error as _;
use std::{fmt, io};

use memory_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError};

use crate::BACKEND;
use crate::wire::Effect;

/// Stored bytes that are not what was written.
pub(crate) fn corrupt(what: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, what).with_backend(BACKEND)
}

/// The server's own answer as a cause: what it says is for the program alone, and never shown.
#[derive(Clone)]
struct Refusal {
    code: String,
    text: String,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refusal(..)")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the server refused a request")
    }
}

impl std::error::Error for Refusal {}

/// Code and text of the server's answer that an error comes from; never to be shown.
pub(crate) fn told(error: &Error) -> Option<String> {
    let refusal = error.source()?.downcast_ref::<Refusal>()?;
    Some(format!("{} {}", refusal.code, refusal.text))
}

/// The same of a script that writes: what it met on its way is no refusal of the whole, for nothing
/// of a script is taken back. What the server refuses at a script's first write is.
pub(crate) fn of_script(error: Error, effect: Effect) -> Error {
    let Some(told) = told(&error).filter(|_| effect == Effect::Writes) else { return error };
    let code = told.split(' ').next().unwrap_or_default();
    let at_first = ["OOM", "READONLY", "MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN"];
    // The server names the line of a script that it met something in.
    if told.contains("user_script:") && !at_first.contains(&code) {
        return error.with_unknown_outcome();
    }
    error
}

/// Whether the request may have reached the server before this happened.
fn may_have_been_sent(error: &RedisError) -> bool {
    !error.is_connection_refusal()
        && matches!(error.kind(), Kind::Io | Kind::Parse | Kind::UnexpectedReturnType)
}

/// What a failure means for a caller. A lost answer to what writes is of unknown outcome.
pub(crate) fn failed(error: &RedisError, effect: Effect) -> Error {
    let mapped = match error.code() {
        Some(code) => {
            let text = error.detail().unwrap_or_default();
            let refusal = Refusal { code: code.to_owned(), text: text.to_owned() };
            let unknown = code == "ERR" && text.to_ascii_lowercase().starts_with("unknown command");
            let mapped = if unknown { no_command() } else { answered(code) };
            mapped.with_source(refusal)
        }
        None => met(error),
    };
    let mapped = mapped.with_backend(BACKEND);
    if effect == Effect::Writes && may_have_been_sent(error) {
        return mapped.with_unknown_outcome();
    }
    mapped
}

/// An answer of the server, by its code.
pub(crate) fn answered(code: &str) -> Error {
    let (kind, retryable, message) = match code {
        "LOADING" => (ErrorKind::Unavailable, true, "the server is loading its data"),
        "MASTERDOWN" => (ErrorKind::Unavailable, true, "the replica has lost its primary"),
        "CLUSTERDOWN" => (ErrorKind::Unavailable, true, "the cluster has no primary for the slot"),
        "TRYAGAIN" => (ErrorKind::Unavailable, true, "the slot is being moved"),
        "MOVED" | "ASK" => (ErrorKind::Unavailable, true, "the slot is on another node"),
        "READONLY" => {
            (ErrorKind::Unavailable, true, "the server is a replica: it was a primary before")
        }
        "NOREPLICAS" => {
            (ErrorKind::Unavailable, true, "too few replicas are attached (min-replicas-to-write)")
        }
        "BUSY" => (ErrorKind::Overloaded, true, "the server is held up by a script"),
        "MISCONF" => (
            ErrorKind::Unavailable,
            false,
            "the server refuses writes, for it cannot save its data: look at its disk",
        ),
        "OOM" => (
            ErrorKind::Overloaded,
            false,
            "the server's memory is used up (maxmemory): raise it, or remove memories",
        ),
        "NOAUTH" => (ErrorKind::PermissionDenied, false, "the server wants a password"),
        "WRONGPASS" => (ErrorKind::PermissionDenied, false, "user or password are wrong"),
        "NOPERM" => {
            (ErrorKind::PermissionDenied, false, "the user may not do this (see the server's ACL)")
        }
        "DENIED" => (ErrorKind::PermissionDenied, false, "the server is in protected mode"),
        "WRONGTYPE" => (
            ErrorKind::Corrupt,
            false,
            "a key holds another type than was written: something else uses the prefix",
        ),
        "CROSSSLOT" => (ErrorKind::Unexpected, false, "a request named keys of several slots"),
        "NOSCRIPT" => (ErrorKind::Unavailable, true, "the server lost the script"),
        "EXECABORT" => (ErrorKind::Unexpected, false, "the server aborted a transaction"),
        "NOPROTO" => (ErrorKind::Unsupported, false, "the server does not speak RESP3"),
        _ => return other(code),
    };
    Error::new(kind, message).with_retryable(retryable).with_context("code", code.to_owned())
}

fn no_command() -> Error {
    Error::unsupported("the server does not know a command that this needs")
        .with_context("code", "ERR")
}

/// An answer whose code tells nothing but that it is one.
fn other(code: &str) -> Error {
    let error = Error::new(ErrorKind::Unexpected, "the server refused a request");
    // A code is a word in capitals; what is not, may be a text with anything in it.
    if !code.is_empty() && code.len() <= 20 && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return error.with_context("code", code.to_owned());
    }
    error
}

/// What happened without an answer of the server's.
fn met(error: &RedisError) -> Error {
    let (kind, retryable, message) = match error.kind() {
        Kind::Io if error.is_connection_refusal() => {
            (ErrorKind::Unavailable, true, "nothing listens at Redis' address")
        }
        Kind::Io if error.is_timeout() => {
            (ErrorKind::Timeout, true, "Redis did not answer in time")
        }
        Kind::Io => (ErrorKind::Unavailable, true, "the connection to Redis was lost"),
        Kind::ClusterConnectionNotFound => {
            (ErrorKind::Unavailable, true, "no node of the cluster can be reached")
        }
        Kind::AuthenticationFailed => {
            (ErrorKind::PermissionDenied, false, "user or password are wrong, or missing")
        }
        Kind::InvalidClientConfig => {
            (ErrorKind::Config, false, "the connection to Redis is set wrongly")
        }
        Kind::RESP3NotSupported => {
            (ErrorKind::Unsupported, false, "the server does not speak RESP3: Redis 6 and newer do")
        }
        Kind::Parse | Kind::UnexpectedReturnType => {
            (ErrorKind::Unexpected, false, "the server's answer cannot be understood")
        }
        _ => (ErrorKind::Unexpected, false, "the client of Redis failed"),
    };
    Error::new(kind, message).with_retryable(retryable)
}

/// That nothing came in time, and whether something may have happened.
pub(crate) fn late(effect: Effect) -> Error {
    let error = io::Error::from(io::ErrorKind::TimedOut);
    failed(&RedisError::from(error), effect)
}

#[cfg(test)]
mod tests {
    use memory_core::Outcome;
    use redis::ServerErrorKind;

    use super::*;

    fn of_kind(kind: ServerErrorKind) -> RedisError {
        RedisError::from((Kind::Server(kind), "the server refused a request"))
    }

    #[test]
    fn every_code_of_the_server_has_a_kind() {
        let table = [
            (ServerErrorKind::ResponseError, ErrorKind::Unexpected, false),
            (ServerErrorKind::ExecAbort, ErrorKind::Unexpected, false),
            (ServerErrorKind::BusyLoading, ErrorKind::Unavailable, true),
            (ServerErrorKind::NoScript, ErrorKind::Unavailable, true),
            (ServerErrorKind::Moved, ErrorKind::Unavailable, true),
            (ServerErrorKind::Ask, ErrorKind::Unavailable, true),
            (ServerErrorKind::TryAgain, ErrorKind::Unavailable, true),
            (ServerErrorKind::ClusterDown, ErrorKind::Unavailable, true),
            (ServerErrorKind::CrossSlot, ErrorKind::Unexpected, false),
            (ServerErrorKind::MasterDown, ErrorKind::Unavailable, true),
            (ServerErrorKind::ReadOnly, ErrorKind::Unavailable, true),
            (ServerErrorKind::NotBusy, ErrorKind::Unexpected, false),
            (ServerErrorKind::NoSub, ErrorKind::Unexpected, false),
            (ServerErrorKind::NoPerm, ErrorKind::PermissionDenied, false),
        ];
        for (kind, expected, retryable) in table {
            for effect in [Effect::Reads, Effect::Writes] {
                let error = failed(&of_kind(kind), effect);
                assert_eq!((error.kind(), error.is_retryable()), (expected, retryable), "{kind:?}");
                // The server answered that it did not do it.
                assert_eq!(error.outcome(), Outcome::NotApplied, "{kind:?}");
                assert_eq!(error.backend(), BACKEND);
            }
        }
        let codes = [
            ("OOM", ErrorKind::Overloaded),
            ("NOAUTH", ErrorKind::PermissionDenied),
            ("WRONGPASS", ErrorKind::PermissionDenied),
            ("DENIED", ErrorKind::PermissionDenied),
            ("BUSY", ErrorKind::Overloaded),
            ("MISCONF", ErrorKind::Unavailable),
            ("NOREPLICAS", ErrorKind::Unavailable),
            ("WRONGTYPE", ErrorKind::Corrupt),
            ("NOPROTO", ErrorKind::Unsupported),
            ("ELSE", ErrorKind::Unexpected),
            ("a text with a memory", ErrorKind::Unexpected),
        ];
        for (code, expected) in codes {
            let error = answered(code);
            assert_eq!(error.kind(), expected, "{code}");
            assert!(!error.to_string().contains("a memory"));
        }
    }

    #[test]
    fn what_a_script_met_on_its_way_may_be_half_done() {
        let met = |code: &str, text: &str| {
            let error = redis::make_extension_error(code.to_owned(), Some(text.to_owned()));
            of_script(failed(&error, Effect::Writes), Effect::Writes).outcome()
        };
        let line = "secret script: abc, on @user_script:3.";
        assert_eq!(met("WRONGTYPE", line), Outcome::Unknown);
        assert_eq!(met("ERR", line), Outcome::Unknown);
        assert_eq!(met("OOM", line), Outcome::NotApplied);
        assert_eq!(met("WRONGTYPE", "of a command"), Outcome::NotApplied);
        let error = redis::make_extension_error("ERR".to_owned(), Some(line.to_owned()));
        let error = failed(&error, Effect::Reads);
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert!(told(&error).unwrap().contains("secret"));
        assert_eq!(of_script(error, Effect::Reads).outcome(), Outcome::NotApplied);
    }

    #[test]
    fn what_was_lost_on_the_way_is_unknown_for_writes_alone() {
        let table = [
            (io::ErrorKind::ConnectionRefused, ErrorKind::Unavailable, Outcome::NotApplied),
            (io::ErrorKind::TimedOut, ErrorKind::Timeout, Outcome::Unknown),
            (io::ErrorKind::BrokenPipe, ErrorKind::Unavailable, Outcome::Unknown),
            (io::ErrorKind::ConnectionReset, ErrorKind::Unavailable, Outcome::Unknown),
            (io::ErrorKind::UnexpectedEof, ErrorKind::Unavailable, Outcome::Unknown),
            (io::ErrorKind::Other, ErrorKind::Unavailable, Outcome::Unknown),
        ];
        for (io_kind, kind, outcome) in table {
            let lost = RedisError::from(io::Error::from(io_kind));
            let error = failed(&lost, Effect::Writes);
            assert_eq!((error.kind(), error.outcome()), (kind, outcome), "{io_kind:?}");
            assert!(error.is_retryable());
            assert_eq!(failed(&lost, Effect::Reads).outcome(), Outcome::NotApplied);
        }
        assert_eq!(late(Effect::Writes).outcome(), Outcome::Unknown);
        let kinds = [
            (Kind::Parse, ErrorKind::Unexpected),
            (Kind::AuthenticationFailed, ErrorKind::PermissionDenied),
            (Kind::UnexpectedReturnType, ErrorKind::Unexpected),
            (Kind::InvalidClientConfig, ErrorKind::Config),
            (Kind::Client, ErrorKind::Unexpected),
            (Kind::Extension, ErrorKind::Unexpected),
            (Kind::ClusterConnectionNotFound, ErrorKind::Unavailable),
            (Kind::RESP3NotSupported, ErrorKind::Unsupported),
        ];
        for (of, expected) in kinds {
            let error = failed(&RedisError::from((of, "some text")), Effect::Reads);
            assert_eq!(error.kind(), expected, "{of:?}");
            assert!(!error.to_string().contains("some text"));
        }
    }
}

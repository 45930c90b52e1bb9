//! From SQLite's errors to the workspace's one error.
//!
//! SQLite's own texts name tables and columns, never values, so they are kept as the cause.

use memory_core::{Error, ErrorKind};
use rusqlite::ErrorCode;
use rusqlite::types::FromSqlError;

use crate::BACKEND;

/// What an error code of SQLite means: kind, whether to try again, and words for a person.
fn meaning(code: ErrorCode) -> (ErrorKind, bool, &'static str) {
    match code {
        ErrorCode::DatabaseBusy
        | ErrorCode::DatabaseLocked
        | ErrorCode::FileLockingProtocolFailed => {
            (ErrorKind::Unavailable, true, "the file is locked by another process")
        }
        ErrorCode::ReadOnly => (ErrorKind::PermissionDenied, false, "the file is read-only"),
        ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied => {
            (ErrorKind::PermissionDenied, false, "access to the file is denied")
        }
        ErrorCode::DiskFull => {
            (ErrorKind::Unavailable, false, "the disk is full, or the file has reached max_bytes")
        }
        ErrorCode::DatabaseCorrupt => (ErrorKind::Corrupt, false, "the file is damaged"),
        ErrorCode::NotADatabase => (ErrorKind::Corrupt, false, "the file is not a database"),
        ErrorCode::CannotOpen => {
            (ErrorKind::Unavailable, false, "the file cannot be opened; is its folder there?")
        }
        ErrorCode::SystemIoFailure => {
            (ErrorKind::Unavailable, false, "the disk failed to read or write")
        }
        ErrorCode::OutOfMemory => (ErrorKind::Overloaded, true, "out of memory"),
        ErrorCode::TooBig => (ErrorKind::InvalidInput, false, "a value is too large"),
        ErrorCode::OperationInterrupted | ErrorCode::OperationAborted => {
            (ErrorKind::Unavailable, true, "the operation was interrupted")
        }
        ErrorCode::SchemaChanged => {
            (ErrorKind::Unavailable, true, "the schema changed during the operation")
        }
        ErrorCode::NoLargeFileSupport => {
            (ErrorKind::Unsupported, false, "the file system cannot hold the file")
        }
        _ => (ErrorKind::Unexpected, false, "SQLite failed"),
    }
}

/// Turns an error of SQLite into ours.
pub(crate) fn map(error: rusqlite::Error) -> Error {
    let (kind, retryable, words) = match &error {
        rusqlite::Error::SqliteFailure(failure, _) => meaning(failure.code),
        rusqlite::Error::SqlInputError { error, .. } => meaning(error.code),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::InvalidColumnType(..) => {
            (ErrorKind::Corrupt, false, "a stored value is not what was written")
        }
        _ => (ErrorKind::Unexpected, false, "SQLite failed"),
    };
    let mut mapped = Error::new(kind, words).with_retryable(retryable).with_backend(BACKEND);
    if let rusqlite::Error::SqliteFailure(failure, _) = &error {
        mapped = mapped.with_context("sqlite_code", failure.extended_code.to_string());
    }
    mapped.with_source(error)
}

/// A stored value that cannot be read.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("a stored {what} is damaged")).with_backend(BACKEND)
}

/// A stored value of another type than was written.
pub(crate) fn bad_type(_: FromSqlError) -> Error {
    corrupt("value's type")
}

/// The store is closed.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Unavailable, "the store is closed")
        .with_retryable(false)
        .with_backend(BACKEND)
}

/// A thread of the store ended where it should not have.
pub(crate) fn thread_gone() -> Error {
    Error::new(ErrorKind::Unexpected, "a call panicked inside the store").with_backend(BACKEND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_kind() {
        use rusqlite::ffi;
        let table = [
            (ffi::SQLITE_BUSY, ErrorKind::Unavailable, true),
            (ffi::SQLITE_LOCKED, ErrorKind::Unavailable, true),
            (ffi::SQLITE_PROTOCOL, ErrorKind::Unavailable, true),
            (ffi::SQLITE_READONLY, ErrorKind::PermissionDenied, false),
            (ffi::SQLITE_PERM, ErrorKind::PermissionDenied, false),
            (ffi::SQLITE_AUTH, ErrorKind::PermissionDenied, false),
            (ffi::SQLITE_FULL, ErrorKind::Unavailable, false),
            (ffi::SQLITE_CORRUPT, ErrorKind::Corrupt, false),
            (ffi::SQLITE_NOTADB, ErrorKind::Corrupt, false),
            (ffi::SQLITE_CANTOPEN, ErrorKind::Unavailable, false),
            (ffi::SQLITE_IOERR, ErrorKind::Unavailable, false),
            (ffi::SQLITE_NOMEM, ErrorKind::Overloaded, true),
            (ffi::SQLITE_TOOBIG, ErrorKind::InvalidInput, false),
            (ffi::SQLITE_INTERRUPT, ErrorKind::Unavailable, true),
            (ffi::SQLITE_ABORT, ErrorKind::Unavailable, true),
            (ffi::SQLITE_SCHEMA, ErrorKind::Unavailable, true),
            (ffi::SQLITE_NOLFS, ErrorKind::Unsupported, false),
            (ffi::SQLITE_CONSTRAINT, ErrorKind::Unexpected, false),
            (ffi::SQLITE_MISMATCH, ErrorKind::Unexpected, false),
            (ffi::SQLITE_MISUSE, ErrorKind::Unexpected, false),
            (ffi::SQLITE_INTERNAL, ErrorKind::Unexpected, false),
            (ffi::SQLITE_RANGE, ErrorKind::Unexpected, false),
            (ffi::SQLITE_ERROR, ErrorKind::Unexpected, false),
        ];
        for (code, kind, retryable) in table {
            let error = map(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert_eq!(error.kind(), kind, "code {code}");
            assert_eq!(error.is_retryable(), retryable, "code {code}");
            assert_eq!(error.backend(), BACKEND);
        }
        let damaged = map(rusqlite::Error::IntegralValueOutOfRange(0, 1));
        assert_eq!(damaged.kind(), ErrorKind::Corrupt);
        assert_eq!(map(rusqlite::Error::InvalidQuery).kind(), ErrorKind::Unexpected);
    }
}

//! How a check fails: with a sentence and the place in the suite that said it.

use std::fmt;
use std::panic::Location;

use memory_core::{Error, ErrorKind};

/// What a check gives.
pub type CheckResult<T = ()> = Result<T, Failure>;

/// Why a check failed, and where in the suite.
pub struct Failure {
    message: String,
    at: &'static Location<'static>,
}

impl Failure {
    /// A failure at the caller's place.
    #[must_use]
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: Location::caller() }
    }

    /// What was wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at {})", self.message, self.at)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::new(format!("a call that should succeed failed: {error}"))
    }
}

/// Takes the error of a call that must be refused with one kind.
#[track_caller]
pub(crate) fn refused<T: fmt::Debug>(
    what: &str,
    answer: memory_core::Result<T>,
    kind: ErrorKind,
) -> CheckResult<Error> {
    match answer {
        Err(error) if error.kind() == kind => Ok(error),
        Err(error) => Err(Failure::new(format!("{what}: expected {kind}, got {error}"))),
        Ok(value) => Err(Failure::new(format!("{what}: expected {kind}, got {value:?}"))),
    }
}

/// Fails the check unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        let holds: bool = $condition;
        if !holds {
            return Err($crate::conformance::Failure::new(format!($($message)+)));
        }
    };
}

/// Fails the check unless two values are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if *left != *right {
                    return Err($crate::conformance::Failure::new(format!(
                        "{}: {left:?} is not {right:?}",
                        format_args!($($message)+)
                    )));
                }
            }
        }
    };
}

pub(crate) use {ensure, ensure_eq};

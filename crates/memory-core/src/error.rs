//! The one error of the workspace: what went wrong, whether to try again, whether it took effect.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// The result of every fallible call of the workspace.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; what a caller decides on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A thing that the call needs does not exist (an update of a missing item, say).
    /// A read of a missing item is `None`, never this.
    NotFound,
    /// A create found the id taken.
    AlreadyExists,
    /// A precondition failed because somebody else wrote; read again and decide.
    Conflict,
    /// The input breaks a rule; sending it again cannot help.
    InvalidInput,
    /// The credentials or the file's mode do not allow it.
    PermissionDenied,
    /// The back end asks for a slower pace; see [`Error::retry_after`].
    RateLimited,
    /// A queue or pool is full.
    Overloaded,
    /// A deadline passed.
    Timeout,
    /// The back end cannot be reached or cannot serve just now.
    Unavailable,
    /// The back end, or this build of it, does not offer this.
    Unsupported,
    /// Stored bytes are not what was written.
    Corrupt,
    /// The settings are wrong.
    Config,
    /// A fault that no other kind describes.
    Unexpected,
}

impl ErrorKind {
    /// Every kind, for table tests.
    pub const ALL: [Self; 13] = [
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::InvalidInput,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::Overloaded,
        Self::Timeout,
        Self::Unavailable,
        Self::Unsupported,
        Self::Corrupt,
        Self::Config,
        Self::Unexpected,
    ];

    /// The stable name, as it appears in JSON output and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Conflict => "conflict",
            Self::InvalidInput => "invalid_input",
            Self::PermissionDenied => "permission_denied",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Config => "config",
            Self::Unexpected => "unexpected",
        }
    }

    /// Whether an error of this kind is worth sending again unless it says otherwise.
    #[must_use]
    pub fn retryable_by_default(self) -> bool {
        matches!(self, Self::RateLimited | Self::Overloaded | Self::Timeout | Self::Unavailable)
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a failed call may have taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It certainly did not.
    NotApplied,
    /// It may have: the answer was lost or the commit itself failed.
    Unknown,
}

/// What went wrong, where, and what the caller can do about it.
///
/// Messages carry no memory text and no secret: a message names sizes, fields and kinds.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    retryable: bool,
    outcome: Outcome,
    message: String,
    operation: &'static str,
    backend: &'static str,
    context: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of a kind, known not to have taken effect.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                retryable: kind.retryable_by_default(),
                outcome: Outcome::NotApplied,
                message: message.into(),
                operation: "",
                backend: "",
                context: Vec::new(),
                retry_after: None,
                source: None,
            }),
        }
    }

    /// Shorthand for [`ErrorKind::InvalidInput`].
    #[must_use]
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Names the operation, unless it is named already.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        if self.inner.operation.is_empty() {
            self.inner.operation = operation;
        }
        self
    }

    /// Names the back end, unless it is named already.
    #[must_use]
    pub fn with_backend(mut self, backend: &'static str) -> Self {
        if self.inner.backend.is_empty() {
            self.inner.backend = backend;
        }
        self
    }

    /// Adds a fact to the context. Never memory text, never a secret.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.inner.context.push((key, value.into()));
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// States how long the back end asked to wait.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.inner.retry_after = Some(wait);
        self
    }

    /// Overrides whether sending it again can help.
    #[must_use]
    pub fn with_retryable(mut self, retryable: bool) -> Self {
        self.inner.retryable = retryable;
        self
    }

    /// States that the call may have taken effect.
    #[must_use]
    pub fn with_unknown_outcome(mut self) -> Self {
        self.inner.outcome = Outcome::Unknown;
        self
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Whether sending the call again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.inner.retryable
    }

    /// Whether the call may have taken effect.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.inner.outcome
    }

    /// What happened, without operation and context.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// The operation that failed, or an empty text.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// The back end that failed, or an empty text.
    #[must_use]
    pub fn backend(&self) -> &'static str {
        self.inner.backend
    }

    /// The facts added on the way up.
    #[must_use]
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.inner.context
    }

    /// How long the back end asked to wait before the next attempt.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        write!(f, "{}: {}", inner.kind, inner.message)?;
        let mut facts = Vec::new();
        if !inner.backend.is_empty() {
            facts.push(format!("backend={}", inner.backend));
        }
        if !inner.operation.is_empty() {
            facts.push(format!("operation={}", inner.operation));
        }
        facts.extend(inner.context.iter().map(|(key, value)| format!("{key}={value}")));
        if inner.outcome == Outcome::Unknown {
            facts.push("outcome=unknown".to_owned());
        }
        if !facts.is_empty() {
            write!(f, " ({})", facts.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("operation", &self.inner.operation)
            .field("backend", &self.inner.backend)
            .field("context", &self.inner.context)
            .field("retryable", &self.inner.retryable)
            .field("outcome", &self.inner.outcome)
            .field("source", &self.inner.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_kind_place_and_outcome() {
        let error = Error::new(ErrorKind::Unavailable, "the server is away")
            .with_backend("sqlite")
            .with_operation("commit")
            .with_operation("ignored")
            .with_context("attempt", "2")
            .with_unknown_outcome();
        assert_eq!(
            error.to_string(),
            "unavailable: the server is away (backend=sqlite, operation=commit, attempt=2, outcome=unknown)"
        );
        assert!(error.is_retryable());
        assert_eq!(error.outcome(), Outcome::Unknown);
    }

    #[test]
    fn names_are_distinct_and_defaults_are_safe() {
        let mut names: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, "x");
            assert_eq!(error.outcome(), Outcome::NotApplied);
            assert_eq!(error.is_retryable(), kind.retryable_by_default());
        }
        assert!(!Error::new(ErrorKind::Conflict, "x").is_retryable());
        assert!(!Error::new(ErrorKind::Overloaded, "x").with_retryable(false).is_retryable());
    }
}

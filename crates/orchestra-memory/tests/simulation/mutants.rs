//! Planted faults of the stack: each breaks one promise of the layers, and each has to be found.

use memory_core::{Error, Health, Outcome, Result};
use memory_layers::{Answer, Attempt, Call, Policy};

/// A planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// Any call of unknown outcome is sent again, the acquiring of a lease too.
    UnsafeRetried,
    /// A commit is sent again without saying that it had been sent before.
    ResendUnsaid,
    /// A call of unknown outcome is reported as one that certainly did nothing.
    UnknownReportedAsFailure,
    /// An attempt of unknown outcome is.
    AttemptReportedAsFailure,
    /// A dropped call keeps its permit.
    PermitLeaked,
    /// Retries cost nothing.
    BudgetIgnored,
    /// A call is sent more often than the settings say.
    AttemptsIgnored,
    /// The time that a server asks for is not waited.
    PaceIgnored,
    /// Nothing ends a call at its deadline.
    DeadlineIgnored,
    /// A closed stack lets calls through.
    GateMissing,
}

impl Mutant {
    /// Every one.
    pub(crate) const ALL: [Self; 10] = [
        Self::UnsafeRetried,
        Self::ResendUnsaid,
        Self::UnknownReportedAsFailure,
        Self::AttemptReportedAsFailure,
        Self::PermitLeaked,
        Self::BudgetIgnored,
        Self::AttemptsIgnored,
        Self::PaceIgnored,
        Self::DeadlineIgnored,
        Self::GateMissing,
    ];

    /// The stable name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UnsafeRetried => "unsafe_retried",
            Self::ResendUnsaid => "resend_unsaid",
            Self::UnknownReportedAsFailure => "unknown_reported_as_failure",
            Self::AttemptReportedAsFailure => "attempt_reported_as_failure",
            Self::PermitLeaked => "permit_leaked",
            Self::BudgetIgnored => "budget_ignored",
            Self::AttemptsIgnored => "attempts_ignored",
            Self::PaceIgnored => "pace_ignored",
            Self::DeadlineIgnored => "deadline_ignored",
            Self::GateMissing => "gate_missing",
        }
    }
}

/// A layer that does one thing wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Twist {
    /// Sends what failed with an unknown outcome once more, whatever it is.
    SentAgain,
    /// Says of every attempt that it is the first.
    ResendHidden,
    /// Says of every failure that nothing was applied.
    OutcomeHidden,
    /// Drops the time that the server asks for.
    PaceHidden,
    /// Drops the deadline.
    DeadlineHidden,
}

impl Policy for Twist {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        let mut attempt = call.attempt();
        match self {
            Self::ResendHidden => attempt.resend = false,
            Self::DeadlineHidden => attempt.deadline = None,
            _ => {}
        }
        let mut answer = send(attempt).await;
        if let (Self::SentAgain, Err(error)) = (self, &answer)
            && error.outcome() == Outcome::Unknown
        {
            attempt.resend = true;
            answer = send(attempt).await;
        }
        let bare = |error: &Error| {
            Error::new(error.kind(), error.message()).with_retryable(error.is_retryable())
        };
        answer.map_err(|error| match self {
            Self::OutcomeHidden => match error.retry_after() {
                Some(wait) => bare(&error).with_retry_after(wait),
                None => bare(&error),
            },
            Self::PaceHidden => match error.outcome() {
                Outcome::Unknown => bare(&error).with_unknown_outcome(),
                Outcome::NotApplied => bare(&error),
            },
            _ => error,
        })
    }

    fn health(&self, _health: &mut Health) {}

    async fn close<A>(&self, close: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        close.await
    }
}

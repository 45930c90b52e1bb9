//! The kinds of faults, and how often each struck.

use std::collections::BTreeMap;
use std::fmt;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// A request was refused before the effect.
    Refused,
    /// A request was refused with a time to wait.
    RateLimited,
    /// The server could not be reached.
    Down,
    /// A request was lost on its way, or reached a server that was down.
    RequestLost,
    /// A request took effect and its answer was lost.
    AnswerLost,
    /// A request went through a slow time.
    Slow,
    /// A request took effect after one that was sent later.
    Overtaken,
    /// A request took effect when its client had given up.
    TooLate,
    /// A client went down with all its calls.
    Crashed,
    /// A call was dropped by its caller.
    Dropped,
    /// A client closed its stack under its own calls.
    Closed,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Refused,
        Self::RateLimited,
        Self::Down,
        Self::RequestLost,
        Self::AnswerLost,
        Self::Slow,
        Self::Overtaken,
        Self::TooLate,
        Self::Crashed,
        Self::Dropped,
        Self::Closed,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RateLimited => "rate_limited",
            Self::Down => "down",
            Self::RequestLost => "request_lost",
            Self::AnswerLost => "answer_lost",
            Self::Slow => "slow",
            Self::Overtaken => "overtaken",
            Self::TooLate => "too_late",
            Self::Crashed => "crashed",
            Self::Dropped => "dropped",
            Self::Closed => "closed",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How often each kind struck.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    counts: BTreeMap<FaultKind, u64>,
}

impl FaultCounts {
    /// How often a kind struck.
    #[must_use]
    pub fn of(&self, kind: FaultKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// Counts one.
    pub(super) fn count(&mut self, kind: FaultKind) {
        *self.counts.entry(kind).or_default() += 1;
    }
}

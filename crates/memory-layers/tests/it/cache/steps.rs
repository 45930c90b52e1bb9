//! What can happen in the model, what can be wrong with it, and the faults that are planted.

/// A fault on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    FillWithoutToken,
    FillWithoutWideToken,
    CountingTokens,
    OnlyBefore,
    OnlyAfter,
    MarkWithoutEnd,
    EndTakesAnothersMark,
    JoinsAnyFlight,
    EndAfterUnknown,
    NoEndWithoutMark,
}

impl Mutant {
    pub(super) const ALL: [Self; 10] = [
        Self::FillWithoutToken,
        Self::FillWithoutWideToken,
        Self::CountingTokens,
        Self::OnlyBefore,
        Self::OnlyAfter,
        Self::MarkWithoutEnd,
        Self::EndTakesAnothersMark,
        Self::JoinsAnyFlight,
        Self::EndAfterUnknown,
        Self::NoEndWithoutMark,
    ];
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Flush,
    Evict(u8),
    MarkArrives(usize),
    MarkArrivesUnheard(usize),
    MarkIsLost(usize),
    MarkIsLate(usize),
    LateMarkArrives(usize),
    Commits(usize),
    IsRefused(usize),
    CommitsUnheard(usize),
    CommitIsLost(usize),
    CommitIsLate(usize),
    LateCommit(usize),
    Ends(usize),
    EndsUnheard(usize),
    EndIsLost(usize),
    WriterCrashes(usize),
    Asks(usize),
    Leads(usize),
    Joins(usize),
    Loads(usize),
    LoadFails(usize),
    Fills(usize),
    FillIsLost(usize),
    Hears(usize),
    ReaderCrashes(usize),
}

/// What is wrong with a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A read that began after a write gave an older value.
    Stale,
    /// The key cannot be kept again when all marks are over.
    Stuck,
}

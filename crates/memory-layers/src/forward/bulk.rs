//! A bulk writer behind a policy.
//!
//! Its answer is a list of answers, and a policy sees one call. So the policy is told the first
//! failure of a write that is worth another attempt as the failure of the attempt; the answers that
//! stand are kept here, and the next attempt sends the other writes alone. When the policy is done,
//! the answers are put together.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use memory_core::traits::{BulkObserver, BulkProgress, BulkWriter};
use memory_core::{CallContext, CommitId, Error, ErrorKind, Outcome, Result, Write, WriteResult};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};
use crate::retry::outcome_of_all;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> BulkWriter for Layered<dyn BulkWriter, P> {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        let mut call = self.of(Operation::WriteMany, context, writes.len());
        call.resend = resend;
        let load = Load::new(writes, resend, observer);
        let (inner, id, load_ref) = (&*self.inner, &id, &load);
        // What the policy says of a resend is for a call as a whole; the load knows it of each
        // write, and where the outcome of the whole is unknown, that of each is.
        let send = |attempt: Attempt| async move {
            let context = attempt.context(context);
            for part in load_ref.begin() {
                let writes = load_ref.send(&part);
                let observer = Onward { load: load_ref, base: load_ref.settled() };
                let answers = inner.write_many(&context, *id, writes, part.resend, &observer).await;
                load_ref.answered(&part, answers)?;
            }
            load_ref.told()
        };
        let ended = self.policy.run(&call, send).await;
        load.end(ended)
    }
}

/// The writes of one call and what is known of each.
struct Load<'a> {
    writes: Vec<Write>,
    resend: bool,
    observer: &'a dyn BulkObserver,
    /// Locked between awaits only.
    state: Mutex<State>,
}

struct State {
    slots: Vec<Slot>,
    /// What the observer saw last.
    shown: BulkProgress,
}

/// One write.
#[derive(Default)]
struct Slot {
    /// Its last answer.
    answer: Option<Result<WriteResult>>,
    /// Whether that answer stands.
    is_settled: bool,
    /// Whether the outcome of an attempt was unknown.
    is_unknown: bool,
    /// Whether it is under way, or was when its attempt was dropped.
    is_sent: bool,
}

/// Writes that are sent together.
struct Part {
    places: Vec<usize>,
    resend: bool,
}

impl<'a> Load<'a> {
    fn new(writes: Vec<Write>, resend: bool, observer: &'a dyn BulkObserver) -> Self {
        let mut slots = Vec::new();
        slots.resize_with(writes.len(), Slot::default);
        let shown = BulkProgress { total: writes.len() as u64, ..BulkProgress::default() };
        Self { writes, resend, observer, state: Mutex::new(State { slots, shown }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics under the lock; if something did, the slots would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What an attempt has to send: those of unknown outcome apart, for only they may find their
    /// own work.
    fn begin(&self) -> Vec<Part> {
        let state = self.state();
        let mut parts = [false, true].map(|resend| Part { places: Vec::new(), resend });
        for (place, slot) in state.slots.iter().enumerate().filter(|(_, slot)| !slot.is_settled) {
            let resend = self.resend || slot.is_unknown || slot.is_sent;
            parts[usize::from(resend)].places.push(place);
        }
        let mut parts: Vec<Part> =
            parts.into_iter().filter(|part| !part.places.is_empty()).collect();
        if self.writes.is_empty() {
            // Whether the store is open is still the store's to say.
            parts.push(Part { places: Vec::new(), resend: self.resend });
        }
        parts
    }

    /// The writes of a part, from now on under way. Shallow: items and vectors are shared.
    fn send(&self, part: &Part) -> Vec<Write> {
        let mut state = self.state();
        for &place in &part.places {
            let slot = &mut state.slots[place];
            slot.is_unknown |= slot.is_sent;
            slot.is_sent = true;
        }
        part.places.iter().map(|&place| self.writes[place].clone()).collect()
    }

    /// How many answers stand.
    fn settled(&self) -> u64 {
        self.state().slots.iter().filter(|slot| slot.is_settled).count() as u64
    }

    /// Takes the answer of a part.
    fn answered(&self, part: &Part, answers: Result<Vec<Result<WriteResult>>>) -> Result<()> {
        let answers = match answers {
            Ok(answers) if answers.len() == part.places.len() => answers,
            Ok(_) => {
                return Err(Error::new(
                    ErrorKind::Unexpected,
                    "a load was answered with another number of answers than it has writes",
                )
                .with_unknown_outcome());
            }
            Err(error) => {
                let mut state = self.state();
                for &place in &part.places {
                    let slot = &mut state.slots[place];
                    slot.is_sent = false;
                    slot.is_unknown |= error.outcome() == Outcome::Unknown;
                }
                return Err(error);
            }
        };
        let mut state = self.state();
        for (&place, answer) in part.places.iter().zip(answers) {
            let slot = &mut state.slots[place];
            slot.is_sent = false;
            slot.is_settled = match &answer {
                Ok(_) => true,
                Err(error) => {
                    slot.is_unknown |= error.outcome() == Outcome::Unknown;
                    !error.is_retryable()
                }
            };
            slot.answer = Some(answer);
        }
        drop(state);
        self.show_settled();
        Ok(())
    }

    /// What the policy is told of an attempt: that all answers stand, or the first failure that is
    /// worth another one, with the longest wait and the worst outcome of them all.
    fn told(&self) -> Result<Vec<Result<WriteResult>>> {
        let mut state = self.state();
        let open = || {
            let open = state.slots.iter().filter(|slot| !slot.is_settled);
            open.filter_map(|slot| slot.answer.as_ref()?.as_ref().err())
        };
        if let Some(first) = open().next() {
            let mut told = told(first);
            if let Some(wait) = open().filter_map(Error::retry_after).max() {
                told = told.with_retry_after(wait);
            }
            if open().any(|error| error.outcome() == Outcome::Unknown) {
                told = told.with_unknown_outcome();
            }
            return Err(told);
        }
        Ok(assembled(&mut state))
    }

    /// The answer of the call, when the policy is done.
    fn end(&self, ended: Result<Vec<Result<WriteResult>>>) -> Result<Vec<Result<WriteResult>>> {
        let answers = match ended {
            Ok(answers) => answers,
            Err(error) => {
                let mut state = self.state();
                if state.slots.is_empty() || state.slots.iter().any(|slot| slot.answer.is_none()) {
                    return Err(error);
                }
                assembled(&mut state)
            }
        };
        let failed = answers.iter().filter(|answer| answer.is_err()).count() as u64;
        self.show(|shown| BulkProgress { done: shown.total, failed, total: shown.total });
        Ok(answers)
    }

    /// Shows the answers that stand.
    fn show_settled(&self) {
        let (mut done, mut failed) = (0, 0);
        for slot in self.state().slots.iter().filter(|slot| slot.is_settled) {
            done += 1;
            failed += u64::from(slot.answer.as_ref().is_some_and(Result::is_err));
        }
        self.show(|shown| BulkProgress { done, failed, ..shown });
    }

    /// Shows the observer something that it has not seen, and never less than it has.
    fn show(&self, next: impl FnOnce(BulkProgress) -> BulkProgress) {
        let mut state = self.state();
        let last = state.shown;
        let next = next(last);
        let shown = BulkProgress {
            done: next.done.clamp(last.done, last.total),
            failed: next.failed.clamp(last.failed, last.total),
            total: last.total,
        };
        state.shown = shown;
        drop(state);
        if shown != last {
            self.observer.progress(shown);
        }
    }
}

/// A failure once more, for the policy; the write keeps the one it got.
fn told(error: &Error) -> Error {
    let told = Error::new(error.kind(), error.message())
        .with_operation(error.operation())
        .with_backend(error.backend())
        .with_retryable(error.is_retryable());
    error.context().iter().fold(told, |told, (key, value)| told.with_context(key, value.clone()))
}

/// The answer of each write, with the outcome of all attempts at it.
fn assembled(state: &mut State) -> Vec<Result<WriteResult>> {
    let take = |slot: &mut Slot| {
        let unknown = slot.is_unknown || slot.is_sent;
        let answer = slot.answer.take().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Unexpected, "a write of a load has no answer"))
        });
        answer.map_err(|error| outcome_of_all(error, unknown))
    };
    state.slots.iter_mut().map(take).collect()
}

/// Hands the progress of a part on. A failure may be sent again, so until its part has answered
/// only what succeeded counts as done.
struct Onward<'l, 'a> {
    load: &'l Load<'a>,
    /// How many answers stood when the part was sent.
    base: u64,
}

impl BulkObserver for Onward<'_, '_> {
    fn progress(&self, progress: BulkProgress) {
        let done = self.base + progress.done.saturating_sub(progress.failed);
        self.load.show(|shown| BulkProgress { done, ..shown });
    }
}

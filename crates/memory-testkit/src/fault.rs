//! A store that fails on purpose: by a script, or by chance from a seed that it prints.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Error, ErrorKind, Filter, Health, MemoryId,
    MemoryItem, Page, Projection, Query, Result,
};

use crate::generators::Generator;

/// One failure of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call is refused before it does anything, with an error of this kind, and says so.
    Refused(ErrorKind),
    /// The call does what it should and its answer is lost: outcome unknown.
    AnswerLost,
    /// The call is lost on its way and nobody can tell: nothing happens, outcome unknown.
    CallLost,
}

/// How often calls fail by chance, in percent of the calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultRates {
    /// [`Fault::Refused`], with a kind that is worth another attempt.
    pub refused: u8,
    /// [`Fault::AnswerLost`].
    pub answer_lost: u8,
    /// [`Fault::CallLost`].
    pub call_lost: u8,
}

impl FaultRates {
    /// Nothing fails by chance.
    pub const NONE: Self = Self { refused: 0, answer_lost: 0, call_lost: 0 };

    /// Each of the three faults at one rate.
    #[must_use]
    pub fn each(percent: u8) -> Self {
        Self { refused: percent, answer_lost: percent, call_lost: percent }
    }
}

/// A store of record whose calls fail; `health`, `close` and `capabilities` do not.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn RecordStore>,
    seed: u64,
    rates: FaultRates,
    plan: Mutex<Plan>,
}

#[derive(Debug)]
struct Plan {
    random: Generator,
    script: VecDeque<Option<Fault>>,
    struck: Vec<(&'static str, Fault)>,
}

impl FaultStore {
    /// Wraps a store; the seed decides which calls fail and is printed.
    #[must_use]
    #[expect(clippy::print_stderr, reason = "a failing test shows the seed to repeat it with")]
    pub fn new(inner: Arc<dyn RecordStore>, seed: u64, rates: FaultRates) -> Self {
        eprintln!("fault store: seed {seed}, {rates:?}");
        let plan =
            Plan { random: Generator::new(seed), script: VecDeque::new(), struck: Vec::new() };
        Self { inner, seed, rates, plan: Mutex::new(plan) }
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Decides the next calls, one entry each; `None` lets a call through. Afterwards chance
    /// decides again.
    pub fn script(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.plan().script.extend(faults);
    }

    /// The faults so far, each with the call it struck.
    #[must_use]
    pub fn struck(&self) -> Vec<(&'static str, Fault)> {
        self.plan().struck.clone()
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, call: &'static str) -> Option<Fault> {
        let mut plan = self.plan();
        let fault = match plan.script.pop_front() {
            Some(scripted) => scripted,
            None => {
                let rates = self.rates;
                let chance = plan.random.below(100);
                let refused = usize::from(rates.refused);
                let answers = refused + usize::from(rates.answer_lost);
                let calls = answers + usize::from(rates.call_lost);
                if chance < refused {
                    Some(Fault::Refused(*plan.random.pick(&[
                        ErrorKind::Unavailable,
                        ErrorKind::RateLimited,
                        ErrorKind::Overloaded,
                        ErrorKind::Timeout,
                    ])))
                } else if chance < answers {
                    Some(Fault::AnswerLost)
                } else if chance < calls {
                    Some(Fault::CallLost)
                } else {
                    None
                }
            }
        };
        if let Some(fault) = fault {
            plan.struck.push((call, fault));
        }
        fault
    }

    /// Runs a call under the next fault.
    async fn strike<T>(
        &self,
        call: &'static str,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let lost = |what: &str| {
            Error::new(ErrorKind::Unavailable, what.to_owned())
                .with_operation(call)
                .with_backend("fault")
                .with_unknown_outcome()
        };
        match self.next(call) {
            None => run.await,
            Some(Fault::Refused(kind)) => {
                let error = Error::new(kind, "refused on purpose")
                    .with_operation(call)
                    .with_backend("fault");
                Err(if kind == ErrorKind::RateLimited {
                    error.with_retry_after(Duration::from_millis(1))
                } else {
                    error
                })
            }
            Some(Fault::CallLost) => Err(lost("the call was lost on purpose")),
            Some(Fault::AnswerLost) => {
                // A failure of the call itself is lost with its answer.
                let _ = run.await;
                Err(lost("the answer was lost on purpose"))
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RecordStore for FaultStore {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.strike("commit", self.inner.commit(context, commit)).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.strike("fetch", self.inner.fetch(context, ids, projection)).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.strike("query", self.inner.query(context, query)).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.strike("count", self.inner.count(context, filter)).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.strike("sweep_expired", self.inner.sweep_expired(context, limit)).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.strike("erase", self.inner.erase(context, scope, resume)).await
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

//! The thread that makes up for missing vectors while its callers go on.
//!
//! It works through a queue of tenants: with each either the memories that were written without a
//! vector, or, where that is not known or too many, all that the store says lack one. It holds the
//! memory for the time of one step only, and a step ends with the last handle of a caller.
//!
//! | file | what it holds |
//! |---|---|
//! | `idle` | waiting until nothing is left to do |
//! | `queue` | what is to be done, for whom, and when |

mod idle;
mod queue;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, select};
use memory_core::{Clock as _, Error, ErrorKind, MemoryId, SystemClock, TenantId};

use crate::memory::{Held, Inner};
use crate::tenant::{EmbedRun, TenantMemory};
pub(crate) use queue::Queued;
use queue::State;

/// The queue and its thread, which starts with the first need.
#[derive(Debug, Default)]
pub(crate) struct Background {
    shared: Arc<Shared>,
    runtime: Runtime,
}

/// The runtime that a store's calls are made in, where a store needs one.
#[derive(Clone, Debug, Default)]
struct Runtime {
    handle: Option<tokio::runtime::Handle>,
}

impl Runtime {
    /// That of the caller, if it has one.
    fn current() -> Self {
        Self { handle: tokio::runtime::Handle::try_current().ok() }
    }

    /// Does something within it.
    fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _entered = self.handle.as_ref().map(tokio::runtime::Handle::enter);
        work()
    }
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Threads wait in the machine's time, whatever clock the memory goes by.
    clock: SystemClock,
}

impl Background {
    /// One whose thread makes its calls within the runtime that it is made in.
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default(), runtime: Runtime::current() }
    }

    /// Queues a tenant whose handle is used, if it was not before: an earlier process may have
    /// left something to do.
    pub(crate) fn first_use(&self, memory: &Arc<Inner>, tenant: &TenantId) {
        let mut state = self.shared.state();
        if !state.stopping && state.first_use(tenant, self.shared.now()) {
            self.wake(state, memory);
        }
    }

    /// Queues a tenant for all that it lacks, in a while: something was written whose end nobody
    /// has seen, and which the store may only come to.
    pub(crate) fn unsure(&self, memory: &Arc<Inner>, tenant: &TenantId) {
        let mut state = self.shared.state();
        if !state.stopping {
            state.unsure(tenant, self.shared.now());
            self.wake(state, memory);
        }
    }

    /// Queues what was written without a vector.
    pub(crate) fn written(&self, memory: &Arc<Inner>, tenant: &TenantId, ids: BTreeSet<MemoryId>) {
        let mut state = self.shared.state();
        if state.stopping || ids.is_empty() {
            return;
        }
        state.queue(tenant.clone(), Queued::These(ids), self.shared.now());
        self.wake(state, memory);
    }

    /// Tenants that wait or are being worked on.
    pub(crate) fn waiting(&self) -> u64 {
        self.shared.state().waiting()
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, memory: &Arc<Inner>) {
        if state.running {
            self.shared.changed.notify_all();
            return;
        }
        let (shared, weak) = (Arc::clone(&self.shared), Arc::downgrade(memory));
        let runtime = self.runtime.clone();
        let spawned = thread::Builder::new()
            .name("orchestra-embed".to_owned())
            .spawn(move || runtime.within(|| run(&shared, &weak)));
        match spawned {
            Ok(_) => state.running = true,
            // What is queued stays so, and the next need tries again.
            Err(error) => memory.embedding.note_failure(
                &Error::new(ErrorKind::Unavailable, "no thread can be started").with_source(error),
            ),
        }
    }

    /// What ends the thread once the callers' last handle is gone.
    pub(crate) fn ender(&self) -> Ender {
        Ender(Arc::clone(&self.shared))
    }

    /// Ends the thread, in the middle of a step if need be, and waits for that. What is missing
    /// stays missing.
    pub(crate) async fn stop(&self) {
        let ended = {
            let mut state = self.shared.state();
            self.shared.end(&mut state);
            if !state.running {
                return;
            }
            let (tell, ended) = oneshot::channel();
            state.ended.push(tell);
            ended
        };
        // An end without a word is an end, too.
        let _ = ended.await;
    }
}

/// Ends the thread with its own end; nobody waits for it.
#[derive(Debug)]
pub(crate) struct Ender(Arc<Shared>);

/// The last handle is gone.
impl Drop for Ender {
    fn drop(&mut self) {
        let mut state = self.0.state();
        self.0.end(&mut state);
    }
}

impl Shared {
    /// Every change leaves the state whole, so that a panic elsewhere does.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    fn end(&self, state: &mut State) {
        state.stopping = true;
        state.clear();
        state.step = None;
        state.tell_waiters();
        self.changed.notify_all();
    }

    /// The next tenant, as soon as there is one; `None` when it is time to end.
    fn next(&self) -> Option<(TenantId, EmbedRun)> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            let now = self.now();
            state.wake_rested(now);
            if let Some(turn) = state.take_turn() {
                return Some(turn);
            }
            state = match state.next_rested() {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let waited = self.changed.wait_timeout(state, at.saturating_sub(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Takes in what came of a step.
    fn take_in(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.tell_waiters();
    }

    /// Begins a step; the answer ends when the step has to. `None`: it must not begin.
    fn begin_step(&self) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        let (step, ended) = oneshot::channel();
        (!state.stopping).then(|| {
            state.step = Some(step);
            ended
        })
    }
}

/// What came of a step.
enum Step {
    /// With the pass, if more steps are left.
    Done(Option<EmbedRun>),
    /// The memory is closed or gone.
    Ended,
    Failed(Error),
}

/// The thread.
fn run(shared: &Shared, memory: &Weak<Inner>) {
    while let Some((tenant, run)) = shared.next() {
        let stepped = catch_unwind(AssertUnwindSafe(|| step(shared, memory, &tenant, run)));
        let stepped = stepped.unwrap_or_else(|_| {
            Step::Failed(Error::new(ErrorKind::Unexpected, "the embedding model panicked"))
        });
        match stepped {
            Step::Done(run) => shared.take_in(|state| state.stepped(tenant, run)),
            Step::Ended => break,
            Step::Failed(error) => {
                if let Some(memory) = memory.upgrade() {
                    memory.embedding.note_failure(&error);
                }
                // A fence is lifted some time; what is wrong for good waits for the next use.
                let again = error.is_retryable() || error.kind() == ErrorKind::Conflict;
                let (asked, now) = (error.retry_after(), shared.now());
                shared.take_in(|state| state.failed(tenant, again, asked, now));
            }
        }
    }
    let mut state = shared.state();
    state.running = false;
    state.at_work = None;
    for tell in state.ended.drain(..) {
        // Whoever asked may have gone.
        let _ = tell.send(());
    }
    state.tell_waiters();
}

fn step(shared: &Shared, memory: &Weak<Inner>, tenant: &TenantId, mut run: EmbedRun) -> Step {
    let Some(memory) = memory.upgrade() else { return Step::Ended };
    let Some(ended) = shared.begin_step() else { return Step::Ended };
    let handle = TenantMemory::new(Held::of_background(memory), tenant.clone());
    let stepped = {
        let step = std::pin::pin!(handle.embed_step(&mut run));
        match block_on(select(step, ended)) {
            Either::Left((stepped, _)) => stepped,
            Either::Right(_) => return Step::Ended,
        }
    };
    match stepped {
        Ok(more) => Step::Done(more.then_some(run)),
        Err(error) => Step::Failed(error),
    }
}

//! The thread that makes up for missing vectors while its callers go on.
//!
//! It works through a queue of tenants: with each either the memories that were written without a
//! vector, or, where that is not known or too many, all that the store says lack one. It holds the
//! memory for the time of one step only, so that the last handle's end is its end.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use futures::channel::oneshot;
use futures::executor::block_on;
use futures::future::{Either, select};
use memory_core::limits::FETCH_IDS;
use memory_core::{Error, ErrorKind, MemoryId, Result, TenantId};

use crate::memory::Inner;
use crate::tenant::{EmbedRun, TenantMemory};

/// First pause after a failure. 1 s: a server that restarts is back after some of them.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause after failures. 60 s: what was away for long is asked once a minute.
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Most tenants remembered as looked at; more, and all are forgotten, which costs each one walk
/// through its items. 10,000: with names of usual lengths two megabytes.
const MOST_SEEN: usize = 10_000;

/// What is to be done for a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    /// Whatever lacks a vector.
    All,
    /// These memories, as far as they lack one: at most 1,000, for more than a fetch may have are
    /// found as well by asking the store.
    These(BTreeSet<MemoryId>),
}

impl Queued {
    fn add(&mut self, other: Self) {
        if let (Self::These(ids), Self::These(more)) = (&mut *self, other) {
            ids.extend(more);
            if ids.len() <= FETCH_IDS {
                return;
            }
        }
        *self = Self::All;
    }
}

/// The queue and its thread, which starts with the first need.
#[derive(Debug, Default)]
pub(crate) struct Background {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In turn; each is a key of `wanted`.
    turns: VecDeque<TenantId>,
    wanted: HashMap<TenantId, Queued>,
    /// Tenants that were queued for all that they lack since the memory was opened.
    seen: HashSet<TenantId>,
    /// The tenant that is being worked on or waits out a pause.
    at_work: Option<TenantId>,
    running: bool,
    stopping: bool,
    /// Ends the step at hand by being dropped.
    step: Option<oneshot::Sender<()>>,
    /// Told when the thread has ended.
    ended: Vec<oneshot::Sender<()>>,
}

impl State {
    fn is_idle(&self) -> bool {
        self.at_work.is_none() && self.turns.is_empty()
    }

    fn queue(&mut self, tenant: TenantId, what: Queued) {
        match self.wanted.get_mut(&tenant) {
            Some(queued) => queued.add(what),
            None => {
                self.wanted.insert(tenant.clone(), what);
                self.turns.push_back(tenant);
            }
        }
    }
}

impl Background {
    /// Queues a tenant whose handle is used, if it was not before: an earlier process may have
    /// left something to do.
    pub(crate) fn first_use(&self, memory: &Arc<Inner>, tenant: &TenantId) {
        let mut state = self.shared.state();
        if state.stopping || state.seen.contains(tenant) {
            return;
        }
        if state.seen.len() >= MOST_SEEN {
            state.seen.clear();
        }
        state.seen.insert(tenant.clone());
        state.queue(tenant.clone(), Queued::All);
        self.wake(state, memory);
    }

    /// Queues what was written without a vector.
    pub(crate) fn written(&self, memory: &Arc<Inner>, tenant: &TenantId, ids: BTreeSet<MemoryId>) {
        let mut state = self.shared.state();
        if state.stopping || ids.is_empty() {
            return;
        }
        state.queue(tenant.clone(), Queued::These(ids));
        self.wake(state, memory);
    }

    /// Tenants that wait or are being worked on.
    pub(crate) fn waiting(&self) -> u64 {
        let state = self.shared.state();
        // What is worked on may have been queued again meanwhile.
        let also = state.at_work.as_ref().is_some_and(|tenant| !state.wanted.contains_key(tenant));
        state.turns.len() as u64 + u64::from(also)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, memory: &Arc<Inner>) {
        if state.running {
            self.shared.changed.notify_all();
            return;
        }
        let (shared, weak) = (Arc::clone(&self.shared), Arc::downgrade(memory));
        let spawned = thread::Builder::new()
            .name("orchestra-embed".to_owned())
            .spawn(move || run(&shared, &weak));
        match spawned {
            Ok(_) => state.running = true,
            // What is queued stays so, and the next need tries again.
            Err(error) => memory.embedding.note_failure(
                &Error::new(ErrorKind::Unavailable, "no thread can be started").with_source(error),
            ),
        }
    }

    /// Waits until nothing is left to do, `most` at the longest.
    ///
    /// # Errors
    /// `Timeout`: something is. `Unavailable`: the memory is closed, or no thread that could wait
    /// can be started.
    pub(crate) async fn idle(&self, most: Duration) -> Result<()> {
        let (mut idle, mut closed) = self.shared.is_idle();
        if !idle && !closed {
            // No runtime is assumed that could measure the time.
            let shared = Arc::clone(&self.shared);
            let (tell, told) = oneshot::channel();
            let wait = move || {
                let busy = |state: &mut State| !state.is_idle() && !state.stopping;
                let waited = shared.changed.wait_timeout_while(shared.state(), most, busy);
                let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
                // Whoever asked may have gone.
                let _ = tell.send((state.is_idle(), state.stopping));
            };
            let spawned =
                thread::Builder::new().name("orchestra-embed-idle".to_owned()).spawn(wait);
            spawned.map_err(|error| unavailable("no thread can be started").with_source(error))?;
            (idle, closed) = told.await.unwrap_or((false, false));
        }
        match (idle, closed) {
            (_, true) => Err(unavailable("the memory is closed")),
            (true, false) => Ok(()),
            (false, false) => Err(Error::new(
                ErrorKind::Timeout,
                format!("vectors are still being made for {} tenants", self.waiting()),
            )
            .with_operation("embedding_idle")),
        }
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

/// The last handle is gone: the thread ends by itself, and nobody waits for it.
impl Drop for Background {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        self.shared.end(&mut state);
    }
}

fn unavailable(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_operation("embedding_idle")
}

impl Shared {
    /// Whether nothing is left to do, and whether the memory is closed.
    fn is_idle(&self) -> (bool, bool) {
        let state = self.state();
        (state.is_idle(), state.stopping)
    }

    /// Every change leaves the state whole, so that a panic elsewhere does.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, state: &mut State) {
        state.stopping = true;
        state.turns.clear();
        state.wanted.clear();
        state.step = None;
        self.changed.notify_all();
    }

    /// The next tenant, as soon as there is one; `None` when it is time to end.
    fn next(&self) -> Option<(TenantId, Queued)> {
        let mut state = self.state();
        state.at_work = None;
        self.changed.notify_all();
        loop {
            if state.stopping {
                return None;
            }
            if let Some(tenant) = state.turns.pop_front() {
                let queued = state.wanted.remove(&tenant).unwrap_or(Queued::All);
                state.at_work = Some(tenant.clone());
                return Some((tenant, queued));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits out a pause after a failure, with the tenant back in the queue if another attempt is
    /// worth it, and otherwise from its next use on.
    fn pause(&self, pause: Duration, tenant: TenantId, again: bool) {
        let mut state = self.state();
        if state.stopping {
            return;
        }
        match again {
            true => state.queue(tenant, Queued::All),
            false => {
                state.seen.remove(&tenant);
                // Nobody waits for what is not tried again.
                state.at_work = None;
                self.changed.notify_all();
            }
        }
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.stopping);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
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

/// What came of the work for a tenant.
enum Work {
    Done,
    /// The memory is closed or gone.
    Ended,
    Failed(Error),
}

/// The thread.
fn run(shared: &Shared, memory: &Weak<Inner>) {
    let mut pauses = Pauses::default();
    while let Some((tenant, queued)) = shared.next() {
        let worked = catch_unwind(AssertUnwindSafe(|| work(shared, memory, &tenant, queued)));
        let worked = worked.unwrap_or_else(|_| {
            Work::Failed(Error::new(ErrorKind::Unexpected, "the embedding model panicked"))
        });
        match worked {
            Work::Done => pauses = Pauses::default(),
            Work::Ended => break,
            Work::Failed(error) => {
                if let Some(memory) = memory.upgrade() {
                    memory.embedding.note_failure(&error);
                }
                // A fence is lifted some time; what is wrong for good waits for the next use.
                let again = error.is_retryable() || error.kind() == ErrorKind::Conflict;
                shared.pause(pauses.next(error.retry_after()), tenant, again);
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
    shared.changed.notify_all();
}

fn work(shared: &Shared, memory: &Weak<Inner>, tenant: &TenantId, queued: Queued) -> Work {
    let mut run = EmbedRun::of(queued);
    loop {
        let Some(memory) = memory.upgrade() else { return Work::Ended };
        let Some(ended) = shared.begin_step() else { return Work::Ended };
        let handle = TenantMemory::new(memory, tenant.clone());
        let stepped = {
            let step = std::pin::pin!(handle.embed_step(&mut run));
            match block_on(select(step, ended)) {
                Either::Left((stepped, _)) => stepped,
                Either::Right(_) => return Work::Ended,
            }
        };
        match stepped {
            Ok(true) => {}
            Ok(false) => return Work::Done,
            Err(error) => return Work::Failed(error),
        }
    }
}

/// Growing pauses.
#[derive(Debug, Default)]
struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// Twice as long as the one before, or as long as was asked for, within the bounds.
    fn next(&mut self, asked: Option<Duration>) -> Duration {
        let pause = self.last.map_or(FIRST_PAUSE, |last| last.saturating_mul(2).min(MOST_PAUSE));
        self.last = Some(pause);
        asked.unwrap_or(pause).clamp(pause, MOST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> MemoryId {
        MemoryId::new(text).unwrap()
    }

    #[test]
    fn pauses_grow_within_their_bounds() {
        let mut pauses = Pauses::default();
        let seconds: Vec<u64> = (0..8).map(|_| pauses.next(None).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        let mut pauses = Pauses::default();
        assert_eq!(pauses.next(Some(Duration::from_secs(5))).as_secs(), 5);
        assert_eq!(pauses.next(Some(Duration::from_secs(1))).as_secs(), 2, "not sooner");
        assert_eq!(pauses.next(Some(Duration::MAX)).as_secs(), 60);
    }

    #[test]
    fn what_is_queued_for_a_tenant_adds_up_to_a_bound() {
        let tenant = TenantId::new("t").unwrap();
        let mut state = State::default();
        let these = |ids: &[&str]| Queued::These(ids.iter().copied().map(id).collect());
        state.queue(tenant.clone(), these(&["a"]));
        state.queue(tenant.clone(), these(&["a", "b"]));
        assert_eq!(state.wanted[&tenant], these(&["a", "b"]));
        assert_eq!(state.turns.len(), 1, "a tenant stands in the queue once");
        let many = (0..FETCH_IDS).map(|n| id(&n.to_string())).collect();
        state.queue(tenant.clone(), Queued::These(many));
        assert_eq!(state.wanted[&tenant], Queued::All);
        state.queue(tenant.clone(), these(&["c"]));
        assert_eq!(state.wanted[&tenant], Queued::All);
        let other = TenantId::new("o").unwrap();
        state.queue(other.clone(), Queued::All);
        assert_eq!(state.turns, [tenant, other]);
    }
}

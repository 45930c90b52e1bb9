//! One worker of a client: makes calls, and writes down what it asked for and was told.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use memory_core::traits::Lease;
use memory_core::{CallContext, Clock as _, ConsumerName, Deadline, Result};
use tokio::time::timeout;

use super::faults::FaultKind;
use super::history::{Ask, Call, History, IDS, ROOMS, Reply, Wish};
use super::link::CALL;
use super::server::{Server, room_context};
use super::stack::{Parts, Stack};
use crate::generators::Generator;

/// How long a worker waits for an answer before it drops the call, where nothing else ends it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all clients of a run share.
pub(super) struct World {
    pub(super) server: Arc<Server>,
    pub(super) history: Arc<History>,
    pub(super) stack: Arc<dyn Stack>,
    pub(super) processes: AtomicUsize,
    pub(super) requests: AtomicU64,
    pub(super) seed: u64,
}

impl World {
    pub(super) fn at(&self) -> Duration {
        self.server.clock.monotonic()
    }
}

/// A request under an idempotency key whose outcome its caller does not know yet.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) request: u64,
    pub(super) wishes: Vec<Wish>,
    pub(super) left: u32,
}

/// What a worker keeps on a disk of its own, so that it is there after a crash.
#[derive(Debug)]
pub(super) struct Kept {
    /// Steps of the work that are left.
    pub(super) steps: usize,
    pub(super) pending: Vec<Pending>,
    pub(super) random: Generator,
}

/// Shared with whoever starts the worker again.
pub(super) type Notebook = Arc<Mutex<Kept>>;

/// One worker of one process.
pub(super) struct Worker {
    pub(super) world: Arc<World>,
    pub(super) process: usize,
    /// Distinct among all workers, and the same after a crash.
    pub(super) number: usize,
    pub(super) parts: Parts,
    pub(super) kept: Notebook,
    pub(super) random: Generator,
    /// Set when the process is about to close.
    pub(super) closing: Arc<AtomicBool>,
    /// The revisions that it believes in.
    pub(super) known: [[Option<u64>; IDS]; ROOMS],
    pub(super) lease: Option<(&'static str, Lease)>,
    /// Where its consumer stands, once it has asked.
    pub(super) positions: [Option<u64>; ROOMS],
    /// Whether all faults have ended: then it drops nothing.
    pub(super) calm: bool,
}

impl Worker {
    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its consumer of the change log.
    #[expect(clippy::expect_used, reason = "a fixed name passes the id rules")]
    pub(super) fn consumer(number: usize) -> ConsumerName {
        ConsumerName::new(format!("worker{number}")).expect("a fixed name")
    }

    /// A context in a room, with a deadline in some calls.
    pub(super) fn context(&mut self, room: usize) -> CallContext {
        let context = room_context(room);
        if self.calm || self.random.below(4) > 0 {
            return context;
        }
        let span = Duration::from_millis(5 + self.random.below(2_000) as u64);
        context.with_deadline(Some(Deadline::at(self.world.at() + span)))
    }

    /// Makes a call and writes it down; `None` if it was dropped.
    pub(super) async fn call<T>(
        &mut self,
        context: &CallContext,
        ask: Ask,
        future: BoxFuture<'_, Result<T>>,
        reply: impl FnOnce(&T) -> Reply,
    ) -> Option<Result<T>> {
        let room = super::server::room_of(context);
        let now = self.world.at();
        let number = {
            let mut log = self.world.history.log();
            let began = log.mark(now);
            let deadline = context.deadline.map(|deadline| now + deadline.remaining(now));
            let (process, worker, calm) = (self.process, self.number, self.calm);
            log.calls.push(Call { process, worker, room, ask, deadline, calm, began, ended: None });
            log.calls.len() - 1
        };
        let dropped = !self.calm && self.random.below(12) == 0;
        let polls = self.random.below(16);
        let wait = Duration::from_millis(1 + self.random.below(60) as u64);
        let future = CALL.scope(number, future);
        let answer = match (dropped, polls.is_multiple_of(2)) {
            (true, true) => {
                // Without an answer it may never be polled again.
                let call = DropAfter { polls, future: Box::pin(future) };
                timeout(PATIENCE, call).await.ok().flatten()
            }
            (true, false) => timeout(wait, future).await.ok(),
            (false, _) => timeout(PATIENCE, future).await.ok(),
        };
        let told = match &answer {
            None => {
                self.world.server.count(FaultKind::Dropped);
                Reply::Dropped
            }
            Some(Ok(answer)) => reply(answer),
            Some(Err(error)) => Reply::failed(error),
        };
        let mut log = self.world.history.log();
        let mark = log.mark(self.world.at());
        log.calls[number].ended = Some((mark, told));
        answer
    }

    /// Whether there is more to do.
    pub(super) fn goes_on(&mut self) -> bool {
        // One more step when the process closes, which the gate has to turn away.
        let closing = self.closing.load(Ordering::Relaxed);
        let mut kept = self.kept();
        if kept.steps == 0 || closing {
            return false;
        }
        kept.steps -= 1;
        true
    }
}

/// A future that is dropped after so many polls, if it has not ended.
pub(super) struct DropAfter<F> {
    pub(super) polls: usize,
    pub(super) future: Pin<Box<F>>,
}

impl<F: Future> Future for DropAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls == 0 {
            return Poll::Ready(None);
        }
        self.polls -= 1;
        let answer = self.future.as_mut().poll(context).map(Some);
        if answer.is_pending() && self.polls == 0 {
            return Poll::Ready(None);
        }
        answer
    }
}

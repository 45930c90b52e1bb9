//! What the tests of retries, timeouts and cancellation stand on: time by hand, and futures that
//! are polled by hand.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::{
    CallContext, Clock, CommitId, IdSource, ManualClock, MemoryId, TenantId, Timer, Timestamp,
};
use memory_testkit::generators::Generator;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A timer that goes by a clock which stands still until it is told to move.
#[derive(Debug)]
pub(crate) struct Time {
    pub(crate) clock: Arc<ManualClock>,
    /// Whether a wait moves the clock on and is over at once.
    jumps: bool,
    live: AtomicUsize,
    waits: Mutex<Vec<Duration>>,
}

impl Time {
    /// Waits end when the test moves the clock.
    pub(crate) fn by_hand() -> Arc<Self> {
        Self::new(false)
    }

    /// Waits move the clock by themselves.
    pub(crate) fn jumping() -> Arc<Self> {
        Self::new(true)
    }

    fn new(jumps: bool) -> Arc<Self> {
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(1_000_000).unwrap()));
        Arc::new(Self { clock, jumps, live: AtomicUsize::new(0), waits: Mutex::default() })
    }

    /// Waits that are under way.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// All waits that were begun.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.waits.lock().unwrap().clone()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}

struct Live<'a>(&'a AtomicUsize);

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Timer for Time {
    async fn sleep(&self, span: Duration) {
        self.waits.lock().unwrap().push(span);
        self.live.fetch_add(1, Ordering::SeqCst);
        let _live = Live(&self.live);
        if self.jumps {
            self.clock.advance(span);
            return;
        }
        let end = self.clock.monotonic() + span;
        let is_over = || self.clock.monotonic() >= end;
        poll_fn(|_| if is_over() { Poll::Ready(()) } else { Poll::Pending }).await;
    }
}

/// Ids from a seed.
#[derive(Debug)]
pub(crate) struct Drawn(Mutex<Generator>);

impl Drawn {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Generator::new(seed))))
    }

    fn bytes(&self) -> [u8; 16] {
        let mut random = self.0.lock().unwrap();
        (u128::from(random.bits()) << 64 | u128::from(random.bits())).to_be_bytes()
    }
}

impl IdSource for Drawn {
    fn memory_id(&self) -> MemoryId {
        MemoryId::new(format!("{:032x}", u128::from_be_bytes(self.bytes()))).unwrap()
    }
    fn commit_id(&self) -> CommitId {
        CommitId::from_bytes(self.bytes())
    }
}

/// Ids whose bytes are all the same: the longest or the shortest wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Same(pub(crate) u8);

impl IdSource for Same {
    fn memory_id(&self) -> MemoryId {
        MemoryId::new("same").unwrap()
    }
    fn commit_id(&self) -> CommitId {
        CommitId::from_bytes([self.0; 16])
    }
}

pub(crate) type Task<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One step.
pub(crate) fn step<T>(task: &mut Task<'_, T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// All steps of a future that waits for nothing but the jumping time.
pub(crate) fn finish<'a, T>(task: impl Future<Output = T> + Send + 'a) -> T {
    let mut task: Task<'a, T> = Box::pin(task);
    for _ in 0..10_000 {
        if let Poll::Ready(answer) = step(&mut task) {
            return answer;
        }
    }
    panic!("the future waits for something that does not come");
}

/// Gives way `times` times.
pub(crate) async fn give_way(times: usize) {
    let mut left = times;
    poll_fn(|_| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        Poll::Pending
    })
    .await;
}

pub(crate) fn tenant() -> CallContext {
    CallContext::new(TenantId::new("acme").unwrap())
}

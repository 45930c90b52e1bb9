//! Calls by hand: started, held, let go, dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use memory_core::{CallContext, Clock, Deadline, Error, Health, Result, TenantId, Timestamp};
use memory_layers::{
    Call, ConcurrencyLimitLayer, LimitSettings, Operation, Policy as _, TokioTimer,
};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The paused time of the runtime.
#[derive(Debug)]
pub(crate) struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::MIN.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A limit and a back end whose calls end when they are told to.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) limit: ConcurrencyLimitLayer,
    clock: Arc<PausedClock>,
    /// Its permits end calls.
    pub(crate) ends: Arc<Semaphore>,
}

/// A call under way.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Bench {
    pub(crate) fn new(settings: LimitSettings) -> Self {
        let clock = Arc::new(PausedClock(Instant::now()));
        let timer = Arc::new(TokioTimer);
        let limit = ConcurrencyLimitLayer::new(settings, clock.clone(), timer).unwrap();
        Self { limit, clock, ends: Arc::new(Semaphore::new(0)) }
    }

    /// A limit of `permits` that stays, with a queue of `queue`.
    pub(crate) fn fixed(permits: u32, queue: u32) -> Self {
        let settings = LimitSettings {
            min: permits,
            max: permits,
            start: permits,
            queue,
            queue_wait_ms: 0,
            ..LimitSettings::default()
        };
        Self::new(settings)
    }

    /// A call with so many milliseconds of time, from now; it ends with `answer` once it is let.
    pub(crate) fn call_with(&self, left: Option<u64>, answer: fn() -> Result<()>) -> Running {
        let (limit, ends) = (self.limit.clone(), Arc::clone(&self.ends));
        let deadline = left.map(|left| Deadline::at(self.clock.monotonic() + ms(left)));
        Box::pin(async move {
            let context = CallContext::new(TenantId::new("t").unwrap()).with_deadline(deadline);
            let call = Call {
                operation: Operation::Fetch,
                backend: "held",
                context: Some(&context),
                asked: 1,
                resend: false,
            };
            limit
                .run(&call, |_| async {
                    ends.acquire().await.unwrap().forget();
                    answer()
                })
                .await
        })
    }

    pub(crate) fn call(&self) -> Running {
        self.call_with(None, || Ok(()))
    }

    /// A call on a task of its own, which has been polled when this returns.
    pub(crate) async fn start(&self) -> JoinHandle<Result<()>> {
        let task = tokio::spawn(self.call());
        settle().await;
        task
    }

    /// Ends so many calls.
    pub(crate) async fn end(&self, calls: usize) {
        self.ends.add_permits(calls);
        settle().await;
    }

    /// Calls under way, and calls that wait.
    pub(crate) fn counts(&self) -> (u32, u32) {
        let stats = self.limit.stats();
        (stats.in_flight, stats.queued)
    }

    pub(crate) fn health(&self) -> Health {
        let mut health = Health::healthy();
        self.limit.health(&mut health);
        health
    }
}

/// Lets every task run until all wait, without letting time pass.
pub(crate) async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// Polls once.
pub(crate) fn poll(call: &mut Running) -> Poll<Result<()>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// The error of a call that has failed.
pub(crate) fn failure(call: &mut Running) -> Error {
    match poll(call) {
        Poll::Ready(answer) => answer.unwrap_err(),
        Poll::Pending => panic!("the call has not ended"),
    }
}

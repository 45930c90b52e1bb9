//! A server whose capacity halves and recovers, and the calls of a client that does not ask how the
//! server is: an open loop. In virtual time, so that it takes seconds and is the same in every run.
//!
//! The server has workers and a queue without a bound, first come first served. It works on every
//! request, also when the client has given up: a server does not know. Arrivals and durations come
//! from a seed and are the same for both clients. All durations are whole milliseconds, the
//! precision of the runtime's timers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::{
    CallContext, Clock, Deadline, Error, ErrorKind, Result, TenantId, Timer, Timestamp,
};
use memory_layers::{Call, ConcurrencyLimitLayer, LimitSettings, Operation, Policy, TokioTimer};
use memory_testkit::generators::Generator;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Workers of the server in each phase.
pub(crate) const WORKERS: [u32; 3] = [16, 8, 16];
/// How long a phase lasts, in seconds.
pub(crate) const PHASE: u64 = 30;
/// How long a request takes a worker at the least, in milliseconds. As much again is added at
/// random, exponentially distributed.
const SERVICE: u64 = 10;
/// Requests that one worker serves in a second.
pub(crate) const PER_WORKER: u32 = 50;
/// Calls that arrive in a second, at random: 85 % of the capacity, and 170 % of half of it.
pub(crate) const LOAD: u32 = 680;
/// After how long a client gives up, in milliseconds.
pub(crate) const PATIENCE: u64 = 250;
/// What everything random comes from.
pub(crate) const SEED: u64 = 6;

/// The limited client's settings: the defaults, save that the queue is as long as the wait that the
/// client's patience allows: 16 calls, 40 ms at half the capacity.
pub(crate) fn settings() -> LimitSettings {
    LimitSettings { queue: 16, ..LimitSettings::default() }
}

/// The paused time of the runtime.
#[derive(Debug)]
struct PausedClock {
    origin: Instant,
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::MIN.saturating_add(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Answered within the client's patience.
    Answered,
    /// Refused by the limit, at once or after a wait.
    Refused,
    /// Not answered in time.
    TimedOut,
}

/// One call, in milliseconds since the start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) arrived: u64,
    pub(crate) took: u64,
    pub(crate) fate: Fate,
}

/// What one client met.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) records: Vec<Record>,
    /// The limit at the end of each second; empty without one.
    pub(crate) limits: Vec<u32>,
}

/// Figures of a span of time. Calls belong to the moment of their arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Answers in time, a second.
    pub(crate) goodput: f64,
    /// Calls refused by the limit, a second.
    pub(crate) refused: f64,
    /// Calls given up, a second.
    pub(crate) timed_out: f64,
    /// 99 of 100 answered calls took no longer, in milliseconds; `None` without an answer.
    pub(crate) p99: Option<u64>,
}

impl Run {
    /// The figures from one second to another.
    pub(crate) fn figures(&self, from: u64, to: u64) -> Figures {
        let range = from * 1_000..to * 1_000;
        let calls = || self.records.iter().filter(|record| range.contains(&record.arrived));
        let rate = |fate| {
            let count = calls().filter(|record| record.fate == fate).count();
            f64::from(u32::try_from(count).unwrap_or(u32::MAX))
                / f64::from(u32::try_from(to - from).unwrap_or(1))
        };
        let answered = calls().filter(|record| record.fate == Fate::Answered);
        let mut took: Vec<_> = answered.map(|record| record.took).collect();
        took.sort_unstable();
        let p99 = took.get((took.len() * 99).div_ceil(100).saturating_sub(1)).copied();
        Figures {
            goodput: rate(Fate::Answered),
            refused: rate(Fate::Refused),
            timed_out: rate(Fate::TimedOut),
            p99,
        }
    }
}

/// A request in the server's queue: how long it takes, and whom to tell.
type Request = (Duration, oneshot::Sender<()>);

#[derive(Debug)]
struct Server {
    state: Mutex<Floor>,
}

#[derive(Debug)]
struct Floor {
    workers: u32,
    busy: u32,
    queue: VecDeque<Request>,
}

impl Server {
    fn floor(&self) -> MutexGuard<'_, Floor> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_workers(self: &Arc<Self>, workers: u32) {
        self.floor().workers = workers;
        self.begin();
    }

    fn send(self: &Arc<Self>, service: Duration) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.floor().queue.push_back((service, done));
        self.begin();
        answer
    }

    /// Gives requests to workers who have none.
    fn begin(self: &Arc<Self>) {
        let mut floor = self.floor();
        while floor.busy < floor.workers
            && let Some((service, done)) = floor.queue.pop_front()
        {
            floor.busy += 1;
            let server = Arc::clone(self);
            tokio::spawn(async move {
                sleep(service).await;
                // The client may be gone.
                let _ = done.send(());
                server.floor().busy -= 1;
                server.begin();
            });
        }
    }
}

/// Random numbers that are the same on every machine.
struct Chance(Generator);

impl Chance {
    /// Exponentially distributed with mean 1: the negative logarithm of a uniform number, by sums
    /// and products alone, for the library function may differ in the last bit.
    fn exponential(&mut self) -> f64 {
        let bits = self.0.bits() >> 11;
        let (mut uniform, mut sum) = (1.0, 0.0);
        for place in 0..53 {
            uniform /= 2.0;
            if bits >> place & 1 == 1 {
                sum += uniform;
            }
        }
        // (0, 1], scaled to (1/2, 1] times a power of two.
        let (mut rest, mut logarithm) = (1.0 - sum, 0.0);
        while rest <= 0.5 {
            rest *= 2.0;
            logarithm += std::f64::consts::LN_2;
        }
        // ln((1 + z) / (1 - z)) = 2 (z + z^3 / 3 + z^5 / 5 + ...), with |z| <= 1/3.
        let z = (1.0 - rest) / (1.0 + rest);
        let (mut power, mut odd) = (z, 1.0);
        while odd < 40.0 {
            logarithm += 2.0 * power / odd;
            power *= z * z;
            odd += 2.0;
        }
        logarithm
    }

    /// The whole milliseconds nearest to an exponentially distributed span.
    fn span(&mut self, mean: u64) -> u64 {
        let mean = Duration::from_millis(mean);
        let span = mean.mul_f64(self.exponential()) + Duration::from_micros(500);
        u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Arrivals in milliseconds, each with the time that it takes a worker.
fn calls() -> Vec<(u64, Duration)> {
    let mut arrivals = Chance(Generator::new(SEED));
    let mut services = Chance(Generator::new(SEED + 1));
    let end = Duration::from_secs(PHASE * WORKERS.len() as u64);
    let mut at = Duration::ZERO;
    let mut calls = Vec::new();
    loop {
        at += Duration::from_secs(1).mul_f64(arrivals.exponential() / f64::from(LOAD));
        if at >= end {
            return calls;
        }
        let service = Duration::from_millis(SERVICE + services.span(SERVICE));
        calls.push((u64::try_from(at.as_millis()).unwrap_or(u64::MAX), service));
    }
}

/// One call at the server, given up at its deadline.
async fn request(
    server: &Arc<Server>,
    service: Duration,
    deadline: Option<Deadline>,
    clock: &PausedClock,
) -> Result<()> {
    let left = deadline.map_or(Duration::MAX, |by| by.remaining(clock.monotonic()));
    match timeout(left, server.send(service)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Error::new(ErrorKind::Unavailable, "the server is gone")),
        Err(_) => Err(Error::new(ErrorKind::Timeout, "no answer in time").with_unknown_outcome()),
    }
}

/// Runs the experiment with a limit or without one.
///
/// # Errors
/// Settings that are out of their range.
pub(crate) fn run(limit: Option<LimitSettings>) -> Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Error::new(ErrorKind::Unexpected, error.to_string()))?;
    runtime.block_on(drive(limit))
}

async fn drive(limit: Option<LimitSettings>) -> Result<Run> {
    let clock = Arc::new(PausedClock { origin: Instant::now() });
    let timer: Arc<dyn Timer> = Arc::new(TokioTimer);
    let limit = limit
        .map(|settings| ConcurrencyLimitLayer::new(settings, clock.clone(), timer))
        .transpose()?;
    let floor = Floor { workers: WORKERS[0], busy: 0, queue: VecDeque::new() };
    let server = Arc::new(Server { state: Mutex::new(floor) });
    let manager = Arc::clone(&server);
    tokio::spawn(async move {
        for workers in WORKERS {
            manager.set_workers(workers);
            sleep(Duration::from_secs(PHASE)).await;
        }
    });
    let watched = limit.clone();
    let limits = tokio::spawn(async move {
        let mut limits = Vec::new();
        for _ in 0..PHASE * WORKERS.len() as u64 {
            sleep(Duration::from_secs(1)).await;
            limits.extend(watched.as_ref().map(|layer| layer.stats().limit));
        }
        limits
    });
    let tenant = TenantId::new("overload")?;
    let mut running = Vec::new();
    for (arrived, service) in calls() {
        let at = Duration::from_millis(arrived);
        sleep_until(clock.origin + at).await;
        let (server, clock) = (Arc::clone(&server), Arc::clone(&clock));
        let deadline = Deadline::at(at + Duration::from_millis(PATIENCE));
        let context = CallContext::new(tenant.clone()).with_deadline(Some(deadline));
        let limit = limit.clone();
        running.push(tokio::spawn(async move {
            let call = Call {
                operation: Operation::Fetch,
                backend: "server",
                context: Some(&context),
                asked: 1,
                resend: false,
            };
            let answer = match limit {
                Some(limit) => {
                    limit.run(&call, |a| request(&server, service, a.deadline, &clock)).await
                }
                None => request(&server, service, call.deadline(), &clock).await,
            };
            let fate = match answer.map_err(|error| error.kind()) {
                Ok(()) => Fate::Answered,
                Err(ErrorKind::Overloaded) => Fate::Refused,
                Err(_) => Fate::TimedOut,
            };
            let took = clock.monotonic().saturating_sub(at);
            Record { arrived, took: u64::try_from(took.as_millis()).unwrap_or(u64::MAX), fate }
        }));
    }
    let mut records = Vec::with_capacity(running.len());
    let lost = |_| Error::new(ErrorKind::Unexpected, "a call panicked");
    for call in running {
        records.push(call.await.map_err(lost)?);
    }
    let limits = limits.await.map_err(lost)?;
    if let Some(stats) = limit.map(|limit| limit.stats())
        && stats.in_flight + stats.queued > 0
    {
        return Err(Error::new(ErrorKind::Unexpected, "a permit or a place was not given back"));
    }
    Ok(Run { records, limits })
}

/// Both curves and the figures of the phases, as tables of a page.
pub(crate) fn tables(limited: &Run, unlimited: &Run) -> String {
    let mut text = String::from(
        "| seconds | capacity | limited: answers/s | refused/s | timed out/s | p99 ms | limit | \
         unlimited: answers/s | timed out/s | p99 ms |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut row = |from: u64, to: u64, capacity: u32, limit: String, bold: &str| {
        let (one, other) = (limited.figures(from, to), unlimited.figures(from, to));
        let p99 = |figures: Figures| figures.p99.map_or("none".to_owned(), |p99| p99.to_string());
        text.push_str(&format!(
            "| {bold}{from} to {to}{bold} | {capacity} | {:.0} | {:.0} | {:.0} | {} | {limit} | \
             {:.0} | {:.0} | {} |\n",
            one.goodput,
            one.refused,
            one.timed_out,
            p99(one),
            other.goodput,
            other.timed_out,
            p99(other),
        ));
    };
    for (phase, workers) in (0_u64..).zip(WORKERS) {
        let (from, to) = (phase * PHASE, (phase + 1) * PHASE);
        for start in (from..to).step_by(3) {
            let last = usize::try_from(start + 2).unwrap_or(usize::MAX);
            let limit = limited.limits.get(last).map_or(String::new(), u32::to_string);
            row(start, start + 3, workers * PER_WORKER, limit, "");
        }
    }
    for (phase, workers) in (0_u64..).zip(WORKERS) {
        row(phase * PHASE, (phase + 1) * PHASE, workers * PER_WORKER, String::new(), "**");
    }
    text
}

//! A proxy between a client and a real server that spoils the connection on purpose: it delays,
//! throttles, cuts, resets, swallows and refuses, by a plan that can be changed at any time, and by
//! chance from a seed that it prints.
//!
//! It passes bytes and knows no protocol but the frames of HTTP/2, of which it reads the headers of
//! the frames alone: enough to cut a request before the server has it, or after the server has
//! answered it and before the client knows. TLS hides the frames; a connection that is encrypted is
//! taken as one of any other protocol.

mod connection;
mod door;
mod http2;
mod inspect;
mod plan;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use plan::{Cut, Direction, Ending, Plan};

use door::Door;
use inspect::Protocol;

/// The cuts that are remembered; later ones are only counted.
const REMEMBERED: usize = 10_000;

/// A proxy on a free port of the loopback interface, for one server.
///
/// Dropping it ends its tasks and closes its connections, as soon as the runtime comes round to it;
/// [`Self::stop`] waits for that.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
}

/// What a proxy has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that clients have opened.
    pub accepted: u64,
    /// Those of them that are open.
    pub open: u64,
    /// Requests that have begun, with those that were cut.
    pub requests: u64,
    /// Connections that a fault has cut, by a request or by bytes, or reset when they were new.
    /// Black holes are not among them, nor what ends with the proxy.
    pub cuts: u64,
    /// Connections that were closed because the server did not accept them.
    pub unreachable: u64,
    /// Bytes that were passed to the server.
    pub to_server: u64,
    /// Bytes that were passed to clients.
    pub to_client: u64,
    /// Bytes of clients that went into black holes.
    pub swallowed: u64,
}

/// A request that a plan has cut or is about to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Struck {
    /// The number of the connection, from 1, in the order in which they were accepted.
    pub connection: u64,
    /// The number of the request in its connection, from 1.
    pub request: u64,
    /// Where it is cut. A request marked [`Cut::BeforeAnswering`] that its client gives up, or whose
    /// connection ends otherwise, is not.
    pub cut: Cut,
}

/// What the proxy and its connections share.
#[derive(Debug)]
struct Shared {
    door: Door,
    upstream: SocketAddr,
    seed: u64,
    protocol: Protocol,
    plan: watch::Sender<Arc<Current>>,
    counters: Counters,
    struck: Mutex<Vec<Struck>>,
}

/// The plan that holds.
#[derive(Debug)]
struct Current {
    plan: Plan,
    /// Counts the plans, from 1.
    version: u64,
    /// The requests that have begun under it.
    requests: AtomicU64,
}

impl Current {
    /// Counts a request, and says whether it is among those that are cut for certain.
    fn takes_next(&self) -> Option<Cut> {
        let before = self.requests.fetch_add(1, Relaxed);
        let next = self.plan.next?;
        (before >= next.skip && before - next.skip < next.count).then_some(next.cut)
    }
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    open: AtomicU64,
    requests: AtomicU64,
    cuts: AtomicU64,
    unreachable: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
    swallowed: AtomicU64,
}

impl Counters {
    fn bytes(&self, direction: Direction) -> &AtomicU64 {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }
}

impl Shared {
    fn record(&self, connection: u64, request: u64, cut: Cut) {
        let mut struck = self.struck.lock().unwrap_or_else(PoisonError::into_inner);
        if struck.len() < REMEMBERED {
            struck.push(Struck { connection, request, cut });
        }
    }
}

impl FaultProxy {
    /// Starts a proxy for a server, without a fault. A connection that begins as HTTP/2 does, with
    /// knowledge of it beforehand, is taken for that, and every other for bytes.
    ///
    /// The seed decides what is left to chance: the same seed decides the same for the same number
    /// of connection and request.
    ///
    /// # Errors
    /// No port is free.
    ///
    /// # Panics
    /// Outside a runtime of tokio with I/O and time.
    #[expect(clippy::unused_async, reason = "a caller who awaits has the runtime that it needs")]
    pub async fn start(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::begin(upstream, seed, Protocol::Unknown)
    }

    /// As [`Self::start`], and takes every connection for bytes.
    ///
    /// # Errors
    /// No port is free.
    ///
    /// # Panics
    /// Outside a runtime of tokio with I/O and time.
    #[expect(clippy::unused_async, reason = "a caller who awaits has the runtime that it needs")]
    pub async fn start_raw(upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        Self::begin(upstream, seed, Protocol::Raw)
    }

    fn begin(upstream: SocketAddr, seed: u64, protocol: Protocol) -> io::Result<Self> {
        let current = Current { plan: Plan::pass(), version: 1, requests: AtomicU64::new(0) };
        let shared = Arc::new(Shared {
            door: Door::open()?,
            upstream,
            seed,
            protocol,
            plan: watch::Sender::new(Arc::new(current)),
            counters: Counters::default(),
            struck: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(Arc::clone(&shared), stopped));
        Ok(Self { shared, stop, accepting: Some(accepting) })
    }

    /// Where clients connect: an address of the loopback interface.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.door.address()
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.shared.seed
    }

    /// Puts another plan in the place of the one that holds, whole. It holds for what is read from
    /// now on; what is held back already is held back as it says, and a cut that was decided stays
    /// decided. A plan that is left to chance is printed with the seed.
    ///
    /// # Panics
    /// When the port cannot be listened on again after [`Plan::refuse`].
    #[expect(clippy::print_stderr, reason = "a failing test shows the seed to repeat it with")]
    pub fn set(&self, plan: Plan) {
        if plan.is_random() {
            eprintln!("fault proxy {}: seed {}, {plan:?}", self.address(), self.seed());
        }
        let refuse = plan.refuse;
        if refuse {
            self.shared.door.close();
        }
        self.shared.plan.send_modify(|current| {
            let version = current.version + 1;
            *current = Arc::new(Current { plan, version, requests: AtomicU64::new(0) });
        });
        if !refuse {
            let reopened = self.shared.door.reopen();
            assert!(reopened.is_ok(), "cannot listen on {} again: {reopened:?}", self.address());
        }
    }

    /// Ends all faults, as [`Plan::pass`] does. Connections that were black holes are reset.
    ///
    /// # Panics
    /// As [`Self::set`].
    pub fn heal(&self) {
        self.set(Plan::pass());
    }

    /// What was counted so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counters = &self.shared.counters;
        Stats {
            accepted: counters.accepted.load(Relaxed),
            open: counters.open.load(Relaxed),
            requests: counters.requests.load(Relaxed),
            cuts: counters.cuts.load(Relaxed),
            unreachable: counters.unreachable.load(Relaxed),
            to_server: counters.to_server.load(Relaxed),
            to_client: counters.to_client.load(Relaxed),
            swallowed: counters.swallowed.load(Relaxed),
        }
    }

    /// The requests that were struck so far, in the order in which they began; the first 10,000.
    #[must_use]
    pub fn struck(&self) -> Vec<Struck> {
        self.shared.struck.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything that a failing test should say: addresses, seed, plan and counts.
    #[must_use]
    pub fn describe(&self) -> String {
        let Shared { upstream, seed, .. } = &*self.shared;
        let current = self.shared.plan.borrow().clone();
        format!(
            "fault proxy {} -> {upstream}: seed {seed}, plan number {}: {:?}, {:?}",
            self.address(),
            current.version,
            current.plan,
            self.stats()
        )
    }

    /// Closes everything, and returns when all tasks have ended. Clients see their connections end.
    pub async fn stop(mut self) {
        self.shared.door.close();
        self.stop.send_replace(true);
        if let Some(accepting) = self.accepting.take() {
            // It is never aborted before, and what it may panic with has been printed.
            let _ = accepting.await;
        }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.door.close();
        if let Some(accepting) = self.accepting.take() {
            // The tasks of the connections are owned by this one, and end with it.
            accepting.abort();
        }
    }
}

/// Accepts connections until it is told to stop, and ends them then.
async fn accept(shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = shared.door.accept() => match accepted {
                Ok(client) => {
                    let number = shared.counters.accepted.fetch_add(1, Relaxed) + 1;
                    connections.spawn(connection::serve(Arc::clone(&shared), client, number));
                }
                // Too many open files, or a client that was gone before it was accepted.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
        }
    }
    connections.shutdown().await;
}

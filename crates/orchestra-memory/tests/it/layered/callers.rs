//! Sixteen callers through all layers, over a connection to Firestore's emulator that is cut before
//! the server has a request and after it has answered, and that is slow: what was acknowledged is
//! there, nothing is there twice, and one attempt is one request.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memory_core::traits::{Ledger, RecordStore, RecordStoreExt as _, Usage};
use memory_core::{
    CallContext, Commit, CommitId, Error, ErrorKind, Filter, IdSource, MemoryId, MemoryItem,
    Outcome, Precondition, RandomIds, Result, Revision, SystemClock, TenantId, Timestamp, UserId,
    Vectors, Write,
};
use memory_firestore::FirestoreStore;
use memory_layers::{Layer as _, LayersSettings, Stack, TokioTimer, Waiting};
use memory_testkit::FaultProxy;
use memory_testkit::proxy::{Cut, Direction, Plan};
use tokio::task::JoinSet;

use super::firestore::{Owner, Project};
use super::patient;
use crate::firestore::run;

const CALLERS: usize = 16;
/// Creates, updates and reads of each caller.
const ROUNDS: usize = 20;
/// The errors that a connection which fails may give, once the layers have done what they can.
const OF_THE_CONNECTION: [ErrorKind; 4] =
    [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Overloaded, ErrorKind::RateLimited];

/// Counts the requests that the store is about to send, and admits them all.
#[derive(Debug, Default)]
struct Asked(AtomicU64);

impl Ledger for Asked {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
    fn record(&self, _backend: &'static str, _operation: &'static str, _usage: Usage) {}
}

/// Ids whose random bits are all ones, so that every wait between attempts is the longest one, and
/// a connection that was cut is there again when the next attempt is sent.
#[derive(Debug)]
struct LongWaits;

impl IdSource for LongWaits {
    fn memory_id(&self) -> MemoryId {
        RandomIds.memory_id()
    }
    fn commit_id(&self) -> CommitId {
        CommitId::from_bytes([0xff; 16])
    }
}

/// A store behind all layers and the proxy, and the same past both.
struct Rig {
    store: Arc<dyn RecordStore>,
    direct: Arc<FirestoreStore>,
    stack: Stack,
    proxy: FaultProxy,
    asked: Arc<Asked>,
    ctx: CallContext,
    _project: Project,
}

impl Rig {
    /// `None` without an emulator.
    async fn new(seed: u64, settings: &LayersSettings) -> Option<Self> {
        let project = Project::new()?;
        let upstream = project.host.to_socket_addrs().unwrap().next().unwrap();
        let proxy = FaultProxy::start(upstream, seed).await.unwrap();
        let clock = Arc::new(SystemClock::new());
        let asked = Arc::new(Asked::default());
        let open = |host: String, ledger: Arc<dyn Ledger>| {
            let mut settings = project.settings.clone();
            settings.emulator = Some(host);
            FirestoreStore::open(settings, Arc::new(Owner), clock.clone(), ledger)
        };
        let direct = open(project.host.clone(), Arc::new(Asked::default())).await.unwrap();
        let store = open(proxy.address().to_string(), asked.clone()).await.unwrap();
        let waiting = Waiting { timer: Arc::new(TokioTimer), ids: Arc::new(LongWaits) };
        let stack =
            Stack::remote(settings, clock.clone(), &waiting, Some(Arc::new(metrics::NoopRecorder)))
                .unwrap();
        let store = stack.records(store);
        let ctx = CallContext::new(TenantId::new("acme").unwrap());
        let rig = Self { store, direct, stack, proxy, asked, ctx, _project: project };
        // The first write makes the tenant, the second finds out how its document is verified.
        for name in ["first", "second"] {
            create(&*rig.store, &rig.ctx, name).await.unwrap();
        }
        Some(rig)
    }

    /// Attempts that the layer counted, requests that the store sent, and requests that arrived.
    fn counts(&self) -> [u64; 3] {
        let attempts = self.stack.stats().retry.unwrap().attempts;
        [attempts, self.asked.0.load(Ordering::SeqCst), self.proxy.stats().requests]
    }

    /// The same, since a count before.
    fn since(&self, before: [u64; 3]) -> [u64; 3] {
        let now = self.counts();
        std::array::from_fn(|place| now[place] - before[place])
    }
}

fn id(name: &str) -> MemoryId {
    MemoryId::new(name).unwrap()
}

fn put(name: &str, content: &str, precondition: Precondition) -> Commit {
    let item = MemoryItem::new(id(name), content, Timestamp::from_micros(1).unwrap())
        .unwrap()
        .with_user(UserId::new("ada").unwrap());
    let write = Write::put(item, Vectors::default(), precondition);
    Commit::new(RandomIds.commit_id(), vec![write])
}

/// Creates an item that nobody else writes.
async fn create(store: &dyn RecordStore, ctx: &CallContext, name: &str) -> Result<Revision> {
    let receipt = store.commit(ctx, put(name, "0", Precondition::Absent)).await?;
    Ok(receipt.results[0].revision.clone().unwrap())
}

/// Settings under which what fails is soon sent again, as often as can be set.
fn persistent() -> LayersSettings {
    let mut settings = patient();
    settings.retry.attempts = 10;
    settings.retry.first_wait_ms = 20;
    settings.retry.longest_wait_ms = 200;
    settings.retry.budget = 100_000;
    settings
}

#[test]
fn an_attempt_that_is_cut_and_the_one_after_it_are_two_requests() {
    run(async {
        let mut settings = persistent();
        settings.retry.first_wait_ms = 200;
        let Some(rig) = Rig::new(61, &settings).await else { return };
        let cut = |cut| Plan::pass().cut_next(cut, 1);
        for (number, place) in [Cut::BeforeForwarding, Cut::BeforeAnswering].into_iter().enumerate()
        {
            rig.proxy.set(cut(place));
            let before = rig.counts();
            let found = rig.store.fetch_one(&rig.ctx, &id("first")).await.unwrap();
            assert!(found.is_some());
            assert_eq!(rig.since(before), [2, 2, 2], "{place:?}, {}", rig.proxy.describe());

            rig.proxy.set(cut(place));
            let before = rig.counts();
            create(&*rig.store, &rig.ctx, &format!("cut-{number}")).await.unwrap();
            let [attempts, asked, arrived] = rig.since(before);
            // The second attempt looks for its own work as well, which the store asks for itself.
            assert_eq!((attempts, asked), (2, arrived), "{place:?}, {}", rig.proxy.describe());
            assert!((2..=4).contains(&arrived), "{arrived} requests, {place:?}");
        }
        assert_eq!(rig.proxy.stats().cuts, 4);
    });
}

/// What one caller saw.
#[derive(Default)]
struct Seen {
    /// Created for certain.
    created: BTreeSet<String>,
    /// Perhaps created.
    perhaps: BTreeSet<String>,
    /// Not created for certain.
    failed: BTreeSet<String>,
    /// Updates of the caller's own counter that were acknowledged, and those that nobody knows of.
    counted: u64,
    uncounted: u64,
}

#[track_caller]
fn of_the_connection(error: &Error) {
    assert!(OF_THE_CONNECTION.contains(&error.kind()), "{error:?}");
}

/// Creates, reads and counts. Each name is written by this caller alone, so that the only errors
/// are those of the connection.
async fn call(store: Arc<dyn RecordStore>, ctx: CallContext, caller: usize) -> Seen {
    let mut seen = Seen::default();
    let counter = format!("counter-{caller}");
    for round in 0..ROUNDS {
        let name = format!("item-{caller}-{round}");
        match create(&*store, &ctx, &name).await {
            Ok(_) => {
                match store.fetch_one(&ctx, &id(&name)).await {
                    Ok(found) => assert!(found.is_some(), "{name} was acknowledged"),
                    Err(error) => of_the_connection(&error),
                }
                seen.created.insert(name);
            }
            Err(error) => {
                of_the_connection(&error);
                match error.outcome() {
                    Outcome::Unknown => seen.perhaps.insert(name),
                    Outcome::NotApplied => seen.failed.insert(name),
                };
            }
        }

        let Ok(Some(item)) = store.fetch_one(&ctx, &id(&counter)).await else { continue };
        let next = item.content().parse::<u64>().unwrap() + 1;
        let precondition = Precondition::Revision(item.revision.unwrap());
        let update = put(&counter, &next.to_string(), precondition);
        match store.commit(&ctx, update).await {
            Ok(_) => seen.counted += 1,
            // One whose outcome nobody knew may have come in between.
            Err(error) if error.kind() == ErrorKind::Conflict && seen.uncounted > 0 => {}
            Err(error) => {
                of_the_connection(&error);
                seen.uncounted += u64::from(error.outcome() == Outcome::Unknown);
            }
        }
    }
    seen
}

#[test]
fn what_sixteen_callers_were_told_over_a_bad_connection_is_so() {
    run(async {
        let Some(rig) = Rig::new(62, &persistent()).await else { return };
        for caller in 0..CALLERS {
            create(&*rig.store, &rig.ctx, &format!("counter-{caller}")).await.unwrap();
        }
        rig.proxy.set(
            Plan::pass()
                .delay(Direction::ToServer, Duration::from_millis(1))
                .jitter(Direction::ToClient, Duration::from_millis(5))
                .cut_percent(Cut::BeforeForwarding, 3)
                .cut_percent(Cut::BeforeAnswering, 3),
        );
        let before = rig.counts();
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            callers.spawn(call(rig.store.clone(), rig.ctx.clone(), caller));
        }
        let seen = callers.join_all().await;
        let [attempts, asked, arrived] = rig.since(before);
        let stats = rig.stack.stats();
        println!("{attempts} attempts, {asked} requests sent, {arrived} arrived; {stats:?}");
        println!("{}", rig.proxy.describe());
        assert!(rig.proxy.stats().cuts > 0, "the connection was good");
        assert!(stats.retry.unwrap().recovered > 0, "nothing was sent again");
        assert_eq!(stats.guard.broken(), 0);
        // What is sent on a connection that another request's cut has ended does not arrive; what
        // arrives was sent once.
        assert!(arrived <= asked && attempts <= asked, "{attempts} {asked} {arrived}");

        rig.proxy.heal();
        let (direct, ctx) = (&rig.direct, &rig.ctx);
        let mut items = 2 + CALLERS as u64;
        for (caller, seen) in seen.iter().enumerate() {
            for (names, must) in
                [(&seen.created, Some(true)), (&seen.failed, Some(false)), (&seen.perhaps, None)]
            {
                for name in names {
                    let there = direct.fetch_one(ctx, &id(name)).await.unwrap().is_some();
                    assert!(must.is_none_or(|must| must == there), "{name}: {there}");
                    items += u64::from(there);
                }
            }
            let counter = id(&format!("counter-{caller}"));
            let counter = direct.fetch_one(ctx, &counter).await.unwrap().unwrap();
            let count = counter.content().parse::<u64>().unwrap();
            let most = seen.counted + seen.uncounted;
            assert!((seen.counted..=most).contains(&count), "{count}: {} to {most}", seen.counted);
        }
        assert_eq!(direct.count(ctx, &Filter::All).await.unwrap(), items);
        let sure: usize = seen.iter().map(|seen| seen.created.len()).sum();
        assert!(sure > CALLERS * ROUNDS / 2, "{sure} creates were acknowledged");
    });
}

#[test]
fn sixteen_callers_that_read_send_one_request_an_attempt() {
    run(async {
        let Some(rig) = Rig::new(63, &persistent()).await else { return };
        let read = async || {
            let before = rig.counts();
            let mut callers = JoinSet::new();
            for _ in 0..CALLERS {
                let (store, ctx) = (rig.store.clone(), rig.ctx.clone());
                callers.spawn(async move {
                    for _ in 0..ROUNDS {
                        match store.fetch_one(&ctx, &id("first")).await {
                            Ok(found) => assert!(found.is_some()),
                            Err(error) => of_the_connection(&error),
                        }
                    }
                });
            }
            callers.join_all().await;
            rig.since(before)
        };
        let calls = (CALLERS * ROUNDS) as u64;
        assert_eq!(read().await, [calls; 3], "over a good connection");

        rig.proxy.set(
            Plan::pass()
                .jitter(Direction::ToClient, Duration::from_millis(5))
                .cut_percent(Cut::BeforeForwarding, 3)
                .cut_percent(Cut::BeforeAnswering, 3),
        );
        let [attempts, asked, arrived] = read().await;
        println!("{attempts} attempts, {asked} requests sent, {arrived} arrived");
        println!("{}", rig.proxy.describe());
        assert!(attempts > calls, "nothing was sent again");
        assert_eq!(attempts, asked, "an attempt at a read is one request");
        assert!(arrived <= attempts, "{arrived} of {attempts}");
    });
}

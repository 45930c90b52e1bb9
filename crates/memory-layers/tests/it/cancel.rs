//! A call that is dropped at any of its await points leaves nothing behind.
//!
//! The futures are polled by hand. After each step that does not end the call the clock moves on by
//! a millisecond, so that the points are those of the store, of the queue and of every wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use memory_core::traits::{EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitId, CommitReceipt, Error, ErrorKind, Filter, Health,
    MemoryId, MemoryItem, Page, Precondition, Projection, Query, Result, UserId, Vectors, Write,
};
use memory_layers::{
    ConcurrencyLimitLayer, GuardSettings, Layer, LimitSettings, RetryLayer, RetrySettings,
    TenantGuardLayer, TimeoutLayer,
};
use memory_testkit::ReferenceStore;

use crate::support::{MS, Same, Task, Time, give_way, step, tenant};

/// How often the store gives way before its effect and after it.
const YIELDS: usize = 3;

/// A store that gives way, fails its first calls, and counts.
#[derive(Debug)]
struct Slow {
    inner: Arc<ReferenceStore>,
    failures: AtomicUsize,
    failed: AtomicUsize,
    under_way: AtomicUsize,
    done: AtomicUsize,
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Slow {
    async fn slowly<T>(&self, run: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(&self.under_way);
        give_way(YIELDS).await;
        let take = |left: usize| left.checked_sub(1);
        if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            self.failed.fetch_add(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Unavailable, "as the test says"));
        }
        let answer = run.await;
        self.done.fetch_add(1, Ordering::SeqCst);
        give_way(YIELDS).await;
        answer
    }
}

#[async_trait]
impl RecordStore for Slow {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.slowly(self.inner.commit(context, commit)).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.slowly(self.inner.fetch(context, ids, projection)).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.inner.query(context, query).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.inner.count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.inner.sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.inner.erase(context, scope, resume).await
    }
    async fn health(&self) -> Health {
        RecordStore::health(&*self.inner).await
    }
    async fn close(&self) -> Result<()> {
        RecordStore::close(&*self.inner).await
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&*self.inner)
    }
}

/// Which layers stand around the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Guard,
    Timeout,
    Retry,
    Limit,
    All,
}

const EACH: [Around; 5] =
    [Around::Guard, Around::Timeout, Around::Retry, Around::Limit, Around::All];

struct World {
    time: Arc<Time>,
    store: Arc<Slow>,
    stack: Arc<dyn RecordStore>,
    retry: RetryLayer,
    limit: ConcurrencyLimitLayer,
    context: CallContext,
}

impl World {
    fn new(around: Around, failures: usize) -> Self {
        let time = Time::by_hand();
        let (clock, timer) = (time.clock.clone(), time.clone());
        let mut settings = RetrySettings::default();
        settings.first_wait_ms = 5;
        let ids = Arc::new(Same(0xff));
        let retry = RetryLayer::new(settings, clock.clone(), timer.clone(), ids).unwrap();
        let one = LimitSettings { min: 1, max: 1, start: 1, ..LimitSettings::default() };
        let limit = ConcurrencyLimitLayer::new(one, clock.clone(), timer.clone()).unwrap();
        let timeout = TimeoutLayer::new(1_000 * MS, clock.clone(), timer);
        let guard = TenantGuardLayer::new(GuardSettings::default(), clock.clone());
        let store = Arc::new(Slow {
            inner: Arc::new(ReferenceStore::new(clock)),
            failures: AtomicUsize::new(failures),
            failed: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
        });
        let part: Arc<dyn RecordStore> = store.clone();
        let stack = match around {
            Around::Guard => guard.records(part),
            Around::Timeout => timeout.records(part),
            Around::Retry => retry.records(part),
            Around::Limit => limit.records(part),
            Around::All => {
                let attempt = limit.records(timeout.records(part));
                guard.records(timeout.records(retry.records(attempt)))
            }
        };
        Self { time, store, stack, retry, limit, context: tenant() }
    }

    fn commit(&self, number: u8) -> Task<'_, Result<()>> {
        let write = |name: &str| {
            let id = MemoryId::new(format!("{name}{number}")).unwrap();
            let now = memory_core::Clock::now(&*self.time.clock);
            let item = MemoryItem::new(id, "a text", now).unwrap();
            let item = item.with_user(UserId::new("ada").unwrap());
            Write::put(item, Vectors::default(), Precondition::Absent)
        };
        let commit = Commit::new(CommitId::from_bytes([number; 16]), vec![write("a"), write("b")]);
        Box::pin(async move { self.stack.commit(&self.context, commit).await.map(|_| ()) })
    }

    fn fetch(&self) -> Task<'_, Result<()>> {
        let ids = [MemoryId::new("a1").unwrap()];
        Box::pin(async move {
            self.stack.fetch(&self.context, &ids, &Projection::default()).await.map(|_| ())
        })
    }

    /// How many of the two writes of a commit are there: read past the layers.
    fn written(&self, number: u8) -> usize {
        let ids = ["a", "b"].map(|name| MemoryId::new(format!("{name}{number}")).unwrap());
        let found = crate::support::finish(self.store.inner.fetch(
            &self.context,
            &ids,
            &Projection::default(),
        ));
        found.unwrap().iter().flatten().count()
    }

    /// Steps until the end: how many did not end it.
    fn finish(&self, mut task: Task<'_, Result<()>>) -> usize {
        for steps in 0..1_000 {
            if let Poll::Ready(answer) = step(&mut task) {
                answer.unwrap();
                return steps;
            }
            self.time.clock.advance(MS);
        }
        panic!("it does not end");
    }

    /// Makes `steps` steps of a call, none of which may end it, and drops it.
    fn drop_after(&self, mut task: Task<'_, Result<()>>, steps: usize) {
        for _ in 0..steps {
            assert!(step(&mut task).is_pending());
            self.time.clock.advance(MS);
        }
    }

    #[track_caller]
    fn assert_nothing_left(&self, what: &str) {
        let stats = self.limit.stats();
        assert_eq!((stats.in_flight, stats.queued), (0, 0), "{what}: a permit or a place");
        assert_eq!(self.time.live(), 0, "{what}: a timer");
        assert_eq!(self.store.under_way.load(Ordering::SeqCst), 0, "{what}: a call of the store");
        let failed = u32::try_from(self.store.failed.load(Ordering::SeqCst)).unwrap();
        assert!(self.retry.budget_left() >= 100.0 - f64::from(failed) - 1e-9, "{what}: the budget");
    }
}

/// How many failures the layers mend.
fn failures(around: Around) -> usize {
    if matches!(around, Around::Retry | Around::All) { 2 } else { 0 }
}

#[test]
fn a_commit_dropped_at_every_await_point_leaves_nothing() {
    for around in EACH {
        // The twin: not dropped, it ends, and its writes are there.
        let world = World::new(around, failures(around));
        let steps = world.finish(world.commit(1));
        assert!(steps >= 2 * YIELDS, "{around:?}: it has {steps} await points");
        assert_eq!(world.written(1), 2);
        world.assert_nothing_left("not dropped");
        let (mut before, mut after) = (0, 0);
        for place in 0..=steps {
            let what = format!("{around:?}, dropped after {place} of {steps} steps");
            let world = World::new(around, failures(around));
            world.drop_after(world.commit(1), place);
            world.assert_nothing_left(&what);
            let written = world.written(1);
            assert!(written == 0 || written == 2, "{what}: half a write");
            let done = world.store.done.load(Ordering::SeqCst);
            assert_eq!(written, 2 * done, "{what}");
            if written == 0 {
                before += 1
            } else {
                after += 1
            }
            // Nothing goes on by itself.
            world.time.clock.advance(10_000 * MS);
            assert_eq!(world.store.done.load(Ordering::SeqCst), done, "{what}: an orphan");
            // The layers serve the next call.
            world.store.failures.store(0, Ordering::SeqCst);
            world.finish(world.commit(2));
            assert_eq!(world.written(2), 2, "{what}");
            world.assert_nothing_left(&what);
        }
        assert!(before > YIELDS && after >= YIELDS, "{around:?}: {before} before, {after} after");
    }
}

#[test]
fn a_read_dropped_at_every_await_point_leaves_nothing() {
    for around in EACH {
        let steps = {
            let world = World::new(around, failures(around));
            world.finish(world.fetch())
        };
        for place in 0..=steps {
            let world = World::new(around, failures(around));
            world.drop_after(world.fetch(), place);
            world.assert_nothing_left(&format!("{around:?}, {place} of {steps}"));
            world.store.failures.store(0, Ordering::SeqCst);
            world.finish(world.fetch());
        }
    }
}

#[test]
fn a_call_dropped_in_the_queue_gives_its_place_back() {
    for around in [Around::Limit, Around::All] {
        for place in 1..=YIELDS {
            let world = World::new(around, 0);
            let mut first = world.commit(1);
            assert!(step(&mut first).is_pending());
            let mut second = world.commit(2);
            for _ in 0..place {
                assert!(step(&mut second).is_pending());
                let stats = world.limit.stats();
                assert_eq!((stats.in_flight, stats.queued), (1, 1), "it waits");
                world.time.clock.advance(MS);
            }
            drop(second);
            let stats = world.limit.stats();
            assert_eq!((stats.in_flight, stats.queued), (1, 0), "{around:?}: the place");
            world.finish(first);
            assert_eq!((world.written(1), world.written(2)), (2, 0));
            world.assert_nothing_left("after the first");
            // The twin: not dropped, it gets its turn.
            let mut third = world.commit(3);
            assert!(step(&mut third).is_pending());
            let mut fourth = world.commit(4);
            assert!(step(&mut fourth).is_pending());
            world.finish(third);
            world.finish(fourth);
            assert_eq!((world.written(3), world.written(4)), (2, 2));
            world.assert_nothing_left("after the fourth");
        }
    }
}

#[test]
fn a_permit_handed_to_a_call_that_is_dropped_goes_on_to_the_next() {
    let world = World::new(Around::Limit, 0);
    let mut first = world.commit(1);
    assert!(step(&mut first).is_pending());
    let mut second = world.commit(2);
    assert!(step(&mut second).is_pending());
    let mut third = world.commit(3);
    assert!(step(&mut third).is_pending());
    // The first ends, and its permit goes to the second, which never looks.
    world.finish(first);
    drop(second);
    world.finish(third);
    assert_eq!((world.written(2), world.written(3)), (0, 2));
    world.assert_nothing_left("after the third");
}

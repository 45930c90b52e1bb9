//! Closing, in each state that calls may be in: what was accepted is done, what comes is refused,
//! and nothing is left.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use futures::channel::oneshot;
use memory_core::traits::RecordStore;
use memory_core::{Error, Health, ManualClock, Outcome, Timer};
use memory_testkit::ReferenceStore;
use orchestra_memory::memory_layers::{Answer, ApplyLayers, Attempt, Call, Layer, Policy};
use orchestra_memory::{
    AddOptions, Backend, EmbedWhen, ErrorKind, Filter, HealthStatus, Memory, NewMemory, Result,
    Settings,
};

use crate::support::{
    block_on, builder, each_store, embedding, eventually, id, note, plain, start,
};
use crate::words::Words;

/// A timer whose waits end when they are told to.
#[derive(Debug, Default)]
struct ByHand(Mutex<Vec<oneshot::Sender<()>>>);

#[async_trait]
impl Timer for ByHand {
    async fn sleep(&self, _: Duration) {
        let (tell, told) = oneshot::channel();
        self.0.lock().unwrap().push(tell);
        let _ = told.await;
    }
}

impl ByHand {
    /// How many wait.
    fn waiting(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|tell| !tell.is_canceled()).count()
    }

    fn end_all(&self) {
        self.0.lock().unwrap().clear();
    }
}

/// What stands between the layers and the store: it can hold calls, fail them, and counts closes.
#[derive(Clone, Debug, Default)]
struct Door(Arc<DoorState>);

#[derive(Debug, Default)]
struct DoorState {
    holds: AtomicBool,
    fails: AtomicBool,
    held: Mutex<Vec<oneshot::Sender<()>>>,
    came: AtomicUsize,
    closes: AtomicUsize,
}

impl Door {
    fn hold(&self) {
        self.0.holds.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.0.holds.store(false, Ordering::SeqCst);
        self.0.held.lock().unwrap().clear();
    }

    fn came(&self) -> usize {
        self.0.came.load(Ordering::SeqCst)
    }

    fn closes(&self) -> usize {
        self.0.closes.load(Ordering::SeqCst)
    }
}

impl Policy for Door {
    async fn run<T, F, A>(&self, call: &Call<'_>, mut send: F) -> Result<T>
    where
        T: Answer,
        F: FnMut(Attempt) -> A + Send,
        A: Future<Output = Result<T>> + Send,
    {
        self.0.came.fetch_add(1, Ordering::SeqCst);
        if self.0.fails.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "not now"));
        }
        if self.0.holds.load(Ordering::SeqCst) {
            let (tell, told) = oneshot::channel();
            self.0.held.lock().unwrap().push(tell);
            let _ = told.await;
        }
        send(call.attempt()).await
    }

    fn health(&self, _: &mut Health) {}

    /// The store stays open, so that a test can look into it.
    async fn close<A>(&self, _: A) -> Result<()>
    where
        A: Future<Output = Result<()>> + Send,
    {
        self.0.closes.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// A memory behind all layers, over a store behind a door.
struct Remote {
    memory: Memory,
    store: Arc<ReferenceStore>,
    door: Door,
    timer: Arc<ByHand>,
}

impl Remote {
    /// One that lets `at_once` calls through.
    fn new(at_once: u32) -> Self {
        let (door, timer) = (Door::default(), Arc::new(ByHand::default()));
        let clock = Arc::new(ManualClock::new(start()));
        let store = Arc::new(ReferenceStore::new(clock.clone()));
        let records: Arc<dyn RecordStore> = door.records(store.clone());
        let all = Backend::of(store.clone());
        let backend = Backend {
            records,
            vectors: door.vectors(all.vectors.clone()),
            keywords: all.keywords.clone().map(|keywords| door.keywords(keywords)),
            ..all
        };
        let mut settings = plain();
        settings.layers.apply = ApplyLayers::All;
        let limit = &mut settings.layers.limit;
        (limit.min, limit.max, limit.start) = (at_once, at_once, at_once);
        let builder = Memory::builder().settings(settings).backend(backend).clock(clock);
        let memory = block_on(builder.timer(timer.clone()).open()).unwrap();
        Self { memory, store, door, timer }
    }

    fn count(&self) -> u64 {
        let context = self.memory.admin().context(self.memory.default_tenant().id().clone());
        block_on(RecordStore::count(&*self.store, &context, &Filter::All)).unwrap()
    }
}

#[test]
fn idle_is_closed_at_once_and_again_and_each_object_once() {
    let remote = Remote::new(8);
    block_on(remote.memory.default_tenant().add(note("kept"))).unwrap();
    assert_eq!(block_on(remote.memory.health()).status, HealthStatus::Healthy);
    remote.memory.close().now_or_never().unwrap().unwrap();
    assert_eq!(remote.door.closes(), 3, "records, vectors, keywords");
    let came = remote.door.came();
    for _ in 0..2 {
        let error = block_on(remote.memory.default_tenant().add(note("late"))).unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        assert!(!error.is_retryable(), "{error}");
        remote.memory.close().now_or_never().unwrap().unwrap();
    }
    assert_eq!((remote.door.came(), remote.timer.waiting()), (came, 0), "refused at the gate");
    assert_eq!(block_on(remote.memory.health()).status, HealthStatus::Unhealthy);
    assert_eq!(remote.count(), 1);
}

#[test]
fn what_runs_and_what_queues_is_done_before_the_store_is_closed() {
    let remote = Remote::new(1);
    let tenant = remote.memory.default_tenant();
    remote.door.hold();
    let mut running = pin!(tenant.add(note("running").with_id(id("a"))));
    assert!(running.as_mut().now_or_never().is_none());
    let mut queued = pin!(tenant.add(note("queued").with_id(id("b"))));
    assert!(queued.as_mut().now_or_never().is_none());
    let stats = remote.memory.layers().backend.unwrap().limit.unwrap();
    assert_eq!((stats.in_flight, stats.queued), (1, 1), "{stats:?}");

    let mut close = pin!(remote.memory.close());
    assert!(close.as_mut().now_or_never().is_none(), "it waits");
    let error = tenant.add(note("late")).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "refused while it drains");
    assert_eq!(remote.door.closes(), 0);
    // A second close waits as well.
    let mut second = pin!(remote.memory.close());
    assert!(second.as_mut().now_or_never().is_none());

    remote.door.open();
    block_on(running).unwrap();
    assert!(close.as_mut().now_or_never().is_none(), "for the queued one");
    block_on(queued).unwrap();
    block_on(close).unwrap();
    block_on(second).unwrap();
    assert_eq!(remote.count(), 2);
}

#[test]
fn a_call_that_is_dropped_is_not_waited_for() {
    let remote = Remote::new(1);
    let tenant = remote.memory.default_tenant();
    remote.door.hold();
    {
        let mut running = pin!(tenant.add(note("x")));
        assert!(running.as_mut().now_or_never().is_none());
        assert!(remote.memory.close().now_or_never().is_none());
    }
    remote.memory.close().now_or_never().unwrap().unwrap();
    assert_eq!(remote.count(), 0);
}

#[test]
fn a_call_between_two_attempts_is_refused_its_next_one() {
    let remote = Remote::new(8);
    let tenant = remote.memory.default_tenant();
    block_on(tenant.get(&id("none"))).unwrap();
    remote.door.0.fails.store(true, Ordering::SeqCst);
    let mut waiting = pin!(tenant.add(note("x")));
    assert!(waiting.as_mut().now_or_never().is_none());
    eventually("it waits", || remote.timer.waiting() >= 1);
    remote.door.0.fails.store(false, Ordering::SeqCst);
    let came = remote.door.came();
    // A wait between attempts holds no permit, and keeps nobody.
    remote.memory.close().now_or_never().unwrap().unwrap();
    remote.timer.end_all();
    let error = block_on(waiting).unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
    assert_eq!((remote.door.came(), remote.count()), (came, 0));
}

#[test]
fn a_close_that_is_dropped_refuses_all_the_same_and_the_next_one_ends_it() {
    let remote = Remote::new(8);
    let tenant = remote.memory.default_tenant();
    remote.door.hold();
    let mut running = pin!(tenant.add(note("running")));
    assert!(running.as_mut().now_or_never().is_none());
    {
        let mut close = pin!(remote.memory.close());
        assert!(close.as_mut().now_or_never().is_none());
    }
    let error = tenant.add(note("late")).now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    remote.door.open();
    block_on(running).unwrap();
    assert_eq!((remote.door.closes(), remote.count()), (0, 1));
    block_on(remote.memory.close()).unwrap();
    assert_eq!(remote.door.closes(), 3);
}

#[test]
fn nothing_is_embedded_once_it_is_closed() {
    let words = Words::new();
    let store = Arc::new(ReferenceStore::new(Arc::new(memory_core::SystemClock::new())));
    let builder = Memory::builder().settings(embedding()).backend(Backend::of(store));
    let memory = block_on(builder.embedder(words.embedder()).open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("before"))).unwrap();
    let calls = words.calls();
    block_on(memory.close()).unwrap();
    let late = block_on(tenant.add_with(note("after"), AddOptions::new()));
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(words.calls(), calls);
}

/// A memory that makes vectors in the background, behind all layers.
fn in_background(words: &Words) -> (Memory, Arc<ReferenceStore>) {
    let store = Arc::new(ReferenceStore::new(Arc::new(memory_core::SystemClock::new())));
    let mut settings: Settings = embedding();
    settings.embedding.when = EmbedWhen::Background;
    settings.layers.apply = ApplyLayers::All;
    let builder = Memory::builder().settings(settings).backend(Backend::of(store.clone()));
    (block_on(builder.embedder(words.embedder()).open()).unwrap(), store)
}

#[test]
fn a_background_at_work_is_ended_by_a_close_and_by_the_last_handle() {
    for drops in [false, true] {
        let words = Words::new();
        let (memory, store) = in_background(&words);
        words.hold();
        block_on(memory.default_tenant().add(note("x"))).unwrap();
        eventually("the embedder is asked", || words.waiting() == 1);
        if !drops {
            block_on(memory.close()).unwrap();
        }
        drop(memory);
        eventually("nothing is held", || Arc::strong_count(&store) == 1 && words.handles() == 1);
        #[cfg(target_os = "linux")]
        eventually("no thread is left", || threads("orchestra") == 0);
    }
}

/// Threads of this process whose name begins so.
#[cfg(target_os = "linux")]
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let named = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name))
    };
    tasks.filter_map(Result::<_, _>::ok).filter(named).count()
}

#[cfg(target_os = "linux")]
#[test]
fn the_thread_that_waits_ends_with_the_last_handle() {
    let store = Arc::new(ReferenceStore::new(Arc::new(memory_core::SystemClock::new())));
    let mut settings = plain();
    settings.layers.apply = ApplyLayers::All;
    let builder = Memory::builder().settings(settings).backend(Backend::of(store.clone()));
    let memory = block_on(builder.open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("x"))).unwrap();
    // A thread takes its name when it first runs.
    eventually("it has begun", || threads("orchestra-timer") == 1);
    drop(memory);
    assert_eq!(threads("orchestra-timer"), 1, "a tenant's handle keeps it");
    drop(tenant);
    eventually("it has ended", || threads("orchestra-timer") == 0);
    assert_eq!(Arc::strong_count(&store), 1);
}

/// Writers who race a close: each write is acknowledged and there, or refused and not there.
#[test]
fn writers_who_race_a_close_know_what_became_of_their_writes() {
    const WRITERS: usize = 4;
    each_store(async |stack| {
        let memory = &stack.memory;
        let begun = AtomicUsize::new(0);
        let outcomes = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (tenant, begun) = (memory.default_tenant(), &begun);
                    scope.spawn(move || {
                        for n in 0.. {
                            let text: NewMemory = note("x").with_id(id(&format!("{writer}-{n}")));
                            if let Err(error) = block_on(tenant.add(text)) {
                                return (n, error);
                            }
                            begun.fetch_add(1, Ordering::SeqCst);
                        }
                        unreachable!("it is closed at some time")
                    })
                })
                .collect();
            eventually("some are written", || begun.load(Ordering::SeqCst) >= 20);
            // On a thread of its own, for this one polls the test.
            scope.spawn(|| block_on(memory.close())).join().unwrap().unwrap();
            let outcomes: Vec<(i32, Error)> =
                writers.into_iter().map(|writer| writer.join().unwrap()).collect();
            outcomes
        });
        for (_, error) in outcomes {
            let told = (error.kind(), error.outcome());
            assert_eq!(told, (ErrorKind::Unavailable, Outcome::NotApplied), "{error}");
        }
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn what_a_file_acknowledged_before_a_close_is_there_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("it.db").display());
    let memory = block_on(builder().url(&url).open()).unwrap();
    let tenant = memory.default_tenant();
    // Queued before the close begins, and not waited for until it has.
    let mut adds: Vec<_> =
        (0..50).map(|n| Box::pin(tenant.add(note("x").with_id(id(&format!("{n}")))))).collect();
    let mut written = 0_u64;
    for add in &mut adds {
        if let Some(done) = add.now_or_never() {
            done.unwrap();
            written += 1;
        }
    }
    let mut close = pin!(memory.close());
    let closed = close.as_mut().now_or_never();
    let error = block_on(tenant.add(note("late"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    if closed.is_none() {
        block_on(close).unwrap();
    }
    written += adds.len() as u64 - written;
    drop(adds);
    let again = block_on(builder().url(&url).open()).unwrap();
    assert_eq!(block_on(again.default_tenant().count(&Filter::All)).unwrap(), written);
    block_on(again.close()).unwrap();
}

#[cfg(feature = "sqlite")]
#[test]
fn an_embedded_store_ends_with_its_last_handle_whatever_was_queued() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("it.db").display());
    let memory = block_on(builder().url(&url).open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("x"))).unwrap();
    {
        let mut queued = Box::pin(tenant.add(note("y")));
        let _ = queued.as_mut().now_or_never();
    }
    drop((memory, tenant));
    // Nobody waits for its threads, which let go of the file soon.
    #[cfg(target_os = "linux")]
    eventually("its threads end", || threads("memory-") + threads("orchestra") == 0);
    let again = block_on(builder().url(&url).open()).unwrap();
    let count = block_on(again.default_tenant().count(&Filter::All)).unwrap();
    assert!((1..=2).contains(&count), "whole or not at all: {count}");
}

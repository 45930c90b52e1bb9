//! The bounded pool of threads that read, each with a connection of its own.
//!
//! The thread that became idle last gets the next read: its connection's page cache is the
//! warmest, and the others may sleep. A store in memory has one connection only, and reads on the
//! writer's thread between groups.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use memory_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::BACKEND;
use crate::error::{closed, thread_gone};
use crate::writer::Writer;

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// Where reads go.
#[derive(Debug, Clone)]
pub(crate) enum Readers {
    /// To threads of their own.
    Pool(Arc<Pool>),
    /// To the writer's connection.
    Writer(Writer),
}

/// The threads and who waits for them.
#[derive(Debug)]
pub(crate) struct Pool {
    /// Threads that wait for work; the last one waits the shortest.
    idle: Mutex<Vec<Sender<ReadJob>>>,
    /// One permit for each thread in `idle`.
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    most_waiting: usize,
}

impl Readers {
    /// Starts a thread for each connection. They end when the last handle is dropped, or at
    /// [`Readers::stop`].
    pub(crate) fn start(
        connections: Vec<Connection>,
        most_waiting: usize,
    ) -> Result<(Self, Vec<JoinHandle<()>>)> {
        let mut idle = Vec::with_capacity(connections.len());
        let mut threads = Vec::with_capacity(connections.len());
        for (number, connection) in connections.into_iter().enumerate() {
            let (sender, jobs) = crossbeam_channel::bounded::<ReadJob>(1);
            let thread = std::thread::Builder::new()
                .name(format!("memory-sqlite-reader-{number}"))
                .spawn(move || run(&connection, &jobs))
                .map_err(|error| thread_gone().with_source(error))?;
            idle.push(sender);
            threads.push(thread);
        }
        let free = Arc::new(Semaphore::new(idle.len()));
        let pool =
            Pool { idle: Mutex::new(idle), free, waiting: AtomicUsize::new(0), most_waiting };
        Ok((Self::Pool(Arc::new(pool)), threads))
    }

    /// Runs work on a reader; does something on the caller's thread once a thread that was free has
    /// the work, and nothing where the work had to wait for one. A future that is dropped gives its
    /// place back when the work, if it was begun, has ended.
    ///
    /// # Errors
    /// `Overloaded`, not to be retried at once: more callers wait than the settings allow.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
        meanwhile: impl FnOnce() + Send,
    ) -> Result<T> {
        let pool = match self {
            Self::Writer(writer) => return writer.plain(work).await,
            Self::Pool(pool) => pool,
        };
        let (turn, waited) = Turn::take(pool).await?;
        let (answer, mut answered) = oneshot::channel();
        let (sender, turn) = turn.split()?;
        let job: ReadJob = Box::new(move |connection| {
            if !answer.is_closed() {
                let reply = work(connection);
                // The thread is free before its caller wakes, who may read again at once.
                drop(turn);
                let _ = answer.send(reply);
            }
        });
        sender.send(job).map_err(|_| closed())?;
        if !waited {
            meanwhile();
            look(&mut answered).await;
        }
        answered.await.map_err(|_| thread_gone())?
    }

    /// Refuses reads from now on, those that wait included, and lets the threads end.
    pub(crate) fn stop(&self) {
        if let Self::Pool(pool) = self {
            pool.free.close();
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }
}

/// A thread for one read; given back when dropped.
struct Turn {
    pool: Arc<Pool>,
    sender: Option<Sender<ReadJob>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// A turn, and whether it had to be waited for.
    async fn take(pool: &Arc<Pool>) -> Result<(Self, bool)> {
        let (permit, waited) = match Arc::clone(&pool.free).try_acquire_owned() {
            Ok(permit) => (permit, false),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(closed()),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                let _place = Place::take(pool)?;
                (Arc::clone(&pool.free).acquire_owned().await.map_err(|_| closed())?, true)
            }
        };
        Ok((Self { pool: Arc::clone(pool), sender: None, permit: Some(permit) }, waited))
    }

    /// Takes the thread that became idle last; the rest of the turn travels with the work.
    fn split(mut self) -> Result<(Sender<ReadJob>, Self)> {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = idle.pop().ok_or_else(closed)?;
        drop(idle);
        self.sender = Some(sender.clone());
        Ok((sender, self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // After a stop the thread is let go instead.
            if !self.pool.free.is_closed() {
                idle.push(sender);
            }
        }
        drop(self.permit.take());
    }
}

/// A place among those who wait.
struct Place<'a>(&'a Pool);

impl<'a> Place<'a> {
    fn take(pool: &'a Pool) -> Result<Self> {
        if pool.waiting.fetch_add(1, Ordering::AcqRel) >= pool.most_waiting {
            pool.waiting.fetch_sub(1, Ordering::AcqRel);
            return Err(Error::new(ErrorKind::Overloaded, "too many reads wait for a thread")
                .with_retryable(false)
                .with_backend(BACKEND));
        }
        Ok(Self(pool))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How often a thread looks for its next read, and a caller for its answer, yielding in between,
/// before they sleep: to be woken takes longer than a search of a thousand memories. On a processor
/// that has nothing else to do this takes some ten microseconds; on another one the yielding lets
/// others run.
const LOOKS: u32 = 100;

/// Looks for an answer before the caller's task sleeps, and lets other threads and, for it wakes
/// itself, other tasks run between two looks. It ends when the answer is there, and after [`LOOKS`].
fn look<T>(answered: &mut oneshot::Receiver<T>) -> impl Future<Output = ()> {
    let mut looks = 0;
    std::future::poll_fn(move |context| {
        if looks == LOOKS || !answered.is_empty() || answered.is_terminated() {
            return Poll::Ready(());
        }
        looks += 1;
        std::thread::yield_now();
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

fn next(jobs: &Receiver<ReadJob>) -> Option<ReadJob> {
    for _ in 0..LOOKS {
        match jobs.try_recv() {
            Ok(job) => return Some(job),
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
    jobs.recv().ok()
}

fn run(connection: &Connection, jobs: &Receiver<ReadJob>) {
    while let Some(job) = next(jobs) {
        // A panic must not end the thread; the caller sees its answer's sender dropped.
        let panicked = catch_unwind(AssertUnwindSafe(|| job(connection))).is_err();
        if panicked {
            tracing::error!("a read panicked");
        }
        if !connection.is_autocommit() {
            // A read that ended early left its snapshot open, which would hold up checkpoints.
            let _ = connection.execute_batch("ROLLBACK");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn pool(threads: usize, most_waiting: usize) -> (Readers, Vec<JoinHandle<()>>) {
        let connections =
            (0..threads).map(|_| Connection::open_in_memory().unwrap()).collect::<Vec<_>>();
        Readers::start(connections, most_waiting).unwrap()
    }

    #[tokio::test]
    async fn a_read_too_many_is_refused_and_a_dropped_one_leaves_its_place() {
        let (readers, _threads) = pool(1, 1);
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let mut context = Context::from_waker(Waker::noop());
        let work = move |_: &Connection| {
            let _ = held.recv();
            Ok(1)
        };
        let mut busy = Box::pin(readers.read(work, || {}));
        assert!(busy.as_mut().poll(&mut context).is_pending());
        let mut waits = Box::pin(readers.read(|_| Ok(2), || {}));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        let error = readers.read(|_| Ok(3), || {}).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Overloaded, false));
        drop(waits);
        let mut waits = Box::pin(readers.read(|_| Ok(4), || {}));
        assert!(matches!(waits.as_mut().poll(&mut context), Poll::Pending));
        release.send(()).unwrap();
        assert_eq!(busy.await.unwrap(), 1);
        assert_eq!(waits.await.unwrap(), 4);
    }

    #[tokio::test]
    async fn a_caller_helps_only_where_a_thread_was_free() {
        let (readers, _threads) = pool(1, 1);
        let helped = AtomicUsize::new(0);
        let help = || {
            helped.fetch_add(1, Ordering::Relaxed);
        };
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let work = move |_: &Connection| {
            let _ = held.recv();
            Ok(1)
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut busy = Box::pin(readers.read(work, help));
        assert!(busy.as_mut().poll(&mut context).is_pending());
        assert_eq!(helped.load(Ordering::Relaxed), 1);
        let mut waits = Box::pin(readers.read(|_| Ok(2), help));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        release.send(()).unwrap();
        assert_eq!((busy.await.unwrap(), waits.await.unwrap()), (1, 2));
        assert_eq!(helped.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_caller_stops_looking_and_sleeps() {
        let (readers, _threads) = pool(1, 1);
        let (release, held) = crossbeam_channel::bounded::<()>(0);
        let work = move |_: &Connection| {
            let _ = held.recv();
            Ok(1)
        };
        let mut context = Context::from_waker(Waker::noop());
        let mut busy = Box::pin(readers.read(work, || {}));
        for _ in 0..=LOOKS {
            assert!(busy.as_mut().poll(&mut context).is_pending());
        }
        // From here on it is the answer that wakes the task.
        let (sent, woken) = std::sync::mpsc::channel();
        let waker = Waker::from(Arc::new(Notes(sent)));
        assert!(busy.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(woken.try_recv().is_err());
        release.send(()).unwrap();
        woken.recv().unwrap();
        assert_eq!(busy.await.unwrap(), 1);
    }

    /// Notes that a task was woken.
    struct Notes(std::sync::mpsc::Sender<()>);

    impl std::task::Wake for Notes {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_no_thread() {
        let (readers, threads) = pool(1, 1);
        let panicked = readers.read::<()>(|_| panic!("on purpose"), || {}).await.unwrap_err();
        assert_eq!(panicked.kind(), ErrorKind::Unexpected);
        assert_eq!(readers.read(|_| Ok(5), || {}).await.unwrap(), 5);
        readers.stop();
        assert_eq!(
            readers.read(|_| Ok(6), || {}).await.unwrap_err().kind(),
            ErrorKind::Unavailable
        );
        for thread in threads {
            thread.join().unwrap();
        }
    }
}

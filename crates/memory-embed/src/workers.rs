//! Bounded threads for work that blocks: arithmetic, and waiting on a socket.
//!
//! Futures of the embedders never block whoever polls them, and need no runtime.
//!
//! There are two queues: one of jobs that somebody waits for at once, and one of parts of bulk
//! work. A thread that becomes free takes from the second only when the first is empty; a job that
//! has begun is never interrupted. A job is queued from the first poll of its future until a
//! thread takes it or the future is dropped, which frees what the job holds: the queues hold
//! what somebody still waits for and nothing else.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use futures::channel::oneshot;
use memory_core::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// Most jobs that wait in each of the queues. 4,096: at 10 ms a job, which is short, the last of
/// them waits 40 s for one thread, longer than callers do; and so many requests of 64 texts of 1 kB
/// hold 256 MB. Each queue has its own bound, so that bulk work does not keep questions out.
const MOST_WAITING: usize = 4_096;

/// So many threads at the most, started one by one as there is work for them. They end when this
/// is dropped and what they work on is done; nothing waits for that.
pub(crate) struct Workers {
    name: &'static str,
    most: usize,
    started: Mutex<usize>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queues: Mutex<Queues>,
    /// Told of every job that is queued, and of the end.
    changed: Condvar,
}

#[derive(Default)]
struct Queues {
    at_once: Queue,
    later: Queue,
    /// Whether the threads are to end.
    over: bool,
}

/// Jobs by their ticket: the lowest is the next, and any can be taken back.
#[derive(Default)]
struct Queue {
    jobs: BTreeMap<u64, Job>,
    tickets: u64,
}

/// Which queue a job is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    AtOnce,
    Later,
}

impl Workers {
    /// At least one thread, whatever `most` says.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        Self { name, most: most.max(1), started: Mutex::new(0), shared: Arc::default() }
    }

    /// How many jobs can run side by side.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Runs a job that somebody waits for at once: a thread that becomes free takes it before any
    /// of [`Workers::run_later`]. Jobs of this kind begin in the order of their first polls.
    ///
    /// # Errors
    /// `Overloaded`: 4,096 such jobs wait already. `Unavailable`: no thread can be started.
    /// `Unexpected`: the job panicked.
    ///
    /// # Cancellation
    /// Dropping the future of a job that has not begun frees the job and all that it holds, at
    /// once. One that has begun runs to its end, for nobody.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.queued(Turn::AtOnce, job).await
    }

    /// Runs a part of bulk work, when no job of [`Workers::run`] waits. Whoever has many parts
    /// polls only some of them at a time ([`Workers::most`] and a few more keep the threads busy):
    /// all at once could meet the bound by themselves. As [`Workers::run`] otherwise.
    ///
    /// # Errors
    /// As [`Workers::run`]; jobs of that kind do not count here.
    ///
    /// # Cancellation
    /// As [`Workers::run`].
    pub(crate) async fn run_later<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.queued(Turn::Later, job).await
    }

    async fn queued<T, F>(&self, turn: Turn, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            // A panic must not take the thread along; its answer is the dropped channel.
            if let Ok(value) = catch_unwind(AssertUnwindSafe(job)) {
                // Whoever asked may have gone.
                let _ = answer.send(value);
            }
        });
        self.start_one()?;
        // Until the end of this future, however it ends.
        let _place = self.shared.enter(turn, job)?;
        answered
            .await
            .map_err(|_| Error::new(ErrorKind::Unexpected, "the work of an embedder panicked"))
    }

    /// Starts one more thread while there are fewer than may be.
    fn start_one(&self) -> Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started >= self.most {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let spawned =
            thread::Builder::new().name(format!("{}-{started}", self.name)).spawn(move || {
                while let Some(job) = shared.next() {
                    job();
                }
            });
        match spawned {
            Ok(_) => *started += 1,
            // Those that run already will do.
            Err(_) if *started > 0 => {}
            Err(error) => {
                return Err(Error::new(ErrorKind::Unavailable, "no thread can be started")
                    .with_source(error));
            }
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No foreign code runs under the lock: jobs are dropped outside of it.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a job, unless too many wait.
    fn enter(&self, turn: Turn, job: Job) -> Result<Place<'_>> {
        let mut queues = self.lock();
        let queue = queues.of(turn);
        if queue.jobs.len() >= MOST_WAITING {
            drop(queues);
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!("{MOST_WAITING} jobs of the embedder wait already; try again later"),
            ));
        }
        let ticket = queue.tickets;
        queue.tickets += 1;
        queue.jobs.insert(ticket, job);
        drop(queues);
        self.changed.notify_one();
        Ok(Place { shared: self, turn, ticket })
    }

    /// Waits for the next job; `None` at the end.
    fn next(&self) -> Option<Job> {
        let mut queues = self.lock();
        loop {
            let first = queues.at_once.jobs.pop_first();
            if let Some((_, job)) = first.or_else(|| queues.later.jobs.pop_first()) {
                return Some(job);
            }
            if queues.over {
                return None;
            }
            queues = self.changed.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queues {
    fn of(&mut self, turn: Turn) -> &mut Queue {
        match turn {
            Turn::AtOnce => &mut self.at_once,
            Turn::Later => &mut self.later,
        }
    }
}

/// A job's place in its queue. Dropping it takes the job back if it has not begun.
struct Place<'a> {
    shared: &'a Shared,
    turn: Turn,
    ticket: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let job = self.shared.lock().of(self.turn).jobs.remove(&self.ticket);
        // After the lock: what a job holds may do anything as it goes.
        drop(job);
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("name", &self.name).field("most", &self.most).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use futures::executor::block_on;
    use futures::future::{FutureExt as _, join_all};

    use super::*;

    #[test]
    fn jobs_run_side_by_side_up_to_the_bound_and_answer_in_order() {
        let workers = Workers::new("test", 3);
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let waiting = (0..3).map(|n| {
            let barrier = Arc::clone(&barrier);
            // Each waits for the two others: fewer than three threads would never end.
            workers.run(move || {
                barrier.wait();
                n
            })
        });
        let answers = block_on(join_all(waiting));
        assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(*workers.started.lock().unwrap(), 3);
    }

    #[test]
    fn a_panic_is_an_error_and_the_thread_goes_on() {
        let workers = Workers::new("test", 1);
        for later in [false, true] {
            let job = || -> () { panic!("on purpose") };
            let error = match later {
                false => block_on(workers.run(job)).unwrap_err(),
                true => block_on(workers.run_later(job)).unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::Unexpected);
            assert_eq!(block_on(workers.run(|| 7)).unwrap(), 7);
        }
    }

    /// One thread that is busy until it is released.
    fn busy(workers: &Workers) -> (mpsc::Sender<()>, impl Future<Output = Result<bool>>) {
        let (release, held) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let mut first = Box::pin(workers.run(move || {
            begin.send(()).unwrap();
            held.recv().is_ok()
        }));
        assert!(first.as_mut().now_or_never().is_none());
        begun.recv().unwrap();
        (release, first)
    }

    #[test]
    fn what_is_waited_for_at_once_goes_before_bulk_work_and_each_in_its_order() {
        let workers = Workers::new("test", 1);
        let (release, first) = busy(&workers);
        let (ran, seen) = mpsc::channel();
        let mut waiting = Vec::new();
        for (later, name) in
            [(true, "bulk 1"), (false, "question 1"), (true, "bulk 2"), (false, "question 2")]
        {
            let ran = ran.clone();
            let job = move || ran.send(name).is_ok();
            let mut job = match later {
                false => workers.run(job).boxed(),
                true => workers.run_later(job).boxed(),
            };
            assert!(job.as_mut().now_or_never().is_none());
            waiting.push(job);
        }
        release.send(()).unwrap();
        assert!(block_on(first).unwrap());
        assert!(block_on(join_all(waiting)).into_iter().all(Result::unwrap));
        let order: Vec<_> = seen.try_iter().collect();
        assert_eq!(order, ["question 1", "question 2", "bulk 1", "bulk 2"]);
    }

    #[test]
    fn a_job_nobody_waits_for_is_freed_at_once_and_not_begun_and_another_is_kept() {
        let workers = Workers::new("test", 1);
        let (release, first) = busy(&workers);
        let (ran, seen) = mpsc::channel();
        let text = Arc::new("a text");
        let job = |name| {
            let (ran, held) = (ran.clone(), Arc::clone(&text));
            move || ran.send((name, *held)).is_ok()
        };
        let mut dropped = [
            workers.run(job("dropped")).boxed(),
            workers.run_later(job("dropped")).boxed(),
            // Never polled: never queued.
            workers.run(job("dropped")).boxed(),
        ];
        let mut kept = workers.run_later(job("kept")).boxed();
        assert!(kept.as_mut().now_or_never().is_none());
        for job in &mut dropped[..2] {
            assert!(job.now_or_never().is_none());
        }
        assert_eq!(Arc::strong_count(&text), 5);
        drop(dropped);
        // The thread is still busy, and what is left is that of the one that is waited for.
        assert_eq!(Arc::strong_count(&text), 2);
        release.send(()).unwrap();
        assert!(block_on(first).unwrap());
        assert!(block_on(kept).unwrap());
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [("kept", "a text")]);
    }

    #[test]
    fn a_full_queue_refuses_and_takes_again_and_the_other_is_not_touched() {
        let workers = Workers::new("test", 1);
        let (release, first) = busy(&workers);
        let mut waiting: Vec<_> =
            (0..MOST_WAITING).map(|n| workers.run_later(move || n).boxed()).collect();
        for job in &mut waiting {
            assert!(job.now_or_never().is_none());
        }
        let error = block_on(workers.run_later(|| 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Overloaded);
        assert!(error.is_retryable());
        // A question is taken, and so is bulk work once a place is free.
        let mut question = workers.run(|| 1).boxed();
        assert!(question.as_mut().now_or_never().is_none());
        drop(waiting.pop());
        let mut last = workers.run_later(|| 2).boxed();
        assert!(last.as_mut().now_or_never().is_none());
        release.send(()).unwrap();
        assert!(block_on(first).unwrap());
        assert_eq!(block_on(question).unwrap(), 1);
        assert_eq!(block_on(last).unwrap(), 2);
        assert_eq!(block_on(join_all(waiting)).len(), MOST_WAITING - 1);
        assert!(workers.shared.lock().later.jobs.is_empty());
    }

    #[test]
    fn the_threads_end_with_their_owner() {
        let workers = Workers::new("test", 2);
        assert_eq!(block_on(workers.run(|| 7)).unwrap(), 7);
        assert_eq!(block_on(workers.run_later(|| 8)).unwrap(), 8);
        let shared = Arc::downgrade(&workers.shared);
        drop(workers);
        // Both hold a part of it as long as they run.
        let limit = std::time::Duration::from_secs(30);
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            while shared.strong_count() > 0 {
                thread::yield_now();
            }
            end.send(()).unwrap();
        });
        ended.recv_timeout(limit).unwrap();
    }
}

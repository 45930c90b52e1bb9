//! Bounded threads for work that blocks: arithmetic, and waiting on a socket.
//!
//! Futures of the embedders never block whoever polls them, and need no runtime.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::thread;

use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::channel::oneshot;
use memory_core::{Error, ErrorKind, Result};

type Job = Box<dyn FnOnce() + Send>;

/// So many threads at the most, started one by one as there is work for them. They end when this
/// is dropped and what they work on is done; nothing waits for that.
pub(crate) struct Workers {
    name: &'static str,
    most: usize,
    started: Mutex<usize>,
    jobs: Sender<Job>,
    taken: Receiver<Job>,
}

impl Workers {
    /// At least one thread, whatever `most` says.
    pub(crate) fn new(name: &'static str, most: usize) -> Self {
        let (jobs, taken) = unbounded();
        Self { name, most: most.max(1), started: Mutex::new(0), jobs, taken }
    }

    /// How many jobs can run side by side.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Runs a job on one of the threads. The queue holds what callers wait for and nothing else:
    /// a job whose future was dropped before it began is not run.
    ///
    /// # Errors
    /// `Unavailable`: no thread can be started. `Unexpected`: the job panicked.
    pub(crate) async fn run<T, F>(&self, job: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move || {
            if answer.is_canceled() {
                return;
            }
            // A panic must not take the thread along; its answer is the dropped channel.
            if let Ok(value) = catch_unwind(AssertUnwindSafe(job)) {
                // Whoever asked may have gone.
                let _ = answer.send(value);
            }
        });
        self.start_one()?;
        let gone = || Error::new(ErrorKind::Unexpected, "the work of an embedder panicked");
        self.jobs.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }

    /// Starts one more thread while there are fewer than may be.
    fn start_one(&self) -> Result<()> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started >= self.most {
            return Ok(());
        }
        let taken = self.taken.clone();
        let spawned = thread::Builder::new()
            .name(format!("{}-{started}", self.name))
            .spawn(move || taken.iter().for_each(|job| job()));
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

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workers").field("name", &self.name).field("most", &self.most).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
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
        let error = block_on(workers.run(|| panic!("on purpose"))).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unexpected);
        assert_eq!(block_on(workers.run(|| 7)).unwrap(), 7);
    }

    #[test]
    fn a_job_nobody_waits_for_is_not_begun_and_one_that_is_waited_for_is() {
        let workers = Workers::new("test", 1);
        let (release, held) = mpsc::channel::<()>();
        let (ran, seen) = mpsc::channel();
        let mut first = Box::pin(workers.run(move || held.recv().is_ok()));
        assert!(first.as_mut().now_or_never().is_none());
        let told = ran.clone();
        let mut dropped = Box::pin(workers.run(move || told.send("dropped").is_ok()));
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        let last = workers.run(move || ran.send("waited for").is_ok());
        release.send(()).unwrap();
        assert!(block_on(first).unwrap());
        assert!(block_on(last).unwrap());
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), ["waited for"]);
    }
}

//! The one thread that writes: callers queue closures, it commits them in groups.
//!
//! A group is one transaction with a savepoint for each caller: a failure rolls back its own
//! savepoint only, and callers are answered after COMMIT. If COMMIT itself fails, the outcome is
//! unknown to all of them. Two callers cost one sync, as do two hundred. A caller that is alone
//! needs no savepoint: its failure rolls back the transaction.
//!
//! The log is folded into the file between groups, after the answers: no caller waits for that but
//! one who comes meanwhile.

use std::any::Any;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory_core::{Error, ErrorKind, Result};
use rusqlite::Connection;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use crate::error::{closed, thread_gone};
use crate::syncs::{Log, LogSettings};
use crate::{BACKEND, rows};

/// How often the writer looks for the next job, giving way each time, before it sleeps after a
/// group: some 20 microseconds, which is what a caller takes between an answer and the next write,
/// and about what waking a thread takes.
const LOOKS: u32 = 40;

/// What a queued write sees: the connection inside the group's transaction, and the counter.
pub(crate) struct WriteTxn<'a> {
    /// The connection. Nothing here begins or ends a transaction.
    pub(crate) connection: &'a Connection,
    counter: &'a mut i64,
    log_keep: i64,
    due: &'a mut BTreeSet<i64>,
}

impl WriteTxn<'_> {
    /// The next number of the store: a position, a revision, a fencing token, a tenant.
    pub(crate) fn next_number(&mut self) -> i64 {
        *self.counter += 1;
        *self.counter
    }

    /// Notes a change of a tenant at a position, for the trimming of its log.
    ///
    /// One in a quarter of what is kept makes the trimming due, so that the log holds little more
    /// than it should. Which one is decided by the position alone, well mixed, so that processes
    /// that live for a single write do their share, and tenants that write in turns do too.
    pub(crate) fn note_change(&mut self, tenant: i64, position: i64) {
        let often = (self.log_keep / 4).unsigned_abs() + 1;
        let mixed = position.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        if mixed.is_multiple_of(often) {
            self.due.insert(tenant);
        }
    }
}

/// Answers a caller once the fate of the group is known.
type Answer = Box<dyn FnOnce(Option<&Error>) + Send>;

/// A queued write.
trait WriteJob: Send {
    /// Does the work inside a savepoint; says whether to keep it, and how to answer.
    fn run(self: Box<Self>, txn: &mut WriteTxn<'_>) -> (bool, Answer);
    /// Answers without having done anything.
    fn fail(self: Box<Self>, error: &Error);
}

struct Queued<T, F> {
    work: F,
    answer: oneshot::Sender<Result<T>>,
}

impl<T, F> WriteJob for Queued<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut WriteTxn<'_>) -> Result<T> + Send,
{
    fn run(self: Box<Self>, txn: &mut WriteTxn<'_>) -> (bool, Answer) {
        let Self { work, answer } = *self;
        // Sending fails only where the caller's future was dropped: nobody waits any more.
        match catch_unwind(AssertUnwindSafe(|| work(txn))) {
            Ok(Ok(value)) => {
                let reply: Answer = Box::new(move |failed| {
                    let _ = answer.send(failed.map_or(Ok(value), |error| Err(copy(error))));
                });
                (true, reply)
            }
            Ok(Err(error)) => (false, Box::new(move |_| drop(answer.send(Err(error))))),
            Err(panic) => {
                note_panic(panic.as_ref());
                (false, Box::new(move |_| drop(answer.send(Err(thread_gone())))))
            }
        }
    }

    fn fail(self: Box<Self>, error: &Error) {
        let _ = self.answer.send(Err(copy(error)));
    }
}

/// Work on the connection outside a transaction.
type PlainJob = Box<dyn FnOnce(&Connection) + Send>;

enum Job {
    Write(Box<dyn WriteJob>),
    Plain(PlainJob),
    /// Refuse what comes after; finish what came before.
    Stop,
}

/// Counters of the writer.
#[derive(Debug, Default)]
pub(crate) struct WriterCounters {
    /// Transactions committed.
    pub(crate) groups: AtomicU64,
    /// Callers' writes in them.
    pub(crate) writes: AtomicU64,
    /// Syncs that they took, and the foldings of the log after them.
    pub(crate) syncs: AtomicU64,
}

/// The queue to the writer.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Job>,
    pub(crate) counters: Arc<WriterCounters>,
}

/// How the writer works.
pub(crate) struct WriterSettings {
    pub(crate) queue: usize,
    pub(crate) group: usize,
    pub(crate) log_keep: i64,
    pub(crate) log: LogSettings,
}

impl Writer {
    /// Starts the thread. It ends when the last handle is dropped and the queue is drained.
    pub(crate) fn start(
        mut connection: Connection,
        settings: WriterSettings,
    ) -> Result<(Self, std::thread::JoinHandle<()>)> {
        let (queue, jobs) = mpsc::channel(settings.queue);
        let log = Log::of(&mut connection, settings.log)?;
        let counters = Arc::new(WriterCounters::default());
        let mut state = State {
            connection,
            jobs,
            group: settings.group,
            log_keep: settings.log_keep,
            counters: Arc::clone(&counters),
            due: BTreeSet::new(),
            log,
        };
        let thread = std::thread::Builder::new()
            .name("memory-sqlite-writer".to_owned())
            .spawn(move || state.run())
            .map_err(|error| thread_gone().with_source(error))?;
        Ok((Self { queue, counters }, thread))
    }

    /// Queues a write and waits until its group is committed. `meanwhile` is done on the caller's
    /// thread as soon as the write is queued.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T> + Send + 'static,
        meanwhile: impl FnOnce() + Send,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Queued { work, answer });
        self.queue.send(Job::Write(job)).await.map_err(|_| closed())?;
        meanwhile();
        answered.await.map_err(|_| thread_gone().with_unknown_outcome())?
    }

    /// Runs work on the writer's connection outside a transaction, after what was queued before.
    pub(crate) async fn plain<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        let job: PlainJob = Box::new(move |connection| {
            let _ = answer.send(work(connection));
        });
        self.queue.send(Job::Plain(job)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| thread_gone())?
    }
}

impl Writer {
    /// Refuses what comes after this; what was queued before is finished, and the thread ends.
    ///
    /// Blocks while the queue is full: for a thread of its own, not for a runtime's.
    pub(crate) fn stop(&self) {
        // An error says that it has ended already.
        let _ = self.queue.blocking_send(Job::Stop);
    }
}

/// The same failure for another caller of the group: kind, words and outcome, without the cause.
fn copy(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.message().to_owned())
        .with_backend(error.backend())
        .with_retryable(error.is_retryable());
    for (key, value) in error.context() {
        copy = copy.with_context(key, value.clone());
    }
    match error.outcome() {
        memory_core::Outcome::Unknown => copy.with_unknown_outcome(),
        memory_core::Outcome::NotApplied => copy,
    }
}

struct State {
    connection: Connection,
    jobs: mpsc::Receiver<Job>,
    /// Most writes of a group.
    group: usize,
    log_keep: i64,
    counters: Arc<WriterCounters>,
    /// Tenants whose log is to be trimmed with this group.
    due: BTreeSet<i64>,
    log: Log,
}

impl State {
    fn run(&mut self) {
        while let Some(first) = self.next_job() {
            let mut group = Vec::new();
            let mut plain = None;
            match first {
                // What is queued already is still received, and then the queue ends.
                Job::Stop => self.jobs.close(),
                Job::Plain(job) => plain = Some(job),
                Job::Write(job) => {
                    group.push(job);
                    while group.len() < self.group {
                        match self.jobs.try_recv() {
                            Ok(Job::Write(job)) => group.push(job),
                            Ok(Job::Plain(job)) => {
                                plain = Some(job);
                                break;
                            }
                            Ok(Job::Stop) => {
                                self.jobs.close();
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                }
            }
            if !group.is_empty() {
                self.commit(group);
                let folding = self.log.fold(&self.connection);
                self.counters.syncs.fetch_add(folding, Ordering::Relaxed);
            }
            if let Some(job) = plain {
                // A panic must not end the thread; the caller sees its answer's sender dropped.
                let _ = catch_unwind(AssertUnwindSafe(|| job(&self.connection)));
                self.log.look();
            }
        }
        // The last connection to close folds the log back into the file by itself.
    }

    /// The next job; `None` once the queue has ended.
    fn next_job(&mut self) -> Option<Job> {
        for _ in 0..LOOKS {
            match self.jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => std::thread::yield_now(),
            }
        }
        self.jobs.blocking_recv()
    }

    /// Runs a cached statement without values or rows.
    fn run_sql(&self, sql: &str) -> Result<()> {
        rows::execute(&self.connection, sql, []).map(|_| ())
    }

    /// Commits a group, in more than one transaction only where SQLite gave one up half way.
    fn commit(&mut self, group: Vec<Box<dyn WriteJob>>) {
        let mut waiting = VecDeque::from(group);
        while !waiting.is_empty() {
            self.commit_some(&mut waiting);
        }
    }

    fn commit_some(&mut self, waiting: &mut VecDeque<Box<dyn WriteJob>>) {
        let begun = self.run_sql("BEGIN IMMEDIATE");
        let mut counter = match begun.and_then(|()| rows::read_counter(&self.connection)) {
            Ok(counter) => counter,
            Err(error) => {
                self.roll_back();
                waiting.drain(..).for_each(|job| job.fail(&error));
                return;
            }
        };
        let before = counter;
        let mut answers = Vec::with_capacity(waiting.len());
        let mut kept = 0_u64;
        let alone = waiting.len() == 1;
        while let Some(job) = waiting.pop_front() {
            let (keep, answer) = if alone {
                let (keep, answer) = job.run(&mut self.txn(&mut counter));
                (keep, Some(answer))
            } else {
                self.run_one(job, &mut counter)
            };
            kept += u64::from(keep);
            answers.extend(answer);
            if self.connection.is_autocommit() {
                // On a full disk or a lost page SQLite ends the whole transaction: what the callers
                // before did is gone, and those after get a transaction of their own.
                let error = Error::new(
                    ErrorKind::Unavailable,
                    "another write of the same group met a full or failing disk",
                )
                .with_backend(BACKEND);
                answers.into_iter().for_each(|answer| answer(Some(&error)));
                return;
            }
        }
        if kept == 0 {
            self.roll_back();
            answers.into_iter().for_each(|answer| answer(None));
            return;
        }
        let prepared = (|| {
            if counter != before {
                rows::write_counter(&self.connection, counter)?;
            }
            self.trim_logs()
        })();
        let failed = match prepared {
            Err(error) => Some(error),
            Ok(()) => self
                .run_sql("COMMIT")
                .map_err(|error| error.with_operation("commit").with_unknown_outcome())
                .err(),
        };
        if failed.is_some() {
            self.roll_back();
        } else {
            self.counters.groups.fetch_add(1, Ordering::Relaxed);
            self.counters.writes.fetch_add(kept, Ordering::Relaxed);
            self.counters.syncs.fetch_add(self.log.committed(), Ordering::Relaxed);
        }
        answers.into_iter().for_each(|answer| answer(failed.as_ref()));
    }

    fn txn<'a>(&'a mut self, counter: &'a mut i64) -> WriteTxn<'a> {
        WriteTxn {
            connection: &self.connection,
            counter,
            log_keep: self.log_keep,
            due: &mut self.due,
        }
    }

    /// Runs one caller's work in its savepoint.
    fn run_one(&mut self, job: Box<dyn WriteJob>, counter: &mut i64) -> (bool, Option<Answer>) {
        if let Err(error) = self.run_sql("SAVEPOINT caller") {
            job.fail(&error);
            return (false, None);
        }
        let (keep, answer) = job.run(&mut self.txn(counter));
        if keep {
            return match self.run_sql("RELEASE caller") {
                Ok(()) => (true, Some(answer)),
                Err(error) => {
                    answer(Some(&error));
                    (false, None)
                }
            };
        }
        // These fail only where the whole transaction is gone, which the caller of this looks for.
        let _ = self.run_sql("ROLLBACK TO caller").and_then(|()| self.run_sql("RELEASE caller"));
        (false, Some(answer))
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // It can fail only where SQLite has rolled back already.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    fn trim_logs(&mut self) -> Result<()> {
        for tenant in std::mem::take(&mut self.due) {
            rows::trim_log(&self.connection, tenant, self.log_keep)?;
        }
        Ok(())
    }
}

fn note_panic(panic: &(dyn Any + Send)) {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_default();
    tracing::error!(panic = words, "a write panicked; it was rolled back");
}

//! The handle: one SQLite file as every trait that it serves.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use async_trait::async_trait;
use memory_core::limits::SWEEP;
use memory_core::traits::{
    EraseReceipt, EraseScope, EraseStep, EraseToken, IndexHits, KeywordEntry, KeywordIndex,
    KeywordQuery, Ledger, RecordStore, SweepStep, UpsertOutcome, Usage, VectorEntry, VectorIndex,
    VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Capability, Clock, Commit, CommitReceipt, Durability,
    EmbeddingSpace, Error, ErrorKind, Filter, Health, HealthStatus, MemoryId, MemoryItem, Page,
    Projection, Query, Result,
};
use memory_text::{Analyzer, Language};
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::ahead::Ahead;
use crate::apply::Prepared;
use crate::erase::Progress;
use crate::error::closed;
use crate::indexes::Indexes;
use crate::meta::VectorWrite;
use crate::readers::Readers;
use crate::settings::{SqliteSettings, Synchronous};
use crate::syncs::LogSettings;
use crate::writer::{WriteTxn, Writer, WriterCounters, WriterSettings};
use crate::{BACKEND, apply, erase, meta, missing, open, read, search, upkeep, vectors};

/// One SQLite file as a store of records, vectors and keywords.
///
/// Dropping the last handle ends its threads and closes the file without waiting for them;
/// [`RecordStore::close`] waits.
#[derive(Debug)]
pub struct SqliteStore {
    pub(crate) settings: SqliteSettings,
    pub(crate) clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
    pub(crate) shared: Arc<Shared>,
    /// `None` once closed: dropping the queues ends the threads.
    queues: RwLock<Option<Queues>>,
    pub(crate) counters: Arc<WriterCounters>,
    threads: Mutex<Option<Threads>>,
    /// Whether the last write met a full or failing disk.
    ailing: AtomicBool,
}

/// The threads, to wait for at the close.
#[derive(Debug)]
struct Threads {
    writer: JoinHandle<()>,
    readers: Vec<JoinHandle<()>>,
}

/// What work on the threads needs.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) analyzer: Analyzer,
    pub(crate) indexes: Indexes,
}

#[derive(Debug, Clone)]
struct Queues {
    writer: Writer,
    readers: Readers,
}

impl SqliteStore {
    /// Opens a file, making it where there is none, and starts the threads.
    ///
    /// Blocks: it migrates an older file, and makes the keyword terms anew where the language
    /// changed.
    ///
    /// # Errors
    /// `Config`: the settings, another program's database, or a file that is opened read-only
    /// while its keyword terms are of another language. `NotFound`: read-only and no file,
    /// or no folder. `Corrupt`: no database. `Unsupported`: a newer schema. `PermissionDenied` and
    /// `Unavailable` as the file system says.
    pub fn open(
        settings: SqliteSettings,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Arc<Self>> {
        settings.validate()?;
        let language: Language = settings
            .language
            .parse()
            .map_err(|_| Error::new(ErrorKind::Config, "the language is not known"))?;
        let analyzer = Analyzer::new(language);
        let first = open::writer(&settings, &analyzer).map_err(|e| e.with_operation("open"))?;
        let mut connections = Vec::new();
        if !settings.is_in_memory() {
            for _ in 0..settings.readers {
                connections.push(open::reader(&settings)?);
            }
        }
        let (writer, thread) = Writer::start(
            first,
            WriterSettings {
                queue: bound(settings.write_queue),
                group: bound(settings.group_commits),
                log_keep: i64::from(settings.change_log_keep),
                log: LogSettings::of(&settings),
            },
        )?;
        let (readers, reading) = if connections.is_empty() {
            (Readers::Writer(writer.clone()), Vec::new())
        } else {
            Readers::start(connections, bound(settings.read_queue))?
        };
        let indexes = Indexes::new(settings.index_bytes, settings.vectors_in_memory);
        Ok(Arc::new(Self {
            shared: Arc::new(Shared { analyzer, indexes }),
            counters: Arc::clone(&writer.counters),
            queues: RwLock::new(Some(Queues { writer, readers })),
            threads: Mutex::new(Some(Threads { writer: thread, readers: reading })),
            ailing: AtomicBool::new(false),
            settings,
            clock,
            ledger,
        }))
    }

    fn queues(&self) -> Result<Queues> {
        let queues = self.queues.read().unwrap_or_else(PoisonError::into_inner);
        queues.clone().ok_or_else(closed)
    }

    pub(crate) async fn read<T: Send + 'static>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl FnOnce(&Connection, &Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.read_with(operation, context, work, || {}).await
    }

    /// As [`SqliteStore::read`]; does something on the caller's thread once a thread that was free
    /// has the work.
    async fn read_with<T: Send + 'static>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl FnOnce(&Connection, &Shared) -> Result<T> + Send + 'static,
        meanwhile: impl FnOnce() + Send,
    ) -> Result<T> {
        let deadline = self.deadline(context)?;
        let shared = Arc::clone(&self.shared);
        let clock = Arc::clone(&self.clock);
        let work = move |connection: &Connection| {
            // Once more after the wait for a thread.
            if let Some(context) = &deadline {
                context.check_deadline(clock.monotonic())?;
            }
            work(connection, &shared)
        };
        let answer = self.queues()?.readers.read(work, meanwhile).await;
        answer.map_err(|error| named(error, operation))
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.write_with(operation, context, work, || {}).await
    }

    /// As [`SqliteStore::write`]; does something on the caller's thread once the work is queued.
    async fn write_with<T: Send + 'static>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl FnOnce(&mut WriteTxn<'_>) -> Result<T> + Send + 'static,
        meanwhile: impl FnOnce() + Send,
    ) -> Result<T> {
        let deadline = self.deadline(context)?;
        let clock = Arc::clone(&self.clock);
        if self.settings.read_only {
            return Err(named(
                Error::new(ErrorKind::PermissionDenied, "the store is opened read-only"),
                operation,
            ));
        }
        let work = move |txn: &mut WriteTxn<'_>| {
            if let Some(context) = &deadline {
                context.check_deadline(clock.monotonic())?;
            }
            work(txn)
        };
        let answer = self.queues()?.writer.write(work, meanwhile).await;
        self.note(&answer);
        answer.map_err(|error| named(error, operation))
    }

    fn deadline(&self, context: Option<&CallContext>) -> Result<Option<CallContext>> {
        let Some(context) = context else { return Ok(None) };
        if context.deadline.is_none() {
            return Ok(None);
        }
        context.check_deadline(self.clock.monotonic())?;
        Ok(Some(context.clone()))
    }

    /// Remembers a failing disk for [`RecordStore::health`].
    fn note<T>(&self, answer: &Result<T>) {
        match answer {
            Ok(_) => self.ailing.store(false, Ordering::Relaxed),
            Err(error) if error.kind() == ErrorKind::Unavailable && !error.is_retryable() => {
                self.ailing.store(true, Ordering::Relaxed);
            }
            Err(_) => {}
        }
    }

    fn spend(&self, operation: &'static str, usage: Usage) {
        self.ledger.record(BACKEND, operation, usage);
    }

    /// Ends the threads, as [`RecordStore::close`] says; both index traits close the same file.
    async fn shut(&self) -> Result<()> {
        let queues = self.queues.write().unwrap_or_else(PoisonError::into_inner).take();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let (Some(queues), Some(threads)) = (queues, threads) else {
            return Ok(());
        };
        // Joining blocks, so a thread does it while the caller's may go on with other tasks.
        let (done, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("memory-sqlite-close".to_owned())
            .spawn(move || {
                // Calls that are under way hold queues of their own, so the threads are told to
                // end. The writer is the last: two connections that close at once leave the log
                // beside the file, and the one that closes alone folds it in.
                queues.readers.stop();
                let readers: Vec<_> = threads.readers.into_iter().map(JoinHandle::join).collect();
                queues.writer.stop();
                let writer = threads.writer.join();
                let _ = done.send(writer.is_ok() && readers.iter().all(Result::is_ok));
            })
            .map_err(|error| crate::error::thread_gone().with_source(error))?;
        match ended.await {
            Ok(true) => Ok(()),
            _ => Err(crate::error::thread_gone()),
        }
    }

    fn health_now(&self, answer: &Result<()>) -> Health {
        let mut health = Health::healthy();
        if let Err(error) = answer {
            health.lower(HealthStatus::Unhealthy, format!("the file cannot be read: {error}"));
        }
        if self.ailing.load(Ordering::Relaxed) {
            health.lower(HealthStatus::Degraded, "the last write met a full or failing disk");
        }
        if self.settings.synchronous != Synchronous::Full && !self.settings.is_in_memory() {
            health.detail("durability", "weaker than full: the last commits may be lost");
        }
        let indexes = self.shared.indexes.stats();
        health.detail("index_tenants", indexes.entries.to_string());
        health.detail("index_bytes", indexes.bytes.to_string());
        health.detail("kernel", memory_distance::active_name());
        health
    }

    fn declared(&self) -> Capabilities {
        let durability = match self.settings.synchronous {
            _ if self.settings.is_in_memory() => Durability::Volatile,
            Synchronous::Full => Durability::PowerLoss,
            Synchronous::Normal | Synchronous::Off => Durability::ProcessCrash,
        };
        Capabilities::new(BACKEND, Capability::ALL, durability)
    }
}

fn bound(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

pub(crate) fn named(error: Error, operation: &'static str) -> Error {
    error.with_backend(BACKEND).with_operation(operation)
}

fn bytes_of(items: impl Iterator<Item = usize>) -> u64 {
    items.map(|bytes| bytes as u64).sum()
}

#[async_trait]
impl RecordStore for SqliteStore {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let prepared = Prepared::new(commit, Arc::clone(&self.shared))
            .map_err(|error| named(error, "commit"))?;
        let (prepared, clock) = (Arc::new(prepared), Arc::clone(&self.clock));
        let (owned, shared) = (context.clone(), Arc::clone(&prepared));
        let work = move |txn: &mut WriteTxn<'_>| apply::apply(txn, &owned, &shared, clock.now());
        // Terms and int8 copies are made here, on the caller's thread, while the writer wakes,
        // begins its transaction and writes the rows that are made already.
        let make = || prepared.make();
        let receipt = self.write_with("commit", Some(context), work, make).await?;
        self.spend("commit", prepared.usage());
        Ok(receipt)
    }

    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        if ids.is_empty() {
            self.queues()?;
            return Ok(Vec::new());
        }
        let (owned, ids, projection) = (context.clone(), ids.to_vec(), projection.clone());
        let clock = Arc::clone(&self.clock);
        let found = self
            .read("fetch", Some(context), move |connection, _| {
                read::fetch(connection, &owned, &ids, &projection, clock.now())
            })
            .await?;
        let items = found.iter().flatten();
        let bytes = bytes_of(items.clone().map(|item| item.content().len()));
        self.spend("fetch", Usage::reads(items.count() as u64).with_bytes(bytes));
        Ok(found)
    }

    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let (owned, query) = (context.clone(), query.clone());
        let clock = Arc::clone(&self.clock);
        let page = self
            .read("query", Some(context), move |connection, _| {
                read::query(connection, &owned, &query, clock.now())
            })
            .await?;
        let bytes = bytes_of(page.items.iter().map(|item| item.content().len()));
        self.spend("query", Usage::reads(page.items.len() as u64).with_bytes(bytes));
        Ok(page)
    }

    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        let (owned, filter) = (context.clone(), filter.clone());
        let clock = Arc::clone(&self.clock);
        let count = self
            .read("count", Some(context), move |connection, _| {
                read::count(connection, &owned, &filter, clock.now())
            })
            .await?;
        self.spend("count", Usage::reads(1));
        Ok(count)
    }

    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        if limit == 0 || limit > SWEEP {
            return Err(named(Error::invalid(format!("a sweep takes 1 to {SWEEP}")), "sweep"));
        }
        let (owned, now) = (context.clone(), self.clock.now());
        let step = self
            .write("sweep_expired", Some(context), move |txn| erase::sweep(txn, &owned, limit, now))
            .await?;
        self.spend("sweep_expired", Usage::writes(0, step.removed));
        Ok(step)
    }

    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let (owned, scope, now) = (context.clone(), scope.clone(), self.clock.now());
        let batch = self.settings.erase_batch;
        let progress = self
            .write("erase", Some(context), move |txn| {
                erase::step(txn, &owned, &scope, resume.as_ref(), batch, now)
            })
            .await?;
        match progress {
            Progress::More { erased, next } => {
                self.spend("erase", Usage::writes(0, erased));
                Ok(EraseStep { erased, next: Some(next), receipt: None })
            }
            Progress::Done { erased, began_at } => {
                self.spend("erase", Usage::writes(0, erased));
                // The rows are gone; what the clearing meets is told by the receipt.
                let rewrite = self.settings.erase_rewrites && !self.settings.is_in_memory();
                let cleared = self
                    .queues()?
                    .writer
                    .plain(move |connection| erase::clear_bytes(connection, rewrite))
                    .await;
                let receipt = EraseReceipt {
                    began_at,
                    ended_at: self.clock.now(),
                    bytes_cleared: cleared.unwrap_or(false) || self.settings.is_in_memory(),
                };
                Ok(EraseStep { erased, next: None, receipt: Some(receipt) })
            }
        }
    }

    async fn health(&self) -> Health {
        let answer = self.read("health", None, |connection, _| upkeep::ping(connection)).await;
        self.health_now(&answer)
    }

    async fn close(&self) -> Result<()> {
        self.shut().await
    }

    fn capabilities(&self) -> Capabilities {
        self.declared()
    }
}

#[async_trait]
impl VectorIndex for SqliteStore {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let operation = "upsert_vectors";
        vectors::check_entries(entries.len()).map_err(|error| named(error, operation))?;
        let writes = entries
            .iter()
            .map(|entry| {
                space.check(&entry.vector)?;
                Ok(VectorWrite {
                    id: entry.id.clone(),
                    revision: Some(entry.revision.clone()),
                    vector: Some(vectors::encode_one(&entry.vector)?),
                })
            })
            .collect::<Result<Vec<_>>>()
            .map_err(|error| named(error, operation))?;
        let (owned, space) = (context.clone(), space.clone());
        let clock = Arc::clone(&self.clock);
        let outcomes = self
            .write(operation, Some(context), move |txn| {
                meta::write_vectors(txn, &owned, &space, &writes, clock.now())
            })
            .await?;
        self.spend(operation, Usage::writes(outcomes.len() as u64, 0));
        Ok(outcomes)
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        let operation = "remove_vectors";
        vectors::check_entries(ids.len()).map_err(|error| named(error, operation))?;
        let writes: Vec<_> = ids
            .iter()
            .map(|id| VectorWrite { id: id.clone(), revision: None, vector: None })
            .collect();
        let (owned, space) = (context.clone(), space.clone());
        let clock = Arc::clone(&self.clock);
        let outcomes = self
            .write(operation, Some(context), move |txn| {
                meta::write_vectors(txn, &owned, &space, &writes, clock.now())
            })
            .await?;
        self.spend(operation, Usage::writes(0, outcomes.len() as u64));
        Ok(())
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        let operation = "missing_vectors";
        let (owned, space) = (context.clone(), space.clone());
        let clock = Arc::clone(&self.clock);
        let ids = self
            .read(operation, Some(context), move |connection, _| {
                missing::page(connection, &owned, &space, after.as_ref(), limit, clock.now())
            })
            .await?;
        self.spend(operation, Usage::reads(ids.len() as u64));
        Ok(ids)
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        let (owned, asked) = (context.clone(), query.clone());
        let clock = Arc::clone(&self.clock);
        let ahead = Arc::new(Ahead::default());
        let theirs = Arc::clone(&ahead);
        let work = move |connection: &Connection, shared: &Shared| {
            search::nearest(connection, &shared.indexes, &owned, &asked, &theirs, clock.now())
        };
        let meanwhile = || ahead.scan(&self.shared.indexes, &context.tenant, query);
        let hits = self.read_with("search_vectors", Some(context), work, meanwhile).await?;
        self.spend("search_vectors", Usage::reads(hits.hits.len() as u64));
        Ok(hits)
    }

    async fn health(&self) -> Health {
        RecordStore::health(self).await
    }

    async fn close(&self) -> Result<()> {
        self.shut().await
    }

    fn capabilities(&self) -> Capabilities {
        self.declared()
    }
}

#[async_trait]
impl KeywordIndex for SqliteStore {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        let operation = "upsert_keywords";
        vectors::check_entries(entries.len()).map_err(|error| named(error, operation))?;
        // The terms stand in the item's own row and were made with it: all that is left to say is
        // whether the item is still what the caller read.
        let ids: Vec<MemoryId> = entries.iter().map(|entry| entry.id.clone()).collect();
        let found = self.fetch(context, &ids, &Projection::narrow()).await?;
        Ok(found
            .into_iter()
            .zip(entries)
            .map(|(item, entry)| match item {
                Some(item) if item.revision.as_ref() == Some(&entry.revision) => {
                    UpsertOutcome::Stored
                }
                _ => UpsertOutcome::Stale,
            })
            .collect())
    }

    async fn remove(&self, _context: &CallContext, _ids: &[MemoryId]) -> Result<()> {
        self.queues()?;
        Err(named(
            Error::unsupported("the words of an item stand in its own row: delete the item"),
            "remove_keywords",
        ))
    }

    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        let (owned, query) = (context.clone(), query.clone());
        let clock = Arc::clone(&self.clock);
        let hits = self
            .read("search_keywords", Some(context), move |connection, shared| {
                search::keywords(
                    connection,
                    &shared.indexes,
                    &shared.analyzer,
                    &owned,
                    &query,
                    clock.now(),
                )
            })
            .await?;
        self.spend("search_keywords", Usage::reads(hits.hits.len() as u64));
        Ok(hits)
    }

    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        let (owned, names) = (context.clone(), names.to_vec());
        let clock = Arc::clone(&self.clock);
        self.read("known_authors", Some(context), move |connection, shared| {
            search::authors(connection, &shared.indexes, &owned, &names, clock.now())
        })
        .await
    }

    async fn health(&self) -> Health {
        RecordStore::health(self).await
    }

    async fn close(&self) -> Result<()> {
        self.shut().await
    }

    fn capabilities(&self) -> Capabilities {
        self.declared()
    }
}

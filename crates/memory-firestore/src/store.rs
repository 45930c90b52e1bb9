//! The store: its life cycle, and the traits handed to the modules that do the work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    CredentialProvider, EraseScope, EraseStep, EraseToken, IndexHits, Ledger, RecordStore,
    SweepStep, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Capability, Clock, Commit, CommitReceipt, ContainsFilters,
    Durability, EmbeddingSpace, Error, ErrorKind, Filter, FilterKeys, Health, HealthStatus,
    IdSource, MemoryId, MemoryItem, Page, Projection, Query, RandomIds, Result,
};
use tokio::sync::{Notify, OnceCell};

use crate::guard::Tenants;
use crate::names::Names;
use crate::settings::{FirestoreSettings, GuardMode, OpenMode};
use crate::wire::{Call, QueryRecorder, Refused, Wire, Write};
use crate::{BACKEND, DIMENSIONS, admin, bulk, commit, erase, query, vectors};

/// Memories and their vectors on Cloud Firestore.
///
/// One object is shared by everything; its few connections are made when they are needed.
#[derive(Debug)]
pub struct FirestoreStore {
    pub(crate) settings: FirestoreSettings,
    pub(crate) names: Names,
    pub(crate) wire: Wire,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) tenants: Tenants,
    pub(crate) book: admin::StoreBook,
    pub(crate) logs: admin::Logs,
    pub(crate) sizes: vectors::Sizes,
    pub(crate) pace: bulk::Pace,
    /// Documents that were met and cannot be read.
    pub(crate) unreadable: AtomicU64,
    ready: OnceCell<()>,
    verifies: AtomicU8,
    gate: Gate,
}

/// What a store is made of besides its settings.
#[derive(Debug)]
#[non_exhaustive]
pub struct FirestoreParts {
    /// Where tokens come from.
    pub credentials: Arc<dyn CredentialProvider>,
    /// The time of day and of deadlines.
    pub clock: Arc<dyn Clock>,
    /// Where requests are admitted and written down.
    pub ledger: Arc<dyn Ledger>,
    /// Random bytes.
    pub ids: Arc<dyn IdSource>,
    /// Sees every query; for tests.
    pub recorder: Option<Arc<dyn QueryRecorder>>,
}

impl FirestoreParts {
    /// Parts with the machine's randomness and no recorder.
    #[must_use]
    pub fn new(
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Self {
        Self { credentials, clock, ledger, ids: Arc::new(RandomIds), recorder: None }
    }
}

impl FirestoreStore {
    /// Opens a store. Whether the service is asked now or by the first call is the setting `open`.
    ///
    /// Must be called within a tokio runtime, which the connections' work is done in.
    ///
    /// # Errors
    /// `Config`: the settings. With [`OpenMode::FailFast`] and [`OpenMode::Wait`], what the service
    /// answered: `PermissionDenied`, `Unavailable`, `Unsupported` for a store of a newer shape.
    ///
    /// # Cancellation
    /// A future that is dropped leaves nothing.
    pub async fn open(
        settings: FirestoreSettings,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Arc<Self>> {
        Self::open_with(settings, FirestoreParts::new(credentials, clock, ledger)).await
    }

    /// As [`FirestoreStore::open`], with every part chosen.
    ///
    /// # Errors
    /// As [`FirestoreStore::open`].
    pub async fn open_with(
        settings: FirestoreSettings,
        parts: FirestoreParts,
    ) -> Result<Arc<Self>> {
        let named = |error: Error| error.with_backend(BACKEND).with_operation("open");
        settings.validate().map_err(named)?;
        if settings.project.is_empty() {
            return Err(named(Error::new(ErrorKind::Config, "no Google Cloud project is named")));
        }
        let names = Names::new(&settings.project, &settings.database, &settings.prefix);
        let wire = Wire::new(
            &settings,
            names.database.clone(),
            parts.credentials,
            Arc::clone(&parts.clock),
            parts.ledger,
            parts.recorder,
        )
        .map_err(named)?;
        let store = Arc::new(Self {
            names,
            wire,
            clock: parts.clock,
            ids: parts.ids,
            tenants: Tenants::new(settings.tenant_cache),
            book: admin::StoreBook::default(),
            logs: admin::Logs::default(),
            sizes: vectors::Sizes::default(),
            pace: bulk::Pace::default(),
            unreadable: AtomicU64::new(0),
            ready: OnceCell::new(),
            verifies: AtomicU8::new(match settings.guard {
                GuardMode::Auto => UNKNOWN,
                GuardMode::Verify => YES,
                GuardMode::Transaction => NO,
            }),
            gate: Gate::default(),
            settings,
        });
        Box::pin(store.greet()).await.map_err(named)?;
        Ok(store)
    }

    async fn greet(&self) -> Result<()> {
        let call = Call { operation: "open", context: None };
        match self.settings.open {
            OpenMode::Lazy => Ok(()),
            OpenMode::FailFast => self.ready(call).await,
            OpenMode::Wait => {
                let most = Duration::from_millis(self.settings.open_timeout_ms);
                let work = async {
                    let mut pause = Duration::from_millis(50);
                    loop {
                        match self.ready(call).await {
                            Err(error) if error.is_retryable() => {
                                tokio::time::sleep(pause).await;
                                pause = (pause * 2).min(Duration::from_secs(2));
                            }
                            answer => return answer,
                        }
                    }
                };
                tokio::time::timeout(most, work).await.unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Unavailable, "Firestore was not there in time"))
                })
            }
        }
    }

    /// Makes sure, once, that the store is of a shape that this build knows. Every call does.
    ///
    /// Billed: one read, once for each process.
    pub(crate) async fn ready(&self, call: Call<'_>) -> Result<()> {
        let ready = self.ready.get_or_try_init(|| admin::check_store(self, call));
        self.in_time(call, ready).await?.map(|_| ())
    }

    /// Bounds a wait, also one for what another call is doing, by the call's deadline or the timeout
    /// of a request.
    ///
    /// # Errors
    /// `Timeout`, not applied.
    pub(crate) async fn in_time<T>(
        &self,
        call: Call<'_>,
        work: impl Future<Output = T>,
    ) -> Result<T> {
        let most = self.wire.allowance(call)?;
        tokio::time::timeout(most, work)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "Firestore did not answer in time"))
    }

    /// Begins a call: refuses it after `close` and after its deadline.
    pub(crate) fn enter(&self, context: Option<&CallContext>) -> Result<Ticket<'_>> {
        let ticket = self.gate.enter().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the store is closed").with_retryable(false)
        })?;
        if let Some(context) = context {
            context.check_deadline(self.clock.monotonic())?;
        }
        Ok(ticket)
    }

    /// Runs the body of a trait's method: gate, deadline, first contact, and the names in errors.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl AsyncFnOnce(Call<'_>) -> Result<T>,
    ) -> Result<T> {
        let call = Call { operation, context };
        let body = async {
            let _ticket = self.enter(context)?;
            self.ready(call).await?;
            work(call).await
        };
        // The bodies are large state machines; on the heap they cost callers nothing.
        Box::pin(body).await.map_err(|error| error.with_backend(BACKEND).with_operation(operation))
    }

    /// Whether the server takes `verify`; found out once.
    pub(crate) async fn verifies(&self, call: Call<'_>) -> Result<bool> {
        match self.verifies.load(Ordering::Relaxed) {
            YES => return Ok(true),
            NO => return Ok(false),
            _ => {}
        }
        // A document that cannot be there: a server that knows the operation refuses this.
        let probe = Write::verify(self.names.below_store("none")).if_exists(true);
        let known = match self.wire.commit(call, vec![probe], Vec::new()).await {
            Err(Refused::Contended) => true,
            Ok(_) => false,
            Err(Refused::Error(error)) => match error.kind() {
                ErrorKind::InvalidInput | ErrorKind::Unsupported => false,
                _ => return Err(crate::error::not_applied(&error)),
            },
        };
        self.verifies.store(if known { YES } else { NO }, Ordering::Relaxed);
        Ok(known)
    }

    async fn shut(&self) -> Result<()> {
        self.gate.close().await;
        Ok(())
    }

    fn declared(&self) -> Capabilities {
        let mut set: BTreeSet<_> = [
            Capability::AtomicCommit,
            Capability::Preconditions,
            Capability::CommitIds,
            Capability::IdempotencyKeys,
            Capability::TypedFilters,
            Capability::Cursors,
            Capability::Projection,
            Capability::Counts,
            Capability::Expiry,
            Capability::Erase,
            Capability::Leases,
            Capability::TenantDirectory,
            Capability::VectorSearch,
            Capability::CoLocated,
        ]
        .into();
        if self.settings.change_log {
            set.insert(Capability::ChangeLog);
        }
        let durability = Durability::Service(
            "acknowledged commits are replicated within the database's region or regions"
                .to_owned(),
        );
        let mut capabilities = Capabilities::new(BACKEND, set, durability);
        capabilities.filter_keys =
            FilterKeys::Declared(self.settings.filter_keys.keys().cloned().collect());
        capabilities.contains = ContainsFilters::OneUnnegated;
        capabilities.max_dimensions = DIMENSIONS;
        // To know it would take one more billed read.
        capabilities.knows_last_page = false;
        // A request says more than a commit counts: field names, sort keys.
        capabilities.max_commit_bytes =
            memory_core::limits::COMMIT_BYTES.min(self.wire.request_bytes() / 10 * 9);
        capabilities
    }

    async fn health_now(&self) -> Health {
        let mut health = Health::healthy();
        let call = Call { operation: "health", context: None };
        let asked = match self.enter(None) {
            Ok(_ticket) => self.wire.get(call, vec![self.names.store()], None).await.map(|_| ()),
            Err(error) => Err(error),
        };
        if let Err(error) = asked {
            health.lower(HealthStatus::Unhealthy, format!("Firestore does not answer: {error}"));
        }
        let unreadable = self.unreadable.load(Ordering::Relaxed);
        if unreadable > 0 {
            health.lower(
                HealthStatus::Degraded,
                "documents were met that are not readable and are left out of pages and searches",
            );
            health.detail("unreadable_documents", unreadable.to_string());
        }
        health.detail("database", self.names.database.clone());
        health.detail("channels", self.settings.channels.to_string());
        health
    }
}

const UNKNOWN: u8 = 0;
const YES: u8 = 1;
const NO: u8 = 2;

/// Lets calls in until it is closed, and then waits for those that are under way.
#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
    under_way: AtomicU64,
    idle: Notify,
}

/// A call that is under way.
#[derive(Debug)]
pub(crate) struct Ticket<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Option<Ticket<'_>> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        let ticket = Ticket(self);
        // After the count, so that a close that saw no call is seen by this one.
        (!self.closed.load(Ordering::SeqCst)).then_some(ticket)
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            idle.as_mut().enable();
            if self.under_way.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.0.under_way.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[async_trait]
impl RecordStore for FirestoreStore {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        self.run("commit", Some(context), async |call| {
            commit::commit(self, call, context, &commit).await
        })
        .await
    }

    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        self.run("fetch", Some(context), async |call| {
            query::fetch(self, call, context, ids, projection).await
        })
        .await
    }

    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.run("query", Some(context), async |call| query::page(self, call, context, query).await)
            .await
    }

    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.run("count", Some(context), async |call| {
            query::count(self, call, context, filter).await
        })
        .await
    }

    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.run("sweep", Some(context), async |call| {
            erase::sweep(self, call, context, limit).await
        })
        .await
    }

    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.run("erase", Some(context), async |call| {
            erase::erase(self, call, context, scope, resume).await
        })
        .await
    }

    async fn health(&self) -> Health {
        self.health_now().await
    }

    async fn close(&self) -> Result<()> {
        self.shut().await
    }

    fn capabilities(&self) -> Capabilities {
        self.declared()
    }
}

#[async_trait]
impl VectorIndex for FirestoreStore {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.run("upsert", Some(context), async |call| {
            vectors::upsert(self, call, context, space, entries).await
        })
        .await
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.run("remove", Some(context), async |call| {
            vectors::remove(self, call, context, space, ids).await
        })
        .await
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        self.run("missing", Some(context), async |call| {
            vectors::missing(self, call, context, space, after.as_ref(), limit).await
        })
        .await
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        self.run("nearest", Some(context), async |call| {
            vectors::search(self, call, context, query).await
        })
        .await
    }

    async fn health(&self) -> Health {
        self.health_now().await
    }

    async fn close(&self) -> Result<()> {
        self.shut().await
    }

    fn capabilities(&self) -> Capabilities {
        self.declared()
    }
}

#[async_trait]
impl memory_core::traits::BulkWriter for FirestoreStore {
    async fn write_many(
        &self,
        context: &CallContext,
        id: memory_core::CommitId,
        writes: Vec<memory_core::Write>,
        resend: bool,
        observer: &dyn memory_core::traits::BulkObserver,
    ) -> Result<Vec<Result<memory_core::WriteResult>>> {
        self.run("bulk", Some(context), async |call| {
            bulk::write_many(self, call, context, id, writes, resend, observer).await
        })
        .await
    }
}

//! The store: its parts and its life cycle. The traits are implemented by the modules that do the
//! work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory_core::traits::Ledger;
use memory_core::{
    CallContext, Capabilities, Capability, Clock, Durability, Error, ErrorKind, FilterKeys, Health,
    HealthStatus, IdSource, RandomIds, Result,
};
use tokio::sync::Notify;

use crate::BACKEND;
use crate::keys::Keys;
use crate::search::Engine;
use crate::server::{self, Servers};
use crate::settings::RedisSettings;
use crate::state::Tenants;
use crate::wire::{Call, Wire};

/// Memories, their vectors and their words on Redis.
///
/// One object is shared by everything; its connections are made when they are needed.
#[derive(Debug)]
pub struct RedisStore {
    pub(crate) settings: RedisSettings,
    pub(crate) keys: Keys,
    pub(crate) wire: Wire,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) tenants: Tenants,
    pub(crate) engine: Engine,
    durability: Durability,
    gate: Gate,
}

/// What a store is made of besides its settings.
#[derive(Debug)]
#[non_exhaustive]
pub struct RedisParts {
    /// The time of day and of deadlines.
    pub clock: Arc<dyn Clock>,
    /// Where requests are admitted and written down.
    pub ledger: Arc<dyn Ledger>,
    /// Random bytes.
    pub ids: Arc<dyn IdSource>,
}

impl RedisParts {
    /// Parts with the system's random bytes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, ledger: Arc<dyn Ledger>) -> Self {
        Self { clock, ledger, ids: Arc::new(RandomIds) }
    }
}

impl RedisStore {
    /// Opens a store: asks the server once what it is and can do.
    ///
    /// Must be called within a tokio runtime, which the connections' work is done in.
    ///
    /// # Errors
    /// `Config`: a setting out of its range, a cluster where the settings name none or the other way
    /// round, or a server that may evict memories. `Unsupported`: a server older than 7, or without
    /// the query engine where it is required. `Corrupt` or `Unsupported`: a store of another shape.
    /// What the server met.
    ///
    /// # Cancellation
    /// A future that is dropped leaves nothing.
    pub async fn open(settings: RedisSettings, parts: RedisParts) -> Result<Arc<Self>> {
        Box::pin(Self::greeted(settings, parts))
            .await
            .map_err(|error| error.with_backend(BACKEND).with_operation("open"))
    }

    async fn greeted(settings: RedisSettings, parts: RedisParts) -> Result<Arc<Self>> {
        settings.validate()?;
        let keys = Keys::new(&settings.prefix);
        let wire = Wire::new(&settings, parts.clock.clone(), parts.ledger)?;
        let tenants = Tenants::new(settings.tenant_cache);
        let call = Call { operation: "open", context: None };
        let servers = server::ask(&wire, call).await?;
        servers.check(&settings)?;
        let engine = Engine::detect(&wire, call, &settings, &keys).await?;
        let store = Arc::new(Self {
            settings,
            keys,
            wire,
            clock: parts.clock,
            ids: parts.ids,
            tenants,
            engine,
            durability: servers.durability(),
            gate: Gate::default(),
        });
        crate::admin::check_store(&store, call).await?;
        Ok(store)
    }

    /// Begins a call: refuses it after `close` and after its deadline.
    fn enter(&self, context: Option<&CallContext>) -> Result<Ticket<'_>> {
        let ticket = self.gate.enter().ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "the store is closed: open another")
                .with_retryable(false)
        })?;
        if let Some(context) = context {
            context.check_deadline(self.clock.monotonic())?;
        }
        Ok(ticket)
    }

    /// Runs the body of a trait's method: gate, deadline, and the names in errors.
    pub(crate) async fn run<T>(
        &self,
        operation: &'static str,
        context: Option<&CallContext>,
        work: impl AsyncFnOnce(Call<'_>) -> Result<T>,
    ) -> Result<T> {
        let call = Call { operation, context };
        let body = async {
            let _ticket = self.enter(context)?;
            work(call).await
        };
        // The bodies are large state machines; on the heap they cost callers nothing.
        Box::pin(body).await.map_err(|error| error.with_backend(BACKEND).with_operation(operation))
    }
}

/// What [`memory_core::traits::RecordStore`] and the other traits of this store answer alike.
impl RedisStore {
    pub(crate) async fn health_now(&self) -> Health {
        let mut health = Health::healthy();
        let call = Call { operation: "health", context: None };
        let asked = match self.enter(None) {
            Ok(_ticket) => Box::pin(server::ask(&self.wire, call)).await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(servers) => servers.tell(&self.settings, &mut health),
            Err(error) => {
                Servers::default().tell(&self.settings, &mut health);
                let reason = format!("Redis does not answer: {}", error.message());
                health.lower(HealthStatus::Unhealthy, reason);
            }
        }
        health.detail("search", self.engine.mark().unwrap_or("none"));
        health
    }

    /// Refuses new calls and waits for those under way. Connections end with the store.
    pub(crate) async fn close_now(&self) -> Result<()> {
        self.gate.close().await;
        Ok(())
    }

    pub(crate) fn own_capabilities(&self) -> Capabilities {
        let mut set = vec![
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
            Capability::ChangeLog,
            Capability::CoLocated,
        ];
        if self.engine.mark().is_some() {
            set.extend([Capability::VectorSearch, Capability::KeywordSearch]);
        }
        let mut capabilities = Capabilities::new(BACKEND, set, self.durability.clone());
        capabilities.filter_keys =
            FilterKeys::Declared(self.settings.filter_keys.keys().cloned().collect());
        // A large tenant's vectors lie in a graph.
        capabilities.exact_vectors = false;
        capabilities
    }
}

/// Lets calls in until it is closed, and then waits for those that are under way.
#[derive(Debug, Default)]
struct Gate {
    closed: AtomicBool,
    under_way: AtomicU64,
    idle: Notify,
}

/// A call that is under way.
#[derive(Debug)]
struct Ticket<'a>(&'a Gate);

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

//! The index: its parts, and the trait over them.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::{
    CredentialProvider, IndexHits, Ledger, UpsertOutcome, Usage, VectorEntry, VectorIndex,
    VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, Capability, Clock, Durability, EmbeddingSpace, Error, FilterKeys,
    Health, HealthStatus, MemoryId, Result,
};

use super::BACKEND;
use super::collection::{self, Collections};
use super::error::Effect;
use super::settings::GoogleVectorSettings;
use super::wire::{Call, Wire};

/// An index on Google Vector Search 2.0.
///
/// It needs a tokio runtime with time and network. Cloning is not needed: share it in an `Arc`.
///
/// What differs from an index that is kept with its records:
/// - A space is usable once its collection is there: [`GoogleVectorIndex::prepare`].
/// - [`VectorIndex::upsert`] cannot know the items, so it keeps every vector that it is given, and
///   its objects pass every filter. [`GoogleVectorIndex::upsert_items`] keeps along what filters
///   look at.
/// - Hits are candidates: they are of the tenant, their item was not expired when it was kept, and
///   they pass what of the filter the service can be asked. Whoever searches reads the records and
///   judges filter, revision and expiry by them.
/// - `at_least` and [`VectorIndex::missing`] are `Unsupported`, and write fences are not known here.
///
/// # Cancellation
/// A request that was sent before its future was dropped may take effect. Every write can be sent
/// again.
pub struct GoogleVectorIndex {
    pub(crate) settings: GoogleVectorSettings,
    pub(crate) wire: Wire,
    pub(crate) collections: Collections,
}

impl GoogleVectorIndex {
    /// Checks the settings and makes the clients. Nothing is sent before the first call.
    ///
    /// # Errors
    /// `Config`: the settings, or no client can be made of them.
    pub async fn open(
        settings: GoogleVectorSettings,
        credentials: Arc<dyn CredentialProvider>,
        clock: Arc<dyn Clock>,
        ledger: Arc<dyn Ledger>,
    ) -> Result<Self> {
        let named = |error: Error| error.with_backend(BACKEND).with_operation("open");
        settings.validate().map_err(named)?;
        let wire = Wire::new(&settings, credentials, clock, ledger).await.map_err(named)?;
        Ok(Self { settings, wire, collections: Collections::default() })
    }

    /// Makes the collection of a space unless it is there, waits for it, and checks that it is made
    /// for the space and the declared filter keys. An index that answers faster and less exactly is
    /// the owner's affair: it takes machines that are paid for while it stands.
    ///
    /// # Errors
    /// `Config`: a collection of that name is made otherwise; the message says how. `Timeout`: it is
    /// not there within [`GoogleVectorSettings::open_timeout_ms`]; it may still come.
    /// `Unsupported`: a space of another metric than cosine and dot product.
    pub async fn prepare(&self, space: &EmbeddingSpace) -> Result<()> {
        self.named("prepare", self.collections.prepare(&self.wire, &self.settings, space)).await
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &GoogleVectorSettings {
        &self.settings
    }

    pub(crate) async fn collection(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
    ) -> Result<String> {
        context.check_deadline(self.wire.clock().monotonic())?;
        self.collections.of(&self.wire, &self.settings, context, space).await
    }

    /// Names back end and operation in an error.
    pub(crate) async fn named<T>(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        work.await.map_err(|error| error.with_backend(BACKEND).with_operation(operation))
    }
}

impl fmt::Debug for GoogleVectorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GoogleVectorIndex")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl VectorIndex for GoogleVectorIndex {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.named("upsert", self.upsert_bare(context, space, entries)).await
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.named("remove", self.remove_all(context, space, ids)).await
    }

    async fn missing(
        &self,
        _context: &CallContext,
        _space: &EmbeddingSpace,
        _after: Option<MemoryId>,
        _limit: u32,
    ) -> Result<Vec<MemoryId>> {
        Err(Error::unsupported("the index is not kept with its records and does not know them")
            .with_backend(BACKEND)
            .with_operation("missing"))
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        self.named("search", self.nearest(context, query)).await
    }

    /// Asks the service for one collection of the location, which is one request.
    async fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.detail("project", &self.settings.project);
        health.detail("location", &self.settings.location);
        health.detail("collection", &self.settings.collection);
        let request = self
            .wire
            .collections
            .list_collections()
            .set_parent(collection::parent(&self.settings))
            .set_page_size(1);
        let call = Call::own("health", Effect::Reads);
        let answer = self
            .wire
            .send(call, |options| request.with_options(options).send(), |_| Usage::reads(1))
            .await;
        if let Err(failed) = answer {
            let status = match failed.error.is_retryable() {
                true => HealthStatus::Degraded,
                false => HealthStatus::Unhealthy,
            };
            health.lower(status, format!("Vector Search: {}", failed.error.message()));
        }
        health
    }

    /// There is nothing to flush: what was acknowledged is with the service.
    async fn close(&self) -> Result<()> {
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        let durability = Durability::Service(
            "as Google Vector Search keeps acknowledged data objects".to_owned(),
        );
        let mut able = Capabilities::new(BACKEND, [Capability::VectorSearch], durability);
        able.filter_keys = FilterKeys::Declared(self.settings.filter_keys.clone());
        able.exact_vectors = self.settings.exact;
        able
    }
}

//! The parts of one back end, as the composition uses them.

use std::sync::Arc;

use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep, TenantDirectory,
    VectorIndex,
};
use memory_core::{Capabilities, Capability, Error, Health, Result};

/// The parts of one back end. Each can be replaced by the caller's own.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The store of record.
    pub records: Arc<dyn RecordStore>,
    /// Search by vector; kept with the records.
    pub vectors: Arc<dyn VectorIndex>,
    /// Search by words; kept with the records.
    pub keywords: Arc<dyn KeywordIndex>,
    /// What was written, in order.
    pub changes: Arc<dyn ChangeLog>,
    /// The tenants.
    pub tenants: Arc<dyn TenantDirectory>,
    /// What the store knows about itself.
    pub meta: Arc<dyn StoreMeta>,
    /// Leases and write fences.
    pub leases: Arc<dyn LeaseStore>,
    /// What an operator does.
    pub upkeep: Arc<dyn StoreUpkeep>,
}

impl Backend {
    /// A back end that is one object.
    #[must_use]
    pub fn of<S>(store: Arc<S>) -> Self
    where
        S: RecordStore
            + VectorIndex
            + KeywordIndex
            + ChangeLog
            + TenantDirectory
            + StoreMeta
            + LeaseStore
            + StoreUpkeep
            + 'static,
    {
        Self {
            records: store.clone(),
            vectors: store.clone(),
            keywords: store.clone(),
            changes: store.clone(),
            tenants: store.clone(),
            meta: store.clone(),
            leases: store.clone(),
            upkeep: store,
        }
    }

    /// Refuses a composition whose indexes are not kept with the records: a commit would then
    /// not cover them, and what keeps a separate index up to date does not exist yet.
    ///
    /// # Errors
    /// `Unsupported`, naming the index and both back ends.
    pub fn check(&self) -> Result<()> {
        let records = self.records.capabilities();
        co_located("vector", &records, &self.vectors.capabilities())?;
        co_located("keyword", &records, &self.keywords.capabilities())
    }

    /// The health of the parts, merged: the worst decides.
    pub(crate) async fn health(&self) -> Health {
        let mut health = Health::healthy();
        health.merge("records", self.records.health().await);
        if !same(&self.records, &self.vectors) {
            health.merge("vectors", VectorIndex::health(&*self.vectors).await);
        }
        if !same(&self.records, &self.keywords) {
            health.merge("keywords", KeywordIndex::health(&*self.keywords).await);
        }
        health
    }

    /// Closes the indexes, then the records. Every part is closed, whatever another met.
    pub(crate) async fn close(&self) -> Result<()> {
        let vectors = match same(&self.records, &self.vectors) {
            true => Ok(()),
            false => VectorIndex::close(&*self.vectors).await,
        };
        let keywords = match same(&self.records, &self.keywords) {
            true => Ok(()),
            false => KeywordIndex::close(&*self.keywords).await,
        };
        let records = self.records.close().await;
        vectors.and(keywords).and(records)
    }
}

fn co_located(index: &str, records: &Capabilities, other: &Capabilities) -> Result<()> {
    if other.has(Capability::CoLocated) && other.backend == records.backend {
        return Ok(());
    }
    Err(Error::unsupported(format!(
        "the {index} index of `{}` stands apart from the records of `{}`; \
         only an index that is kept with its records can be used",
        other.backend, records.backend
    ))
    .with_operation("open"))
}

/// Whether two parts are one object: then one answer speaks for both.
fn same<A: ?Sized, B: ?Sized>(a: &Arc<A>, b: &Arc<B>) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(a), Arc::as_ptr(b))
}

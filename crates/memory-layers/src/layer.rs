//! A layer: something that can be put around every part of a back end.

use std::fmt::Debug;
use std::sync::Arc;

use memory_core::traits::{
    BulkWriter, ChangeLog, DocumentSource, Embedder, KeywordIndex, LeaseStore, RecordStore,
    StoreMeta, StoreUpkeep, TenantDirectory, VectorIndex,
};

use crate::policy::{Layered, Policy};

/// The name that an embedder's calls carry.
pub(crate) const EMBEDDER: &str = "embedder";

/// Something that can be put around every part of a back end. What it keeps, it keeps once for all
/// parts that it was put around.
///
/// The parts that cannot tell their back end are given its name.
pub trait Layer: Debug + Send + Sync {
    /// Around a store of record.
    fn records(&self, inner: Arc<dyn RecordStore>) -> Arc<dyn RecordStore>;
    /// Around a vector index.
    fn vectors(&self, inner: Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex>;
    /// Around a keyword index.
    fn keywords(&self, inner: Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex>;
    /// Around a change log.
    fn changes(&self, inner: Arc<dyn ChangeLog>, backend: &'static str) -> Arc<dyn ChangeLog>;
    /// Around a bulk writer.
    fn bulk(&self, inner: Arc<dyn BulkWriter>, backend: &'static str) -> Arc<dyn BulkWriter>;
    /// Around a directory of tenants.
    fn tenants(
        &self,
        inner: Arc<dyn TenantDirectory>,
        backend: &'static str,
    ) -> Arc<dyn TenantDirectory>;
    /// Around what a store knows about itself.
    fn meta(&self, inner: Arc<dyn StoreMeta>, backend: &'static str) -> Arc<dyn StoreMeta>;
    /// Around leases.
    fn leases(&self, inner: Arc<dyn LeaseStore>, backend: &'static str) -> Arc<dyn LeaseStore>;
    /// Around what an operator does.
    fn upkeep(&self, inner: Arc<dyn StoreUpkeep>, backend: &'static str) -> Arc<dyn StoreUpkeep>;
    /// Around an embedder.
    fn embedder(&self, inner: Arc<dyn Embedder>) -> Arc<dyn Embedder>;
    /// Around a source of raw documents.
    fn source(
        &self,
        inner: Arc<dyn DocumentSource>,
        backend: &'static str,
    ) -> Arc<dyn DocumentSource>;
}

impl<P: Policy> Layer for P {
    fn records(&self, inner: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        let backend = inner.capabilities().backend;
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn vectors(&self, inner: Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex> {
        let backend = inner.capabilities().backend;
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn keywords(&self, inner: Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex> {
        let backend = inner.capabilities().backend;
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn changes(&self, inner: Arc<dyn ChangeLog>, backend: &'static str) -> Arc<dyn ChangeLog> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn bulk(&self, inner: Arc<dyn BulkWriter>, backend: &'static str) -> Arc<dyn BulkWriter> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn tenants(
        &self,
        inner: Arc<dyn TenantDirectory>,
        backend: &'static str,
    ) -> Arc<dyn TenantDirectory> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn meta(&self, inner: Arc<dyn StoreMeta>, backend: &'static str) -> Arc<dyn StoreMeta> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn leases(&self, inner: Arc<dyn LeaseStore>, backend: &'static str) -> Arc<dyn LeaseStore> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn upkeep(&self, inner: Arc<dyn StoreUpkeep>, backend: &'static str) -> Arc<dyn StoreUpkeep> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
    fn embedder(&self, inner: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        Arc::new(Layered::new(inner, self.clone(), EMBEDDER))
    }
    fn source(
        &self,
        inner: Arc<dyn DocumentSource>,
        backend: &'static str,
    ) -> Arc<dyn DocumentSource> {
        Arc::new(Layered::new(inner, self.clone(), backend))
    }
}

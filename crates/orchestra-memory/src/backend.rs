//! The parts of one back end, as the composition uses them.

use std::sync::Arc;

use memory_core::traits::{
    BulkWriter, ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep,
    TenantDirectory, VectorIndex,
};
use memory_core::{Capabilities, Capability, EmbeddingSpace, Error, ErrorKind, Health, Result};
use memory_layers::Layer;

/// The parts of one back end. Each can be replaced by the caller's own.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The store of record.
    pub records: Arc<dyn RecordStore>,
    /// Search by vector; kept with the records.
    pub vectors: Arc<dyn VectorIndex>,
    /// Search by words; kept with the records. `None`: search is by meaning alone, and each
    /// answer says so.
    pub keywords: Option<Arc<dyn KeywordIndex>>,
    /// What was written, in order. `None`: none is kept.
    pub changes: Option<Arc<dyn ChangeLog>>,
    /// Many writes that need not happen together. `None`: they are sent as commits.
    pub bulk: Option<Arc<dyn BulkWriter>>,
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
    /// A back end that is one object, without a way of its own for many writes.
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
            keywords: Some(store.clone()),
            changes: Some(store.clone()),
            bulk: None,
            tenants: store.clone(),
            meta: store.clone(),
            leases: store.clone(),
            upkeep: store,
        }
    }

    /// A back end that is one object and has no keyword index. It has no change log and no way of
    /// its own for many writes, unless the fields are set.
    #[must_use]
    pub fn without_keywords<S>(store: Arc<S>) -> Self
    where
        S: RecordStore
            + VectorIndex
            + TenantDirectory
            + StoreMeta
            + LeaseStore
            + StoreUpkeep
            + 'static,
    {
        Self {
            records: store.clone(),
            vectors: store.clone(),
            keywords: None,
            changes: None,
            bulk: None,
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
        match &self.keywords {
            Some(keywords) => co_located("keyword", &records, &keywords.capabilities()),
            None => Ok(()),
        }
    }

    /// Refuses an embedding space that is configured and whose vectors the index cannot keep.
    ///
    /// # Errors
    /// `Config`, naming both numbers.
    pub(crate) fn check_space(&self, space: &EmbeddingSpace) -> Result<()> {
        let capabilities = self.vectors.capabilities();
        if space.dimensions() <= capabilities.max_dimensions {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Config,
            format!(
                "`{}` keeps vectors of at most {} dimensions; those of the embedding space {space} \
                 have {}: configure a model with fewer, or another store",
                capabilities.backend,
                capabilities.max_dimensions,
                space.dimensions()
            ),
        )
        .with_operation("open"))
    }

    /// Which indexes are objects of their own.
    pub(crate) fn apart(&self) -> Apart {
        Apart {
            vectors: !same(&self.records, &self.vectors),
            keywords: self.keywords.as_ref().is_some_and(|it| !same(&self.records, it)),
        }
    }

    /// Puts a layer around every part.
    pub(crate) fn layered(self, layer: &dyn Layer) -> Self {
        let name = self.records.capabilities().backend;
        Self {
            records: layer.records(self.records),
            vectors: layer.vectors(self.vectors),
            keywords: self.keywords.map(|keywords| layer.keywords(keywords)),
            changes: self.changes.map(|changes| layer.changes(changes, name)),
            bulk: self.bulk.map(|bulk| layer.bulk(bulk, name)),
            tenants: layer.tenants(self.tenants, name),
            meta: layer.meta(self.meta, name),
            leases: layer.leases(self.leases, name),
            upkeep: layer.upkeep(self.upkeep, name),
        }
    }

    /// The health of the parts, merged: the worst decides.
    pub(crate) async fn health(&self, apart: Apart) -> Health {
        let mut health = Health::healthy();
        health.merge("records", self.records.health().await);
        if apart.vectors {
            health.merge("vectors", VectorIndex::health(&*self.vectors).await);
        }
        if let Some(keywords) = self.keywords.as_ref().filter(|_| apart.keywords) {
            health.merge("keywords", keywords.health().await);
        }
        health
    }

    /// Closes the indexes, then the records. Every part is closed, whatever another met.
    pub(crate) async fn close(&self, apart: Apart) -> Result<()> {
        let vectors = match apart.vectors {
            false => Ok(()),
            true => VectorIndex::close(&*self.vectors).await,
        };
        let keywords = match self.keywords.as_ref().filter(|_| apart.keywords) {
            Some(keywords) => keywords.close().await,
            None => Ok(()),
        };
        let records = self.records.close().await;
        vectors.and(keywords).and(records)
    }
}

/// Which indexes are other objects than the records: the health of each object is asked once, and
/// each is closed once. It has to be looked at before layers are put around the parts, for behind
/// them no two are the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Apart {
    vectors: bool,
    keywords: bool,
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

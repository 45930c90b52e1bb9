//! Nearest neighbours.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::capabilities::Capabilities;
use crate::context::CallContext;
use crate::error::Result;
use crate::filter::Filter;
use crate::health::Health;
use crate::ids::{MemoryId, Revision};
use crate::item::MemoryItem;
use crate::limits::TOP_K;
use crate::query::{Projection, check_limit};
use crate::space::EmbeddingSpace;
use crate::traits::{ChangePosition, HitContext, TermShare};

/// A vector to keep for an item.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorEntry {
    /// Which item.
    pub id: MemoryId,
    /// The revision that the vector was made from.
    pub revision: Revision,
    /// `[dimensions]` of the space.
    pub vector: Vec<f32>,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpsertOutcome {
    /// It is kept.
    Stored,
    /// The item has moved on, expired or gone: nothing was kept. Make it again from the item.
    Stale,
}

/// Records that come along with the first hits, where an index is kept with its records: one read
/// does for two, which spares a round trip and, where reads are billed, a read of each.
///
/// It is a wish: an index elsewhere, or one that finds it dearer, brings none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HitRecords {
    /// So many hits from the best on.
    pub first: u32,
    /// Which parts of them.
    pub projection: Projection,
}

/// Neighbours asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VectorQuery {
    /// The space; one of the tenant's.
    pub space: EmbeddingSpace,
    /// `[dimensions]` of the space.
    pub vector: Vec<f32>,
    /// Which items may be found.
    pub filter: Filter,
    /// How many at the most: 1 to 1,000.
    pub limit: u32,
    /// The index must reflect the change log up to here; it waits until the deadline for it.
    pub at_least: Option<ChangePosition>,
    /// Records that the hits may bring along.
    pub records: Option<HitRecords>,
}

impl VectorQuery {
    /// Neighbours of a vector, unfiltered.
    #[must_use]
    pub fn new(space: EmbeddingSpace, vector: Vec<f32>, limit: u32) -> Self {
        Self { space, vector, filter: Filter::All, limit, at_least: None, records: None }
    }

    /// Sets the filter.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Waits for the index to reflect a position.
    #[must_use]
    pub fn with_at_least(mut self, position: Option<ChangePosition>) -> Self {
        self.at_least = position;
        self
    }

    /// Asks for records along with the first hits.
    #[must_use]
    pub fn with_records(mut self, records: Option<HitRecords>) -> Self {
        self.records = records;
        self
    }

    /// Checks limit, filter and vector.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn validate(&self) -> Result<()> {
        check_limit(self.limit, TOP_K)?;
        self.filter.validate()?;
        self.space.check(&self.vector)
    }
}

/// One item found by an index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexHit {
    /// Which item.
    pub id: MemoryId,
    /// The revision that was indexed. If the record has another, the hit is stale.
    pub revision: Revision,
    /// Higher is better. Vectors: by [`crate::Metric`]. Keywords: BM25, at least 0, with what
    /// neighbours lend.
    pub score: f64,
    /// What each query term gave; keyword searches that asked for it only.
    pub terms: Vec<TermShare>,
    /// The record, read together with the hit and at its revision: visible, and passing the
    /// filter. `None` where it was not asked for or is not brought along.
    pub item: Option<Box<MemoryItem>>,
    /// What surrounds the item, at its revision. `None` where the index does not know it.
    pub context: Option<Box<HitContext>>,
}

/// What an index found: best first, ties by id.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct IndexHits {
    /// The hits. Fewer than the limit only if no more items pass.
    pub hits: Vec<IndexHit>,
    /// Whether nothing better can have been missed.
    pub exact: bool,
}

/// Vectors of a tenant's items, searched by nearness.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait VectorIndex: Send + Sync + Debug {
    /// Keeps vectors for items at the revisions they were made from; one outcome for each entry,
    /// in order. The items themselves do not change. Idempotent. Each entry by itself is atomic.
    ///
    /// # Errors
    /// `InvalidInput`: an unknown space, a vector of a wrong shape, more than 1,000 entries.
    /// `Conflict`: a write fence stands.
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>>;

    /// Forgets the vectors of items in a space; unknown ids are no error. Idempotent.
    ///
    /// # Errors
    /// `InvalidInput`: an unknown space, more than 1,000 ids. `Conflict`: a write fence stands.
    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()>;

    /// Ids of visible items that have no vector in the space, in the order of their bytes, after
    /// the given one, which need not be there; `None` begins. At most `limit` of them, 1 to 1,000,
    /// and fewer only if no more follow.
    ///
    /// It is what is left to embed: items that were put without a vector, and items whose content
    /// changed and whose vector went with it. A call may look at every item of the tenant.
    ///
    /// Each call by itself sees one state, several calls do not: whoever goes on after the last id
    /// of each answer gets no id twice, and an item that comes to lack a vector behind that id is
    /// found by the next walk from the beginning.
    ///
    /// # Errors
    /// `InvalidInput`: the limit, an unknown space. `Unsupported`: the index is not kept with its
    /// records ([`crate::Capability::CoLocated`]) and does not know the items that it lacks.
    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>>;

    /// Finds the nearest items that pass the filter. No vectors in the space: no hits.
    ///
    /// # Errors
    /// `InvalidInput`: limit, filter, vector, unknown space. `Unsupported`: an undeclared key.
    /// `Timeout`: `at_least` was not reached in time.
    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits>;

    /// How the index is.
    async fn health(&self) -> Health;

    /// As [`crate::traits::RecordStore::close`].
    ///
    /// # Errors
    /// What the last flush met.
    async fn close(&self) -> Result<()>;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;
}

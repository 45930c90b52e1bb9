//! Derived in-process indexes of one tenant: data structures without I/O, clock or thread, always
//! rebuildable from what the store holds.
//!
//! - [`KeywordPostings`]: BM25 over compressed postings, with statistics exact at every instant.
//! - [`VectorScan`]: exact nearest neighbours of one embedding space over int8 codes; the int8
//!   pass returns every row that could be among the best, and a rerank makes the answer exact.
//! - [`TenantIndex`]: both of them for one tenant, with expiry and the change-log position that
//!   they reflect.
//! - [`Contexts`]: the conversation, the neighbours, the author and the time of each document.
//! - [`KeySet`]: the keys that a filter lets through.
//! - [`IndexCache`]: the indexes of all tenants, bounded by a budget of bytes.
//!
//! Documents are known by the store's row key ([`DocKey`]). What an index answers with is a
//! [`ScoredDoc`]: the higher the score the better, equal scores by ascending key, so that an answer
//! is always the same.
//!
//! ```
//! use memory_index::{Bm25, DocEntry, TenantIndex};
//!
//! let mut index = TenantIndex::new();
//! index.upsert(&DocEntry::new(7, 3, &[("tea", 1), ("green", 2)]))?;
//! index.upsert(&DocEntry::new(9, 1, &[("coffee", 1)]))?;
//!
//! let hits = index.keywords().search(&[("tea", 1.0)], 10, Bm25::default(), |_| true);
//! assert_eq!(hits[0].key, 7);
//! # Ok::<(), memory_index::IndexError>(())
//! ```

mod cache;
mod context;
mod error;
mod hash;
mod key_set;
mod nearby;
mod postings;
mod rows;
mod tenant;
mod ties;
mod top_k;
mod vectors;

pub use cache::{CacheStats, IndexCache, SharedIndex};
pub use context::{Contexts, Surroundings};
pub use error::{IndexError, VectorError};
pub use key_set::KeySet;
pub use nearby::Around;
pub use postings::{Bm25, KeywordPostings, TermContribution};
pub use tenant::{DocEntry, TenantIndex};
pub use ties::{first_ask, with_ties};
pub use vectors::{Candidate, Metric, SharedSearch, Storage, VectorInput, VectorScan};

/// The key of a document: the store's row key, of which the index makes no assumption but that it
/// is unique within the tenant. Dense keys make [`KeySet`] smaller.
pub type DocKey = u64;

/// A document and its vector, as a rerank fetches it.
pub type KeyedRow = (DocKey, Vec<f32>);

/// A document and how well it matches; higher is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredDoc {
    /// The document.
    pub key: DocKey,
    /// Its score, never NaN. What it means is said by the search that returns it.
    pub score: f64,
}

//! Google Vector Search 2.0: a vector index that a service keeps, apart from any record store.
//!
//! Each embedding space is a collection of its own, and each item with a vector in it is one data
//! object there: the vector, whose item it is, and what filters look at. The service knows no
//! tenants; every request of this module carries the tenant as a condition, and every answer is
//! held against it once more.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | the settings, with every bound and its reason |
//! | `names` | names of collections, objects and fields |
//! | `attributes` | what an object carries of its item, and the schema of it |
//! | `filter` | what of a filter the service can be asked |
//! | `error` | the service's errors as the workspace's own |
//! | `wire` | one request: admitted, bounded in time, counted |
//! | `collection` | making and checking collections |
//! | `write` | keeping and removing |
//! | `search` | neighbours, and a walk through what is kept |
//! | `index` | the trait |
//!
//! Nothing here tries again: that is the retry layer's part. What could not be learned from the
//! published definitions stands in `docs/google-vector-search.md`.

mod attributes;
mod collection;
mod error;
mod filter;
mod index;
mod names;
mod search;
mod settings;
mod wire;
mod write;

pub use index::GoogleVectorIndex;
pub use search::Listed;
pub use settings::{GoogleVectorSettings, ScoreFrom};
pub use write::ItemVector;

/// What errors and capabilities name as their back end.
pub(crate) const BACKEND: &str = "google-vector-search";

/// Most objects of one batch, by the published definitions; most results of a page too.
pub(crate) const MOST_OBJECTS: u32 = 1_000;

/// The name of the only vector field of a collection.
pub(crate) const VECTOR_FIELD: &str = "embedding";

//! Cache, records, vector and keyword search on Redis.
//!
//! [`RedisStore`] keeps a tenant's memories as hashes whose keys carry the tenant as hash tag, so
//! that a tenant lies in one slot and each commit is one script: all of it or nothing, in one round
//! trip. Pages, counts and orders come from sorted sets that the same script keeps, so that any
//! Redis from version 7 will do; search by vector and by words needs the query engine, and without
//! it is `Unsupported`. [`RedisCache`] is the shared cache before any store.
//!
//! Nothing is sent again here: whoever wants that puts a retry layer around it. The keys and fields
//! are described in `docs/data-model-redis.md`.

mod admin;
mod cache;
mod error;
mod fields;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod keys;
mod records;
mod search;
mod server;
mod settings;
mod state;
mod store;
mod url;
mod wire;

pub use cache::RedisCache;
pub use settings::{FilterKeyType, RedisSettings, SearchMode, VectorSettings};
pub use store::{RedisParts, RedisStore};
pub use url::RedisUrl;

/// The name of this back end in errors, the ledger and capabilities.
pub const BACKEND: &str = "redis";

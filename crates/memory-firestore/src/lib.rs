//! Records and native vector search on Cloud Firestore.
//!
//! [`FirestoreStore`] keeps a tenant's memories below the tenant's own document,
//! `{prefix}tenants/{tenant}/{prefix}memories/{id}`, and answers filters, pages, counts and nearest
//! neighbours on the server. Every commit is one request; that it sees the tenant's spaces and write
//! fence as they are is checked by the server in the same request (`guard`). Nothing is retried here
//! but the protocol of compare and swap; transport failures go to the caller.
//!
//! The layout and every stored field are described in `docs/data-model-firestore.md`.

mod admin;
mod batch;
mod bulk;
mod commit;
mod erase;
mod error;
mod fields;
mod filter;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod indexes;
mod keys;
mod model;
mod names;
mod query;
mod revision;
mod settings;
mod shares;
mod store;
mod vectors;
mod wire;

pub use indexes::IndexDefinitions;
pub use settings::{
    BulkSettings, FieldName, FilterKeyType, FirestoreSettings, GuardMode, OpenMode, Ramp,
    VectorScope,
};
pub use store::{FirestoreParts, FirestoreStore};
pub use wire::QueryRecorder;

/// The name of this back end in errors, the ledger and capabilities.
pub const BACKEND: &str = "firestore";

/// Most dimensions of a vector: the service's own limit.
pub const DIMENSIONS: u32 = 2_048;

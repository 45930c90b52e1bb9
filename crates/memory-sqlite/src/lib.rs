//! The embedded default: records, vectors and keyword index of every tenant in one SQLite file.
//!
//! One writer thread commits in groups, a bounded pool of threads reads, and searches run over
//! indexes in memory that are derived from the rows and brought up to date by the change log,
//! so that one commit covers everything and a second process is followed in the same way.
//! The tables stand in `docs/data-model-sqlite.md`.
//!
//! | file | what it holds |
//! |---|---|
//! | `settings` | every bound, with its default and the reason |
//! | `schema`, `open` | tables, versions, pragmas, what is refused |
//! | `writer`, `syncs`, `readers` | the threads |
//! | `apply`, `resend`, `rows`, `model` | commits, rows, their encoding |
//! | `sql_filter`, `read`, `missing` | filters and pages in SQL |
//! | `indexes`, `loading`, `search`, `ahead` | the derived indexes |
//! | `erase`, `changes`, `leases`, `meta`, `upkeep` | administration |
//! | `store`, `administration` | the handle that implements the traits |
//! | `fault_vfs` | disks that are slow or lose their power, for tests and benches (feature `fault-vfs`) |

mod administration;
mod ahead;
mod apply;
mod changes;
mod erase;
mod error;
#[cfg(feature = "fault-vfs")]
pub mod fault_vfs;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod indexes;
mod leases;
mod loading;
mod meta;
mod missing;
mod model;
mod open;
mod read;
mod readers;
mod resend;
mod rows;
mod schema;
mod search;
mod settings;
mod sql_filter;
mod store;
mod syncs;
mod upkeep;
mod vectors;
mod writer;

pub use schema::SCHEMA_VERSION;
pub use settings::{SqliteSettings, Synchronous};
pub use store::SqliteStore;

/// The back end's name in errors, capabilities and the ledger.
pub const BACKEND: &str = "sqlite";

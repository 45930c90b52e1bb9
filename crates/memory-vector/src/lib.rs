//! Indexes that stand beside a record store.
//!
//! | module | feature | what it holds |
//! |---|---|---|
//! | `local` | `local` | words and vectors of a tenant in this process, made from the records of any store and kept up to date by its change log |
//! | `google` | `google` | Google Vector Search 2.0 |

#[cfg(feature = "google")]
pub mod google;
#[cfg(feature = "local")]
pub mod local;

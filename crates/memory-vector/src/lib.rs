//! Indexes that stand beside a record store.
//!
//! [`local`] (feature `local`): words and vectors of a tenant in this process, made from the records
//! of any store and kept up to date by its change log.

#[cfg(feature = "local")]
pub mod local;

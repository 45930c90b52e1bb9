//! Integration tests of the SQLite back end.

mod common;
mod concurrency;
mod crash;
mod durability;
mod edges;
mod erasure;
mod indexes;
mod migration;
mod nearby;
#[cfg(feature = "fault-vfs")]
mod powerloss;
mod refusals;
mod suite;
mod syncs;
mod upkeep;

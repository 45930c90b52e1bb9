//! Integration tests of the SQLite back end.

mod common;
mod concurrency;
mod durability;
mod edges;
mod erasure;
mod indexes;
mod refusals;
mod suite;
mod upkeep;

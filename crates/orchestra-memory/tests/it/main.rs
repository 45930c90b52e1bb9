//! Integration tests: the whole library over mocks that fail, and over real stores.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is wrong"
)]

mod background;
mod bulk;
mod caching;
mod closing;
mod dense;
mod embedding;
mod embedding_faults;
mod embedding_spaces;
mod embedding_writes;
mod faults;
#[cfg(feature = "firestore")]
mod firestore;
mod handles;
#[cfg(feature = "http")]
mod http;
#[cfg(all(feature = "local", feature = "redis", feature = "firestore"))]
mod indexes;
mod layered;
mod meaning;
mod missing;
mod opening;
#[cfg(feature = "redis")]
mod redis;
#[cfg(all(feature = "redis", feature = "firestore"))]
mod reembedding;
mod removing;
mod resplitting;
mod searching;
mod spaces;
mod splitting;
mod support;
mod transfer;
mod words;
mod writing;

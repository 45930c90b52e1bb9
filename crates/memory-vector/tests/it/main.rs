//! Tests of the indexes that stand beside a record store.

#![cfg(feature = "local")]
#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test ends where something is wrong, and its numbers are small"
)]

mod local;
mod suite;

//! Tests of the indexes that stand beside a record store.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and its numbers are small"
)]

#[cfg(feature = "google")]
mod google;
#[cfg(feature = "local")]
mod local;
#[cfg(feature = "local")]
mod suite;

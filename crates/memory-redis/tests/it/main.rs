//! Tests of the back end against real servers.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and its numbers are small"
)]

mod cache;
mod cluster;
mod connections;
mod records;
mod search;
mod suite;

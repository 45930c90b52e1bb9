//! Integration tests of the Firestore back end.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and its numbers are small"
)]

mod admin;
mod bulk;
mod checker;
mod common;
mod contention;
mod faults;
mod indexes;
mod inputs;
mod ledger;
mod lifecycle;
mod queries;
mod samples;
mod suite;
mod vectors;

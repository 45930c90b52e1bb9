//! Integration tests: the whole library over mocks that fail, and over real stores.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is wrong"
)]

mod faults;
mod handles;
mod opening;
mod removing;
mod searching;
mod spaces;
mod support;
mod transfer;
mod writing;

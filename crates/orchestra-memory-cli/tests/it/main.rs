//! The program as it is run: the real binary over real stores in temporary folders.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod bad_input;
mod bad_store;
mod commands;
mod doctor;
mod import;
mod output;
mod queries;
mod shapes;
mod world;

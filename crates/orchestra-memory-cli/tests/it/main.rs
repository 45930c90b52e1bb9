//! The program as it is run: the real binary over real stores in temporary folders.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper that fails fails its test, and a test that is skipped says so"
)]

mod bad_input;
mod bad_store;
mod commands;
mod doctor;
mod embed;
#[cfg(feature = "firestore")]
mod firestore;
#[cfg(not(feature = "firestore"))]
mod firestore_absent;
mod http;
mod import;
mod meaning;
mod model;
mod output;
mod queries;
#[cfg(feature = "redis")]
mod redis;
#[cfg(not(feature = "redis"))]
mod redis_absent;
mod reembed;
mod settings;
mod shapes;
mod stub;
mod texts;
mod world;

//! The shared cache on a real Redis: that it answers as its protocol says, and that two processes
//! with one store between them never see an older value than they may, while Redis is flushed,
//! killed and stopped.
//!
//! A target of its own, so that `cargo xtask coherence` builds it and nothing else. It starts the
//! servers itself, from the folder that `MEMORY_TEST_REDIS_BIN` names; without it, it does nothing
//! and says so.

#![cfg(all(unix, feature = "redis", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test ends where something is wrong, and says what it did"
)]

mod board;
mod protocol;
mod run;
mod server;
mod worker;
mod wrong;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The seed of a run: that of `ORCHESTRA_MEMORY_COHERENCE_SEED`, or a random one.
fn seed() -> u64 {
    use memory_core::IdSource as _;
    number("ORCHESTRA_MEMORY_COHERENCE_SEED").unwrap_or_else(|| {
        let id = memory_core::RandomIds.commit_id();
        id.as_bytes().iter().fold(0, |seed: u64, byte| (seed << 8) | u64::from(*byte))
    })
}

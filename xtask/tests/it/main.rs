//! The program as it is called, in a folder of its own, with a cargo and a Java that only pretend.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod servers;
mod world;

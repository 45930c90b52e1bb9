//! The layers, from outside.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bulk;
mod cache;
mod cancel;
mod conformance;
mod guard;
mod limit;
mod retry;
mod support;
mod telemetry;
mod timeout;

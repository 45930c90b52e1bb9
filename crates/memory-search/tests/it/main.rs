//! The tests of the crate as its users see it: a searcher over mocks.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod behaviour;
mod context;
mod liveness;
mod properties;
mod world;

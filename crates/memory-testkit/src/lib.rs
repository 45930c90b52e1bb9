//! What every back end of Orchestra Memory is tested with; only ever a dev-dependency.
//!
//! - [`canary`]: text that must never be seen outside of a store.
//! - [`mod@conformance`]: one suite of checks, stamped onto a store by [`conformance!`].
//! - [`mod@reference`]: an in-memory store that is written to be right, not fast.
//! - [`model`]: random sequences of operations, compared between a store and the reference.
//! - [`fault`]: a store that fails on purpose, with a seed.
//! - [`generators`]: items, vectors and sentences, with a seed.
//! - [`proxy`]: a TCP proxy that spoils connections on purpose, with a seed, for clients of real
//!   servers.
//! - [`sim`]: a stack of layers under simulated faults, in one thread, with a seed and a checker.
//! - [`forwarding`]: the plainest wrapper, to prove that the suite runs through wrappers.

pub mod canary;
pub mod conformance;
pub mod fault;
pub mod forwarding;
pub mod generators;
pub mod model;
pub mod proxy;
pub mod reference;
pub mod sim;

pub use conformance::{Bench, Failure, Harness, Overlay};
pub use fault::{Fault, FaultRates, FaultStore};
pub use forwarding::Forwarding;
pub use model::run_model;
pub use proxy::FaultProxy;
pub use reference::{ReferenceHarness, ReferenceStore};

/// What the macros name; not for use by hand.
#[doc(hidden)]
pub use memory_core as __core;

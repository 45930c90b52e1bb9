//! The conformance suite: what the traits' documentation says, as checks over a [`Harness`].
//!
//! ```
//! use memory_testkit::ReferenceHarness;
//!
//! memory_testkit::conformance!(reference, async { ReferenceHarness::new() }, requires = [
//!     AtomicCommit, Preconditions, CommitIds,
//! ]);
//! # fn main() {}
//! ```
//!
//! stamps one `#[test]` for each check, named `reference::conformance::CHECK`, and one more,
//! `reference::conformance::coverage`, which holds the stamped checks against what the declared
//! capabilities imply, and the declared capabilities against those required.
//!
//! The second argument is an expression that is evaluated anew for each check and gives a future
//! of something that implements [`Harness`]: a fresh, empty store; or of an [`Option`] of one, where
//! `None` skips the check. It is awaited on a tokio runtime with two workers that the suite brings
//! along. Names in it resolve as in the module
//! where the macro stands. `requires` names variants of [`memory_core::Capability`] and may be
//! left out.

pub(crate) mod bench;
pub(crate) mod checks;
pub(crate) mod failure;
mod harness;
mod list;
mod runner;

pub use bench::Bench;
pub use checks::filters::FILTER_KEYS;
pub use failure::{CheckResult, Failure};
pub use harness::{Harness, Overlay, start};
pub use list::CHECKS;
pub use runner::{Check, Offer, Part, Verdict, cover, implied, run_check, stamp, stamp_coverage};

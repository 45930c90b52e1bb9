//! Crashes under load: what was acknowledged is there, whole, in every view; nothing is half there.
//!
//! | file | what it holds |
//! |---|---|
//! | `plan` | commits made of numbers alone, and the ledger of what must be there |
//! | `load` | writers, readers, sweeps, erasures and checkpoints on one store, until it fails |
//! | `check` | holds a reopened store against the ledger |
//! | `kill` | a child process under load that is killed |
//!
//! Losses of power, over a disk in memory, are in `powerloss`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of it is for tests")]

pub(crate) mod check;
mod kill;
pub(crate) mod load;
pub(crate) mod plan;

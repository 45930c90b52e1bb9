//! The simulation: a stack of layers between several clients and one server, in one thread, with a
//! paused clock and a seed.
//!
//! The server is the reference store; between it and the clients lies a network that refuses,
//! loses, delays and reorders by the seed, and clients crash, close and drop their calls. All that
//! happens is written down, and a checker holds it against what the traits promise. A seed gives
//! the same run every time.
//!
//! The page `docs/simulation.md` explains the model, what is checked, and the planted faults.

mod check;
mod clock;
mod faults;
mod history;
mod link;
mod report;
mod run;
mod server;
mod stack;
mod weather;
mod work;
mod worker;

pub use clock::{SimClock, SimIds};
pub use faults::{FaultCounts, FaultKind};
pub use report::Report;
pub use run::{RunSettings, run};
pub use server::Flaw;
pub use stack::{Bare, Built, Held, Parts, Promises, Stack, Surroundings};

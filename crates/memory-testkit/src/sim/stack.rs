//! What a simulation is run over: the parts of a back end, and whatever is put around them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, VectorIndex,
};
use memory_core::{Clock, IdSource, Timer};

/// The parts of a back end that clients of a simulation use.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "each is the trait that its type names")]
pub struct Parts {
    pub records: Arc<dyn RecordStore>,
    pub vectors: Arc<dyn VectorIndex>,
    pub keywords: Arc<dyn KeywordIndex>,
    pub changes: Arc<dyn ChangeLog>,
    pub leases: Arc<dyn LeaseStore>,
    pub meta: Arc<dyn StoreMeta>,
}

/// What a stack of a simulation takes in place of the machine's clock, timers and randomness.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The simulation's time.
    pub clock: Arc<dyn Clock>,
    /// Waiting, by the same time.
    pub timer: Arc<dyn Timer>,
    /// Ids from the seed.
    pub ids: Arc<dyn IdSource>,
}

/// What the checker may expect of a stack besides what it expects of every store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Promises {
    /// How long a call takes at the most; `None` if only the caller's deadline bounds it, or
    /// nothing.
    pub call_limit: Option<Duration>,
    /// Whether a call ends by its deadline.
    pub deadlines: bool,
    /// The most requests of one call.
    pub attempts: Option<u32>,
    /// The retry budget of one stack: tokens that it begins with, and what a success adds.
    pub budget: Option<(f64, f64)>,
    /// Whether a closed stack sends nothing any more and says so.
    pub gate: bool,
}

/// How many calls a stack holds back or lets through just now: permits and places in a queue.
pub type Held = Box<dyn Fn() -> usize + Send + Sync>;

/// A stack around the parts of one process.
pub struct Built {
    /// The parts, with the stack around them.
    pub parts: Parts,
    /// What it holds, where it can tell.
    pub held: Option<Held>,
}

impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Built").field("parts", &self.parts).finish_non_exhaustive()
    }
}

/// How a process of a simulation builds what stands between it and the server; anew after each
/// crash.
pub trait Stack: Send + Sync {
    /// What it promises.
    fn promises(&self) -> Promises;

    /// Puts it around the link of one process.
    fn build(&self, parts: Parts, around: &Surroundings) -> Built;
}

/// Nothing around the link: every fault reaches the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bare;

impl Stack for Bare {
    fn promises(&self) -> Promises {
        Promises::default()
    }

    fn build(&self, parts: Parts, _around: &Surroundings) -> Built {
        Built { parts, held: None }
    }
}

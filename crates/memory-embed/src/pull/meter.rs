//! How the steps of a pull tell the caller how far they are, and hear that they should stop.

use std::ops::ControlFlow;

use memory_core::Error;

use super::{Progress, Stage};

/// Bytes between two calls. Each is also a chance to stop, so on a slow line they should not be
/// far apart: at 64 KiB a second this is two seconds.
const STEP: u64 = 128 * 1024;

/// Why a step ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller said so.
    Cancelled,
    /// It failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Calls the caller's function, not too often.
pub(super) struct Meter<'a> {
    call: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    at: Progress,
    told: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(call: &'a mut dyn FnMut(Progress) -> ControlFlow<()>) -> Self {
        let at = Progress { stage: Stage::Verifying, file: None, done: 0, total: 0 };
        Self { call, at, told: 0 }
    }

    /// A stage begins, `done` bytes of it being done already.
    pub(super) fn begin(
        &mut self,
        stage: Stage,
        file: Option<&'static str>,
        done: u64,
        total: u64,
    ) -> Result<(), Stop> {
        self.at = Progress { stage, file, done, total };
        self.beat()
    }

    /// So many bytes more are done.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<(), Stop> {
        self.at.done += bytes;
        if self.at.done - self.told >= STEP { self.beat() } else { Ok(()) }
    }

    /// The stage ends, all of it being done.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.at.done = self.at.total;
        if self.at.done == self.told { Ok(()) } else { self.beat() }
    }

    /// Tells what is so, for the caller to say whether to go on.
    pub(super) fn beat(&mut self) -> Result<(), Stop> {
        self.told = self.at.done;
        match (self.call)(self.at) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Cancelled),
        }
    }
}

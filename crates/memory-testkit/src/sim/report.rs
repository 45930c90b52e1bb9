//! What a run says of itself.

use super::faults::FaultCounts;
use super::history::Log;

/// A run and its verdict.
#[derive(Debug)]
pub struct Report {
    /// The seed that gives this run again.
    pub seed: u64,
    /// How often each kind of fault struck.
    pub faults: FaultCounts,
    /// Calls of clients.
    pub calls: u64,
    /// Requests that the calls became.
    pub requests: u64,
    /// Requests beyond the first of each call.
    pub retries: u64,
    /// Commits that were done once more, as is documented of those without a key whose every
    /// record had been overwritten or deleted since.
    pub repeats: u64,
    /// What was wrong, if something was.
    pub verdict: Result<(), String>,
    log: Log,
}

impl Report {
    pub(super) fn new(
        seed: u64,
        log: Log,
        faults: FaultCounts,
        verdict: Result<(), String>,
    ) -> Self {
        let calls = log.calls.len() as u64;
        let requests = log.wires.len() as u64;
        let mut asked: Vec<_> = log.wires.iter().filter_map(|wire| wire.call).collect();
        asked.sort_unstable();
        asked.dedup();
        let retries = requests.saturating_sub(asked.len() as u64);
        let repeats = super::check::repeats(&log);
        Self { seed, faults, calls, requests, retries, repeats, verdict, log }
    }

    /// A digest of the whole history: two runs of one seed have the same.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.log.digest()
    }

    /// The last `count` lines of the history.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let mut lines = self.log.lines();
        lines.split_off(lines.len().saturating_sub(count))
    }

    /// The lines of the history that name a call, among others of the same item.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.log.lines()
    }
}

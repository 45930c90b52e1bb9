//! What the processes of a run tell each other: a file of numbers, each written by one alone.
//!
//! A number is eight bytes at a multiple of eight, so that who reads it reads an older or a newer
//! one and nothing between.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Processes.
pub(crate) const PROCESSES: usize = 2;
/// Readers and writers of each.
pub(crate) const TASKS: usize = 4;
/// Items.
pub(crate) const KEYS: usize = 6;

/// What a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// Reads and writes that ended.
    Operations,
    /// Writes that were acknowledged.
    Writes,
    /// Of these those that the cache knows of, as far as can be told: no outage, no failure.
    Confirmed,
    /// Writes that another writer came before.
    Conflicts,
    /// Calls that failed otherwise.
    Failed,
    /// Values older than they may be.
    Stale,
    /// Older values within the bound, after an outage.
    Bounded,
}

const COUNTS: usize = 7;

/// What a process counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Total {
    Hits,
    Misses,
    Bypasses,
    Unconfirmed,
}

const TOTALS: usize = 4;

/// Which versions of the items were acknowledged, by task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// No read that begins now may give an older one.
    Firm,
    /// All.
    Any,
}

const PHASE: usize = 0;
const STOP: usize = 1;
const COUNTS_AT: usize = 2;
const TOTALS_AT: usize = COUNTS_AT + PROCESSES * TASKS * COUNTS;
const FLOORS_AT: usize = TOTALS_AT + PROCESSES * TOTALS;
const SIZE: usize = FLOORS_AT + 2 * PROCESSES * TASKS * KEYS;

#[derive(Debug)]
pub(crate) struct Board(File);

impl Board {
    pub(crate) fn new(path: &Path) -> Self {
        std::fs::write(path, vec![0; SIZE * 8]).unwrap();
        Self::open(path)
    }

    pub(crate) fn open(path: &Path) -> Self {
        Self(OpenOptions::new().read(true).write(true).open(path).unwrap())
    }

    /// Odd while Redis is away.
    pub(crate) fn phase(&self) -> u64 {
        self.get(PHASE)
    }
    pub(crate) fn set_phase(&self, phase: u64) {
        self.set(PHASE, phase);
    }
    pub(crate) fn stops(&self) -> bool {
        self.get(STOP) != 0
    }
    pub(crate) fn stop(&self) {
        self.set(STOP, 1);
    }

    pub(crate) fn add(&self, task: usize, count: Count) {
        let place = COUNTS_AT + task * COUNTS + count as usize;
        self.set(place, self.get(place) + 1);
    }
    /// Of all tasks.
    pub(crate) fn sum(&self, count: Count) -> u64 {
        let tasks = 0..PROCESSES * TASKS;
        tasks.map(|task| self.get(COUNTS_AT + task * COUNTS + count as usize)).sum()
    }

    pub(crate) fn total(&self, process: usize, total: Total) -> u64 {
        self.get(TOTALS_AT + process * TOTALS + total as usize)
    }
    pub(crate) fn set_total(&self, process: usize, total: Total, number: u64) {
        self.set(TOTALS_AT + process * TOTALS + total as usize, number);
    }
    /// Of all processes.
    pub(crate) fn total_sum(&self, total: Total) -> u64 {
        (0..PROCESSES).map(|process| self.total(process, total)).sum()
    }

    /// Says that a task's write of a version was acknowledged.
    pub(crate) fn raise(&self, floor: Floor, task: usize, key: usize, version: u64) {
        let place = Self::floor_at(floor, task, key);
        if self.get(place) < version {
            self.set(place, version);
        }
    }
    /// The newest version that was acknowledged.
    pub(crate) fn floor(&self, floor: Floor, key: usize) -> u64 {
        let tasks = 0..PROCESSES * TASKS;
        tasks.map(|task| self.get(Self::floor_at(floor, task, key))).max().unwrap()
    }
    fn floor_at(floor: Floor, task: usize, key: usize) -> usize {
        FLOORS_AT + ((floor as usize) * PROCESSES * TASKS + task) * KEYS + key
    }

    fn get(&self, place: usize) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, place as u64 * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
    fn set(&self, place: usize, number: u64) {
        self.0.write_all_at(&number.to_le_bytes(), place as u64 * 8).unwrap();
    }
}

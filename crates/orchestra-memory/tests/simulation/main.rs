//! The simulation over the composed stack: every layer, in its order, between several clients and
//! a server that fails; and planted faults, each of which has to be found.
//!
//! A target of its own, so that `cargo xtask simulate` builds it and nothing else.
//! `docs/simulation.md` explains it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends where something is wrong, and says what it did"
)]

mod mutants;
mod stack;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use memory_core::{Clock as _, SystemClock};
use memory_testkit::sim::{FaultKind, Flaw, Report, RunSettings, Stack, run};
use mutants::Mutant;
use stack::Composed;

/// Seeds of the honest run where nothing else is asked for.
const SEEDS: u64 = 100;
/// The seeds within which a planted fault has to be found.
const MUTANT_SEEDS: u64 = 200;
/// Lines of the history that are shown of a run that failed.
const TAIL: usize = 80;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// What a number of runs had in common.
#[derive(Default)]
struct Sum {
    calls: u64,
    requests: u64,
    retries: u64,
    repeats: u64,
    /// By kind: how often, and in how many runs.
    struck: Vec<(u64, u64)>,
    failed: Vec<Report>,
}

impl Sum {
    fn add(&mut self, report: Report) {
        self.calls += report.calls;
        self.requests += report.requests;
        self.retries += report.retries;
        self.repeats += report.repeats;
        self.struck.resize(FaultKind::ALL.len(), (0, 0));
        for (kind, struck) in FaultKind::ALL.into_iter().zip(&mut self.struck) {
            let times = report.faults.of(kind);
            *struck = (struck.0 + times, struck.1 + u64::from(times > 0));
        }
        if report.verdict.is_err() {
            self.failed.push(report);
        }
    }
}

/// Runs the seeds from `first` on, on all cores.
fn runs(first: u64, count: u64) -> Sum {
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let work = || {
        let stack: Arc<dyn Stack> = Arc::new(Composed::new(None));
        loop {
            let seed = next.fetch_add(1, Ordering::SeqCst);
            if seed >= first + count {
                return;
            }
            let report = run(seed, RunSettings::default(), &stack);
            sum.lock().unwrap().add(report);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    sum.into_inner().unwrap()
}

fn show(report: &Report) {
    if let Err(what) = &report.verdict {
        println!("\nseed {} failed: {what}", report.seed);
        println!("the end of its history, digest {:016x}:", report.digest());
        for line in report.tail(TAIL) {
            println!("{line}");
        }
        let calls = what.split_whitespace().filter_map(|word| word.parse::<u64>().ok());
        for call in calls.take(1) {
            println!("\nand what names call {call}:");
            let named = format!("call {call} ");
            for line in report.lines().iter().filter(|line| line.contains(&named)) {
                println!("{line}");
            }
        }
    }
}

#[test]
fn what_is_acknowledged_stays_and_what_failed_says_so() {
    let first = number("ORCHESTRA_MEMORY_SIM_SEED");
    let count = number("ORCHESTRA_MEMORY_SIM_SEEDS");
    let count = count.unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let clock = SystemClock::new();
    let mut sum = runs(first.unwrap_or(0), count);
    let seconds = clock.monotonic().as_secs_f64();
    sum.failed.sort_by_key(|report| report.seed);
    sum.failed.first().iter().for_each(|report| show(report));
    let failed: Vec<_> = sum.failed.iter().map(|report| report.seed).collect();
    println!(
        "simulate: {count} seeds, {} failed, {} calls, {} requests, {} retries, {} repeats, \
         {seconds:.1} seconds",
        failed.len(),
        sum.calls,
        sum.requests,
        sum.retries,
        sum.repeats
    );
    for (kind, (times, runs)) in FaultKind::ALL.into_iter().zip(&sum.struck) {
        println!("simulate fault {kind}: {times} times, in {runs} runs");
    }
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
    if count >= SEEDS {
        for (kind, (times, _)) in FaultKind::ALL.into_iter().zip(&sum.struck) {
            assert!(*times > 0, "{kind} never struck");
        }
        assert!(sum.retries > 0, "nothing was sent again");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let first = number("ORCHESTRA_MEMORY_SIM_SEED").unwrap_or(0);
    let stack: Arc<dyn Stack> = Arc::new(Composed::new(None));
    let digest = |seed| run(seed, RunSettings::default(), &stack).digest();
    for seed in first..first + 10 {
        assert_eq!(digest(seed), digest(seed), "seed {seed}");
    }
    assert_ne!(digest(first), digest(first + 1));
}

/// The first seed that finds a planted fault, and how it is found.
fn found(mutant: Option<Mutant>, flaw: Option<Flaw>) -> Option<(u64, String)> {
    let stack: Arc<dyn Stack> = Arc::new(Composed::new(mutant));
    let settings = RunSettings::default().with_flaw(flaw);
    (0..MUTANT_SEEDS).find_map(|seed| Some((seed, run(seed, settings, &stack).verdict.err()?)))
}

#[test]
fn every_planted_fault_is_found() {
    let only = std::env::var("ORCHESTRA_MEMORY_SIM_MUTANT").ok().filter(|name| name != "all");
    let mutants = Mutant::ALL.map(|mutant| (mutant.name(), Some(mutant), None));
    let flaws = Flaw::ALL.map(|flaw| (flaw.name(), None, Some(flaw)));
    let planted: Vec<_> = mutants.into_iter().chain(flaws).collect();
    if let Some(only) = &only {
        let names: Vec<_> = planted.iter().map(|(name, ..)| *name).collect();
        assert!(names.contains(&only.as_str()), "no such mutant; there are {}", names.join(", "));
    }
    let mut survivors = Vec::new();
    for (name, mutant, flaw) in planted {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match found(mutant, flaw) {
            Some((seed, what)) => println!("simulate mutant {name}: found by seed {seed}: {what}"),
            None => {
                println!("simulate mutant {name}: SURVIVES {MUTANT_SEEDS} seeds");
                survivors.push(name);
            }
        }
    }
    assert!(survivors.is_empty(), "mutants survive: {}", survivors.join(", "));
}

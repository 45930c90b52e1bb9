//! The simulation itself: it says nothing of honest runs, finds every flaw of a server, and gives a
//! seed's run again.

use std::sync::Arc;

use memory_testkit::sim::{Bare, FaultKind, Flaw, RunSettings, Stack, run};

/// Honest runs, and the most that a flaw may take to be found.
const SEEDS: u64 = 150;

fn bare() -> Arc<dyn Stack> {
    Arc::new(Bare)
}

#[test]
fn an_honest_server_passes_and_every_kind_of_fault_strikes() {
    let stack = bare();
    let mut struck = vec![0_u64; FaultKind::ALL.len()];
    for seed in 0..SEEDS {
        let report = run(seed, RunSettings::default(), &stack);
        if let Err(what) = &report.verdict {
            panic!("seed {seed}: {what}\n{}", report.tail(60).join("\n"));
        }
        for (place, kind) in FaultKind::ALL.into_iter().enumerate() {
            struck[place] += report.faults.of(kind);
        }
    }
    for (kind, times) in FaultKind::ALL.into_iter().zip(struck) {
        assert!(times > 0, "{kind} never struck");
    }
}

#[test]
fn every_flaw_of_a_server_is_found() {
    let stack = bare();
    for flaw in Flaw::ALL {
        // It takes a stack that sends again to see whether a commit knows its own work.
        if flaw == Flaw::CommitIdsForgotten {
            continue;
        }
        let settings = RunSettings::default().with_flaw(Some(flaw));
        let found = (0..SEEDS).find(|seed| run(*seed, settings, &stack).verdict.is_err());
        assert!(found.is_some(), "{} survives {SEEDS} seeds", flaw.name());
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let stack = bare();
    for seed in 0..10 {
        let digest = |seed| run(seed, RunSettings::default(), &stack).digest();
        assert_eq!(digest(seed), digest(seed), "seed {seed}");
        assert_ne!(digest(seed), digest(seed + 1), "seeds {seed} and the next");
    }
}

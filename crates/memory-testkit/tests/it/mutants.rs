//! Planted faults: each is a wrapper that does one thing wrong, and each must be caught.
//!
//! Each names a check of the suite that must catch it; the same wrappers without a fault pass the
//! whole suite. The faults that sequences show are given to the model test as well.

mod parts;
mod store;

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use memory_core::Capability;
use memory_testkit::conformance::{CHECKS, Check, Verdict, cover, run_check};
use memory_testkit::model::check_model;
use memory_testkit::{Harness, Overlay, ReferenceHarness};

use parts::{Part, PartMutant};
use store::{Mutant, StoreMutant};

fn store_mutant(mutant: Mutant) -> Overlay {
    let reference = ReferenceHarness::new();
    let upkeep = reference.store();
    Overlay::new(reference).map_records(|inner| Arc::new(StoreMutant::new(inner, upkeep, mutant)))
}

fn part_mutant(part: Part) -> Overlay {
    let mutant = Arc::new(PartMutant::new(&ReferenceHarness::new(), part));
    Overlay::new(ReferenceHarness::of(mutant.store(), mutant.clock()))
        .map_records(|_| Arc::clone(&mutant) as _)
        .map_vectors(|_| Arc::clone(&mutant) as _)
        .map_keywords(|_| Arc::clone(&mutant) as _)
        .map_changes(|_| Arc::clone(&mutant) as _)
        .map_leases(|_| Arc::clone(&mutant) as _)
}

/// Whether a harness fails a check.
fn fails(check: &Check, harness: impl Harness + 'static) -> bool {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let run = AssertUnwindSafe(run_check(check, Box::new(harness))).catch_unwind();
    // A check that panics has been failed, too.
    runtime.block_on(run).map_or(true, |verdict| matches!(verdict, Verdict::Failed(_)))
}

fn check(name: &str) -> &'static Check {
    CHECKS.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn the_suite_catches_every_store_mutant() {
    for (mutant, expected) in Mutant::ALL {
        assert!(fails(check(expected), store_mutant(mutant)), "{mutant:?} passes {expected}");
    }
}

#[test]
fn the_suite_catches_every_part_mutant() {
    for (part, expected) in Part::ALL {
        assert!(fails(check(expected), part_mutant(part)), "{part:?} passes {expected}");
    }
}

/// Without a fault the same wrappers pass everything: the mutants are caught for their faults.
#[test]
fn the_sound_wrappers_pass() {
    for check in CHECKS {
        assert!(!fails(check, store_mutant(Mutant::Sound)), "{check:?}");
        assert!(!fails(check, part_mutant(Part::Sound)), "{check:?}");
    }
}

#[test]
fn the_model_catches_mutants() {
    for mutant in [
        Mutant::CountIgnoresExpiry,
        Mutant::AbsentIsAny,
        Mutant::PagesSkipOne,
        Mutant::EveryWriteByItself,
        Mutant::OwnWorkNeverKnown,
        Mutant::KeysIgnored,
        Mutant::KeepDrops,
        Mutant::EraseWidens,
        Mutant::ExpiryDropped,
        Mutant::FetchCrossesTenants,
    ] {
        let answer = check_model(|| async { store_mutant(mutant) }, 300, 7);
        assert!(answer.is_err(), "the model passes {mutant:?}");
    }
    for part in [
        Part::DeleteLeavesVector,
        Part::MissingBeginsWithTheLast,
        Part::OldWordsStay,
        Part::DeletesNotLogged,
    ] {
        let answer = check_model(|| async { part_mutant(part) }, 300, 7);
        assert!(answer.is_err(), "the model passes {part:?}");
    }
}

#[test]
fn coverage_catches_what_is_missing() {
    let harness = ReferenceHarness::new();
    let all: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
    assert!(cover(&harness, &all, &[Capability::Leases]).unwrap().contains("reference"));
    let fewer = cover(&harness, &all[1..], &[]).unwrap_err();
    assert!(fewer.message().contains(all[0]), "{fewer}");
    let undeclared = cover(&harness, &all, &[Capability::OnlineBackup]).unwrap_err();
    assert!(undeclared.message().contains("not declared"), "{undeclared}");
    let names: BTreeSet<_> = all.iter().collect();
    assert_eq!(names.len(), all.len(), "two checks have one name");
    for capability in Capability::ALL {
        let about = CHECKS.iter().any(|check| check.needs.contains(&capability));
        assert!(about, "no check is about {capability}");
    }
}

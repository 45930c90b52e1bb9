//! The conformance suite and the model test: as the store is by default, with its change log, and
//! with transactions in place of `verify`.

use memory_core::Capability;
use memory_firestore::{FirestoreSettings, GuardMode};
use memory_testkit::conformance::{CHECKS, Verdict, run_check};
use memory_testkit::run_model;

use crate::common::{FirestoreHarness, emulator};

memory_testkit::conformance!(
    firestore,
    FirestoreHarness::new(|_| {}),
    requires = [
        AtomicCommit,
        Preconditions,
        CommitIds,
        IdempotencyKeys,
        TypedFilters,
        Cursors,
        Projection,
        Counts,
        Expiry,
        Erase,
        Leases,
        TenantDirectory,
        VectorSearch,
        CoLocated,
    ]
);

fn logging(settings: &mut FirestoreSettings) {
    settings.change_log = true;
}

memory_testkit::conformance!(
    with_change_log,
    FirestoreHarness::new(logging),
    requires = [
        AtomicCommit,
        Preconditions,
        CommitIds,
        IdempotencyKeys,
        TypedFilters,
        Cursors,
        Projection,
        Counts,
        Expiry,
        Erase,
        Leases,
        TenantDirectory,
        ChangeLog,
        VectorSearch,
        CoLocated,
    ]
);

/// What a guard by transactions can change: every check of commits, preconditions, retries, fences
/// and of writers that meet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_holds_with_transactions() {
    const ABOUT: [Capability; 5] = [
        Capability::AtomicCommit,
        Capability::Preconditions,
        Capability::CommitIds,
        Capability::IdempotencyKeys,
        Capability::Leases,
    ];
    let mut ran = 0;
    for check in CHECKS.iter().filter(|check| check.needs.iter().any(|need| ABOUT.contains(need))) {
        let made = FirestoreHarness::new(|settings| settings.guard = GuardMode::Transaction).await;
        let Some(harness) = made else { return };
        match run_check(check, Box::new(harness)).await {
            Verdict::Passed => ran += 1,
            Verdict::NotApplicable(_) => {}
            Verdict::Failed(failure) => panic!("{}: {failure}", check.name),
        }
    }
    assert!(ran >= 45, "{ran} checks ran");
}

#[test]
fn the_store_agrees_with_the_model() {
    if emulator().is_some() {
        let make = || async { FirestoreHarness::new(|_| {}).await.expect("the emulator is there") };
        run_model(make, 30);
    }
}

#[test]
fn the_store_with_a_change_log_agrees_with_the_model() {
    if emulator().is_some() {
        let make =
            || async { FirestoreHarness::new(logging).await.expect("the emulator is there") };
        run_model(make, 30);
    }
}

//! The conformance suite and the model test, on the reference store with its searches in this
//! process.

use std::sync::Arc;

use memory_testkit::conformance::{Harness, Overlay};
use memory_testkit::reference::ReferenceHarness;
use memory_testkit::run_model;
use memory_vector::local::{LocalIndexes, LocalParts, LocalSettings};

/// The reference store, searched by the local indexes.
pub(crate) fn local() -> Overlay {
    let inner = ReferenceHarness::new();
    let parts = LocalParts {
        records: inner.records(),
        changes: inner.changes().unwrap(),
        meta: inner.meta().unwrap(),
        vectors: inner.vectors(),
        clock: inner.clock(),
    };
    let mut settings = LocalSettings::default();
    // Several pages even for few.
    settings.page = 3;
    let local = LocalIndexes::new(parts, settings).unwrap();
    let vectors = Arc::clone(&local);
    Overlay::new(inner).map_vectors(|_| vectors).map_keywords(|_| local)
}

memory_testkit::conformance!(
    local_indexes,
    async { local() },
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
        KeywordSearch,
        CoLocated,
    ]
);

#[test]
fn the_local_indexes_agree_with_the_model() {
    run_model(|| async { local() }, 60);
}

//! The suite, the model test and the faults, each held against the reference store; and the fault
//! proxy, against servers of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canary;
mod faults;
mod models;
mod mutants;
mod proxy;
mod simulation;

use std::sync::Arc;

use memory_testkit::{Forwarding, Overlay, ReferenceHarness};

memory_testkit::conformance!(
    reference,
    async { ReferenceHarness::new() },
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

memory_testkit::conformance!(forwarded, async {
    Overlay::new(ReferenceHarness::new()).map_records(|inner| Arc::new(Forwarding::new(inner)))
});

//! The conformance suite and the model test, on a file, in memory, and through a wrapper.

use std::sync::Arc;

use memory_core::ManualClock;
use memory_core::traits::{KeywordIndex, NoLedger};
use memory_sqlite::{SqliteSettings, SqliteStore};
use memory_testkit::{Forwarding, Harness, Overlay, conformance::start, run_model};

/// A store in a temporary folder, or in memory, on a clock that the checks move.
struct SqliteHarness {
    store: Arc<SqliteStore>,
    clock: Arc<ManualClock>,
    folder: tempfile::TempDir,
}

impl SqliteHarness {
    fn on_file() -> Self {
        Self::with(|folder| SqliteSettings::new(folder.join("memory.db")))
    }

    fn in_memory() -> Self {
        Self::with(|_| SqliteSettings::in_memory())
    }

    fn with(settings: impl FnOnce(&std::path::Path) -> SqliteSettings) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(ManualClock::new(start()));
        let mut settings = settings(folder.path());
        // Small steps, so that erasures and sweeps of a few items take several.
        settings.erase_batch = 3;
        let made = SqliteStore::open(settings, clock.clone(), Arc::new(NoLedger));
        Self { store: made.expect("the store opens"), clock, folder }
    }
}

impl Harness for SqliteHarness {
    memory_testkit::one_store!();
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        Some(self.store.clone())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
    fn backup_target(&self) -> Option<String> {
        Some(self.folder.path().join("backup.db").to_string_lossy().into_owned())
    }
}

memory_testkit::conformance!(
    sqlite,
    async { SqliteHarness::on_file() },
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
        OnlineBackup,
    ]
);

memory_testkit::conformance!(in_memory, async { SqliteHarness::in_memory() });

memory_testkit::conformance!(forwarded, async {
    Overlay::new(SqliteHarness::on_file()).map_records(|inner| Arc::new(Forwarding::new(inner)))
});

#[test]
fn the_store_agrees_with_the_model() {
    run_model(|| async { SqliteHarness::on_file() }, 60);
}

#[test]
fn the_store_in_memory_agrees_with_the_model() {
    run_model(|| async { SqliteHarness::in_memory() }, 100);
}

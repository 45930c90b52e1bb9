//! The embedded store through each layer alone, and through all.

use std::sync::Arc;

use memory_core::ManualClock;
use memory_core::traits::{KeywordIndex, NoLedger};
use memory_sqlite::{SqliteSettings, SqliteStore};
use memory_testkit::{Harness, conformance};

use super::over;

/// A store on a file of its own, on a clock that the checks move.
pub(super) struct OnFile {
    pub(super) store: Arc<SqliteStore>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) folder: tempfile::TempDir,
}

impl OnFile {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(conformance::start()));
        let mut settings = SqliteSettings::new(folder.path().join("memory.db"));
        // Small steps, so that erasures and sweeps of a few items take several.
        settings.erase_batch = 3;
        let store = SqliteStore::open(settings, clock.clone(), Arc::new(NoLedger)).unwrap();
        Self { store, clock, folder }
    }
}

impl Harness for OnFile {
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

macro_rules! stamp {
    ($name:ident) => {
        memory_testkit::conformance!(
            $name,
            async { over(OnFile::new(), super::super::super::$name) },
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
    };
}

stamp!(telemetry);
stamp!(guard);
stamp!(retry);
stamp!(limit);
stamp!(timeout);
stamp!(stack);

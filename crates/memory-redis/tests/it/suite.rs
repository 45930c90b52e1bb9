//! The conformance suite and the model test: on Redis with the query engine, without it, of the
//! oldest version that will do, and on a cluster.

use std::sync::Arc;

use memory_core::ManualClock;
use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep, TenantDirectory,
    VectorIndex,
};
use memory_testkit::conformance::{FILTER_KEYS, Harness};
use memory_testkit::run_model;

use crate::records::rig::Rig;

/// A store of the suite: every metadata key of it is declared.
struct SuiteHarness {
    rig: Rig,
    store: Arc<memory_redis::RedisStore>,
    searches: bool,
}

impl SuiteHarness {
    async fn on(variable: &str) -> Option<Self> {
        let rig = Rig::on(variable).await?;
        let keys: serde_json::Map<_, _> = FILTER_KEYS
            .iter()
            .map(|(key, of)| ((*key).to_owned(), serde_json::Value::from(*of)))
            .collect();
        let settings = serde_json::json!({
            "filter_keys": keys,
            // Erasures of a few hundred items take several steps.
            "erase_batch": 100,
            "change_log_keep": 1,
        });
        let store = rig.with(settings).await;
        let searches =
            RecordStore::capabilities(&*store).has(memory_core::Capability::VectorSearch);
        Some(Self { rig, store, searches })
    }
}

impl Harness for SuiteHarness {
    fn records(&self) -> Arc<dyn RecordStore> {
        self.store.clone()
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        self.searches.then(|| self.store.clone() as Arc<dyn VectorIndex>)
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        self.searches.then(|| self.store.clone() as Arc<dyn KeywordIndex>)
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        Some(self.store.clone())
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        Some(self.store.clone())
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        Some(self.store.clone())
    }
    fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        Some(self.store.clone())
    }
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>> {
        Some(self.store.clone())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.rig.clock.clone()
    }
}

/// The capability table's rows for Redis, with the query engine.
macro_rules! searching {
    ($module:ident, $variable:literal) => {
        memory_testkit::conformance!(
            $module,
            SuiteHarness::on($variable),
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
    };
}

/// The same without it.
macro_rules! plain {
    ($module:ident, $variable:literal) => {
        memory_testkit::conformance!(
            $module,
            SuiteHarness::on($variable),
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
            ]
        );
    };
}

searching!(redis, "MEMORY_TEST_REDIS");
plain!(redis_plain, "MEMORY_TEST_REDIS_PLAIN");
plain!(redis_7, "MEMORY_TEST_REDIS_OLD");
searching!(redis_cluster, "MEMORY_TEST_REDIS_CLUSTER");

fn agrees(variable: &'static str) {
    if std::env::var(variable).is_ok_and(|url| !url.is_empty()) {
        let make =
            move || async move { SuiteHarness::on(variable).await.expect("the server is there") };
        run_model(make, 30);
    }
}

#[test]
fn the_store_agrees_with_the_model() {
    agrees("MEMORY_TEST_REDIS");
}

#[test]
fn the_store_without_an_engine_agrees_with_the_model() {
    agrees("MEMORY_TEST_REDIS_PLAIN");
}

#[test]
fn the_store_on_a_cluster_agrees_with_the_model() {
    agrees("MEMORY_TEST_REDIS_CLUSTER");
}

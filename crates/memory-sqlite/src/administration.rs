//! The store as the administration traits: changes, tenants, leases, meta, upkeep.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    BackupReport, ChangeBatch, ChangeLog, ChangePosition, FencingToken, Lease, LeaseStore,
    SchemaInfo, StoreKey, StoreMeta, StoreStats, StoreUpkeep, TenantDirectory, TenantPage,
    TenantSpaces, TenantStats, Tombstone, VerifyReport,
};
use memory_core::{CallContext, ConsumerName, LeaseName, MemoryId, Result, TenantId};

use crate::store::{SqliteStore, named};
use crate::{SCHEMA_VERSION, changes, erase, leases, meta, upkeep, vectors};

#[async_trait]
impl ChangeLog for SqliteStore {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        let owned = context.clone();
        self.read("read_changes", Some(context), move |connection, _| {
            changes::read(connection, &owned, after, limit)
        })
        .await
    }

    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        let (owned, consumer) = (context.clone(), consumer.clone());
        self.write("acknowledge", Some(context), move |txn| {
            changes::acknowledge(txn, &owned, &consumer, position)
        })
        .await
    }

    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        let owned = context.clone();
        self.read("consumers", Some(context), move |connection, _| {
            changes::consumers(connection, &owned)
        })
        .await
    }

    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        let (owned, consumer) = (context.clone(), consumer.clone());
        self.write("forget_consumer", Some(context), move |txn| {
            changes::forget(txn, &owned, &consumer)
        })
        .await
    }
}

#[async_trait]
impl TenantDirectory for SqliteStore {
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        self.read("list_tenants", None, move |connection, _| {
            changes::tenants(connection, after.as_ref(), limit)
        })
        .await
    }
}

#[async_trait]
impl LeaseStore for SqliteStore {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        leases::check_life(life).map_err(|error| named(error, "acquire"))?;
        let (owned, name, clock) = (context.clone(), name.clone(), Arc::clone(&self.clock));
        self.write("acquire", Some(context), move |txn| {
            leases::acquire(txn, &owned, &name, life, clock.now())
        })
        .await
    }

    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        leases::check_life(life).map_err(|error| named(error, "renew"))?;
        let (owned, lease, clock) = (context.clone(), lease.clone(), Arc::clone(&self.clock));
        self.write("renew", Some(context), move |txn| {
            let now = clock.now();
            let expires_at = now.saturating_add(life);
            let held = leases::set_end(txn, &owned, &lease, expires_at, now)?;
            Ok(held.then_some(Lease { expires_at, ..lease }))
        })
        .await
    }

    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        let (owned, lease, clock) = (context.clone(), lease.clone(), Arc::clone(&self.clock));
        self.write("release", Some(context), move |txn| {
            let now = clock.now();
            leases::set_end(txn, &owned, &lease, now, now).map(|_| ())
        })
        .await
    }

    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        let owned = context.clone();
        self.write("set_write_fence", Some(context), move |txn| {
            leases::set_fence(txn, &owned, fence)
        })
        .await
    }
}

#[async_trait]
impl StoreMeta for SqliteStore {
    async fn schema(&self) -> Result<SchemaInfo> {
        self.read("schema", None, |connection, _| {
            let stored = crate::schema::user_version(connection)?;
            Ok(SchemaInfo {
                stored: u32::try_from(stored).unwrap_or(u32::MAX),
                current: SCHEMA_VERSION,
            })
        })
        .await
    }

    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        let owned = context.clone();
        self.read("spaces", Some(context), move |connection, _| {
            match crate::rows::tenant_number(connection, &owned.tenant)? {
                Some(tenant) => Ok(vectors::read_spaces(connection, tenant)?.spaces),
                None => Ok(TenantSpaces::default()),
            }
        })
        .await
    }

    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        let (owned, spaces) = (context.clone(), spaces.clone());
        self.write("set_spaces", Some(context), move |txn| meta::set_spaces(txn, &owned, &spaces))
            .await
    }

    async fn analyser(&self) -> Result<Option<String>> {
        self.read("analyser", None, |connection, _| upkeep::analyser(connection)).await
    }

    async fn store_key(&self) -> Result<StoreKey> {
        self.read("store_key", None, |connection, _| erase::store_key(connection)).await
    }

    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        let (owned, ids) = (context.clone(), ids.to_vec());
        self.read("erased", Some(context), move |connection, _| {
            changes::erased(connection, &owned, &ids)
        })
        .await
    }

    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        let tombstones = tombstones.to_vec();
        self.write("add_tombstones", None, move |txn| meta::add_tombstones(txn, &tombstones)).await
    }
}

#[async_trait]
impl StoreUpkeep for SqliteStore {
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        let (owned, clock) = (context.clone(), Arc::clone(&self.clock));
        self.read("tenant_stats", Some(context), move |connection, _| {
            upkeep::tenant_stats(connection, &owned, clock.now())
        })
        .await
    }

    /// Beside what the file holds: `writes`, the `write_groups` that they were committed in (their
    /// ratio is what group commit saves) and the `syncs` of the disk for that, and the memory of the
    /// derived indexes.
    async fn store_stats(&self) -> Result<StoreStats> {
        let path = self.settings.path.clone();
        let mut stats = self
            .read("store_stats", None, move |connection, _| upkeep::file_stats(connection, &path))
            .await?;
        let indexes = self.shared.indexes.stats();
        for (name, number) in [
            ("write_groups", self.counters.groups.load(Ordering::Relaxed)),
            ("writes", self.counters.writes.load(Ordering::Relaxed)),
            ("syncs", self.counters.syncs.load(Ordering::Relaxed)),
            ("index_tenants", indexes.entries as u64),
            ("index_bytes", indexes.bytes as u64),
            ("index_hits", indexes.hits),
            ("index_misses", indexes.misses),
            ("index_evictions", indexes.evictions),
        ] {
            stats.numbers.insert(name.to_owned(), number);
        }
        Ok(stats)
    }

    async fn verify(&self) -> Result<VerifyReport> {
        self.read("verify", None, |connection, shared| upkeep::verify(connection, &shared.analyzer))
            .await
    }

    async fn backup(&self, target: &str) -> Result<BackupReport> {
        let target = target.to_owned();
        self.read("backup", None, move |connection, _| upkeep::backup(connection, &target)).await
    }
}

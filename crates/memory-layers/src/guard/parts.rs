//! The guard around the other parts of a back end, and around an embedder.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::limits::{CHANGES, FETCH_IDS, PAGE};
use memory_core::traits::{
    BackupReport, BulkObserver, BulkWriter, ChangeBatch, ChangeLog, ChangePosition, EmbedPurpose,
    Embedder, FencingToken, Lease, LeaseStore, SchemaInfo, StoreKey, StoreMeta, StoreStats,
    StoreUpkeep, TenantDirectory, TenantPage, TenantSpaces, TenantStats, Tombstone, VerifyReport,
};
use memory_core::{
    CallContext, CommitId, ConsumerName, EmbeddingSpace, Health, LeaseName, MemoryId, Result,
    TenantId, Write, WriteResult,
};

use super::records::check_writes;
use super::{GuardRule, Guarded};
use crate::operation::Operation;
use crate::policy::rows;

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl ChangeLog for Guarded<dyn ChangeLog> {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        const OPERATION: Operation = Operation::ReadChanges;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(OPERATION, "the limit", rows(limit), 1, rows(CHANGES))?;
        let batch = self.inner.read_changes(context, after, limit).await?;
        let positions = batch.changes.iter().map(|change| &change.position);
        self.guard.ascending(OPERATION, Some(&after), limit, positions)?;
        Ok(batch)
    }
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.guard.admit(Operation::Acknowledge, context)?;
        self.inner.acknowledge(context, consumer, position).await
    }
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        self.guard.admit(Operation::Consumers, context)?;
        self.inner.consumers(context).await
    }
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        self.guard.admit(Operation::ForgetConsumer, context)?;
        self.inner.forget_consumer(context, consumer).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl BulkWriter for Guarded<dyn BulkWriter> {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        const OPERATION: Operation = Operation::WriteMany;
        self.guard.admit(OPERATION, context)?;
        self.guard.request(OPERATION, check_writes(&writes))?;
        let ids: Vec<MemoryId> = writes.iter().map(|write| write.id().clone()).collect();
        let results = self.inner.write_many(context, id, writes, resend, observer).await?;
        let answered = results.iter().map(|result| result.as_ref().ok().map(|it| &it.id));
        self.guard.answers(OPERATION, ids.iter(), answered)?;
        Ok(results)
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl TenantDirectory for Guarded<dyn TenantDirectory> {
    /// Where this process serves some tenants only, others are left out, and pages are read until
    /// one of those it serves is found, or all have been.
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        const OPERATION: Operation = Operation::ListTenants;
        self.guard.within(OPERATION, "the limit", rows(limit), 1, rows(PAGE))?;
        let mut after = after;
        loop {
            let mut page = self.inner.list_tenants(after.clone(), limit).await?;
            self.guard.ascending(OPERATION, after.as_ref(), limit, page.tenants.iter())?;
            if !self.guard.is_bound() {
                return Ok(page);
            }
            let last = page.tenants.last().cloned();
            page.tenants.retain(|tenant| self.guard.serves(tenant));
            if !page.tenants.is_empty() || !page.more {
                return Ok(page);
            }
            // A page with more to follow and nothing to go on from would be read for ever.
            self.guard.holds(OPERATION, GuardRule::Step, last.is_some())?;
            after = last;
        }
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StoreMeta for Guarded<dyn StoreMeta> {
    async fn schema(&self) -> Result<SchemaInfo> {
        self.inner.schema().await
    }
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.guard.admit(Operation::Spaces, context)?;
        self.inner.spaces(context).await
    }
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        self.guard.admit(Operation::SetSpaces, context)?;
        self.inner.set_spaces(context, spaces).await
    }
    async fn analyser(&self) -> Result<Option<String>> {
        self.inner.analyser().await
    }
    async fn store_key(&self) -> Result<StoreKey> {
        self.inner.store_key().await
    }
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        const OPERATION: Operation = Operation::Erased;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(OPERATION, "ids", ids.len(), 0, FETCH_IDS)?;
        let flags = self.inner.erased(context, ids).await?;
        self.guard.holds(OPERATION, GuardRule::Count, flags.len() == ids.len())?;
        Ok(flags)
    }
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        const OPERATION: Operation = Operation::AddTombstones;
        self.guard.within(OPERATION, "tombstones", tombstones.len(), 0, FETCH_IDS)?;
        self.inner.add_tombstones(tombstones).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl LeaseStore for Guarded<dyn LeaseStore> {
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.guard.admit(Operation::Acquire, context)?;
        let lease = self.inner.acquire(context, name, life).await?;
        let same = lease.as_ref().is_none_or(|lease| lease.name == *name);
        self.guard.holds(Operation::Acquire, GuardRule::Id, same)?;
        Ok(lease)
    }
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        self.guard.admit(Operation::Renew, context)?;
        let renewed = self.inner.renew(context, lease, life).await?;
        let same = |new: &Lease| new.name == lease.name && new.token == lease.token;
        let same = renewed.as_ref().is_none_or(same);
        self.guard.holds(Operation::Renew, GuardRule::Id, same)?;
        Ok(renewed)
    }
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()> {
        self.guard.admit(Operation::Release, context)?;
        self.inner.release(context, lease).await
    }
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.guard.admit(Operation::SetWriteFence, context)?;
        self.inner.set_write_fence(context, fence).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl StoreUpkeep for Guarded<dyn StoreUpkeep> {
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        self.guard.admit(Operation::TenantStats, context)?;
        self.inner.tenant_stats(context).await
    }
    async fn store_stats(&self) -> Result<StoreStats> {
        self.inner.store_stats().await
    }
    async fn verify(&self) -> Result<VerifyReport> {
        self.inner.verify().await
    }
    async fn backup(&self, target: &str) -> Result<BackupReport> {
        self.inner.backup(target).await
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Embedder for Guarded<dyn Embedder> {
    fn space(&self) -> EmbeddingSpace {
        self.inner.space()
    }
    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        self.guard.admit(Operation::Embed, context)?;
        let vectors = self.inner.embed(context, texts, purpose).await?;
        let even = vectors.len() == texts.len();
        self.guard.holds(Operation::Embed, GuardRule::Count, even)?;
        let dimensions = rows(self.inner.space().dimensions());
        let shaped = vectors.iter().all(|vector| vector.len() == dimensions);
        self.guard.holds(Operation::Embed, GuardRule::Shape, shaped)?;
        Ok(vectors)
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
}

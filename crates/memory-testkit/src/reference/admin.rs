//! The reference store's change log, tenant directory and upkeep.

use std::collections::BTreeMap;

use async_trait::async_trait;
use memory_core::limits::CHANGES;
use memory_core::traits::{
    BackupReport, ChangeBatch, ChangeLog, ChangePosition, StoreStats, StoreUpkeep, TenantDirectory,
    TenantPage, TenantStats, VerifyReport,
};
use memory_core::{CallContext, ConsumerName, Error, Filter, Result, TenantId};

use super::{BACKEND, ReferenceStore, check_limit};

#[async_trait]
impl ChangeLog for ReferenceStore {
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch> {
        let state = self.enter(context)?;
        check_limit(limit, CHANGES)?;
        let Some(tenant) = state.tenant(&context.tenant) else {
            return Ok(ChangeBatch::default());
        };
        let changes = tenant
            .log
            .iter()
            .filter(|change| change.position > after)
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .cloned()
            .collect();
        Ok(ChangeBatch { changes, head: tenant.head, gap: after < tenant.trimmed })
    }

    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        let mut state = self.enter(context)?;
        let tenant = state.tenant_mut(&context.tenant);
        let held = tenant.consumers.entry(consumer.clone()).or_default();
        *held = (*held).max(position);
        // What every consumer has read is dropped at once, so that a test can see the gap.
        let read = tenant.consumers.values().min().copied().unwrap_or_default();
        if let Some(last) = tenant.log.iter().map(|change| change.position).rfind(|p| *p <= read) {
            tenant.log.retain(|change| change.position > last);
            tenant.trimmed = last;
        }
        Ok(())
    }

    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>> {
        let state = self.enter(context)?;
        Ok(state.tenant(&context.tenant).map(|tenant| tenant.consumers.clone()).unwrap_or_default())
    }

    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()> {
        let mut state = self.enter(context)?;
        state.tenant_mut(&context.tenant).consumers.remove(consumer);
        Ok(())
    }
}

#[async_trait]
impl TenantDirectory for ReferenceStore {
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        let state = self.open()?;
        check_limit(limit, 1_000)?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut tenants: Vec<_> = state
            .tenants
            .iter()
            .filter(|(id, tenant)| tenant.listed && after.as_ref().is_none_or(|after| *id > after))
            .map(|(id, _)| id.clone())
            .collect();
        let more = tenants.len() > limit;
        tenants.truncate(limit);
        Ok(TenantPage { tenants, more })
    }
}

#[async_trait]
impl StoreUpkeep for ReferenceStore {
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats> {
        let state = self.enter(context)?;
        let now = self.clock.now();
        let mut stats = TenantStats::default();
        let Some(tenant) = state.tenant(&context.tenant) else { return Ok(stats) };
        let active = tenant.spaces.active.as_ref().map(memory_core::EmbeddingSpace::id);
        for record in tenant.passing(&Filter::All, now) {
            let item = &record.item;
            stats.items += 1;
            *stats.by_kind.entry(item.kind.name().to_owned()).or_default() += 1;
            stats.embedded +=
                u64::from(active.as_ref().is_some_and(|space| record.vectors.contains_key(space)));
            let at = item.occurred_at;
            stats.oldest = Some(stats.oldest.map_or(at, |oldest| oldest.min(at)));
            stats.newest = Some(stats.newest.map_or(at, |newest| newest.max(at)));
        }
        stats.expired = tenant.records.len() as u64 - stats.items;
        stats.head = tenant.head;
        Ok(stats)
    }

    async fn store_stats(&self) -> Result<StoreStats> {
        let state = self.open()?;
        let items = state.tenants.values().map(|tenant| tenant.records.len() as u64).sum();
        let tenants = state.tenants.values().filter(|tenant| tenant.listed).count() as u64;
        let numbers = [("items", items), ("tenants", tenants)];
        Ok(StoreStats {
            numbers: numbers.into_iter().map(|(name, n)| (name.to_owned(), n)).collect(),
        })
    }

    async fn verify(&self) -> Result<VerifyReport> {
        let state = self.open()?;
        let mut report = VerifyReport {
            checks: vec!["every record is under its id and has a revision".to_owned()],
            faults: Vec::new(),
        };
        for (id, record) in state.tenants.values().flat_map(|tenant| &tenant.records) {
            if record.item.id != *id || record.item.revision.is_none() {
                report.faults.push(format!("the record of {id} is not whole"));
            }
        }
        Ok(report)
    }

    async fn backup(&self, _target: &str) -> Result<BackupReport> {
        let _state = self.open()?;
        Err(Error::unsupported("a store in memory has no backup").with_backend(BACKEND))
    }
}

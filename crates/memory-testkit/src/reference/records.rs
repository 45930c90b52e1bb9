//! The reference store as a record store.

use async_trait::async_trait;
use memory_core::limits::SWEEP;
use memory_core::traits::{ChangeOp, EraseScope, EraseStep, EraseToken, RecordStore, SweepStep};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, Cursor, CursorKey, Direction, Filter, Health,
    MemoryId, MemoryItem, Page, Projection, Query, Result,
};

use super::{ReferenceStore, check_limit, check_many, commit, erase};

#[async_trait]
impl RecordStore for ReferenceStore {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let mut state = self.enter(context)?;
        commit::commit(&mut state, self.clock.now(), context, commit)
    }

    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let state = self.enter(context)?;
        check_many(ids.len())?;
        let tenant = state.tenant(&context.tenant);
        let now = self.clock.now();
        let find = |id| tenant?.visible(id, now).map(|record| record.project(projection));
        Ok(ids.iter().map(find).collect())
    }

    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let state = self.enter(context)?;
        query.validate()?;
        let after = query.cursor.as_ref().map(|cursor| cursor.open(&context.tenant, query));
        let after = after.transpose()?;
        let Some(tenant) = state.tenant(&context.tenant) else { return Ok(Page::default()) };

        let key = |item: &MemoryItem| (query.order.sort_value(item), item.id.clone());
        let mut records: Vec<_> = tenant.passing(&query.filter, self.clock.now()).collect();
        records.sort_by_key(|record| key(&record.item));
        if query.order.direction == Direction::Descending {
            records.reverse();
        }
        if let Some(CursorKey { sort, id }) = after {
            let end = (sort, id);
            records.retain(|record| match query.order.direction {
                Direction::Ascending => key(&record.item) > end,
                Direction::Descending => key(&record.item) < end,
            });
        }
        let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|record| {
            let (sort, id) = key(&record.item);
            Cursor::issue(&context.tenant, query, &CursorKey { sort, id })
        });
        let items = records.iter().map(|record| record.project(&query.projection)).collect();
        Ok(Page { items, next })
    }

    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        let state = self.enter(context)?;
        filter.validate()?;
        let tenant = state.tenant(&context.tenant);
        let count = tenant.map_or(0, |tenant| tenant.passing(filter, self.clock.now()).count());
        Ok(count as u64)
    }

    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        let mut state = self.enter(context)?;
        check_limit(limit, SWEEP)?;
        let Some(tenant) = state.tenant(&context.tenant) else {
            return Ok(SweepStep { removed: 0, more: false });
        };
        let now = self.clock.now();
        let mut expired: Vec<_> = tenant
            .records
            .values()
            .filter(|record| !record.item.is_visible(now))
            .map(|record| record.item.id.clone())
            .collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = expired.len() > limit;
        expired.truncate(limit);
        let removed = expired.len() as u64;
        for id in expired {
            state.tenant_mut(&context.tenant).records.remove(&id);
            state.log(&context.tenant, ChangeOp::Delete(id));
        }
        Ok(SweepStep { removed, more })
    }

    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let mut state = self.enter(context)?;
        erase::step(&mut state, self.clock.now(), context, scope, resume.as_ref())
    }

    async fn health(&self) -> Health {
        self.health_now()
    }

    async fn close(&self) -> Result<()> {
        self.close_now();
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Self::own_capabilities()
    }
}

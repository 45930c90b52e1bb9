//! Bringing an index up to date: by the change log, or from the records.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use memory_core::limits::FETCH_IDS;
use memory_core::traits::{Change, ChangeBatch, ChangeOp, ChangePosition};
use memory_core::{
    CallContext, Error, ErrorKind, MemoryId, Order, Projection, Query, Result, VectorProjection,
};

use super::LocalIndexes;
use super::tenant::{Loading, Slot, Tenant};

/// Entries of one read of the log: as many as it gives at once.
const ENTRIES: u32 = 10_000;
/// Times that an index is made anew within one call, because the log was trimmed under it or the
/// tenant's spaces changed.
const ATTEMPTS: u32 = 4;

impl LocalIndexes {
    /// Reads what has changed, up to the head of the log as it was when this call first looked, which
    /// it answers. What comes in meanwhile is left to the next call: somebody may write all the time.
    ///
    /// One request where nothing has changed.
    ///
    /// # Errors
    /// What the store met.
    ///
    /// # Cancellation
    /// What has been read stays; another call goes on from there.
    pub(super) async fn follow(
        &self,
        context: &CallContext,
        slot: &Slot,
    ) -> Result<ChangePosition> {
        let now = self.parts.clock.now();
        let mut read = None;
        if let Some(position) = slot.position() {
            let batch = self.parts.changes.read_changes(context, position, ENTRIES).await?;
            if !batch.gap && batch.changes.is_empty() && slot.position() == Some(position) {
                if slot.expires(now) {
                    slot.change(|tenant| tenant.expire(now));
                }
                return Ok(batch.head);
            }
            read = Some((position, batch));
        }
        // One at a time; who comes later finds most of it done.
        let mut gate = slot.gate.lock().await;
        let (mut made, mut head) = (0, None);
        loop {
            let Some(position) = slot.position() else {
                if made == ATTEMPTS {
                    return Err(Error::new(
                        ErrorKind::Unavailable,
                        "the tenant changes faster than its index is made: try again",
                    ));
                }
                made += 1;
                self.load(context, slot, &mut gate).await?;
                continue;
            };
            let batch = match read.take() {
                // Nobody else has read on meanwhile.
                Some((at, batch)) if at == position && !batch.changes.is_empty() | batch.gap => {
                    batch
                }
                _ => self.parts.changes.read_changes(context, position, ENTRIES).await?,
            };
            if batch.gap || batch.changes.iter().any(|change| change.op == ChangeOp::Reset) {
                slot.set(None);
                *gate = None;
                continue;
            }
            let head = *head.get_or_insert(batch.head);
            if !batch.changes.is_empty() {
                self.apply(context, slot, &batch).await?;
            }
            if batch.changes.is_empty() || slot.position().is_some_and(|at| at >= head) {
                let now = self.parts.clock.now();
                if slot.expires(now) {
                    slot.change(|tenant| tenant.expire(now));
                }
                drop(gate);
                self.settle();
                return Ok(head);
            }
        }
    }

    /// Makes the index from the records, a page at a time.
    async fn load(
        &self,
        context: &CallContext,
        slot: &Slot,
        gate: &mut Option<Loading>,
    ) -> Result<()> {
        let with_vectors = self.parts.vectors.is_some();
        if gate.as_ref().is_some_and(|it| it.tenant.spaces_version < slot.expected()) {
            *gate = None;
        }
        let loading = match gate {
            Some(loading) => loading,
            None => {
                // From before the first record is read: what changes meanwhile is read again.
                let head =
                    self.parts.changes.read_changes(context, ChangePosition(0), 1).await?.head;
                let spaces = match with_vectors {
                    true => self.parts.meta.spaces(context).await?,
                    false => memory_core::traits::TenantSpaces::default(),
                };
                let tenant = Tenant::new(&spaces, with_vectors, head)?;
                gate.insert(Loading { tenant, after: None })
            }
        };
        loop {
            let mut query = Query::new(self.settings.page).with_order(Order::BY_ID);
            query = query.with_projection(self.projection()).with_cursor(loading.after.clone());
            let page = self.parts.records.query(context, &query).await?;
            for item in page.items {
                loading.tenant.put(&self.analyzer, item)?;
            }
            match page.next {
                Some(next) => loading.after = Some(next),
                None => break,
            }
        }
        if let Some(done) = gate.take() {
            self.loads.fetch_add(1, Ordering::Relaxed);
            slot.set(Some(done.tenant));
        }
        Ok(())
    }

    /// Reads the records that changed, and takes them in.
    async fn apply(&self, context: &CallContext, slot: &Slot, batch: &ChangeBatch) -> Result<()> {
        let named = |change: &Change| match &change.op {
            ChangeOp::Put(id, _) | ChangeOp::Vectors(id, _) | ChangeOp::Delete(id) => {
                Some(id.clone())
            }
            ChangeOp::Reset => None,
        };
        let ids: BTreeSet<MemoryId> = batch.changes.iter().filter_map(named).collect();
        let ids = Vec::from_iter(ids);
        for some in ids.chunks(FETCH_IDS) {
            let found = self.parts.records.fetch(context, some, &self.projection()).await?;
            // What was read is the newest, whatever the log says of it.
            let taken = slot.change(|tenant| {
                some.iter().zip(found).try_for_each(|(id, item)| match item {
                    Some(item) => tenant.put(&self.analyzer, item),
                    None => {
                        tenant.remove(id);
                        Ok(())
                    }
                })
            });
            taken.unwrap_or(Ok(()))?;
        }
        if let Some(last) = batch.changes.last() {
            slot.change(|tenant| tenant.position = last.position);
        }
        Ok(())
    }

    fn projection(&self) -> Projection {
        let mut projection = Projection::full();
        projection.payload = false;
        match self.parts.vectors {
            Some(_) => projection.with_vectors(VectorProjection::All),
            None => projection,
        }
    }
}

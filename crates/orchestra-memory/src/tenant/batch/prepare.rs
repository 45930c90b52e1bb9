//! What is checked before anything is sent.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::limits::FETCH_IDS;
use memory_core::{CallContext, ContentHash, MemoryId, Projection, Result};

use super::ready::Ready;
use super::{BatchPolicy, BatchResult, BatchSpace, Prepared, conflict};
use crate::new_memory::NewMemory;
use crate::options::ItemOutcome;
use crate::tenant::TenantMemory;

impl TenantMemory {
    /// Checks a batch and makes its vectors; writes nothing but, where a caller's vector is the
    /// tenant's first, its space.
    pub(super) async fn prepare_batch(
        &self,
        memories: Vec<NewMemory>,
        policy: &BatchPolicy,
    ) -> Prepared {
        self.note_use();
        let clock = &self.inner().clock;
        let began = clock.monotonic();
        let context = self.context(policy.timeout);
        let mut batch = Prepared {
            ready: Vec::with_capacity(memories.len()),
            space: BatchSpace::default(),
            result: BatchResult::of(memories.len()),
            spent: std::time::Duration::ZERO,
        };
        let prepared = self.fill(&context, memories, policy, &mut batch).await;
        batch.result.stopped = prepared.err();
        batch.spent = clock.monotonic().saturating_sub(began);
        batch
    }

    async fn fill(
        &self,
        context: &CallContext,
        memories: Vec<NewMemory>,
        policy: &BatchPolicy,
        batch: &mut Prepared,
    ) -> Result<()> {
        self.check_each(context, memories, batch).await?;
        if policy.keep_erased {
            self.without_erased(context, batch).await?;
        }
        self.embed_batch(context, policy, batch).await
    }

    /// Checks each memory by itself.
    async fn check_each(
        &self,
        context: &CallContext,
        memories: Vec<NewMemory>,
        batch: &mut Prepared,
    ) -> Result<()> {
        let now = self.inner().clock.now();
        for (place, memory) in memories.into_iter().enumerate() {
            let chosen = memory.id.is_some();
            let id = memory.id.clone().unwrap_or_else(|| self.inner().ids.memory_id());
            let checked = match memory.into_item(id, now) {
                Ok((item, None)) => Ok((item, None)),
                Ok((item, Some(vector))) => self
                    .fit(context, &vector, &mut batch.space)
                    .await?
                    .map(|()| (item, Some(vector))),
                Err(error) => Err(error),
            };
            match checked {
                Ok((item, vector)) => batch.ready.push(Ready::new(place, item, vector, chosen)),
                Err(error) => batch.result.outcomes[place] = ItemOutcome::Failed(error),
            }
        }
        Ok(())
    }

    async fn without_erased(&self, context: &CallContext, batch: &mut Prepared) -> Result<()> {
        let ids: Vec<MemoryId> = batch.ready.iter().map(|ready| ready.id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let erased = self.erased(context, &ids).await?;
        let mut left = Vec::with_capacity(batch.ready.len());
        for (ready, erased) in std::mem::take(&mut batch.ready).into_iter().zip(erased) {
            match erased {
                true => batch.result.outcomes[ready.place] = ItemOutcome::Erased(ready.id),
                false => left.push(ready),
            }
        }
        batch.ready = left;
        Ok(())
    }

    /// Which of these ids were erased here.
    pub(super) async fn erased(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
    ) -> Result<Vec<bool>> {
        let mut erased = Vec::with_capacity(ids.len());
        for ids in ids.chunks(FETCH_IDS) {
            erased.extend(self.inner().backend.meta.erased(context, ids).await?);
        }
        Ok(erased)
    }

    /// Takes out the memories whose ids are taken, as the policy says. Somebody may still take an
    /// id between this read and the commit; the precondition finds that.
    pub(super) async fn without_taken(
        &self,
        context: &CallContext,
        part: Vec<Ready>,
        policy: &BatchPolicy,
        result: &mut BatchResult,
    ) -> Result<Vec<Ready>> {
        // A whole batch may name an id twice.
        let ids: BTreeSet<MemoryId> =
            part.iter().filter(|ready| ready.chosen).map(|ready| ready.id.clone()).collect();
        if ids.is_empty() {
            return Ok(part);
        }
        let ids: Vec<MemoryId> = ids.into_iter().collect();
        let records = &self.inner().backend.records;
        let mut taken: BTreeMap<MemoryId, ContentHash> = BTreeMap::new();
        for ids in ids.chunks(FETCH_IDS) {
            let found = records.fetch(context, ids, &Projection::narrow()).await?;
            let hashes = found.into_iter().flatten();
            taken.extend(hashes.map(|item| (item.id.clone(), item.content_hash())));
        }
        let mut left = Vec::with_capacity(part.len());
        for ready in part {
            match taken.get(&ready.id) {
                Some(hash) if ready.chosen => {
                    result.outcomes[ready.place] =
                        conflict(ready.id, ready.hash, Some(*hash), policy);
                }
                _ => left.push(ready),
            }
        }
        Ok(left)
    }
}

//! Adding one memory.

use memory_core::{ContentHash, ErrorKind, IdempotencyKey, MemoryItem, Precondition, Result};

use super::TenantMemory;
use super::commit::OnePut;
use crate::new_memory::NewMemory;
use crate::options::{AddOptions, OnConflict};
use crate::patch::Change;
use crate::report::{AddOutcome, AddReceipt};

impl TenantMemory {
    /// Adds a memory and gives it back as it was stored, with its id and revision, without
    /// vectors.
    ///
    /// # Errors
    /// `AlreadyExists`: the id is taken. `InvalidInput`: see [`MemoryItem::validate`], and a
    /// vector that does not belong to the tenant's active space. With
    /// [`Outcome::Unknown`](memory_core::Outcome) it may be there all the same: it was sent twice
    /// and no answer came.
    pub async fn add(&self, memory: NewMemory) -> Result<MemoryItem> {
        let (receipt, mut item) = self.add_one(memory, &AddOptions::default()).await?;
        item.revision = receipt.revision;
        Ok(item)
    }

    /// Adds a memory as the options say.
    ///
    /// # Errors
    /// As [`TenantMemory::add`]; `AlreadyExists` under [`OnConflict::Fail`] only. `InvalidInput`
    /// also for an idempotency key that stood for another request.
    pub async fn add_with(&self, memory: NewMemory, options: AddOptions) -> Result<AddReceipt> {
        Ok(self.add_one(memory, &options).await?.0)
    }

    async fn add_one(
        &self,
        memory: NewMemory,
        options: &AddOptions,
    ) -> Result<(AddReceipt, MemoryItem)> {
        let context = self.context(options.timeout);
        let key = match &options.idempotency_key {
            Some(key) => {
                let request = format!("add {:?} {}", options.on_conflict, memory.request_text());
                Some(IdempotencyKey::new(key, *ContentHash::of(&request).as_bytes())?)
            }
            None => None,
        };
        let inner = self.inner();
        let id = memory.id.clone().unwrap_or_else(|| inner.ids.memory_id());
        let (item, vector) = memory.into_item(id, inner.clock.now())?;
        let put = OnePut {
            item: &item,
            vector: &vector.map_or(Change::Clear, Change::Set),
            precondition: precondition(options.on_conflict),
            key,
        };
        let receipt = match self.put(&context, put).await? {
            Ok(receipt) => receipt,
            Err(refused)
                if refused.error.kind() == ErrorKind::AlreadyExists
                    && options.on_conflict == OnConflict::Skip =>
            {
                return Ok((AddReceipt::new(item.id.clone(), None, AddOutcome::Skipped), item));
            }
            Err(refused) => return Err(refused.error),
        };
        let replayed = receipt.replayed;
        // Under an idempotency key the answer may be an earlier request's, whose random id it was.
        let mut answer = AddReceipt::new(item.id.clone(), None, AddOutcome::Added);
        if let Some(result) = receipt.results.into_iter().next() {
            answer.id = result.id;
            answer.revision = result.revision;
            if result.existed && options.on_conflict == OnConflict::Replace {
                answer.outcome = AddOutcome::Replaced;
            }
        }
        answer.replayed = replayed;
        Ok((answer, item))
    }
}

/// What must be true of an id for an add to happen.
pub(super) fn precondition(on_conflict: OnConflict) -> Precondition {
    match on_conflict {
        OnConflict::Fail | OnConflict::Skip => Precondition::Absent,
        OnConflict::Replace => Precondition::Any,
    }
}

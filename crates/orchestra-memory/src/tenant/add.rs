//! Adding one memory.

use memory_core::{ContentHash, ErrorKind, IdempotencyKey, MemoryItem, Precondition, Result};

use super::TenantMemory;
use super::commit::{OnePut, PutVector};
use super::vectors::Made;
use crate::embedding::text_of;
use crate::new_memory::NewMemory;
use crate::options::{AddOptions, OnConflict};
use crate::report::{AddOutcome, AddReceipt, VectorState};

impl TenantMemory {
    /// Adds a memory and gives it back as it was stored, with its id and revision, without
    /// vectors.
    ///
    /// Its vector is made from its text where there is an embedder and the caller gives none. If
    /// that fails, what happens is what the setting `embedding.on_failure` says: `store` keeps the
    /// memory without it, which the receipt of [`TenantMemory::add_with`] tells.
    ///
    /// # Errors
    /// `AlreadyExists`: the id is taken. `InvalidInput`: see [`MemoryItem::validate`], and a
    /// vector that does not belong to the tenant's active space. `Config`: the embedder's space is
    /// another one than the tenant's; nothing is written then. With
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
    /// also for an idempotency key that stood for another request. Under
    /// [`OnEmbedFailure::Refuse`](crate::OnEmbedFailure::Refuse) what the embedder met; nothing is
    /// written then.
    pub async fn add_with(&self, memory: NewMemory, options: AddOptions) -> Result<AddReceipt> {
        Ok(self.add_one(memory, &options).await?.0)
    }

    async fn add_one(
        &self,
        memory: NewMemory,
        options: &AddOptions,
    ) -> Result<(AddReceipt, MemoryItem)> {
        self.note_use();
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
        let (vector, mut made) = match vector {
            Some(vector) => (PutVector::Supplied(vector), Made::of(VectorState::Supplied)),
            None => {
                let mut made = self.make(&context, &text_of(&item)).await?;
                (made.vector.take().map_or(PutVector::Clear, PutVector::Made), made)
            }
        };
        let put = OnePut {
            item: &item,
            vector: &vector,
            precondition: precondition(options.on_conflict),
            key,
        };
        let done = match self.put(&context, put).await? {
            Ok(done) => done,
            Err(refused)
                if refused.error.kind() == ErrorKind::AlreadyExists
                    && options.on_conflict == OnConflict::Skip =>
            {
                return Ok((AddReceipt::skipped(item.id.clone()), item));
            }
            Err(refused) => return Err(refused.error),
        };
        if let Some(aside) = done.aside {
            made = aside;
        }
        // Under an idempotency key the answer may be an earlier request's, whose random id it was,
        // and whose vector it was.
        if done.receipt.replayed && options.idempotency_key.is_some() {
            made = Made::of(VectorState::NotWritten);
        }
        let mut answer = AddReceipt {
            id: item.id.clone(),
            revision: None,
            outcome: AddOutcome::Added,
            replayed: done.receipt.replayed,
            vector: made.state,
            vector_reason: made.reason.map(|reason| reason.to_string()),
        };
        if let Some(result) = done.receipt.results.into_iter().next() {
            answer.id = result.id;
            answer.revision = result.revision;
            if result.existed && options.on_conflict == OnConflict::Replace {
                answer.outcome = AddOutcome::Replaced;
            }
        }
        if made.state == VectorState::Later {
            self.queue_later([answer.id.clone()]);
        }
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

//! Adding one memory.

use memory_core::{
    CallContext, CommitReceipt, ContentHash, Error, ErrorKind, IdempotencyKey, MemoryId,
    MemoryItem, Precondition, Projection, Result,
};

use super::TenantMemory;
use super::commit::{OnePut, PutVector};
use super::vectors::{Made, in_words};
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
    /// [`OnEmbedFailure::Refuse`](crate::OnEmbedFailure::Refuse) what the embedder met; this call
    /// has written nothing then. Where no vector can be made, an earlier request under the same
    /// key is answered as ever, and so is an id that is taken. If it cannot be told whether there
    /// was such a request, the error has [`Outcome::Unknown`](memory_core::Outcome).
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
        let chosen = memory.id.clone();
        let id = chosen.clone().unwrap_or_else(|| inner.ids.memory_id());
        let (item, vector) = memory.into_item(id, inner.clock.now())?;
        let (vector, mut made) = match vector {
            Some(vector) => (PutVector::Supplied(vector), Made::of(VectorState::Supplied)),
            None => match self.make(&context, &text_of(&item)).await {
                Ok(mut made) => {
                    (made.vector.take().map_or(PutVector::Clear, PutVector::Made), made)
                }
                Err(error) => {
                    let receipt = self.met(&context, chosen, key, options, error).await?;
                    return Ok((receipt, item));
                }
            },
        };
        let left = (made.state == VectorState::Later).then(|| item.id.clone());
        let mut later = self.left_later(left);
        let put = OnePut {
            item: &item,
            vector: &vector,
            precondition: precondition(options.on_conflict),
            key,
        };
        let sent = self.put(&context, put).await?;
        later.learn(&sent);
        let done = match sent {
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
        let was_later = made.state == VectorState::Later;
        let answer = answer(item.id.clone(), done.receipt, options, made);
        if was_later {
            later.add(answer.id.clone());
        }
        Ok((answer, item))
    }

    /// The answer to an add whose vector cannot be made, and which is therefore not sent: what an
    /// earlier request under its key was told, or that its id is taken.
    ///
    /// # Errors
    /// Why there is no vector, where neither is the case. `InvalidInput` and `Conflict` as the key
    /// meets them. `AlreadyExists`: the id is taken.
    async fn met(
        &self,
        context: &CallContext,
        chosen: Option<MemoryId>,
        key: Option<IdempotencyKey>,
        options: &AddOptions,
        error: Error,
    ) -> Result<AddReceipt> {
        if let Some(key) = key {
            match self.replay(context, key).await {
                Ok(Some(receipt)) => {
                    let Some(id) = receipt.results.first().map(|result| result.id.clone()) else {
                        return Err(error.with_unknown_outcome());
                    };
                    return Ok(answer(id, receipt, options, Made::of(VectorState::NotWritten)));
                }
                Ok(None) => {}
                Err(met) if matches!(met.kind(), ErrorKind::InvalidInput | ErrorKind::Conflict) => {
                    return Err(met);
                }
                Err(_) => return Err(error.with_unknown_outcome()),
            }
        }
        let Some(id) = chosen.filter(|_| options.on_conflict != OnConflict::Replace) else {
            return Err(error);
        };
        let ids = std::slice::from_ref(&id);
        let records = &self.inner().backend.records;
        match records.fetch(context, ids, &Projection::narrow()).await {
            Ok(found) if found.iter().any(Option::is_some) => match options.on_conflict {
                OnConflict::Skip => Ok(AddReceipt::skipped(id)),
                _ => Err(Error::new(ErrorKind::AlreadyExists, "another memory has the id")
                    .with_operation("add")
                    .with_context("id", id.to_string())),
            },
            // What the embedder met is what the caller can do something about.
            _ => Err(error),
        }
    }
}

/// The answer to an add that was sent, or that stood for one that was.
fn answer(
    id: MemoryId,
    receipt: CommitReceipt,
    options: &AddOptions,
    mut made: Made,
) -> AddReceipt {
    // Under an idempotency key the answer may be an earlier request's, whose random id it was,
    // and whose vector it was.
    if receipt.replayed && options.idempotency_key.is_some() {
        made = Made::of(VectorState::NotWritten);
    }
    let mut answer = AddReceipt {
        id,
        revision: None,
        outcome: AddOutcome::Added,
        replayed: receipt.replayed,
        vector: made.state,
        vector_reason: made.reason.map(|reason| in_words(&reason)),
    };
    if let Some(result) = receipt.results.into_iter().next() {
        answer.id = result.id;
        answer.revision = result.revision;
        if result.existed && options.on_conflict == OnConflict::Replace {
            answer.outcome = AddOutcome::Replaced;
        }
    }
    answer
}

/// What must be true of an id for an add to happen.
pub(super) fn precondition(on_conflict: OnConflict) -> Precondition {
    match on_conflict {
        OnConflict::Fail | OnConflict::Skip => Precondition::Absent,
        OnConflict::Replace => Precondition::Any,
    }
}

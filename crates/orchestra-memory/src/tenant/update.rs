//! A patch onto what is there.

use memory_core::{
    CallContext, ContentHash, Error, ErrorKind, MemoryId, MemoryItem, Precondition, Projection,
    Result,
};

use super::TenantMemory;
use super::commit::{OnePut, PutVector};
use super::spaces::CALLER;
use super::vectors::{Made, in_words};
use crate::embedding::text_of;
use crate::options::UpdateOptions;
use crate::patch::{Change, Patch};
use crate::report::{UpdateReceipt, VectorState};

/// What a memory's vector was made of.
struct Before {
    text: String,
    /// Of the content alone: another author and another content may make the same text.
    content: ContentHash,
}

/// What becomes of a memory's vector.
struct After {
    put: PutVector,
    state: VectorState,
    reason: Option<String>,
}

impl After {
    fn of(put: PutVector, state: VectorState) -> Self {
        Self { put, state, reason: None }
    }
}

impl TenantMemory {
    /// Changes a memory and gives it back as it was stored, without vectors.
    ///
    /// As [`TenantMemory::update_with`], without a word of its vector.
    ///
    /// # Errors
    /// As [`TenantMemory::update_with`].
    pub async fn update(
        &self,
        id: &MemoryId,
        patch: &Patch,
        options: UpdateOptions,
    ) -> Result<MemoryItem> {
        Ok(self.update_with(id, patch, options).await?.item)
    }

    /// Changes a memory; the receipt has it as it was stored, without vectors, and what became of
    /// its vector.
    ///
    /// Without a precondition it reads, changes and writes under the revision that it read, and
    /// begins anew when somebody else wrote in between, up to `write.update_attempts` times.
    ///
    /// A content or author that becomes another one gets a vector of its own where there is an
    /// embedder and the patch says nothing of the vector. If that fails, what happens is what the
    /// setting `embedding.on_failure` says; under `store` the memory is without a vector
    /// afterwards, and [`TenantMemory::embed_missing`] makes up for it. The same goes for a vector
    /// of a model that is not there. A vector of the caller's own stays as long as the content
    /// does, where the tenant's vectors are the caller's and no model was asked for.
    ///
    /// # Errors
    /// `NotFound`: no such memory. `Conflict`: it has another revision than the options ask for,
    /// or somebody else wrote before every attempt. `InvalidInput`: the patch changes nothing, or
    /// the result breaks a rule of [`MemoryItem::validate`], or a vector does not belong to the
    /// tenant's active space. `Config`: the embedder's space is another one than the tenant's;
    /// nothing is written then. With [`Outcome::Unknown`](memory_core::Outcome) it may have
    /// happened.
    pub async fn update_with(
        &self,
        id: &MemoryId,
        patch: &Patch,
        options: UpdateOptions,
    ) -> Result<UpdateReceipt> {
        patch.check()?;
        self.note_use();
        let context = self.context(options.timeout);
        let inner = self.inner();
        let attempts = match options.if_revision {
            Some(_) => 1,
            None => inner.settings.write.update_attempts,
        };
        // By the text that it was made of, which is mostly the same for every attempt.
        let mut made: Option<(String, Made)> = None;
        for _ in 0..attempts {
            let ids = std::slice::from_ref(id);
            let found = inner.backend.records.fetch(&context, ids, &Projection::full()).await?;
            let mut item = found.into_iter().flatten().next().ok_or_else(|| not_found(id))?;
            let revision = item.revision.clone().ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "the store gave a memory without a revision")
            })?;
            if options.if_revision.as_ref().is_some_and(|wanted| *wanted != revision) {
                return Err(conflict(id, "the memory has another revision"));
            }
            let before = Before { text: text_of(&item).into_owned(), content: item.content_hash() };
            patch.apply(&mut item, inner.clock.now())?;
            let after =
                self.vector_after(&context, &patch.embedding, &before, &item, &mut made).await?;
            let left = (after.state == VectorState::Later).then(|| item.id.clone());
            let mut later = self.left_later(left);
            let put = OnePut {
                item: &item,
                vector: &after.put,
                precondition: Precondition::Revision(revision),
                key: None,
            };
            let sent = self.put(&context, put).await?;
            later.learn(&sent);
            match sent {
                Ok(done) => {
                    let results = done.receipt.results;
                    item.revision = results.into_iter().next().and_then(|r| r.revision);
                    let (vector, vector_reason) = match done.aside {
                        Some(aside) => (aside.state, reason_of(&aside)),
                        None => (after.state, after.reason),
                    };
                    return Ok(UpdateReceipt { item, vector, vector_reason });
                }
                // After a resend a conflict may mean that the first attempt succeeded and a later
                // writer covered it: patching again would undo what that writer did.
                Err(refused) if refused.resent || refused.error.kind() != ErrorKind::Conflict => {
                    return Err(refused.error);
                }
                Err(refused) if options.if_revision.is_some() => return Err(refused.error),
                Err(_) => {}
            }
        }
        Err(conflict(id, "somebody else wrote before every attempt")
            .with_context("attempts", attempts.to_string()))
    }

    /// What becomes of the vector of a memory that was changed. `last`: the text that the attempt
    /// before embedded, and its vector.
    async fn vector_after(
        &self,
        context: &CallContext,
        change: &Change<Vec<f32>>,
        before: &Before,
        item: &MemoryItem,
        last: &mut Option<(String, Made)>,
    ) -> Result<After> {
        match change {
            Change::Set(vector) => {
                return Ok(After::of(PutVector::Supplied(vector.clone()), VectorState::Supplied));
            }
            Change::Clear => return Ok(After::of(PutVector::Clear, VectorState::Cleared)),
            Change::Keep => {}
        }
        let text = text_of(item);
        // The store keeps no vector of another content.
        let same_content = item.content_hash() == before.content;
        if same_content && *text == before.text {
            return Ok(After::of(PutVector::Keep, VectorState::Kept));
        }
        let made = match last.take() {
            Some((of, made)) if *text == of => made,
            _ => self.make(context, &text).await?,
        };
        let (_, made) = last.insert((text.into_owned(), made));
        let put = match (&made.vector, made.state) {
            (Some(vector), _) => PutVector::Made(vector.clone()),
            // A caller's vector is of the content, which nobody else can make again.
            (None, VectorState::Aside) => PutVector::Keep,
            (None, VectorState::NoEmbedder) if !same_content => PutVector::Keep,
            (None, VectorState::NoEmbedder) if self.has_vectors_of_callers(context).await? => {
                return Ok(After::of(PutVector::Keep, VectorState::Kept));
            }
            // Without the old text's vector it counts as missing, and gets another one later.
            (None, _) => PutVector::Clear,
        };
        Ok(After { put, state: made.state, reason: reason_of(made) })
    }

    /// Whether the tenant's vectors are the caller's own.
    async fn has_vectors_of_callers(&self, context: &CallContext) -> Result<bool> {
        if self.inner().embedding.named().is_some() {
            return Ok(true);
        }
        let active = self.active_space(context).await?;
        Ok(active.is_some_and(|known| known.space.model() == CALLER))
    }
}

fn reason_of(made: &Made) -> Option<String> {
    made.reason.as_ref().map(in_words)
}

fn not_found(id: &MemoryId) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such memory")
        .with_operation("update")
        .with_context("id", id.to_string())
}

fn conflict(id: &MemoryId, message: &str) -> Error {
    Error::new(ErrorKind::Conflict, message)
        .with_operation("update")
        .with_context("id", id.to_string())
}

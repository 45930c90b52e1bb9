//! A patch onto what is there.

use memory_core::{Error, ErrorKind, MemoryId, MemoryItem, Precondition, Projection, Result};

use super::TenantMemory;
use super::commit::{OnePut, PutVector};
use super::vectors::Made;
use crate::embedding::text_of;
use crate::options::UpdateOptions;
use crate::patch::{Change, Patch};
use crate::report::VectorState;

impl TenantMemory {
    /// Changes a memory and gives it back as it was stored, without vectors.
    ///
    /// Without a precondition it reads, changes and writes under the revision that it read, and
    /// begins anew when somebody else wrote in between, up to `write.update_attempts` times.
    ///
    /// A text that becomes another one gets a vector of its own where there is an embedder and the
    /// patch says nothing of the vector. If that fails, what happens is what the setting
    /// `embedding.on_failure` says; under `store` the memory is without a vector afterwards, and
    /// [`TenantMemory::embed_missing`] makes up for it.
    ///
    /// # Errors
    /// `NotFound`: no such memory. `Conflict`: it has another revision than the options ask for,
    /// or somebody else wrote before every attempt. `InvalidInput`: the patch changes nothing, or
    /// the result breaks a rule of [`MemoryItem::validate`], or a vector does not belong to the
    /// tenant's active space. `Config`: the embedder's space is another one than the tenant's;
    /// nothing is written then. With [`Outcome::Unknown`](memory_core::Outcome) it may have
    /// happened.
    pub async fn update(
        &self,
        id: &MemoryId,
        patch: &Patch,
        options: UpdateOptions,
    ) -> Result<MemoryItem> {
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
            let before = text_of(&item).into_owned();
            let (hash, embedder) = (item.content_hash(), inner.embedding.attached().is_some());
            patch.apply(&mut item, inner.clock.now())?;
            let text = text_of(&item);
            let vector = match &patch.embedding {
                Change::Set(vector) => PutVector::Supplied(vector.clone()),
                Change::Clear => PutVector::Clear,
                Change::Keep if *text == before => PutVector::Keep,
                // Another author alone: a caller's vector is of the content.
                Change::Keep if item.content_hash() == hash && !embedder => PutVector::Keep,
                Change::Keep => {
                    if made.as_ref().is_none_or(|(of, _)| *of != *text) {
                        made = Some((text.to_string(), self.make(&context, &text).await?));
                    }
                    match &made {
                        Some((_, Made { vector: Some(vector), .. })) => {
                            PutVector::Made(vector.clone())
                        }
                        // Without it the memory counts as missing, and gets another one later.
                        Some((_, Made { state: VectorState::Later, .. })) => PutVector::Clear,
                        _ => PutVector::Keep,
                    }
                }
            };
            let put = OnePut {
                item: &item,
                vector: &vector,
                precondition: Precondition::Revision(revision),
                key: None,
            };
            match self.put(&context, put).await? {
                Ok(done) => {
                    let results = done.receipt.results;
                    item.revision = results.into_iter().next().and_then(|r| r.revision);
                    if made.is_some_and(|(_, made)| made.state == VectorState::Later) {
                        self.queue_later([item.id.clone()]);
                    }
                    return Ok(item);
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

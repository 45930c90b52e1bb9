//! A patch onto what is there.

use memory_core::{Error, ErrorKind, MemoryId, MemoryItem, Precondition, Projection, Result};

use super::TenantMemory;
use super::commit::OnePut;
use crate::options::UpdateOptions;
use crate::patch::Patch;

impl TenantMemory {
    /// Changes a memory and gives it back as it was stored, without vectors.
    ///
    /// Without a precondition it reads, changes and writes under the revision that it read, and
    /// begins anew when somebody else wrote in between, up to `write.update_attempts` times.
    ///
    /// # Errors
    /// `NotFound`: no such memory. `Conflict`: it has another revision than the options ask for,
    /// or somebody else wrote before every attempt. `InvalidInput`: the patch changes nothing, or
    /// the result breaks a rule of [`MemoryItem::validate`], or a vector does not belong to the
    /// tenant's active space. With [`Outcome::Unknown`](memory_core::Outcome) it may have
    /// happened.
    pub async fn update(
        &self,
        id: &MemoryId,
        patch: &Patch,
        options: UpdateOptions,
    ) -> Result<MemoryItem> {
        patch.check()?;
        let context = self.context(options.timeout);
        let inner = self.inner();
        let attempts = match options.if_revision {
            Some(_) => 1,
            None => inner.settings.write.update_attempts,
        };
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
            patch.apply(&mut item, inner.clock.now())?;
            let put = OnePut {
                item: &item,
                vector: &patch.embedding,
                precondition: Precondition::Revision(revision),
                key: None,
            };
            match self.put(&context, put).await? {
                Ok(receipt) => {
                    item.revision = receipt.results.into_iter().next().and_then(|r| r.revision);
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

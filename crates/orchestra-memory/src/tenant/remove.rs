//! Removing: delete, erase, purge.

use memory_core::traits::EraseScope;
use memory_core::{
    Commit, Error, ErrorKind, MemoryId, Precondition, Result, Revision, UserId, Write,
};

use super::TenantMemory;
use crate::options::EraseOptions;
use crate::report::{EraseProgress, EraseReport};

impl TenantMemory {
    /// Deletes a memory; says whether it was there. Leaves no tombstone: an import may bring it
    /// back.
    ///
    /// Where a first answer was lost and the delete was sent again, it may say `false` of a memory
    /// that it deleted itself.
    ///
    /// # Errors
    /// With a revision: `NotFound` if there is no such memory, `Conflict` if it has another.
    pub async fn delete(&self, id: &MemoryId, if_revision: Option<Revision>) -> Result<bool> {
        let precondition = if_revision.map_or(Precondition::Any, Precondition::Revision);
        let write = Write::delete(id.clone(), precondition);
        let commit = Commit::new(self.inner().ids.commit_id(), vec![write]);
        let receipt = self.send(&self.context(None), commit).await?;
        Ok(receipt.results.first().is_some_and(|result| result.existed))
    }

    /// Erases every memory of a user for good: all that was committed before it began is gone at
    /// its receipt. Each leaves a tombstone, so that imports do not bring it back.
    ///
    /// With it goes what this process keeps of the tenant's texts so as not to embed them again:
    /// hashes and vectors. Other processes keep theirs until they make room or end.
    ///
    /// Not atomic as a whole. After a failure of any kind, call it again.
    ///
    /// # Errors
    /// As every call.
    pub async fn erase_user(&self, user: &UserId, options: EraseOptions) -> Result<EraseReport> {
        self.erase(&EraseScope::User(user.clone()), &options).await
    }

    /// Erases the tenant: its memories, embedding spaces, change log and idempotency keys. As
    /// [`TenantMemory::erase_user`] otherwise; the tenant can be used anew afterwards.
    ///
    /// # Errors
    /// As every call.
    pub async fn erase_tenant(&self, options: EraseOptions) -> Result<EraseReport> {
        let report = self.erase(&EraseScope::Tenant, &options).await;
        // An erasure that failed half way may have taken the spaces with it.
        self.forget_space();
        report
    }

    async fn erase(&self, scope: &EraseScope, options: &EraseOptions) -> Result<EraseReport> {
        let report = self.erase_records(scope, options).await;
        // However it ended, some may be gone. It is not known whose a kept vector is: all go.
        self.inner().embedding.forget(&self.tenant);
        report
    }

    async fn erase_records(
        &self,
        scope: &EraseScope,
        options: &EraseOptions,
    ) -> Result<EraseReport> {
        let mut progress = EraseProgress::default();
        let mut resume = None;
        loop {
            let records = &self.inner().backend.records;
            let step = records.erase(&self.context(None), scope, resume).await?;
            progress.advance(step.erased, options);
            match (step.receipt, step.next) {
                (Some(receipt), _) => {
                    return Ok(EraseReport { erased: progress.removed, receipt });
                }
                (None, Some(next)) => resume = Some(next),
                (None, None) => {
                    return Err(Error::new(
                        ErrorKind::Unexpected,
                        "the store ended an erasure without a receipt",
                    )
                    .with_operation("erase"));
                }
            }
        }
    }

    /// Removes what has expired for good; says how much that was. Expired memories are invisible
    /// before, too: this gives their space back.
    ///
    /// # Errors
    /// As every call; what was removed before stays removed.
    pub async fn purge_expired(&self, options: EraseOptions) -> Result<u64> {
        let mut progress = EraseProgress::default();
        loop {
            let limit = self.inner().settings.write.sweep_step;
            let records = &self.inner().backend.records;
            let step = records.sweep_expired(&self.context(None), limit).await?;
            progress.advance(step.removed, &options);
            // A step that promises more and removes nothing would be repeated for ever.
            if !step.more || step.removed == 0 {
                return Ok(progress.removed);
            }
        }
    }
}

impl EraseProgress {
    fn advance(&mut self, removed: u64, options: &EraseOptions) {
        self.removed += removed;
        self.steps += 1;
        if let Some(progress) = &options.progress {
            progress.call(self);
        }
    }
}

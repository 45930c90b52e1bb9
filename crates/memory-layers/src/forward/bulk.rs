//! A bulk writer behind a policy.

use async_trait::async_trait;
use memory_core::traits::{BulkObserver, BulkWriter};
use memory_core::{CallContext, CommitId, Result, Write, WriteResult};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> BulkWriter for Layered<dyn BulkWriter, P> {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        let mut call = self.of(Operation::WriteMany, context, writes.len());
        call.resend = resend;
        let (inner, writes, id) = (&*self.inner, &writes, &id);
        let send = |attempt: Attempt| async move {
            // Shallow: items and vectors are shared.
            let (context, writes) = (attempt.context(context), writes.clone());
            inner.write_many(&context, id.clone(), writes, attempt.resend, observer).await
        };
        self.policy.run(&call, send).await
    }
}

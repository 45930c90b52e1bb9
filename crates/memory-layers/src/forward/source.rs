//! A source of raw documents behind a policy.

use async_trait::async_trait;
use memory_core::Result;
use memory_core::traits::{DocumentPage, DocumentSource};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> DocumentSource for Layered<dyn DocumentSource, P> {
    async fn collections(&self) -> Result<Vec<String>> {
        let call = self.about_store(Operation::Collections);
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move { DocumentSource::collections(inner).await };
        self.policy.run(&call, send).await
    }
    async fn documents(
        &self,
        collection: &str,
        after: Option<String>,
        limit: u32,
    ) -> Result<DocumentPage> {
        let call = self.about_store(Operation::Documents);
        let after = &after;
        let inner = &*self.inner;
        let send = |_attempt: Attempt| async move {
            let after = after.clone();
            DocumentSource::documents(inner, collection, after, limit).await
        };
        self.policy.run(&call, send).await
    }
}

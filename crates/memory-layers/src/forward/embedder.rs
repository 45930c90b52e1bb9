//! An embedder behind a policy.

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder};
use memory_core::{CallContext, EmbeddingSpace, Health, Result};

use crate::operation::Operation;
use crate::policy::{Attempt, Layered, Policy};

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl<P: Policy> Embedder for Layered<dyn Embedder, P> {
    fn space(&self) -> EmbeddingSpace {
        self.inner.space()
    }
    fn max_batch(&self) -> usize {
        self.inner.max_batch()
    }
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        let call = self.of(Operation::Embed, context, texts.len());
        let inner = &*self.inner;
        let send = |attempt: Attempt| async move {
            Embedder::embed(inner, &attempt.context(context), texts, purpose).await
        };
        self.policy.run(&call, send).await
    }
    async fn health(&self) -> Health {
        let mut health = Embedder::health(&*self.inner).await;
        self.policy.health(&mut health);
        health
    }
}

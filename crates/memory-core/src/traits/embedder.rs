//! Texts to vectors.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::context::CallContext;
use crate::error::Result;
use crate::health::Health;
use crate::space::EmbeddingSpace;

/// What a text is embedded for; some models tell the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EmbedPurpose {
    /// To be found.
    Document,
    /// To find with.
    Query,
}

/// A model that turns texts into vectors of one space.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Embedder: Send + Sync + Debug {
    /// The space of its vectors. Constant for the life of the embedder.
    fn space(&self) -> EmbeddingSpace;

    /// Most texts of one call.
    fn max_batch(&self) -> usize;

    /// Turns texts into vectors: one `[dimensions]` for each text, in order. Pure: the same text
    /// gives the same vector.
    ///
    /// # Errors
    /// `InvalidInput`: too many texts, or an empty one. `Corrupt`: the model answered with another
    /// number, another length or values that are not finite.
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>>;

    /// How it is.
    async fn health(&self) -> Health;
}

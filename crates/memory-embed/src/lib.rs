//! Embedders: texts to vectors.
//!
//! | module | feature | what it holds |
//! |---|---|---|
//! | `cached` | | a bounded cache by tenant and text, over any embedder |
//! | `workers` | | the bounded threads that the embedders here compute and wait on |
//! | `proxy` | | the proxy of the environment: refused where it cannot be used |
//! | `retry_after` | | the wait that a server asks for, within bounds |
//! | `minilm` | `minilm` | all-MiniLM-L6-v2 on this machine's processor |
//! | `model` | `minilm` | the model's files: where they lie, whether they are whole |
//! | `pull` | `pull` | getting the model's files |
//! | `http` | `http` | embedders behind an OpenAI-compatible HTTP interface |
//! | `vertex` | `vertex` | the text embeddings of Vertex AI |
//!
//! Nothing here needs an asynchronous runtime: work that blocks runs on threads of its own.

mod cached;
#[cfg(any(feature = "http", feature = "pull"))]
mod proxy;
#[cfg(any(feature = "http", feature = "pull"))]
mod retry_after;
#[cfg(any(feature = "http", feature = "minilm"))]
mod workers;

#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "minilm")]
pub mod minilm;
#[cfg(feature = "minilm")]
pub mod model;
#[cfg(feature = "pull")]
pub mod pull;
#[cfg(feature = "vertex")]
pub mod vertex;

pub use cached::{CacheStats, CachedEmbedder};

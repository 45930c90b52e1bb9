//! Embedders against stubs on loopback and against the frozen output of another implementation.

#[cfg(feature = "minilm")]
mod minilm;

#[cfg(feature = "pull")]
mod pull;

mod cached;

#[cfg(feature = "http")]
mod http;

#[cfg(feature = "vertex")]
mod vertex;

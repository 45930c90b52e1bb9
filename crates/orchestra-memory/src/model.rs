//! The local model, all-MiniLM-L6-v2: its files, where they lie, whether they are whole, and, with
//! the feature `pull`, getting them.

pub use memory_embed::minilm::{Precision, space};
pub use memory_embed::model::{
    Check, FileState, FileStatus, MINILM, Model, ModelFile, ModelStatus, default_folder, status,
};
/// Getting the model's files.
#[cfg(feature = "pull")]
pub use memory_embed::pull;

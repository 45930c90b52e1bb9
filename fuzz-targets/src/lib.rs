//! What the fuzz targets check: one function each, from any bytes to a panic where an invariant is
//! broken.
//!
//! The programs of `fuzz/` hand these functions what the fuzzer makes up; the tests of this crate
//! hand them the corpora of `fuzz/corpus/`, so that a find stays found without a nightly toolchain.
//! `docs/fuzzing.md` lists the invariants.

mod cursors;
mod filters;
mod keywords;
mod settings;
mod text;
mod wordpiece;

pub use cursors::cursors;
pub use filters::filters;
pub use keywords::keywords;
pub use memory_firestore::fuzzing::documents as firestore_documents;
pub use memory_layers::fuzzing::values as cached_values;
pub use memory_redis::fuzzing::hashes as redis_hashes;
pub use memory_sqlite::fuzzing::columns as sqlite_columns;
pub use orchestra_memory::fuzzing::import_lines;
pub use settings::settings;
pub use text::analyser;
pub use wordpiece::wordpiece;

/// A target: its name, which is that of its program and of the folder of its corpus, and what it
/// does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("analyser", analyser),
    ("cached_values", cached_values),
    ("cursors", cursors),
    ("filters", filters),
    ("firestore_documents", firestore_documents),
    ("import_lines", import_lines),
    ("keywords", keywords),
    ("redis_hashes", redis_hashes),
    ("settings", settings),
    ("sqlite_columns", sqlite_columns),
    ("wordpiece", wordpiece),
];

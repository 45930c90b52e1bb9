//! The limits of the data model, in one table.
//!
//! They are chosen so that an item that one back end takes is taken by every other.
//!
//! | what | limit | why |
//! |---|---|---|
//! | an id of any kind | 1 to [`ID_BYTES`] bytes, no control character | percent encoding triples it, and a Firestore document id holds 1,500 bytes |
//! | names that Firestore reserves (`.`, `..`, `__x__`) | allowed in ids (back ends encode), refused as metadata keys | they are field names there |
//! | an author | [`AUTHOR_BYTES`] | an indexed Firestore string counts to 1,500 bytes |
//! | content | 1 to [`CONTENT_BYTES`] bytes | a Firestore document is 1 MiB, with all else in it |
//! | payload | [`PAYLOAD_BYTES`] bytes of JSON, [`PAYLOAD_DEPTH`] deep | the same; Firestore nests 20 deep |
//! | metadata | [`METADATA_KEYS`] keys of 1 to [`METADATA_KEY_BYTES`] bytes, [`METADATA_BYTES`] in all | index entries a document |
//! | a metadata string | [`METADATA_STRING_BYTES`] | an indexed Firestore string counts to 1,500 bytes |
//! | a metadata list | [`METADATA_LIST`] strings | one index entry each |
//! | a page | 1 to [`PAGE`] items | bounded memory |
//! | a commit | 1 to [`COMMIT_WRITES`] writes, [`COMMIT_BYTES`] bytes | a Firestore request is 10 MiB |
//! | ids in one fetch | [`FETCH_IDS`] | bounded memory |
//! | top k of a search | 1 to [`TOP_K`] | Firestore's `FindNearest` stops at 1,000 |
//! | a search text | [`SEARCH_TEXT_BYTES`] bytes | bounded work |
//! | dimensions of a vector | 1 to [`DIMENSIONS`] | above every model in use; a back end may take fewer and says so |
//! | a filter | [`FILTER_DEPTH`] deep, [`FILTER_NODES`] nodes, [`FILTER_IN`] values in one `in` | Firestore takes 30 disjunctions |
//! | a time | years 1 to 9999, UTC, microseconds | Firestore's range and precision |

/// Largest id, in bytes of UTF-8. Tripled by percent encoding it is 1,440, below Firestore's 1,500.
pub const ID_BYTES: usize = 480;
/// Largest author name, in bytes.
pub const AUTHOR_BYTES: usize = 480;
/// Largest content, in bytes: 1 MiB less room for everything else in a Firestore document.
pub const CONTENT_BYTES: usize = 768 * 1024;
/// Largest payload, in bytes of its JSON text.
pub const PAYLOAD_BYTES: usize = 128 * 1024;
/// Deepest nesting of a payload.
pub const PAYLOAD_DEPTH: usize = 16;
/// Most metadata keys of an item.
pub const METADATA_KEYS: usize = 64;
/// Largest metadata key, in bytes.
pub const METADATA_KEY_BYTES: usize = 128;
/// Largest metadata string, in bytes.
pub const METADATA_STRING_BYTES: usize = 1_500;
/// Longest metadata list.
pub const METADATA_LIST: usize = 100;
/// Most bytes of all metadata keys and values together.
pub const METADATA_BYTES: usize = 32 * 1024;
/// Most items of a page.
pub const PAGE: u32 = 1_000;
/// Most expired items that one sweep removes.
pub const SWEEP: u32 = 10_000;
/// Most entries of one read of a change log.
pub const CHANGES: u32 = 10_000;
/// Most writes of one commit.
pub const COMMIT_WRITES: usize = 2_000;
/// Most bytes of content, payload, metadata and vectors in one commit.
pub const COMMIT_BYTES: usize = 9 * 1024 * 1024;
/// Most ids of one fetch.
pub const FETCH_IDS: usize = 1_000;
/// Most hits of one search.
pub const TOP_K: u32 = 1_000;
/// Largest text of a search, in bytes.
pub const SEARCH_TEXT_BYTES: usize = 64 * 1024;
/// Most dimensions of a vector.
pub const DIMENSIONS: u32 = 8_192;
/// Deepest nesting of a filter.
pub const FILTER_DEPTH: usize = 16;
/// Most nodes of a filter.
pub const FILTER_NODES: usize = 256;
/// Most values of an `in`; Firestore enforces 30.
pub const FILTER_IN: usize = 30;
/// Longest life of a caller's idempotency key record, in microseconds: 24 hours.
pub const IDEMPOTENCY_MICROS: i64 = 24 * 3600 * 1_000_000;

//! Memories with vectors, and what is found of them.

use memory_core::traits::{IndexHits, KeywordIndex, KeywordQuery, VectorIndex, VectorQuery};
use memory_core::{
    CallContext, EmbeddingSpace, Filter, MemoryItem, Precondition, Result, Vectors, Write,
};
use memory_redis::RedisStore;

pub(super) use crate::records::rig::{Rig, commit, id, item, set_spaces, space, tenant};

/// The servers with a query engine.
pub(super) const WITH_ENGINE: [&str; 2] = ["MEMORY_TEST_REDIS", "MEMORY_TEST_REDIS_CLUSTER"];
/// The servers without one.
pub(super) const WITHOUT: [&str; 2] = ["MEMORY_TEST_REDIS_PLAIN", "MEMORY_TEST_REDIS_OLD"];

/// A put of an item with its vector.
pub(super) fn put(item: MemoryItem, space: &EmbeddingSpace, vector: &[f32]) -> Write {
    let vectors = Vectors::Replace([(space.id(), vector.to_vec())].into());
    Write::put(item, vectors, Precondition::Any)
}

pub(super) async fn nearest(
    store: &RedisStore,
    context: &CallContext,
    space: &EmbeddingSpace,
    vector: &[f32],
    filter: Filter,
    limit: u32,
) -> Result<IndexHits> {
    let query = VectorQuery::new(space.clone(), vector.to_vec(), limit).with_filter(filter);
    VectorIndex::search(store, context, &query).await
}

pub(super) async fn by_words(
    store: &RedisStore,
    context: &CallContext,
    text: &str,
    filter: Filter,
    limit: u32,
) -> Result<IndexHits> {
    KeywordIndex::search(store, context, &KeywordQuery::new(text, limit).with_filter(filter)).await
}

pub(super) fn ids(hits: &IndexHits) -> Vec<&str> {
    hits.hits.iter().map(|hit| hit.id.as_str()).collect()
}

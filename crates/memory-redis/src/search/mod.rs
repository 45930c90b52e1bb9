//! Search by vector and by words, by the query engine.
//!
//! Each tenant has one index of its words and one of the vectors of each of its spaces, so that
//! statistics are the tenant's own and no search can see another's memories. What an index cannot
//! say exactly is asked as a condition that every hit must meet, and each hit is then held against
//! filter and expiry here; the answer is filled up to its limit. An answer that the engine cut
//! short, or one of an index that is not whole yet, is an error and never a short answer.
//!
//! Without the engine, or where it is off, the searches are `Unsupported`. Vectors are kept with their
//! memories all the same: an index elsewhere can read them, and they are indexed once there is an
//! engine.
//!
//! In a cluster an index is made on the primary that has the tenant's slot, and the engine hands it
//! to that one's replicas: the name of an index lies in the tenant's slot, as its memories do.
//! Engines that coordinate a cluster by themselves make it everywhere.

mod ask;
mod authors;
mod brief;
mod build;
mod engine;
mod fields;
mod filter;
mod keep;
mod nearest;
mod reply;
mod schema;
mod seen;
mod table;
mod words;

use async_trait::async_trait;
pub(crate) use engine::Engine;
pub(crate) use fields::fields;
use memory_core::traits::{
    IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, TenantSpaces, UpsertOutcome, VectorEntry,
    VectorIndex, VectorQuery,
};
use memory_core::{
    CallContext, Capabilities, EmbeddingSpace, Error, Health, MemoryId, Result, limits,
};

use crate::store::RedisStore;
use crate::wire::Call;
use build::Until;

/// Makes the tenant's indexes where they are missing or made as something else, and stores what
/// they are made as in `ix` of the tenant's state. Does nothing where no engine is used, or the
/// tenant is not listed.
///
/// What a tenant with memories lacks in them is left to its searches, each of which goes on with it.
///
/// # Errors
/// `Unsupported`: they were made by a newer build. What the server met.
pub(crate) async fn prepare(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<()> {
    Box::pin(build::advance(store, call, context, Until::Made)).await
}

/// Makes the indexes of the vectors of spaces that came and drops those of spaces that went. Call
/// it after the spaces have been stored: it reads them. Does nothing where no engine is used, or the
/// tenant has no indexes yet.
///
/// # Errors
/// What the server met. The next search does what was left.
pub(crate) async fn spaces_changed(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    _spaces: &TenantSpaces,
) -> Result<()> {
    if store.engine.used().is_err() || seen::look(store, call, context).await?.mark.is_none() {
        return Ok(());
    }
    Box::pin(build::advance(store, call, context, Until::Made)).await
}

/// Drops the tenant's indexes; its memories stay. Does nothing where no engine is used.
///
/// # Errors
/// What the server met.
pub(crate) async fn drop_indexes(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<()> {
    Box::pin(build::drop_all(store, call, context)).await
}

#[async_trait]
impl VectorIndex for RedisStore {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.run("vector_upsert", Some(context), async |call| {
            keep::upsert(self, call, context, space, entries).await
        })
        .await
    }

    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.run("vector_remove", Some(context), async |call| {
            keep::remove(self, call, context, space, ids).await
        })
        .await
    }

    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        self.run("vector_missing", Some(context), async |call| {
            keep::missing(self, call, context, space, after.as_ref(), limit).await
        })
        .await
    }

    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        self.run("vector_search", Some(context), async |call| {
            nearest::search(self, call, context, query).await
        })
        .await
    }

    async fn health(&self) -> Health {
        self.health_now().await
    }

    async fn close(&self) -> Result<()> {
        self.close_now().await
    }

    fn capabilities(&self) -> Capabilities {
        self.own_capabilities()
    }
}

#[async_trait]
impl KeywordIndex for RedisStore {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        self.run("keyword_upsert", Some(context), async |call| {
            keep::check_texts(self, call, context, entries).await
        })
        .await
    }

    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        self.run("keyword_remove", Some(context), async |_| {
            if ids.len() > limits::FETCH_IDS {
                return Err(Error::invalid("one call takes up to 1,000 ids"));
            }
            Err(Error::unsupported("the keyword index is kept with the records: delete the item"))
        })
        .await
    }

    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        self.run("keyword_search", Some(context), async |call| {
            words::search(self, call, context, query).await
        })
        .await
    }

    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        self.run("authors", Some(context), async |call| {
            authors::authors(self, call, context, names).await
        })
        .await
    }

    async fn health(&self) -> Health {
        self.health_now().await
    }

    async fn close(&self) -> Result<()> {
        self.close_now().await
    }

    fn capabilities(&self) -> Capabilities {
        self.own_capabilities()
    }
}

//! The guard around vector and keyword indexes.

use async_trait::async_trait;
use memory_core::limits::{FETCH_IDS, PAGE};
use memory_core::traits::{
    IndexHits, KeywordEntry, KeywordIndex, KeywordQuery, UpsertOutcome, VectorEntry, VectorIndex,
    VectorQuery,
};
use memory_core::{CallContext, Capabilities, EmbeddingSpace, Error, Health, MemoryId, Result};

use super::{GuardRule, Guarded};
use crate::operation::Operation;
use crate::policy::rows;

/// That entries can belong to a space, by their length.
///
/// # Errors
/// `InvalidInput`, naming the entry by its place.
fn check_lengths(space: &EmbeddingSpace, entries: &[VectorEntry]) -> Result<()> {
    let dimensions = usize::try_from(space.dimensions()).unwrap_or(usize::MAX);
    match entries.iter().position(|entry| entry.vector.len() != dimensions) {
        None => Ok(()),
        Some(place) => Err(Error::invalid(format!(
            "a vector has {} components; its space has {dimensions}",
            entries[place].vector.len()
        ))
        .with_context("entry", place.to_string())),
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl VectorIndex for Guarded<dyn VectorIndex> {
    async fn upsert(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        const OPERATION: Operation = Operation::VectorUpsert;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(OPERATION, "entries of an upsert", entries.len(), 0, FETCH_IDS)?;
        self.guard.request(OPERATION, check_lengths(space, entries))?;
        let outcomes = self.inner.upsert(context, space, entries).await?;
        self.guard.holds(OPERATION, GuardRule::Count, outcomes.len() == entries.len())?;
        Ok(outcomes)
    }
    async fn remove(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        self.guard.admit(Operation::VectorRemove, context)?;
        self.guard.within(Operation::VectorRemove, "ids to remove", ids.len(), 0, FETCH_IDS)?;
        self.inner.remove(context, space, ids).await
    }
    async fn missing(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        after: Option<MemoryId>,
        limit: u32,
    ) -> Result<Vec<MemoryId>> {
        const OPERATION: Operation = Operation::VectorMissing;
        self.guard.admit(OPERATION, context)?;
        let (asked, most) = (rows(limit), rows(PAGE));
        self.guard.within(OPERATION, "the limit", asked, 1, most)?;
        let ids = self.inner.missing(context, space, after.clone(), limit).await?;
        self.guard.ascending(OPERATION, after.as_ref(), limit, ids.iter())?;
        Ok(ids)
    }
    async fn search(&self, context: &CallContext, query: &VectorQuery) -> Result<IndexHits> {
        const OPERATION: Operation = Operation::VectorSearch;
        self.guard.admit(OPERATION, context)?;
        self.guard.request(OPERATION, query.validate())?;
        let mut hits = self.inner.search(context, query).await?;
        let records = query.records.as_ref();
        self.guard.hits(OPERATION, query.limit, &query.filter, records, &mut hits)?;
        Ok(hits)
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl KeywordIndex for Guarded<dyn KeywordIndex> {
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        const OPERATION: Operation = Operation::KeywordUpsert;
        self.guard.admit(OPERATION, context)?;
        self.guard.within(OPERATION, "entries of an upsert", entries.len(), 0, FETCH_IDS)?;
        let outcomes = self.inner.upsert(context, entries).await?;
        self.guard.holds(OPERATION, GuardRule::Count, outcomes.len() == entries.len())?;
        Ok(outcomes)
    }
    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()> {
        self.guard.admit(Operation::KeywordRemove, context)?;
        self.guard.within(Operation::KeywordRemove, "ids to remove", ids.len(), 0, FETCH_IDS)?;
        self.inner.remove(context, ids).await
    }
    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits> {
        const OPERATION: Operation = Operation::KeywordSearch;
        self.guard.admit(OPERATION, context)?;
        self.guard.request(OPERATION, query.validate())?;
        let mut hits = self.inner.search(context, query).await?;
        let records = query.records.as_ref();
        self.guard.hits(OPERATION, query.limit, &query.filter, records, &mut hits)?;
        Ok(hits)
    }
    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>> {
        const OPERATION: Operation = Operation::KeywordAuthors;
        self.guard.admit(OPERATION, context)?;
        let authors = self.inner.authors(context, names).await?;
        let mut asked = names.iter();
        let among = authors.iter().all(|author| asked.any(|name| name == author));
        self.guard.holds(OPERATION, GuardRule::Unasked, among)?;
        Ok(authors)
    }
    async fn health(&self) -> Health {
        self.inner.health().await
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

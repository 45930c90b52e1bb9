//! Reading: get, list, history, counts.

use memory_core::limits::FETCH_IDS;
use memory_core::traits::{RecordStoreExt as _, TenantStats};
use memory_core::{
    ContentHash, Direction, Field, Filter, MemoryId, MemoryItem, Order, OrderField, Page,
    Projection, Query, Result,
};

use super::TenantMemory;
use crate::requests::{HistoryRequest, ListRequest};

impl TenantMemory {
    /// Reads a memory, without vectors; `None` if there is none.
    ///
    /// # Errors
    /// As every call.
    pub async fn get(&self, id: &MemoryId) -> Result<Option<MemoryItem>> {
        self.inner().backend.records.fetch_one(&self.context(None), id).await
    }

    /// Reads memories: one answer for each id, in order, `None` where there is none. Any number of
    /// ids, 1,000 to a call of the store; memories that change meanwhile may be seen as of
    /// different moments.
    ///
    /// # Errors
    /// As every call.
    pub async fn get_many(
        &self,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(FETCH_IDS) {
            let records = &self.inner().backend.records;
            found.extend(records.fetch(&self.context(None), ids, projection).await?);
        }
        Ok(found)
    }

    /// Reads a page of memories.
    ///
    /// # Errors
    /// `InvalidInput`: limit, filter or cursor. `Unsupported`: a filter on an undeclared key.
    pub async fn list(&self, request: &ListRequest) -> Result<Page> {
        let query = request.query(self.inner().settings.read.page_size);
        self.inner().backend.records.query(&self.context(None), &query).await
    }

    /// Reads a page of what was said, by `occurred_at`.
    ///
    /// # Errors
    /// As [`TenantMemory::list`].
    pub async fn history(&self, request: &HistoryRequest) -> Result<Page> {
        let query = request.query(self.inner().settings.read.page_size);
        self.inner().backend.records.query(&self.context(None), &query).await
    }

    /// The memory that was stored first among those with exactly this text, within a scope.
    ///
    /// Texts are compared by the SHA-256 of their bytes: another capital or space is another text.
    ///
    /// # Errors
    /// `InvalidInput`: a malformed filter.
    pub async fn find_duplicate(&self, content: &str, scope: Filter) -> Result<Option<MemoryItem>> {
        let hash = ContentHash::of(content).to_string();
        let query = Query::new(1)
            .with_filter(Filter::eq(Field::ContentHash, hash.as_str()).and(scope))
            .with_order(Order { field: OrderField::CreatedAt, direction: Direction::Ascending });
        let page = self.inner().backend.records.query(&self.context(None), &query).await?;
        Ok(page.items.into_iter().next())
    }

    /// Counts the memories that pass.
    ///
    /// # Errors
    /// As [`TenantMemory::list`].
    pub async fn count(&self, filter: &Filter) -> Result<u64> {
        self.inner().backend.records.count(&self.context(None), filter).await
    }

    /// The tenant in numbers.
    ///
    /// # Errors
    /// As every call.
    pub async fn stats(&self) -> Result<TenantStats> {
        self.inner().backend.upkeep.tenant_stats(&self.context(None)).await
    }
}

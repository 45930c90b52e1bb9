//! Reading: get, list, history, search, counts.

use memory_core::limits::FETCH_IDS;
use memory_core::traits::{RecordStoreExt as _, TenantStats};
use memory_core::{
    CallContext, ContentHash, Direction, EmbeddingSpace, Error, ErrorKind, Field, Filter, MemoryId,
    MemoryItem, Order, OrderField, Page, Projection, Query, Result,
};
use memory_search::{ArmSelection, SearchAnswer, SearchRequest};

use super::TenantMemory;
use super::spaces::{self, KnownSpace};
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

    /// Finds memories by words, by a vector, or by both.
    ///
    /// # Errors
    /// `InvalidInput`: neither text nor vector, or a limit, filter or vector that is none.
    /// `Unsupported`: an arm that was asked for and cannot be had, or an undeclared key.
    pub async fn search(&self, request: &SearchRequest) -> Result<SearchAnswer> {
        self.inner().searcher.search(&self.context(None), request).await
    }

    /// As [`TenantMemory::search`], with a vector of the tenant's active space beside what the
    /// request holds.
    ///
    /// # Errors
    /// `InvalidInput` also where the vector does not belong to the active space, and where the
    /// tenant has no space yet and a vector is needed: for a search without text, or for arms that
    /// were asked for. Otherwise it is then searched by words, and the answer says so. `Config`:
    /// the settings name another space than the tenant has.
    pub async fn search_with_vector(
        &self,
        request: SearchRequest,
        vector: Vec<f32>,
    ) -> Result<SearchAnswer> {
        let context = self.context(None);
        let mut known = self.active_space(&context).await?;
        if let Some(guess) = known.take_if(|known| known.remembered) {
            match self.search_in(&context, &guess.space, &request, &vector).await {
                Err(error) if error.kind() == ErrorKind::InvalidInput => {
                    // Perhaps for the space, which the tenant may no longer have.
                    let (_, now) = self.read_spaces(&context).await?;
                    if now.as_ref() == Some(&guess.space) {
                        return Err(error);
                    }
                    known = now.map(KnownSpace::read);
                }
                done => return done,
            }
        }
        if let Some(known) = known {
            return self.search_in(&context, &known.space, &request, &vector).await;
        }
        let by_words = matches!(request.arms, ArmSelection::Auto | ArmSelection::KeywordOnly);
        if request.text.is_none() || !by_words {
            return Err(Error::invalid(
                "the tenant has no embedding space yet: none of its memories has a vector",
            )
            .with_operation("search"));
        }
        let mut answer = self.inner().searcher.search(&context, &request).await?;
        answer.notes.push(
            "The vector was not used: none of the tenant's memories has a vector yet.".to_owned(),
        );
        Ok(answer)
    }

    async fn search_in(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        request: &SearchRequest,
        vector: &[f32],
    ) -> Result<SearchAnswer> {
        spaces::check(space, vector)?;
        let request = request.clone().with_vector(space.clone(), vector.to_vec());
        self.inner().searcher.search(context, &request).await
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

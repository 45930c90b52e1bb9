//! Keyword search.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;

use crate::capabilities::Capabilities;
use crate::context::CallContext;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::health::Health;
use crate::ids::{MemoryId, Revision};
use crate::limits::{SEARCH_TEXT_BYTES, TOP_K};
use crate::query::check_limit;
use crate::traits::{ChangePosition, HitRecords, IndexHits, Lending, UpsertOutcome};

/// A text to index for an item.
#[derive(Clone, PartialEq)]
pub struct KeywordEntry {
    /// Which item.
    pub id: MemoryId,
    /// The revision that the text was read at.
    pub revision: Revision,
    /// The text. A co-located store reads its own row instead.
    pub text: String,
}

impl Debug for KeywordEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordEntry")
            .field("id", &self.id)
            .field("revision", &self.revision)
            .field("text_bytes", &self.text.len())
            .finish()
    }
}

/// Texts asked for.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct KeywordQuery {
    /// Words in any order; at most 64 KiB. The index's own analyser reads them.
    pub text: String,
    /// Which items may be found.
    pub filter: Filter,
    /// How many at the most: 1 to 1,000.
    pub limit: u32,
    /// Whether hits carry the share of each term.
    pub explain: bool,
    /// As in [`crate::traits::VectorQuery`].
    pub at_least: Option<ChangePosition>,
    /// As in [`crate::traits::VectorQuery`].
    pub records: Option<HitRecords>,
    /// How slowly repeats of a word stop to count: the `k1` of BM25, 0 to 10. Default 0.9.
    pub k1: f64,
    /// How far long items are held back: the `b` of BM25, in [0, 1]. Default 0.4.
    pub b: f64,
    /// What neighbours lend each other; `None` for nothing. An index that does not know neighbours
    /// lends nothing.
    pub lending: Option<Lending>,
}

impl Debug for KeywordQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeywordQuery")
            .field("text_bytes", &self.text.len())
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl KeywordQuery {
    /// A search for words, unfiltered.
    #[must_use]
    pub fn new(text: impl Into<String>, limit: u32) -> Self {
        Self {
            text: text.into(),
            filter: Filter::All,
            limit,
            explain: false,
            at_least: None,
            records: None,
            k1: 0.9,
            b: 0.4,
            lending: None,
        }
    }

    /// Sets the two parameters of BM25.
    #[must_use]
    pub fn with_bm25(mut self, k1: f64, b: f64) -> Self {
        (self.k1, self.b) = (k1, b);
        self
    }

    /// Sets what neighbours lend each other.
    #[must_use]
    pub fn with_lending(mut self, lending: Option<Lending>) -> Self {
        self.lending = lending;
        self
    }

    /// Sets the filter.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Asks for the share of each term.
    #[must_use]
    pub fn with_explain(mut self, explain: bool) -> Self {
        self.explain = explain;
        self
    }

    /// Waits for the index to reflect a position.
    #[must_use]
    pub fn with_at_least(mut self, position: Option<ChangePosition>) -> Self {
        self.at_least = position;
        self
    }

    /// Asks for records along with the first hits.
    #[must_use]
    pub fn with_records(mut self, records: Option<HitRecords>) -> Self {
        self.records = records;
        self
    }

    /// Checks limit, filter, size and parameters.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn validate(&self) -> Result<()> {
        check_limit(self.limit, TOP_K)?;
        if self.text.len() > SEARCH_TEXT_BYTES {
            return Err(Error::invalid(format!(
                "the search text has {} bytes; the limit is {SEARCH_TEXT_BYTES}",
                self.text.len()
            )));
        }
        if !(0.0..=10.0).contains(&self.k1) || !(0.0..=1.0).contains(&self.b) {
            return Err(Error::invalid("k1 lies in [0, 10] and b in [0, 1]"));
        }
        self.lending.map_or(Ok(()), |lending| lending.validate())?;
        self.filter.validate()
    }
}

/// What one query term gave to a hit's score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermShare {
    /// The term, as the analyser made it.
    pub term: String,
    /// Its part of the score.
    pub score: f64,
}

/// Words of a tenant's items. Statistics are the tenant's own.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait KeywordIndex: Send + Sync + Debug {
    /// Indexes texts for items at the revisions they were read at; one outcome for each entry, in
    /// order. Idempotent.
    ///
    /// # Errors
    /// `InvalidInput`: more than 1,000 entries.
    async fn upsert(
        &self,
        context: &CallContext,
        entries: &[KeywordEntry],
    ) -> Result<Vec<UpsertOutcome>>;

    /// Forgets items; unknown ids are no error. Idempotent.
    ///
    /// # Errors
    /// `InvalidInput`: more than 1,000 ids. `Unsupported` where the index is co-located: there an
    /// item is found by its words for as long as it is there.
    async fn remove(&self, context: &CallContext, ids: &[MemoryId]) -> Result<()>;

    /// Finds items by their words, by BM25. A text without a word finds nothing.
    ///
    /// # Errors
    /// `InvalidInput`: limit, filter, text. `Unsupported`: an undeclared key.
    async fn search(&self, context: &CallContext, query: &KeywordQuery) -> Result<IndexHits>;

    /// Those of some names by which an author of the tenant goes: an author whose name is the same,
    /// or whose first word is, whatever the case. In the order given; without an index of authors
    /// none. At most 100 names are looked at.
    ///
    /// # Errors
    /// Those of any read.
    async fn authors(&self, context: &CallContext, names: &[String]) -> Result<Vec<String>>;

    /// How the index is.
    async fn health(&self) -> Health;

    /// As [`crate::traits::RecordStore::close`].
    ///
    /// # Errors
    /// What the last flush met.
    async fn close(&self) -> Result<()>;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;
}

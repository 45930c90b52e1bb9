//! The records behind the candidates, as the store of record has them now.

use std::collections::HashMap;

use memory_core::limits::FETCH_IDS;
use memory_core::traits::{IndexHit, RecordStore};
use memory_core::{
    CallContext, Error, ErrorKind, Field, Filter, MemoryId, MemoryItem, Projection, Result,
    Revision,
};
use memory_text::estimate_tokens;

use crate::fusion::Fused;
use crate::request::Limit;

/// Records of the first reading under a budget of tokens, doubled for each next one: few
/// contents are read in vain where the budget is small, and few readings are made where it is not.
const FIRST_READ: usize = 64;

/// What is known of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not read yet.
    Unread,
    /// There, at this revision, and it passes the filter.
    Live,
    /// There at another revision.
    Stale,
    /// Not there, expired, or it does not pass the filter.
    Gone,
}

/// How far a walk down a ranking came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    /// So many items from the top are the answer, and why it ended before its limit, if it did
    /// for want of tokens.
    Taken(usize, Option<String>),
    /// An item near the top is stale or gone.
    Dropped,
}

#[derive(Debug)]
struct Row {
    item: Box<MemoryItem>,
    passes: bool,
}

/// The records that one search has read.
pub(crate) struct Rows<'a> {
    store: &'a dyn RecordStore,
    context: &'a CallContext,
    filter: &'a Filter,
    projection: Projection,
    /// Whether the metadata is read for the filter only.
    hide_metadata: bool,
    read: HashMap<MemoryId, Option<Row>>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(
        store: &'a dyn RecordStore,
        context: &'a CallContext,
        filter: &'a Filter,
        projection: &Projection,
    ) -> Self {
        let needed = filter.fields().iter().any(|field| matches!(field, Field::Metadata(_)));
        let hide_metadata = needed && !projection.metadata;
        let mut projection = projection.clone();
        projection.metadata |= needed;
        Self { store, context, filter, projection, hide_metadata, read: HashMap::new() }
    }

    /// The parts that are read.
    pub(crate) fn projection(&self) -> &Projection {
        &self.projection
    }

    /// Takes in the records that hits brought along.
    ///
    /// # Errors
    /// `Corrupt`: a record of another item, or of another revision than its hit.
    pub(crate) fn take_in(&mut self, hits: &mut [IndexHit]) -> Result<()> {
        self.read.reserve(hits.iter().filter(|hit| hit.item.is_some()).count());
        for hit in hits {
            let Some(item) = hit.item.take() else { continue };
            if item.id != hit.id || item.revision.as_ref() != Some(&hit.revision) {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "the index brought another record than that of its hit",
                ));
            }
            // What another arm brought first stands: if the two differ, one hit is stale.
            self.read
                .entry(hit.id.clone())
                .or_insert_with(|| Some(Row { passes: self.filter.matches(&item), item }));
        }
        Ok(())
    }

    /// What is known of an item that an index saw at `revision`.
    pub(crate) fn verdict(&self, id: &MemoryId, revision: &Revision) -> Verdict {
        judged(self.read.get(id), revision)
    }

    /// The record of an item, if it has been read and is there.
    pub(crate) fn item(&self, id: &MemoryId) -> Option<&MemoryItem> {
        self.read.get(id)?.as_ref().map(|row| &*row.item)
    }

    /// Walks down a ranking until the limit, reading what is not known yet in as few calls as the
    /// limit allows: one for a number of hits.
    ///
    /// # Errors
    /// Those of the store; `Corrupt` as [`Rows::read_all`] has it.
    pub(crate) async fn walk(&mut self, ranking: &[Fused], limit: Limit) -> Result<Walk> {
        let most = usize::try_from(limit.most()).unwrap_or(usize::MAX).min(ranking.len());
        let ranking = &ranking[..most];
        let (mut chunk, budget) = match limit {
            Limit::Count(_) => (most, None),
            Limit::Tokens { budget, .. } => (FIRST_READ, Some(u64::from(budget))),
        };
        let mut spent = 0_u64;
        for (taken, fused) in ranking.iter().enumerate() {
            if !self.read.contains_key(&fused.id) {
                self.read_some(&ranking[taken..], chunk).await?;
                chunk = chunk.saturating_mul(2).min(FETCH_IDS);
            }
            let row = self.read.get(&fused.id);
            let stands = |revision| judged(row, revision) == Verdict::Live;
            if !fused.parts.iter().flatten().all(|part| stands(&part.revision)) {
                return Ok(Walk::Dropped);
            }
            if let (Some(budget), Some(Some(row))) = (budget, row) {
                let tokens = u64::try_from(estimate_tokens(row.item.content())).unwrap_or(u64::MAX);
                let left = budget - spent;
                if tokens > left {
                    let note = format!(
                        "the budget of tokens ended the answer: the next hit has about {tokens} \
                         tokens, and {left} of {budget} were left"
                    );
                    return Ok(Walk::Taken(taken, Some(note)));
                }
                spent += tokens;
            }
        }
        Ok(Walk::Taken(most, None))
    }

    /// Reads everything of a ranking that is not known yet.
    ///
    /// # Errors
    /// Those of the store. `Corrupt`: an answer of the wrong length, another item than was asked
    /// for, or one without a revision.
    pub(crate) async fn read_all(&mut self, ranking: &[Fused]) -> Result<()> {
        self.read_some(ranking, usize::MAX).await
    }

    /// Forgets all, so that every item is read as it is now.
    pub(crate) fn forget(&mut self) {
        self.read.clear();
    }

    /// Hands an item over, in the shape that was asked for.
    pub(crate) fn take(&mut self, id: &MemoryId) -> Option<MemoryItem> {
        let mut item = *self.read.get_mut(id)?.take()?.item;
        if self.hide_metadata {
            item.metadata.clear();
        }
        Some(item)
    }

    async fn read_some(&mut self, ranking: &[Fused], most: usize) -> Result<()> {
        let unknown = ranking.iter().filter(|fused| !self.read.contains_key(&fused.id));
        let ids: Vec<MemoryId> = unknown.take(most).map(|fused| fused.id.clone()).collect();
        for ids in ids.chunks(FETCH_IDS) {
            let items = self.store.fetch(self.context, ids, &self.projection).await?;
            if items.len() != ids.len() {
                return Err(wrong_answer("a number of items other than it was asked for"));
            }
            for (id, item) in ids.iter().zip(items) {
                if let Some(item) = &item {
                    if item.id != *id {
                        return Err(wrong_answer("another item than it was asked for"));
                    }
                    if item.revision.is_none() {
                        return Err(wrong_answer("an item without a revision"));
                    }
                }
                let row =
                    item.map(|item| Row { passes: self.filter.matches(&item), item: item.into() });
                self.read.insert(id.clone(), row);
            }
        }
        Ok(())
    }
}

/// What is known of an item by what was read of it.
fn judged(row: Option<&Option<Row>>, revision: &Revision) -> Verdict {
    match row {
        None => Verdict::Unread,
        Some(None) => Verdict::Gone,
        Some(Some(row)) if row.item.revision.as_ref() != Some(revision) => Verdict::Stale,
        Some(Some(row)) if row.passes => Verdict::Live,
        Some(Some(_)) => Verdict::Gone,
    }
}

fn wrong_answer(what: &str) -> Error {
    Error::new(ErrorKind::Corrupt, format!("the store answered with {what}"))
}

//! What writes and erasures did.

use memory_core::traits::EraseReceipt;
use memory_core::{EmbeddingSpace, Error, ErrorKind, MemoryId, MemoryItem, Result, Revision};
use serde::Serialize;

use crate::tenant::TENANT_SPACE;

/// What an add did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddOutcome {
    /// The memory is new.
    Added,
    /// It took the place of another.
    Replaced,
    /// Another has the id and stays.
    Skipped,
}

/// What became of the vector of a memory that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VectorState {
    /// The caller's own is stored.
    Supplied,
    /// It was made from the text and is stored.
    Made,
    /// It is made after the write: in the background, or by
    /// [`TenantMemory::embed_missing`](crate::TenantMemory::embed_missing).
    Later,
    /// It could not be made; the memory is stored without it, and
    /// [`TenantMemory::embed_missing`](crate::TenantMemory::embed_missing) makes up for it.
    Missing,
    /// None was made: the tenant's vectors are the caller's own, and the embedding model was found
    /// on this machine rather than asked for. After an update that left the content alone, the
    /// caller's is there as before.
    Aside,
    /// None was made: there is no embedding model. One that a model had made of another text is
    /// gone.
    NoEmbedder,
    /// An update left it as it was: it is still the vector of the text, if there is one.
    Kept,
    /// An update took it away, as its patch asked.
    Cleared,
    /// As far as this call can tell, it wrote nothing: the memory that is there has what it had.
    NotWritten,
}

/// The answer to an add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AddReceipt {
    /// The memory's id: the caller's or a random one.
    pub id: MemoryId,
    /// Its revision; `None` when it was skipped.
    pub revision: Option<Revision>,
    /// What happened.
    pub outcome: AddOutcome,
    /// Whether this is the answer to an earlier, identical request.
    pub replayed: bool,
    /// What became of its vector.
    pub vector: VectorState,
    /// Why its vector is missing, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_reason: Option<String>,
}

impl AddReceipt {
    /// The answer to an add that wrote nothing.
    pub(crate) fn skipped(id: MemoryId) -> Self {
        Self {
            id,
            revision: None,
            outcome: AddOutcome::Skipped,
            replayed: false,
            vector: VectorState::NotWritten,
            vector_reason: None,
        }
    }
}

/// The answer to an update.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UpdateReceipt {
    /// The memory as it was stored, without vectors. In JSON its fields stand beside the others.
    #[serde(flatten)]
    pub item: MemoryItem,
    /// What became of its vector.
    pub vector: VectorState,
    /// Why its vector is missing, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_reason: Option<String>,
}

/// One memory that was not taken, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedItem {
    /// Its place in the input, from 0.
    pub index: u64,
    /// Why.
    pub error: Error,
}

/// What adding many did.
#[derive(Debug, Default)]
#[must_use = "bad memories and a stop are reported here and nowhere else"]
#[non_exhaustive]
pub struct AddManyReport {
    /// Memories taken from the input. Where the call ended early, a batch that had been taken and
    /// embedded beside the one before, and was not written, is counted here alone.
    pub seen: u64,
    /// New ones.
    pub added: u64,
    /// Ones that took the place of another.
    pub replaced: u64,
    /// Ones whose id was taken and that were not added, under
    /// [`OnConflict::Skip`](crate::OnConflict::Skip).
    pub skipped: u64,
    /// Ones that were refused.
    pub failed: u64,
    /// The first 1,000 of those that were refused; a million bad ones must not fill the memory.
    pub failures: Vec<FailedItem>,
    /// Of the new ones and the replacing ones, those whose vector was to be made and was not: see
    /// [`VectorState::Missing`] and [`VectorState::Aside`].
    pub without_vector: u64,
    /// Why the first of those has none.
    pub without_vector_reason: Option<Error>,
    /// The ids in the order of the input, `None` for those refused; only if asked for.
    pub ids: Vec<Option<MemoryId>>,
    /// Whether the caller's flag stopped it: the rest of the input was not added.
    pub cancelled: bool,
    /// The fault that stopped it, of the store or, under
    /// [`OnEmbedFailure::Refuse`](crate::OnEmbedFailure::Refuse), of the embedder: the batch at
    /// hand and the rest of the input were not added, as far as is known; see [`Error::outcome`].
    pub stopped: Option<Error>,
}

/// Whether an error concerns one tenant alone: its embedding space is another one than the
/// embedder's or the settings', or its vectors are the caller's own. Such an error is of the kind
/// `Config` and has the space as context `tenant_space`; wrong settings and a server that does not
/// know the model are of that kind, too, and have none.
#[must_use]
pub fn is_refused_by_space(error: &Error) -> bool {
    error.kind() == ErrorKind::Config && error.context().iter().any(|(key, _)| *key == TENANT_SPACE)
}

/// Most failures that a report keeps.
pub(crate) const FAILURES_KEPT: usize = 1_000;

impl AddManyReport {
    /// The report, unless a fault of the store stopped the call or an item was refused.
    ///
    /// # Errors
    /// What stopped it, or the first refusal, with the item's place as context `index`.
    pub fn into_result(mut self) -> Result<Self> {
        if let Some(error) = self.stopped.take() {
            return Err(error);
        }
        if !self.failures.is_empty() {
            let first = self.failures.swap_remove(0);
            return Err(first.error.with_context("index", first.index.to_string()));
        }
        Ok(self)
    }
}

/// One memory whose text the embedder refused, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct FailedEmbed {
    /// Which memory.
    pub id: MemoryId,
    /// Why.
    pub error: Error,
}

/// What making missing vectors did.
#[derive(Debug, Default)]
#[must_use = "failures and a stop are reported here and nowhere else"]
#[non_exhaustive]
pub struct EmbedReport {
    /// Memories without a vector when it began.
    pub missing_before: u64,
    /// Vectors stored.
    pub embedded: u64,
    /// Memories that changed, expired or went in both turns they had; the next call finds those
    /// that are there.
    pub stale: u64,
    /// Memories whose text the embedder refused, or failed at while it served others.
    pub failed: u64,
    /// The first 1,000 of those.
    pub failures: Vec<FailedEmbed>,
    /// Whether the caller's flag stopped it.
    pub cancelled: bool,
    /// The fault of the embedder or of the store that stopped it.
    pub stopped: Option<Error>,
}

impl EmbedReport {
    /// Whether it stopped for the tenant's embedding space: its vectors are another model's or the
    /// caller's own, so that the embedder can do nothing for this tenant, and perhaps all for
    /// others. See [`is_refused_by_space`].
    #[must_use]
    pub fn refused_by_space(&self) -> bool {
        self.stopped.as_ref().is_some_and(is_refused_by_space)
    }

    /// The report, unless a fault stopped the call or a text was refused.
    ///
    /// # Errors
    /// What stopped it, or the first refusal, with the memory's id as context `id`.
    pub fn into_result(mut self) -> Result<Self> {
        if let Some(error) = self.stopped.take() {
            return Err(error);
        }
        if !self.failures.is_empty() {
            let first = self.failures.swap_remove(0);
            return Err(first.error.with_context("id", first.id.to_string()));
        }
        Ok(self)
    }
}

/// What moving a tenant to another embedding space would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReembedPreview {
    /// The space that it has; `None` where there is nothing to move.
    pub from: Option<EmbeddingSpace>,
    /// That of the embedder.
    pub to: EmbeddingSpace,
    /// Whether the move was begun before.
    pub begun: bool,
    /// Memories to be embedded, at the most.
    pub memories: u64,
    /// Reads of the store.
    pub reads: u64,
    /// Its writes.
    pub writes: u64,
    /// What they cost by the prices of the settings; `None` where the store bills nothing. What the
    /// embedder costs is not known here.
    pub estimate: Option<f64>,
}

/// What moving a tenant to another embedding space did.
#[derive(Debug, Default)]
#[must_use = "failures and a stop are reported here and nowhere else"]
#[non_exhaustive]
pub struct ReembedReport {
    /// The space that it had; `None` where there was nothing to move.
    pub from: Option<EmbeddingSpace>,
    /// That of the embedder.
    pub to: Option<EmbeddingSpace>,
    /// Whether the new space is the active one now, by this call.
    pub switched: bool,
    /// The vectors that were made.
    pub embed: EmbedReport,
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct EraseProgress {
    /// Memories removed so far.
    pub removed: u64,
    /// Steps done.
    pub steps: u64,
}

/// What an erasure did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EraseReport {
    /// Memories removed by this call.
    pub erased: u64,
    /// The proof.
    pub receipt: EraseReceipt,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_with_its_place() {
        let mut report = AddManyReport { added: 1, failed: 1, ..AddManyReport::default() };
        report.failures.push(FailedItem { index: 7, error: Error::invalid("bad") });
        assert!(report.into_result().unwrap_err().to_string().contains("index=7"));
        let good = AddManyReport { added: 1, ..AddManyReport::default() };
        assert_eq!(good.into_result().unwrap().added, 1);
    }
}

//! The store of record.

use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::commit::{Commit, CommitReceipt};
use crate::context::CallContext;
use crate::error::Result;
use crate::filter::Filter;
use crate::health::Health;
use crate::ids::{MemoryId, UserId};
use crate::item::MemoryItem;
use crate::query::{Page, Projection, Query};
use crate::time::Timestamp;

/// What an erasure removes. There is no empty scope: nothing widens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EraseScope {
    /// Every item of one user of the context's tenant.
    User(UserId),
    /// The context's tenant: items, spaces, change log, idempotency keys, directory entry.
    Tenant,
}

/// Where an erasure goes on. Opaque; valid for the scope and tenant it was issued for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EraseToken(pub String);

/// Proof of an erasure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EraseReceipt {
    /// When it began: all that was committed before is gone.
    pub began_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Whether the bytes are gone from the store's files too, or this is pending (another
    /// process still reads the old ones, or the service clears them in its own time).
    pub bytes_cleared: bool,
}

/// One bounded step of an erasure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EraseStep {
    /// Items removed by this step.
    pub erased: u64,
    /// Where to go on; `None` when done.
    pub next: Option<EraseToken>,
    /// The receipt; with the last step only.
    pub receipt: Option<EraseReceipt>,
}

/// One bounded step of a sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepStep {
    /// Expired items removed by this step.
    pub removed: u64,
    /// Whether more were left.
    pub more: bool,
}

/// The store of record: what is here is what is remembered.
///
/// Reads see every commit acknowledged before they began, by anyone. Expired items are invisible
/// to all of them by the store's clock.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RecordStore: Send + Sync + Debug {
    /// Writes a set of puts and deletes, together or not at all.
    ///
    /// - Atomicity: all writes, their vectors, keyword entries where co-located, the change log
    ///   and the idempotency key.
    /// - Idempotence: under an idempotency key, a repetition within 24 hours gives the first
    ///   answer with `replayed`; the same key with another digest is `InvalidInput`. Without a
    ///   key, a commit that is sent again with `resend` recognises its own work by its id: a
    ///   create or compare-and-swap that finds its own commit id has succeeded, a delete that
    ///   finds nothing has succeeded, and where a later writer has covered it the answer is a
    ///   `Conflict` that says so. What cannot be seen cannot be told: a put without a precondition
    ///   whose every record has been overwritten since is done again, as the last writer, and a
    ///   create whose record has been deleted since creates it again. A failure of a commit with
    ///   `resend` tells what this attempt met: whether an earlier one took effect stays unknown to
    ///   whoever sent it. An attempt that its caller gave up on may take effect later, after
    ///   writes that were acknowledged meanwhile; who cannot bear that names a revision.
    /// - Ordering: commits of a tenant take effect in the order of their positions.
    ///
    /// # Errors
    /// `InvalidInput` (see [`Commit::validate`]; a vector of an unknown space or of a wrong
    /// shape), `AlreadyExists`, `NotFound` and `Conflict` by precondition, `Conflict` by write
    /// fence. With [`crate::Outcome::Unknown`] it may have happened: send it again with `resend`.
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt>;

    /// Reads items by id: one answer for each id, in order, `None` where there is none.
    ///
    /// # Errors
    /// `InvalidInput`: more than 1,000 ids.
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>>;

    /// Reads a page.
    ///
    /// # Errors
    /// `InvalidInput`: limit, filter or cursor. `Unsupported`: a filter on an undeclared key.
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page>;

    /// Counts the items that pass.
    ///
    /// # Errors
    /// As [`RecordStore::query`].
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64>;

    /// Removes up to `limit` expired items for good. Idempotent; removes nothing that was visible
    /// or that has been written anew meanwhile.
    ///
    /// # Errors
    /// `InvalidInput`: a limit of 0 or above 10,000.
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep>;

    /// Does one bounded step of an erasure; call it again with `resume` until there is a receipt.
    ///
    /// Resumable after a failure of any kind: starting anew is always right too. Leaves a
    /// tombstone for each erased item. Not atomic as a whole; each step is.
    ///
    /// # Errors
    /// `InvalidInput`: a token of another scope or tenant.
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep>;

    /// How the store is. Never fails: what cannot be reached is unhealthy.
    async fn health(&self) -> Health;

    /// Refuses new calls, finishes what was queued, and lets go of files and connections.
    /// Idempotent.
    ///
    /// # Errors
    /// What the last flush met; the store is closed all the same.
    async fn close(&self) -> Result<()>;

    /// What it can do. Constant for the life of the store.
    fn capabilities(&self) -> Capabilities;
}

/// Conveniences over [`RecordStore`].
#[async_trait]
pub trait RecordStoreExt: RecordStore {
    /// Reads one item, without vectors.
    ///
    /// # Errors
    /// As [`RecordStore::fetch`].
    async fn fetch_one(&self, context: &CallContext, id: &MemoryId) -> Result<Option<MemoryItem>> {
        let found = self.fetch(context, std::slice::from_ref(id), &Projection::full()).await?;
        Ok(found.into_iter().next().flatten())
    }
}

impl<T: RecordStore + ?Sized> RecordStoreExt for T {}

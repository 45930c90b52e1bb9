//! The change log: what was written, in order, for whoever keeps something derived from it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::CallContext;
use crate::error::Result;
use crate::ids::{ConsumerName, MemoryId, Revision};

/// A place in a tenant's change log. Grows with each change; gaps are normal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ChangePosition(pub u64);

/// What happened to an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeOp {
    /// It was put, at this revision.
    Put(MemoryId, Revision),
    /// Its vectors changed and nothing else, at this revision.
    Vectors(MemoryId, Revision),
    /// It was deleted, or swept after it expired.
    Delete(MemoryId),
    /// What came before may name items that were erased and has been dropped: rebuild.
    Reset,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub position: ChangePosition,
    /// What happened.
    pub op: ChangeOp,
}

/// Some entries.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ChangeBatch {
    /// In order.
    pub changes: Vec<Change>,
    /// The newest position of the tenant at the time of the read.
    pub head: ChangePosition,
    /// Whether entries after the position asked for have been trimmed away: rebuild.
    pub gap: bool,
}

/// The change log of each tenant, with named consumers that hold back its trimming.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ChangeLog: Send + Sync + Debug {
    /// Reads up to `limit` entries after a position.
    ///
    /// # Errors
    /// `InvalidInput`: a limit of 0 or above 10,000.
    async fn read_changes(
        &self,
        context: &CallContext,
        after: ChangePosition,
        limit: u32,
    ) -> Result<ChangeBatch>;

    /// Registers a consumer at a position, or moves it forward; never back. Entries after the
    /// position of any consumer are kept.
    ///
    /// # Errors
    /// As every call.
    async fn acknowledge(
        &self,
        context: &CallContext,
        consumer: &ConsumerName,
        position: ChangePosition,
    ) -> Result<()>;

    /// The consumers and their positions.
    ///
    /// # Errors
    /// As every call.
    async fn consumers(
        &self,
        context: &CallContext,
    ) -> Result<BTreeMap<ConsumerName, ChangePosition>>;

    /// Forgets a consumer; an unknown one is no error.
    ///
    /// # Errors
    /// As every call.
    async fn forget_consumer(&self, context: &CallContext, consumer: &ConsumerName) -> Result<()>;
}

//! What an operator does to a store: look at it, check it, copy it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use async_trait::async_trait;
use serde::Serialize;

use crate::context::CallContext;
use crate::error::Result;
use crate::time::Timestamp;
use crate::traits::ChangePosition;

/// One tenant in numbers. Expired items do not count.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct TenantStats {
    /// Visible items.
    pub items: u64,
    /// Visible items by kind.
    pub by_kind: BTreeMap<String, u64>,
    /// Items with a vector in the active space.
    pub embedded: u64,
    /// Expired items that wait for a sweep.
    pub expired: u64,
    /// Oldest `occurred_at`.
    pub oldest: Option<Timestamp>,
    /// Newest `occurred_at`.
    pub newest: Option<Timestamp>,
    /// The newest position of the change log.
    pub head: ChangePosition,
}

/// A store in numbers, by name; what there is depends on the back end and is documented there.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StoreStats {
    /// Counters and sizes.
    pub numbers: BTreeMap<String, u64>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize)]
pub struct VerifyReport {
    /// What was checked, one line each.
    pub checks: Vec<String>,
    /// What is wrong, one line each; empty when all is well.
    pub faults: Vec<String>,
}

/// What a backup wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackupReport {
    /// Bytes of the copy.
    pub bytes: u64,
}

/// What an operator does to a store. Reachable from an admin handle only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StoreUpkeep: Send + Sync + Debug {
    /// One tenant in numbers.
    ///
    /// # Errors
    /// As every call.
    async fn tenant_stats(&self, context: &CallContext) -> Result<TenantStats>;

    /// The store in numbers.
    ///
    /// # Errors
    /// As every call.
    async fn store_stats(&self) -> Result<StoreStats>;

    /// Checks that what is stored is whole and agrees with itself. Changes nothing.
    ///
    /// # Errors
    /// As every call; faults that are found are in the report.
    async fn verify(&self) -> Result<VerifyReport>;

    /// Copies the store to a place that does not exist yet, while it serves. The copy is whole or
    /// not there.
    ///
    /// # Errors
    /// `AlreadyExists`: something is at the place. `InvalidInput`: no such place can be.
    async fn backup(&self, target: &str) -> Result<BackupReport>;
}

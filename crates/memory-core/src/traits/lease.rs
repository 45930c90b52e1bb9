//! Leases: who may do a job now, and how a late one is kept out.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::CallContext;
use crate::error::Result;
use crate::ids::LeaseName;
use crate::time::Timestamp;

/// A number that grows with every grant of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

/// A granted lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which job.
    pub name: LeaseName,
    /// Greater than that of every earlier grant of the name.
    pub token: FencingToken,
    /// When it ends unless renewed, by the store's clock.
    pub expires_at: Timestamp,
}

/// Leases of a tenant's jobs, and the tenant's write fence.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LeaseStore: Send + Sync + Debug {
    /// Grants the lease if nobody holds it; `None` while somebody does.
    ///
    /// Atomic. Not idempotent: a lost answer leaves a lease that ends by itself.
    ///
    /// # Errors
    /// `InvalidInput`: a life of zero or above 24 hours.
    async fn acquire(
        &self,
        context: &CallContext,
        name: &LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>>;

    /// Prolongs a lease that is still held under its token; `None` if it has ended.
    ///
    /// # Errors
    /// As [`LeaseStore::acquire`].
    async fn renew(
        &self,
        context: &CallContext,
        lease: &Lease,
        life: Duration,
    ) -> Result<Option<Lease>>;

    /// Gives a lease back; one that has ended is no error. Its token is not used again.
    ///
    /// # Errors
    /// As every call.
    async fn release(&self, context: &CallContext, lease: &Lease) -> Result<()>;

    /// Sets or lifts the tenant's write fence: commits, and vectors kept or removed, whose context
    /// carries no token or an older one are refused with `Conflict` while it stands. Erasures and
    /// sweeps are not. Who lifts a fence under a token in its context shows by which.
    ///
    /// # Errors
    /// `Conflict`: a fence with a newer token stands.
    async fn set_write_fence(
        &self,
        context: &CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()>;
}

//! The tenants of a store.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::error::Result;
use crate::ids::TenantId;

/// Some tenants, in byte order.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TenantPage {
    /// The tenants.
    pub tenants: Vec<TenantId>,
    /// Whether more follow.
    pub more: bool,
}

/// The tenants of a store. Reachable from an admin handle only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait TenantDirectory: Send + Sync + Debug {
    /// The tenants after one, in byte order. A tenant is listed from its first commit until its
    /// erasure.
    ///
    /// # Errors
    /// `InvalidInput`: a limit of 0 or above 1,000.
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage>;
}

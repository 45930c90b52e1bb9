//! What an operator does: sees every tenant, checks the store, copies it.

use std::fmt;
use std::sync::Arc;

use memory_core::limits::PAGE;
use memory_core::traits::{
    BackupReport, ChangeLog, LeaseStore, SchemaInfo, StoreMeta, StoreStats, TenantPage,
    VerifyReport,
};
use memory_core::{CallContext, Capabilities, Error, Result, TenantId};

use crate::memory::Held;

/// The operator's handle.
#[derive(Clone)]
pub struct Admin {
    inner: Held,
}

impl Admin {
    pub(crate) fn new(inner: Held) -> Self {
        Self { inner }
    }

    /// Every tenant, in byte order. A tenant is listed from its first memory until its erasure.
    ///
    /// # Errors
    /// As every call.
    pub async fn tenants(&self) -> Result<Vec<TenantId>> {
        let mut tenants: Vec<TenantId> = Vec::new();
        loop {
            let page = self.tenant_page(tenants.last().cloned(), PAGE).await?;
            // A page that promises more and brings nothing would be asked for for ever.
            let more = page.more && !page.tenants.is_empty();
            tenants.extend(page.tenants);
            if !more {
                return Ok(tenants);
            }
        }
    }

    /// Up to `limit` tenants after one, in byte order.
    ///
    /// # Errors
    /// `InvalidInput`: a limit of 0 or above 1,000.
    pub async fn tenant_page(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        self.inner.backend.tenants.list_tenants(after, limit).await
    }

    /// Checks that what is stored is whole and agrees with itself. Changes nothing.
    ///
    /// # Errors
    /// As every call; faults that are found are in the report.
    pub async fn verify(&self) -> Result<VerifyReport> {
        self.inner.backend.upkeep.verify().await
    }

    /// Copies the store to a place that does not exist yet, while it serves.
    ///
    /// # Errors
    /// `AlreadyExists`: something is at the place. `InvalidInput`: no such place can be.
    /// `Unsupported`: the back end has no backup.
    pub async fn backup(&self, target: &str) -> Result<BackupReport> {
        self.inner.backend.upkeep.backup(target).await
    }

    /// The store in numbers.
    ///
    /// # Errors
    /// As every call.
    pub async fn store_stats(&self) -> Result<StoreStats> {
        self.inner.backend.upkeep.store_stats().await
    }

    /// The version of the stored shape.
    ///
    /// # Errors
    /// As every call.
    pub async fn schema(&self) -> Result<SchemaInfo> {
        self.inner.backend.meta.schema().await
    }

    /// The fingerprint of the analyser that the keyword index was made with; `None` also where the
    /// store has no keyword index.
    ///
    /// # Errors
    /// As every call.
    pub async fn analyser(&self) -> Result<Option<String>> {
        self.inner.backend.meta.analyser().await
    }

    /// What the store of record can do.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.inner.backend.records.capabilities()
    }

    /// The change log of every tenant; calls take a [`Admin::context`].
    ///
    /// # Errors
    /// `Unsupported`: the store keeps none as it was opened.
    pub fn changes(&self) -> Result<Arc<dyn ChangeLog>> {
        self.inner.backend.changes.clone().ok_or_else(|| {
            let backend = self.inner.backend.records.capabilities().backend;
            Error::unsupported(format!(
                "`{backend}` keeps no change log as it was opened; see the settings of the store"
            ))
            .with_operation("changes")
        })
    }

    /// Leases and write fences of every tenant; calls take a [`Admin::context`].
    #[must_use]
    pub fn leases(&self) -> Arc<dyn LeaseStore> {
        self.inner.backend.leases.clone()
    }

    /// What the store knows about itself and its tenants.
    #[must_use]
    pub fn meta(&self) -> Arc<dyn StoreMeta> {
        self.inner.backend.meta.clone()
    }

    /// A context for calls of one tenant's change log, leases and spaces.
    #[must_use]
    pub fn context(&self, tenant: TenantId) -> CallContext {
        CallContext::new(tenant)
    }

    /// As [`Memory::close`](crate::Memory::close).
    ///
    /// # Errors
    /// What the last flush met; it is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

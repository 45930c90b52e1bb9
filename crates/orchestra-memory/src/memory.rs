//! The handle of an open memory.

use std::fmt;
use std::sync::Arc;

use memory_core::{Clock, Health, IdSource, Result, TenantId};
use memory_search::Searcher;

use crate::admin::Admin;
use crate::backend::Backend;
use crate::builder::MemoryBuilder;
use crate::ledger::{UsageLedger, UsageReport};
use crate::settings::Settings;
use crate::space_cache::SpaceCache;
use crate::tenant::TenantMemory;

/// An open memory. Cloning is cheap; clones are the same memory.
///
/// It reads and writes nothing itself: [`Memory::tenant`] gives the object that does. When the
/// last handle (of this type, [`TenantMemory`] or [`Admin`]) is dropped, the store ends without
/// waiting; [`Memory::close`] waits for what was queued.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

/// What every handle shares.
pub(crate) struct Inner {
    pub(crate) backend: Backend,
    pub(crate) searcher: Searcher,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) spaces: SpaceCache,
    usage: Arc<UsageLedger>,
}

impl Memory {
    /// Opens a store with default settings: `sqlite:PATH`, `sqlite:PATH?mode=ro` or `memory:`.
    ///
    /// # Errors
    /// As [`MemoryBuilder::open`].
    pub async fn open(url: &str) -> Result<Self> {
        Self::builder().url(url).open().await
    }

    /// A builder, for settings and components of the caller's own.
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::new()
    }

    pub(crate) fn compose(
        backend: Backend,
        settings: Arc<Settings>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        usage: Arc<UsageLedger>,
    ) -> Result<Self> {
        let searcher = Searcher::new(
            backend.records.clone(),
            Some(backend.vectors.clone()),
            Some(backend.keywords.clone()),
        )
        .with_settings(settings.search)?;
        let spaces = SpaceCache::default();
        let inner = Inner { backend, searcher, settings, clock, ids, spaces, usage };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The handle of a tenant: the only object that reads or writes. Tenants need not be made
    /// before; one exists from its first memory on.
    ///
    /// # Errors
    /// `InvalidInput`: no tenant can have this name.
    pub fn tenant(&self, name: impl AsRef<str>) -> Result<TenantMemory> {
        Ok(TenantMemory::new(self.inner.clone(), TenantId::new(name)?))
    }

    /// The handle of the settings' tenant, which is `default` unless set.
    #[must_use]
    pub fn default_tenant(&self) -> TenantMemory {
        TenantMemory::new(self.inner.clone(), self.inner.settings.tenant.clone())
    }

    /// The operator's handle: it sees every tenant.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.inner.clone())
    }

    /// The settings that it was opened with.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// How it is: the worst of its parts, with reasons. Never fails: what cannot be reached is
    /// unhealthy.
    pub async fn health(&self) -> Health {
        self.inner.backend.health().await
    }

    /// What its operations cost the back end since it was opened.
    #[must_use]
    pub fn usage(&self) -> UsageReport {
        self.inner.usage.report()
    }

    /// Refuses new calls, finishes what was queued, and lets go of files and connections. Other
    /// handles of this memory get `Unavailable` from then on. Idempotent.
    ///
    /// # Errors
    /// What the last flush met; it is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.backend.close().await
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

//! The handle of an open memory.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join;
use memory_core::{Clock, Health, IdSource, Result, TenantId};
use memory_search::Searcher;

use crate::admin::Admin;
use crate::backend::{Apart, Backend};
use crate::builder::MemoryBuilder;
use crate::embedding::{Background, EmbedderInfo, Embedding, EmbeddingState, Ender};
use crate::lacking::Lacking;
use crate::layers::{Layers, LayersReport};
use crate::ledger::{UsageLedger, UsageReport};
use crate::settings::Settings;
use crate::space_cache::SpaceCache;
use crate::tenant::TenantMemory;

/// An open memory. Cloning is cheap; clones are the same memory.
///
/// It reads and writes nothing itself: [`Memory::tenant`] gives the object that does. When the
/// last handle (of this type, [`TenantMemory`] or [`Admin`]) is dropped, the store ends without
/// waiting, and the thread that makes vectors in the background with it; [`Memory::close`] waits
/// for what was queued.
#[derive(Clone)]
pub struct Memory {
    inner: Held,
}

/// A handle's hold on what all of them share. With the last hold of a caller's handle the
/// background ends, in the middle of a step if need be, for its own hold is none of those.
#[derive(Clone)]
pub(crate) struct Held {
    inner: Arc<Inner>,
    _caller: Option<Arc<Ender>>,
}

impl Held {
    /// The first one of a caller.
    fn first(inner: Arc<Inner>) -> Self {
        let ender = Arc::new(inner.background.ender());
        Self { inner, _caller: Some(ender) }
    }

    /// That of the background.
    pub(crate) fn of_background(inner: Arc<Inner>) -> Self {
        Self { inner, _caller: None }
    }
}

impl Deref for Held {
    type Target = Arc<Inner>;

    fn deref(&self) -> &Arc<Inner> {
        &self.inner
    }
}

/// What every handle shares.
pub(crate) struct Inner {
    /// Behind its layers.
    pub(crate) backend: Backend,
    apart: Apart,
    pub(crate) layers: Layers,
    pub(crate) searcher: Searcher,
    pub(crate) settings: Arc<Settings>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    pub(crate) spaces: SpaceCache,
    pub(crate) lacking: Lacking,
    pub(crate) embedding: Embedding,
    pub(crate) background: Background,
    /// Whether the store bills what it reads.
    pub(crate) bills: bool,
    usage: Arc<UsageLedger>,
}

impl Inner {
    /// Closes what there is. New calls are refused from the first poll on, those of the
    /// background among them; what was queued is done, and then the store lets go.
    pub(crate) async fn close(&self) -> Result<()> {
        self.embedding.close();
        let (closed, ()) = join(self.backend.close(self.apart), self.background.stop()).await;
        closed
    }
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
        layers: Layers,
        settings: Arc<Settings>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
        usage: Arc<UsageLedger>,
        embedding: Embedding,
    ) -> Result<Self> {
        let apart = backend.apart();
        let backend = layers.backend.backend(backend);
        let searcher = Searcher::new(
            backend.records.clone(),
            Some(backend.vectors.clone()),
            backend.keywords.clone(),
        )
        .with_settings(settings.search)?;
        let spaces = SpaceCache::default();
        let lacking = Lacking::default();
        let background = Background::new();
        let bills = crate::ledger::bills(backend.records.capabilities().backend);
        let inner = Inner {
            backend,
            apart,
            layers,
            searcher,
            settings,
            clock,
            ids,
            spaces,
            lacking,
            embedding,
            background,
            bills,
            usage,
        };
        Ok(Self { inner: Held::first(Arc::new(inner)) })
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
    /// unhealthy. What is wrong with an embedder that was asked for makes it degraded, for what is
    /// stored can be read and searched by words all the same.
    pub async fn health(&self) -> Health {
        let mut health = self.inner.backend.health(self.inner.apart).await;
        self.inner.embedding.lower(&mut health).await;
        health
    }

    /// What the layers around back end and embedder have counted since it was opened.
    #[must_use]
    pub fn layers(&self) -> LayersReport {
        self.inner.layers.report()
    }

    /// Whether the store has a keyword index. Where it has none, search is by meaning alone.
    #[must_use]
    pub fn has_keyword_index(&self) -> bool {
        self.inner.backend.keywords.is_some()
    }

    /// The embedder; `None` if there is none, which [`Memory::embedding_state`] explains.
    #[must_use]
    pub fn embedder(&self) -> Option<EmbedderInfo> {
        self.inner.embedding.info()
    }

    /// How it embeds, how the embedder is, and how that goes; or why there is no embedder.
    pub async fn embedding_state(&self) -> EmbeddingState {
        self.inner.embedding.state(self.inner.background.waiting()).await
    }

    /// Waits until the background has made every vector that it knows to be missing, `most` at
    /// the longest. Returns at once where vectors are not made in the background.
    ///
    /// What failed for good is not waited for: [`Memory::embedding_state`] shows it.
    ///
    /// # Errors
    /// `Timeout`: something is left to do. `Unavailable`: the memory is closed.
    ///
    /// # Cancellation
    /// Dropping the future ends the wait; the background goes on.
    pub async fn embedding_idle(&self, most: Duration) -> Result<()> {
        self.inner.background.idle(most).await
    }

    /// What its operations cost the back end since it was opened.
    #[must_use]
    pub fn usage(&self) -> UsageReport {
        self.inner.usage.report()
    }

    /// Refuses new calls, finishes what was queued, and lets go of files and connections. Other
    /// handles of this memory get `Unavailable` from then on. Vectors that the background has not
    /// made yet stay missing until the next process makes them. Idempotent.
    ///
    /// # Errors
    /// What the last flush met; it is closed all the same.
    pub async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

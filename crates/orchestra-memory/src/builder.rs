//! The builder: settings are data, components are injected, and any can be replaced.

use std::fmt;
use std::sync::Arc;

use memory_core::traits::{Cache, Embedder, Ledger};
use memory_core::{Clock, Error, ErrorKind, IdSource, RandomIds, Result, SystemClock, Timer};
use memory_layers::{Layer, SharedRecorder, TelemetryLedger};

use crate::backend::Backend;
use crate::embedding::Embedding;
use crate::layers::{Composer, Layers};
use crate::ledger::UsageLedger;
use crate::memory::Memory;
use crate::registry::{OpenRequest, Registry};
use crate::settings::Settings;
use crate::url::StoreUrl;

/// Builds a [`Memory`]. What is not set has its default.
#[derive(Debug, Default)]
#[must_use]
pub struct MemoryBuilder {
    settings: Settings,
    url: Option<String>,
    backend: Option<Backend>,
    registry: Option<Registry>,
    clock: Option<Arc<dyn Clock>>,
    ids: Option<Arc<dyn IdSource>>,
    ledger: Option<Arc<dyn Ledger>>,
    usage: Option<Arc<UsageLedger>>,
    embedder: Option<Arc<dyn Embedder>>,
    cache: Option<Arc<dyn Cache>>,
    timer: Option<Arc<dyn Timer>>,
    layers: Vec<Arc<dyn Layer>>,
    recorder: Recorder,
}

/// What figures are written to; it has no `Debug` of its own.
#[derive(Default)]
struct Recorder(Option<SharedRecorder>);

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.0.is_some()).finish()
    }
}

impl MemoryBuilder {
    /// A builder with every default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the settings.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets the store's URL, in place of the settings' own.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }

    /// Sets a back end that is open already; no URL may be set then.
    pub fn backend(mut self, backend: Backend) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Sets which schemes are opened by which factories; those of the build unless set.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Sets the embedder, in place of the one that the settings name: their `provider`, `model`,
    /// `revision`, `dimensions` and `metric` count for nothing then. What it made is kept by
    /// tenant and text as the setting `embedding.cache_entries` says, if a provider was compiled
    /// in.
    pub fn embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.embedder = Some(embedder);
        self
    }

    /// Sets a cache before the store; the settings may name none then. What is kept, and for how
    /// long, says `[layers.cache]`. The cache's keys name tenants and not the store, so that two
    /// stores need two caches, or two prefixes of one. It is closed with the memory.
    ///
    /// Whoever writes to the store has to tell the same cache: a process without it leaves old
    /// values there, for `max_stale_ms` at the longest.
    pub fn cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Sets the clock; the machine's unless set. A back end that is handed in has its own, which
    /// should be the same.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Sets what the layers wait with, between attempts and for deadlines; it has to go by the
    /// clock. Unless set, a back end that is a service is waited for in the tokio runtime that it
    /// is opened in, and all else on a thread of the memory's own, which needs no runtime.
    pub fn timer(mut self, timer: Arc<dyn Timer>) -> Self {
        self.timer = Some(timer);
        self
    }

    /// Sets what the figures of calls, and of what they cost a back end that is opened from a URL,
    /// are written to, such as [`memory_layers`]'s exporters; unless set, nothing. Spans go to
    /// whatever subscriber of `tracing` is in force.
    pub fn recorder(mut self, recorder: SharedRecorder) -> Self {
        self.recorder = Recorder(Some(recorder));
        self
    }

    /// Adds a layer of the caller's own around back end and embedder, outside of those of the
    /// settings; the first that is added is outermost. To replace one of those, switch it off in
    /// the settings ([`LayersSettings::apply`](memory_layers::LayersSettings)) and add what stands
    /// in its place.
    pub fn layer(mut self, layer: Arc<dyn Layer>) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets the source of ids; random ones unless set.
    pub fn ids(mut self, ids: Arc<dyn IdSource>) -> Self {
        self.ids = Some(ids);
        self
    }

    /// Sets a ledger that gets every entry beside [`Memory::usage`].
    pub fn ledger(mut self, ledger: Arc<dyn Ledger>) -> Self {
        self.ledger = Some(ledger);
        self
    }

    /// Sets the book that [`Memory::usage`] reads. For a back end that is handed in and was opened
    /// with this book as its ledger; without it, its usage shows nothing. Prices and budgets are
    /// the book's own, from [`UsageLedger::with_cost`].
    pub fn usage(mut self, usage: Arc<UsageLedger>) -> Self {
        self.usage = Some(usage);
        self
    }

    /// Opens the memory.
    ///
    /// # Errors
    /// `Config`: a setting out of its range, no store, two of them, or a URL that is malformed or
    /// of an unknown scheme; a cache beside one of the settings; an embedding space with more dimensions than the store keeps; budgets
    /// in the settings that differ from those of the caller's own book of usage, or that a back
    /// end of the caller's own, without such a book, would not know of. `Unsupported`: a back end
    /// or an embedding provider that was not compiled in, or a back end whose indexes stand apart
    /// from its records. `NotFound`, `Corrupt`: the local model was asked for, and its files are
    /// not there or not whole.
    /// Otherwise what the back end met: nothing else is opened in its place.
    ///
    /// # Cancellation
    /// A future that is dropped leaves nothing open.
    pub async fn open(self) -> Result<Memory> {
        self.settings.validate()?;
        if self.usage.is_some() && self.ledger.is_some() {
            return Err(config("set a ledger or a book of usage, not both"));
        }
        if self.cache.is_some() && self.settings.cache.is_some() {
            return Err(config(
                "the settings have a cache, and one of the caller's own is set, too",
            ));
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let cost = &self.settings.cost;
        let priced = |book: UsageLedger| Arc::new(book.with_cost(cost.clone(), clock.clone()));
        let usage = match (self.usage, self.ledger) {
            (Some(usage), _) if cost.has_budget() && !usage.has_budgets_of(cost) => {
                return Err(config(
                    "the settings have budgets, and the book of usage is the caller's own and has \
                     other ones or none: give it the section `cost` of the settings with \
                     `UsageLedger::with_cost`",
                ));
            }
            (None, _) if cost.has_budget() && self.backend.is_some() => {
                return Err(config(
                    "the settings have budgets, and the back end is the caller's own: open it with \
                     a book of usage that has them (`UsageLedger::with_cost`) as its ledger, and \
                     set that book with `usage`",
                ));
            }
            (Some(usage), _) => usage,
            (None, Some(ledger)) => priced(UsageLedger::passing_on_to(ledger)),
            (None, None) => priced(UsageLedger::new()),
        };
        let ids = self.ids.unwrap_or_else(|| Arc::new(RandomIds));
        let settings = Arc::new(self.settings);
        let composer = Composer {
            settings: &settings.layers,
            clock: clock.clone(),
            ids: ids.clone(),
            timer: self.timer,
            recorder: self.recorder.0.clone(),
            own: self.layers,
        };
        let (embedding, around_embedder) =
            Embedding::open(&settings.embedding, self.embedder, &composer)?;
        let ledger: Arc<dyn Ledger> = match self.recorder.0 {
            Some(recorder) => Arc::new(TelemetryLedger::new(recorder, usage.clone())),
            None => usage.clone(),
        };
        #[cfg(feature = "local")]
        let handed_in = self.backend.is_some();
        let url = self.url.as_ref().or(settings.store.as_ref());
        let backend = match (self.backend, url) {
            (Some(_), Some(_)) => {
                return Err(config(
                    "a store's URL and a back end of the caller's own are both set",
                ));
            }
            (None, None) => {
                return Err(config("no store is set: give a URL such as `sqlite:memory.db`"));
            }
            (Some(backend), None) => backend,
            (None, Some(url)) => {
                let request = OpenRequest {
                    url: StoreUrl::parse(url)?,
                    settings: settings.clone(),
                    clock: clock.clone(),
                    ledger: ledger.clone(),
                };
                self.registry.unwrap_or_else(Registry::standard).open(&request).await?
            }
        };
        #[cfg(feature = "local")]
        let backend =
            crate::indexes::composed(backend, handed_in, &settings.indexes, clock.clone())?;
        backend.check()?;
        embedding.space().map_or(Ok(()), |space| backend.check_space(space))?;
        let cache = match (self.cache, &settings.cache) {
            (None, Some(url)) => {
                Some(crate::cache::open(url, &*backend.meta, clock.clone(), ledger).await?)
            }
            (cache, _) => cache,
        };
        let layers =
            Layers { backend: composer.backend(&backend, cache)?, embedder: around_embedder };
        Memory::compose(backend, layers, settings.clone(), clock, ids, usage, embedding)
    }
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("open")
}

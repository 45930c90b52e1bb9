//! The layers in their order, around every part of a back end.

use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    BulkWriter, ChangeLog, DocumentSource, Embedder, KeywordIndex, LeaseStore, RecordStore,
    StoreMeta, StoreUpkeep, TenantDirectory, VectorIndex,
};
use memory_core::{Clock, IdSource, Result, Timer};

use crate::cache::{CacheCounts, CacheLayer};
use crate::guard::{GuardCounts, TenantGuardLayer};
use crate::layer::Layer;
use crate::limit::{ConcurrencyLimitLayer, LimitStats};
use crate::retry::{RetryCounts, RetryLayer};
use crate::settings::LayersSettings;
use crate::telemetry::{Scope, SharedRecorder, TelemetryLayer};
use crate::timeout::TimeoutLayer;

/// The layers in their order, as one.
///
/// Outside in: telemetry of the call, tenant guard, a cache if there is one, timeout of the call,
/// retry, concurrency limit, telemetry of the attempt, timeout of the attempt. So what the guard
/// refuses is seen, what the cache has is judged by the guard and costs nothing within, the wait
/// between two attempts holds no permit, and each attempt is measured and bounded by itself.
///
/// What walks through a whole store (upkeep, and the bulk writer, which goes at a back end's own
/// pace) gets no timeouts: it takes as long as there is data. Clones share all state; a stack
/// belongs to one back end or one embedder, for its limit is that of one server.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Outside in.
    layers: Vec<Placed>,
    /// Where a cache stands: behind so many layers.
    cache_at: usize,
    guard: TenantGuardLayer,
    cache: Option<CacheLayer>,
    retry: Option<RetryLayer>,
    limit: Option<ConcurrencyLimitLayer>,
}

#[derive(Clone, Debug)]
struct Placed {
    layer: Arc<dyn Layer>,
    bounds_time: bool,
}

/// What the layers of a stack have counted since it was made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StackStats {
    /// The tenant guard.
    pub guard: GuardCounts,
    /// The cache; `None` where the stack has none.
    pub cache: Option<CacheCounts>,
    /// Retries; `None` where the stack has none.
    pub retry: Option<RetryCounts>,
    /// The concurrency limit; `None` where the stack has none.
    pub limit: Option<LimitStats>,
}

/// What waits and draws, for a stack with retries.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Waits, at the clock's pace.
    pub timer: Arc<dyn Timer>,
    /// The jitter of waits comes from its random bits.
    pub ids: Arc<dyn IdSource>,
}

impl Stack {
    /// For what is embedded: telemetry and tenant guard. It needs no timer and no runtime.
    ///
    /// Figures go to the recorder; without one there are spans alone.
    #[must_use]
    pub fn embedded(
        settings: &LayersSettings,
        clock: Arc<dyn Clock>,
        recorder: Option<SharedRecorder>,
    ) -> Self {
        Self::outer(settings, clock, recorder.unwrap_or_else(silent), None)
    }

    /// Telemetry of the call, which tells of a limit as well, and the tenant guard.
    fn outer(
        settings: &LayersSettings,
        clock: Arc<dyn Clock>,
        recorder: SharedRecorder,
        limit: Option<ConcurrencyLimitLayer>,
    ) -> Self {
        let telemetry =
            TelemetryLayer::new(settings.telemetry, recorder, Arc::clone(&clock), Scope::Call);
        let telemetry = match &limit {
            Some(limit) => telemetry.with_limit(limit.clone()),
            None => telemetry,
        };
        let guard = TenantGuardLayer::new(settings.guard.clone(), clock);
        let mut stack = Self {
            layers: Vec::new(),
            cache_at: 0,
            guard: guard.clone(),
            cache: None,
            retry: None,
            limit,
        };
        stack.push(telemetry, false);
        stack.push(guard, false);
        stack.cache_at = stack.layers.len();
        stack
    }

    /// For a back end that is a service: all layers.
    ///
    /// # Errors
    /// `Config`: a value out of its range.
    pub fn remote(
        settings: &LayersSettings,
        clock: Arc<dyn Clock>,
        waiting: &Waiting,
        recorder: Option<SharedRecorder>,
    ) -> Result<Self> {
        let timeout = settings.timeout;
        Self::full(settings, clock, waiting, recorder, [timeout.call(), timeout.attempt()])
    }

    /// For an embedder that is a server: all layers. How long a request may take is the embedder's
    /// own setting, for models differ by orders of magnitude; the timeouts hold it to the caller's
    /// deadline alone.
    ///
    /// # Errors
    /// `Config`: a value out of its range.
    pub fn remote_embedder(
        settings: &LayersSettings,
        clock: Arc<dyn Clock>,
        waiting: &Waiting,
        recorder: Option<SharedRecorder>,
    ) -> Result<Self> {
        Self::full(settings, clock, waiting, recorder, [Duration::ZERO; 2])
    }

    fn full(
        settings: &LayersSettings,
        clock: Arc<dyn Clock>,
        waiting: &Waiting,
        recorder: Option<SharedRecorder>,
        [call, attempt]: [Duration; 2],
    ) -> Result<Self> {
        let timer = || Arc::clone(&waiting.timer);
        let retry =
            RetryLayer::new(settings.retry, Arc::clone(&clock), timer(), Arc::clone(&waiting.ids))?;
        let limit =
            ConcurrencyLimitLayer::new(settings.limit.clone(), Arc::clone(&clock), timer())?;
        let recorder = recorder.unwrap_or_else(silent);
        let attempts = TelemetryLayer::new(
            settings.telemetry,
            Arc::clone(&recorder),
            Arc::clone(&clock),
            Scope::Attempt,
        );
        let mut stack = Self::outer(settings, Arc::clone(&clock), recorder, Some(limit.clone()));
        stack.push(TimeoutLayer::new(call, Arc::clone(&clock), timer()), true);
        stack.push(retry.clone(), false);
        stack.push(limit, false);
        stack.push(attempts, false);
        stack.push(TimeoutLayer::new(attempt, clock, timer()), true);
        stack.retry = Some(retry);
        Ok(stack)
    }

    /// Puts a layer outside of all others.
    #[must_use]
    pub fn within(mut self, layer: Arc<dyn Layer>) -> Self {
        self.layers.insert(0, Placed { layer, bounds_time: false });
        self.cache_at += 1;
        self
    }

    /// Puts a cache between the tenant guard and the timeout of the call, in the place of the one
    /// that was there, if any. It belongs to the store that the stack stands around.
    #[must_use]
    pub fn with_cache(mut self, cache: CacheLayer) -> Self {
        let placed = Placed { layer: Arc::new(cache.clone()), bounds_time: false };
        if self.cache.replace(cache).is_some() {
            self.layers[self.cache_at] = placed;
        } else {
            self.layers.insert(self.cache_at, placed);
        }
        self
    }

    /// Whether it sends calls again: then nobody outside of it should.
    #[must_use]
    pub fn retries(&self) -> bool {
        self.retry.is_some()
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> StackStats {
        StackStats {
            guard: self.guard.counts(),
            cache: self.cache.as_ref().map(CacheLayer::counts),
            retry: self.retry.as_ref().map(RetryLayer::counts),
            limit: self.limit.as_ref().map(ConcurrencyLimitLayer::stats),
        }
    }

    /// Adds a layer inside of all others.
    fn push(&mut self, layer: impl Layer + 'static, bounds_time: bool) {
        self.layers.push(Placed { layer: Arc::new(layer), bounds_time });
    }

    fn around<T: ?Sized>(
        &self,
        part: Arc<T>,
        put: impl Fn(&dyn Layer, Arc<T>) -> Arc<T>,
    ) -> Arc<T> {
        self.layers.iter().rev().fold(part, |part, placed| put(&*placed.layer, part))
    }

    /// As [`Stack::around`], for what takes as long as there is data.
    fn around_long<T: ?Sized>(
        &self,
        part: Arc<T>,
        put: impl Fn(&dyn Layer, Arc<T>) -> Arc<T>,
    ) -> Arc<T> {
        let layers = self.layers.iter().rev().filter(|placed| !placed.bounds_time);
        layers.fold(part, |part, placed| put(&*placed.layer, part))
    }
}

/// A recorder that keeps nothing.
fn silent() -> SharedRecorder {
    Arc::new(metrics::NoopRecorder)
}

impl Layer for Stack {
    fn records(&self, inner: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        self.around(inner, |layer, part| layer.records(part))
    }
    fn vectors(&self, inner: Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex> {
        self.around(inner, |layer, part| layer.vectors(part))
    }
    fn keywords(&self, inner: Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex> {
        self.around(inner, |layer, part| layer.keywords(part))
    }
    fn changes(&self, inner: Arc<dyn ChangeLog>, backend: &'static str) -> Arc<dyn ChangeLog> {
        self.around(inner, |layer, part| layer.changes(part, backend))
    }
    fn bulk(&self, inner: Arc<dyn BulkWriter>, backend: &'static str) -> Arc<dyn BulkWriter> {
        self.around_long(inner, |layer, part| layer.bulk(part, backend))
    }
    fn tenants(
        &self,
        inner: Arc<dyn TenantDirectory>,
        backend: &'static str,
    ) -> Arc<dyn TenantDirectory> {
        self.around(inner, |layer, part| layer.tenants(part, backend))
    }
    fn meta(&self, inner: Arc<dyn StoreMeta>, backend: &'static str) -> Arc<dyn StoreMeta> {
        self.around(inner, |layer, part| layer.meta(part, backend))
    }
    fn leases(&self, inner: Arc<dyn LeaseStore>, backend: &'static str) -> Arc<dyn LeaseStore> {
        self.around(inner, |layer, part| layer.leases(part, backend))
    }
    fn upkeep(&self, inner: Arc<dyn StoreUpkeep>, backend: &'static str) -> Arc<dyn StoreUpkeep> {
        self.around_long(inner, |layer, part| layer.upkeep(part, backend))
    }
    fn embedder(&self, inner: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        self.around(inner, |layer, part| layer.embedder(part))
    }
    fn source(
        &self,
        inner: Arc<dyn DocumentSource>,
        backend: &'static str,
    ) -> Arc<dyn DocumentSource> {
        self.around(inner, |layer, part| layer.source(part, backend))
    }
}

//! Which layers stand around back end and embedder, and what they have counted.

use std::sync::Arc;

use memory_core::traits::{Cache, Embedder};
use memory_core::{Clock, Durability, IdSource, Result, Timer};
use memory_layers::{
    ApplyLayers, CacheCounts, CacheLayer, Layer, LayersSettings, SharedRecorder, Stack, StackStats,
    TokioTimer, Waiting,
};

use crate::backend::Backend;
use crate::embedding::EmbedderSource;
use crate::timer::ThreadTimer;

/// Back ends that are servers whatever they promise, by the names in their capabilities: what Redis
/// keeps is its configuration's to say.
const SERVICES: [&str; 1] = ["redis"];

/// What layers are made with, and the caller's own.
pub(crate) struct Composer<'a> {
    pub(crate) settings: &'a LayersSettings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn IdSource>,
    /// The caller's own.
    pub(crate) timer: Option<Arc<dyn Timer>>,
    /// The caller's own.
    pub(crate) recorder: Option<SharedRecorder>,
    /// The caller's own, outside in.
    pub(crate) own: Vec<Arc<dyn Layer>>,
}

/// What the layers have counted since the memory was opened.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayersReport {
    /// Around the back end; `None` where there are none.
    pub backend: Option<StackStats>,
    /// Around the embedder; `None` where there are none.
    pub embedder: Option<StackStats>,
    /// The cache before the back end; `None` where there is none.
    pub cache: Option<CacheCounts>,
}

/// The layers of a memory.
#[derive(Clone, Debug)]
pub(crate) struct Layers {
    pub(crate) backend: Around,
    pub(crate) embedder: Around,
}

impl Layers {
    pub(crate) fn report(&self) -> LayersReport {
        LayersReport {
            backend: self.backend.stats(),
            embedder: self.embedder.stats(),
            cache: self.backend.cache.as_ref().map(CacheLayer::counts),
        }
    }
}

/// Layers around one thing: the caller's own, and within them the stack.
#[derive(Clone, Debug, Default)]
pub(crate) struct Around {
    own: Vec<Arc<dyn Layer>>,
    stack: Option<Stack>,
    /// In its place in the stack, where there is one; alone, where the settings want no stack.
    cache: Option<CacheLayer>,
}

impl Composer<'_> {
    /// The layers of a back end, and a cache among them.
    ///
    /// # Errors
    /// `Config`: a setting out of its range. `Unavailable`: no thread can be started to wait on.
    pub(crate) fn backend(
        &self,
        backend: &Backend,
        cache: Option<Arc<dyn Cache>>,
    ) -> Result<Around> {
        let capabilities = backend.records.capabilities();
        let promises = matches!(capabilities.durability, Durability::Service(_));
        let service = promises || SERVICES.contains(&capabilities.backend);
        let (clock, recorder) = (self.clock.clone(), self.recorder.clone());
        let cache = match cache {
            None => None,
            Some(cache) => {
                let timer = self.waiting(true)?.timer;
                let (settings, recorder) = (self.settings.cache, recorder.clone());
                Some(CacheLayer::new(settings, cache, clock.clone(), timer, recorder)?)
            }
        };
        let stack = match (self.settings.apply, service) {
            (ApplyLayers::None, _) => None,
            (ApplyLayers::All, _) | (_, true) => {
                let waiting = self.waiting(service)?;
                Some(Stack::remote(self.settings, clock, &waiting, recorder)?)
            }
            _ => Some(Stack::embedded(self.settings, clock, recorder)),
        };
        let stack = match (stack, &cache) {
            (Some(stack), Some(cache)) => Some(stack.with_cache(cache.clone())),
            (stack, _) => stack,
        };
        Ok(Around { own: self.own.clone(), stack, cache })
    }

    /// The layers of an embedder.
    ///
    /// # Errors
    /// As [`Composer::backend`].
    pub(crate) fn embedder(&self, source: EmbedderSource) -> Result<Around> {
        let (clock, recorder) = (self.clock.clone(), self.recorder.clone());
        let stack = match (self.settings.apply, source) {
            (ApplyLayers::None, _) => None,
            (ApplyLayers::All, _) | (_, EmbedderSource::Http) => {
                let waiting = self.waiting(false)?;
                Some(Stack::remote_embedder(self.settings, clock, &waiting, recorder)?)
            }
            _ => Some(Stack::embedded(self.settings, clock, recorder)),
        };
        Ok(Around { own: self.own.clone(), stack, cache: None })
    }

    /// What waits. The calls of a service are made within the runtime that it was opened in; all
    /// others may be made from anywhere.
    fn waiting(&self, within_runtime: bool) -> Result<Waiting> {
        let timer: Arc<dyn Timer> = match &self.timer {
            Some(timer) => timer.clone(),
            None if within_runtime && tokio::runtime::Handle::try_current().is_ok() => {
                Arc::new(TokioTimer)
            }
            None => Arc::new(ThreadTimer::new()?),
        };
        Ok(Waiting { timer, ids: self.ids.clone() })
    }
}

impl Around {
    fn layers(&self) -> impl Iterator<Item = &dyn Layer> {
        let own = self.own.iter().rev().map(|layer| &**layer);
        let alone = self.cache.iter().filter(|_| self.stack.is_none());
        let alone = alone.map(|cache| -> &dyn Layer { cache });
        alone.chain(self.stack.iter().map(|stack| -> &dyn Layer { stack })).chain(own)
    }

    /// Puts them around a back end.
    pub(crate) fn backend(&self, backend: Backend) -> Backend {
        self.layers().fold(backend, |backend, layer| backend.layered(layer))
    }

    /// Puts them around an embedder.
    pub(crate) fn embedder(&self, embedder: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        self.layers().fold(embedder, |embedder, layer| layer.embedder(embedder))
    }

    /// Whether calls are sent again within.
    pub(crate) fn retries(&self) -> bool {
        self.stack.as_ref().is_some_and(Stack::retries)
    }

    fn stats(&self) -> Option<StackStats> {
        self.stack.as_ref().map(Stack::stats)
    }
}

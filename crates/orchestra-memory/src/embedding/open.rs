//! An embedder from settings. The only file that names concrete embedders.

use std::sync::Arc;

use memory_core::traits::Embedder;
use memory_core::{Clock, Result, TenantId};

use super::EmbedderSource;
#[cfg(not(all(feature = "minilm", feature = "http")))]
use crate::registry::not_compiled;
use crate::settings::{EmbeddingSettings, Provider};

/// What there is.
pub(super) enum Found {
    Embedder(Arc<dyn Embedder>, EmbedderSource),
    /// Nothing: why, and what to do about it.
    Nothing(String),
}

/// Opens what the settings name.
///
/// # Errors
/// As [`super::Embedding::open`].
pub(super) fn find(settings: &EmbeddingSettings, clock: &Arc<dyn Clock>) -> Result<Found> {
    match settings.chosen_provider() {
        Provider::None if settings.model.is_some() => Ok(Found::Nothing(
            "the settings say what the callers' vectors are (`embedding.model`), so that callers \
             supply them"
                .to_owned(),
        )),
        Provider::None => {
            Ok(Found::Nothing("the setting `embedding.provider` is `none`".to_owned()))
        }
        Provider::Auto => auto(settings, clock),
        Provider::MiniLm => Ok(Found::Embedder(minilm(settings, clock)?, EmbedderSource::MiniLm)),
        Provider::Http => Ok(Found::Embedder(http(settings, clock)?, EmbedderSource::Http)),
    }
}

/// Drops what is kept of a tenant's texts.
pub(super) type Forget = Box<dyn Fn(&TenantId) + Send + Sync>;

/// Keeps vectors by tenant and text, where the build has what it takes.
#[cfg(any(feature = "minilm", feature = "http"))]
pub(super) fn cached(embedder: Arc<dyn Embedder>, entries: usize) -> (Arc<dyn Embedder>, Forget) {
    if entries == 0 {
        return (embedder, Box::new(|_| {}));
    }
    let cache = Arc::new(memory_embed::CachedEmbedder::new(embedder, entries));
    (cache.clone(), Box::new(move |tenant| cache.forget(tenant)))
}

#[cfg(not(any(feature = "minilm", feature = "http")))]
pub(super) fn cached(embedder: Arc<dyn Embedder>, _entries: usize) -> (Arc<dyn Embedder>, Forget) {
    (embedder, Box::new(|_| {}))
}

#[cfg(feature = "minilm")]
mod local {
    use std::path::PathBuf;
    use std::sync::Arc;

    use memory_core::traits::Embedder;
    use memory_core::{Clock, Error, ErrorKind, Result};
    use memory_embed::minilm::{MiniLm, MiniLmOptions};
    use memory_embed::model::{Check, FileState, MINILM, default_folder, status};

    use super::Found;
    use crate::embedding::EmbedderSource;
    use crate::settings::EmbeddingSettings;

    const NO_FOLDER: &str =
        "this machine has no cache folder; set `embedding.minilm.folder` to that of the model";

    fn folder(settings: &EmbeddingSettings) -> Option<PathBuf> {
        settings.minilm.folder.clone().or_else(default_folder)
    }

    /// The model, if each of its files is there. One that is there and broken is an error, for
    /// somebody wants it.
    pub(super) fn auto(settings: &EmbeddingSettings, clock: &Arc<dyn Clock>) -> Result<Found> {
        let Some(folder) = folder(settings) else {
            return Ok(Found::Nothing(NO_FOLDER.to_owned()));
        };
        let files = status(&MINILM, &folder, Check::Sizes).files;
        if files.iter().any(|file| file.state == FileState::Missing) {
            return Ok(Found::Nothing("`orchestra-memory model pull` gets one".to_owned()));
        }
        Ok(Found::Embedder(minilm(settings, clock)?, EmbedderSource::Auto))
    }

    pub(super) fn minilm(
        settings: &EmbeddingSettings,
        clock: &Arc<dyn Clock>,
    ) -> Result<Arc<dyn Embedder>> {
        let folder = folder(settings)
            .ok_or_else(|| Error::new(ErrorKind::Config, NO_FOLDER).with_operation("open"))?;
        let mut options = MiniLmOptions::default()
            .with_clock(clock.clone())
            .with_precision(settings.minilm.precision.into());
        if let Some(threads) = settings.minilm.threads {
            options = options.with_threads(threads);
        }
        let model = MiniLm::open(&folder, options).map_err(|error| error.with_operation("open"))?;
        Ok(Arc::new(model))
    }
}

#[cfg(feature = "minilm")]
use local::{auto, minilm};

#[cfg(not(feature = "minilm"))]
fn auto(_: &EmbeddingSettings, _: &Arc<dyn Clock>) -> Result<Found> {
    Ok(Found::Nothing("this build was made without the feature `minilm`".to_owned()))
}

#[cfg(not(feature = "minilm"))]
fn minilm(_: &EmbeddingSettings, _: &Arc<dyn Clock>) -> Result<Arc<dyn Embedder>> {
    Err(not_compiled("the embedding provider `minilm`", "minilm"))
}

#[cfg(feature = "http")]
fn http(settings: &EmbeddingSettings, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Embedder>> {
    use std::time::Duration;

    use memory_core::{Error, ErrorKind};
    use memory_embed::http::{ApiKey, HttpEmbedder, HttpSettings};

    let ours = &settings.http;
    let (Some(url), Some(space)) = (&ours.url, settings.space()?) else {
        // Settings that were checked have both.
        return Err(Error::new(
            ErrorKind::Config,
            "the provider `http` needs `url`, `model` and `dimensions`",
        )
        .with_operation("open"));
    };
    let key = ours.api_key.as_ref().map(|key| ApiKey::new(key.expose())).transpose()?;
    let theirs = HttpSettings::new(url, space.model(), space.dimensions())
        .with_revision(space.revision())
        .with_metric(space.metric())
        .with_timeout(Duration::from_millis(ours.timeout_ms))
        .with_max_batch(ours.max_batch)
        .with_concurrency(ours.concurrency)
        .with_window_bytes(ours.window_bytes)
        .with_query_prefix(ours.query_prefix.as_str())
        .with_document_prefix(ours.document_prefix.as_str())
        .with_send_dimensions(ours.send_dimensions)
        .with_api_key(key);
    let embedder =
        HttpEmbedder::new(theirs, clock.clone()).map_err(|error| error.with_operation("open"))?;
    Ok(Arc::new(embedder))
}

#[cfg(not(feature = "http"))]
fn http(_: &EmbeddingSettings, _: &Arc<dyn Clock>) -> Result<Arc<dyn Embedder>> {
    Err(not_compiled("the embedding provider `http`", "http"))
}

//! Which indexes a store is searched by: its own, or those in this process, over its change log.

use std::sync::Arc;

use memory_core::{Capability, Clock, Error, ErrorKind, Result};
use memory_vector::local::{LocalIndexes, LocalParts, LocalSettings};
use serde::{Deserialize, Serialize};

use crate::backend::Backend;

/// Where an index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum IndexPlace {
    /// The store's own; in this process where a store that is opened from a URL has none and keeps a
    /// change log. Of a back end of the caller's own, the parts that it was handed in with.
    #[default]
    Auto,
    /// The store's own, or none.
    Store,
    /// In this process. The store has to keep a change log.
    Local,
}

/// Which indexes a store is searched by.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct IndexSettings {
    /// That of words.
    pub keywords: IndexPlace,
    /// That of vectors.
    pub vectors: IndexPlace,
    /// Those in this process.
    pub local: LocalSettings,
}

impl IndexSettings {
    pub(crate) fn faults(&self) -> Vec<String> {
        self.local.faults().into_iter().map(|fault| format!("local.{fault}")).collect()
    }
}

/// The back end with the indexes that the settings ask for. `handed_in`: it is the caller's own.
///
/// # Errors
/// `Config`: one is wanted in this process, and the store keeps no change log.
pub(crate) fn composed(
    mut backend: Backend,
    handed_in: bool,
    settings: &IndexSettings,
    clock: Arc<dyn Clock>,
) -> Result<Backend> {
    let name = backend.records.capabilities().backend;
    let has_vectors = backend.vectors.capabilities().has(Capability::VectorSearch);
    let wanted = |place: IndexPlace, has: bool| match place {
        IndexPlace::Auto => !has && !handed_in && backend.changes.is_some(),
        IndexPlace::Store => false,
        IndexPlace::Local => true,
    };
    let keywords = wanted(settings.keywords, backend.keywords.is_some());
    let vectors = wanted(settings.vectors, has_vectors);
    if !keywords && !vectors {
        return Ok(backend);
    }
    let Some(changes) = backend.changes.clone() else {
        return Err(Error::new(
            ErrorKind::Config,
            format!(
                "indexes in this process follow a change log, and `{name}` keeps none here: switch \
                 it on (`firestore.change_log`), or leave the indexes to the store"
            ),
        )
        .with_operation("open"));
    };
    let parts = LocalParts {
        records: backend.records.clone(),
        changes,
        meta: backend.meta.clone(),
        vectors: vectors.then(|| backend.vectors.clone()),
        clock,
    };
    let local = LocalIndexes::new(parts, settings.local.clone())?;
    if keywords {
        backend.keywords = Some(local.clone());
        backend.meta = local.clone();
    }
    if vectors {
        backend.vectors = local;
    }
    Ok(backend)
}

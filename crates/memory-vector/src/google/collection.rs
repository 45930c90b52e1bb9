//! Collections: one a space, made on demand and checked before it is used.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use google_cloud_gax::error::rpc::Code;
use google_cloud_vectorsearch_v1::model::vector_field::VectorTypeConfig;
use google_cloud_vectorsearch_v1::model::{Collection, DenseVectorField, VectorField};
use memory_core::traits::Usage;
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Metric, Result, SpaceId};

use super::error::Effect;
use super::settings::GoogleVectorSettings;
use super::wire::{Call, Wire};
use super::{BACKEND, VECTOR_FIELD, attributes, names};

/// First and longest pause between two looks at a long-running operation.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The collections of the spaces that were found good.
#[derive(Debug, Default)]
pub(crate) struct Collections {
    known: Mutex<BTreeMap<SpaceId, String>>,
}

/// The place that collections are in.
pub(crate) fn parent(settings: &GoogleVectorSettings) -> String {
    format!("projects/{}/locations/{}", settings.project, settings.location)
}

impl Collections {
    /// The name of a space's collection, which is looked at before its first use.
    ///
    /// # Errors
    /// `InvalidInput`: there is none; `Unsupported`: the metric; `Config`: it is made otherwise.
    pub(crate) async fn of(
        &self,
        wire: &Wire,
        settings: &GoogleVectorSettings,
        context: &CallContext,
        space: &EmbeddingSpace,
    ) -> Result<String> {
        check_metric(space)?;
        let id = space.id();
        if let Some(name) = self.lock().get(&id) {
            return Ok(name.clone());
        }
        let call = Call::reads("check", context);
        let Some((name, found)) = read(wire, settings, call, space).await? else {
            return Err(unknown_space());
        };
        check(&found, settings, space)?;
        self.lock().insert(id, name.clone());
        Ok(name)
    }

    /// Makes a space's collection unless it is there, and checks it.
    pub(crate) async fn prepare(
        &self,
        wire: &Wire,
        settings: &GoogleVectorSettings,
        space: &EmbeddingSpace,
    ) -> Result<()> {
        check_metric(space)?;
        let look = Call::own("prepare", Effect::Reads);
        let (name, found) = match read(wire, settings, look, space).await? {
            Some(found) => found,
            None => {
                make(wire, settings, space).await?;
                read(wire, settings, look, space).await?.ok_or_else(|| {
                    Error::new(
                        ErrorKind::Unavailable,
                        "the collection was made and is not there yet, or was removed: try again",
                    )
                })?
            }
        };
        check(&found, settings, space)?;
        self.lock().insert(space.id(), name);
        Ok(())
    }

    /// Forgets what is known of a space, whose collection was gone.
    pub(crate) fn forget(&self, space: &EmbeddingSpace) {
        self.lock().remove(&space.id());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<SpaceId, String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error of a space without a collection.
pub(crate) fn unknown_space() -> Error {
    Error::invalid(
        "there is no collection for this embedding space: prepare the space first, or check \
         project, location and collection",
    )
}

fn check_metric(space: &EmbeddingSpace) -> Result<()> {
    match space.metric() {
        Metric::Cosine | Metric::Dot => Ok(()),
        other => Err(Error::unsupported(format!(
            "Vector Search compares by cosine and dot product, not by {}",
            other.name()
        ))),
    }
}

/// A space's collection and its name, if it is there.
async fn read(
    wire: &Wire,
    settings: &GoogleVectorSettings,
    call: Call,
    space: &EmbeddingSpace,
) -> Result<Option<(String, Collection)>> {
    let name = format!(
        "{}/collections/{}",
        parent(settings),
        names::collection(&settings.collection, space)
    );
    let request = wire.collections.get_collection().set_name(name.as_str());
    let answer =
        wire.send(call, |options| request.with_options(options).send(), |_| Usage::reads(1)).await;
    match answer {
        Ok(found) => Ok(Some((name, found))),
        Err(failed) if failed.is(Code::NotFound) => Ok(None),
        Err(failed) => Err(failed.error),
    }
}

/// Asks for the collection and waits until it is made.
async fn make(wire: &Wire, settings: &GoogleVectorSettings, space: &EmbeddingSpace) -> Result<()> {
    let dense = DenseVectorField::new().set_dimensions(dimensions(space)?);
    let collection = Collection::new()
        .set_display_name("Orchestra Memory")
        .set_vector_schema([(
            VECTOR_FIELD,
            VectorField::new()
                .set_vector_type_config(Some(VectorTypeConfig::DenseVector(Box::new(dense)))),
        )])
        .set_data_schema(attributes::schema(&settings.filter_keys));
    let request = wire
        .collections
        .create_collection()
        .set_parent(parent(settings))
        .set_collection_id(names::collection(&settings.collection, space))
        .set_collection(collection);
    let call = Call::own("prepare", Effect::Writes);
    let answer = wire
        .send(call, |options| request.with_options(options).send(), |_| Usage::writes(1, 0))
        .await;
    let mut operation = match answer {
        Ok(operation) => operation,
        // Another process makes it: whoever reads it next sees it or tries again.
        Err(failed) if failed.is(Code::AlreadyExists) => return Ok(()),
        Err(failed) => return Err(failed.error),
    };
    let clock = wire.clock();
    let until = clock.monotonic() + Duration::from_millis(settings.open_timeout_ms);
    let mut pause = FIRST_PAUSE;
    while !operation.done {
        if clock.monotonic() + pause > until {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the collection is still being made: prepare the space again later",
            )
            .with_unknown_outcome());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let request = wire.collections.get_operation().set_name(operation.name.as_str());
        let look = Call::own("prepare", Effect::Reads);
        operation = wire
            .send(look, |options| request.with_options(options).send(), |_| Usage::reads(1))
            .await
            .map_err(|failed| failed.error)?;
    }
    match operation.error() {
        // Its text may hold anything.
        Some(status) => Err(Error::new(
            ErrorKind::Config,
            "Vector Search did not make the collection; the console shows why",
        )
        .with_backend(BACKEND)
        .with_context("code", status.code.to_string())),
        None => Ok(()),
    }
}

fn dimensions(space: &EmbeddingSpace) -> Result<i32> {
    i32::try_from(space.dimensions())
        .map_err(|_| Error::invalid("the space has more dimensions than the service can be told"))
}

/// Holds a collection against its space and the declared keys.
fn check(
    found: &Collection,
    settings: &GoogleVectorSettings,
    space: &EmbeddingSpace,
) -> Result<()> {
    let config = |message: String| Err(Error::new(ErrorKind::Config, message));
    let field = found.vector_schema.get(VECTOR_FIELD);
    let Some(VectorTypeConfig::DenseVector(dense)) =
        field.and_then(|field| field.vector_type_config.as_ref())
    else {
        return config(format!(
            "the collection has no dense vector field `{VECTOR_FIELD}`: it was not made by this \
             program; set another collection"
        ));
    };
    if dense.dimensions != dimensions(space)? {
        return config(format!(
            "the collection's vectors have {} dimensions and the space's {}: set another collection",
            dense.dimensions,
            space.dimensions()
        ));
    }
    let wanted = attributes::schema(&settings.filter_keys);
    let lacking = attributes::lacking(&wanted, found.data_schema.as_ref());
    if !lacking.is_empty() {
        return config(format!(
            "the collection's schema lacks {}: add them to its data_schema, or set another \
             collection; items that are kept already are found under new keys once they are kept \
             anew",
            lacking.join(", ")
        ));
    }
    Ok(())
}

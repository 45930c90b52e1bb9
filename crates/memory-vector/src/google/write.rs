//! Keeping and removing, out of what the service offers: it has no upsert, and says of a batch that
//! failed neither which object was to blame nor whether others were written.
//!
//! A batch is created; if one of its objects is there already, all are updated; if one is not there,
//! the batch is halved, down to single objects. Every step may be repeated, for an object is always
//! written whole. In the same way a batch is deleted, and halved if an object is not there.

use std::collections::BTreeMap;

use futures::future::{BoxFuture, FutureExt as _, try_join};
use google_cloud_gax::error::rpc::Code;
use google_cloud_vectorsearch_v1::model::vector::VectorType;
use google_cloud_vectorsearch_v1::model::{
    CreateDataObjectRequest, DataObject, DeleteDataObjectRequest, DenseVector,
    UpdateDataObjectRequest, Vector,
};
use memory_core::traits::{UpsertOutcome, Usage, VectorEntry};
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, MemoryItem, Result};

use super::collection::unknown_space;
use super::index::GoogleVectorIndex;
use super::wire::Call;
use super::{MOST_OBJECTS, VECTOR_FIELD, attributes, names};

/// How often a single object is created and updated in turn, while others remove and make it.
const ROUNDS: u32 = 4;
/// Characters of a component as JSON has it, at the most in practice.
const COMPONENT_BYTES: usize = 13;
/// What stands around an object's data and vector.
const OBJECT_BYTES: usize = 512;

/// A vector, and the item that it was made from.
#[derive(Clone, Copy, Debug)]
pub struct ItemVector<'a> {
    /// The item, with its revision. Its content and payload are not sent; ids, times, kind, role,
    /// author, hash, importance and the values of declared metadata keys are.
    pub item: &'a MemoryItem,
    /// `[dimensions]` of the space.
    pub vector: &'a [f32],
}

/// Where a write goes.
#[derive(Clone, Copy)]
struct Target<'a> {
    call: Call,
    space: &'a EmbeddingSpace,
    collection: &'a str,
}

/// An object to be written, and what it weighs.
struct Ready {
    id: String,
    object: DataObject,
    bytes: usize,
}

impl GoogleVectorIndex {
    /// Keeps vectors together with what filters look at; one outcome for each, in order. Idempotent.
    /// Each entry by itself is atomic. Of several for one item the last one stays.
    ///
    /// Whoever calls it makes sure that an older revision of an item does not come after a newer
    /// one: the service keeps what it is sent last.
    ///
    /// # Errors
    /// `InvalidInput`: an unknown space, a vector of a wrong shape, an item without a revision, more
    /// than 1,000 entries. `Unsupported`: a space of another metric than cosine and dot product.
    pub async fn upsert_items(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[ItemVector<'_>],
    ) -> Result<Vec<UpsertOutcome>> {
        self.named("upsert", async {
            at_most(entries.len(), "entries")?;
            let now = self.wire.clock().now();
            let mut outcomes = Vec::with_capacity(entries.len());
            let mut objects = Vec::with_capacity(entries.len());
            for entry in entries {
                space.check(entry.vector)?;
                let revision = entry.item.revision.as_ref().ok_or_else(|| {
                    Error::invalid("an item without a revision was never stored: put it first")
                })?;
                if entry.item.expires_at.is_some_and(|until| until <= now) {
                    outcomes.push(UpsertOutcome::Stale);
                    continue;
                }
                let keys = &self.settings.filter_keys;
                let data = attributes::of_item(&context.tenant, entry.item, revision, keys);
                let id = names::object(&context.tenant, &entry.item.id);
                objects.push(ready(id, data, entry.vector));
                outcomes.push(UpsertOutcome::Stored);
            }
            self.keep(context, space, objects).await?;
            Ok(outcomes)
        })
        .await
    }

    /// As [`memory_core::traits::VectorIndex::upsert`].
    pub(crate) async fn upsert_bare(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        entries: &[VectorEntry],
    ) -> Result<Vec<UpsertOutcome>> {
        at_most(entries.len(), "entries")?;
        let mut objects = Vec::with_capacity(entries.len());
        for entry in entries {
            space.check(&entry.vector)?;
            let data = attributes::bare(&context.tenant, &entry.id, &entry.revision);
            let id = names::object(&context.tenant, &entry.id);
            objects.push(ready(id, data, &entry.vector));
        }
        self.keep(context, space, objects).await?;
        Ok(vec![UpsertOutcome::Stored; entries.len()])
    }

    async fn keep(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        objects: Vec<Ready>,
    ) -> Result<()> {
        let collection = self.collection(context, space).await?;
        // Of several objects with one id the last; a batch must not name one twice.
        let last: BTreeMap<String, Ready> =
            objects.into_iter().map(|ready| (ready.id.clone(), ready)).collect();
        let objects: Vec<Ready> = last.into_values().collect();
        let target =
            Target { call: Call::writes("upsert", context), space, collection: &collection };
        let mut begun = false;
        let mut rest = objects.as_slice();
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(self.fitting(rest));
            rest = others;
            self.place(target, batch).await.map_err(|error| after(begun, error))?;
            begun = true;
        }
        Ok(())
    }

    /// How many of some objects one request takes; one at least.
    fn fitting(&self, objects: &[Ready]) -> usize {
        let mut bytes = 0;
        let most = self.settings.batch_objects as usize;
        let count = objects
            .iter()
            .take(most)
            .take_while(|ready| {
                bytes += ready.bytes;
                bytes <= self.settings.batch_bytes
            })
            .count();
        count.max(1)
    }

    /// Creates or updates some objects.
    fn place<'a>(&'a self, target: Target<'a>, objects: &'a [Ready]) -> BoxFuture<'a, Result<()>> {
        async move {
            for _ in 0..ROUNDS {
                if self.create(target, objects).await? {
                    return Ok(());
                }
                if self.update(target, objects).await? {
                    return Ok(());
                }
                if objects.len() > 1 {
                    let (first, second) = objects.split_at(objects.len() / 2);
                    let first = self.place(target, first);
                    let second = self.place(target, second);
                    return try_join(first, second)
                        .await
                        .map(|_| ())
                        .map_err(Error::with_unknown_outcome);
                }
            }
            Err(Error::new(ErrorKind::Unavailable, "others make and remove the object by turns"))
        }
        .boxed()
    }

    /// Whether all were created; not if one is there.
    async fn create(&self, target: Target<'_>, objects: &[Ready]) -> Result<bool> {
        let Target { call, space, collection } = target;
        let requests = objects.iter().map(|ready| {
            CreateDataObjectRequest::new()
                .set_parent(collection)
                .set_data_object_id(ready.id.as_str())
                .set_data_object(ready.object.clone())
        });
        let request = self
            .wire
            .objects
            .batch_create_data_objects()
            .set_parent(collection)
            .set_requests(requests);
        let usage = usage_of(objects);
        let sent =
            self.wire.send(call, |options| request.with_options(options).send(), |_| usage).await;
        match sent {
            Ok(_) => Ok(true),
            Err(failed) if failed.is(Code::AlreadyExists) => Ok(false),
            // The collection itself is gone.
            Err(failed) if failed.is(Code::NotFound) => {
                self.collections.forget(space);
                Err(unknown_space())
            }
            Err(failed) => Err(failed.error),
        }
    }

    /// Whether all were updated; not if one is not there.
    async fn update(&self, target: Target<'_>, objects: &[Ready]) -> Result<bool> {
        let Target { call, collection, .. } = target;
        let requests = objects.iter().map(|ready| {
            let name = format!("{collection}/dataObjects/{}", ready.id);
            UpdateDataObjectRequest::new().set_data_object(ready.object.clone().set_name(name))
        });
        let request = self
            .wire
            .objects
            .batch_update_data_objects()
            .set_parent(collection)
            .set_requests(requests);
        let usage = usage_of(objects);
        let sent =
            self.wire.send(call, |options| request.with_options(options).send(), |_| usage).await;
        match sent {
            Ok(_) => Ok(true),
            Err(failed) if failed.is(Code::NotFound) => Ok(false),
            Err(failed) => Err(failed.error),
        }
    }

    /// As [`memory_core::traits::VectorIndex::remove`].
    pub(crate) async fn remove_all(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        ids: &[MemoryId],
    ) -> Result<()> {
        at_most(ids.len(), "ids")?;
        let collection = self.collection(context, space).await?;
        let mut objects: Vec<String> =
            ids.iter().map(|id| names::object(&context.tenant, id)).collect();
        objects.sort_unstable();
        objects.dedup();
        let call = Call::writes("remove", context);
        let batches = objects.chunks(self.settings.batch_objects as usize);
        for (at, batch) in batches.enumerate() {
            self.delete(call, &collection, batch).await.map_err(|error| after(at > 0, error))?;
        }
        Ok(())
    }

    /// Deletes some objects; those that are not there are no error.
    fn delete<'a>(
        &'a self,
        call: Call,
        collection: &'a str,
        ids: &'a [String],
    ) -> BoxFuture<'a, Result<()>> {
        async move {
            let requests = ids.iter().map(|id| {
                DeleteDataObjectRequest::new().set_name(format!("{collection}/dataObjects/{id}"))
            });
            let request = self
                .wire
                .objects
                .batch_delete_data_objects()
                .set_parent(collection)
                .set_requests(requests);
            let usage = Usage::writes(0, ids.len() as u64);
            let sent = self
                .wire
                .send(call, |options| request.with_options(options).send(), |_| usage)
                .await;
            match sent {
                Ok(_) => Ok(()),
                Err(failed) if failed.is(Code::NotFound) && ids.len() > 1 => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    let first = self.delete(call, collection, first);
                    let second = self.delete(call, collection, second);
                    try_join(first, second).await.map(|_| ()).map_err(Error::with_unknown_outcome)
                }
                Err(failed) if failed.is(Code::NotFound) => Ok(()),
                Err(failed) => Err(failed.error),
            }
        }
        .boxed()
    }
}

/// The error of a batch: if others went before it, some of the call has taken effect.
fn after(begun: bool, error: Error) -> Error {
    if begun { error.with_unknown_outcome() } else { error }
}

fn at_most(count: usize, what: &str) -> Result<()> {
    if count > MOST_OBJECTS as usize {
        return Err(Error::invalid(format!(
            "{count} {what} in one call; the limit is {MOST_OBJECTS}"
        )));
    }
    Ok(())
}

fn ready(id: String, data: serde_json::Map<String, serde_json::Value>, vector: &[f32]) -> Ready {
    // Names and texts of the data are far longer than their quotes and commas.
    let text: usize =
        data.iter().map(|(name, value)| name.len() + 32 + value.as_str().map_or(0, str::len)).sum();
    let bytes = OBJECT_BYTES + text + vector.len() * COMPONENT_BYTES;
    let dense = DenseVector::new().set_values(vector.iter().copied());
    let vector = Vector::new().set_vector_type(Some(VectorType::Dense(Box::new(dense))));
    let object = DataObject::new().set_data(data).set_vectors([(VECTOR_FIELD, vector)]);
    Ready { id, object, bytes }
}

fn usage_of(objects: &[Ready]) -> Usage {
    let bytes: usize = objects.iter().map(|ready| ready.bytes).sum();
    Usage::writes(objects.len() as u64, 0).with_bytes(bytes as u64)
}

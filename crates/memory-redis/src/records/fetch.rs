//! Reads by id.

use std::sync::{Arc, LazyLock};

use memory_core::limits::FETCH_IDS;
use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, Error, MemoryId, MemoryItem, Projection, Result, VectorProjection};
use redis::Value;

use super::model::Shape;
use crate::error::corrupt;
use crate::keys::TenantKeys;
use crate::state;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static FETCH: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/fetch.lua"), Effect::Reads));

/// Attempts at a read of vectors while the tenant's spaces change.
const ATTEMPTS: u32 = 4;

/// Reads items by id, expired ones as absent.
///
/// One round trip; one more for each 16 MiB, and where vectors are asked for of a tenant that is not
/// known yet or whose spaces have changed.
///
/// # Errors
/// `InvalidInput`: more than 1,000 ids. `Corrupt`, `Unsupported`: what is stored. What the server met.
pub(crate) async fn fetch(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    ids: &[MemoryId],
    projection: &Projection,
) -> Result<Vec<Option<MemoryItem>>> {
    if ids.len() > FETCH_IDS {
        return Err(Error::invalid(format!(
            "a fetch reads at most {FETCH_IDS} ids; this has {}",
            ids.len()
        )));
    }
    let keys = store.keys.tenant(&context.tenant);
    let items = match ids {
        [] => return Ok(Vec::new()),
        [id] if projection.vectors == VectorProjection::None => {
            vec![one(store, call, &keys, id, projection).await?]
        }
        _ => many(store, call, context, &keys, ids, projection).await?,
    };
    let now = store.clock.now();
    Ok(items.into_iter().map(|item| item.filter(|item| item.is_visible(now))).collect())
}

/// One item without vectors: one plain command.
async fn one(
    store: &RedisStore,
    call: Call<'_>,
    keys: &TenantKeys,
    id: &MemoryId,
    projection: &Projection,
) -> Result<Option<MemoryItem>> {
    let shape = Shape::of(projection, &TenantSpaces::default());
    let key = keys.memory(id);
    let command = shape.get(&key);
    match store.wire.at(call, &key, &command, Effect::Reads).await? {
        Value::Array(values) => shape.read(id.clone(), values),
        _ => Err(odd()),
    }
}

async fn many(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    keys: &TenantKeys,
    ids: &[MemoryId],
    projection: &Projection,
) -> Result<Vec<Option<MemoryItem>>> {
    let mut known = match projection.vectors {
        VectorProjection::None => None,
        _ => Some(state::known(store, call, context).await?),
    };
    'attempts: for _ in 0..ATTEMPTS {
        let none = Arc::default();
        let shape = Shape::of(projection, &known.as_ref().unwrap_or(&none).spaces);
        let mut items = Vec::with_capacity(ids.len());
        while items.len() < ids.len() {
            let rest = &ids[items.len()..];
            let begun = store.tenants.begin();
            let mut args = Vec::with_capacity(2 + shape.fields().len() + rest.len());
            args.push(
                known
                    .as_ref()
                    .map_or_else(Vec::new, |known| known.spaces.version.to_string().into_bytes()),
            );
            args.push(shape.fields().len().to_string().into_bytes());
            args.extend(shape.fields().map(Into::into));
            args.extend(rest.iter().map(|id| id.as_str().into()));
            let base = [keys.base().to_owned()];
            let answer = store.wire.script(call, &FETCH, &base, &args).await?;
            let Value::Array(values) = answer else { return Err(odd()) };
            let mut values = values.into_iter();
            match values.next() {
                Some(Value::BulkString(status)) if status == b"done" => {}
                Some(Value::BulkString(status)) if status == b"spaces" => {
                    let state: Vec<_> = values.collect();
                    known = Some(state::refreshed(store, context, begun, &state)?);
                    continue 'attempts;
                }
                _ => return Err(odd()),
            }
            let before = items.len();
            for (id, row) in rest.iter().zip(values) {
                let Value::Array(row) = row else { return Err(odd()) };
                items.push(shape.read(id.clone(), row)?);
            }
            if items.len() == before {
                return Err(odd());
            }
        }
        return Ok(items);
    }
    Err(state::unsettled())
}

fn odd() -> Error {
    corrupt("the server's answer to a read of memories is not what was asked for")
}

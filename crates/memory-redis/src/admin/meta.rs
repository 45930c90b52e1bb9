//! What the store knows of itself and its tenants: shape, key, spaces, tombstones.

use std::sync::LazyLock;

use async_trait::async_trait;
use futures::future::try_join_all;
use hmac::{Hmac, KeyInit as _, Mac as _};
use memory_core::traits::{SchemaInfo, StoreKey, StoreMeta, TenantSpaces, Tombstone};
use memory_core::{CallContext, Error, ErrorKind, MemoryId, Result, TenantId};
use redis::Value;
use sha2::{Digest as _, Sha256};

use super::{count, int, list, text};
use crate::error::corrupt;
use crate::search;
use crate::state;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static SPACES: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/spaces.lua"), Effect::Writes));
static FORGET: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/forget_space.lua"), Effect::Writes));

/// The shape that this build writes.
const SHAPE: u32 = 1;
/// Most ids or tombstones of one call, as the trait says.
const MOST: usize = 1_000;
/// Memories of which one script removes a vector.
const BATCH: &str = "1000";
/// Sets that tombstones are spread over: each may lie in another slot.
const SHARDS: usize = 16;

/// Makes the store's own keys, or checks those that are there: one round trip.
///
/// # Errors
/// `Unsupported`: a newer shape. `Corrupt`. What the server met.
pub(crate) async fn check_store(store: &RedisStore, call: Call<'_>) -> Result<()> {
    let key = store.keys.store("about");
    let set = |field: &str, value: &[u8]| {
        let mut command = redis::cmd("HSETNX");
        command.arg(&key).arg(field).arg(value);
        command
    };
    // Ids have some fixed bits, so a few more of them are made into one secret.
    let random: Vec<u8> = (0..4).flat_map(|_| *store.ids.commit_id().as_bytes()).collect();
    let secret = Sha256::digest(&random);
    let mut get = redis::cmd("HGET");
    get.arg(&key).arg("shape");
    let commands = [set("shape", SHAPE.to_string().as_bytes()), set("key", &secret), get];
    let mut answers = store.wire.many_at(call, &key, &commands, Effect::Writes).await?;
    let shape = answers.pop().ok_or_else(|| corrupt("a pipeline has no answer"))??;
    for answer in answers {
        answer?;
    }
    check_shape(&shape).map(drop)
}

fn check_shape(stored: &Value) -> Result<u32> {
    let stored = u32::try_from(int(stored)?)
        .ok()
        .filter(|stored| *stored > 0)
        .ok_or_else(|| corrupt("the store's shape is not a number"))?;
    if stored > SHAPE {
        return Err(Error::unsupported(format!(
            "the store is of shape {stored}; this build knows {SHAPE}: use a newer one"
        )));
    }
    Ok(stored)
}

async fn about(store: &RedisStore, call: Call<'_>, field: &str) -> Result<Value> {
    let key = store.keys.store("about");
    let mut command = redis::cmd("HGET");
    command.arg(&key).arg(field);
    store.wire.at(call, &key, &command, Effect::Reads).await
}

/// The store's key: one round trip.
///
/// # Errors
/// `Corrupt`: it is missing, though opening the store makes it. What the server met.
pub(crate) async fn store_key(store: &RedisStore, call: Call<'_>) -> Result<StoreKey> {
    let bad = || corrupt("the store's key is missing or damaged: erasures cannot be proved");
    match about(store, call, "key").await? {
        Value::BulkString(bytes) => Ok(StoreKey::from_bytes(bytes.try_into().map_err(|_| bad())?)),
        _ => Err(bad()),
    }
}

/// What is left of an erased id: HMAC-SHA256 under the store key of tenant and id, each after its
/// length in bytes as a big-endian `u64`.
pub(crate) fn tombstone(key: &StoreKey, tenant: &TenantId, id: &MemoryId) -> Tombstone {
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose()).expect("any length will do");
    for part in [tenant.as_str(), id.as_str()] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part.as_bytes());
    }
    Tombstone(mac.finalize().into_bytes().into())
}

/// The set that a tombstone lies in.
fn shard(store: &RedisStore, tombstone: &Tombstone) -> String {
    let shard = usize::from(tombstone.0[0]) % SHARDS;
    store.keys.shard(shard)
}

/// Keeps tombstones: one round trip for each set that they lie in, side by side.
///
/// # Errors
/// What the server met; some may be kept.
pub(crate) async fn keep_tombstones(
    store: &RedisStore,
    call: Call<'_>,
    tombstones: &[Tombstone],
) -> Result<()> {
    let mut by_shard = std::collections::BTreeMap::<String, Vec<&[u8]>>::new();
    for tombstone in tombstones {
        by_shard.entry(shard(store, tombstone)).or_default().push(&tombstone.0);
    }
    let each = by_shard.into_iter().map(|(key, members)| async move {
        let mut command = redis::cmd("SADD");
        command.arg(&key).arg(members);
        store.wire.at(call, &key, &command, Effect::Writes).await
    });
    try_join_all(each).await.map(drop)
}

#[async_trait]
impl StoreMeta for RedisStore {
    /// One round trip.
    async fn schema(&self) -> Result<SchemaInfo> {
        self.run("schema", None, async |call| {
            let stored = check_shape(&about(self, call, "shape").await?)?;
            Ok(SchemaInfo { stored, current: SHAPE })
        })
        .await
    }

    /// One round trip.
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.run("spaces", Some(context), async |call| {
            Ok(state::load(self, call, context).await?.spaces.clone())
        })
        .await
    }

    /// Vectors of a space that is dropped stay with their memories until the item is put anew or the
    /// space is named again; then they are removed first.
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces> {
        self.run("set_spaces", Some(context), async |call| {
            check_spaces(self, spaces)?;
            change_spaces(self, call, context, spaces).await
        })
        .await
    }

    /// That of this build: a tenant whose index was made by another one is indexed anew when it is
    /// next written to or searched.
    async fn analyser(&self) -> Result<Option<String>> {
        self.run("analyser", None, async |_| Ok(self.engine.analyser())).await
    }

    /// One round trip.
    async fn store_key(&self) -> Result<StoreKey> {
        self.run("store_key", None, async |call| store_key(self, call).await).await
    }

    /// A round trip for the key, and one for each of the sets that they may lie in, side by side.
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        self.run("erased", Some(context), async |call| {
            if ids.len() > MOST {
                return Err(Error::invalid(format!(
                    "a look for tombstones takes {MOST} ids at the most"
                )));
            }
            let key = store_key(self, call).await?;
            let stones: Vec<_> =
                ids.iter().map(|id| tombstone(&key, &context.tenant, id)).collect();
            let mut by_shard = std::collections::BTreeMap::<String, Vec<usize>>::new();
            for (at, stone) in stones.iter().enumerate() {
                by_shard.entry(shard(self, stone)).or_default().push(at);
            }
            let stones = &stones;
            let each = by_shard.into_iter().map(|(key, places)| async move {
                let mut command = redis::cmd("SMISMEMBER");
                command.arg(&key);
                for at in &places {
                    command.arg(&stones[*at].0[..]);
                }
                let found = list(self.wire.at(call, &key, &command, Effect::Reads).await?)?;
                let found = found.iter().map(int).collect::<Result<Vec<_>>>()?;
                Ok::<_, Error>(places.into_iter().zip(found).collect::<Vec<_>>())
            });
            let mut erased = vec![false; ids.len()];
            for (at, found) in try_join_all(each).await?.into_iter().flatten() {
                erased[at] = found == 1;
            }
            Ok(erased)
        })
        .await
    }

    /// One round trip for each of the sets that they lie in, side by side.
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        self.run("add_tombstones", None, async |call| {
            if tombstones.len() > MOST {
                return Err(Error::invalid(format!(
                    "{MOST} tombstones at the most are taken in at once"
                )));
            }
            keep_tombstones(self, call, tombstones).await
        })
        .await
    }
}

fn check_spaces(store: &RedisStore, spaces: &TenantSpaces) -> Result<()> {
    match (&spaces.active, &spaces.next) {
        (None, Some(_)) => return Err(Error::invalid("a next space without an active one")),
        (Some(active), Some(next)) if active == next => {
            return Err(Error::invalid("the next space is the active one"));
        }
        _ => {}
    }
    let most = store.own_capabilities().max_dimensions;
    for space in spaces.active.iter().chain(&spaces.next) {
        if space.dimensions() > most {
            return Err(Error::invalid(format!(
                "the space has {} dimensions; Redis takes {most} at the most",
                space.dimensions()
            )));
        }
    }
    Ok(())
}

async fn change_spaces(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    spaces: &TenantSpaces,
) -> Result<TenantSpaces> {
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let new = TenantSpaces { version: spaces.version + 1, ..spaces.clone() };
    let json = serde_json::to_vec(&new)
        .map_err(|error| Error::new(ErrorKind::Unexpected, "spaces are JSON").with_source(error))?;
    let mut args = vec![spaces.version.to_string().into(), new.version.to_string().into(), json];
    args.extend(new.active.iter().chain(&new.next).map(|space| space.id().as_str().into()));
    loop {
        let answer = list(store.wire.script(call, &SPACES, &base, &args).await?)?;
        let status = answer.first().map(text).transpose()?.unwrap_or_default();
        match (status.as_str(), answer.get(1)) {
            ("done", _) => break,
            ("left", Some(space)) => forget(store, call, &base, &text(space)?).await?,
            _ => {
                store.tenants.forget(&context.tenant);
                return Err(Error::new(ErrorKind::Conflict, "somebody else changed the spaces"));
            }
        }
    }
    store.tenants.forget(&context.tenant);
    search::spaces_changed(store, call, context, &new).await?;
    Ok(new)
}

/// Removes what vectors are left of a space that is not named: a round trip for each thousand
/// memories of the tenant.
async fn forget(store: &RedisStore, call: Call<'_>, base: &[String], space: &str) -> Result<()> {
    let mut after = b"-".to_vec();
    loop {
        let args = [space.into(), after, BATCH.into()];
        let answer = list(store.wire.script(call, &FORGET, base, &args).await?)?;
        let last = answer.get(1).map(text).transpose()?.unwrap_or_default();
        if last.is_empty() {
            return Ok(());
        }
        after = format!("({last}").into_bytes();
    }
}

/// How many tombstones are kept.
///
/// # Errors
/// What the server met.
pub(super) async fn tombstones(store: &RedisStore, call: Call<'_>) -> Result<u64> {
    let each = (0..SHARDS).map(|shard| async move {
        let key = store.keys.shard(shard);
        let mut command = redis::cmd("SCARD");
        command.arg(&key);
        count(&store.wire.at(call, &key, &command, Effect::Reads).await?)
    });
    Ok(try_join_all(each).await?.into_iter().sum())
}

//! Vectors kept and removed beside their items, and items that lack one.

use std::sync::{Arc, LazyLock};

use memory_core::limits::PAGE;
use memory_core::traits::{KeywordEntry, UpsertOutcome, VectorEntry};
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, MemoryId, Result};
use redis::{Value, cmd};

use super::reply;
use crate::error::corrupt;
use crate::fields::{self as f, sortable};
use crate::keys::TenantKeys;
use crate::records::model::vector_bytes;
use crate::state::{self, TenantState, unsettled};
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static VECTORS: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("../lua/guard.lua"),
        include_str!("../lua/log.lua"),
        include_str!("../lua/vectors.lua"),
    ];
    Script::new(&parts.concat(), Effect::Writes)
});
static MISSING: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/missing.lua"), Effect::Reads));

/// Most entries of a call.
const ENTRIES: usize = 1_000;
/// Most entries of a script: to add one to a graph takes the server half a millisecond.
const STEP: usize = 50;
/// Memories that one script looks at for those that lack a vector: a millisecond or two.
const LOOKED_AT: usize = 1_000;
/// Attempts while the tenant's state changes.
const ATTEMPTS: u32 = 8;
/// Walks that are begun anew because the tenant was written meanwhile.
const WALKS: u32 = 4;

fn check_count(count: usize) -> Result<()> {
    if count > ENTRIES {
        return Err(Error::invalid(format!(
            "one call takes up to {ENTRIES} entries; this has {count}"
        )));
    }
    Ok(())
}

/// Keeps vectors: one round trip for each 50.
///
/// # Errors
/// `InvalidInput`: an unknown space, a vector of a wrong shape, more than 1,000 entries. `Conflict`: a
/// write fence stands. What the server met; an earlier part of the entries may be kept then.
pub(super) async fn upsert(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    entries: &[VectorEntry],
) -> Result<Vec<UpsertOutcome>> {
    check_count(entries.len())?;
    entries.iter().try_for_each(|entry| space.check(&entry.vector))?;
    let args = entries.iter().map(|entry| {
        [entry.id.as_str().into(), entry.revision.as_str().into(), vector_bytes(&entry.vector)]
    });
    let kept = write(store, call, context, space, args.collect()).await?;
    let outcome = |kept| if kept { UpsertOutcome::Stored } else { UpsertOutcome::Stale };
    Ok(kept.into_iter().map(outcome).collect())
}

/// Forgets vectors.
///
/// # Errors
/// As [`upsert`].
pub(super) async fn remove(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    ids: &[MemoryId],
) -> Result<()> {
    check_count(ids.len())?;
    let args = ids.iter().map(|id| [id.as_str().into(), Vec::new(), Vec::new()]);
    write(store, call, context, space, args.collect()).await.map(drop)
}

async fn write(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    entries: Vec<[Vec<u8>; 3]>,
) -> Result<Vec<bool>> {
    let mark = store.engine.mark().unwrap_or_default().to_owned();
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let mut known = with_space(store, call, context, space).await?;
    let mut done = Vec::with_capacity(entries.len());
    let mut attempts = 0;
    // An empty call still says whether there is such a space.
    while done.len() < entries.len() {
        let part = &entries[done.len()..entries.len().min(done.len() + STEP)];
        let mut args: Vec<Vec<u8>> = vec![
            sortable(store.clock.now().as_micros()).into_bytes(),
            state::fence_text(context.fence).into_bytes(),
            known.spaces.version.to_string().into_bytes(),
            mark.clone().into_bytes(),
            TenantKeys::vector_field(&space.id()).into_bytes(),
        ];
        args.extend(part.iter().flatten().cloned());
        let begun = store.tenants.begin();
        let answer =
            store.wire.script(call, &VECTORS, &base, &args).await.map_err(|error| {
                if done.is_empty() { error } else { error.with_unknown_outcome() }
            })?;
        let Value::Array(values) = answer else { return Err(odd()) };
        let Some((status, rest)) = values.split_first() else { return Err(odd()) };
        match reply::text(status) {
            Some(b"done") if rest.len() == part.len() => {
                done.extend(rest.iter().map(|kept| reply::text(kept) == Some(b"1")));
                continue;
            }
            Some(b"fenced") => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "a write fence stands: take the lease anew and write with its token",
                ));
            }
            Some(b"spaces") => {
                known = state::refreshed(store, context, begun, rest)?;
                check_space(&known, space)?;
            }
            // There are no memories, and none whose vector could be kept.
            Some(b"unlisted") => {
                done.resize(entries.len(), false);
            }
            Some(b"unindexed") => super::prepare(store, call, context).await?,
            _ => return Err(odd()),
        }
        attempts += 1;
        if attempts > ATTEMPTS {
            return Err(unsettled());
        }
    }
    Ok(done)
}

/// The tenant's state, which has the space; looked at anew where the remembered one has not.
async fn with_space(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
) -> Result<Arc<TenantState>> {
    let known = state::known(store, call, context).await?;
    if known.spaces.find(&space.id()).is_some() {
        return Ok(known);
    }
    let known = state::load(store, call, context).await?;
    check_space(&known, space)?;
    Ok(known)
}

fn check_space(known: &TenantState, space: &EmbeddingSpace) -> Result<()> {
    if known.spaces.find(&space.id()).is_some() {
        return Ok(());
    }
    Err(super::ask::no_space(&known.spaces, &space.id()))
}

/// Ids of visible items without a vector in the space. One round trip for each 1,000 memories that
/// are walked past.
///
/// Where the tenant is written between two of them the walk begins anew, so that its answer is of one
/// state; where that happens again and again, the last one counts: each id lacked a vector when it
/// was looked at.
///
/// # Errors
/// `InvalidInput`: the limit, an unknown space. What the server met.
pub(super) async fn missing(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    space: &EmbeddingSpace,
    after: Option<&MemoryId>,
    limit: u32,
) -> Result<Vec<MemoryId>> {
    if limit == 0 || limit > PAGE {
        return Err(Error::invalid(format!("a limit lies between 1 and {PAGE}; this is {limit}")));
    }
    let mut known = with_space(store, call, context, space).await?;
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let begin = after.map_or_else(|| "-".to_owned(), |id| format!("({id}"));
    let now = sortable(store.clock.now().as_micros());
    let (mut walks, mut attempts) = (0, 0);
    'walks: loop {
        let (mut from, mut ids, mut at) = (begin.clone(), Vec::new(), None);
        loop {
            let args: Vec<Vec<u8>> = [
                now.clone(),
                known.spaces.version.to_string(),
                TenantKeys::vector_field(&space.id()),
                from.clone(),
                (wanted - ids.len()).to_string(),
                LOOKED_AT.to_string(),
            ]
            .map(String::into_bytes)
            .into();
            let begun = store.tenants.begin();
            let answer = store.wire.script(call, &MISSING, &base, &args).await?;
            let Value::Array(values) = answer else { return Err(odd()) };
            let Some((status, rest)) = values.split_first() else { return Err(odd()) };
            if reply::text(status) == Some(b"spaces") {
                known = state::refreshed(store, context, begun, rest)?;
                check_space(&known, space)?;
                attempts += 1;
                if attempts > ATTEMPTS {
                    return Err(unsettled());
                }
                continue 'walks;
            }
            let [position, last, found @ ..] = rest else { return Err(odd()) };
            for id in found {
                ids.push(id_of(id)?);
            }
            let position = reply::text(position).map(<[u8]>::to_vec);
            if at.is_some() && at != position && walks < WALKS {
                walks += 1;
                continue 'walks;
            }
            at = position;
            let last = reply::text(last).ok_or_else(odd)?;
            if last.is_empty() || ids.len() >= wanted {
                return Ok(ids);
            }
            from = format!("({}", id_of(&Value::BulkString(last.to_vec()))?);
        }
    }
}

fn id_of(value: &Value) -> Result<MemoryId> {
    let text = reply::text(value).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.and_then(|text| MemoryId::new(text).ok()).ok_or_else(odd)
}

/// Whether texts are of the memories as they are: their words are read from the memories themselves.
///
/// # Errors
/// `InvalidInput`: more than 1,000 entries. `Unsupported`: no query engine. What the server met.
pub(super) async fn check_texts(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    entries: &[KeywordEntry],
) -> Result<Vec<UpsertOutcome>> {
    check_count(entries.len())?;
    store.engine.used()?;
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let keys = store.keys.tenant(&context.tenant);
    let get = |entry: &KeywordEntry| {
        let mut get = cmd("HMGET");
        get.arg(keys.memory(&entry.id)).arg(&[f::REVISION, f::VISIBLE]);
        get
    };
    let commands: Vec<_> = entries.iter().map(get).collect();
    let answers = store.wire.many_at(call, keys.base(), &commands, Effect::Reads).await?;
    let now = store.clock.now().as_micros();
    let outcome = |(entry, answer): (&KeywordEntry, Result<Value>)| {
        let Value::Array(values) = answer? else { return Err(odd()) };
        let [revision, until] = &values[..] else { return Err(odd()) };
        let visible =
            reply::text(until).and_then(f::from_sortable).is_some_and(|until| now < until);
        let same = reply::text(revision) == Some(entry.revision.as_str().as_bytes());
        Ok(if visible && same { UpsertOutcome::Stored } else { UpsertOutcome::Stale })
    };
    entries.iter().zip(answers).map(outcome).collect()
}

fn odd() -> Error {
    corrupt("the answer of a script is not what it answers")
}

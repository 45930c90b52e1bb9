//! Erasures of a user or a tenant, in bounded steps.
//!
//! An erasure notes the position of the tenant's last change when it begins, and removes what was
//! written up to there: a memory that is written over meanwhile has a newer position, and its old
//! text is gone with that. Tombstones are written before the memories go, for they lie elsewhere;
//! with the memories goes the change log. Then the answers that are kept under idempotency keys, and
//! of a tenant all else but what keeps numbers from being given out twice.

mod token;

use std::sync::LazyLock;

use memory_core::traits::{EraseReceipt, EraseScope, EraseStep, EraseToken, Tombstone};
use memory_core::{CallContext, Error, MemoryId, Result};
use redis::Value;

use crate::admin::{self, int, text};
use crate::error::corrupt;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};
use crate::{fields, search};

use token::{Phase, Place};

static WALK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/walk.lua"), Effect::Reads));
static ERASE: LazyLock<Script> = LazyLock::new(|| {
    let parts = [
        include_str!("../lua/memory.lua"),
        include_str!("../lua/guard.lua"),
        include_str!("../lua/log.lua"),
        include_str!("../lua/erase.lua"),
    ];
    Script::new(&parts.join("\n"), Effect::Writes)
});

/// Answers under idempotency keys of one step.
const ANSWERS: u32 = 500;

/// Does one step of an erasure: `erase_batch` memories at the most. Some three round trips.
///
/// `bytes_cleared` is `false` in the receipt: the server's own files, its append-only log and its
/// snapshots, hold what was there until it writes them anew, and its replicas may lag.
///
/// # Errors
/// `InvalidInput`: a token of another scope or tenant. What the server met: the step may be done
/// again, or the erasure begun anew.
pub(crate) async fn erase(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    resume: Option<&EraseToken>,
) -> Result<EraseStep> {
    let tenant = &context.tenant;
    let mut place = match resume {
        Some(token) => Place::read(token, tenant, scope)?,
        None => Place {
            began_at: store.clock.now(),
            position: admin::head(store, call, context).await?,
            phase: Phase::Memories(Vec::new()),
        },
    };
    let mut erased = 0;
    let next = match &place.phase {
        Phase::Memories(after) => {
            let (gone, next) = memories(store, call, context, scope, place.position, after).await?;
            erased = gone;
            Some(next.map_or(Phase::Answers(Vec::new()), Phase::Memories))
        }
        Phase::Answers(after) => {
            let next = answers(store, call, context, scope, &place, after).await?;
            match next {
                Some(after) => Some(Phase::Answers(after)),
                None => match scope {
                    EraseScope::User(_) => None,
                    EraseScope::Tenant => Some(Phase::Rest),
                },
            }
        }
        Phase::Rest => {
            rest(store, call, context).await?;
            None
        }
    };
    let Some(phase) = next else {
        let ended_at = store.clock.now();
        let receipt = EraseReceipt { began_at: place.began_at, ended_at, bytes_cleared: false };
        return Ok(EraseStep { erased, next: None, receipt: Some(receipt) });
    };
    place.phase = phase;
    Ok(EraseStep { erased, next: Some(place.token(tenant, scope)), receipt: None })
}

/// Removes some memories: how many, and the member after which it goes on.
async fn memories(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    position: u64,
    after: &[u8],
) -> Result<(u64, Option<Vec<u8>>)> {
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let (set, head) = match scope {
        EraseScope::User(user) => (format!("x:U:{user}"), "20"),
        EraseScope::Tenant => ("x:i".to_owned(), "0"),
    };
    let lower = if after.is_empty() { b"-".to_vec() } else { [b"(", after].concat() };
    let args = [
        set.into_bytes(),
        lower,
        b"+".to_vec(),
        Vec::new(),
        store.settings.erase_batch.to_string().into_bytes(),
        head.into(),
        fields::REVISION.into(),
    ];
    let answer = store.wire.script(call, &WALK, &base, &args).await?;
    let Value::Array(answer) = answer else { return Err(odd()) };
    let [_, Value::BulkString(next), found @ ..] = &answer[..] else { return Err(odd()) };
    let (mut args, mut ids) = (vec![b"items".to_vec()], Vec::new());
    for pair in found.chunks(2) {
        let [id, Value::Array(row)] = pair else { return Err(odd()) };
        let [Value::BulkString(revision)] = &row[..] else { continue };
        let id = text(id)?;
        if written_at(revision)? <= position {
            args.push(id.clone().into_bytes());
            args.push(revision.clone());
            ids.push(MemoryId::new(id).map_err(|_| odd())?);
        }
    }
    let mut erased = 0;
    if !ids.is_empty() {
        let key = admin::store_key(store, call).await?;
        let tombstones: Vec<Tombstone> =
            ids.iter().map(|id| admin::tombstone(&key, &context.tenant, id)).collect();
        admin::keep_tombstones(store, call, &tombstones).await?;
        let answer = store.wire.script(call, &ERASE, &base, &args).await?;
        let Value::Array(answer) = answer else { return Err(odd()) };
        let [_, gone] = &answer[..] else { return Err(odd()) };
        erased = u64::try_from(int(gone)?).map_err(|_| odd())?;
        if erased < ids.len() as u64 {
            // Some were written anew meanwhile, or went: those that were there before are gone.
            tracing::debug!("memories were written while they were being erased");
        }
    }
    Ok((erased, (!next.is_empty()).then(|| next.clone())))
}

/// The position in a revision.
fn written_at(revision: &[u8]) -> Result<u64> {
    let digits = revision.split(|byte| *byte == b'-').next().unwrap_or_default();
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or_else(odd)
}

/// Clears some answers; the member after which it goes on. What was kept since the erasure began
/// stays.
async fn answers(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    scope: &EraseScope,
    place: &Place,
    after: &[u8],
) -> Result<Option<Vec<u8>>> {
    let base = [store.keys.tenant(&context.tenant).base().to_owned()];
    let user = match scope {
        EraseScope::User(user) => user.as_str(),
        EraseScope::Tenant => "",
    };
    let args = [
        b"answers".to_vec(),
        if after.is_empty() { b"-".to_vec() } else { [b"(", after].concat() },
        ANSWERS.to_string().into_bytes(),
        place.position.to_string().into_bytes(),
        user.into(),
    ];
    let answer = store.wire.script(call, &ERASE, &base, &args).await?;
    let Value::Array(answer) = answer else { return Err(odd()) };
    let [_, Value::BulkString(next)] = &answer[..] else { return Err(odd()) };
    Ok((!next.is_empty()).then(|| next.clone()))
}

/// Removes what else there is of a tenant. Leases and the fence stay, for whoever erases may hold
/// them; so do the numbers that positions, leases and spaces go on from.
async fn rest(store: &RedisStore, call: Call<'_>, context: &CallContext) -> Result<()> {
    let tenant = &context.tenant;
    search::drop_indexes(store, call, context).await?;
    let base = [store.keys.tenant(tenant).base().to_owned()];
    store.wire.script(call, &ERASE, &base, &[b"log".to_vec()]).await?;
    // From before the tenant is taken off, so that one who lists it anew meanwhile is not undone; and
    // from the list, so that a step whose answer was lost can be done again.
    let token = admin::listed_as(store, call, tenant).await?;
    let answer = store.wire.script(call, &ERASE, &base, &[b"state".to_vec()]).await?;
    store.tenants.forget(tenant);
    let Value::Array(answer) = answer else { return Err(odd()) };
    let [_, gone] = &answer[..] else { return Err(odd()) };
    match token {
        Some(token) if !text(gone)?.is_empty() => admin::unlist(store, call, tenant, &token).await,
        _ => Ok(()),
    }
}

fn odd() -> Error {
    corrupt("the server's answer to an erasure is not what was asked for")
}

//! The list of tenants. It lies in another slot than any of them, so a tenant enters it before its
//! first commit, which asks for the entry's token in the tenant's own state, and leaves it after its
//! erasure, by that token. An entry that is in vain is harmless; a tenant that is missing cannot be.

use std::sync::LazyLock;

use async_trait::async_trait;
use memory_core::traits::{TenantDirectory, TenantPage};
use memory_core::{CallContext, Error, Result, TenantId};

use super::{list, text};
use crate::error::corrupt;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

static DIRECTORY: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/directory.lua"), Effect::Writes));

/// Most tenants of one page, as the trait says.
const MOST: u32 = 1_000;

async fn change(
    store: &RedisStore,
    call: Call<'_>,
    what: &str,
    tenant: &TenantId,
    tokens: &[&str],
) -> Result<()> {
    let keys = [store.keys.store("dir"), store.keys.store("tenants")];
    let mut args: Vec<Vec<u8>> = vec![what.into(), tenant.as_str().into()];
    args.extend(tokens.iter().map(|token| (*token).into()));
    store.wire.script(call, &DIRECTORY, &keys, &args).await.map(drop)
}

/// Lists a tenant: its entry in the directory, then the entry's token in its state, then the entry
/// once more, for an erasure that ended meanwhile may have taken it. Idempotent. Three round trips,
/// once for each tenant.
///
/// # Errors
/// What the server met.
pub(crate) async fn enlist(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
) -> Result<()> {
    let tenant = &context.tenant;
    let token: String =
        store.ids.commit_id().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    change(store, call, "add", tenant, &[&token]).await?;
    let key = store.keys.tenant(tenant).state();
    let mut set = redis::cmd("HSETNX");
    set.arg(&key).arg("dir").arg(&token);
    let mut get = redis::cmd("HGET");
    get.arg(&key).arg("dir");
    let mut answers = store.wire.many_at(call, &key, &[set, get], Effect::Writes).await?;
    let stored = match (answers.pop(), answers.pop()) {
        (Some(stored), Some(set)) => {
            set?;
            text(&stored?)?
        }
        _ => return Err(corrupt("a pipeline has fewer answers than commands")),
    };
    // Where another process was quicker, the directory has to say what that one put into the state.
    change(store, call, "agree", tenant, &[&token, &stored]).await
}

/// The token of a tenant's entry; `None` where it is not listed.
///
/// # Errors
/// What the server met.
pub(crate) async fn listed_as(
    store: &RedisStore,
    call: Call<'_>,
    tenant: &TenantId,
) -> Result<Option<String>> {
    let key = store.keys.store("dir");
    let mut command = redis::cmd("HGET");
    command.arg(&key).arg(tenant.as_str());
    let token = text(&store.wire.at(call, &key, &command, Effect::Reads).await?)?;
    Ok((!token.is_empty()).then_some(token))
}

/// Removes a tenant's entry if it still has this token, and enters it again where the tenant's state
/// has it by now: who listed the tenant anew was half way.
///
/// # Errors
/// What the server met.
pub(crate) async fn unlist(
    store: &RedisStore,
    call: Call<'_>,
    tenant: &TenantId,
    token: &str,
) -> Result<()> {
    change(store, call, "remove", tenant, &[token]).await?;
    let key = store.keys.tenant(tenant).state();
    let mut command = redis::cmd("HGET");
    command.arg(&key).arg("dir");
    if text(&store.wire.at(call, &key, &command, Effect::Reads).await?)? == token {
        change(store, call, "add", tenant, &[token]).await?;
    }
    Ok(())
}

/// The tenants after one, and whether more follow.
///
/// # Errors
/// What the server met.
pub(super) async fn tenants(
    store: &RedisStore,
    call: Call<'_>,
    after: Option<&TenantId>,
    limit: u32,
) -> Result<TenantPage> {
    let key = store.keys.store("tenants");
    let lower = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
    let mut command = redis::cmd("ZRANGEBYLEX");
    command.arg(&key).arg(lower).arg("+").arg("LIMIT").arg(0).arg(limit + 1);
    let found = list(store.wire.at(call, &key, &command, Effect::Reads).await?)?;
    let odd = || corrupt("an entry of the directory is no tenant");
    let read = |value| TenantId::new(text(value)?).map_err(|_| odd());
    let mut tenants = found.iter().map(read).collect::<Result<Vec<_>>>()?;
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = tenants.len() > most;
    tenants.truncate(most);
    Ok(TenantPage { tenants, more })
}

#[async_trait]
impl TenantDirectory for RedisStore {
    /// One round trip.
    async fn list_tenants(&self, after: Option<TenantId>, limit: u32) -> Result<TenantPage> {
        self.run("list_tenants", None, async |call| {
            if limit == 0 || limit > MOST {
                return Err(Error::invalid(format!("a page of tenants has 1 to {MOST}")));
            }
            tenants(self, call, after.as_ref(), limit).await
        })
        .await
    }
}

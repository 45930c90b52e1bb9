//! How the reference store erases: a few records a step, a tombstone for each.
//!
//! A token reads `SCOPE/BEGAN/SEQUENCE`: a digest of tenant and scope, the time of the first step
//! in microseconds, and the counter at the first step. Only records that were written up to then
//! are erased, so that a busy writer cannot keep an erasure from ending.

use memory_core::traits::{EraseReceipt, EraseScope, EraseStep, EraseToken, TenantSpaces};
use memory_core::{CallContext, ContentHash, Error, MemoryId, Result, Timestamp};

use super::state::{Record, State};
use super::{ERASE_STEP, tombstone};

pub(super) fn step(
    state: &mut State,
    now: Timestamp,
    context: &CallContext,
    scope: &EraseScope,
    resume: Option<&EraseToken>,
) -> Result<EraseStep> {
    let name = scope_name(context, scope);
    let (began_at, sequence) = match resume {
        None => (now, state.last()),
        Some(token) => read_token(&name, token)?,
    };
    let in_scope = |record: &Record| {
        record.sequence <= sequence
            && match scope {
                EraseScope::User(user) => record.item.user_id.as_ref() == Some(user),
                EraseScope::Tenant => true,
            }
    };
    let found: Vec<MemoryId> = state
        .tenant(&context.tenant)
        .into_iter()
        .flat_map(|tenant| tenant.records.values())
        .filter(|record| in_scope(record))
        .map(|record| record.item.id.clone())
        .collect();
    let (now_gone, later) = found.split_at(found.len().min(ERASE_STEP));
    for id in now_gone {
        let stone = tombstone(&state.key, &context.tenant, id);
        state.tombstones.insert(stone);
        let tenant = state.tenant_mut(&context.tenant);
        tenant.records.remove(id);
        tenant.keys.retain(|_, key| !key.receipt.results.iter().any(|result| result.id == *id));
    }
    if !now_gone.is_empty() {
        state.reset_log(&context.tenant);
    }
    let erased = now_gone.len() as u64;
    if !later.is_empty() {
        let token = EraseToken(format!("{name}/{}/{sequence}", began_at.as_micros()));
        return Ok(EraseStep { erased, next: Some(token), receipt: None });
    }
    if *scope == EraseScope::Tenant && state.tenant(&context.tenant).is_some() {
        finish_tenant(state, context, sequence);
    }
    let receipt = EraseReceipt { began_at, ended_at: now, bytes_cleared: true };
    Ok(EraseStep { erased, next: None, receipt: Some(receipt) })
}

/// What else goes with a tenant. Leases and the fence stay: whoever erases may hold them.
fn finish_tenant(state: &mut State, context: &CallContext, sequence: u64) {
    state.reset_log(&context.tenant);
    let tenant = state.tenant_mut(&context.tenant);
    // The version stays, so that nobody's compare-and-swap from before the erasure succeeds.
    tenant.spaces = TenantSpaces { active: None, next: None, version: tenant.spaces.version + 1 };
    tenant.keys.clear();
    tenant.consumers.clear();
    for record in tenant.records.values_mut() {
        record.vectors.clear();
    }
    // A commit since the erasure began lists the tenant anew.
    tenant.listed = tenant.records.values().any(|record| record.sequence > sequence);
}

fn scope_name(context: &CallContext, scope: &EraseScope) -> String {
    let (tenant, rest) = (
        context.tenant.as_str(),
        match scope {
            EraseScope::User(user) => format!("user {user}"),
            EraseScope::Tenant => "tenant".to_owned(),
        },
    );
    ContentHash::of(&format!("{} {tenant} {rest}", tenant.len())).to_string()
}

fn read_token(name: &str, token: &EraseToken) -> Result<(Timestamp, u64)> {
    let bad = || Error::invalid("the token belongs to another erasure, or is damaged");
    let mut parts = token.0.split('/');
    let (Some(scope), Some(began), Some(sequence), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(bad());
    };
    if scope != name {
        return Err(bad());
    }
    let began = began.parse().map_err(|_| bad())?;
    Ok((Timestamp::from_micros(began)?, sequence.parse().map_err(|_| bad())?))
}

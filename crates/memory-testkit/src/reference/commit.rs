//! How the reference store commits: check everything, then write everything.

use memory_core::traits::ChangeOp;
use memory_core::{
    CallContext, Commit, CommitReceipt, Delete, Error, ErrorKind, Precondition, Put, Result,
    Revision, Timestamp, Vectors, Write, WriteResult,
};

use super::state::{KeyRecord, Record, State, Tenant};

/// What is to happen to one write.
enum Plan {
    /// It is to be written; whether a visible item was there.
    Write { existed: bool },
    /// An earlier attempt of this commit has done it, with this revision.
    Done(Option<Revision>),
}

pub(super) fn commit(
    state: &mut State,
    now: Timestamp,
    context: &CallContext,
    commit: Commit,
) -> Result<CommitReceipt> {
    commit.validate()?;
    let empty = Tenant::default();
    let tenant = state.tenant(&context.tenant).unwrap_or(&empty);
    if let Some(receipt) = replay(tenant, now, &commit)? {
        return Ok(receipt);
    }
    check_fence(tenant, context)?;
    let plans = plan(tenant, now, &commit)?;

    let replayed = plans.iter().any(|plan| matches!(plan, Plan::Done(_)));
    let mut results = Vec::new();
    for (write, plan) in commit.writes.into_iter().zip(plans) {
        results.push(match plan {
            Plan::Done(revision) => {
                WriteResult { id: write.id().clone(), revision, existed: false }
            }
            Plan::Write { existed } => match write {
                // A copy even where nobody else holds it: so a caller that keeps the commit for
                // another attempt costs the same as one that does not.
                Write::Put(put) => apply_put(state, context, commit.id, Put::clone(&put), existed),
                Write::Delete(delete) => apply_delete(state, context, delete, existed),
            },
        });
    }
    let tenant = state.tenant_mut(&context.tenant);
    tenant.listed = true;
    let receipt = CommitReceipt { results, position: Some(tenant.head), replayed };
    if let Some(key) = &commit.idempotency {
        let record = KeyRecord { digest: *key.digest(), receipt: receipt.clone(), at: now };
        tenant.keys.insert(key.key().to_owned(), record);
    }
    Ok(receipt)
}

/// The answer of an earlier commit under the same key.
fn replay(tenant: &Tenant, now: Timestamp, commit: &Commit) -> Result<Option<CommitReceipt>> {
    let Some(key) = &commit.idempotency else { return Ok(None) };
    match tenant.keys.get(key.key()).filter(|record| record.stands(now)) {
        None => Ok(None),
        Some(record) if record.digest == *key.digest() => {
            Ok(Some(CommitReceipt { replayed: true, ..record.receipt.clone() }))
        }
        Some(_) => Err(Error::invalid("the idempotency key stands for another request")),
    }
}

/// Refuses a write that the tenant's fence keeps out.
pub(super) fn check_fence(tenant: &Tenant, context: &CallContext) -> Result<()> {
    match tenant.fence {
        Some(fence) if context.fence.is_none_or(|token| token < fence) => {
            Err(Error::new(ErrorKind::Conflict, "the tenant's write fence is newer"))
        }
        _ => Ok(()),
    }
}

fn plan(tenant: &Tenant, now: Timestamp, commit: &Commit) -> Result<Vec<Plan>> {
    // A commit happens whole: where one of its puts is found, all of it has happened.
    let happened = commit.resend
        && commit.writes.iter().any(|write| {
            matches!(write, Write::Put(_))
                && tenant.records.get(write.id()).is_some_and(|record| record.commit == commit.id)
        });
    let mut plans = Vec::new();
    for (place, write) in commit.writes.iter().enumerate() {
        let one = if happened {
            plan_happened(tenant, now, commit, write)
        } else {
            plan_new(tenant, now, commit.resend, write)
        };
        plans.push(one.map_err(|error| error.with_context("write", place.to_string()))?);
    }
    Ok(plans)
}

/// A write of a commit that has happened: is its work still there?
fn plan_happened(tenant: &Tenant, now: Timestamp, commit: &Commit, write: &Write) -> Result<Plan> {
    let found = tenant.records.get(write.id());
    match (write, found) {
        (Write::Put(_), Some(record)) if record.commit == commit.id => {
            Ok(Plan::Done(record.item.revision.clone()))
        }
        (Write::Delete(_), None) => Ok(Plan::Done(None)),
        (Write::Delete(_), Some(record)) if !record.item.is_visible(now) => Ok(Plan::Done(None)),
        _ => Err(covered()),
    }
}

fn covered() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "an earlier attempt may have happened and a later writer has covered it",
    )
}

fn plan_new(tenant: &Tenant, now: Timestamp, resend: bool, write: &Write) -> Result<Plan> {
    if let Write::Put(put) = write
        && let Vectors::Replace(vectors) = &put.vectors
    {
        for (space, vector) in vectors {
            tenant
                .spaces
                .find(space)
                .ok_or_else(|| Error::invalid("a vector names a space that the tenant has not"))?
                .check(vector)?;
        }
    }
    let found = tenant.visible(write.id(), now);
    let existed = found.is_some();
    match (write.precondition(), found) {
        (Precondition::Any, _) | (Precondition::Absent, None) => Ok(Plan::Write { existed }),
        (Precondition::Revision(revision), Some(record))
            if record.item.revision.as_ref() == Some(revision) =>
        {
            Ok(Plan::Write { existed })
        }
        (Precondition::Revision(_), None) if resend && matches!(write, Write::Delete(_)) => {
            Ok(Plan::Done(None))
        }
        (_, Some(_)) if resend => Err(covered()),
        (Precondition::Absent, Some(_)) => {
            Err(Error::new(ErrorKind::AlreadyExists, "the id is taken"))
        }
        (Precondition::Revision(_), None) => {
            Err(Error::new(ErrorKind::NotFound, "the item is not there"))
        }
        (Precondition::Revision(_), Some(_)) => {
            Err(Error::new(ErrorKind::Conflict, "the item has another revision"))
        }
    }
}

fn apply_put(
    state: &mut State,
    context: &CallContext,
    commit: memory_core::CommitId,
    put: Put,
    existed: bool,
) -> WriteResult {
    let sequence = state.next();
    let revision = Revision::from_number(sequence);
    let mut item = put.item;
    item.revision = Some(revision.clone());
    item.vectors.clear();
    let id = item.id.clone();
    let tenant = state.tenant_mut(&context.tenant);
    let vectors = match put.vectors {
        Vectors::Replace(vectors) => vectors,
        Vectors::Keep => tenant
            .records
            .get(&id)
            .filter(|old| old.item.content_hash() == item.content_hash())
            .map(|old| old.vectors.clone())
            .unwrap_or_default(),
    };
    tenant.records.insert(id.clone(), Record { item, vectors, commit, sequence });
    state.log(&context.tenant, ChangeOp::Put(id.clone(), revision.clone()));
    WriteResult { id, revision: Some(revision), existed }
}

fn apply_delete(
    state: &mut State,
    context: &CallContext,
    delete: Delete,
    existed: bool,
) -> WriteResult {
    // An expired item did not exist to the delete, and what is left of it goes all the same.
    if state.tenant_mut(&context.tenant).records.remove(&delete.id).is_some() {
        state.log(&context.tenant, ChangeOp::Delete(delete.id.clone()));
    }
    WriteResult { id: delete.id, revision: None, existed }
}

//! Commits that are sent again: what an earlier attempt has done is recognised by the commit's id,
//! which stands in every record that it wrote.

use memory_core::{Commit, Error, ErrorKind, Precondition, Result, Timestamp, Write, WriteResult};

use crate::apply::{Found, find};
use crate::model;
use crate::writer::WriteTxn;

/// Whether an earlier attempt at the commit has happened. A commit happens whole, so one of its puts
/// that is still there proves all of it.
pub(crate) fn has_happened(
    txn: &WriteTxn<'_>,
    tenant: i64,
    commit: &Commit,
    now: Timestamp,
) -> Result<bool> {
    if !commit.resend {
        return Ok(false);
    }
    for write in &commit.writes {
        if let Write::Put(put) = write
            && let Some(found) = find(txn, tenant, &put.item.id, now)?
            && found.commit == *commit.id.as_bytes()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The result of a write of a commit that has happened, if its work is still there.
///
/// # Errors
/// `Conflict`: a later writer has covered it.
pub(crate) fn done(commit: &Commit, write: &Write, found: Option<&Found>) -> Result<WriteResult> {
    match (write, found) {
        (Write::Put(put), Some(found)) if found.commit == *commit.id.as_bytes() => {
            Ok(WriteResult {
                id: put.item.id.clone(),
                revision: Some(model::revision(found.revision)),
                existed: put.precondition != Precondition::Absent,
            })
        }
        (Write::Delete(delete), found) if found.is_none_or(|found| !found.visible) => {
            Ok(gone(write, &delete.precondition))
        }
        _ => Err(covered()),
    }
}

/// What can be said of a write of a commit that is sent again and of which nothing is left to be
/// seen; `None` where it is to be done as if for the first time.
///
/// # Errors
/// `Conflict`: the item is not what the precondition names, and whether the first attempt came
/// before whoever changed it cannot be told.
pub(crate) fn unseen(write: &Write, found: Option<&Found>) -> Result<Option<WriteResult>> {
    let seen = found.filter(|found| found.visible);
    match (write, seen) {
        (Write::Delete(delete), None) => Ok(Some(gone(write, &delete.precondition))),
        (_, Some(found)) => match write.precondition() {
            Precondition::Any => Ok(None),
            Precondition::Revision(revision)
                if model::revision_number(revision) == Some(found.revision) =>
            {
                Ok(None)
            }
            Precondition::Absent | Precondition::Revision(_) => Err(covered()),
        },
        (Write::Put(_), None) => Ok(None),
    }
}

fn gone(write: &Write, precondition: &Precondition) -> WriteResult {
    WriteResult {
        id: write.id().clone(),
        revision: None,
        existed: *precondition != Precondition::Any,
    }
}

fn covered() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "an earlier attempt may have happened and a later writer has covered it",
    )
}

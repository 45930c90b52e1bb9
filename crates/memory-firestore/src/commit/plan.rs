//! What becomes of each write: decided on what its revision says, or on the rows that were read.

use memory_core::{
    CommitId, ContentHash, Error, ErrorKind, Precondition, Result, Revision, Timestamp, Vectors,
    Write, WriteResult,
};

use crate::admin::LogOp;
use crate::model::Row;
use crate::revision::Parts;

/// What becomes of one write.
#[derive(Clone, Debug)]
pub(crate) enum Decision {
    /// It is put, if the document was last changed at `at`, or is not there.
    Put { at: Option<i64>, keep: bool, existed: bool },
    /// It is deleted, if the document was last changed at `at`.
    Delete { at: i64, existed: bool },
    /// There is nothing to delete.
    Gone { existed: bool, own: bool },
    /// An earlier attempt at the commit has put it.
    Done { revision: Revision, existed: bool },
}

impl Decision {
    /// Whether something is sent for it.
    pub(crate) fn writes(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }

    /// Whether it is the work of an earlier attempt.
    pub(crate) fn own(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Gone { own: true, .. })
    }

    /// The result, with the update time of the write if one was sent.
    pub(crate) fn result(&self, write: &Write, time: Option<i64>) -> WriteResult {
        let (revision, existed) = match self {
            Self::Put { existed, .. } => (time.and_then(|time| revision_at(write, time)), *existed),
            Self::Delete { existed, .. } | Self::Gone { existed, .. } => (None, *existed),
            Self::Done { revision, existed } => (Some(revision.clone()), *existed),
        };
        WriteResult { id: write.id().clone(), revision, existed }
    }
}

/// The revision that a put gets when it happens at a time.
pub(crate) fn revision_at(write: &Write, time: i64) -> Option<Revision> {
    let Write::Put(put) = write else { return None };
    Some(Parts::new(time, put.item.expires_at, &put.item.content_hash()).issue())
}

/// What the change log says of a write that is sent.
pub(crate) fn log_op(write: &Write, decision: &Decision) -> Option<LogOp> {
    match (write, decision) {
        (Write::Put(put), Decision::Put { .. }) => Some(LogOp::Put {
            id: put.item.id.clone(),
            until: put.item.expires_at,
            hash: put.item.content_hash(),
        }),
        (_, Decision::Delete { .. }) => Some(LogOp::Delete { id: write.id().clone() }),
        _ => None,
    }
}

/// Whether a write cannot be sent before its document has been looked at.
pub(crate) fn needs_a_look(write: &Write, now: Timestamp) -> bool {
    match (write, write.precondition()) {
        (_, Precondition::Revision(revision)) => {
            Parts::parse(revision).is_none_or(|parts| !parts.is_visible(now))
        }
        (Write::Delete(_), _) => true,
        (Write::Put(_), _) => false,
    }
}

/// Decides about each write: without rows on what the revisions say, otherwise on the rows.
pub(crate) fn decide(
    id: &CommitId,
    writes: &[&Write],
    rows: Option<&[Option<Row>]>,
    resend: bool,
    alone: bool,
    now: Timestamp,
) -> Vec<Result<Decision>> {
    let Some(rows) = rows else {
        return writes.iter().map(|write| unread(write)).collect();
    };
    let own = |row: &Option<Row>| row.as_ref().is_some_and(|row| row.commit == *id.as_bytes());
    // A commit happens whole, so one of its puts that is still there proves all of it. Of writes that
    // stand alone each proves itself only.
    let happened = resend
        && !alone
        && writes.iter().zip(rows).any(|(write, row)| matches!(write, Write::Put(_)) && own(row));
    let each = |(write, row): (&&Write, &Option<Row>)| {
        let row = row.as_ref();
        let own_put = resend
            && alone
            && matches!(write, Write::Put(_))
            && row.is_some_and(|row| row.commit == *id.as_bytes());
        if happened || own_put {
            return done(id, write, row, now);
        }
        if resend && let Some(decision) = unseen(write, row, now)? {
            return Ok(decision);
        }
        seen(write, row, now)
    };
    writes.iter().zip(rows).map(each).collect()
}

/// Before anything was read.
fn unread(write: &Write) -> Result<Decision> {
    match (write, write.precondition()) {
        (Write::Put(put), Precondition::Revision(revision)) => {
            let parts = Parts::parse(revision).ok_or_else(other_revision)?;
            let keep = put.vectors == Vectors::Keep && parts.has_content(&put.item.content_hash());
            Ok(Decision::Put { at: Some(parts.time), keep, existed: true })
        }
        (Write::Put(_), _) => Ok(Decision::Put { at: None, keep: false, existed: false }),
        (Write::Delete(_), Precondition::Revision(revision)) => {
            let parts = Parts::parse(revision).ok_or_else(other_revision)?;
            Ok(Decision::Delete { at: parts.time, existed: true })
        }
        (Write::Delete(_), _) => {
            Err(Error::new(ErrorKind::Unexpected, "a delete without a revision was not looked for"))
        }
    }
}

/// On what was read.
fn seen(write: &Write, row: Option<&Row>, now: Timestamp) -> Result<Decision> {
    let visible = row.filter(|row| row.is_visible(now));
    match (write.precondition(), visible) {
        (Precondition::Any, _) | (Precondition::Absent, None) => {}
        (Precondition::Absent, Some(_)) => {
            return Err(Error::new(ErrorKind::AlreadyExists, "an item with the id exists"));
        }
        (Precondition::Revision(_), None) => {
            return Err(Error::new(ErrorKind::NotFound, "no item with the id exists"));
        }
        (Precondition::Revision(wanted), Some(row)) if *wanted != row.revision => {
            return Err(other_revision()
                .with_context("found", row.revision.to_string())
                .with_context("wanted", wanted.to_string()));
        }
        (Precondition::Revision(_), Some(_)) => {}
    }
    let existed = visible.is_some();
    Ok(match (write, row) {
        (Write::Put(put), row) => {
            let same = |hash: ContentHash| hash == put.item.content_hash();
            let keep = put.vectors == Vectors::Keep && visible.is_some_and(|row| same(row.hash));
            Decision::Put { at: row.map(|row| row.updated_at), keep, existed }
        }
        (Write::Delete(_), Some(row)) => Decision::Delete { at: row.updated_at, existed },
        (Write::Delete(_), None) => Decision::Gone { existed: false, own: false },
    })
}

/// Of a commit that has happened: whether this write's work is still there.
fn done(id: &CommitId, write: &Write, row: Option<&Row>, now: Timestamp) -> Result<Decision> {
    match (write, row) {
        (Write::Put(put), Some(row)) if row.commit == *id.as_bytes() => Ok(Decision::Done {
            revision: row.revision.clone(),
            existed: put.precondition != Precondition::Absent,
        }),
        (Write::Delete(_), row) if row.is_none_or(|row| !row.is_visible(now)) => Ok(gone(write)),
        _ => Err(covered()),
    }
}

/// Of a commit that is sent again and of which nothing is left to be seen; `None` where it is to be
/// done as if for the first time.
fn unseen(write: &Write, row: Option<&Row>, now: Timestamp) -> Result<Option<Decision>> {
    match (write, row.filter(|row| row.is_visible(now))) {
        (Write::Delete(_), None) => Ok(Some(gone(write))),
        (_, Some(row)) => match write.precondition() {
            Precondition::Any => Ok(None),
            Precondition::Revision(revision) if *revision == row.revision => Ok(None),
            Precondition::Absent | Precondition::Revision(_) => Err(covered()),
        },
        (Write::Put(_), None) => Ok(None),
    }
}

fn gone(write: &Write) -> Decision {
    Decision::Gone { existed: *write.precondition() != Precondition::Any, own: true }
}

fn other_revision() -> Error {
    Error::new(ErrorKind::Conflict, "the item has another revision")
}

fn covered() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "an earlier attempt may have happened and a later writer has covered it",
    )
}

//! Commits: whole or not at all.

use std::collections::BTreeSet;

use memory_core::limits::COMMIT_WRITES;
use memory_core::{
    Commit, ErrorKind, Filter, MemoryId, Outcome, Precondition, Revision, Vectors, Write,
};

use crate::conformance::bench::{Bench, item};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

fn put(b: &Bench, id: &str, content: &str, precondition: Precondition) -> CheckResult<Write> {
    Ok(Write::put(item(id, content, b.now())?, Vectors::default(), precondition))
}

/// One failing write of five, wherever it stands, leaves nothing of the others.
pub(crate) async fn commit_is_atomic(b: &Bench) -> CheckResult {
    let mut before = Vec::new();
    for id in ["replaced", "deleted", "taken"] {
        before.push(b.put(&b.ctx, item(id, "before", b.now())?).await?);
    }
    for place in 0..5 {
        let mut writes = vec![
            put(b, "new 1", "after", Precondition::Any)?,
            put(b, "replaced", "after", Precondition::Revision(before[0].clone()))?,
            Write::delete(MemoryId::new("deleted")?, Precondition::Any),
            put(b, "new 2", "after", Precondition::Absent)?,
        ];
        let bad = match place % 3 {
            0 => (put(b, "taken", "after", Precondition::Absent)?, ErrorKind::AlreadyExists),
            1 => {
                let stale = Precondition::Revision(Revision::new("stale")?);
                (put(b, "taken", "after", stale)?, ErrorKind::Conflict)
            }
            _ => {
                let gone = Precondition::Revision(before[2].clone());
                (Write::delete(MemoryId::new("missing")?, gone), ErrorKind::NotFound)
            }
        };
        writes.insert(place, bad.0);
        let error = refused("a failing write", b.commit(&b.ctx, writes).await, bad.1)?;
        ensure_eq!(error.outcome(), Outcome::NotApplied, "a failed precondition's outcome");
        let ids = b.query_ids(&b.ctx, &Filter::All).await?;
        ensure_eq!(ids, ["deleted", "replaced", "taken"], "the items after failure {place}");
        let found = b.fetch(&b.ctx, &["replaced", "deleted", "taken", "new 1", "new 2"]).await?;
        for (found, revision) in found.iter().zip(&before) {
            let found = b.there(found.clone())?;
            ensure_eq!(found.content(), "before", "the content of {}", found.id);
            ensure_eq!(found.revision.as_ref(), Some(revision), "the revision of {}", found.id);
        }
        ensure!(found[3].is_none() && found[4].is_none(), "a failed commit creates");
    }
    let good = vec![
        put(b, "new 1", "after", Precondition::Absent)?,
        put(b, "replaced", "after", Precondition::Revision(before[0].clone()))?,
        Write::delete(MemoryId::new("deleted")?, Precondition::Any),
    ];
    b.commit(&b.ctx, good).await?;
    let ids = b.query_ids(&b.ctx, &Filter::All).await?;
    ensure_eq!(ids, ["new 1", "replaced", "taken"], "the items after a commit that holds");
    Ok(())
}

/// A failed commit leaves no trace in the change log.
pub(crate) async fn failed_commit_logs_nothing(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["taken"]).await?;
    let log = b.changes()?;
    let before = log.read_changes(&b.ctx, Default::default(), 100).await?;
    ensure_eq!(before.changes.len(), 1, "entries for one put");
    let writes =
        vec![put(b, "new", "x", Precondition::Any)?, put(b, "taken", "x", Precondition::Absent)?];
    refused("a create", b.commit(&b.ctx, writes).await, ErrorKind::AlreadyExists)?;
    let after = log.read_changes(&b.ctx, Default::default(), 100).await?;
    ensure_eq!(after.changes, before.changes, "the log after a failed commit");
    Ok(())
}

/// Results stand in the order of the writes, with an id and a revision for each put.
pub(crate) async fn results_are_in_order(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["m", "old"]).await?;
    let writes = vec![
        put(b, "z", "x", Precondition::Any)?,
        put(b, "a", "x", Precondition::Absent)?,
        Write::delete(MemoryId::new("old")?, Precondition::Any),
        put(b, "m", "x", Precondition::Any)?,
        Write::delete(MemoryId::new("none")?, Precondition::Any),
    ];
    let receipt = b.commit(&b.ctx, writes).await?;
    let shown: Vec<_> = receipt
        .results
        .iter()
        .map(|result| (result.id.as_str(), result.revision.is_some(), result.existed))
        .collect();
    let expected = [
        ("z", true, false),
        ("a", true, false),
        ("old", false, true),
        ("m", true, true),
        ("none", false, false),
    ];
    ensure_eq!(shown, expected, "the results");
    for result in receipt.results.iter().filter(|result| result.revision.is_some()) {
        let got = b.there(b.get(&b.ctx, result.id.as_str()).await?)?;
        ensure_eq!(got.revision, result.revision, "the revision of {}", result.id);
    }
    Ok(())
}

/// A commit that names an id twice is refused, and nothing of it happens.
pub(crate) async fn duplicate_ids_are_refused(b: &Bench) -> CheckResult {
    let twice = vec![
        put(b, "a", "first", Precondition::Any)?,
        put(b, "b", "x", Precondition::Any)?,
        put(b, "a", "second", Precondition::Any)?,
    ];
    refused("an id twice", b.commit(&b.ctx, twice).await, ErrorKind::InvalidInput)?;
    let both = vec![
        put(b, "a", "x", Precondition::Any)?,
        Write::delete(MemoryId::new("a")?, Precondition::Any),
    ];
    refused("a put and a delete", b.commit(&b.ctx, both).await, ErrorKind::InvalidInput)?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after refusals");
    b.commit(&b.ctx, vec![put(b, "a", "x", Precondition::Any)?]).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "items after a good commit");
    Ok(())
}

/// A commit without writes is refused.
pub(crate) async fn empty_commit_is_refused(b: &Bench) -> CheckResult {
    refused("a commit of nothing", b.commit(&b.ctx, Vec::new()).await, ErrorKind::InvalidInput)?;
    Ok(())
}

/// 2,000 writes are taken as one, 2,001 are refused.
pub(crate) async fn commit_size_is_bounded(b: &Bench) -> CheckResult {
    let many = |count: usize| -> CheckResult<Vec<Write>> {
        (0..count).map(|n| put(b, &format!("{n:05}"), "x", Precondition::Absent)).collect()
    };
    let answer = b.commit(&b.ctx, many(COMMIT_WRITES + 1)?).await;
    refused("2,001 writes", answer, ErrorKind::InvalidInput)?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after a refusal");
    let receipt = b.commit(&b.ctx, many(COMMIT_WRITES)?).await?;
    let revisions: BTreeSet<_> = receipt
        .results
        .iter()
        .filter_map(|result| {
            result.revision.as_ref().map(|revision| (&result.id, revision.as_str()))
        })
        .collect();
    ensure_eq!(revisions.len(), COMMIT_WRITES, "revisions in the receipt");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, COMMIT_WRITES as u64, "items after it");
    Ok(())
}

/// A commit beyond the limit of bytes is refused whole.
pub(crate) async fn commit_bytes_are_bounded(b: &Bench) -> CheckResult {
    let text = "x".repeat(700 * 1024);
    let writes: Vec<_> = (0..14)
        .map(|n| put(b, &n.to_string(), &text, Precondition::Any))
        .collect::<CheckResult<_>>()?;
    // As many as the store takes at once, up to eight.
    let most = b.records().capabilities().max_commit_bytes;
    let count = (most / (701 * 1024)).min(8);
    ensure!(count > 1, "a store takes {most} bytes at once: not two large items");
    let some = writes[..count].to_vec();
    refused("9.8 MB", b.commit(&b.ctx, writes).await, ErrorKind::InvalidInput)?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after a refusal");
    b.commit(&b.ctx, some).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, count as u64, "items after the commit");
    Ok(())
}

/// Every read that begins after an acknowledgement sees the commit.
pub(crate) async fn reads_see_what_was_acknowledged(b: &Bench) -> CheckResult {
    for n in 0..50_u64 {
        let id = format!("{n:03}");
        b.put(&b.ctx, item(&id, &format!("text {n}"), b.now())?).await?;
        ensure!(b.get(&b.ctx, &id).await?.is_some(), "a fetch misses write {n}");
        ensure_eq!(b.count(&b.ctx, &Filter::All).await?, n + 1, "a count after write {n}");
        let ids = b.query_ids(&b.ctx, &Filter::All).await?;
        ensure_eq!(ids.last(), Some(&id), "a query after write {n}");
    }
    Ok(())
}

/// A commit's id alone changes nothing: without `resend` the second sending is a new attempt.
pub(crate) async fn first_attempts_ignore_their_id(b: &Bench) -> CheckResult {
    let commit = Commit::new(b.commit_id(), vec![put(b, "a", "x", Precondition::Absent)?]);
    b.records().commit(&b.ctx, commit.clone()).await?;
    let answer = b.records().commit(&b.ctx, commit).await;
    refused("a create sent twice as a first attempt", answer, ErrorKind::AlreadyExists)?;
    Ok(())
}

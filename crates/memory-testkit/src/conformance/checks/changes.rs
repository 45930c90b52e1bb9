//! The change log: everything that was written, in order, or a word that something is missing.

use std::time::Duration;

use memory_core::traits::{Change, ChangeOp, ChangePosition, VectorEntry};
use memory_core::{ConsumerName, ErrorKind, MemoryId, Precondition, Vectors, Write};

use super::vectors::{one_space, spaces};
use crate::conformance::bench::{Bench, item, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

const START: ChangePosition = ChangePosition(0);

/// Changes as words: `put a`, `vectors a`, `delete a`, `reset`.
fn words(changes: &[Change]) -> Vec<String> {
    let word = |change: &Change| match &change.op {
        ChangeOp::Put(id, _) => format!("put {id}"),
        ChangeOp::Vectors(id, _) => format!("vectors {id}"),
        ChangeOp::Delete(id) => format!("delete {id}"),
        ChangeOp::Reset => "reset".to_owned(),
    };
    changes.iter().map(word).collect()
}

async fn after(b: &Bench, position: ChangePosition) -> CheckResult<Vec<String>> {
    Ok(words(&b.changes()?.read_changes(&b.ctx, position, 1_000).await?.changes))
}

/// Puts, deletes and sweeps are logged in order, each at a place of its own, with revisions.
pub(crate) async fn changes_are_logged_in_order(b: &Bench) -> CheckResult {
    let first = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    let mut short = item("short", "x", b.now())?;
    short.expires_at = Some(b.now().saturating_add(Duration::from_secs(1)));
    b.put(&b.ctx, short).await?;
    let put = |id: &str| -> CheckResult<Write> {
        Ok(Write::put(item(id, "y", b.now())?, Vectors::default(), Precondition::Any))
    };
    let writes = vec![put("b")?, put("a")?];
    let receipt = b.commit(&b.ctx, writes).await?;
    b.delete(&b.ctx, "b", Precondition::Any).await?;
    b.advance_secs(1);
    b.records().sweep_expired(&b.ctx, 10).await?;
    let batch = b.changes()?.read_changes(&b.ctx, START, 1_000).await?;
    let expected = ["put a", "put short", "put b", "put a", "delete b", "delete short"];
    ensure_eq!(words(&batch.changes), expected, "the log");
    let rising = batch.changes.windows(2).all(|two| two[0].position < two[1].position);
    ensure!(rising, "two changes have one place, or the places fall");
    ensure!(!batch.gap, "a whole log says that something is missing");
    let last = batch.changes.last().map(|change| change.position);
    ensure_eq!(Some(batch.head), last, "the head");
    let id = MemoryId::new("a")?;
    let second = receipt.results[1].revision.clone();
    ensure_eq!(batch.changes[0].op, ChangeOp::Put(id.clone(), first), "the first put");
    let Some(second) = second else { return Err(crate::Failure::new("no revision")) };
    ensure_eq!(batch.changes[3].op, ChangeOp::Put(id, second), "the second put");
    Ok(())
}

/// A receipt's position covers its own commit and nothing after it.
pub(crate) async fn receipts_name_their_position(b: &Bench) -> CheckResult {
    let mut positions = vec![START];
    for n in 0..5 {
        let writes = ["x", "y"].into_iter().map(|id| {
            let one = item(&format!("{n}{id}"), "x", b.now())?;
            Ok(Write::put(one, Vectors::default(), Precondition::Any))
        });
        let receipt = b.commit(&b.ctx, writes.collect::<CheckResult<_>>()?).await?;
        let Some(position) = receipt.position else {
            return Err(crate::Failure::new("a store with a change log gives no position"));
        };
        ensure!(position > positions[n], "positions fall");
        positions.push(position);
    }
    for n in 0..5 {
        let batch = b.changes()?.read_changes(&b.ctx, positions[n], 1_000).await?;
        let own: Vec<_> = batch
            .changes
            .iter()
            .filter(|change| change.position <= positions[n + 1])
            .cloned()
            .collect();
        ensure_eq!(words(&own), [format!("put {n}x"), format!("put {n}y")], "commit {n}");
        ensure_eq!(batch.changes.len(), 2 * (5 - n), "what follows position {n}");
        ensure_eq!(batch.head, positions[5], "the head");
    }
    Ok(())
}

/// The log is read by parts of any size, and each part goes on where the last ended.
pub(crate) async fn changes_are_read_by_parts(b: &Bench) -> CheckResult {
    let empty = b.changes()?.read_changes(&b.ctx, START, 10).await?;
    ensure!(empty.changes.is_empty() && !empty.gap, "an empty log has entries");
    for n in 0..11 {
        b.put_all(&b.ctx, &[&format!("{n:02}")]).await?;
    }
    let whole = after(b, START).await?;
    ensure_eq!(whole.len(), 11, "the whole log");
    for limit in [1, 4, 11, 10_000] {
        let (mut position, mut read) = (START, Vec::new());
        loop {
            let batch = b.changes()?.read_changes(&b.ctx, position, limit).await?;
            ensure!(batch.changes.len() <= limit as usize, "a part is longer than asked for");
            let Some(last) = batch.changes.last() else { break };
            position = last.position;
            read.extend(words(&batch.changes));
        }
        ensure_eq!(read, whole, "the log by parts of {limit}");
    }
    for limit in [0, 10_001, u32::MAX] {
        let answer = b.changes()?.read_changes(&b.ctx, START, limit).await;
        refused("a limit of a part", answer, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// A tenant's log holds its own changes only, and so do its consumers.
pub(crate) async fn changes_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let (log, other) = (b.changes()?, tenant("acme2")?);
    b.put_all(&b.ctx, &["ours"]).await?;
    b.put_all(&other, &["theirs", "their second"]).await?;
    ensure_eq!(after(b, START).await?, ["put ours"], "our log");
    let theirs = log.read_changes(&other, START, 10).await?;
    ensure_eq!(words(&theirs.changes), ["put theirs", "put their second"], "their log");
    log.acknowledge(&other, &ConsumerName::new("index")?, theirs.head).await?;
    ensure!(log.consumers(&b.ctx).await?.is_empty(), "their consumer is ours");
    log.forget_consumer(&b.ctx, &ConsumerName::new("index")?).await?;
    ensure_eq!(log.consumers(&other).await?.len(), 1, "their consumers after ours was forgotten");
    Ok(())
}

/// A consumer registers at a position and moves forward, never back, until it is forgotten.
pub(crate) async fn consumers_move_forward(b: &Bench) -> CheckResult {
    let log = b.changes()?;
    b.put_all(&b.ctx, &["a", "b", "c"]).await?;
    let places: Vec<_> = log
        .read_changes(&b.ctx, START, 10)
        .await?
        .changes
        .iter()
        .map(|change| change.position)
        .collect();
    let (index, audit) = (ConsumerName::new("index")?, ConsumerName::new("audit/é")?);
    log.acknowledge(&b.ctx, &audit, START).await?;
    for (position, expected) in
        [(places[0], places[0]), (places[2], places[2]), (places[1], places[2]), (START, places[2])]
    {
        log.acknowledge(&b.ctx, &index, position).await?;
        let consumers = log.consumers(&b.ctx).await?;
        ensure_eq!(consumers.get(&index), Some(&expected), "after {position:?}");
        ensure_eq!(consumers.get(&audit), Some(&START), "the other consumer");
    }
    log.forget_consumer(&b.ctx, &index).await?;
    log.forget_consumer(&b.ctx, &ConsumerName::new("unknown")?).await?;
    let left: Vec<_> = log.consumers(&b.ctx).await?.into_keys().collect();
    ensure_eq!(left, [audit], "the consumers that are left");
    Ok(())
}

/// What a consumer has not read is kept, whatever the others have read.
pub(crate) async fn unread_changes_are_kept(b: &Bench) -> CheckResult {
    let log = b.changes()?;
    let (slow, fast) = (ConsumerName::new("slow")?, ConsumerName::new("fast")?);
    b.put_all(&b.ctx, &["a", "b"]).await?;
    let read = log.read_changes(&b.ctx, START, 10).await?;
    log.acknowledge(&b.ctx, &slow, read.changes[0].position).await?;
    for n in 0..50 {
        b.put_all(&b.ctx, &[&format!("{n:02}")]).await?;
        let head = log.read_changes(&b.ctx, START, 10_000).await?.head;
        log.acknowledge(&b.ctx, &fast, head).await?;
    }
    let left = log.read_changes(&b.ctx, read.changes[0].position, 1_000).await?;
    ensure!(!left.gap, "a gap before a consumer's position");
    let words = words(&left.changes);
    ensure_eq!(words.len(), 51, "what the slow one has not read");
    ensure_eq!(words[0], "put b", "its first");
    Ok(())
}

/// Where entries have been trimmed away, a reader of them is told so; else it gets them.
pub(crate) async fn trimmed_changes_are_no_secret(b: &Bench) -> CheckResult {
    let (log, consumer) = (b.changes()?, ConsumerName::new("index")?);
    for n in 0..20 {
        b.put_all(&b.ctx, &[&format!("{n:02}")]).await?;
    }
    let head = log.read_changes(&b.ctx, START, 1_000).await?.head;
    log.acknowledge(&b.ctx, &consumer, head).await?;
    b.put_all(&b.ctx, &["after"]).await?;
    let all = log.read_changes(&b.ctx, START, 1_000).await?;
    ensure!(all.gap || all.changes.len() == 21, "{} of 21 and no gap", all.changes.len());
    let new = log.read_changes(&b.ctx, head, 1_000).await?;
    ensure!(!new.gap, "a gap after what has been acknowledged");
    ensure_eq!(words(&new.changes), ["put after"], "what has not been");
    Ok(())
}

/// A vector kept for an item is logged as such, at the item's revision.
pub(crate) async fn vector_changes_are_logged(b: &Bench) -> CheckResult {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let revision = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    let head = b.changes()?.read_changes(&b.ctx, START, 10).await?.head;
    let stale = memory_core::Revision::new("stale")?;
    for (id, revision) in [("a", &revision), ("a", &stale), ("no such", &revision)] {
        let (id, revision) = (MemoryId::new(id)?, revision.clone());
        let entry = VectorEntry { id, revision, vector: vec![1.0, 0.0, 0.0] };
        b.vectors()?.upsert(&b.ctx, &space, &[entry]).await?;
    }
    let batch = b.changes()?.read_changes(&b.ctx, head, 10).await?;
    let ops: Vec<_> = batch.changes.into_iter().map(|change| change.op).collect();
    ensure_eq!(ops, [ChangeOp::Vectors(MemoryId::new("a")?, revision)], "the log");
    Ok(())
}

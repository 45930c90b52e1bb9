//! What is left to embed: the items that have no vector in a space.

use std::collections::BTreeMap;
use std::time::Duration;

use memory_core::traits::{UpsertOutcome, VectorEntry};
use memory_core::{
    CallContext, EmbeddingSpace, ErrorKind, MemoryId, Precondition, Revision, Vectors, Write,
};

use super::vectors::{one_space, spaces, two_spaces};
use crate::conformance::bench::{Bench, item, memory_ids, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

const X: [f32; 3] = [1.0, 0.0, 0.0];

async fn ready(b: &Bench) -> CheckResult<EmbeddingSpace> {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    Ok(space)
}

async fn with_vector(b: &Bench, space: &EmbeddingSpace, id: &str) -> CheckResult<Revision> {
    Ok(b.put_vector(&b.ctx, item(id, id, b.now())?, space, &X).await?)
}

async fn page(
    b: &Bench,
    ctx: &CallContext,
    space: &EmbeddingSpace,
    after: Option<&str>,
    limit: u32,
) -> CheckResult<Vec<String>> {
    let after = after.map(MemoryId::new).transpose()?;
    let ids = b.vectors()?.missing(ctx, space, after, limit).await?;
    Ok(ids.iter().map(ToString::to_string).collect())
}

/// All of them in one page.
async fn missing(b: &Bench, space: &EmbeddingSpace) -> CheckResult<Vec<String>> {
    page(b, &b.ctx, space, None, 1_000).await
}

/// Keeps a vector for an item that must be at the revision.
async fn embed(
    b: &Bench,
    space: &EmbeddingSpace,
    id: &str,
    revision: Revision,
) -> CheckResult<UpsertOutcome> {
    let entry = VectorEntry { id: MemoryId::new(id)?, revision, vector: X.to_vec() };
    let outcomes = b.vectors()?.upsert(&b.ctx, space, &[entry]).await?;
    ensure_eq!(outcomes.len(), 1, "the outcomes of one entry");
    Ok(outcomes[0])
}

/// The items without a vector are listed, and no others.
pub(crate) async fn missing_vectors_are_listed(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    ensure!(missing(b, &space).await?.is_empty(), "an empty tenant lacks a vector");
    for id in ["b", "d"] {
        with_vector(b, &space, id).await?;
    }
    ensure!(missing(b, &space).await?.is_empty(), "an item lacks the vector that it has");
    b.put_all(&b.ctx, &["e", "a", "c"]).await?;
    ensure_eq!(missing(b, &space).await?, ["a", "c", "e"], "the items without a vector");
    Ok(())
}

/// A vector takes its item off the list; a change of content, a removal of the vector or a put
/// without one brings it back; a delete takes it off for good.
pub(crate) async fn missing_vectors_follow_the_items(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    b.put_all(&b.ctx, &["other"]).await?;
    let old = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    let now = b.put(&b.ctx, item("a", "y", b.now())?).await?;
    ensure_eq!(missing(b, &space).await?, ["a", "other"], "after the puts");
    ensure_eq!(embed(b, &space, "a", old).await?, UpsertOutcome::Stale, "an old text's vector");
    ensure_eq!(missing(b, &space).await?, ["a", "other"], "after a stale upsert");
    ensure_eq!(embed(b, &space, "a", now.clone()).await?, UpsertOutcome::Stored, "a vector");
    ensure_eq!(missing(b, &space).await?, ["other"], "after an upsert");

    let keep = |content, revision| -> CheckResult<Vec<Write>> {
        let one = item("a", content, b.now())?;
        Ok(vec![Write::put(one, Vectors::Keep, Precondition::Revision(revision))])
    };
    let receipt = b.commit(&b.ctx, keep("y", now)?).await?;
    ensure_eq!(missing(b, &space).await?, ["other"], "after a put of the same content");
    let Some(now) = receipt.results[0].revision.clone() else {
        return Err(crate::Failure::new("a put has no revision"));
    };
    let receipt = b.commit(&b.ctx, keep("another text", now)?).await?;
    ensure_eq!(missing(b, &space).await?, ["a", "other"], "after a change of content");
    let Some(now) = receipt.results[0].revision.clone() else {
        return Err(crate::Failure::new("a put has no revision"));
    };
    embed(b, &space, "a", now).await?;
    ensure_eq!(missing(b, &space).await?, ["other"], "after the vector of the new content");

    b.vectors()?.remove(&b.ctx, &space, &memory_ids(&["a"])?).await?;
    ensure_eq!(missing(b, &space).await?, ["a", "other"], "after a removal of the vector");
    with_vector(b, &space, "a").await?;
    ensure_eq!(missing(b, &space).await?, ["other"], "after a put with a vector");
    b.put(&b.ctx, item("a", "a", b.now())?).await?;
    ensure_eq!(missing(b, &space).await?, ["a", "other"], "after a put without one");
    b.delete(&b.ctx, "a", Precondition::Any).await?;
    ensure_eq!(missing(b, &space).await?, ["other"], "after a delete");
    Ok(())
}

/// Pages of any size give each item once, in the order of the bytes of the ids, and only a page
/// that is not full is the last; the id to go on after need not be there.
pub(crate) async fn missing_vectors_come_in_pages(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let mut ids =
        ["a", "B", "a/b", "aa", "a b", "%", "_", "é", "z", "\u{ffee}", "\u{1f600}", "10", "9"];
    b.put_all(&b.ctx, &ids).await?;
    for id in ["A", "ab", "\u{fffd}"] {
        with_vector(b, &space, id).await?;
    }
    ids.sort_unstable();
    for limit in [1, 2, 3, 12, 13, 14, 1_000] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        // A walk that does not move would turn forever.
        for _ in 0..=ids.len() {
            let part = page(b, &b.ctx, &space, after.as_deref(), limit).await?;
            ensure!(part.len() <= full, "a page of {} under a limit of {limit}", part.len());
            after = part.last().cloned();
            let last = part.len() < full;
            seen.extend(part);
            if last {
                break;
            }
        }
        ensure_eq!(seen, ids, "the ids in pages of {limit}");
    }
    ensure_eq!(page(b, &b.ctx, &space, Some("a!"), 2).await?, ["a/b", "aa"], "after no id");
    ensure_eq!(page(b, &b.ctx, &space, Some("A"), 1).await?, ["B"], "after an id with a vector");
    let end = page(b, &b.ctx, &space, Some("\u{1f600}"), 10).await?;
    ensure!(end.is_empty(), "something follows the last id");
    Ok(())
}

/// What comes to lack a vector behind the place that a walk has reached is found by the next walk.
pub(crate) async fn missing_vectors_behind_a_walk_wait_for_the_next(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    b.put_all(&b.ctx, &["b", "d", "f"]).await?;
    with_vector(b, &space, "c").await?;
    ensure_eq!(page(b, &b.ctx, &space, None, 2).await?, ["b", "d"], "the first page");
    b.put_all(&b.ctx, &["a", "c", "e"]).await?;
    ensure_eq!(page(b, &b.ctx, &space, Some("d"), 10).await?, ["e", "f"], "the second page");
    ensure_eq!(missing(b, &space).await?, ["a", "b", "c", "d", "e", "f"], "the next walk");
    Ok(())
}

/// An item that has expired lacks nothing, from its instant on, swept or not.
pub(crate) async fn expired_items_miss_no_vector(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    for n in 0..5 {
        let mut one = item(&format!("a{n}"), "x", b.now())?;
        one.expires_at = Some(b.now().saturating_add(Duration::from_secs(5)));
        b.put(&b.ctx, one).await?;
    }
    b.put_all(&b.ctx, &["b", "c"]).await?;
    ensure_eq!(missing(b, &space).await?.len(), 7, "the number before the instant");
    ensure_eq!(page(b, &b.ctx, &space, None, 2).await?, ["a0", "a1"], "a page before it");
    b.advance_secs(5);
    ensure_eq!(missing(b, &space).await?, ["b", "c"], "what is left at the instant");
    ensure_eq!(page(b, &b.ctx, &space, None, 2).await?, ["b", "c"], "a page at the instant");
    b.records().sweep_expired(&b.ctx, 100).await?;
    ensure_eq!(missing(b, &space).await?, ["b", "c"], "what is left after the sweep");
    Ok(())
}

/// A tenant's list holds its own items, whether they have a vector in another tenant or not.
pub(crate) async fn missing_vectors_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let other = tenant("acme2")?;
    spaces(b, &other, Some(&space), None).await?;
    b.put_all(&b.ctx, &["both", "ours"]).await?;
    b.put_all(&other, &["theirs"]).await?;
    b.put_vector(&other, item("both", "x", b.now())?, &space, &X).await?;
    ensure_eq!(missing(b, &space).await?, ["both", "ours"], "our items");
    ensure_eq!(page(b, &other, &space, None, 1_000).await?, ["theirs"], "their items");
    Ok(())
}

/// Two spaces have a list each; a space that changes its place keeps its list.
pub(crate) async fn missing_vectors_are_those_of_one_space(b: &Bench) -> CheckResult {
    let (old, new) = two_spaces()?;
    spaces(b, &b.ctx, Some(&old), Some(&new)).await?;
    b.put_all(&b.ctx, &["none"]).await?;
    with_vector(b, &old, "old").await?;
    with_vector(b, &new, "new").await?;
    let vectors = BTreeMap::from([(old.id(), X.to_vec()), (new.id(), X.to_vec())]);
    let both = item("both", "x", b.now())?;
    b.commit(&b.ctx, vec![Write::put(both, Vectors::Replace(vectors), Precondition::Any)]).await?;
    ensure_eq!(missing(b, &old).await?, ["new", "none"], "the old space");
    ensure_eq!(missing(b, &new).await?, ["none", "old"], "the new space");
    spaces(b, &b.ctx, Some(&new), None).await?;
    ensure_eq!(missing(b, &new).await?, ["none", "old"], "the new space alone");
    let answer = b.vectors()?.missing(&b.ctx, &old, None, 10).await;
    refused("a list of a dropped space", answer, ErrorKind::InvalidInput)?;
    spaces(b, &b.ctx, Some(&new), Some(&old)).await?;
    let all = ["both", "new", "none", "old"];
    ensure_eq!(missing(b, &old).await?, all, "a dropped space that came back");
    ensure_eq!(missing(b, &new).await?, ["none", "old"], "the active space beside it");
    Ok(())
}

/// Limits are held and refused, and so is a space that the tenant does not have, even if another
/// tenant has it.
pub(crate) async fn missing_vectors_are_bounded(b: &Bench) -> CheckResult {
    let (space, unknown) = two_spaces()?;
    spaces(b, &tenant("other")?, Some(&unknown), None).await?;
    let index = b.vectors()?;
    let early = index.missing(&b.ctx, &space, None, 10).await;
    refused("a list before there is a space", early, ErrorKind::InvalidInput)?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let answer = index.missing(&b.ctx, &unknown, None, 10).await;
    refused("a list of an unknown space", answer, ErrorKind::InvalidInput)?;
    let writes = (0..1_001).map(|n| {
        let one = item(&format!("{n:04}"), "x", b.now())?;
        Ok(Write::put(one, Vectors::default(), Precondition::Any))
    });
    b.commit(&b.ctx, writes.collect::<CheckResult<_>>()?).await?;
    for limit in [0, 1_001, 1_000_000_000, u32::MAX] {
        let answer = index.missing(&b.ctx, &space, None, limit).await;
        refused(&format!("a limit of {limit}"), answer, ErrorKind::InvalidInput)?;
    }
    ensure_eq!(page(b, &b.ctx, &space, None, 1).await?, ["0000"], "a page of one");
    let most = page(b, &b.ctx, &space, None, 1_000).await?;
    ensure_eq!(most.len(), 1_000, "the largest page");
    ensure_eq!(most.last().map(String::as_str), Some("0999"), "its last id");
    ensure_eq!(page(b, &b.ctx, &space, Some("0999"), 1_000).await?, ["1000"], "the rest");
    Ok(())
}

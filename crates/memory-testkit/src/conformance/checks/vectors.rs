//! Vectors: nearest first, of what is there now, within the tenant.

use std::collections::BTreeMap;

use memory_core::traits::{IndexHit, TenantSpaces, UpsertOutcome, VectorEntry, VectorQuery};
use memory_core::{
    CallContext, EmbeddingSpace, ErrorKind, Field, Filter, MemoryId, Metric, Precondition,
    Projection, Revision, UserId, VectorProjection, Vectors, Write,
};

use crate::conformance::bench::{Bench, item, memory_ids, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};
use crate::generators::Generator;
use crate::reference::likeness;

/// A space of three dimensions under cosine.
pub(crate) fn one_space() -> memory_core::Result<EmbeddingSpace> {
    EmbeddingSpace::new("model", "1", 3, Metric::Cosine)
}

/// Two spaces that differ in the model's revision only.
pub(crate) fn two_spaces() -> memory_core::Result<(EmbeddingSpace, EmbeddingSpace)> {
    Ok((one_space()?, EmbeddingSpace::new("model", "2", 3, Metric::Cosine)?))
}

/// Gives a tenant its spaces.
pub(crate) async fn spaces(
    b: &Bench,
    ctx: &CallContext,
    active: Option<&EmbeddingSpace>,
    next: Option<&EmbeddingSpace>,
) -> CheckResult<TenantSpaces> {
    let meta = b.meta()?;
    let mut spaces = meta.spaces(ctx).await?;
    (spaces.active, spaces.next) = (active.cloned(), next.cloned());
    Ok(meta.set_spaces(ctx, &spaces).await?)
}

const X: [f32; 3] = [1.0, 0.0, 0.0];
const Y: [f32; 3] = [0.0, 1.0, 0.0];

async fn ready(b: &Bench) -> CheckResult<EmbeddingSpace> {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    Ok(space)
}

async fn put(
    b: &Bench,
    space: &EmbeddingSpace,
    id: &str,
    vector: [f32; 3],
) -> CheckResult<Revision> {
    Ok(b.put_vector(&b.ctx, item(id, id, b.now())?, space, &vector).await?)
}

async fn search(b: &Bench, query: &VectorQuery) -> CheckResult<Vec<IndexHit>> {
    Ok(b.vectors()?.search(&b.ctx, query).await?.hits)
}

fn ids(hits: &[IndexHit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.id.as_str()).collect()
}

async fn found(b: &Bench, space: &EmbeddingSpace, vector: [f32; 3]) -> CheckResult<Vec<String>> {
    let query = VectorQuery::new(space.clone(), vector.to_vec(), 100);
    Ok(ids(&search(b, &query).await?).iter().map(|id| (*id).to_owned()).collect())
}

/// The nearest come first, with their likeness and the revision of the item.
async fn nearest_under(b: &Bench, metric: Metric) -> CheckResult {
    let space = EmbeddingSpace::new("clusters", "1", 24, metric)?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let mut random = Generator::new(11);
    let vectors = random.clustered_vectors(200, 24, 8);
    let writes = vectors.iter().enumerate().map(|(n, vector)| {
        let vectors = Vectors::Replace(BTreeMap::from([(space.id(), vector.clone())]));
        Ok(Write::put(item(&format!("{n:03}"), "x", b.now())?, vectors, Precondition::Any))
    });
    let receipt = b.commit(&b.ctx, writes.collect::<CheckResult<_>>()?).await?;
    let exact = b.vectors()?.capabilities().exact_vectors;
    let (mut hit, mut asked) = (0, 0);
    for query in random.clustered_vectors(20, 24, 8) {
        let mut scores: Vec<_> =
            vectors.iter().map(|vector| likeness(metric, &query, vector)).collect();
        let answer = b
            .vectors()?
            .search(&b.ctx, &VectorQuery::new(space.clone(), query.clone(), 10))
            .await?;
        // A back end may be exact up to a size: only one that always is has to say so.
        ensure!(answer.exact || !exact, "an answer of an exact index calls itself inexact");
        ensure_eq!(answer.hits.len(), 10, "the number of hits");
        for hit in &answer.hits {
            let n: usize = hit.id.as_str().parse().unwrap_or_default();
            let scale = scores[n].abs().max(1.0);
            ensure!((hit.score - scores[n]).abs() <= 1e-4 * scale, "the score {}", hit.score);
            let revision = receipt.results[n].revision.as_ref();
            ensure_eq!(Some(&hit.revision), revision, "the revision of {}", hit.id);
        }
        let in_order = answer.hits.windows(2).all(|two| {
            two[0].score > two[1].score || (two[0].score == two[1].score && two[0].id < two[1].id)
        });
        ensure!(in_order, "the hits are not best first, ties by id");
        scores.sort_by(|a, b| b.total_cmp(a));
        let floor = scores[9] - 1e-4 * scores[9].abs().max(1.0);
        asked += 10;
        hit += answer.hits.iter().filter(|hit| hit.score >= floor).count();
    }
    let wanted = if exact { asked } else { asked * 9 / 10 };
    ensure!(hit >= wanted, "{hit} of the nearest {asked} were found");
    Ok(())
}

/// By cosine.
pub(crate) async fn nearest_by_cosine(b: &Bench) -> CheckResult {
    nearest_under(b, Metric::Cosine).await
}

/// By dot product.
pub(crate) async fn nearest_by_dot_product(b: &Bench) -> CheckResult {
    nearest_under(b, Metric::Dot).await
}

/// By Euclidean distance.
pub(crate) async fn nearest_by_distance(b: &Bench) -> CheckResult {
    nearest_under(b, Metric::Euclidean).await
}

/// A filter chooses what may be found, and the answer fills up to its limit from what passes.
pub(crate) async fn vector_search_fills_up_under_a_filter(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    for n in 0..60_u8 {
        let mut one = item(&format!("{n:02}"), "x", b.now())?;
        // The few of bob's are the farthest from the query.
        if n >= 55 {
            one.user_id = Some(UserId::new("bob")?);
        }
        b.put_vector(&b.ctx, one, &space, &[1.0, f32::from(n), 0.0]).await?;
    }
    let query = VectorQuery::new(space, X.to_vec(), 3);
    ensure_eq!(ids(&search(b, &query).await?), ["00", "01", "02"], "without a filter");
    let bobs = query.clone().with_filter(Filter::eq(Field::UserId, "bob"));
    ensure_eq!(ids(&search(b, &bobs).await?), ["55", "56", "57"], "with a filter");
    let mut all = bobs;
    all.limit = 100;
    ensure_eq!(search(b, &all).await?.len(), 5, "all that pass");
    let none = query.with_filter(Filter::eq(Field::UserId, "nobody"));
    ensure!(search(b, &none).await?.is_empty(), "a filter that nothing passes finds something");
    Ok(())
}

/// A deleted item is not found, and neither is the vector that an update took away or moved.
pub(crate) async fn stale_vectors_are_not_found(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    for id in ["deleted", "moved", "bared", "still"] {
        put(b, &space, id, X).await?;
    }
    ensure_eq!(found(b, &space, X).await?.len(), 4, "hits before");
    b.delete(&b.ctx, "deleted", Precondition::Any).await?;
    let moved = put(b, &space, "moved", Y).await?;
    b.put(&b.ctx, item("bared", "x", b.now())?).await?;
    ensure_eq!(found(b, &space, X).await?, ["still", "moved"], "hits after");
    let nearest = search(b, &VectorQuery::new(space.clone(), Y.to_vec(), 1)).await?;
    ensure_eq!(ids(&nearest), ["moved"], "the nearest of the new place");
    ensure_eq!(nearest[0].revision, moved, "its revision");
    put(b, &space, "deleted", Y).await?;
    ensure_eq!(found(b, &space, Y).await?, ["deleted", "moved", "still"], "created again");
    Ok(())
}

/// An expired item is not found from its instant on, and leaves its place to others.
pub(crate) async fn expired_vectors_are_not_found(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    for n in 0..20_u8 {
        let mut one = item(&format!("short {n}"), "x", b.now())?;
        one.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(5)));
        b.put_vector(&b.ctx, one, &space, &[1.0, f32::from(n) / 100.0, 0.0]).await?;
    }
    put(b, &space, "far 1", [0.0, 1.0, 0.1]).await?;
    put(b, &space, "far 2", [0.0, 1.0, 0.2]).await?;
    let query = VectorQuery::new(space, X.to_vec(), 2);
    ensure_eq!(ids(&search(b, &query).await?), ["short 0", "short 1"], "hits before");
    b.advance_secs(5);
    let hits = search(b, &query).await?;
    ensure_eq!(hits.len(), 2, "the number of hits at the instant");
    ensure!(hits.iter().all(|hit| hit.id.as_str().starts_with("far")), "an expired item");
    b.records().sweep_expired(&b.ctx, 100).await?;
    ensure_eq!(search(b, &query).await?.len(), 2, "hits after the sweep");
    Ok(())
}

/// `Keep` keeps the vectors while the content stays, and drops them when it changes.
pub(crate) async fn kept_vectors_follow_the_content(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let keep =
        |item, revision| vec![Write::put(item, Vectors::Keep, Precondition::Revision(revision))];
    let revision = put(b, &space, "a", X).await?;
    let mut same = item("a", "a", b.now())?;
    same.importance = Some(0.5);
    let receipt = b.commit(&b.ctx, keep(same.clone(), revision.clone())).await?;
    let hits = search(b, &VectorQuery::new(space.clone(), X.to_vec(), 10)).await?;
    ensure_eq!(ids(&hits), ["a"], "hits after the content stayed");
    let newest = receipt.results[0].revision.clone();
    ensure_eq!(Some(&hits[0].revision), newest.as_ref(), "the revision of the hit");
    ensure!(hits[0].score > 0.999, "the vector has changed");
    let late = b.commit(&b.ctx, keep(same, revision)).await;
    refused("a keep under an old revision", late, ErrorKind::Conflict)?;
    ensure_eq!(found(b, &space, X).await?, ["a"], "hits after a refused keep");
    let Some(newest) = newest else { return Err(crate::Failure::new("a put has no revision")) };
    b.commit(&b.ctx, keep(item("a", "another text", b.now())?, newest)).await?;
    ensure!(found(b, &space, X).await?.is_empty(), "a vector outlives its content");
    let projection = Projection::narrow().with_vectors(VectorProjection::All);
    let got = b.records().fetch(&b.ctx, &memory_ids(&["a"])?, &projection).await?;
    ensure!(b.there(got[0].clone())?.vectors.is_empty(), "a read brings the old vector");
    Ok(())
}

/// `Keep` without a revision is refused.
pub(crate) async fn keep_needs_a_revision(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    put(b, &space, "a", X).await?;
    for precondition in [Precondition::Any, Precondition::Absent] {
        let write = Write::put(item("a", "a", b.now())?, Vectors::Keep, precondition);
        let answer = b.commit(&b.ctx, vec![write]).await;
        refused("a keep without a revision", answer, ErrorKind::InvalidInput)?;
    }
    ensure_eq!(found(b, &space, X).await?, ["a"], "hits after the refusals");
    Ok(())
}

/// Vectors that belong to no space are refused before anything of their commit is written.
pub(crate) async fn misshapen_vectors_are_refused(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let index = b.vectors()?;
    let revision = put(b, &space, "good", X).await?;
    let bad: [&[f32]; 8] = [
        &[],
        &[1.0, 0.0],
        &[1.0, 0.0, 0.0, 0.0],
        &[f32::NAN, 0.0, 0.0],
        &[f32::INFINITY, 0.0, 0.0],
        &[f32::NEG_INFINITY, 0.0, 0.0],
        &[0.0, -0.0, 0.0],
        &[f32::MAX, f32::MAX, f32::MAX],
    ];
    for bad in bad {
        let vectors = Vectors::Replace(BTreeMap::from([(space.id(), bad.to_vec())]));
        let writes = vec![
            Write::put(item("first", "x", b.now())?, Vectors::default(), Precondition::Any),
            Write::put(item("second", "x", b.now())?, vectors, Precondition::Any),
        ];
        let answer = b.commit(&b.ctx, writes).await;
        refused(&format!("a commit of {bad:?}"), answer, ErrorKind::InvalidInput)?;
        let query = VectorQuery::new(space.clone(), bad.to_vec(), 1);
        let answer = index.search(&b.ctx, &query).await;
        refused(&format!("a search for {bad:?}"), answer, ErrorKind::InvalidInput)?;
        let entry = VectorEntry {
            id: MemoryId::new("good")?,
            revision: revision.clone(),
            vector: bad.to_vec(),
        };
        let answer = index.upsert(&b.ctx, &space, &[entry]).await;
        refused(&format!("an upsert of {bad:?}"), answer, ErrorKind::InvalidInput)?;
    }
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["good"], "the items after");
    ensure_eq!(found(b, &space, X).await?, ["good"], "the hits after");
    Ok(())
}

/// A space that the tenant does not have is refused everywhere, even if another tenant has it.
pub(crate) async fn unknown_spaces_are_refused(b: &Bench) -> CheckResult {
    let (space, unknown) = two_spaces()?;
    let index = b.vectors()?;
    spaces(b, &tenant("other")?, Some(&unknown), None).await?;
    let early = b.put_vector(&b.ctx, item("a", "x", b.now())?, &space, &X).await;
    refused("a put before there is a space", early, ErrorKind::InvalidInput)?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let revision = put(b, &space, "a", X).await?;
    let answer = b.put_vector(&b.ctx, item("b", "x", b.now())?, &unknown, &X).await;
    refused("a put", answer, ErrorKind::InvalidInput)?;
    let query = VectorQuery::new(unknown.clone(), X.to_vec(), 1);
    refused("a search", index.search(&b.ctx, &query).await, ErrorKind::InvalidInput)?;
    let entry = VectorEntry { id: MemoryId::new("a")?, revision, vector: X.to_vec() };
    let answer = index.upsert(&b.ctx, &unknown, std::slice::from_ref(&entry)).await;
    refused("an upsert", answer, ErrorKind::InvalidInput)?;
    let answer = index.remove(&b.ctx, &unknown, &memory_ids(&["a"])?).await;
    refused("a removal", answer, ErrorKind::InvalidInput)?;
    ensure_eq!(index.upsert(&b.ctx, &space, &[entry]).await?, [UpsertOutcome::Stored], "own");
    ensure_eq!(found(b, &space, X).await?, ["a"], "the hits after");
    Ok(())
}

/// An upsert keeps a vector for the revision it was made from, and for no other.
pub(crate) async fn upserts_know_their_revision(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let index = b.vectors()?;
    let old = b.put(&b.ctx, item("moved on", "x", b.now())?).await?;
    b.put(&b.ctx, item("moved on", "y", b.now())?).await?;
    let now = b.put(&b.ctx, item("now", "x", b.now())?).await?;
    let gone = b.put(&b.ctx, item("gone", "x", b.now())?).await?;
    b.delete(&b.ctx, "gone", Precondition::Any).await?;
    let mut short = item("expired", "x", b.now())?;
    short.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(1)));
    let expired = b.put(&b.ctx, short).await?;
    b.advance_secs(1);
    let before = b.get(&b.ctx, "now").await?;
    let mut entries = Vec::new();
    for (id, revision) in
        [("moved on", &old), ("now", &now), ("gone", &gone), ("expired", &expired), ("no", &now)]
    {
        entries.push(VectorEntry {
            id: MemoryId::new(id)?,
            revision: revision.clone(),
            vector: X.to_vec(),
        });
    }
    use UpsertOutcome::{Stale, Stored};
    for _ in 0..2 {
        let outcomes = index.upsert(&b.ctx, &space, &entries).await?;
        ensure_eq!(outcomes, [Stale, Stored, Stale, Stale, Stale], "the outcomes");
        ensure_eq!(found(b, &space, X).await?, ["now"], "hits");
    }
    ensure_eq!(b.get(&b.ctx, "now").await?, before, "the item itself");
    ensure!(index.upsert(&b.ctx, &space, &[]).await?.is_empty(), "an upsert of nothing");
    let many = vec![entries[1].clone(); 1_001];
    let answer = index.upsert(&b.ctx, &space, &many).await;
    refused("1,001 entries", answer, ErrorKind::InvalidInput)?;
    Ok(())
}

/// A removal forgets vectors and not items; an unknown id is no error.
pub(crate) async fn removals_forget_vectors_only(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let index = b.vectors()?;
    put(b, &space, "a", X).await?;
    put(b, &space, "b", X).await?;
    for _ in 0..2 {
        index.remove(&b.ctx, &space, &memory_ids(&["a", "no such"])?).await?;
        ensure_eq!(found(b, &space, X).await?, ["b"], "hits after a removal");
    }
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the item went with its vector");
    let many = memory_ids(&vec!["a"; 1_001])?;
    let answer = index.remove(&b.ctx, &space, &many).await;
    refused("1,001 ids", answer, ErrorKind::InvalidInput)?;
    Ok(())
}

/// A search finds its own tenant's items only, in a space of the same name.
pub(crate) async fn vectors_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    let other = tenant("acme2")?;
    spaces(b, &other, Some(&space), None).await?;
    put(b, &space, "far", [0.0, 0.0, 1.0]).await?;
    b.put_vector(&other, item("near", "x", b.now())?, &space, &X).await?;
    ensure_eq!(found(b, &space, X).await?, ["far"], "our hits");
    let query = VectorQuery::new(space.clone(), X.to_vec(), 10);
    let theirs = b.vectors()?.search(&other, &query).await?.hits;
    ensure_eq!(ids(&theirs), ["near"], "their hits");
    let mine = theirs[0].revision.clone();
    let entry = VectorEntry { id: MemoryId::new("near")?, revision: mine, vector: Y.to_vec() };
    let outcome = b.vectors()?.upsert(&b.ctx, &space, &[entry]).await?;
    ensure_eq!(outcome, [UpsertOutcome::Stale], "an upsert of their item");
    b.vectors()?.remove(&b.ctx, &space, &memory_ids(&["near"])?).await?;
    let theirs = b.vectors()?.search(&other, &query).await?.hits;
    ensure!(theirs.len() == 1 && theirs[0].score > 0.999, "our calls moved their vector");
    Ok(())
}

/// Two spaces stand side by side; one that is no longer named is never read again.
pub(crate) async fn spaces_stand_side_by_side(b: &Bench) -> CheckResult {
    let (old, new) = two_spaces()?;
    spaces(b, &b.ctx, Some(&old), Some(&new)).await?;
    let vectors = BTreeMap::from([(old.id(), X.to_vec()), (new.id(), Y.to_vec())]);
    let write =
        Write::put(item("both", "x", b.now())?, Vectors::Replace(vectors), Precondition::Any);
    b.commit(&b.ctx, vec![write]).await?;
    put(b, &old, "old", X).await?;
    put(b, &new, "new", X).await?;
    ensure_eq!(found(b, &old, X).await?, ["both", "old"], "the old space");
    ensure_eq!(found(b, &new, X).await?, ["new", "both"], "the new space");
    spaces(b, &b.ctx, Some(&new), None).await?;
    ensure_eq!(found(b, &new, X).await?, ["new", "both"], "the new space alone");
    let query = VectorQuery::new(old.clone(), X.to_vec(), 1);
    let answer = b.vectors()?.search(&b.ctx, &query).await;
    refused("a search in a dropped space", answer, ErrorKind::InvalidInput)?;
    let projection = Projection::narrow().with_vectors(VectorProjection::All);
    let got = b.records().fetch(&b.ctx, &memory_ids(&["both"])?, &projection).await?;
    let held: Vec<_> = b.there(got[0].clone())?.vectors.into_keys().collect();
    ensure_eq!(held, [new.id()], "the spaces of a read");
    Ok(())
}

/// A search sees every commit that was acknowledged before it, up to the position it names.
pub(crate) async fn vector_search_reaches_a_position(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    for n in 0..20 {
        let vectors = Vectors::Replace(BTreeMap::from([(space.id(), X.to_vec())]));
        let write = Write::put(item(&format!("{n:02}"), "x", b.now())?, vectors, Precondition::Any);
        let receipt = b.commit(&b.ctx, vec![write]).await?;
        let query = VectorQuery::new(space.clone(), X.to_vec(), 100);
        ensure_eq!(search(b, &query).await?.len(), n + 1, "hits at once");
        let query = query.with_at_least(receipt.position);
        ensure_eq!(search(b, &query).await?.len(), n + 1, "hits at the position");
    }
    Ok(())
}

/// Ties go by id; an empty space finds nothing; limits are held and refused.
pub(crate) async fn vector_search_is_bounded(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    ensure!(found(b, &space, X).await?.is_empty(), "an empty space finds something");
    b.put_all(&b.ctx, &["without a vector"]).await?;
    ensure!(found(b, &space, X).await?.is_empty(), "an item without a vector is found");
    for id in ["c", "a", "d", "b"] {
        put(b, &space, id, X).await?;
    }
    let mut query = VectorQuery::new(space, X.to_vec(), 3);
    ensure_eq!(ids(&search(b, &query).await?), ["a", "b", "c"], "ties under a limit");
    query.limit = 1_000;
    ensure_eq!(ids(&search(b, &query).await?), ["a", "b", "c", "d"], "ties");
    for limit in [0, 1_001, 1_000_000_000] {
        query.limit = limit;
        let answer = b.vectors()?.search(&b.ctx, &query).await;
        refused("a limit of a search", answer, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// A commit that fails leaves no vector behind, and takes none away.
pub(crate) async fn failed_commits_leave_vectors_alone(b: &Bench) -> CheckResult {
    let space = ready(b).await?;
    put(b, &space, "taken", X).await?;
    let vector =
        |vector: [f32; 3]| Vectors::Replace(BTreeMap::from([(space.id(), vector.to_vec())]));
    let writes = vec![
        Write::put(item("new", "x", b.now())?, vector(X), Precondition::Any),
        Write::put(item("taken", "x", b.now())?, vector(Y), Precondition::Absent),
    ];
    refused("a create", b.commit(&b.ctx, writes).await, ErrorKind::AlreadyExists)?;
    let hits = search(b, &VectorQuery::new(space, X.to_vec(), 10)).await?;
    ensure_eq!(ids(&hits), ["taken"], "hits after a failed commit");
    ensure!(hits[0].score > 0.999, "a failed commit moved a vector");
    Ok(())
}

//! Commits that are sent again: under a caller's key, and by the layer that lost an answer.

use std::time::Duration;

use memory_core::{
    Commit, ErrorKind, Filter, IdempotencyKey, MemoryId, Precondition, Vectors, Write,
};

use crate::conformance::bench::{Bench, item, tenant, text_of};
use crate::conformance::failure::{CheckResult, Failure, ensure, ensure_eq, refused};

fn put(b: &Bench, id: &str, content: &str, precondition: Precondition) -> CheckResult<Write> {
    Ok(Write::put(item(id, content, b.now())?, Vectors::default(), precondition))
}

/// A commit of one put under a key, with an id of its own.
fn keyed(b: &Bench, key: &str, digest: u8, content: &str) -> CheckResult<Commit> {
    let key = IdempotencyKey::new(key, [digest; 32])?;
    Ok(b.commit_of(vec![put(b, "a", content, Precondition::Any)?]).with_idempotency(Some(key)))
}

/// A repetition under a key gives the first answer and does nothing.
pub(crate) async fn keys_give_the_first_answer(b: &Bench) -> CheckResult {
    let first = b.records().commit(&b.ctx, keyed(b, "key", 1, "first")?).await?;
    ensure!(!first.replayed, "a first attempt counts as replayed");
    let again = b.records().commit(&b.ctx, keyed(b, "key", 1, "again")?).await?;
    ensure!(again.replayed, "a repetition does not say so");
    ensure_eq!(again.results, first.results, "the results of a repetition");
    ensure_eq!(again.position, first.position, "the position of a repetition");
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "first", "what it did");
    b.put(&b.ctx, item("a", "later", b.now())?).await?;
    b.advance_secs(23 * 3600);
    let late = b.records().commit(&b.ctx, keyed(b, "key", 1, "late")?).await?;
    ensure!(late.replayed && late.results == first.results, "a late repetition differs");
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "later", "what was written since");
    let other = b.records().commit(&b.ctx, keyed(b, "other key", 1, "other")?).await?;
    ensure!(!other.replayed, "another key replays this one");
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "other", "what another key did");
    Ok(())
}

/// A repetition answers as at first even where its preconditions no longer hold.
pub(crate) async fn keys_come_before_preconditions(b: &Bench) -> CheckResult {
    let key = Some(IdempotencyKey::new("key", [1; 32])?);
    let commit = b.commit_of(vec![
        put(b, "a", "x", Precondition::Absent)?,
        put(b, "b", "x", Precondition::Absent)?,
    ]);
    let commit = commit.with_idempotency(key);
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    b.delete(&b.ctx, "b", Precondition::Any).await?;
    let mut again = commit;
    again.id = b.commit_id();
    let again = b.records().commit(&b.ctx, again).await?;
    ensure!(again.replayed && again.results == first.results, "the repetition differs");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["a"], "the items after it");
    Ok(())
}

/// A key that stands for one request is refused for another.
pub(crate) async fn keys_stand_for_one_request(b: &Bench) -> CheckResult {
    b.records().commit(&b.ctx, keyed(b, "key", 1, "first")?).await?;
    let other = b.records().commit(&b.ctx, keyed(b, "key", 2, "other")?).await;
    refused("a key with another digest", other, ErrorKind::InvalidInput)?;
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "first", "what stands");
    Ok(())
}

/// A key stands for 24 hours and no longer.
pub(crate) async fn keys_end_after_a_day(b: &Bench) -> CheckResult {
    b.records().commit(&b.ctx, keyed(b, "key", 1, "first")?).await?;
    b.advance_secs(24 * 3600 - 1);
    ensure!(
        b.records().commit(&b.ctx, keyed(b, "key", 1, "x")?).await?.replayed,
        "a second before"
    );
    b.advance_secs(2);
    let after = b.records().commit(&b.ctx, keyed(b, "key", 2, "next day")?).await?;
    ensure!(!after.replayed, "a key stands for more than a day");
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "next day", "what stands");
    Ok(())
}

/// A commit that failed has used up no key.
pub(crate) async fn failed_commits_use_up_no_key(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["taken"]).await?;
    let key = |digest| IdempotencyKey::new("key", [digest; 32]);
    let bad = b.commit_of(vec![put(b, "taken", "x", Precondition::Absent)?]);
    let bad = bad.with_idempotency(Some(key(1)?));
    refused("a create", b.records().commit(&b.ctx, bad).await, ErrorKind::AlreadyExists)?;
    let good = b.commit_of(vec![put(b, "free", "x", Precondition::Absent)?]);
    let receipt = b.records().commit(&b.ctx, good.with_idempotency(Some(key(2)?))).await?;
    ensure!(!receipt.replayed, "a failed commit is replayed");
    ensure!(b.get(&b.ctx, "free").await?.is_some(), "the good commit did nothing");
    Ok(())
}

/// A key belongs to its tenant, and is bytes.
pub(crate) async fn keys_are_kept_apart(b: &Bench) -> CheckResult {
    let keys = ["key", "KEY", "key ", "k%y", "k_y", "key/1", "é", "e\u{301}"];
    for (n, key) in keys.into_iter().enumerate() {
        let digest = u8::try_from(n).unwrap_or_default();
        let receipt = b.records().commit(&b.ctx, keyed(b, key, digest, key)?).await?;
        ensure!(!receipt.replayed, "{key:?} replays another key");
        let receipt = b.records().commit(&b.ctx, keyed(b, key, digest, key)?).await?;
        ensure!(receipt.replayed, "{key:?} does not replay itself");
    }
    let other = tenant("other")?;
    let receipt = b.records().commit(&other, keyed(b, "key", 9, "theirs")?).await?;
    ensure!(!receipt.replayed, "a key crosses tenants");
    ensure_eq!(b.there(b.get(&other, "a").await?)?.content(), "theirs", "their item");
    Ok(())
}

/// Deletes are replayed like puts: what came back since stays.
pub(crate) async fn keys_cover_deletes(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let key = Some(IdempotencyKey::new("key", [1; 32])?);
    let delete = Write::delete(MemoryId::new("a")?, Precondition::Any);
    let commit = b.commit_of(vec![delete]).with_idempotency(key);
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    ensure!(b.get(&b.ctx, "a").await?.is_none(), "the delete did nothing");
    b.put_all(&b.ctx, &["a"]).await?;
    let again = b.records().commit(&b.ctx, commit).await?;
    ensure!(again.replayed && again.results == first.results, "the repetition differs");
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the repetition deletes what came back");
    Ok(())
}

/// A create whose answer was lost recognises its own work.
pub(crate) async fn resent_create_recognises_itself(b: &Bench) -> CheckResult {
    let commit = b.commit_of(vec![put(b, "a", "x", Precondition::Absent)?]);
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    for _ in 0..2 {
        let again = b.records().commit(&b.ctx, commit.clone().resent()).await?;
        ensure!(again.replayed, "own work is not called replayed");
        ensure_eq!(again.results[0].revision, first.results[0].revision, "the revision");
    }
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(got.revision, first.results[0].revision, "the revision after two resends");
    Ok(())
}

/// So does a swap.
pub(crate) async fn resent_swap_recognises_itself(b: &Bench) -> CheckResult {
    let before = b.put(&b.ctx, item("a", "before", b.now())?).await?;
    let swap = put(b, "a", "after", Precondition::Revision(before))?;
    let commit = b.commit_of(vec![swap]);
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    let again = b.records().commit(&b.ctx, commit.resent()).await?;
    ensure!(again.replayed, "own work is not called replayed");
    ensure_eq!(again.results[0].revision, first.results[0].revision, "the revision");
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "after", "the content");
    Ok(())
}

/// A delete that finds nothing when it is sent again has succeeded.
pub(crate) async fn resent_delete_succeeds(b: &Bench) -> CheckResult {
    let revision = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    b.put_all(&b.ctx, &["b"]).await?;
    let swap = Precondition::Revision(revision);
    let commit = b.commit_of(vec![Write::delete(MemoryId::new("a")?, swap)]);
    b.records().commit(&b.ctx, commit.clone()).await?;
    let again = b.records().commit(&b.ctx, commit.clone().resent()).await?;
    ensure_eq!(again.results[0].revision, None, "the revision after a resent delete");
    let anew = b.records().commit(&b.ctx, commit).await;
    refused("the same as a first attempt", anew, ErrorKind::NotFound)?;
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["b"], "what is left");
    Ok(())
}

/// A commit that never arrived happens when it is sent again.
pub(crate) async fn resend_of_what_never_arrived_happens(b: &Bench) -> CheckResult {
    let old = b.put(&b.ctx, item("old", "x", b.now())?).await?;
    let gone = b.put(&b.ctx, item("gone", "x", b.now())?).await?;
    let commit = b.commit_of(vec![
        put(b, "new", "x", Precondition::Absent)?,
        put(b, "old", "y", Precondition::Revision(old))?,
        Write::delete(MemoryId::new("gone")?, Precondition::Revision(gone)),
    ]);
    let receipt = b.records().commit(&b.ctx, commit.resent()).await?;
    ensure!(!receipt.replayed, "what never happened is called replayed");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["new", "old"], "the items");
    ensure_eq!(b.there(b.get(&b.ctx, "old").await?)?.content(), "y", "the swapped content");
    Ok(())
}

/// A commit of several writes is recognised whole and done once.
pub(crate) async fn resent_commits_happen_once(b: &Bench) -> CheckResult {
    let old = b.put(&b.ctx, item("old", "x", b.now())?).await?;
    b.put_all(&b.ctx, &["gone"]).await?;
    let commit = b.commit_of(vec![
        put(b, "new", "x", Precondition::Absent)?,
        put(b, "old", "y", Precondition::Revision(old))?,
        Write::delete(MemoryId::new("gone")?, Precondition::Any),
    ]);
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    let again = b.records().commit(&b.ctx, commit.resent()).await?;
    ensure!(again.replayed, "own work is not called replayed");
    for (again, first) in again.results.iter().zip(&first.results) {
        ensure_eq!(
            (&again.id, &again.revision),
            (&first.id, &first.revision),
            "a result of the resend"
        );
    }
    let found = b.fetch(&b.ctx, &["new", "old"]).await?;
    for (found, result) in found.into_iter().zip(&first.results) {
        ensure_eq!(b.there(found)?.revision, result.revision, "a revision in the store");
    }
    Ok(())
}

/// Where a later writer has covered it, a resend is told so and covers nothing.
pub(crate) async fn covered_resends_conflict(b: &Bench) -> CheckResult {
    let create = b.commit_of(vec![put(b, "a", "created", Precondition::Absent)?]);
    let receipt = b.records().commit(&b.ctx, create.clone()).await?;
    let Some(created) = receipt.results[0].revision.clone() else {
        return Err(Failure::new("a create without a revision"));
    };
    let swap = b.commit_of(vec![put(b, "a", "swapped", Precondition::Revision(created))?]);
    b.records().commit(&b.ctx, swap.clone()).await?;
    let answer = b.records().commit(&b.ctx, create.resent()).await;
    refused("a resent create that was covered", answer, ErrorKind::Conflict)?;
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "swapped", "after the create");
    b.put(&b.ctx, item("a", "covered", b.now())?).await?;
    let answer = b.records().commit(&b.ctx, swap.resent()).await;
    refused("a resent swap that was covered", answer, ErrorKind::Conflict)?;
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "covered", "after the swap");
    Ok(())
}

/// A resend never takes another commit's work for its own.
pub(crate) async fn resends_take_no_others_work(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    let other = b.commit_of(vec![put(b, "a", "other", Precondition::Absent)?]);
    match b.records().commit(&b.ctx, other.resent()).await {
        Err(error) if [ErrorKind::AlreadyExists, ErrorKind::Conflict].contains(&error.kind()) => {}
        answer => return Err(Failure::new(format!("a resend over another's item: {answer:?}"))),
    }
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), text_of("a"), "the item");
    // The same commit id in another tenant is another commit.
    let theirs = tenant("other")?;
    let commit = b.commit_of(vec![put(b, "b", "x", Precondition::Absent)?]);
    b.records().commit(&b.ctx, commit.clone()).await?;
    let receipt = b.records().commit(&theirs, commit.resent()).await?;
    ensure!(!receipt.replayed, "own work is recognised across tenants");
    ensure!(b.get(&theirs, "b").await?.is_some(), "the commit in the other tenant did nothing");
    Ok(())
}

/// A key answers a resend, too.
pub(crate) async fn keys_answer_resends(b: &Bench) -> CheckResult {
    let commit = keyed(b, "key", 1, "x")?;
    let first = b.records().commit(&b.ctx, commit.clone()).await?;
    b.clock().advance(Duration::from_secs(5));
    let again = b.records().commit(&b.ctx, commit.resent()).await?;
    ensure!(again.replayed, "a resend under a key does not say so");
    ensure_eq!(again.results[0].revision, first.results[0].revision, "the revision");
    Ok(())
}

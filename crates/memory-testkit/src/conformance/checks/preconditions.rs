//! What must be true of an id for a write of it to happen.

use std::time::Duration;

use memory_core::traits::EraseScope;
use memory_core::{ErrorKind, Filter, MemoryItem, Precondition, Revision};

use crate::conformance::bench::{Bench, item};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

fn expiring(b: &Bench, id: &str, content: &str) -> memory_core::Result<MemoryItem> {
    let mut item = item(id, content, b.now())?;
    item.expires_at = Some(b.now().saturating_add(Duration::from_secs(10)));
    Ok(item)
}

/// `Absent` creates once; the second is `AlreadyExists` and changes nothing.
pub(crate) async fn absent_creates_once(b: &Bench) -> CheckResult {
    let first = b.put_if(&b.ctx, item("a", "first", b.now())?, Precondition::Absent).await?;
    let second = b.put_if(&b.ctx, item("a", "second", b.now())?, Precondition::Absent).await;
    refused("a second create", second, ErrorKind::AlreadyExists)?;
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(got.content(), "first", "the content after a refused create");
    ensure_eq!(got.revision, Some(first), "the revision after a refused create");
    Ok(())
}

/// `Any` creates and replaces.
pub(crate) async fn any_creates_and_replaces(b: &Bench) -> CheckResult {
    b.put(&b.ctx, item("a", "first", b.now())?).await?;
    b.put(&b.ctx, item("a", "second", b.now())?).await?;
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(got.content(), "second", "the content after a replacement");
    Ok(())
}

/// A revision swaps once: who comes second with it is told `Conflict`.
pub(crate) async fn revision_swaps_once(b: &Bench) -> CheckResult {
    let first = b.put(&b.ctx, item("a", "first", b.now())?).await?;
    let swap = Precondition::Revision(first.clone());
    let second = b.put_if(&b.ctx, item("a", "second", b.now())?, swap.clone()).await?;
    ensure!(first != second, "a swap keeps the revision");
    let late = b.put_if(&b.ctx, item("a", "late", b.now())?, swap).await;
    refused("a swap with an old revision", late, ErrorKind::Conflict)?;
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(got.content(), "second", "the content after a refused swap");
    ensure_eq!(got.revision, Some(second), "the revision after a refused swap");
    Ok(())
}

/// A revision of a missing item is `NotFound`, and nothing is created.
pub(crate) async fn revision_of_missing_is_not_found(b: &Bench) -> CheckResult {
    let other = b.put(&b.ctx, item("other", "x", b.now())?).await?;
    let swap = Precondition::Revision(other.clone());
    let answer = b.put_if(&b.ctx, item("a", "x", b.now())?, swap.clone()).await;
    refused("a swap of a missing item", answer, ErrorKind::NotFound)?;
    refused("its delete", b.delete(&b.ctx, "a", swap).await, ErrorKind::NotFound)?;
    ensure!(b.get(&b.ctx, "a").await?.is_none(), "a refused swap creates");
    ensure!(b.get(&b.ctx, "other").await?.is_some(), "the other item is gone");
    Ok(())
}

/// A revision of another id, or one that no store issued, never fits.
pub(crate) async fn foreign_revisions_never_fit(b: &Bench) -> CheckResult {
    let own = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    let other = b.put(&b.ctx, item("b", "x", b.now())?).await?;
    for foreign in
        [other, Revision::new("no such")?, Revision::new("-1")?, Revision::from_number(u64::MAX)]
    {
        let swap = Precondition::Revision(foreign);
        let answer = b.put_if(&b.ctx, item("a", "y", b.now())?, swap).await;
        refused("a foreign revision", answer, ErrorKind::Conflict)?;
    }
    b.put_if(&b.ctx, item("a", "z", b.now())?, Precondition::Revision(own)).await?;
    Ok(())
}

/// A delete under a revision happens under the right one only.
pub(crate) async fn delete_under_revision(b: &Bench) -> CheckResult {
    let first = b.put(&b.ctx, item("a", "first", b.now())?).await?;
    let second = b.put(&b.ctx, item("a", "second", b.now())?).await?;
    let old = b.delete(&b.ctx, "a", Precondition::Revision(first)).await;
    refused("a delete with an old revision", old, ErrorKind::Conflict)?;
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "a refused delete deletes");
    b.delete(&b.ctx, "a", Precondition::Revision(second)).await?;
    ensure!(b.get(&b.ctx, "a").await?.is_none(), "a delete under the right revision does not");
    Ok(())
}

/// A delete of what must be absent is refused as meaningless.
pub(crate) async fn delete_of_absent_is_refused(b: &Bench) -> CheckResult {
    let answer = b.delete(&b.ctx, "a", Precondition::Absent).await;
    refused("a delete of what must be absent", answer, ErrorKind::InvalidInput)?;
    b.delete(&b.ctx, "a", Precondition::Any).await?;
    Ok(())
}

/// An expired item is absent to `Absent`, from its instant and not before.
pub(crate) async fn expired_is_absent_to_a_create(b: &Bench) -> CheckResult {
    b.put(&b.ctx, expiring(b, "a", "old")?).await?;
    let early = b.put_if(&b.ctx, item("a", "new", b.now())?, Precondition::Absent).await;
    refused("a create over a visible item", early, ErrorKind::AlreadyExists)?;
    b.advance_secs(10);
    let write = memory_core::Write::put(
        item("a", "new", b.now())?,
        memory_core::Vectors::default(),
        Precondition::Absent,
    );
    let receipt = b.commit(&b.ctx, vec![write]).await?;
    ensure!(!receipt.results[0].existed, "an expired item counts as existing");
    let got = b.there(b.get(&b.ctx, "a").await?)?;
    ensure_eq!(got.content(), "new", "the content after a create over an expired item");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "items after it");
    Ok(())
}

/// An expired item is missing to a swap and to a delete under its revision.
pub(crate) async fn expired_is_missing_to_a_swap(b: &Bench) -> CheckResult {
    for id in ["a", "b"] {
        let revision = b.put(&b.ctx, expiring(b, id, "old")?).await?;
        let swap = Precondition::Revision(revision);
        let revision = b.put_if(&b.ctx, expiring(b, id, "newer")?, swap).await?;
        b.advance_secs(10);
        let swap = Precondition::Revision(revision);
        let late = b.put_if(&b.ctx, item(id, "late", b.now())?, swap.clone()).await;
        refused("a swap of an expired item", late, ErrorKind::NotFound)?;
        let late = b.delete(&b.ctx, id, swap).await;
        refused("a delete of an expired item", late, ErrorKind::NotFound)?;
        let receipt = b.delete(&b.ctx, id, Precondition::Any).await?;
        ensure!(!receipt.results[0].existed, "an expired item existed to a delete");
    }
    Ok(())
}

/// An id that is deleted and created again never gets a revision that it had before.
pub(crate) async fn revisions_are_never_reused(b: &Bench) -> CheckResult {
    let mut old = Vec::new();
    for round in 0..5 {
        let revision = b.put(&b.ctx, item("a", "x", b.now())?).await?;
        ensure!(!old.contains(&revision), "{revision} was used again after a deletion");
        for stale in &old {
            let swap = Precondition::Revision(Clone::clone(stale));
            let answer = b.put_if(&b.ctx, item("a", "stale", b.now())?, swap).await;
            refused("a revision from before a deletion", answer, ErrorKind::Conflict)?;
        }
        old.push(revision);
        if round % 2 == 0 {
            b.delete(&b.ctx, "a", Precondition::Any).await?;
        } else {
            b.put(&b.ctx, expiring(b, "a", "x")?).await?;
            b.advance_secs(11);
            b.records().sweep_expired(&b.ctx, 100).await?;
        }
    }
    Ok(())
}

/// Neither does one that is erased and created again.
pub(crate) async fn revisions_outlive_an_erasure(b: &Bench) -> CheckResult {
    let before = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    b.erase_all(&b.ctx, &EraseScope::Tenant).await?;
    let after = b.put_if(&b.ctx, item("a", "x", b.now())?, Precondition::Absent).await?;
    ensure!(before != after, "a revision was used again after an erasure");
    Ok(())
}

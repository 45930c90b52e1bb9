//! Leases and the write fence.

use std::time::Duration;

use memory_core::traits::{FencingToken, Lease, UpsertOutcome, VectorEntry, VectorQuery};
use memory_core::{CallContext, ErrorKind, Filter, LeaseName, MemoryId};

use super::vectors::{one_space, spaces};
use crate::conformance::bench::{Bench, item, tenant};
use crate::conformance::failure::{CheckResult, Failure, ensure, ensure_eq, refused};

const MINUTE: Duration = Duration::from_secs(60);

async fn acquire(b: &Bench, ctx: &CallContext, name: &str) -> CheckResult<Option<Lease>> {
    Ok(b.leases()?.acquire(ctx, &LeaseName::new(name)?, MINUTE).await?)
}

fn granted(lease: Option<Lease>) -> CheckResult<Lease> {
    lease.ok_or_else(|| Failure::new("a lease that nobody holds is not granted"))
}

/// One holds a lease at a time; other names and other tenants are other leases.
pub(crate) async fn leases_are_exclusive(b: &Bench) -> CheckResult {
    let held = granted(acquire(b, &b.ctx, "sweep").await?)?;
    ensure_eq!(held.expires_at, b.now().saturating_add(MINUTE), "when it ends");
    ensure_eq!(held.name.as_str(), "sweep", "its name");
    ensure!(acquire(b, &b.ctx, "sweep").await?.is_none(), "a held lease is granted again");
    granted(acquire(b, &b.ctx, "sweep2").await?)?;
    granted(acquire(b, &tenant("other")?, "sweep").await?)?;
    Ok(())
}

/// A lease ends at its instant, and the next one has a greater token.
pub(crate) async fn leases_end_by_the_clock(b: &Bench) -> CheckResult {
    let mut last = granted(acquire(b, &b.ctx, "sweep").await?)?;
    for _ in 0..5 {
        b.advance_secs(59);
        ensure!(acquire(b, &b.ctx, "sweep").await?.is_none(), "a lease ended early");
        b.advance_secs(1);
        let next = granted(acquire(b, &b.ctx, "sweep").await?)?;
        ensure!(next.token > last.token, "{:?} follows {:?}", next.token, last.token);
        let late = b.leases()?.renew(&b.ctx, &last, MINUTE).await?;
        ensure!(late.is_none(), "an ended lease is renewed over its successor");
        last = next;
    }
    Ok(())
}

/// A renewal prolongs from now, under the same token, and only while the lease is held.
pub(crate) async fn renewals_prolong(b: &Bench) -> CheckResult {
    let lease = granted(acquire(b, &b.ctx, "sweep").await?)?;
    b.advance_secs(50);
    let renewed = granted(b.leases()?.renew(&b.ctx, &lease, MINUTE).await?)?;
    ensure_eq!(renewed.token, lease.token, "the token of a renewed lease");
    ensure_eq!(renewed.expires_at, b.now().saturating_add(MINUTE), "when it ends");
    b.advance_secs(50);
    ensure!(acquire(b, &b.ctx, "sweep").await?.is_none(), "a renewed lease has ended");
    b.advance_secs(10);
    let late = b.leases()?.renew(&b.ctx, &renewed, MINUTE).await?;
    ensure!(late.is_none(), "an ended lease is renewed");
    granted(acquire(b, &b.ctx, "sweep").await?)?;
    Ok(())
}

/// A lease that is given back is free at once; giving back an ended one frees nobody's.
pub(crate) async fn releases_free_their_own(b: &Bench) -> CheckResult {
    let first = granted(acquire(b, &b.ctx, "sweep").await?)?;
    b.leases()?.release(&b.ctx, &first).await?;
    let second = granted(acquire(b, &b.ctx, "sweep").await?)?;
    ensure!(second.token > first.token, "a released token is used again");
    b.leases()?.release(&b.ctx, &first).await?;
    ensure!(acquire(b, &b.ctx, "sweep").await?.is_none(), "an old release frees the new lease");
    ensure!(b.leases()?.renew(&b.ctx, &first, MINUTE).await?.is_none(), "a released renewal");
    b.leases()?.release(&tenant("other")?, &second).await?;
    ensure!(acquire(b, &b.ctx, "sweep").await?.is_none(), "a release crosses tenants");
    b.leases()?.release(&b.ctx, &second).await?;
    granted(acquire(b, &b.ctx, "sweep").await?)?;
    Ok(())
}

/// A life of nothing, or of more than a day, is refused.
pub(crate) async fn lease_lives_are_bounded(b: &Bench) -> CheckResult {
    let name = LeaseName::new("sweep")?;
    let day = Duration::from_secs(24 * 3600);
    for life in [Duration::ZERO, day + Duration::from_secs(1), Duration::MAX] {
        let answer = b.leases()?.acquire(&b.ctx, &name, life).await;
        refused("a life", answer, ErrorKind::InvalidInput)?;
    }
    let lease = granted(b.leases()?.acquire(&b.ctx, &name, day).await?)?;
    for life in [Duration::ZERO, day + Duration::from_secs(1)] {
        let answer = b.leases()?.renew(&b.ctx, &lease, life).await;
        refused("a renewed life", answer, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// While a fence stands, commits under an older token, or none, are refused; reads are not.
pub(crate) async fn the_fence_keeps_late_writers_out(b: &Bench) -> CheckResult {
    let old = granted(acquire(b, &b.ctx, "job").await?)?;
    b.leases()?.release(&b.ctx, &old).await?;
    let new = granted(acquire(b, &b.ctx, "job").await?)?;
    let under = |token: Option<FencingToken>| b.ctx.clone().with_fence(token);
    b.put(&under(Some(old.token)), item("before", "x", b.now())?).await?;
    b.leases()?.set_write_fence(&under(Some(new.token)), Some(new.token)).await?;
    for token in [None, Some(old.token)] {
        let answer = b.put(&under(token), item("late", "x", b.now())?).await;
        refused("a late writer", answer, ErrorKind::Conflict)?;
        let answer = b.delete(&under(token), "before", memory_core::Precondition::Any).await;
        refused("a late delete", answer, ErrorKind::Conflict)?;
        ensure_eq!(b.query_ids(&under(token), &Filter::All).await?, ["before"], "a read");
    }
    let newer = FencingToken(new.token.0 + 1);
    b.put(&under(Some(new.token)), item("same", "x", b.now())?).await?;
    b.put(&under(Some(newer)), item("newer", "x", b.now())?).await?;
    b.put(&tenant("other")?, item("theirs", "x", b.now())?).await?;
    let answer = b.leases()?.set_write_fence(&b.ctx, Some(old.token)).await;
    refused("an older fence", answer, ErrorKind::Conflict)?;
    b.leases()?.set_write_fence(&under(Some(new.token)), None).await?;
    b.put(&b.ctx, item("after", "x", b.now())?).await?;
    let ids = b.query_ids(&b.ctx, &Filter::All).await?;
    ensure_eq!(ids, ["after", "before", "newer", "same"], "what was written");
    Ok(())
}

/// The fence keeps vectors out as it keeps commits out, and lets its holder's pass.
pub(crate) async fn the_fence_keeps_late_vectors_out(b: &Bench) -> CheckResult {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let lease = granted(acquire(b, &b.ctx, "job").await?)?;
    let holder = b.ctx.clone().with_fence(Some(lease.token));
    let revision = b.put(&b.ctx, item("a", "x", b.now())?).await?;
    b.leases()?.set_write_fence(&holder, Some(lease.token)).await?;
    let id = MemoryId::new("a")?;
    let entry = VectorEntry { id: id.clone(), revision, vector: vec![1.0, 0.0, 0.0] };
    let answer = b.vectors()?.upsert(&b.ctx, &space, std::slice::from_ref(&entry)).await;
    refused("a late vector", answer, ErrorKind::Conflict)?;
    let outcomes = b.vectors()?.upsert(&holder, &space, &[entry]).await?;
    ensure_eq!(outcomes, [UpsertOutcome::Stored], "the holder's vector");
    let ids = [id];
    let answer = b.vectors()?.remove(&b.ctx, &space, &ids).await;
    refused("a late removal", answer, ErrorKind::Conflict)?;
    let query = VectorQuery::new(space.clone(), vec![1.0, 0.0, 0.0], 5);
    ensure_eq!(b.vectors()?.search(&b.ctx, &query).await?.hits.len(), 1, "what is found");
    b.vectors()?.remove(&holder, &space, &ids).await?;
    ensure_eq!(b.vectors()?.search(&b.ctx, &query).await?.hits.len(), 0, "what is left");
    Ok(())
}

/// An older token does not lift a fence, its own does.
pub(crate) async fn a_fence_is_lifted_by_its_holder(b: &Bench) -> CheckResult {
    let old = granted(acquire(b, &b.ctx, "job").await?)?;
    b.leases()?.release(&b.ctx, &old).await?;
    let new = granted(acquire(b, &b.ctx, "job").await?)?;
    let under = |token: FencingToken| b.ctx.clone().with_fence(Some(token));
    b.leases()?.set_write_fence(&under(new.token), Some(new.token)).await?;
    let answer = b.leases()?.set_write_fence(&under(old.token), None).await;
    refused("an older lifting", answer, ErrorKind::Conflict)?;
    let answer = b.put(&b.ctx, item("late", "x", b.now())?).await;
    refused("a late writer", answer, ErrorKind::Conflict)?;
    b.leases()?.set_write_fence(&under(new.token), None).await?;
    b.put(&b.ctx, item("after", "x", b.now())?).await?;
    Ok(())
}

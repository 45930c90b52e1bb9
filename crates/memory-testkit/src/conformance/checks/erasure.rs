//! Erasure: all of a user or a tenant, nothing else, resumable, with a receipt and tombstones.

use std::time::Duration;

use memory_core::traits::{
    ChangeOp, ChangePosition, EraseScope, EraseToken, KeywordQuery, VectorQuery,
};
use memory_core::{
    AgentId, CallContext, ErrorKind, Filter, IdempotencyKey, Precondition, UserId, Vectors, Write,
};

use super::vectors::{one_space, spaces};
use crate::conformance::bench::{Bench, item, memory_ids, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

fn user(name: &str) -> memory_core::Result<EraseScope> {
    Ok(EraseScope::User(UserId::new(name)?))
}

async fn put_of(b: &Bench, ctx: &CallContext, user: &str, id: &str) -> CheckResult {
    let mut one = item(id, "x", b.now())?;
    one.user_id = Some(UserId::new(user)?);
    b.put(ctx, one).await?;
    Ok(())
}

/// More items of one user than any store takes in one step.
async fn put_many(b: &Bench, ctx: &CallContext) -> CheckResult<u64> {
    for commit in 0..6 {
        let writes = (0..1_000)
            .map(|n| {
                let one = item(&format!("{commit}-{n}"), "x", b.now())?;
                Ok(Write::put(one, Vectors::default(), Precondition::Any))
            })
            .collect::<CheckResult<_>>()?;
        b.commit(ctx, writes).await?;
    }
    Ok(6_000)
}

/// A user's items go; those of users with like names, and those without a user, stay.
pub(crate) async fn erase_user_takes_theirs_only(b: &Bench) -> CheckResult {
    let others = ["ada2", "ad", "Ada", "ad%", "ad_", "a*", " ada"];
    for n in 0..40 {
        put_of(b, &b.ctx, "ada", &format!("hers {n}")).await?;
    }
    for other in others {
        put_of(b, &b.ctx, other, &format!("of {other}")).await?;
    }
    let mut agents = item("the agent's", "x", b.now())?.with_agent(AgentId::new("ada")?);
    agents.user_id = None;
    b.put(&b.ctx, agents).await?;
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 48, "items before");
    let erased = b.erase_all(&b.ctx, &user("ada")?).await?;
    ensure_eq!(erased, 40, "items in the steps");
    let left = b.query_ids(&b.ctx, &Filter::All).await?;
    ensure_eq!(left.len(), 8, "items after");
    ensure!(left.iter().all(|id| !id.starts_with("hers")), "one of hers is left");
    ensure!(b.get(&b.ctx, "hers 7").await?.is_none(), "one of hers is fetched");
    ensure!(b.get(&b.ctx, "the agent's").await?.is_some(), "the agent's is gone");
    Ok(())
}

/// Erasing a user who has nothing takes nothing and gives a receipt.
pub(crate) async fn erase_of_nobody_takes_nothing(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    for nobody in ["nobody", "%", "_", "*", "ad"] {
        ensure_eq!(b.erase_all(&b.ctx, &user(nobody)?).await?, 0, "items of {nobody}");
    }
    ensure_eq!(b.erase_all(&tenant("nowhere")?, &EraseScope::Tenant).await?, 0, "items of none");
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the item of somebody is gone");
    Ok(())
}

/// An expired item that waits for its sweep is erased with the rest, and stays so.
pub(crate) async fn erase_takes_expired_items_too(b: &Bench) -> CheckResult {
    let mut short = item("short", "x", b.now())?;
    short.expires_at = Some(b.now().saturating_add(Duration::from_secs(5)));
    b.put(&b.ctx, short).await?;
    put_of(b, &b.ctx, "bob", "his").await?;
    b.advance_secs(5);
    b.erase_all(&b.ctx, &user("ada")?).await?;
    ensure_eq!(b.records().sweep_expired(&b.ctx, 10).await?.removed, 0, "left to the sweep");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["his"], "what is left");
    Ok(())
}

/// A tenant's erasure takes all of it, whoever owns it; afterwards it can begin anew.
pub(crate) async fn erase_tenant_takes_everything(b: &Bench) -> CheckResult {
    for name in ["ada", "bob"] {
        for n in 0..30 {
            put_of(b, &b.ctx, name, &format!("{name} {n}")).await?;
        }
    }
    let mut agents = item("the agent's", "x", b.now())?.with_agent(AgentId::new("x")?);
    agents.user_id = None;
    b.put(&b.ctx, agents).await?;
    ensure_eq!(b.erase_all(&b.ctx, &EraseScope::Tenant).await?, 61, "items in the steps");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 0, "items after");
    b.put_if(&b.ctx, item("ada 1", "anew", b.now())?, Precondition::Absent).await?;
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["ada 1"], "the tenant anew");
    Ok(())
}

/// A tenant's spaces and idempotency keys go with it.
pub(crate) async fn erase_tenant_takes_what_is_beside_items(b: &Bench) -> CheckResult {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    let write = Write::put(item("a", "x", b.now())?, Vectors::default(), Precondition::Any);
    let key = IdempotencyKey::new("key", [1; 32])?;
    let commit = b.commit_of(vec![write.clone()]).with_idempotency(Some(key.clone()));
    b.records().commit(&b.ctx, commit).await?;
    ensure_eq!(b.meta()?.spaces(&b.ctx).await?.active, Some(space), "the space before");
    b.erase_all(&b.ctx, &EraseScope::Tenant).await?;
    ensure_eq!(b.meta()?.spaces(&b.ctx).await?.active, None, "the space after");
    let commit = b.commit_of(vec![write]).with_idempotency(Some(key));
    let receipt = b.records().commit(&b.ctx, commit).await?;
    ensure!(!receipt.replayed, "an idempotency key outlives the tenant");
    ensure!(b.get(&b.ctx, "a").await?.is_some(), "the commit after did nothing");
    Ok(())
}

/// Each step is bounded; a token goes on, and so does starting anew in the middle.
pub(crate) async fn erase_is_resumable(b: &Bench) -> CheckResult {
    let other = tenant("other")?;
    b.put_all(&other, &["a"]).await?;
    for anew in [false, true] {
        let count = put_many(b, &b.ctx).await?;
        put_of(b, &b.ctx, "bob", "his").await?;
        ensure_eq!(b.count(&b.ctx, &Filter::All).await?, count + 1, "items before");
        let scope = user("ada")?;
        let first = b.records().erase(&b.ctx, &scope, None).await?;
        ensure!(first.erased > 0, "the first step erases nothing");
        ensure!(first.erased < count, "one step erases 6,000 items: it is not bounded");
        ensure!(first.receipt.is_none() && first.next.is_some(), "a step that is not the last");
        let left = b.count(&b.ctx, &Filter::All).await?;
        ensure_eq!(left, count + 1 - first.erased, "items after the first step");
        let (mut erased, mut resume) = (first.erased, first.next.filter(|_| !anew));
        let began_at = b.now();
        for _ in 0..10_000 {
            b.advance_secs(1);
            let step = b.records().erase(&b.ctx, &scope, resume).await?;
            erased += step.erased;
            resume = step.next;
            if let Some(receipt) = step.receipt {
                if !anew {
                    ensure_eq!(receipt.began_at, began_at, "the receipt's beginning");
                }
                ensure_eq!(receipt.ended_at, b.now(), "the receipt's end");
                break;
            }
        }
        ensure_eq!(erased, count, "items in all steps");
        ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["his"], "what is left");
    }
    ensure!(b.get(&other, "a").await?.is_some(), "another tenant's item is gone");
    Ok(())
}

/// A token of another scope, of another tenant, or of nobody is refused and erases nothing.
pub(crate) async fn foreign_erase_tokens_are_refused(b: &Bench) -> CheckResult {
    let other = tenant("other")?;
    put_many(b, &b.ctx).await?;
    put_of(b, &b.ctx, "bob", "his").await?;
    put_of(b, &other, "ada", "hers").await?;
    let step = b.records().erase(&b.ctx, &user("ada")?, None).await?;
    ensure!(step.next.is_some(), "there is no token to go on with");
    for (ctx, scope) in [
        (&b.ctx, user("bob")?),
        (&b.ctx, EraseScope::Tenant),
        (&other, user("ada")?),
        (&other, EraseScope::Tenant),
    ] {
        let answer = b.records().erase(ctx, &scope, step.next.clone()).await;
        refused("a token of another erasure", answer, ErrorKind::InvalidInput)?;
    }
    for text in ["", "x", "a/b/c", "{}"] {
        let token = Some(EraseToken(text.to_owned()));
        let answer = b.records().erase(&b.ctx, &user("ada")?, token).await;
        refused("a malformed token", answer, ErrorKind::InvalidInput)?;
    }
    ensure!(b.get(&b.ctx, "his").await?.is_some(), "a refused erasure erases");
    ensure!(b.get(&other, "hers").await?.is_some(), "a refused erasure crosses tenants");
    let last = b.records().erase(&b.ctx, &user("ada")?, step.next).await?;
    ensure!(last.erased > 0, "the token does not go on where it belongs");
    Ok(())
}

/// What is committed after the receipt stays.
pub(crate) async fn what_follows_an_erasure_stays(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    b.erase_all(&b.ctx, &user("ada")?).await?;
    b.put_all(&b.ctx, &["a", "b"]).await?;
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["a", "b"], "items of the same user");
    Ok(())
}

/// Each erased item leaves a tombstone; a delete, a sweep and another tenant's item leave none.
pub(crate) async fn erasures_leave_tombstones(b: &Bench) -> CheckResult {
    let (other, meta) = (tenant("other")?, b.meta()?);
    for n in 0..40 {
        put_of(b, &b.ctx, "ada", &format!("hers {n}")).await?;
    }
    put_of(b, &b.ctx, "bob", "his").await?;
    b.put_all(&b.ctx, &["deleted"]).await?;
    b.put_all(&other, &["hers 7"]).await?;
    b.delete(&b.ctx, "deleted", Precondition::Any).await?;
    let ids = memory_ids(&["hers 0", "hers 7", "hers 39", "his", "deleted", "never was"])?;
    ensure_eq!(meta.erased(&b.ctx, &ids).await?, [false; 6], "tombstones before");
    b.erase_all(&b.ctx, &user("ada")?).await?;
    let after = meta.erased(&b.ctx, &ids).await?;
    ensure_eq!(after, [true, true, true, false, false, false], "tombstones after");
    ensure_eq!(meta.erased(&other, &ids).await?, [false; 6], "tombstones of another tenant");
    b.erase_all(&b.ctx, &EraseScope::Tenant).await?;
    let after = meta.erased(&b.ctx, &ids).await?;
    ensure_eq!(after, [true, true, true, true, false, false], "after the tenant's erasure");
    Ok(())
}

/// A tombstone does not stand in the way of an ordinary write, and survives it.
pub(crate) async fn tombstones_block_no_writes(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    b.erase_all(&b.ctx, &user("ada")?).await?;
    b.put_if(&b.ctx, item("a", "anew", b.now())?, Precondition::Absent).await?;
    ensure_eq!(b.there(b.get(&b.ctx, "a").await?)?.content(), "anew", "the item anew");
    ensure_eq!(b.meta()?.erased(&b.ctx, &memory_ids(&["a"])?).await?, [true], "its tombstone");
    Ok(())
}

/// Tombstones that an archive carried count as the store's own: they are the HMAC-SHA256, under
/// the store key, of tenant and id, each after its length as a big-endian `u64`.
pub(crate) async fn carried_tombstones_count(b: &Bench) -> CheckResult {
    let meta = b.meta()?;
    let key = meta.store_key().await?;
    let ids = memory_ids(&["carried/😀", "other"])?;
    ensure_eq!(meta.erased(&b.ctx, &ids).await?, [false, false], "tombstones before");
    let stone = crate::reference::tombstone(&key, &b.ctx.tenant, &ids[0]);
    for _ in 0..2 {
        meta.add_tombstones(&[stone]).await?;
        ensure_eq!(meta.erased(&b.ctx, &ids).await?, [true, false], "tombstones after");
    }
    let other = tenant("other")?;
    ensure_eq!(meta.erased(&other, &ids).await?, [false, false], "those of another tenant");
    let many = memory_ids(&vec!["x"; 1_001])?;
    refused("1,001 ids", meta.erased(&b.ctx, &many).await, ErrorKind::InvalidInput)?;
    let answer = meta.add_tombstones(&vec![stone; 1_001]).await;
    refused("1,001 tombstones", answer, ErrorKind::InvalidInput)?;
    Ok(())
}

/// The change log names no erased item, and tells its readers to rebuild.
pub(crate) async fn erasure_resets_the_change_log(b: &Bench) -> CheckResult {
    let log = b.changes()?;
    for scope in [user("ada")?, EraseScope::Tenant] {
        b.put_all(&b.ctx, &["hers"]).await?;
        put_of(b, &b.ctx, "bob", "his").await?;
        let before = log.read_changes(&b.ctx, ChangePosition(0), 1_000).await?;
        let names = |op: &ChangeOp| match op {
            ChangeOp::Put(id, _) | ChangeOp::Vectors(id, _) | ChangeOp::Delete(id) => {
                id.as_str() == "hers"
            }
            ChangeOp::Reset => false,
        };
        ensure!(before.changes.iter().any(|change| names(&change.op)), "the log lacks the put");
        b.erase_all(&b.ctx, &scope).await?;
        for after in [ChangePosition(0), before.head] {
            let batch = log.read_changes(&b.ctx, after, 1_000).await?;
            ensure!(!batch.changes.iter().any(|change| names(&change.op)), "an erased id");
            let reset = batch.changes.iter().any(|change| change.op == ChangeOp::Reset);
            // Who has read nothing has nothing to rebuild.
            let told = reset || batch.gap || after == ChangePosition(0);
            ensure!(told, "a reader after {after:?} is not told of {scope:?}");
        }
        let write = Write::put(item("anew", "x", b.now())?, Vectors::default(), Precondition::Any);
        let position = b.commit(&b.ctx, vec![write]).await?.position;
        ensure!(position > Some(before.head), "a position from before {scope:?} is used again");
        let batch = log.read_changes(&b.ctx, before.head, 1_000).await?;
        let reset = batch.changes.iter().any(|change| change.op == ChangeOp::Reset);
        ensure!(reset || batch.gap, "a commit after {scope:?} hides it from a late reader");
    }
    Ok(())
}

/// Erased items are found by no search.
pub(crate) async fn erased_items_are_found_by_no_vector(b: &Bench) -> CheckResult {
    let space = one_space()?;
    spaces(b, &b.ctx, Some(&space), None).await?;
    b.put_vector(&b.ctx, item("hers", "x", b.now())?, &space, &[1.0, 0.0, 0.0]).await?;
    let mut his = item("his", "x", b.now())?;
    his.user_id = Some(UserId::new("bob")?);
    b.put_vector(&b.ctx, his, &space, &[0.0, 1.0, 0.0]).await?;
    let query = VectorQuery::new(space, vec![1.0, 0.1, 0.0], 10);
    ensure_eq!(b.vectors()?.search(&b.ctx, &query).await?.hits.len(), 2, "hits before");
    b.erase_all(&b.ctx, &user("ada")?).await?;
    let hits = b.vectors()?.search(&b.ctx, &query).await?.hits;
    let ids: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
    ensure_eq!(ids, ["his"], "hits after");
    Ok(())
}

/// Nor by their words.
pub(crate) async fn erased_items_are_found_by_no_word(b: &Bench) -> CheckResult {
    b.put(&b.ctx, item("hers", "zebra lantern", b.now())?).await?;
    let mut his = item("his", "zebra violin", b.now())?;
    his.user_id = Some(UserId::new("bob")?);
    b.put(&b.ctx, his).await?;
    let query = KeywordQuery::new("zebra", 10);
    ensure_eq!(b.keywords()?.search(&b.ctx, &query).await?.hits.len(), 2, "hits before");
    b.erase_all(&b.ctx, &user("ada")?).await?;
    let hits = b.keywords()?.search(&b.ctx, &query).await?.hits;
    let ids: Vec<_> = hits.iter().map(|hit| hit.id.as_str()).collect();
    ensure_eq!(ids, ["his"], "hits after");
    let lost = b.keywords()?.search(&b.ctx, &KeywordQuery::new("lantern", 10)).await?;
    ensure!(lost.hits.is_empty(), "a word of an erased item finds something");
    Ok(())
}

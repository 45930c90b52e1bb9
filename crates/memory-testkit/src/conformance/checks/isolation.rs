//! Ids of every kind, and the wall between tenants.

use memory_core::traits::EraseScope;
use memory_core::{
    CallContext, ErrorKind, Field, Filter, MemoryId, Precondition, Query, Scalar, SessionId, UserId,
};

use crate::conformance::bench::{Bench, item, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

/// Names that escaping, patterns, paths, collations or normalisation could confuse.
pub(crate) const HOSTILE: [&str; 37] = [
    "acct1",
    "acct10",
    "acct1%",
    "acct_",
    "acct1_",
    "ACCT1",
    "a",
    "A",
    "a/b",
    "a%2Fb",
    "a%252Fb",
    "a:b",
    "a|b",
    "a\\b",
    "a.b",
    ".",
    "..",
    "../a",
    "/",
    "//",
    "__x__",
    "%",
    "%%",
    "_",
    "*",
    "?",
    "[a]",
    "'",
    "\"",
    "' OR 1=1 --",
    " ",
    " a",
    "a ",
    "é",
    "e\u{301}",
    "😀",
    "{t}",
];

/// Each of these ids is its own item, to reads, queries and deletes.
pub(crate) async fn hostile_ids_are_kept_apart(b: &Bench) -> CheckResult {
    for id in HOSTILE {
        let created =
            b.put_if(&b.ctx, item(id, &format!("<{id}>"), b.now())?, Precondition::Absent);
        created.await?;
    }
    for (id, found) in HOSTILE.iter().zip(b.fetch(&b.ctx, &HOSTILE).await?) {
        let found = b.there(found)?;
        ensure_eq!(found.id.as_str(), *id, "the id");
        ensure_eq!(found.content(), format!("<{id}>"), "the content of {id:?}");
        let eq = b.query_ids(&b.ctx, &Filter::eq(Field::Id, *id)).await?;
        ensure_eq!(eq, [*id], "a query by id");
    }
    let mut left: Vec<_> = HOSTILE.iter().map(|id| (*id).to_owned()).collect();
    left.sort();
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, left, "all ids in byte order");
    for id in HOSTILE {
        b.delete(&b.ctx, id, Precondition::Any).await?;
        left.retain(|other| other != id);
        ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, left, "after the delete of {id:?}");
    }
    Ok(())
}

/// Ids of the longest length are whole: two that differ in the last byte are two.
pub(crate) async fn longest_ids_are_kept_whole(b: &Bench) -> CheckResult {
    let stem = "%".repeat(memory_core::limits::ID_BYTES - 1);
    let ids = [format!("{stem}a"), format!("{stem}b"), stem];
    for id in &ids {
        b.put_if(&b.ctx, item(id, id, b.now())?, Precondition::Absent).await?;
    }
    for id in &ids {
        ensure_eq!(b.there(b.get(&b.ctx, id).await?)?.content(), id.as_str(), "the content");
    }
    Ok(())
}

/// Users and sessions of these names are told apart by filters.
pub(crate) async fn hostile_owners_are_told_apart(b: &Bench) -> CheckResult {
    for name in HOSTILE {
        let mut one = item(&format!("of {name}"), "x", b.now())?;
        one.user_id = Some(UserId::new(name)?);
        b.put(&b.ctx, one.with_session(SessionId::new(name)?)).await?;
    }
    for name in HOSTILE {
        for field in [Field::UserId, Field::SessionId] {
            let found = b.query_ids(&b.ctx, &Filter::eq(field.clone(), name)).await?;
            ensure_eq!(found, [format!("of {name}")], "{field} = {name:?}");
        }
        let not = Filter::Not(Box::new(Filter::eq(Field::UserId, name)));
        ensure_eq!(b.count(&b.ctx, &not).await?, HOSTILE.len() as u64 - 1, "not {name:?}");
    }
    Ok(())
}

/// The same id in tenants of these names is as many items.
pub(crate) async fn hostile_tenants_are_kept_apart(b: &Bench) -> CheckResult {
    for name in HOSTILE {
        let ctx = tenant(name)?;
        let one = item("same", &format!("<{name}>"), b.now())?;
        b.put_if(&ctx, one, Precondition::Absent).await?;
    }
    for name in HOSTILE {
        let ctx = tenant(name)?;
        let got = b.there(b.get(&ctx, "same").await?)?;
        ensure_eq!(got.content(), format!("<{name}>"), "the item of {name:?}");
        ensure_eq!(b.count(&ctx, &Filter::All).await?, 1, "the items of {name:?}");
        b.delete(&ctx, "same", Precondition::Any).await?;
        ensure_eq!(b.count(&ctx, &Filter::All).await?, 0, "after the delete in {name:?}");
    }
    Ok(())
}

/// Tenant and id never run together, whatever separates them inside.
pub(crate) async fn tenant_and_id_do_not_run_together(b: &Bench) -> CheckResult {
    for separator in ["/", ":", "|", "%", "%2F", ".", "_", "\\", " ", "\u{2028}"] {
        let (one, other) = (tenant("a")?, tenant(&format!("a{separator}b"))?);
        let (long, short) = (format!("b{separator}c"), "c");
        b.put(&one, item(&long, "one", b.now())?).await?;
        ensure!(b.get(&other, short).await?.is_none(), "{separator:?} joins tenant and id");
        b.put_if(&other, item(short, "other", b.now())?, Precondition::Absent).await?;
        ensure_eq!(b.there(b.get(&one, &long).await?)?.content(), "one", "{separator:?}");
        ensure_eq!(b.there(b.get(&other, short).await?)?.content(), "other", "{separator:?}");
    }
    Ok(())
}

async fn two_tenants(b: &Bench) -> CheckResult<(CallContext, CallContext)> {
    let (ours, theirs) = (tenant("acct1")?, tenant("acct10")?);
    b.put(&ours, item("same", "ours", b.now())?).await?;
    b.put(&theirs, item("same", "theirs", b.now())?).await?;
    b.put(&theirs, item("secret", "theirs too", b.now())?).await?;
    Ok((ours, theirs))
}

/// No read sees another tenant's items.
pub(crate) async fn reads_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let (ours, theirs) = two_tenants(b).await?;
    let found = b.fetch(&ours, &["same", "secret"]).await?;
    ensure_eq!(b.there(found[0].clone())?.content(), "ours", "the item of both names");
    ensure!(found[1].is_none(), "a fetch crosses tenants");
    ensure_eq!(b.query_ids(&ours, &Filter::All).await?, ["same"], "a query");
    ensure_eq!(b.count(&ours, &Filter::All).await?, 1, "a count");
    let any = Filter::Or(vec![Filter::All, Filter::Exists(Field::Id)]);
    ensure_eq!(b.query_ids(&ours, &any).await?, ["same"], "a query with an `or`");
    let not = Filter::Not(Box::new(Filter::eq(Field::Id, "x")));
    ensure_eq!(b.count(&ours, &not).await?, 1, "a count with a `not`");
    ensure_eq!(b.query_ids(&theirs, &Filter::All).await?, ["same", "secret"], "their own query");
    Ok(())
}

/// No write touches another tenant's items, nor sees them in its preconditions.
pub(crate) async fn writes_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let (ours, theirs) = two_tenants(b).await?;
    let their = b.there(b.get(&theirs, "same").await?)?;
    let revision = their.revision.clone().unwrap_or(memory_core::Revision::new("none")?);
    let swap = Precondition::Revision(revision);
    let crossing = b.put_if(&ours, item("secret", "x", b.now())?, swap.clone()).await;
    refused("a swap of their item", crossing, ErrorKind::NotFound)?;
    let crossing = b.delete(&ours, "secret", swap).await;
    refused("a delete of their item", crossing, ErrorKind::NotFound)?;
    let receipt = b.delete(&ours, "secret", Precondition::Any).await?;
    ensure!(!receipt.results[0].existed, "their item exists to our delete");
    b.put_if(&ours, item("secret", "our own", b.now())?, Precondition::Absent).await?;
    b.delete(&ours, "same", Precondition::Any).await?;
    ensure_eq!(b.query_ids(&ours, &Filter::All).await?, ["secret"], "what is ours");
    ensure_eq!(b.get(&theirs, "same").await?, Some(their), "their item after our delete");
    ensure_eq!(b.there(b.get(&theirs, "secret").await?)?.content(), "theirs too", "their secret");
    Ok(())
}

/// Sweeping a tenant leaves the others' expired and visible items to them.
pub(crate) async fn sweeps_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let (ours, theirs) = two_tenants(b).await?;
    for ctx in [&ours, &theirs] {
        let mut short = item("short", "x", b.now())?;
        short.expires_at = Some(b.now().saturating_add(std::time::Duration::from_secs(1)));
        b.put(ctx, short).await?;
    }
    b.advance_secs(1);
    ensure_eq!(b.records().sweep_expired(&ours, 100).await?.removed, 1, "our expired items");
    ensure_eq!(b.records().sweep_expired(&theirs, 100).await?.removed, 1, "their expired items");
    ensure_eq!(b.count(&theirs, &Filter::All).await?, 2, "their visible items");
    Ok(())
}

/// Erasing a user, or all of a tenant, leaves the same user of another tenant.
pub(crate) async fn erasures_stay_in_their_tenant(b: &Bench) -> CheckResult {
    let (ours, theirs) = two_tenants(b).await?;
    for scope in [EraseScope::User(UserId::new("ada")?), EraseScope::Tenant] {
        b.put(&ours, item("again", "x", b.now())?).await?;
        let erased = b.erase_all(&ours, &scope).await?;
        ensure!(erased > 0, "nothing of ours was erased");
        ensure_eq!(b.count(&ours, &Filter::All).await?, 0, "our items after {scope:?}");
        ensure_eq!(b.count(&theirs, &Filter::All).await?, 2, "their items after {scope:?}");
    }
    Ok(())
}

/// A filter cannot widen a query beyond its tenant or beyond what it says.
pub(crate) async fn empty_filters_do_not_widen(b: &Bench) -> CheckResult {
    let (ours, _) = two_tenants(b).await?;
    b.put(&ours, item("other", "x", b.now())?).await?;
    let nobody = [
        Filter::Or(Vec::new()),
        Filter::eq(Field::UserId, ""),
        Filter::eq(Field::UserId, "%"),
        Filter::In(Field::UserId, vec![Scalar::from("_"), Scalar::from("*")]),
        Filter::Not(Box::new(Filter::All)),
    ];
    for filter in nobody {
        ensure_eq!(b.count(&ours, &filter).await?, 0, "{filter:?}");
        let page = b.records().query(&ours, &Query::new(10).with_filter(filter)).await?;
        ensure!(page.items.is_empty() && page.next.is_none(), "an empty result has items");
    }
    for filter in [Filter::All, Filter::And(Vec::new()), Filter::eq(Field::UserId, "ada")] {
        ensure_eq!(b.count(&ours, &filter).await?, 2, "{filter:?}");
    }
    Ok(())
}

/// A tenant is listed from its first commit on, in byte order, page by page.
pub(crate) async fn tenants_are_listed(b: &Bench) -> CheckResult {
    let directory = b.tenants()?;
    let none = directory.list_tenants(None, 10).await?;
    ensure!(none.tenants.is_empty() && !none.more, "an empty store lists tenants");
    let mut names: Vec<_> = HOSTILE.iter().map(|name| (*name).to_owned()).collect();
    for name in &names {
        b.put(&tenant(name)?, item("a", "x", b.now())?).await?;
    }
    names.sort();
    for limit in [1, 5, 1_000] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = directory.list_tenants(after, limit).await?;
            ensure!(page.tenants.len() <= limit as usize, "a page is longer than asked for");
            listed.extend(page.tenants.iter().map(|tenant| tenant.as_str().to_owned()));
            after = page.tenants.last().cloned();
            if !page.more {
                break;
            }
            ensure!(!page.tenants.is_empty(), "an empty page says that more follow");
        }
        ensure_eq!(listed, names, "the tenants by pages of {limit}");
    }
    for limit in [0, 1_001, u32::MAX] {
        let answer = directory.list_tenants(None, limit).await;
        refused("a limit of the directory", answer, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// Reads list nobody; deleting the last item unlists nobody; erasing does.
pub(crate) async fn tenants_come_by_commit_and_go_by_erasure(b: &Bench) -> CheckResult {
    let directory = b.tenants()?;
    b.count(&tenant("reader")?, &Filter::All).await?;
    b.fetch(&tenant("reader")?, &["a"]).await?;
    b.put_all(&b.ctx, &["a"]).await?;
    let listed = directory.list_tenants(None, 10).await?.tenants;
    ensure_eq!(listed, std::slice::from_ref(&b.ctx.tenant), "after reads and one commit");
    b.delete(&b.ctx, "a", Precondition::Any).await?;
    let listed = directory.list_tenants(None, 10).await?.tenants;
    ensure_eq!(listed, std::slice::from_ref(&b.ctx.tenant), "after the last item's deletion");
    b.put(&tenant("other")?, item("a", "x", b.now())?).await?;
    b.erase_all(&b.ctx, &EraseScope::Tenant).await?;
    let listed = directory.list_tenants(None, 10).await?.tenants;
    ensure_eq!(listed, [tenant("other")?.tenant], "after an erasure");
    b.put_all(&b.ctx, &["a"]).await?;
    let listed = directory.list_tenants(None, 10).await?.tenants;
    ensure_eq!(listed.len(), 2, "tenants after a commit of the erased one");
    Ok(())
}

/// An id's bytes decide: no id is found under another's name.
pub(crate) async fn ids_are_never_patterns(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["acct10", "acct1x"]).await?;
    for pattern in ["acct1", "acct1_", "acct1%", "acct1*", "acct1?", "ACCT10", "acct10 "] {
        ensure!(b.get(&b.ctx, pattern).await?.is_none(), "{pattern:?} finds another id");
        b.records()
            .commit(
                &b.ctx,
                b.commit_of(vec![memory_core::Write::delete(
                    MemoryId::new(pattern)?,
                    Precondition::Any,
                )]),
            )
            .await?;
    }
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 2, "items after deletes by pattern");
    ensure!(b.get(&b.ctx, "acct10").await?.is_some(), "the id itself finds nothing");
    Ok(())
}

//! Expiry: invisible from the instant, swept or not, to everything.

use std::time::Duration;

use memory_core::{
    ErrorKind, Field, Filter, MemoryItem, Order, Precondition, Query, Timestamp, Vectors, Write,
};

use crate::conformance::bench::{Bench, item};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

fn until(b: &Bench, id: &str, span: Duration) -> memory_core::Result<MemoryItem> {
    let mut item = item(id, "short lived", b.now())?;
    item.expires_at = Some(b.now().saturating_add(span));
    Ok(item)
}

/// Up to the last microsecond every record read sees the item; from its instant on none does.
pub(crate) async fn expiry_is_exact(b: &Bench) -> CheckResult {
    b.put(&b.ctx, until(b, "short", Duration::from_micros(1_000_001))?).await?;
    b.put(&b.ctx, item("long", "x", b.now())?).await?;
    b.clock().advance(Duration::from_micros(1_000_000));
    ensure!(b.get(&b.ctx, "short").await?.is_some(), "a fetch misses it a microsecond before");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 2, "a count a microsecond before");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["long", "short"], "a query before");
    b.clock().advance(Duration::from_micros(1));
    ensure!(b.get(&b.ctx, "short").await?.is_none(), "a fetch sees an expired item");
    ensure_eq!(b.count(&b.ctx, &Filter::All).await?, 1, "a count at the instant");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["long"], "a query at the instant");
    for filter in [
        Filter::eq(Field::Id, "short"),
        Filter::Exists(Field::ExpiresAt),
        Filter::Or(vec![Filter::eq(Field::Id, "short"), Filter::eq(Field::Id, "x")]),
        Filter::Not(Box::new(Filter::eq(Field::Id, "long"))),
    ] {
        ensure_eq!(b.count(&b.ctx, &filter).await?, 0, "a count by {filter:?}");
        ensure!(b.query_ids(&b.ctx, &filter).await?.is_empty(), "a query by {filter:?}");
    }
    b.advance_secs(1_000_000);
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["long"], "long after");
    Ok(())
}

/// An item that has expired before it is put is never seen.
pub(crate) async fn expired_from_the_start(b: &Bench) -> CheckResult {
    let mut born = item("born expired", "x", b.now())?;
    born.expires_at = Some(b.now());
    b.put(&b.ctx, born).await?;
    let mut long = item("long expired", "x", b.now())?;
    long.expires_at = Some(Timestamp::MIN);
    b.put(&b.ctx, long).await?;
    b.put(&b.ctx, item("alive", "x", b.now())?).await?;
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["alive"], "what is seen");
    ensure!(b.get(&b.ctx, "born expired").await?.is_none(), "a fetch sees it");
    Ok(())
}

/// A replacement sets the expiry anew: prolonged, shortened, or lifted.
pub(crate) async fn expiry_follows_the_last_put(b: &Bench) -> CheckResult {
    for (id, span) in [("prolonged", 10), ("lifted", 10), ("shortened", 100), ("plain", 10)] {
        b.put(&b.ctx, until(b, id, Duration::from_secs(span))?).await?;
    }
    b.put(&b.ctx, until(b, "prolonged", Duration::from_secs(100))?).await?;
    b.put(&b.ctx, until(b, "shortened", Duration::from_secs(10))?).await?;
    b.put(&b.ctx, item("lifted", "x", b.now())?).await?;
    b.advance_secs(10);
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["lifted", "prolonged"], "at ten");
    b.advance_secs(90);
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["lifted"], "at a hundred");
    Ok(())
}

/// Expired items take no place in a page, and break no walk.
pub(crate) async fn pages_fill_up_past_expired_items(b: &Bench) -> CheckResult {
    for n in 0..30 {
        let id = format!("{n:02}");
        if n % 3 == 0 {
            b.put(&b.ctx, item(&id, "x", b.now())?).await?;
        } else {
            b.put(&b.ctx, until(b, &id, Duration::from_secs(5))?).await?;
        }
    }
    let query = Query::new(4).with_order(Order::BY_ID);
    ensure_eq!(b.walk(&b.ctx, query.clone()).await?.len(), 30, "items before");
    b.advance_secs(5);
    let page = b.records().query(&b.ctx, &query).await?;
    let ids: Vec<_> = page.items.iter().map(|item| item.id.as_str()).collect();
    ensure_eq!(ids, ["00", "03", "06", "09"], "the first page after");
    ensure_eq!(b.walk(&b.ctx, query).await?.len(), 10, "items after");
    Ok(())
}

/// A sweep removes expired items, up to its limit, and nothing else; it says whether more are left.
pub(crate) async fn sweep_removes_only_the_expired(b: &Bench) -> CheckResult {
    for n in 0..7 {
        b.put(&b.ctx, until(b, &format!("short {n}"), Duration::from_secs(5))?).await?;
    }
    b.put(&b.ctx, until(b, "later", Duration::from_secs(6))?).await?;
    b.put_all(&b.ctx, &["never"]).await?;
    let early = b.records().sweep_expired(&b.ctx, 100).await?;
    ensure!(early.removed == 0 && !early.more, "a sweep removes what is visible");
    b.advance_secs(5);
    let mut removed = 0;
    for _ in 0..10 {
        let step = b.records().sweep_expired(&b.ctx, 3).await?;
        ensure!(step.removed <= 3, "a step removes more than its limit");
        removed += step.removed;
        if !step.more {
            break;
        }
        ensure!(step.removed > 0, "a step removes nothing and says that more are left");
    }
    ensure_eq!(removed, 7, "what the sweep removed");
    let again = b.records().sweep_expired(&b.ctx, 10_000).await?;
    ensure!(again.removed == 0 && !again.more, "a second sweep finds more");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["later", "never"], "what is left");
    b.advance_secs(1);
    ensure_eq!(b.records().sweep_expired(&b.ctx, 1).await?.removed, 1, "the later one");
    Ok(())
}

/// A sweep spares an item that was written anew after it had expired.
pub(crate) async fn sweep_spares_what_was_written_anew(b: &Bench) -> CheckResult {
    for id in ["again", "gone"] {
        b.put(&b.ctx, until(b, id, Duration::from_secs(5))?).await?;
    }
    b.advance_secs(5);
    b.put_if(&b.ctx, item("again", "x", b.now())?, Precondition::Absent).await?;
    ensure_eq!(b.records().sweep_expired(&b.ctx, 100).await?.removed, 1, "what was swept");
    ensure!(b.get(&b.ctx, "again").await?.is_some(), "the sweep took a living item");
    Ok(())
}

/// Limits of nothing and beyond 10,000 are refused.
pub(crate) async fn sweep_limits_are_refused(b: &Bench) -> CheckResult {
    for limit in [0, 10_001, u32::MAX] {
        let answer = b.records().sweep_expired(&b.ctx, limit).await;
        refused("a limit of a sweep", answer, ErrorKind::InvalidInput)?;
    }
    b.records().sweep_expired(&b.ctx, 10_000).await?;
    Ok(())
}

/// A commit may write over, beside and after expired items; each counts as absent.
pub(crate) async fn commits_see_no_expired_items(b: &Bench) -> CheckResult {
    b.put(&b.ctx, until(b, "a", Duration::from_secs(5))?).await?;
    b.put(&b.ctx, until(b, "b", Duration::from_secs(5))?).await?;
    b.advance_secs(5);
    let put = |id: &str, precondition| -> CheckResult<Write> {
        Ok(Write::put(item(id, "new", b.now())?, Vectors::default(), precondition))
    };
    let writes = vec![put("a", Precondition::Absent)?, put("b", Precondition::Any)?];
    let receipt = b.commit(&b.ctx, writes).await?;
    ensure!(receipt.results.iter().all(|result| !result.existed), "an expired item existed");
    ensure_eq!(b.query_ids(&b.ctx, &Filter::All).await?, ["a", "b"], "the items after");
    Ok(())
}

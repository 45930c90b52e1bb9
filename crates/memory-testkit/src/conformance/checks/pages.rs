//! Pages: every item once, in order, whatever happens between them.

use std::time::Duration;

use memory_core::limits::PAGE;
use memory_core::{
    Cursor, Direction, ErrorKind, Field, Filter, MemoryItem, Order, OrderField, Precondition,
    Query, Vectors, Write,
};

use crate::conformance::bench::{Bench, item, tenant};
use crate::conformance::failure::{CheckResult, ensure, ensure_eq, refused};

const FIELDS: [OrderField; 4] =
    [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id];

/// Items whose times tie in threes, fours and fives, some of one user and some of another.
async fn tied(b: &Bench) -> CheckResult<Vec<MemoryItem>> {
    let mut items = Vec::new();
    for (place, n) in (0..23_u64).enumerate() {
        // Ids in an order of their own, some of which sort differently as text and as bytes.
        let id = format!("{}{}", ["b", "a", "é", "😀", "\u{ffff}"][place % 5], n * 7 % 23);
        let mut one = item(&id, "x", b.now())?;
        one.occurred_at = b.now().saturating_sub(Duration::from_micros(n / 3));
        one.created_at = b.now().saturating_sub(Duration::from_secs(n / 4));
        one.updated_at = b.now().saturating_add(Duration::from_micros(n % 5));
        if n % 2 == 0 {
            one.user_id = Some(memory_core::UserId::new("bob")?);
        }
        items.push(one);
    }
    let writes = items
        .iter()
        .map(|item| Write::put(item.clone(), Vectors::default(), Precondition::Absent))
        .collect();
    b.commit(&b.ctx, writes).await?;
    Ok(items)
}

fn sorted(mut items: Vec<MemoryItem>, order: Order) -> Vec<String> {
    items.sort_by_key(|item| (order.sort_value(item), item.id.clone()));
    if order.direction == Direction::Descending {
        items.reverse();
    }
    items.iter().map(|item| item.id.to_string()).collect()
}

async fn walk_by(b: &Bench, query: &Query) -> CheckResult<Vec<String>> {
    let items = b.walk(&b.ctx, query.clone()).await?;
    Ok(items.iter().map(|item| item.id.to_string()).collect())
}

/// Each order, both ways, by pages of each size, gives every item once and in order.
pub(crate) async fn pages_cover_every_item_once(b: &Bench) -> CheckResult {
    let items = tied(b).await?;
    for field in FIELDS {
        for direction in [Direction::Ascending, Direction::Descending] {
            let order = Order { field, direction };
            let expected = sorted(items.clone(), order);
            for limit in [1, 2, 3, 7, 22, 23, 24, PAGE] {
                let found = walk_by(b, &Query::new(limit).with_order(order)).await?;
                ensure_eq!(found, expected, "{order:?} by pages of {limit}");
            }
        }
    }
    Ok(())
}

/// The same under a filter.
pub(crate) async fn pages_hold_their_filter(b: &Bench) -> CheckResult {
    let mut items = tied(b).await?;
    let filter = Filter::eq(Field::UserId, "bob");
    items.retain(|item| filter.matches(item));
    ensure_eq!(items.len(), 12, "items of one user");
    for field in FIELDS {
        for direction in [Direction::Ascending, Direction::Descending] {
            let order = Order { field, direction };
            let query = Query::new(5).with_order(order).with_filter(filter.clone());
            ensure_eq!(walk_by(b, &query).await?, sorted(items.clone(), order), "{order:?}");
        }
    }
    Ok(())
}

/// Newest first is newest first, and oldest first its mirror.
pub(crate) async fn newest_comes_first(b: &Bench) -> CheckResult {
    for (id, seconds) in [("middle", 10), ("oldest", 20), ("newest", 0)] {
        let mut one = item(id, "x", b.now())?;
        one.occurred_at = b.now().saturating_sub(Duration::from_secs(seconds));
        b.put(&b.ctx, one).await?;
    }
    let newest = walk_by(b, &Query::new(10)).await?;
    ensure_eq!(newest, ["newest", "middle", "oldest"], "the default order");
    let oldest = walk_by(b, &Query::new(10).with_order(Order::OLDEST)).await?;
    ensure_eq!(oldest, ["oldest", "middle", "newest"], "oldest first");
    Ok(())
}

/// A page holds as many items as asked for while there are some, and the last has no cursor.
pub(crate) async fn last_page_has_no_cursor(b: &Bench) -> CheckResult {
    let empty = b.records().query(&b.ctx, &Query::new(2)).await?;
    ensure!(empty.items.is_empty() && empty.next.is_none(), "an empty store has a page");
    b.put_all(&b.ctx, &["a", "b", "c", "d"]).await?;
    let query = Query::new(2).with_order(Order::BY_ID);
    let first = b.records().query(&b.ctx, &query).await?;
    ensure_eq!(first.items.len(), 2, "the first page");
    ensure!(first.next.is_some(), "the first of two pages has no cursor");
    let second = query.clone().with_cursor(first.next);
    let longer = Query::new(3).with_order(Order::BY_ID).with_cursor(second.cursor.clone());
    let short = b.records().query(&b.ctx, &longer).await?;
    ensure!(short.items.len() == 2 && short.next.is_none(), "a page that is not full has a cursor");
    ends(b, &second, 2).await?;
    ends(b, &Query::new(4), 4).await
}

/// Holds a full last page to having no cursor, or one that leads to nothing where the store cannot
/// know.
async fn ends(b: &Bench, query: &Query, items: usize) -> CheckResult {
    let last = b.records().query(&b.ctx, query).await?;
    ensure_eq!(last.items.len(), items, "the last page");
    if last.next.is_some() {
        let knows = b.records().capabilities().knows_last_page;
        ensure!(!knows, "a full last page has a cursor");
        let after = b.records().query(&b.ctx, &query.clone().with_cursor(last.next)).await?;
        ensure!(after.items.is_empty() && after.next.is_none(), "something follows the last page");
    }
    Ok(())
}

/// A short page says nothing about a longer one, before or after it.
pub(crate) async fn page_sizes_are_independent(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a", "b", "c", "d", "e"]).await?;
    for limit in [1, 5, 2, 10, 1, 4] {
        let page = b.records().query(&b.ctx, &Query::new(limit)).await?;
        ensure_eq!(page.items.len(), (limit as usize).min(5), "a page of {limit}");
    }
    let first = b.records().query(&b.ctx, &Query::new(1).with_order(Order::BY_ID)).await?;
    let rest = Query::new(10).with_order(Order::BY_ID).with_cursor(first.next);
    ensure_eq!(walk_by(b, &rest).await?, ["b", "c", "d", "e"], "the rest under another size");
    Ok(())
}

/// Items that do not change appear exactly once, whatever is written between the pages.
pub(crate) async fn pages_survive_writes_between(b: &Bench) -> CheckResult {
    for order in [Order::BY_ID, Order::NEWEST, Order::OLDEST] {
        b.erase_all(&b.ctx, &memory_core::traits::EraseScope::Tenant).await?;
        let still: Vec<_> = (0..12).map(|n| format!("{n:02} still")).collect();
        for (n, id) in still.iter().enumerate() {
            let mut one = item(id, "x", b.now())?;
            one.occurred_at = b.now().saturating_add(Duration::from_secs(n as u64 / 2));
            b.put(&b.ctx, one).await?;
            b.put_all(&b.ctx, &[&format!("{n:02} going")]).await?;
        }
        let mut query = Query::new(3).with_order(order);
        let mut seen = Vec::new();
        for n in 0..100 {
            let page = b.records().query(&b.ctx, &query).await?;
            seen.extend(page.items.iter().map(|item| item.id.to_string()));
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
            b.delete(&b.ctx, &format!("{:02} going", n % 12), Precondition::Any).await?;
            b.put_all(&b.ctx, &[&format!("{:02} coming", n % 12)]).await?;
        }
        seen.retain(|id| id.ends_with("still"));
        seen.sort();
        ensure_eq!(seen, still, "the unchanged items under {order:?}");
    }
    Ok(())
}

/// A cursor stands where its item stood, even when that is deleted.
pub(crate) async fn cursors_outlive_their_item(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a", "b", "c", "d"]).await?;
    for order in [Order::BY_ID, Order::OLDEST] {
        let query = Query::new(2).with_order(order);
        let first = b.records().query(&b.ctx, &query).await?;
        b.delete(&b.ctx, "b", Precondition::Any).await?;
        let rest = walk_by(b, &query.with_cursor(first.next)).await?;
        ensure_eq!(rest, ["c", "d"], "the page after a deleted item");
        b.put_all(&b.ctx, &["b"]).await?;
    }
    Ok(())
}

/// A cursor of another tenant, filter or order is refused; its own takes it.
pub(crate) async fn foreign_cursors_are_refused(b: &Bench) -> CheckResult {
    let other = tenant("other")?;
    for ctx in [&b.ctx, &other] {
        b.put_all(ctx, &["a", "b", "c"]).await?;
    }
    let query = Query::new(1);
    let cursor = b.records().query(&b.ctx, &query).await?.next;
    ensure!(cursor.is_some(), "there is no cursor");
    let query = query.with_cursor(cursor);
    ensure_eq!(b.records().query(&b.ctx, &query).await?.items.len(), 1, "its own page");
    let crossing = b.records().query(&other, &query).await;
    refused("a cursor of another tenant", crossing, ErrorKind::InvalidInput)?;
    let filtered = query.clone().with_filter(Filter::eq(Field::UserId, "ada"));
    let answer = b.records().query(&b.ctx, &filtered).await;
    refused("a cursor of another filter", answer, ErrorKind::InvalidInput)?;
    for order in [Order::OLDEST, Order::BY_ID] {
        let answer = b.records().query(&b.ctx, &query.clone().with_order(order)).await;
        refused("a cursor of another order", answer, ErrorKind::InvalidInput)?;
    }
    Ok(())
}

/// A damaged or invented cursor is refused.
pub(crate) async fn malformed_cursors_are_refused(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a", "b"]).await?;
    let own = b.records().query(&b.ctx, &Query::new(1)).await?.next;
    let own = own.map(|cursor| cursor.to_string()).unwrap_or_default();
    let mut damaged = own.clone();
    damaged.replace_range(20..21, if own[20..].starts_with('A') { "B" } else { "A" });
    for text in ["", "x", "!!", "AAAA", &"A".repeat(5_000), &own[1..], &damaged, "' OR 1=1"] {
        let query = Query::new(1).with_cursor(Some(text.parse::<Cursor>()?));
        let answer = b.records().query(&b.ctx, &query).await;
        refused("a malformed cursor", answer, ErrorKind::InvalidInput)?;
    }
    let query = Query::new(1).with_cursor(Some(own.parse::<Cursor>()?));
    ensure_eq!(b.records().query(&b.ctx, &query).await?.items.len(), 1, "the whole cursor");
    Ok(())
}

/// Limits of nothing and of a billion are refused.
pub(crate) async fn page_limits_are_refused(b: &Bench) -> CheckResult {
    b.put_all(&b.ctx, &["a"]).await?;
    for limit in [0, PAGE + 1, 1_000_000_000, u32::MAX] {
        let answer = b.records().query(&b.ctx, &Query::new(limit)).await;
        refused("a limit of a page", answer, ErrorKind::InvalidInput)?;
    }
    for limit in [1, PAGE] {
        ensure_eq!(b.records().query(&b.ctx, &Query::new(limit)).await?.items.len(), 1, "a page");
    }
    Ok(())
}

/// The longest page is whole, and what it leaves follows.
pub(crate) async fn longest_pages_are_whole(b: &Bench) -> CheckResult {
    let writes = (0..1_200)
        .map(|n| {
            let one = item(&format!("{n:04}"), "x", b.now())?;
            Ok(Write::put(one, Vectors::default(), Precondition::Any))
        })
        .collect::<CheckResult<_>>()?;
    b.commit(&b.ctx, writes).await?;
    let query = Query::new(PAGE).with_order(Order::BY_ID);
    let page = b.records().query(&b.ctx, &query).await?;
    ensure_eq!(page.items.len(), 1_000, "the first page");
    let rest = b.records().query(&b.ctx, &query.with_cursor(page.next)).await?;
    ensure_eq!(rest.items.len(), 200, "the second page");
    ensure_eq!(rest.items[0].id.as_str(), "1000", "its first item");
    ensure!(rest.next.is_none(), "the second page has a cursor");
    Ok(())
}

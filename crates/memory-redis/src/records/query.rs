//! Pages and counts: a walk along the narrowest sorted set, judged here by the one truth table.
//!
//! A set is read in bounded steps, each of them one script and one round trip, so that nobody keeps
//! the server to himself. Where what a walk meets is likely to be what was asked for (no filter, or
//! the owner that the set is of), memories come whole with the first step; else the filter sees their
//! heads, and what passes is read afterwards. Where the set of the asked order is that of all memories
//! and an owner has but few, those are read and put in order here.

mod plan;

use std::sync::LazyLock;

use memory_core::traits::TenantSpaces;
use memory_core::{
    CallContext, Cursor, CursorKey, Direction, Error, Filter, MemoryId, MemoryItem, Page,
    Projection, Query, Result, VectorProjection,
};
use redis::Value;

use super::fetch;
use super::model::Shape;
use crate::error::corrupt;
use crate::fields::sortable;
use crate::store::RedisStore;
use crate::wire::{Call, Effect, Script};

use plan::{Plan, Walk};

static WALK: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/walk.lua"), Effect::Reads));
static COUNT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../lua/count.lua"), Effect::Reads));

/// Most memories of one step of a walk: some 5 ms of the server's one thread.
const STEP: usize = 1_000;
/// Fewest memories of one step that judges heads: a round trip costs as much as reading so many.
const LEAST: usize = 64;

/// What a walk gave.
struct Step {
    /// The memories, in the walk's order; a member whose memory is missing is left out.
    items: Vec<MemoryItem>,
    /// The member after which it goes on; `None` at the end.
    next: Option<Vec<u8>>,
}

/// A page.
///
/// One round trip without a filter or with one of owners alone; otherwise one for each thousand
/// memories that the walk passes, and one for those of the page. In another order than that of when
/// they occurred, an owner's memories are two round trips where there are at most a thousand.
///
/// # Errors
/// `InvalidInput`: limit, filter or cursor. `Unsupported`: a filter on an undeclared key. `Corrupt`:
/// what is stored. What the server met.
pub(crate) async fn page(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    query: &Query,
) -> Result<Page> {
    query.validate()?;
    plan::check_keys(&store.settings, &query.filter)?;
    let after =
        query.cursor.as_ref().map(|cursor| cursor.open(&context.tenant, query)).transpose()?;
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let plan = Plan::of(query, after.as_ref());
    let brief = query.projection.vectors == VectorProjection::None
        && !(query.projection.content || query.projection.payload);
    if let Some(few) = &plan.few {
        let heads = heads(&query.filter, query.projection.metadata);
        let projection = if brief { &query.projection } else { &heads };
        let now = store.clock.now();
        let step = step(store, call, context, few, STEP, projection).await?;
        if step.next.is_none() {
            let mut items = step.items;
            items.retain(|item| item.is_visible(now) && query.filter.matches(item));
            let items = in_order(items, query, after.as_ref());
            return finished(store, call, context, query, items, brief).await;
        }
    }
    let whole = brief || plan.is_likely && query.projection.vectors == VectorProjection::None;
    let projection = if whole {
        query.projection.clone()
    } else {
        heads(&query.filter, query.projection.metadata)
    };
    let mut walk = plan.walk;
    let mut items = Vec::with_capacity(limit.min(STEP) + 1);
    loop {
        let wanted = limit + 1 - items.len();
        let most = if plan.is_likely { wanted } else { (wanted * 2).max(LEAST) };
        let now = store.clock.now();
        let step = step(store, call, context, &walk, most.min(STEP), &projection).await?;
        let passing = |item: &MemoryItem| item.is_visible(now) && query.filter.matches(item);
        items.extend(step.items.into_iter().filter(passing).take(wanted));
        match step.next {
            Some(member) if items.len() <= limit => walk.go_on_after(&member),
            _ => break,
        }
    }
    finished(store, call, context, query, items, whole).await
}

/// Memories in the order of a query, those up to its cursor left out.
fn in_order(
    mut items: Vec<MemoryItem>,
    query: &Query,
    after: Option<&CursorKey>,
) -> Vec<MemoryItem> {
    let place = |one: (i64, &MemoryId), other: (i64, &MemoryId)| match query.order.direction {
        Direction::Ascending => one.cmp(&other),
        Direction::Descending => other.cmp(&one),
    };
    let of = |item: &MemoryItem| query.order.sort_value(item);
    if let Some(after) = after {
        items.retain(|item| place((of(item), &item.id), (after.sort, &after.id)).is_gt());
    }
    items.sort_by(|a, b| place((of(a), &a.id), (of(b), &b.id)));
    items
}

/// A page of what passed, in order; `whole`: the projection has been read already.
async fn finished(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    query: &Query,
    mut items: Vec<MemoryItem>,
    whole: bool,
) -> Result<Page> {
    let limit = usize::try_from(query.limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| {
        let key = CursorKey { sort: query.order.sort_value(item), id: item.id.clone() };
        Cursor::issue(&context.tenant, query, &key)
    });
    if !whole {
        items = rest(store, call, context, query, items).await?;
    } else if !query.projection.metadata {
        items.iter_mut().for_each(|item| item.metadata = memory_core::Metadata::new());
    }
    Ok(Page { items, next })
}

/// The parts of an item that a filter looks at.
fn heads(filter: &Filter, metadata: bool) -> Projection {
    let mut projection = Projection::narrow();
    projection.metadata = metadata
        || filter.fields().iter().any(|field| matches!(field, memory_core::Field::Metadata(_)));
    projection
}

/// The memories of a page, whole. One that has changed since its head was read is judged again, and
/// left out where it has another place now.
async fn rest(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    query: &Query,
    heads: Vec<MemoryItem>,
) -> Result<Vec<MemoryItem>> {
    if heads.is_empty() {
        return Ok(heads);
    }
    let mut projection = query.projection.clone();
    projection.metadata |= self::heads(&query.filter, false).metadata;
    let ids: Vec<MemoryId> = heads.iter().map(|item| item.id.clone()).collect();
    let found = fetch::fetch(store, call, context, &ids, &projection).await?;
    let same = |head: &MemoryItem, item: &MemoryItem| {
        item.revision == head.revision
            || query.filter.matches(item)
                && query.order.sort_value(item) == query.order.sort_value(head)
    };
    let pairs = heads.iter().zip(found).filter_map(|(head, item)| Some((head, item?)));
    let mut items: Vec<_> =
        pairs.filter(|(head, item)| same(head, item)).map(|(_, item)| item).collect();
    if !query.projection.metadata {
        items.iter_mut().for_each(|item| item.metadata = memory_core::Metadata::new());
    }
    Ok(items)
}

/// One step of a walk.
async fn step(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    walk: &Walk,
    most: usize,
    projection: &Projection,
) -> Result<Step> {
    let keys = store.keys.tenant(&context.tenant);
    let shape = Shape::of(projection, &TenantSpaces::default());
    let mut args = walk.args(most);
    args.extend(shape.fields().map(Into::into));
    let answer = store.wire.script(call, &WALK, &[keys.base().to_owned()], &args).await?;
    let Value::Array(values) = answer else { return Err(odd()) };
    let mut values = values.into_iter();
    let (Some(Value::BulkString(status)), Some(Value::BulkString(member))) =
        (values.next(), values.next())
    else {
        return Err(odd());
    };
    if status != b"done" {
        return Err(odd());
    }
    let mut items = Vec::with_capacity(values.len() / 2);
    while let Some(id) = values.next() {
        let (Value::BulkString(id), Some(Value::Array(row))) = (id, values.next()) else {
            return Err(odd());
        };
        let id = String::from_utf8(id).map_err(|_| odd())?;
        items.extend(shape.read(MemoryId::new(id).map_err(|_| odd())?, row)?);
    }
    Ok(Step { items, next: (!member.is_empty()).then_some(member) })
}

/// How many memories pass.
///
/// One round trip without a filter, and with one owner while nothing of the tenant is expired;
/// otherwise one for each thousand memories that the walk passes. One that is written anew while
/// such a walk goes on may be counted twice or not at all.
///
/// # Errors
/// `InvalidInput`: the filter. `Unsupported`: an undeclared key. `Corrupt`: what is stored. What the
/// server met.
pub(crate) async fn count(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    filter: &Filter,
) -> Result<u64> {
    filter.validate()?;
    plan::check_keys(&store.settings, filter)?;
    if let Some((set, is_all)) = plan::counted(filter)
        && let Some(count) = counted(store, call, context, &set, is_all).await?
    {
        return Ok(count);
    }
    let mut walk = plan::narrowest(filter);
    let projection = heads(filter, false);
    let mut count = 0;
    loop {
        let now = store.clock.now();
        let step = step(store, call, context, &walk, STEP, &projection).await?;
        let passing = |item: &&MemoryItem| item.is_visible(now) && filter.matches(item);
        count += step.items.iter().filter(passing).count() as u64;
        match step.next {
            Some(member) => walk.go_on_after(&member),
            None => return Ok(count),
        }
    }
}

/// The number of visible members of a set; `None` where that takes a look at each.
async fn counted(
    store: &RedisStore,
    call: Call<'_>,
    context: &CallContext,
    set: &str,
    is_all: bool,
) -> Result<Option<u64>> {
    let keys = store.keys.tenant(&context.tenant);
    let now = sortable(store.clock.now().as_micros());
    let args = [set.into(), now.into_bytes(), if is_all { b"1".to_vec() } else { Vec::new() }];
    let answer = store.wire.script(call, &COUNT, &[keys.base().to_owned()], &args).await?;
    match answer {
        Value::Array(values) => match &values[..] {
            [Value::BulkString(_), Value::Int(count)] => {
                u64::try_from(*count).map(Some).map_err(|_| odd())
            }
            [Value::BulkString(_)] => Ok(None),
            _ => Err(odd()),
        },
        _ => Err(odd()),
    }
}

fn odd() -> Error {
    corrupt("the server's answer to a walk is not what was asked for")
}

//! Reads of records: by id, by page, counted.

pub(crate) mod parts;
mod plan;
mod prefilter;
mod walks;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::limits::FETCH_IDS;
use memory_core::{
    CallContext, Cursor, CursorKey, Direction, Error, ErrorKind, Field, Filter, MemoryId,
    MemoryItem, MetaKey, OrderField, Page, Projection, Query, Result, SpaceId, TenantId, Timestamp,
    VectorProjection,
};
use proto::Value;
use proto::value::ValueType;

use crate::fields as f;
use crate::store::FirestoreStore;
use crate::wire::{Call, ENTRIES_A_READ, Entries, Found};
use crate::{filter, keys, model, names};
use plan::Plan;
pub(crate) use plan::{path, ranged_fields, sort_key};
pub(crate) use prefilter::{Prefilter, prefilter};
pub(crate) use walks::{all, by_user, distinct_kinds, embedded, expired, expired_all, of_kind};

/// Reads items by id. A document that cannot be read is an error where no other id is asked for, and
/// left out among others.
///
/// Billed: one read for each different id, found or not; the tenant's document where vectors are
/// asked for and its spaces are not known yet.
///
/// # Errors
/// `InvalidInput`: more than 1,000 ids. `Corrupt`, `Unsupported`: naming the document.
pub(crate) async fn fetch(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    ids: &[MemoryId],
    projection: &Projection,
) -> Result<Vec<Option<MemoryItem>>> {
    if ids.len() > FETCH_IDS {
        return Err(Error::invalid(format!(
            "one fetch takes {FETCH_IDS} ids; these are {}",
            ids.len()
        )));
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut places = HashMap::with_capacity(ids.len());
    let mut different = Vec::with_capacity(ids.len());
    for id in ids {
        places.entry(id).or_insert_with(|| {
            different.push(store.names.memory(&context.tenant, id));
            different.len() - 1
        });
    }
    let spaces = spaces_of(store, call, &context.tenant, projection).await?;
    let found = store.wire.get(call, different, Some(model::mask(projection, &spaces))).await?;
    let now = store.clock.now();
    let items = found
        .iter()
        .map(|found| {
            let Some(found) = found else { return Ok(None) };
            let item = model::item(found, &spaces)?;
            Ok(Some(item).filter(|item| is_visible(item, now)))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(ids.iter().map(|id| places.get(id).and_then(|at| items[*at].clone())).collect())
}

/// Reads a page.
///
/// Billed: one read for each item, one at the least; where the filter has ranges, also one for each 1,000 index entries that were walked, of which only the least is known.
///
/// # Errors
/// `InvalidInput`: limit, filter, cursor. `Unsupported`: what has no index.
pub(crate) async fn page(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    query: &Query,
) -> Result<Page> {
    query.validate()?;
    let after = query.cursor.as_ref().map(|at| at.open(&context.tenant, query)).transpose()?;
    let now = store.clock.now();
    let boxes = filter::boxes(&store.settings, &query.filter, now)?;
    let plan = plan::plan(&store.settings, &store.names, &boxes, query.order, now)?;
    let spaces = if plan.queries.is_empty() {
        Vec::new()
    } else {
        spaces_of(store, call, &context.tenant, &query.projection).await?
    };
    let reader = Reader { store, call, context, query, plan, spaces, now };
    let after = after.map(|key| model::text(reader.key_text(&key)));
    reader.read(after).await
}

/// Counts the items that pass.
///
/// Billed: one read for each 1,000 items, one at the least; nothing where no item can pass.
///
/// # Errors
/// As [`page`].
pub(crate) async fn count(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    filter: &Filter,
) -> Result<u64> {
    filter.validate()?;
    let now = store.clock.now();
    let boxes = filter::boxes(&store.settings, filter, now)?;
    let plan = plan::plan_count(&store.settings, &store.names, &boxes, now)?;
    let parent = store.names.tenant(&context.tenant);
    let mut count = 0;
    for query in plan.queries {
        count += store.wire.count(call, &parent, query).await?;
    }
    Ok(count)
}

/// The item of a document that was met among others: `None`, counted and logged, for one that
/// cannot be read.
///
/// # Errors
/// `Unsupported`: a document of a newer shape.
pub(crate) fn readable(
    store: &FirestoreStore,
    found: &Found,
    item: Result<MemoryItem>,
) -> Result<Option<MemoryItem>> {
    match item {
        Ok(item) => Ok(Some(item)),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            store.unreadable.fetch_add(1, Ordering::Relaxed);
            let document = names::last(&found.name);
            tracing::warn!(document, "a stored document is not readable and is left out");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether an item can be seen at `now`.
pub(crate) fn is_visible(item: &MemoryItem, now: Timestamp) -> bool {
    item.expires_at.is_none_or(|until| now < until)
}

/// The tenant's spaces among those that a projection asks for.
pub(crate) async fn spaces_of(
    store: &FirestoreStore,
    call: Call<'_>,
    tenant: &TenantId,
    projection: &Projection,
) -> Result<Vec<SpaceId>> {
    match &projection.vectors {
        VectorProjection::None => Ok(Vec::new()),
        VectorProjection::Space(space) => {
            let mut state = store.tenant(call, tenant).await?;
            if state.spaces.find(space).is_none() {
                // Another process may have named it since.
                state = store.tenant_now(call, tenant).await?;
            }
            Ok(state.spaces.find(space).map(memory_core::EmbeddingSpace::id).into_iter().collect())
        }
        VectorProjection::All => {
            // Which these are is asked each time: one read beside those of the items.
            Ok(store.tenant_now(call, tenant).await?.space_ids())
        }
    }
}

/// The fields that a read needs for a projection and to hold what comes back against a filter.
fn mask_with(projection: &Projection, spaces: &[SpaceId], filter: &Filter) -> Vec<String> {
    let mut paths = model::mask(projection, spaces);
    if !projection.metadata {
        paths.extend(metadata_of(filter).iter().map(|key| f::path(f::METADATA, key.as_str())));
    }
    paths
}

fn metadata_of(filter: &Filter) -> Vec<MetaKey> {
    let key = |field| if let Field::Metadata(key) = field { Some(key) } else { None };
    filter.fields().into_iter().filter_map(key).collect()
}

/// The walk of one page.
struct Reader<'a> {
    store: &'a FirestoreStore,
    call: Call<'a>,
    context: &'a CallContext,
    query: &'a Query,
    plan: Plan,
    spaces: Vec<SpaceId>,
    now: Timestamp,
}

impl Reader<'_> {
    fn key_text(&self, key: &CursorKey) -> String {
        if self.query.order.field == OrderField::Id {
            return names::encode(key.id.as_str());
        }
        let time = Timestamp::from_micros(key.sort).unwrap_or(Timestamp::MIN);
        keys::sort_key(time, key.id.as_str())
    }

    async fn read(&self, after: Option<Value>) -> Result<Page> {
        let limit = usize::try_from(self.query.limit).unwrap_or(usize::MAX);
        let mut items = Vec::new();
        let mut start = after.map(|value| proto::Cursor { values: vec![value], before: false });
        // Documents at `start` that were seen: a sort key is of one item, but documents that were
        // not written by this store may share it.
        let mut seen: Vec<String> = Vec::new();
        loop {
            let most = (limit - items.len()).saturating_add(seen.len());
            let rows = self.rows(start.take(), most).await?;
            for row in rows.iter().filter(|row| !seen.contains(&row.name)) {
                items.extend(self.item(row)?);
            }
            let last = rows.last().and_then(|row| row.fields.get(self.plan.key).cloned());
            let Some(key) = last.filter(|_| rows.len() == most && items.len() < limit) else {
                break;
            };
            // Whatever was left out of these is made up for from what follows them.
            let at_key = rows.into_iter().filter(|row| row.fields.get(self.plan.key) == Some(&key));
            seen = at_key.map(|row| row.name).collect();
            start = Some(proto::Cursor { values: vec![key], before: true });
        }
        // A full page is not known to be the last: to know it would take one more billed read.
        let full = items.len() == limit;
        let next = items.last().filter(|_| full).map(|item: &MemoryItem| {
            let key = CursorKey { sort: self.query.order.sort_value(item), id: item.id.clone() };
            Cursor::issue(&self.context.tenant, self.query, &key)
        });
        Ok(Page { items, next })
    }

    /// The next documents in order, at most `most`.
    async fn rows(&self, start: Option<proto::Cursor>, most: usize) -> Result<Vec<Found>> {
        let store = self.store;
        let parent = store.names.tenant(&self.context.tenant);
        let mut mask = mask_with(&self.query.projection, &self.spaces, &self.query.filter);
        mask.push(self.plan.key.to_owned());
        let entries = if self.plan.entries {
            Entries { count: most as u64, a_read: ENTRIES_A_READ }
        } else {
            Entries::FREE
        };
        let mut rows = Vec::new();
        for query in &self.plan.queries {
            let mut query = query.clone();
            query.select = Some(parts::select(&mask));
            query.start_at.clone_from(&start);
            query.limit = Some(walks::most(u32::try_from(most).unwrap_or(u32::MAX)));
            rows.extend(store.wire.query(self.call, &parent, query, entries).await?);
        }
        if self.plan.queries.len() > 1 {
            let key = |row: &Found| match row.fields.get(self.plan.key) {
                Some(Value { value_type: Some(ValueType::StringValue(text)) }) => {
                    (text.clone(), row.name.clone())
                }
                _ => (String::new(), row.name.clone()),
            };
            rows.sort_by_cached_key(key);
            if self.query.order.direction == Direction::Descending {
                rows.reverse();
            }
            rows.truncate(most);
        }
        Ok(rows)
    }

    /// The item of a document, if it is the tenant's, visible, and passes the filter.
    fn item(&self, row: &Found) -> Result<Option<MemoryItem>> {
        let tenant = &self.context.tenant;
        let names = &self.store.names;
        let own = row
            .name
            .strip_prefix(&names.tenant(tenant))
            .and_then(|rest| rest.strip_prefix('/'))
            .and_then(|rest| rest.strip_prefix(names.memories.as_str()))
            .is_some_and(|rest| rest.starts_with('/'));
        if !own {
            return Ok(None);
        }
        let Some(mut item) = readable(self.store, row, model::item(row, &self.spaces))? else {
            return Ok(None);
        };
        if !is_visible(&item, self.now) || !self.query.filter.matches(&item) {
            return Ok(None);
        }
        if !self.query.projection.metadata {
            item.metadata.clear();
        }
        Ok(Some(item))
    }
}

#[cfg(test)]
mod tests;

//! The cache around a store of record and a bulk writer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::limits::FETCH_IDS;
use memory_core::traits::{
    BulkObserver, BulkWriter, EraseScope, EraseStep, EraseToken, RecordStore, SweepStep,
};
use memory_core::{
    CallContext, Capabilities, Commit, CommitId, CommitReceipt, Direction, Filter, Health,
    MemoryId, MemoryItem, Outcome, Page, Precondition, Projection, Query, Result, Timestamp, Write,
    WriteResult,
};

use super::State;
use super::counts::ValueKind;
use super::keys::{Owner, Touched, history_key, item_key};
use super::protocol::{Verdict, Writer};
use super::reader::{Judged, Through, Wanted};
use super::writer::{Underway, admitted, effect, touched, write};

/// A store of record behind the cache.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) inner: Arc<dyn RecordStore>,
    pub(super) state: Arc<State>,
}

/// Items by their ids.
struct Items<'a> {
    inner: &'a dyn RecordStore,
    context: &'a CallContext,
    ids: Vec<&'a MemoryId>,
    projection: &'a Projection,
    most_bytes: usize,
}

impl Wanted for Items<'_> {
    type Value = Option<MemoryItem>;
    type Kept = MemoryItem;

    const KIND: ValueKind = ValueKind::Item;

    async fn load(&self, places: &[usize]) -> Result<Vec<Option<MemoryItem>>> {
        let ids: Vec<_> =
            places.iter().filter_map(|place| self.ids.get(*place).copied().cloned()).collect();
        self.inner.fetch(self.context, &ids, self.projection).await
    }

    /// That an item is not there is never kept.
    fn kept(value: &Option<MemoryItem>) -> Option<&MemoryItem> {
        value.as_ref()
    }

    fn judged(&self, place: usize, item: MemoryItem, now: Timestamp) -> Judged<Self::Value> {
        if self.ids.get(place).is_none_or(|id| **id != item.id) {
            return Judged::Wrong;
        }
        if item.is_visible(now) { Judged::Good(Some(item)) } else { Judged::Expired }
    }

    fn most_bytes(&self) -> usize {
        self.most_bytes
    }
}

/// The first page of a conversation.
struct History<'a> {
    inner: &'a dyn RecordStore,
    context: &'a CallContext,
    query: &'a Query,
    most_bytes: usize,
}

impl Wanted for History<'_> {
    type Value = Page;
    type Kept = Page;

    const KIND: ValueKind = ValueKind::History;

    async fn load(&self, places: &[usize]) -> Result<Vec<Page>> {
        let mut pages = Vec::with_capacity(places.len());
        for _ in places {
            pages.push(self.inner.query(self.context, self.query).await?);
        }
        Ok(pages)
    }

    fn kept(page: &Page) -> Option<&Page> {
        Some(page)
    }

    fn judged(&self, _place: usize, page: Page, now: Timestamp) -> Judged<Page> {
        let query = self.query;
        let fits = usize::try_from(query.limit).is_ok_and(|limit| page.items.len() <= limit)
            && page.items.iter().all(|item| query.filter.matches(item))
            && page.items.is_sorted_by(|one, next| {
                let [one, next] = [one, next].map(|it| (query.order.sort_value(it), &it.id));
                match query.order.direction {
                    Direction::Ascending => one < next,
                    Direction::Descending => one > next,
                }
            })
            && page.next.as_ref().is_none_or(|it| it.open(&self.context.tenant, query).is_ok());
        if !fits {
            return Judged::Wrong;
        }
        let is_visible = page.items.iter().all(|item| item.is_visible(now));
        if is_visible { Judged::Good(page) } else { Judged::Expired }
    }

    fn most_bytes(&self) -> usize {
        self.most_bytes
    }
}

fn bytes(setting: u32) -> usize {
    usize::try_from(setting).unwrap_or(usize::MAX)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl RecordStore for Cached {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let door = &self.state.door;
        if !self.state.is_asked(context) {
            return self.inner.commit(context, commit).await;
        }
        let touched = touched(door, &*self.inner, context, &commit.writes).await;
        let resend = commit.resend;
        write(door, context, touched, resend, self.inner.commit(context, commit)).await
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let door = &self.state.door;
        if !self.state.is_asked(context) || !(1..=FETCH_IDS).contains(&ids.len()) {
            return self.inner.fetch(context, ids, projection).await;
        }
        // An id that is asked for twice is one key.
        let mut places = BTreeMap::new();
        let mut distinct = Vec::with_capacity(ids.len());
        let mut keys = Vec::with_capacity(ids.len());
        let mut order = Vec::with_capacity(ids.len());
        for id in ids {
            let place = *places.entry(id).or_insert_with(|| {
                distinct.push(id);
                distinct.len() - 1
            });
            if place == keys.len() {
                let Some(key) = item_key(id, projection) else {
                    return self.inner.fetch(context, ids, projection).await;
                };
                keys.push(key);
            }
            order.push(place);
        }
        let most_bytes = bytes(door.settings.item_max_bytes);
        let inner = &*self.inner;
        let wanted = Items { inner, context, ids: distinct, projection, most_bytes };
        let through = Through { door, flights: &self.state.items, context, wanted: &wanted };
        let mut found = through.read(keys).await?;
        if found.len() == ids.len() {
            return Ok(found);
        }
        let last = order.iter().enumerate().map(|(at, place)| (*place, at));
        let last: BTreeMap<_, _> = last.collect();
        Ok(order
            .iter()
            .enumerate()
            .map(|(at, place)| match found.get_mut(*place) {
                Some(item) if last.get(place) == Some(&at) => item.take(),
                Some(item) => item.clone(),
                None => None,
            })
            .collect())
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let door = &self.state.door;
        let settings = &door.settings;
        if !settings.history || !self.state.is_asked(context) {
            return self.inner.query(context, query).await;
        }
        let Some(key) = history_key(query, settings.history_limit) else {
            return self.inner.query(context, query).await;
        };
        let most_bytes = bytes(settings.history_max_bytes);
        let wanted = History { inner: &*self.inner, context, query, most_bytes };
        let through = Through { door, flights: &self.state.pages, context, wanted: &wanted };
        Ok(through.read(vec![key]).await?.pop().unwrap_or_default())
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.inner.count(context, filter).await
    }
    /// Nothing that it removes can be seen, in the cache or in the store.
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.inner.sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let mut touched = Touched::default();
        touched.all_items();
        touched.all_history();
        let erase = self.inner.erase(context, scope, resume);
        if !self.state.is_asked(context) {
            return erase.await;
        }
        write(&self.state.door, context, touched, false, erase).await
    }
    async fn health(&self) -> Health {
        let mut health = self.inner.health().await;
        self.state.door.health(&mut health).await;
        health
    }
    async fn close(&self) -> Result<()> {
        // The store first: until it refuses writes, they have to tell the cache.
        let closed = self.inner.close().await;
        self.state.closed.store(true, Ordering::Release);
        let let_go = self.state.door.close().await;
        closed.and(let_go)
    }
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}

/// A bulk writer behind the cache.
#[derive(Debug)]
pub(super) struct CachedBulk {
    pub(super) inner: Arc<dyn BulkWriter>,
    pub(super) state: Arc<State>,
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl BulkWriter for CachedBulk {
    async fn write_many(
        &self,
        context: &CallContext,
        id: CommitId,
        writes: Vec<Write>,
        resend: bool,
        observer: &dyn BulkObserver,
    ) -> Result<Vec<Result<WriteResult>>> {
        let door = &self.state.door;
        let mut touched = Touched::default();
        for write in &writes {
            touched.item(write.id());
            // What is replaced is not read: a load is of new items, and of many.
            match write {
                Write::Put(put) if *write.precondition() == Precondition::Absent => {
                    touched.conversations(Owner::of(&put.item));
                }
                Write::Put(_) | Write::Delete(_) => touched.all_history(),
            }
        }
        let groups = touched.into_groups();
        if groups.is_empty() || !self.state.is_asked(context) {
            return self.inner.write_many(context, id, writes, resend, observer).await;
        }
        let mut underway = Underway { door, context, groups: &groups, until: Duration::ZERO };
        let state = underway.begin(Writer::Begin).await;
        admitted(door, state)?;
        let answer = self.inner.write_many(context, id, writes, resend, observer).await;
        let strict = door.settings.strict;
        let lost = |result: &Result<_>| {
            result.as_ref().is_err_and(|error| resend || error.outcome() == Outcome::Unknown)
        };
        let state = match &answer {
            // It may have taken longer than a mark stands: a new one takes away what was kept since,
            // and guards what may yet take effect.
            Ok(results) if results.iter().any(lost) => Writer::Remark,
            answer => state.after(effect(answer, resend), strict),
        };
        let state = match (state, &answer) {
            (Writer::Done(Verdict::Marked), Err(_)) => Writer::Remark,
            (state, _) => state,
        };
        underway.close(state).await;
        answer
    }
}

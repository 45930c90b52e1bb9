//! A cache that fails on purpose, a store that is watched, and the layer between them.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    Cache, CacheFill, CacheKey, CacheRead, CacheWrite, EraseScope, EraseStep, EraseToken,
    RecordStore, SweepStep,
};
use memory_core::{
    CallContext, Capabilities, Clock as _, Commit, CommitId, CommitReceipt, Error, ErrorKind,
    Field, Filter, Health, MemoryId, MemoryItem, Page, Precondition, Projection, Query, Result,
    Revision, SessionId, UserId, Vectors, Write,
};
use memory_layers::{CacheLayer, CacheSettings, Layer as _, LocalCache};
use memory_testkit::ReferenceStore;

use crate::support::{Drawn, Time, finish, give_way, tenant};

/// What becomes of one request to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Works,
    /// It is lost before it does anything.
    Fails,
    /// It is done and its answer lost.
    Unheard,
    /// There is no answer.
    Hangs,
    /// Values are garbage.
    Garbles,
    /// There are fewer answers than were asked for.
    Miscounts,
}

/// A cache whose requests fail, by name.
#[derive(Debug)]
pub(super) struct Shaky {
    pub(super) inner: Arc<LocalCache>,
    plan: Mutex<Vec<(&'static str, Fate)>>,
    asked: Mutex<Vec<&'static str>>,
    /// How often each request gives way before and after it is done.
    pub(super) yields: AtomicUsize,
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "as the test says").with_unknown_outcome()
}

impl Shaky {
    /// From now on this is the fate of requests of a name; `*` is all.
    pub(super) fn set(&self, name: &'static str, fate: Fate) {
        let mut plan = self.plan.lock().unwrap();
        plan.retain(|(known, _)| *known != name && name != "*");
        plan.push((name, fate));
    }

    /// What was asked since the last look.
    pub(super) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    async fn run<T>(
        &self,
        name: &'static str,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<(T, Fate)> {
        self.asked.lock().unwrap().push(name);
        let yields = self.yields.load(Ordering::SeqCst);
        give_way(yields).await;
        let of = |name| {
            let plan = self.plan.lock().unwrap();
            plan.iter().find(|(known, _)| *known == name).map(|it| it.1)
        };
        let fate = of(name).or_else(|| of("*")).unwrap_or(Fate::Works);
        match fate {
            Fate::Fails => return Err(lost()),
            Fate::Hangs => pending().await,
            _ => {}
        }
        let answer = run.await?;
        give_way(yields).await;
        if fate == Fate::Unheard { Err(lost()) } else { Ok((answer, fate)) }
    }
}

#[async_trait]
impl Cache for Shaky {
    async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>> {
        let (mut answers, fate) = self.run("read", self.inner.read(context, keys, life)).await?;
        match fate {
            Fate::Garbles => answers.iter_mut().for_each(|answer| {
                if let CacheRead::Hit(value) = answer {
                    value.iter_mut().step_by(3).for_each(|byte| *byte ^= 0x55);
                }
            }),
            Fate::Miscounts => drop(answers.pop()),
            _ => {}
        }
        Ok(answers)
    }
    async fn fill(&self, context: &CallContext, fills: Vec<CacheFill>) -> Result<Vec<bool>> {
        Ok(self.run("fill", self.inner.fill(context, fills)).await?.0)
    }
    async fn begin_write(
        &self,
        context: &CallContext,
        groups: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite> {
        Ok(self.run("begin", self.inner.begin_write(context, groups, most)).await?.0)
    }
    async fn end_write(
        &self,
        context: &CallContext,
        write: CacheWrite,
        life: Duration,
    ) -> Result<()> {
        self.run("end", self.inner.end_write(context, write, life)).await.map(|_| ())
    }
    async fn health(&self) -> Health {
        match self.run("health", async { Ok(self.inner.health().await) }).await {
            Ok((health, _)) => health,
            Err(_) => pending().await,
        }
    }
    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// A store that counts its reads, can be held, and fails by a script.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) inner: ReferenceStore,
    /// Ids of each fetch, and `?` for each query.
    reads: Mutex<Vec<String>>,
    held: AtomicBool,
    failing: AtomicUsize,
    commits: Mutex<VecDeque<Fate>>,
    pub(super) yields: AtomicUsize,
}

impl Watched {
    /// What was read since the last look.
    pub(super) fn reads(&self) -> Vec<String> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }

    /// Reads have been done, and wait with their answer, until they are released.
    pub(super) fn hold(&self, is_held: bool) {
        self.held.store(is_held, Ordering::SeqCst);
    }

    /// The next reads fail.
    pub(super) fn fail_reads(&self, times: usize) {
        self.failing.store(times, Ordering::SeqCst);
    }

    /// What becomes of the next commits.
    pub(super) fn plan(&self, fates: impl IntoIterator<Item = Fate>) {
        self.commits.lock().unwrap().extend(fates);
    }

    async fn read<T>(
        &self,
        what: String,
        run: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        self.reads.lock().unwrap().push(what);
        let yields = self.yields.load(Ordering::SeqCst);
        give_way(yields).await;
        let answer = run.await;
        let is_held = || self.held.load(Ordering::SeqCst);
        poll_fn(|_| if is_held() { Poll::Pending } else { Poll::Ready(()) }).await;
        give_way(yields).await;
        let take = |left: usize| left.checked_sub(1);
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            return Err(Error::new(ErrorKind::Unavailable, "as the test says"));
        }
        answer
    }
}

#[async_trait]
impl RecordStore for Watched {
    async fn commit(&self, context: &CallContext, commit: Commit) -> Result<CommitReceipt> {
        let fate = self.commits.lock().unwrap().pop_front().unwrap_or(Fate::Works);
        let yields = self.yields.load(Ordering::SeqCst);
        give_way(yields).await;
        match fate {
            Fate::Fails => return Err(lost()),
            Fate::Hangs => pending().await,
            _ => {}
        }
        let answer = self.inner.commit(context, commit).await;
        give_way(yields).await;
        if fate == Fate::Unheard { Err(lost()) } else { answer }
    }
    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let names: Vec<_> = ids.iter().map(MemoryId::as_str).collect();
        self.read(names.join(","), self.inner.fetch(context, ids, projection)).await
    }
    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        self.read("?".to_owned(), self.inner.query(context, query)).await
    }
    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        self.inner.count(context, filter).await
    }
    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        self.inner.sweep_expired(context, limit).await
    }
    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        self.inner.erase(context, scope, resume).await
    }
    async fn health(&self) -> Health {
        RecordStore::health(&self.inner).await
    }
    async fn close(&self) -> Result<()> {
        RecordStore::close(&self.inner).await
    }
    fn capabilities(&self) -> Capabilities {
        RecordStore::capabilities(&self.inner)
    }
}

/// Two processes with a layer each over one cache and one store.
pub(super) struct World {
    pub(super) time: Arc<Time>,
    pub(super) cache: Arc<Shaky>,
    pub(super) store: Arc<Watched>,
    pub(super) layers: [CacheLayer; 2],
    pub(super) here: Arc<dyn RecordStore>,
    pub(super) there: Arc<dyn RecordStore>,
    pub(super) context: CallContext,
    commits: AtomicUsize,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(CacheSettings::default())
    }

    pub(super) fn with(settings: CacheSettings) -> Self {
        let time = Time::by_hand();
        let local = LocalCache::new(time.clock.clone(), Drawn::new(5), 10_000, 1 << 24);
        let cache = Arc::new(Shaky {
            inner: Arc::new(local),
            plan: Mutex::default(),
            asked: Mutex::default(),
            yields: AtomicUsize::new(0),
        });
        let store = Arc::new(Watched {
            inner: ReferenceStore::new(time.clock.clone()),
            reads: Mutex::default(),
            held: AtomicBool::new(false),
            failing: AtomicUsize::new(0),
            commits: Mutex::default(),
            yields: AtomicUsize::new(0),
        });
        let layer = || {
            let (clock, timer) = (time.clock.clone(), time.clone());
            CacheLayer::new(settings, cache.clone(), clock, timer, None).unwrap()
        };
        let layers = [layer(), layer()];
        let [here, there] = layers.each_ref().map(|layer| layer.records(store.clone()));
        let (context, commits) = (tenant(), AtomicUsize::new(0));
        Self { time, cache, store, layers, here, there, context, commits }
    }

    pub(super) fn item(&self, id: &str, user: &str, text: &str) -> MemoryItem {
        let now = self.time.clock.now();
        MemoryItem::new(MemoryId::new(id).unwrap(), text, now)
            .unwrap()
            .with_user(UserId::new(user).unwrap())
            .with_session(SessionId::new("s1").unwrap())
    }

    pub(super) fn of(&self, writes: Vec<Write>) -> Commit {
        let number = self.commits.fetch_add(1, Ordering::SeqCst);
        Commit::new(CommitId::from_bytes((number as u128 + 1).to_be_bytes()), writes)
    }

    /// Writes through the layer of this process.
    pub(super) fn write(&self, writes: Vec<Write>) -> Result<CommitReceipt> {
        finish(self.here.commit(&self.context, self.of(writes)))
    }

    /// Writes through the layer of the other process.
    pub(super) fn write_there(&self, writes: Vec<Write>) -> Result<CommitReceipt> {
        finish(self.there.commit(&self.context, self.of(writes)))
    }

    pub(super) fn add(&self, id: &str, user: &str, text: &str) -> Revision {
        let item = self.item(id, user, text);
        self.write(vec![put(item, Precondition::Absent)]).unwrap().results[0]
            .revision
            .clone()
            .unwrap()
    }

    pub(super) fn get(&self, ids: &str) -> Result<Vec<Option<String>>> {
        let ids: Vec<_> = ids.split(',').map(|id| MemoryId::new(id).unwrap()).collect();
        let items = finish(self.here.fetch(&self.context, &ids, &Projection::full()))?;
        Ok(items.into_iter().map(|item| item.map(|item| item.content().to_owned())).collect())
    }

    pub(super) fn text(&self, id: &str) -> String {
        self.get(id).unwrap().remove(0).unwrap_or_default()
    }

    /// The texts of a user's conversation.
    pub(super) fn history(&self, user: &str, limit: u32) -> Vec<String> {
        let page = finish(self.here.query(&self.context, &conversation(user, limit))).unwrap();
        page.items.iter().map(|item| item.content().to_owned()).collect()
    }

    /// Reads an item and a conversation, so that both are in the cache.
    pub(super) fn warm(&self, id: &str, user: &str) {
        self.text(id);
        self.history(user, 10);
        self.store.reads();
    }

    pub(super) fn is_marked(&self, group: &str) -> bool {
        self.cache.inner.is_marked(&self.context.tenant, group)
    }
}

pub(super) fn put(item: MemoryItem, precondition: Precondition) -> Write {
    Write::put(item, Vectors::default(), precondition)
}

pub(super) fn conversation(user: &str, limit: u32) -> Query {
    Query::new(limit).with_filter(Filter::eq(Field::UserId, user))
}

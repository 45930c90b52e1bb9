//! One of the processes of a run: readers and writers of a few items through the cache layer.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_core::traits::{Cache, NoLedger, RecordStore};
use memory_core::{
    CallContext, Commit, Error, ErrorKind, Field, Filter, IdSource as _, MemoryId, MemoryItem,
    Precondition, Projection, Query, RandomIds, SessionId, SystemClock, TenantId, Timestamp,
    UserId, Vectors, Write,
};
use memory_layers::{CacheLayer, CacheSettings, Layer as _, TokioTimer};
use memory_testkit::generators::Generator;
use orchestra_memory::memory_redis::{RedisCache, RedisParts, RedisSettings};
use orchestra_memory::memory_sqlite::{SqliteSettings, SqliteStore, Synchronous};

use crate::board::{Board, Count, Floor, KEYS, TASKS, Total};
use crate::server::now;
use crate::wrong::{Wrong, WrongCache};

/// Set for a process: its number, the seed, the name of what its cache does wrong or `none`, the
/// server's URL, and the folder of the run.
pub(crate) const CHILD: &str = "ORCHESTRA_MEMORY_COHERENCE_CHILD";
/// The test that is such a process.
pub(crate) const TEST: &str = "worker::child_works_until_it_is_told_to_stop";

/// The bound of staleness in the runs.
pub(crate) const MAX_STALE: Duration = Duration::from_secs(2);
/// How much later than the bound a value has to be gone, for two clocks and a wait for a processor.
const MARGIN: Duration = Duration::from_secs(1);

pub(crate) fn board_of(folder: &Path) -> PathBuf {
    folder.join("board")
}

/// A process of the runs; does nothing in an ordinary run.
#[test]
fn child_works_until_it_is_told_to_stop() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let mut parts = told.splitn(5, ' ');
    let mut part = || parts.next().unwrap();
    let process: usize = part().parse().unwrap();
    let seed: u64 = part().parse().unwrap();
    let (wrong, url, folder) = (Wrong::of(part()), part(), Path::new(part()));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work(process, seed, wrong, url, folder));
}

async fn work(process: usize, seed: u64, wrong: Option<Wrong>, url: &str, folder: &Path) {
    let clock = Arc::new(SystemClock::new());
    let mut settings = SqliteSettings::new(folder.join("store.db"));
    settings.synchronous = Synchronous::Off;
    let store = SqliteStore::open(settings, clock.clone(), Arc::new(NoLedger)).unwrap();
    let redis: RedisSettings = serde_json::from_value(serde_json::json!({
        "url": url, "connect_timeout_ms": 500, "response_timeout_ms": 500, "reconnect_pause_ms": 50,
    }))
    .unwrap();
    let parts = RedisParts::new(clock.clone(), Arc::new(NoLedger));
    let mut cache: Arc<dyn Cache> = RedisCache::open(redis, parts).await.unwrap();
    if let Some(wrong) = wrong {
        cache = Arc::new(WrongCache { inner: cache, wrong });
    }
    let mut settings = CacheSettings::default();
    settings.max_stale_ms = u64::try_from(MAX_STALE.as_millis()).unwrap();
    settings.mark_ms = 5_000;
    settings.timeout_ms = 300;
    settings.pause_ms = 100;
    let layer = CacheLayer::new(settings, cache, clock, Arc::new(TokioTimer), None).unwrap();
    let store = layer.records(store);
    let board = Arc::new(Board::open(&board_of(folder)));
    let totals = [Total::Hits, Total::Misses, Total::Bypasses, Total::Unconfirmed];
    let before = totals.map(|total| board.total(process, total));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let task = process * TASKS + task;
            let random = Generator::new(seed ^ (task as u64 + 1).wrapping_mul(0x9e37_79b9));
            let context = CallContext::new(TenantId::new("t").unwrap());
            let (layer, store, board) = (layer.clone(), Arc::clone(&store), Arc::clone(&board));
            let later = VecDeque::new();
            tokio::spawn(Task { task, random, context, layer, store, board, later }.run())
        })
        .collect();
    let tell = || {
        let counts = layer.counts();
        let (items, history) = (counts.items, counts.history);
        let found = [
            items.hits + history.hits,
            items.misses + history.misses,
            items.bypasses + history.bypasses,
            counts.unconfirmed,
        ];
        for ((total, found), before) in totals.into_iter().zip(found).zip(before) {
            board.set_total(process, total, before + found);
        }
    };
    while !board.stops() {
        tell();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    tell();
    store.close().await.unwrap();
}

struct Task {
    task: usize,
    random: Generator,
    context: CallContext,
    layer: CacheLayer,
    store: Arc<dyn RecordStore>,
    board: Arc<Board>,
    /// Versions that the cache may not know of, and when they have to be seen all the same.
    later: VecDeque<(Instant, usize, u64)>,
}

impl Task {
    async fn run(mut self) {
        while !self.board.stops() {
            let key = self.random.below(KEYS);
            match self.random.below(100) {
                0..12 => self.write(key).await,
                12..70 => drop(self.get(key).await),
                _ => self.history(key % 2).await,
            }
            self.board.add(self.task, Count::Operations);
            while let Some((due, key, version)) = self.later.front().copied()
                && due <= now()
            {
                self.later.pop_front();
                self.board.raise(Floor::Firm, self.task, key, version);
            }
        }
    }

    /// What a read that begins now may give at the oldest, and what it would give without outages.
    fn floors(&self, key: usize) -> (u64, u64) {
        (self.board.floor(Floor::Firm, key), self.board.floor(Floor::Any, key))
    }

    fn judge(&self, what: &str, key: usize, (firm, any): (u64, u64), version: u64) {
        if version < firm {
            self.board.add(self.task, Count::Stale);
            eprintln!("stale: {what} of {key} gave {version} after {firm} was acknowledged");
        } else if version < any {
            self.board.add(self.task, Count::Bounded);
        }
    }

    fn failed(&self, error: &Error) {
        self.board.add(self.task, Count::Failed);
        eprintln!("failed: {error}");
    }

    /// Reads an item and judges what is found; `None` where the read failed.
    async fn get(&self, key: usize) -> Option<Option<MemoryItem>> {
        let floors = self.floors(key);
        match self.store.fetch(&self.context, &[id(key)], &Projection::full()).await {
            Ok(items) => {
                let found = items.into_iter().flatten().next();
                self.judge("a read by id", key, floors, found.as_ref().map_or(0, version));
                Some(found)
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    async fn history(&self, session: usize) {
        let floors: Vec<_> = (0..KEYS).map(|key| self.floors(key)).collect();
        let filter = Filter::eq(Field::SessionId, format!("s{session}").as_str());
        match self.store.query(&self.context, &Query::new(20).with_filter(filter)).await {
            Ok(page) => {
                for (key, floors) in floors.into_iter().enumerate() {
                    if key % 2 == session {
                        let found = page.items.iter().find(|item| item.id == id(key));
                        self.judge("a conversation", key, floors, found.map_or(0, version));
                    }
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    async fn write(&mut self, key: usize) {
        let before = (self.board.phase(), self.layer.counts().unconfirmed);
        let Some(found) = self.get(key).await else { return };
        let next = found.as_ref().map_or(0, version) + 1;
        let precondition = match found.and_then(|item| item.revision) {
            Some(revision) => Precondition::Revision(revision),
            None => Precondition::Absent,
        };
        let write = Write::put(item(key, next), Vectors::default(), precondition);
        let commit = Commit::new(RandomIds.commit_id(), vec![write]);
        match self.store.commit(&self.context, commit).await {
            Ok(_) => {
                let after = (self.board.phase(), self.layer.counts().unconfirmed);
                self.board.add(self.task, Count::Writes);
                if before == after && before.0.is_multiple_of(2) {
                    self.board.raise(Floor::Firm, self.task, key, next);
                    self.board.add(self.task, Count::Confirmed);
                } else {
                    self.later.push_back((now() + MAX_STALE + MARGIN, key, next));
                }
                self.board.raise(Floor::Any, self.task, key, next);
            }
            // The item was not there yet, or was of another revision: somebody came before.
            Err(error)
                if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::AlreadyExists) =>
            {
                self.board.add(self.task, Count::Conflicts);
            }
            Err(error) => self.failed(&error),
        }
    }
}

fn id(key: usize) -> MemoryId {
    MemoryId::new(format!("k{key}")).unwrap()
}

fn item(key: usize, version: u64) -> MemoryItem {
    let time = Timestamp::from_micros(1_700_000_000_000_000).unwrap();
    MemoryItem::new(id(key), version.to_string(), time)
        .unwrap()
        .with_user(UserId::new("u").unwrap())
        .with_session(SessionId::new(format!("s{}", key % 2)).unwrap())
}

fn version(item: &MemoryItem) -> u64 {
    item.content().parse().unwrap()
}

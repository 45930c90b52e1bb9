//! The store: commits and reads beside the bare commands that do the same work, and what a memory
//! takes of the server.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use benches::{DIMENSIONS, Numbers, WORDS, head, row};
use memory_core::traits::{RecordStore as _, RecordStoreExt as _, StoreMeta as _, TenantSpaces};
use memory_core::{
    CallContext, Commit, EmbeddingSpace, IdSource as _, Kind, MemoryId, MemoryItem, Metric,
    Precondition, RandomIds, SessionId, TenantId, Timestamp, UserId, Vectors, Write,
};
use memory_redis::{RedisSettings, RedisStore, SearchMode};
use orchestra_memory::UsageLedger;
use redis::aio::ConnectionManager;

use crate::{Pairing, World, by_callers, numbers, ping, requests};

/// Calls of a turn by one caller; by 32 it is as many for each two of them.
const CALLS: usize = 100;
/// Memories that are weighed.
const WEIGHED: usize = 5_000;
/// 2025-01-01T00:00:00Z in microseconds.
const BEGIN: i64 = 1_735_689_600_000_000;
/// The fields of a memory without vectors and without what only searches read.
const FIELDS: [&str; 16] =
    ["h", "c", "p", "r", "u", "a", "s", "kd", "ro", "au", "ch", "im", "to", "tc", "tu", "e"];

/// A store and one of its tenants.
pub(crate) struct Place {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) book: Arc<UsageLedger>,
    pub(crate) context: CallContext,
    pub(crate) space: EmbeddingSpace,
    /// What the tenant's keys begin with.
    base: String,
    /// What every memory that is added alone says: nothing is made up while it is timed.
    text: String,
    vector: Vec<f32>,
}

impl Place {
    pub(crate) async fn new(world: &World, settings: RedisSettings) -> Result<Self> {
        let base = format!("{}:{{t}}:", settings.prefix);
        let (store, book) = world.store(settings).await?;
        let context = CallContext::new(TenantId::new("t")?);
        let dimensions = u32::try_from(DIMENSIONS)?;
        let space = EmbeddingSpace::new("bench", "1", dimensions, Metric::Cosine)?;
        let spaces = TenantSpaces { active: Some(space.clone()), next: None, version: 0 };
        store.set_spaces(&context, &spaces).await?;
        let mut numbers = numbers(2);
        let (text, vector) = (numbers.words(WORDS), numbers.vector());
        Ok(Self { store, book, context, space, base, text, vector })
    }

    fn write(&self, id: &str, numbers: &mut Numbers, with_vector: bool) -> Result<Write> {
        let at = Timestamp::from_micros(BEGIN + i64::try_from(numbers.next_u64() >> 16)?)?;
        let item = MemoryItem::new(MemoryId::new(id)?, numbers.words(WORDS), at)?
            .with_user(UserId::new("ada")?)
            .with_session(SessionId::new(format!("session-{}", numbers.next_u64() % 50))?)
            .with_kind(Kind::Message);
        let vectors = match with_vector {
            true => BTreeMap::from([(self.space.id(), numbers.vector())]),
            false => BTreeMap::new(),
        };
        Ok(Write::put(item, Vectors::Replace(vectors), Precondition::Absent))
    }

    async fn add(&self, id: &str) -> Result<()> {
        let at = Timestamp::from_micros(BEGIN)?;
        let item = MemoryItem::new(MemoryId::new(id)?, self.text.as_str(), at)?
            .with_user(UserId::new("ada")?)
            .with_session(SessionId::new("s")?)
            .with_kind(Kind::Message);
        let vectors = Vectors::Replace(BTreeMap::from([(self.space.id(), self.vector.clone())]));
        let write = Write::put(item, vectors, Precondition::Absent);
        self.store.commit(&self.context, Commit::new(RandomIds.commit_id(), vec![write])).await?;
        Ok(())
    }

    async fn get(&self, id: &str) -> Result<()> {
        let found = self.store.fetch_one(&self.context, &MemoryId::new(id)?).await?;
        ensure!(found.is_some_and(|item| !item.content().is_empty()), "it is not there");
        Ok(())
    }

    /// Adds many, and gives their vectors.
    pub(crate) async fn load(
        &self,
        which: Range<usize>,
        with_vectors: bool,
    ) -> Result<Vec<Vec<f32>>> {
        let mut numbers = numbers(3 + which.start as u64);
        let (mut vectors, mut begun) = (Vec::new(), which.start);
        while begun < which.end {
            let end = (begun + 500).min(which.end);
            let writes: Vec<Write> = (begun..end)
                .map(|n| self.write(&format!("m-{n:06}"), &mut numbers, with_vectors))
                .collect::<Result<_>>()?;
            for write in &writes {
                let Write::Put(put) = write else { continue };
                let Vectors::Replace(of) = &put.vectors else { continue };
                vectors.extend(of.values().cloned());
            }
            self.store.commit(&self.context, Commit::new(RandomIds.commit_id(), writes)).await?;
            begun = end;
        }
        Ok(vectors)
    }
}

/// What the baseline writes: the very fields that the store wrote, under other ids of the same
/// tenant, so that the same indexes see both, and in sorted sets of its own.
#[derive(Clone)]
struct Bare {
    connection: ConnectionManager,
    base: String,
    fields: Arc<[(String, Vec<u8>)]>,
    position: Arc<AtomicUsize>,
}

impl Bare {
    async fn new(world: &World, place: &Place, id: &str) -> Result<Self> {
        let key = format!("{}m:{id}", place.base);
        let fields: Vec<(String, Vec<u8>)> =
            redis::cmd("HGETALL").arg(&key).query_async(&mut world.bare.clone()).await?;
        ensure!(fields.iter().any(|(name, _)| name == "h"), "the shape of a memory is another");
        let (connection, base) = (world.bare.clone(), place.base.clone());
        let position = Arc::new(AtomicUsize::new(0));
        Ok(Self { connection, base, fields: fields.into(), position })
    }

    /// The commands of a commit of one new memory, in one `MULTI`.
    async fn add(&self, id: &str) -> Result<()> {
        let base = &self.base;
        let position = self.position.fetch_add(1, Ordering::Relaxed) + 1;
        let (memory, log) = (format!("{base}m:{id}"), format!("{base}b:l"));
        let field = |name: &str| {
            let found = self.fields.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        let mut pipe = redis::pipe();
        pipe.atomic();
        pipe.cmd("HMGET").arg(format!("{base}b:s")).arg(&["dir", "sv", "ix", "fence", "pos", "wl"]);
        pipe.cmd("HMGET").arg(&memory);
        pipe.arg(&["to", "tc", "tu", "e", "u", "a", "s", "r", "k", "ch"]);
        pipe.cmd("HSET").arg(format!("{base}b:s")).arg("pos").arg(position);
        // The number of words of all memories, where the query engine is on.
        if self.fields.iter().any(|(name, _)| name == "n") {
            pipe.arg("wl").arg(position);
        }
        pipe.ignore();
        pipe.cmd("HSET").arg(&memory);
        for (name, value) in self.fields.iter() {
            pipe.arg(name).arg(value);
        }
        for (set, member) in [
            ("i", id.to_owned()),
            ("o", field("to") + id),
            ("c", field("tc") + id),
            ("u", field("tu") + id),
            ("U:ada", field("to") + id),
            ("S:s", field("to") + id),
        ] {
            pipe.cmd("ZADD").arg(format!("{base}b:{set}")).arg(0).arg(member);
        }
        // Callers overtake each other: the server numbers.
        pipe.cmd("XADD").arg(log).arg("*");
        pipe.arg(&["o", "p", "i", id, "r"]).arg(field("r"));
        let _: redis::Value = pipe.query_async(&mut self.connection.clone()).await?;
        Ok(())
    }

    async fn get(&self, id: &str) -> Result<()> {
        let mut get = redis::cmd("HMGET");
        get.arg(format!("{}m:{id}", self.base)).arg(&FIELDS);
        let found: Vec<Option<Vec<u8>>> = get.query_async(&mut self.connection.clone()).await?;
        ensure!(found[1].is_some(), "it is not there");
        Ok(())
    }
}

/// Commits and reads.
pub(crate) async fn calls(world: &World) -> Result<()> {
    head(
        "Redis as a store: milliseconds a call, beside the bare commands that do the same work",
        &[
            "what",
            "callers",
            "round trips",
            "ours, ms",
            "bare commands, ms",
            "median of the ratios",
            "rate",
            "bound",
            "PING, ms",
        ],
    );
    for (what, mode) in
        [("without the query engine", SearchMode::Off), ("with it", SearchMode::Auto)]
    {
        let mut settings = world.settings("store")?;
        settings.search = mode;
        let place = Arc::new(Place::new(world, settings).await?);
        for n in 0..CALLS {
            place.add(&format!("first-{n}")).await?;
        }
        let bare = Bare::new(world, &place, "first-0").await?;
        for callers in [1, 32] {
            let calls = CALLS * if callers == 1 { 1 } else { callers / 2 };
            for call in ["commit of one new memory", "get of one memory"] {
                let is_add = call.starts_with("commit");
                let before = requests(&place.book);
                if is_add {
                    place.add(&format!("trip-{callers}")).await?;
                } else {
                    place.get("first-0").await?;
                }
                let trips = requests(&place.book) - before;
                let pairing = Pairing::run(
                    world.pairs,
                    calls,
                    async |pair| {
                        let place = Arc::clone(&place);
                        by_callers(calls, callers, move |n| {
                            let place = Arc::clone(&place);
                            async move {
                                if is_add {
                                    let id = format!("o-{callers}-{pair}-{n:05}");
                                    place.add(&id).await
                                } else {
                                    place.get(&format!("first-{}", n % CALLS)).await
                                }
                            }
                        })
                        .await
                    },
                    async |pair| {
                        let bare = bare.clone();
                        by_callers(calls, callers, move |n| {
                            let bare = bare.clone();
                            async move {
                                if is_add {
                                    bare.add(&format!("b-{callers}-{pair}-{n:05}")).await
                                } else {
                                    bare.get(&format!("first-{}", n % CALLS)).await
                                }
                            }
                        })
                        .await
                    },
                )
                .await?;
                let [ours, theirs, ratio] = pairing.cells()?;
                row(&[
                    format!("{call}, {what}"),
                    callers.to_string(),
                    trips.to_string(),
                    ours,
                    theirs,
                    ratio,
                    format!("{:.2} x", 1.0 / pairing.ratio()?),
                    ">= 0.80 x the rate".into(),
                    ping(world).await?,
                ]);
            }
        }
        place.store.close().await?;
        world.clear("store").await?;
    }
    Ok(())
}

/// What a memory takes of the server's memory.
pub(crate) async fn bytes(world: &World) -> Result<()> {
    head(
        &format!("Redis as a store: the server's memory for {WEIGHED} memories of {WORDS} words"),
        &["what", "bytes a memory", "of them keys and values (MEMORY USAGE)"],
    );
    let graph = |settings: &mut RedisSettings| settings.vectors.flat_up_to = 0;
    let flat = |_: &mut RedisSettings| {};
    type Change = fn(&mut RedisSettings);
    let kinds: [(&str, SearchMode, bool, Change); 5] = [
        ("records alone", SearchMode::Off, false, flat),
        ("records and vectors of 384 dimensions, no search", SearchMode::Off, true, flat),
        ("with words indexed", SearchMode::Auto, false, flat),
        ("with words, and vectors in a flat index", SearchMode::Auto, true, flat),
        ("with words, and vectors in a graph", SearchMode::Auto, true, graph),
    ];
    for (what, mode, with_vectors, change) in kinds {
        let mut settings = world.settings("bytes")?;
        settings.search = mode;
        change(&mut settings);
        let place = Place::new(world, settings).await?;
        // What a tenant has once is not a memory's.
        place.load(0..1, with_vectors).await?;
        world.settled().await?;
        let before = world.info("used_memory").await?;
        place.load(1..1 + WEIGHED, with_vectors).await?;
        let after = world.info("used_memory").await?;
        let mut keys = 0_u64;
        for key in world.keys("bytes").await? {
            let mut usage = redis::cmd("MEMORY");
            usage.arg("USAGE").arg(&key).arg("SAMPLES").arg(0);
            let of: Option<u64> = usage.query_async(&mut world.bare.clone()).await?;
            keys += of.unwrap_or(0);
        }
        let each = |bytes: u64| (bytes / WEIGHED as u64).to_string();
        row(&[what.into(), each(after.saturating_sub(before)), each(keys)]);
        place.store.close().await?;
        world.clear("bytes").await.context("what was weighed is removed")?;
    }
    Ok(())
}

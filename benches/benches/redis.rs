//! Redis, as the cache before a store and as the store, beside the bare commands on the same server.
//!
//! The baseline is a `ConnectionManager` of the same crate, with RESP3 as well: a `GET` of the same
//! bytes that the cache holds; the commands that a commit stands for, in one `MULTI`; an `HMGET` of
//! the same fields; the `FT.SEARCH` that the store was seen to send, word for word but for the
//! vector. Subject and baseline take turns in pairs, and which goes first changes with each pair;
//! ratios are medians of the pairs'. What no code can beat is the server's answer to `PING` over the
//! same connection, which stands beside.
//!
//! The server is named by `MEMORY_TEST_REDIS`, and must have the query engine; an emulator of
//! Firestore by `FIRESTORE_EMULATOR_HOST`, and without one the rows before it are left out, aloud.
//! Everything is written under a prefix that is removed at the end.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "redis/cached.rs"]
mod cached;
#[path = "redis/found.rs"]
mod found;
#[path = "redis/stored.rs"]
mod stored;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use benches::{Numbers, Times, ms};
use memory_core::{IdSource as _, RandomIds, SystemClock};
use memory_redis::{RedisParts, RedisSettings, RedisStore};
use orchestra_memory::{Settings, StoreUrl, UsageLedger};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, Value};
use tokio::task::JoinSet;

/// The variable that names the server.
const SERVER: &str = "MEMORY_TEST_REDIS";
/// Pairs that are timed, unless `--pairs` says otherwise.
const PAIRS: usize = 40;
/// Pairs that are not counted.
const WARM: usize = 5;

/// The server, and a way to it for the baseline.
pub(crate) struct World {
    url: String,
    prefix: String,
    pub(crate) bare: ConnectionManager,
    pub(crate) pairs: usize,
    only: Option<String>,
}

impl World {
    async fn new(url: String, pairs: usize, only: Option<String>) -> Result<Self> {
        let bare = connect(&url).await?;
        let unique = RandomIds.memory_id().to_string();
        let prefix = format!("bench-{}", unique.get(..8).unwrap_or(&unique));
        Ok(Self { url, prefix, bare, pairs, only })
    }

    /// The settings of a store of its own.
    pub(crate) fn settings(&self, name: &str) -> Result<RedisSettings> {
        let url = StoreUrl::parse(&self.url(name))?;
        Ok(orchestra_memory::redis::settings(&url, &Settings::default())?)
    }

    /// A prefix of its own.
    pub(crate) fn prefix(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The URL with a prefix.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("{}?prefix={}", self.url, self.prefix(name))
    }

    /// The server's URL.
    pub(crate) fn server(&self) -> &str {
        &self.url
    }

    /// A store, and its book.
    pub(crate) async fn store(
        &self,
        settings: RedisSettings,
    ) -> Result<(Arc<RedisStore>, Arc<UsageLedger>)> {
        let book = Arc::new(UsageLedger::new());
        let parts = RedisParts::new(Arc::new(SystemClock::new()), book.clone());
        Ok((RedisStore::open(settings, parts).await?, book))
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }

    /// Sends a command.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value> {
        ask(&self.bare, command).await
    }

    /// The keys of a part.
    pub(crate) async fn keys(&self, name: &str) -> Result<Vec<String>> {
        let pattern = format!("{}*", self.prefix(name));
        let (mut keys, mut cursor) = (Vec::new(), 0_u64);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1_000);
            let (next, found): (u64, Vec<String>) =
                scan.query_async(&mut self.bare.clone()).await?;
            keys.extend(found);
            cursor = next;
            if cursor == 0 {
                return Ok(keys);
            }
        }
    }

    /// A number of the server's `INFO`.
    pub(crate) async fn info(&self, name: &str) -> Result<u64> {
        let info: String = redis::cmd("INFO").query_async(&mut self.bare.clone()).await?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.context("the server does not tell")?.trim().parse().context("it is no number")
    }

    /// Waits until what was removed before has been given back: it is freed beside the commands.
    pub(crate) async fn settled(&self) -> Result<()> {
        for _ in 0..1_000 {
            if self.info("lazyfree_pending_objects").await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("the server still frees what was removed after ten seconds")
    }

    /// Removes everything of a part: indexes, then keys.
    pub(crate) async fn clear(&self, name: &str) -> Result<()> {
        let prefix = self.prefix(name);
        let mut list = redis::cmd("FT._LIST");
        let indexes: Vec<String> =
            list.arg(&[] as &[&str]).query_async(&mut self.bare.clone()).await.unwrap_or_default();
        for index in indexes.iter().filter(|index| index.starts_with(&prefix)) {
            self.ask(redis::cmd("FT.DROPINDEX").arg(index)).await?;
        }
        for keys in self.keys(name).await?.chunks(500) {
            self.ask(redis::cmd("UNLINK").arg(keys)).await?;
        }
        Ok(())
    }
}

/// Sends a command over a connection.
pub(crate) async fn ask(connection: &ConnectionManager, command: &Cmd) -> Result<Value> {
    Ok(command.query_async(&mut connection.clone()).await?)
}

async fn connect(url: &str) -> Result<ConnectionManager> {
    let sign = if url.contains('?') { '&' } else { '?' };
    let client = redis::Client::open(format!("{url}{sign}protocol=resp3"))?;
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(Duration::from_secs(60)))
        .set_connection_timeout(Some(Duration::from_secs(5)));
    Ok(ConnectionManager::new_with_config(client, config).await?)
}

fn main() -> Result<()> {
    let Some(url) = std::env::var(SERVER).ok().filter(|url| !url.is_empty()) else {
        bail!("{SERVER} is not set; `cargo xtask bench redis` starts a server and sets it");
    };
    let pairs = argument("--pairs").map_or(Ok(PAIRS), |text| text.parse());
    let pairs = pairs.context("--pairs takes a number")?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let world = World::new(url, pairs, argument("--only")).await?;
        let version = world.ask(redis::cmd("INFO").arg("server")).await?;
        println!("server: {}", line_of(&version, "redis_version").unwrap_or_default());
        let ran = all(&world).await;
        world.clear("").await?;
        ran
    })
}

async fn all(world: &World) -> Result<()> {
    if world.wants("cache") {
        cached::before_memory(world).await?;
    }
    if world.wants("firestore") {
        cached::before_firestore(world).await?;
    }
    if world.wants("store") {
        stored::calls(world).await?;
    }
    if world.wants("bytes") {
        stored::bytes(world).await?;
    }
    if world.wants("search") {
        found::neighbours(world).await?;
    }
    if world.wants("hybrid") {
        found::hybrid(world).await?;
    }
    Ok(())
}

fn line_of(info: &Value, name: &str) -> Option<String> {
    let text = match info {
        Value::VerbatimString { text, .. } => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => return None,
    };
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// What follows an argument, for a quick look: `--pairs 5`, `--only cache`.
pub(crate) fn argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

/// Times of pairs: ours and the bare commands', of one call each.
#[derive(Debug, Default)]
pub(crate) struct Pairing(Vec<(Duration, Duration)>);

impl Pairing {
    /// Takes turns so often. Each side gets the number of its round.
    pub(crate) async fn run(
        pairs: usize,
        calls: usize,
        ours: impl AsyncFn(usize) -> Result<()>,
        bare: impl AsyncFn(usize) -> Result<()>,
    ) -> Result<Self> {
        let calls = u32::try_from(calls)?;
        let mut pairing = Self::default();
        for pair in 0..WARM + pairs {
            let mut took = [Duration::ZERO; 2];
            for turn in 0..2 {
                let which = (pair + turn) % 2;
                let times = Times::default();
                let begun = times.start();
                if which == 0 {
                    ours(pair).await?
                } else {
                    bare(pair).await?
                }
                took[which] = begun.elapsed() / calls;
            }
            if pair >= WARM {
                pairing.0.push((took[0], took[1]));
            }
        }
        Ok(pairing)
    }

    fn median(&self, of: impl Fn(&(Duration, Duration)) -> Duration) -> Result<Duration> {
        let mut times: Vec<_> = self.0.iter().map(of).collect();
        times.sort();
        times.get(times.len() / 2).copied().context("nothing was timed")
    }

    /// Both medians in milliseconds, and the median of how much longer ours took, pair by pair.
    pub(crate) fn cells(&self) -> Result<[String; 3]> {
        let ratio = self.ratio()?;
        let (ours, bare) = (self.median(|pair| pair.0)?, self.median(|pair| pair.1)?);
        Ok([ms(ours), ms(bare), format!("{ratio:.2} x the time")])
    }

    /// The median of how much longer ours took than the bare commands, pair by pair.
    pub(crate) fn ratio(&self) -> Result<f64> {
        let mut ratios: Vec<_> =
            self.0.iter().map(|(ours, bare)| ours.as_secs_f64() / bare.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().context("nothing was timed")
    }
}

/// Runs numbered calls by so many tasks.
pub(crate) async fn by_callers<F>(
    calls: usize,
    callers: usize,
    call: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    if callers == 1 {
        for n in 0..calls {
            call(n).await?;
        }
        return Ok(());
    }
    let call = Arc::new(call);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = Arc::clone(&call);
        tasks.spawn(async move {
            for n in (caller..calls).step_by(callers) {
                call(n).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The time of a `PING`, in milliseconds: what a round trip takes.
pub(crate) async fn ping(world: &World) -> Result<String> {
    let mut times = Times::default();
    for _ in 0..300 {
        let begun = times.start();
        world.ask(&redis::cmd("PING")).await?;
        times.stop(begun);
    }
    Ok(ms(times.median()?))
}

/// Requests of a back end in a book.
pub(crate) fn requests(book: &UsageLedger) -> u64 {
    book.report().total.calls
}

/// Numbers that are the same in every run.
pub(crate) fn numbers(seed: u64) -> Numbers {
    Numbers::new(seed)
}

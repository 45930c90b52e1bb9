//! The cache: hot reads beside a bare `GET` of the same bytes, and before Firestore's emulator
//! beside the emulator alone.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use benches::{WORDS, head, row};
use memory_core::{IdSource as _, Kind, RandomIds, SystemClock};
use memory_core::{MemoryId, SessionId, UserId};
use memory_redis::{RedisCache, RedisParts};
use memory_testkit::ReferenceStore;
use orchestra_memory::memory_layers::ApplyLayers;
use orchestra_memory::{
    AddManyOptions, Backend, EmbeddingSettings, HistoryRequest, Memory, NewMemory, Settings,
    TenantMemory, UsageLedger,
};

use crate::{Pairing, World, numbers, ping, requests};

/// Reads of a turn.
const CALLS: usize = 200;
/// Reads of a turn before the emulator.
const CLOUD: usize = 10;
/// Turns of a conversation's page.
const PAGE: u32 = 20;
/// Memories of the conversation.
const MEMORIES: usize = 200;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.embedding = EmbeddingSettings::none();
    settings.layers.cache.max_stale_ms = 3_600_000;
    // A busy machine is slow, and a cache that is not asked would be no cache.
    settings.layers.cache.timeout_ms = 10_000;
    settings
}

fn id(n: usize) -> Result<MemoryId> {
    Ok(MemoryId::new(format!("m-{n:06}"))?)
}

fn history() -> Result<HistoryRequest> {
    let request = HistoryRequest::new().with_user(UserId::new("ada")?);
    Ok(request.with_session(SessionId::new("s")?).with_limit(PAGE))
}

async fn fill(tenant: &TenantMemory) -> Result<()> {
    let mut numbers = numbers(1);
    let turns: Vec<NewMemory> = (0..MEMORIES)
        .map(|n| {
            Ok(NewMemory::new(numbers.words(WORDS))
                .with_id(id(n)?)
                .with_user(UserId::new("ada")?)
                .with_kind(Kind::Message)
                .with_session(SessionId::new("s")?))
        })
        .collect::<Result<_>>()?;
    let report = tenant.add_many(turns, AddManyOptions::new()).await;
    ensure!(report.added == MEMORIES as u64, "not all were added: {:?}", report.stopped);
    Ok(())
}

async fn get(tenant: &TenantMemory, n: usize) -> Result<()> {
    let found = tenant.get(&id(n)?).await?;
    ensure!(found.is_some_and(|item| !item.content().is_empty()), "it is not there");
    Ok(())
}

async fn page(tenant: &TenantMemory, request: &HistoryRequest) -> Result<()> {
    ensure!(tenant.history(request).await?.items.len() == PAGE as usize, "the page is not full");
    Ok(())
}

/// The bytes of the value under the first key whose name has a part.
async fn value_like(world: &World, part: &str, like: &str) -> Result<Vec<u8>> {
    let keys = world.keys(part).await?;
    let key = keys.iter().find(|key| key.contains(like)).context("the cache holds nothing")?;
    let fields: Vec<(Vec<u8>, Vec<u8>)> =
        redis::cmd("HGETALL").arg(key).query_async(&mut world.bare.clone()).await?;
    let found = fields.into_iter().find(|(name, _)| name.starts_with(b"e"));
    found.map(|(_, value)| value).context("the group has no value")
}

/// Hot reads beside a `GET`, without any other layer, over a store in memory that is not asked.
pub(crate) async fn before_memory(world: &World) -> Result<()> {
    let book = Arc::new(UsageLedger::new());
    let clock = Arc::new(SystemClock::new());
    let parts = RedisParts::new(clock.clone(), book.clone());
    let cache = RedisCache::open(world.settings("cache")?, parts).await?;
    let mut bare_layers = settings();
    bare_layers.layers.apply = ApplyLayers::None;
    let mut rows = Vec::new();
    for (what, settings) in [("the cache layer alone", bare_layers), ("all layers", settings())] {
        let backend = Backend::of(Arc::new(ReferenceStore::new(clock.clone())));
        let builder = Memory::builder().settings(settings).backend(backend).clock(clock.clone());
        let memory = builder.cache(cache.clone()).open().await?;
        let tenant = memory.tenant(format!("t-{}", rows.len()))?;
        fill(&tenant).await?;
        let request = history()?;
        get(&tenant, 7).await?;
        page(&tenant, &request).await?;
        for (call, like) in
            [("get one memory", ":c:i:m-000007"), ("a history of 20", ":c:h:u3:adas1:s")]
        {
            let name = tenant.id().as_str().to_owned();
            let value = value_like(world, &format!("cache:{{{name}}}"), like).await?;
            let key = format!("{}-bare", world.prefix("cache"));
            world.ask(redis::cmd("SET").arg(&key).arg(&value)).await?;
            let is_get = call.starts_with("get");
            let before = requests(&book);
            if is_get {
                get(&tenant, 7).await?
            } else {
                page(&tenant, &request).await?
            }
            let trips = requests(&book) - before;
            let pairing = Pairing::run(
                world.pairs,
                CALLS,
                async |_| {
                    for _ in 0..CALLS {
                        if is_get {
                            get(&tenant, 7).await?
                        } else {
                            page(&tenant, &request).await?
                        }
                    }
                    Ok(())
                },
                async |_| {
                    for _ in 0..CALLS {
                        let mut get = redis::cmd("GET");
                        let read: Vec<u8> =
                            get.arg(&key).query_async(&mut world.bare.clone()).await?;
                        ensure!(read.len() == value.len(), "another value");
                    }
                    Ok(())
                },
            )
            .await?;
            rows.push((format!("{call}, {what}"), value.len(), trips, pairing, is_get));
        }
        let counts = memory.layers().cache.context("there is a cache")?;
        ensure!(counts.items.misses + counts.history.misses <= 2, "it was not hot: {counts:?}");
    }
    head(
        "Redis as a cache: hot reads, one caller; milliseconds a call",
        &[
            "what",
            "bytes",
            "round trips",
            "ours, ms",
            "a bare GET, ms",
            "median of the ratios",
            "bound",
            "PING, ms",
        ],
    );
    let ping = ping(world).await?;
    for (what, bytes, trips, pairing, is_get) in rows {
        let [ours, bare, ratio] = pairing.cells()?;
        let bound = if is_get { "<= 1.30" } else { "one round trip" };
        row(&[
            what,
            bytes.to_string(),
            trips.to_string(),
            ours,
            bare,
            ratio,
            bound.into(),
            ping.clone(),
        ]);
    }
    world.clear("cache").await
}

/// Hot reads before Firestore's emulator, and the same without the cache.
pub(crate) async fn before_firestore(world: &World) -> Result<()> {
    let Some(host) = std::env::var("FIRESTORE_EMULATOR_HOST").ok().filter(|it| !it.is_empty())
    else {
        println!("\nSKIPPED: FIRESTORE_EMULATOR_HOST is not set; nothing was measured before it");
        return Ok(());
    };
    let url = format!("firestore://bench-{}?emulator={host}", RandomIds.memory_id());
    let bare = Memory::builder().url(&url).settings(settings()).open().await?;
    let mut with = settings();
    with.cache = Some(world.url("cloud"));
    let cached = Memory::builder().url(&url).settings(with).open().await?;
    let (ours, theirs) = (cached.default_tenant(), bare.default_tenant());
    fill(&theirs).await?;
    let request = history()?;
    get(&ours, 7).await?;
    page(&ours, &request).await?;
    let reads = |memory: &Memory| -> u64 {
        let report = memory.usage();
        let of = report.operations.iter().filter(|(name, _)| name.starts_with("firestore."));
        of.map(|(_, usage)| usage.reads).sum()
    };
    head(
        "Redis as a cache before Firestore's emulator: hot reads, one caller; milliseconds a call",
        &[
            "what",
            "with the cache, ms",
            "the store alone, ms",
            "median of the ratios",
            "bound",
            "billed reads a call with",
            "and without",
        ],
    );
    for is_get in [true, false] {
        let before = (reads(&cached), reads(&bare));
        let read = async |tenant: &TenantMemory| {
            for _ in 0..CLOUD {
                if is_get { get(tenant, 7).await? } else { page(tenant, &request).await? }
            }
            anyhow::Ok(())
        };
        let pairing = Pairing::run(
            world.pairs,
            CLOUD,
            async |_| read(&ours).await,
            async |_| read(&theirs).await,
        )
        .await?;
        let calls = u64::try_from((world.pairs + crate::WARM) * CLOUD)?;
        let billed = |after: u64, before: u64| ((after - before) / calls).to_string();
        let [hot, cold, _] = pairing.cells()?;
        row(&[
            if is_get { "get one memory" } else { "a history of 20" }.into(),
            hot,
            cold,
            format!("{:.0} x faster", 1.0 / pairing.ratio()?),
            ">= 20".into(),
            billed(reads(&cached), before.0),
            billed(reads(&bare), before.1),
        ]);
    }
    let counts = cached.layers().cache.context("there is a cache")?;
    println!(
        "\nhit rate of items {:.3}, of pages {:.3}; {} bytes read",
        counts.items.hit_rate(),
        counts.history.hit_rate(),
        counts.items.bytes_read + counts.history.bytes_read
    );
    theirs.erase_tenant(orchestra_memory::EraseOptions::new()).await?;
    cached.close().await?;
    bare.close().await?;
    Ok(())
}

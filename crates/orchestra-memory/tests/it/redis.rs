//! The library over Redis: as the store, and as the cache before others.
//!
//! `MEMORY_TEST_REDIS` names a server with the query engine, `MEMORY_TEST_REDIS_PLAIN` one without.
//! Where one is missing, the tests that need it are skipped, aloud; in CI that is a failure.

use std::time::Duration;

use memory_core::{IdSource as _, RandomIds};
use orchestra_memory::{
    AddManyOptions, Arm, EraseOptions, ErrorKind, Filter, HealthStatus, HistoryRequest, IndexPlace,
    Kind, Memory, NewMemory, Patch, SearchRequest, SessionId, Settings, UpdateOptions, UsageReport,
};

use crate::support::{block_on, embedding, id, note, plain, user};
use crate::words::Words;

/// The server with the query engine.
pub(crate) const SEARCH: &str = "MEMORY_TEST_REDIS";
/// A server without it.
const PLAIN: &str = "MEMORY_TEST_REDIS_PLAIN";

/// The URL of a server, or a loud word that the test is skipped.
pub(crate) fn server(variable: &str) -> Option<String> {
    let url = std::env::var(variable).ok().filter(|url| !url.is_empty());
    if url.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{variable} must be set in CI");
        println!("SKIPPED: {variable} is not set; a test that needs this server was not run");
    }
    url
}

/// A part of a server that nobody else has, cleared when it is dropped.
pub(crate) struct Own {
    pub(crate) server: String,
    pub(crate) prefix: String,
}

impl Own {
    /// `None` without the server.
    pub(crate) fn new(variable: &str) -> Option<Self> {
        let prefix = format!("it-{}", RandomIds.memory_id());
        Some(Self { server: server(variable)?, prefix })
    }

    pub(crate) fn url(&self) -> String {
        format!("{}?prefix={}", self.server, self.prefix)
    }

    fn clear(&self) -> redis::RedisResult<()> {
        let mut connection = redis::Client::open(self.server.as_str())?.get_connection()?;
        let list = redis::cmd("FT._LIST").query(&mut connection);
        let indexes: Vec<String> = list.unwrap_or_default();
        for index in indexes.iter().filter(|index| index.starts_with(&self.prefix)) {
            redis::cmd("FT.DROPINDEX").arg(index).exec(&mut connection)?;
        }
        let mut scan = redis::cmd("SCAN");
        scan.cursor_arg(0).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1_000);
        let keys = scan.iter::<Vec<u8>>(&mut connection)?.collect::<Result<Vec<_>, _>>()?;
        for keys in keys.chunks(500) {
            redis::cmd("UNLINK").arg(keys).exec(&mut connection)?;
        }
        Ok(())
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            println!("what the test wrote is left behind: {error}");
        }
    }
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn reads(report: &UsageReport, backend: &str) -> u64 {
    let of = report.operations.iter().filter(|(name, _)| name.starts_with(backend));
    of.map(|(_, usage)| usage.reads).sum()
}

/// A turn of a conversation.
fn turn(n: u32, session: &str) -> NewMemory {
    note(&format!("turn {n}"))
        .with_id(id(&format!("{session}-{n}")))
        .with_kind(Kind::Message)
        .with_session(SessionId::new(session).unwrap())
}

fn conversation(session: &str) -> HistoryRequest {
    HistoryRequest::new()
        .with_user(user("ada"))
        .with_session(SessionId::new(session).unwrap())
        .with_limit(20)
}

#[test]
fn what_is_added_is_found_by_meaning_and_by_words_and_is_there_again() {
    let Some(own) = Own::new(SEARCH) else { return };
    let url = own.url();
    run(async {
        let open = async || {
            let builder = Memory::builder().url(&url).settings(embedding());
            builder.embedder(Words::new().embedder()).open().await.unwrap()
        };
        let memory = open().await;
        assert!(memory.has_keyword_index());
        let tenant = memory.default_tenant();
        tenant.add(note("Ada drinks warm tea").with_id(id("tea"))).await.unwrap();
        tenant.add(note("The dog sleeps").with_id(id("dog"))).await.unwrap();
        let many = (0..20).map(|n| turn(n, "s"));
        let report = tenant.add_many(many, AddManyOptions::new()).await;
        assert_eq!(report.added, 20, "{:?}", report.stopped);
        let question = SearchRequest::new().with_text("a warm beverage");
        let answer = tenant.search(&question).await.unwrap();
        assert_eq!(answer.hits[0].item.id.as_str(), "tea");
        assert_eq!(answer.arms_used, [Arm::Keyword, Arm::Vector]);
        let page = tenant.history(&conversation("s")).await.unwrap();
        assert_eq!(page.items.len(), 20);
        assert!(memory.layers().backend.unwrap().retry.unwrap().calls > 0, "all layers");
        assert_eq!(memory.health().await.status, HealthStatus::Healthy);
        assert_eq!(memory.admin().tenants().await.unwrap().len(), 1);
        memory.close().await.unwrap();
        let error = tenant.count(&Filter::All).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let again = open().await;
        let tenant = again.default_tenant();
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 22);
        assert_eq!(tenant.stats().await.unwrap().embedded, 22);
        let erased = tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        assert_eq!(erased.erased, 22);
        assert!(again.admin().tenants().await.unwrap().is_empty());
        again.close().await.unwrap();
    });
}

#[test]
fn without_the_query_engine_records_are_kept_and_searches_say_what_to_enable() {
    let Some(own) = Own::new(PLAIN) else { return };
    let url = own.url();
    run(async {
        let mut settings = embedding();
        // With indexes in this process it is searched all the same.
        settings.indexes.keywords = IndexPlace::Store;
        settings.indexes.vectors = IndexPlace::Store;
        let builder = Memory::builder().url(&url).settings(settings);
        let memory = builder.embedder(Words::new().embedder()).open().await.unwrap();
        assert!(!memory.has_keyword_index());
        let tenant = memory.default_tenant();
        tenant.add(note("Ada drinks warm tea").with_id(id("tea"))).await.unwrap();
        assert!(tenant.get(&id("tea")).await.unwrap().is_some());
        let error = tenant.search(&SearchRequest::new().with_text("tea")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("query engine"), "{error}");
        tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        memory.close().await.unwrap();
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn two_handles_of_a_file_see_each_others_writes_through_the_cache() {
    let Some(own) = Own::new(SEARCH) else { return };
    let cache = own.url();
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("it.db").display());
    run(async {
        let open = async || {
            let mut settings = plain();
            settings.cache = Some(cache.clone());
            Memory::builder().url(&url).settings(settings).open().await.unwrap()
        };
        let (one, two) = (open().await, open().await);
        let (mine, yours) = (one.default_tenant(), two.default_tenant());
        mine.add(turn(0, "s")).await.unwrap();
        let first = id("s-0");
        let text = |item: Option<memory_core::MemoryItem>| item.map(|it| it.content().to_owned());
        for tenant in [&mine, &yours, &yours] {
            assert_eq!(text(tenant.get(&first).await.unwrap()).as_deref(), Some("turn 0"));
            assert_eq!(tenant.history(&conversation("s")).await.unwrap().items.len(), 1);
        }
        let counts = two.layers().cache.unwrap();
        assert_eq!((counts.items.hits, counts.items.misses), (2, 0), "what the other one kept");
        assert_eq!((counts.history.hits, counts.history.misses), (2, 0));
        assert_eq!(reads(&two.usage(), "sqlite."), 0, "the file was not asked: {:?}", two.usage());
        // What the one acknowledges, the other sees, and so it is with what it adds and removes.
        let patch = Patch::new().with_content("changed");
        mine.update(&first, &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(text(yours.get(&first).await.unwrap()).as_deref(), Some("changed"));
        yours.add(turn(1, "s")).await.unwrap();
        assert_eq!(mine.history(&conversation("s")).await.unwrap().items.len(), 2);
        yours.delete(&first, None).await.unwrap();
        assert!(mine.get(&first).await.unwrap().is_none());
        assert_eq!(mine.history(&conversation("s")).await.unwrap().items.len(), 1);
        assert_eq!(one.layers().cache.unwrap().unconfirmed, 0);
        one.close().await.unwrap();
        two.close().await.unwrap();
    });
}

#[cfg(feature = "sqlite")]
#[test]
fn two_stores_share_a_cache_without_seeing_each_others_memories() {
    let Some(own) = Own::new(SEARCH) else { return };
    let cache = own.url();
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let open = async |name: &str| {
            let mut settings = plain();
            settings.cache = Some(cache.clone());
            let url = format!("sqlite:{}", folder.path().join(name).display());
            Memory::builder().url(url).settings(settings).open().await.unwrap()
        };
        let (one, two) = (open("one.db").await, open("two.db").await);
        one.default_tenant().add(turn(0, "s")).await.unwrap();
        assert!(one.default_tenant().get(&id("s-0")).await.unwrap().is_some());
        assert!(one.default_tenant().get(&id("s-0")).await.unwrap().is_some());
        assert_eq!(one.layers().cache.unwrap().items.hits, 1);
        assert!(two.default_tenant().get(&id("s-0")).await.unwrap().is_none());
        let page = two.default_tenant().history(&conversation("s")).await.unwrap();
        assert!(page.items.is_empty());
        assert_eq!(two.layers().cache.unwrap().items.hits, 0);
    });
}

#[cfg(feature = "firestore")]
#[test]
fn hot_reads_before_firestore_are_not_billed() {
    let (Some(own), Some(host)) = (Own::new(SEARCH), crate::firestore::emulator()) else { return };
    let cache = own.url();
    let url = format!("firestore://it-{}?emulator={host}", RandomIds.memory_id());
    run(async {
        let mut settings = plain();
        settings.cache = Some(cache);
        let memory = Memory::builder().url(url).settings(settings).open().await.unwrap();
        let tenant = memory.default_tenant();
        let many = (0..20).map(|n| turn(n, "s"));
        assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 20);
        let read = async || {
            assert!(tenant.get(&id("s-7")).await.unwrap().is_some());
            let page = tenant.history(&conversation("s")).await.unwrap();
            assert_eq!(page.items.len(), 20);
        };
        let before = reads(&memory.usage(), "firestore.");
        read().await;
        let cold = reads(&memory.usage(), "firestore.");
        assert!(cold >= before + 21, "{:?}", memory.usage());
        for _ in 0..10 {
            read().await;
        }
        assert_eq!(reads(&memory.usage(), "firestore."), cold, "{:?}", memory.usage());
        let counts = memory.layers().cache.unwrap();
        assert_eq!((counts.items.hits, counts.history.hits), (10, 10));
        memory.close().await.unwrap();
    });
}

/// A port of this machine where nobody listens.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("redis://user:secret@{}", listener.local_addr().unwrap())
}

#[cfg(feature = "sqlite")]
#[test]
fn a_cache_that_is_away_costs_no_answer_and_strict_refuses_writes() {
    run(async {
        let open = async |strict: bool| {
            let mut settings: Settings = plain();
            settings.cache = Some(nobody());
            settings.layers.cache.strict = strict;
            Memory::builder().url("memory:").settings(settings).open().await.unwrap()
        };
        let memory = open(false).await;
        let tenant = memory.default_tenant();
        tenant.add(note("x").with_id(id("a"))).await.unwrap();
        assert!(tenant.get(&id("a")).await.unwrap().is_some());
        let counts = memory.layers().cache.unwrap();
        assert_eq!((counts.items.bypasses, counts.unconfirmed), (1, 1), "{counts:?}");
        let health = memory.health().await;
        assert_eq!(health.status, HealthStatus::Degraded, "{health:?}");
        let shown = format!("{memory:?} {health:?} {:?}", memory.settings());
        assert!(!shown.contains("secret"), "{shown}");
        memory.close().await.unwrap();
        let strict = open(true).await;
        let tenant = strict.default_tenant();
        let error = tenant.add(note("x").with_id(id("a"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        assert!(tenant.get(&id("a")).await.unwrap().is_none(), "nothing was written");
        strict.close().await.unwrap();
    });
}

#[test]
fn a_store_that_is_away_is_unavailable_in_time_and_no_secret_is_told() {
    run(async {
        let builder = Memory::builder().url(nobody()).settings(plain());
        let opened = tokio::time::timeout(Duration::from_secs(60), builder.open()).await.unwrap();
        let error = match opened {
            Err(error) => error,
            Ok(memory) => memory.default_tenant().count(&Filter::All).await.unwrap_err(),
        };
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(!format!("{error:?} {error}").contains("secret"), "{error:?}");
    });
}

#[test]
fn connections_live_in_a_runtime() {
    for (url, cache) in [("redis://127.0.0.1:1", None), ("memory:", Some(nobody()))] {
        if cache.is_some() && cfg!(not(feature = "sqlite")) {
            continue;
        }
        let mut settings = plain();
        settings.cache = cache;
        let error = block_on(Memory::builder().url(url).settings(settings).open()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("tokio"), "{error}");
    }
}

//! Stores without an index of their own, searched by those in this process: the suite's checks of
//! searches on real servers, and what a user of the library sees.

use std::sync::Arc;

use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, NoLedger, RecordStore, StoreMeta, StoreUpkeep,
    TenantDirectory, VectorIndex,
};
use memory_core::{Capability, ManualClock};
use memory_testkit::conformance::{CHECKS, FILTER_KEYS, Harness, Verdict, run_check, start};
use memory_testkit::run_model;
use orchestra_memory::memory_redis::{RedisParts, RedisSettings, RedisStore};
use orchestra_memory::memory_vector::local::{LocalIndexes, LocalParts, LocalSettings};
use orchestra_memory::{
    Arm, ArmSelection, ErrorKind, Field, Filter, IndexPlace, Memory, Patch, SearchRequest,
    Settings, UpdateOptions,
};
use serde_json::json;

use crate::redis::{Own, run};
use crate::support::{embedding, id, note, plain, user};
use crate::words::Words;

/// A server without the query engine.
const PLAIN: &str = "MEMORY_TEST_REDIS_PLAIN";

/// A store on it, searched by the indexes in this process.
struct PlainRedis {
    store: Arc<RedisStore>,
    local: Arc<LocalIndexes>,
    clock: Arc<ManualClock>,
    _own: Own,
}

impl PlainRedis {
    async fn new() -> Option<Self> {
        let own = Own::new(PLAIN)?;
        let clock = Arc::new(ManualClock::new(start()));
        let keys: serde_json::Map<_, _> =
            FILTER_KEYS.iter().map(|(key, of)| ((*key).to_owned(), json!(of))).collect();
        let settings: RedisSettings = serde_json::from_value(json!({
            "url": own.server, "prefix": own.prefix, "filter_keys": keys,
            "erase_batch": 100, "change_log_keep": 1,
        }))
        .unwrap();
        let parts = RedisParts::new(clock.clone(), Arc::new(NoLedger));
        let store = RedisStore::open(settings, parts).await.unwrap();
        let parts = LocalParts {
            records: store.clone(),
            changes: store.clone(),
            meta: store.clone(),
            vectors: Some(store.clone()),
            clock: clock.clone(),
        };
        let local = LocalIndexes::new(parts, LocalSettings::default()).unwrap();
        Some(Self { store, local, clock, _own: own })
    }
}

impl Harness for PlainRedis {
    fn records(&self) -> Arc<dyn RecordStore> {
        self.store.clone()
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        Some(self.local.clone())
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        Some(self.local.clone())
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        Some(self.store.clone())
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        Some(self.store.clone())
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        Some(self.local.clone())
    }
    fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        Some(self.store.clone())
    }
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>> {
        Some(self.store.clone())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suites_searches_hold_over_a_plain_redis() {
    const ABOUT: [Capability; 3] =
        [Capability::VectorSearch, Capability::KeywordSearch, Capability::CoLocated];
    let mut ran = 0;
    for check in CHECKS.iter().filter(|check| check.needs.iter().any(|need| ABOUT.contains(need))) {
        let Some(harness) = PlainRedis::new().await else { return };
        let verdict = run_check(check, Box::new(harness)).await;
        assert!(matches!(verdict, Verdict::Passed), "{}: {verdict:?}", check.name);
        ran += 1;
    }
    assert!(ran > 40, "only {ran} checks were run");
}

#[test]
fn a_plain_redis_with_indexes_in_this_process_agrees_with_the_model() {
    if crate::redis::server(PLAIN).is_some() {
        run_model(|| async { PlainRedis::new().await.expect("the server is there") }, 20);
    }
}

fn found(answer: &orchestra_memory::SearchAnswer) -> Vec<&str> {
    answer.hits.iter().map(|hit| hit.item.id.as_str()).collect()
}

/// What holds for any store that is searched by the indexes in this process.
async fn searched(url: &str, settings: Settings, words: bool, vectors: bool) {
    let open = || async {
        let builder = Memory::builder().url(url).settings(settings.clone());
        builder.embedder(Words::new().embedder()).open().await.unwrap()
    };
    let (memory, other) = (open().await, open().await);
    let (tenant, elsewhere) = (memory.default_tenant(), other.default_tenant());
    let arms: Vec<Arm> = [(words, Arm::Keyword), (vectors, Arm::Vector)]
        .into_iter()
        .filter_map(|(is_on, arm)| is_on.then_some(arm))
        .collect();
    for (name, text) in
        [("tea", "Ada drinks warm tea"), ("dog", "The dog sleeps"), ("bus", "Bob takes the bus")]
    {
        tenant.add(note(text).with_id(id(name))).await.unwrap();
    }
    let ask = |text: &str| SearchRequest::new().with_text(text);
    let answer = tenant.search(&ask("dog")).await.unwrap();
    assert_eq!((found(&answer)[0], &answer.arms_used), ("dog", &arms));
    assert!(answer.notes.is_empty(), "{:?}", answer.notes);
    // Another process writes: what it acknowledged is found, and what it took back is not.
    elsewhere.add(note("A cat on the roof").with_id(id("cat"))).await.unwrap();
    let patch = Patch::new().with_content("Ada drinks cold milk");
    elsewhere.update(&id("tea"), &patch, UpdateOptions::new()).await.unwrap();
    elsewhere.delete(&id("dog"), None).await.unwrap();
    assert_eq!(found(&tenant.search(&ask("cat")).await.unwrap())[0], "cat");
    assert_eq!(found(&tenant.search(&ask("cold milk")).await.unwrap())[0], "tea");
    let all = tenant.search(&ask("dog cat milk bus")).await.unwrap();
    assert!(!found(&all).contains(&"dog") && found(&all).contains(&"bus"), "{:?}", found(&all));
    let nobody = ask("cat").with_filter(Filter::eq(Field::UserId, user("nobody").as_str()));
    assert!(tenant.search(&nobody).await.unwrap().hits.is_empty());
    let others = memory.tenant("other").unwrap();
    assert!(others.search(&ask("cat")).await.unwrap().hits.is_empty());
    memory.close().await.unwrap();
    other.close().await.unwrap();
}

#[test]
fn a_plain_redis_is_searched_by_words_and_meaning() {
    let Some(own) = Own::new(PLAIN) else { return };
    run(searched(&own.url(), embedding(), true, true));
}

#[test]
fn firestore_with_its_change_log_is_searched_by_words_too() {
    let Some(url) = crate::firestore::url() else { return };
    let mut settings = embedding();
    settings.firestore.change_log = true;
    run(searched(&url, settings.clone(), true, true));
    run(async {
        // What the index read of the store stands in the book: each memory once.
        let memory = Memory::builder().url(&url).settings(settings).open().await.unwrap();
        let tenant = memory.default_tenant();
        let before = memory.usage();
        let ask = SearchRequest::new().with_text("bus").with_arms(ArmSelection::KeywordOnly);
        assert_eq!(tenant.search(&ask).await.unwrap().hits.len(), 1);
        let first = memory.usage();
        let reads = |operation: &str, report: &orchestra_memory::UsageReport| {
            report.operations.get(operation).map_or(0, |usage| usage.reads)
        };
        assert_eq!(reads("firestore.query", &first) - reads("firestore.query", &before), 3);
        assert_eq!(tenant.search(&ask).await.unwrap().hits.len(), 1);
        assert_eq!(reads("firestore.query", &memory.usage()), reads("firestore.query", &first));
        memory.close().await.unwrap();
    });
}

#[test]
fn where_an_index_stands_can_be_said() {
    let Some(own) = Own::new(PLAIN) else { return };
    run(async {
        let mut settings = plain();
        settings.indexes.keywords = IndexPlace::Store;
        settings.indexes.vectors = IndexPlace::Store;
        let memory = Memory::builder().url(own.url()).settings(settings).open().await.unwrap();
        let tenant = memory.default_tenant();
        tenant.add(note("tea").with_id(id("tea"))).await.unwrap();
        let error = tenant.search(&SearchRequest::new().with_text("tea")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        memory.close().await.unwrap();
        // An embedded store is searched by either.
        let mut settings = plain();
        settings.indexes.keywords = IndexPlace::Local;
        let memory = Memory::builder().url("memory:").settings(settings).open().await.unwrap();
        let tenant = memory.default_tenant();
        tenant.add(note("tea").with_id(id("tea"))).await.unwrap();
        let answer = tenant.search(&SearchRequest::new().with_text("tea")).await.unwrap();
        assert_eq!(found(&answer), ["tea"]);
        memory.close().await.unwrap();
    });
    let Some(url) = crate::firestore::url() else { return };
    run(async {
        let mut settings = plain();
        settings.indexes.keywords = IndexPlace::Local;
        let error = Memory::builder().url(url).settings(settings).open().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("firestore.change_log"), "{error}");
    });
}

//! The library over Cloud Firestore, on an emulator.
//!
//! `FIRESTORE_EMULATOR_HOST` names it. Where there is none, `ORCHESTRA_FIRESTORE=absent` says so,
//! and these tests are skipped, aloud; in CI that is a failure.

use std::sync::Arc;
use std::time::Duration;

use memory_core::{IdSource as _, ManualClock, RandomIds};
use orchestra_memory::{
    AddManyOptions, AddOptions, Arm, EmbedWhen, EmbeddingSettings, EraseOptions, ErrorKind, Field,
    Filter, Memory, MemoryBuilder, OnConflict, SearchRequest, Settings, UsageReport, VectorState,
};

use crate::support::{embedding, id, note, plain, start, user};
use crate::words::Words;

const HOST: &str = "FIRESTORE_EMULATOR_HOST";

/// The address of the emulator, or a loud word that the test is skipped.
pub(crate) fn emulator() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(host) = set(HOST) {
        return Some(host);
    }
    assert!(
        set("ORCHESTRA_FIRESTORE").as_deref() == Some("absent"),
        "no emulator: start one with `cargo xtask servers up` and set {HOST}, or say \
         ORCHESTRA_FIRESTORE=absent"
    );
    assert!(set("CI").is_none(), "{HOST} must be set in CI");
    println!("SKIPPED: ORCHESTRA_FIRESTORE=absent; a test that needs the emulator was not run");
    None
}

/// The URL of a project of its own.
pub(crate) fn url() -> Option<String> {
    let host = emulator()?;
    Some(format!("firestore://it-{}?emulator={host}", RandomIds.memory_id()))
}

pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// With an embedder of its own.
fn meaning(url: &str, settings: Settings) -> MemoryBuilder {
    Memory::builder().url(url).settings(settings).embedder(Words::new().embedder())
}

fn usage(report: &UsageReport, operation: &str) -> u64 {
    report.operations.get(operation).map_or(0, |usage| usage.calls)
}

#[test]
fn what_is_added_is_found_by_meaning_and_each_add_is_one_write() {
    let Some(url) = url() else { return };
    run(async {
        let memory = meaning(&url, embedding()).open().await.unwrap();
        let tenant = memory.default_tenant();
        let tea = note("Ada drinks warm tea").with_id(id("tea"));
        let receipt = tenant.add_with(tea, AddOptions::new()).await.unwrap();
        assert_eq!(receipt.vector, VectorState::Made);
        let before = memory.usage();
        assert!(usage(&before, "firestore.commit") >= 1, "{before:?}");
        tenant.add(note("The dog sleeps").with_id(id("dog"))).await.unwrap();
        let after = memory.usage();
        assert_eq!(after.total.writes - before.total.writes, 1, "{after:?}");
        assert!(after.estimate.is_some_and(|estimate| estimate.amount > 0.0));

        let question = SearchRequest::new().with_text("a warm beverage");
        let answer = tenant.search(&question).await.unwrap();
        assert_eq!((answer.hits[0].item.id.as_str(), answer.arms_used), ("tea", vec![Arm::Vector]));
        assert!(answer.notes[0].contains("no keyword index"), "{:?}", answer.notes);
        // Nobody pays for a look at every memory; what this process wrote is known without one.
        assert_eq!(usage(&memory.usage(), "firestore.missing"), 0);
        let nobody = question.with_filter(Filter::eq(Field::UserId, user("bob").as_str()));
        assert!(tenant.search(&nobody).await.unwrap().hits.is_empty());
        memory.close().await.unwrap();
        let error = tenant.count(&Filter::All).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    });
}

#[test]
fn many_go_in_by_bulk_and_a_second_load_changes_nothing() {
    let Some(url) = url() else { return };
    run(async {
        let memory = Memory::builder().url(&url).settings(plain()).open().await.unwrap();
        let tenant = memory.default_tenant();
        let many = (0..700_u16).map(|n| {
            let vector = vec![f32::from(n) + 1.0, 1.0];
            note(&format!("memory {n}")).with_id(id(&format!("m{n}"))).with_embedding(vector)
        });
        let report = tenant.add_many(many.clone(), AddManyOptions::new()).await;
        assert_eq!((report.added, report.failed), (700, 0), "{:?}", report.stopped);
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 700);
        let skip = AddManyOptions::new().with_on_conflict(OnConflict::Skip);
        let report = tenant.add_many(many, skip).await;
        assert_eq!((report.added, report.skipped), (0, 700), "{:?}", report.stopped);
        let erased = tenant.erase_tenant(EraseOptions::new()).await.unwrap();
        assert_eq!(erased.erased, 700);
        memory.close().await.unwrap();
    });
}

#[test]
fn the_change_log_is_kept_on_request() {
    let Some(url) = url() else { return };
    run(async {
        let open = async |more: &str| {
            let url = format!("{url}{more}");
            Memory::builder().url(url).settings(plain()).open().await.unwrap()
        };
        let without = open("").await;
        assert_eq!(without.admin().changes().unwrap_err().kind(), ErrorKind::Unsupported);
        let with = open("&change_log=true").await;
        let tenant = with.default_tenant();
        tenant.add(note("logged").with_id(id("a"))).await.unwrap();
        let admin = with.admin();
        let context = admin.context(tenant.id().clone());
        let from = memory_core::traits::ChangePosition::default();
        let log = admin.changes().unwrap();
        let changes = log.read_changes(&context, from, 10).await.unwrap();
        assert_eq!(changes.changes.len(), 1);
    });
}

#[test]
fn vectors_are_made_in_the_background_as_well() {
    let Some(url) = url() else { return };
    run(async {
        let mut settings = embedding();
        settings.embedding.when = EmbedWhen::Background;
        let memory = meaning(&url, settings).open().await.unwrap();
        let tenant = memory.default_tenant();
        let many = (0..20).map(|n| note(&format!("memory {n}")));
        let report = tenant.add_many(many, AddManyOptions::new()).await;
        assert_eq!(report.added, 20, "{:?}", report.stopped);
        memory.embedding_idle(Duration::from_secs(60)).await.unwrap();
        let state = memory.embedding_state().await;
        assert_eq!((state.failures, state.last_failure), (0, None));
        assert_eq!(tenant.stats().await.unwrap().embedded, 20);
        memory.close().await.unwrap();
    });
}

#[test]
fn a_spent_budget_refuses_every_call_until_the_next_day() {
    let Some(url) = url() else { return };
    run(async {
        let mut settings = plain();
        settings.cost.daily_writes = Some(3);
        let clock = Arc::new(ManualClock::new(start()));
        let builder = Memory::builder().url(&url).settings(settings).clock(clock.clone());
        let memory = builder.open().await.unwrap();
        let tenant = memory.default_tenant();
        let mut added = 0;
        let error = loop {
            match tenant.add(note("once more")).await {
                Ok(_) => added += 1,
                Err(error) => break error,
            }
            assert!(added < 10, "the budget has no end");
        };
        assert!((1..=3).contains(&added), "{added}");
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::RateLimited, false));
        assert!(error.message().contains("cost.daily_writes"), "{error}");
        // The tests begin at half past nine.
        assert_eq!(error.retry_after(), Some(Duration::from_secs(14 * 3_600 + 30 * 60)));
        assert_eq!(tenant.count(&Filter::All).await.unwrap_err().kind(), ErrorKind::RateLimited);
        clock.advance(Duration::from_secs(15 * 3_600));
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), added);
    });
}

#[test]
fn a_space_with_too_many_dimensions_is_refused_at_open() {
    run(async {
        let open = async |dimensions: u32| {
            let mut settings = plain();
            settings.embedding = EmbeddingSettings::new("large", dimensions);
            let builder = Memory::builder().url("firestore://p?emulator=127.0.0.1:1");
            builder.settings(settings).open().await
        };
        let error = open(2_049).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("2048"), "{error}");
        open(2_048).await.unwrap();
    });
}

#[test]
fn a_store_without_a_project_is_refused() {
    run(async {
        for url in ["firestore:", "firestore://", "firestore:?emulator=127.0.0.1:1"] {
            let error = Memory::builder().url(url).settings(plain()).open().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("needs a project"), "{error}");
        }
    });
}

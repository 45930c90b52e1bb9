//! Opening and closing: what is opened, what is refused, what is left behind.

use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::{MockRecordStore, MockStoreMeta, MockVectorIndex};
use memory_core::{Capabilities, Clock, Durability, SystemClock};
use orchestra_memory::{
    Backend, BackendFactory, CostSettings, ErrorKind, OpenRequest, Registry, Result, UsageLedger,
};

use crate::support::{block_on, builder, mock_backend, note, open, plain, written};

#[test]
fn nothing_is_opened_in_place_of_what_cannot_be_had() {
    // Where it was compiled in, it is refused for its URL, before any credentials are looked for.
    let firestore = match cfg!(feature = "firestore") {
        true => ErrorKind::Config,
        false => ErrorKind::Unsupported,
    };
    let redis = match cfg!(feature = "redis") {
        true => ErrorKind::Config,
        false => ErrorKind::Unsupported,
    };
    for (url, kind) in [
        ("firestore://project/database/more", firestore),
        ("redis://host/no-number", redis),
        ("mysql://host", ErrorKind::Config),
        ("memory.db", ErrorKind::Config),
        ("", ErrorKind::Config),
    ] {
        let error = block_on(open(url)).unwrap_err();
        assert_eq!(error.kind(), kind, "{url}");
    }
    assert_eq!(block_on(builder().open()).unwrap_err().kind(), ErrorKind::Config);
    let mut settings = plain();
    settings.read.page_size = 0;
    let error = block_on(builder().settings(settings).url("memory:").open()).unwrap_err();
    assert!(error.message().contains("read.page_size"), "{error}");
    let backend = mock_backend(MockRecordStore::new(), MockStoreMeta::new());
    let error = block_on(builder().backend(backend).url("memory:").open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn an_index_that_stands_apart_is_refused() {
    for capabilities in [
        Capabilities::new("mock", [], Durability::Volatile),
        crate::support::capabilities("elsewhere"),
    ] {
        let mut backend = mock_backend(MockRecordStore::new(), MockStoreMeta::new());
        let mut vectors = MockVectorIndex::new();
        let name = capabilities.backend;
        vectors.expect_capabilities().returning(move || capabilities.clone());
        backend.vectors = Arc::new(vectors);
        let error = block_on(builder().backend(backend).open()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(name), "{error}");
    }
    let backend = mock_backend(MockRecordStore::new(), MockStoreMeta::new());
    block_on(builder().backend(backend).open()).unwrap();
}

#[test]
fn budgets_that_nothing_would_heed_are_refused() {
    let mut settings = plain();
    settings.cost.daily_reads = Some(10);
    let own = || mock_backend(MockRecordStore::new(), MockStoreMeta::new());
    let asked = || builder().settings(settings.clone()).backend(own());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let book =
        |cost: &CostSettings| Arc::new(UsageLedger::new().with_cost(cost.clone(), clock.clone()));
    let mut other = settings.cost.clone();
    other.daily_reads = Some(11);
    for builder in [
        asked(),
        asked().ledger(Arc::new(UsageLedger::new())),
        asked().usage(Arc::new(UsageLedger::new())),
        asked().usage(book(&CostSettings::default())),
        asked().usage(book(&other)),
    ] {
        let error = block_on(builder.open()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("with_cost"), "{error}");
    }
    block_on(asked().usage(book(&settings.cost)).open()).unwrap();
    // Without budgets in the settings the book has what it has.
    block_on(builder().backend(own()).usage(book(&other)).open()).unwrap();
    block_on(builder().backend(own()).open()).unwrap();
}

#[cfg(feature = "firestore")]
#[test]
fn firestore_is_not_opened_outside_a_runtime() {
    let url = "firestore://p?emulator=127.0.0.1:1";
    let error = block_on(builder().url(url).open()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("tokio runtime"), "{error}");
    // Within one it is: no service is asked yet.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(builder().url(url).open()).unwrap();
}

#[test]
fn a_callers_own_scheme_is_opened_by_its_factory() {
    #[derive(Debug)]
    struct Own;
    #[async_trait]
    impl BackendFactory for Own {
        async fn open(&self, request: &OpenRequest) -> Result<Backend> {
            assert_eq!(request.url.option("x"), Some("1"));
            request.ledger.record("own", "open", memory_core::traits::Usage::reads(1));
            let mut records = MockRecordStore::new();
            records.expect_commit().returning(|_, commit| Ok(written(&commit)));
            Ok(mock_backend(records, MockStoreMeta::new()))
        }
    }
    let registry = Registry::standard().with("own", Arc::new(Own));
    let passed_on = Arc::new(UsageLedger::new());
    let builder = builder().registry(registry).url("own:path?x=1");
    let memory = block_on(builder.ledger(passed_on.clone()).open()).unwrap();
    block_on(memory.default_tenant().add(note("x"))).unwrap();
    assert_eq!(memory.usage().operations["own.open"].reads, 1);
    assert_eq!(passed_on.report(), memory.usage());
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::fs;
    use std::path::Path;

    use orchestra_memory::{Filter, HealthStatus};

    use super::*;
    use crate::support::{each_store, id};

    fn url(path: &Path) -> String {
        format!("sqlite:{}", path.display())
    }

    #[test]
    fn a_file_keeps_what_was_added_and_can_be_opened_read_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a file.db");
        let memory = block_on(open(&url(&path))).unwrap();
        block_on(memory.default_tenant().add(note("kept").with_id(id("m")))).unwrap();
        assert!(memory.usage().total.writes >= 1, "{:?}", memory.usage());
        block_on(memory.close()).unwrap();
        block_on(memory.close()).unwrap();
        let error = block_on(memory.default_tenant().get(&id("m"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "closed");

        // A handle that is dropped without being closed lets go of the file too.
        drop(block_on(open(&url(&path))).unwrap());
        let memory = block_on(open(&format!("{}?mode=ro", url(&path)))).unwrap();
        let tenant = memory.default_tenant();
        assert_eq!(block_on(tenant.get(&id("m"))).unwrap().unwrap().content(), "kept");
        let error = block_on(tenant.add(note("more"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 1);
    }

    #[test]
    fn what_is_no_store_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().join("text");
        fs::write(&text, "this is no database, however long it may be").unwrap();
        let missing = folder.path().join("missing.db");
        for (url, kind) in [
            (url(&text), ErrorKind::Corrupt),
            (url(folder.path()), ErrorKind::Config),
            (format!("{}?mode=ro", url(&missing)), ErrorKind::NotFound),
            (url(&folder.path().join("none/x.db")), ErrorKind::NotFound),
        ] {
            let error = block_on(open(&url)).unwrap_err();
            assert_eq!(error.kind(), kind, "{url}: {error}");
        }
        assert!(!missing.exists(), "nothing was made");
    }

    #[test]
    fn an_operator_sees_checks_and_copies_the_store() {
        each_store(async |stack| {
            let tenant = stack.memory.tenant("acme").unwrap();
            tenant.add(note("kept").with_id(id("m"))).await.unwrap();
            let admin = stack.memory.admin();
            let report = admin.verify().await.unwrap();
            assert!(report.faults.is_empty() && !report.checks.is_empty(), "{report:?}");
            assert!(!admin.store_stats().await.unwrap().numbers.is_empty());
            let schema = admin.schema().await.unwrap();
            assert_eq!(schema.stored, schema.current);
            assert!(admin.analyser().await.unwrap().is_some());
            assert!(admin.capabilities().has(memory_core::Capability::CoLocated));
            let context = admin.context(tenant.id().clone());
            let head = tenant.stats().await.unwrap().head;
            let from = memory_core::traits::ChangePosition::default();
            let changes = admin.changes().unwrap().read_changes(&context, from, 10).await.unwrap();
            assert_eq!((changes.changes.len(), changes.head), (1, head));
            let health = stack.memory.health().await;
            assert_eq!(health.status, HealthStatus::Healthy, "{:?}", health.reasons);

            let folder = tempfile::tempdir().unwrap();
            let target = folder.path().join("copy.db");
            let target_text = target.to_str().unwrap();
            if !admin.capabilities().has(memory_core::Capability::OnlineBackup) {
                let error = admin.backup(target_text).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unsupported);
                return;
            }
            let copied = admin.backup(target_text).await.unwrap();
            assert_eq!(copied.bytes, fs::metadata(&target).unwrap().len());
            let error = admin.backup(target_text).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let copy = open(&url(&target)).await.unwrap();
            let found = copy.tenant("acme").unwrap().get(&id("m")).await.unwrap();
            assert_eq!(found.unwrap().content(), "kept");
            copy.close().await.unwrap();
        });
    }
}

//! Cloud Firestore, on its emulator, through all layers, and through each layer alone.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{AccessToken, CredentialProvider, KeywordIndex, NoLedger};
use memory_core::{IdSource as _, ManualClock, MetaKey, OrderField, RandomIds, Result};
use memory_firestore::{FilterKeyType, FirestoreSettings, FirestoreStore};
use memory_testkit::conformance::{CHECKS, FILTER_KEYS, Verdict, run_check, start};
use memory_testkit::{Harness, Overlay};

use super::over;
use crate::firestore::{emulator, run};

/// The credentials that the emulator takes for all rights.
#[derive(Debug)]
pub(crate) struct Owner;

#[async_trait]
impl CredentialProvider for Owner {
    async fn token(&self, _scopes: &[String]) -> Result<AccessToken> {
        Ok(AccessToken::new("owner".to_owned(), None))
    }
}

/// A project of its own on the emulator, emptied when it is dropped.
pub(crate) struct Project {
    pub(crate) host: String,
    pub(crate) settings: FirestoreSettings,
}

impl Project {
    /// A project that nobody else has; `None` without an emulator.
    pub(crate) fn new() -> Option<Self> {
        let host = emulator()?;
        let mut settings = FirestoreSettings::new(format!("it-{}", RandomIds.memory_id()));
        settings.emulator = Some(host.clone());
        // A busy emulator takes long for a commit of a thousand.
        settings.request_timeout_ms = 120_000;
        Some(Self { host, settings })
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        // Best effort: what is left goes with the emulator.
        let project = &self.settings.project;
        let Ok(mut stream) = TcpStream::connect(&self.host) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
        let _ = write!(
            stream,
            "DELETE /emulator/v1/projects/{project}/databases/(default)/documents HTTP/1.1\r\n\
             Host: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            self.host
        );
        let _ = stream.read(&mut [0; 256]);
    }
}

/// A store on a project of its own, with its change log, on a clock that the checks move.
struct OnEmulator {
    store: Arc<FirestoreStore>,
    clock: Arc<ManualClock>,
    _project: Project,
}

impl OnEmulator {
    async fn new() -> Option<Self> {
        let project = Project::new()?;
        let mut settings = project.settings.clone();
        settings.change_log = true;
        settings.orders =
            [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id]
                .into();
        let kind = |of| match of {
            "number" => FilterKeyType::Number,
            "text" => FilterKeyType::Text,
            "bool" => FilterKeyType::Bool,
            "list" => FilterKeyType::List,
            other => panic!("no type is {other}"),
        };
        settings.filter_keys =
            FILTER_KEYS.map(|(key, of)| (MetaKey::new(key).unwrap(), kind(of))).into();
        settings.erase_batch = 100;
        let clock = Arc::new(ManualClock::new(start()));
        let opened =
            FirestoreStore::open(settings, Arc::new(Owner), clock.clone(), Arc::new(NoLedger));
        Some(Self { store: opened.await.unwrap(), clock, _project: project })
    }
}

impl Harness for OnEmulator {
    memory_testkit::one_store!();
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        None
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.clock.clone()
    }
}

async fn through(
    make: impl FnOnce(Arc<dyn memory_core::Clock>) -> Box<dyn memory_layers::Layer>,
) -> Option<Overlay> {
    Some(over(OnEmulator::new().await?, make))
}

memory_testkit::conformance!(
    on_firestore,
    through(super::super::super::stack),
    requires = [
        AtomicCommit,
        Preconditions,
        CommitIds,
        IdempotencyKeys,
        TypedFilters,
        Cursors,
        Projection,
        Counts,
        Expiry,
        Erase,
        Leases,
        TenantDirectory,
        ChangeLog,
        VectorSearch,
        CoLocated,
    ]
);

/// Every check through one layer, on one runtime.
fn alone(make: fn(Arc<dyn memory_core::Clock>) -> Box<dyn memory_layers::Layer>) {
    run(async {
        let mut ran = 0;
        for check in CHECKS {
            let Some(harness) = through(make).await else { return };
            match run_check(check, Box::new(harness)).await {
                Verdict::Passed => ran += 1,
                Verdict::NotApplicable(_) => {}
                Verdict::Failed(failure) => panic!("{}: {failure}", check.name),
            }
        }
        println!("{ran} checks ran");
        assert!(ran >= 130, "{ran} checks ran");
    });
}

#[test]
fn the_suite_holds_through_telemetry_alone() {
    alone(super::telemetry);
}

#[test]
fn the_suite_holds_through_the_guard_alone() {
    alone(super::guard);
}

#[test]
fn the_suite_holds_through_retry_alone() {
    alone(super::retry);
}

#[test]
fn the_suite_holds_through_the_limit_alone() {
    alone(super::limit);
}

#[test]
fn the_suite_holds_through_the_timeout_alone() {
    alone(super::timeout);
}

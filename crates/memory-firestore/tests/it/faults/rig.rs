//! A store behind the fault proxy and one past it, on the machine's clock.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{NoLedger, RecordStore, RecordStoreExt as _};
use memory_core::{CallContext, Clock as _, Deadline, ErrorKind, Result, SystemClock};
use memory_firestore::{FirestoreSettings, FirestoreStore};
use memory_testkit::FaultProxy;

use crate::common::{Owner, Project, id, settings};

/// What a call may take beyond its deadline on a machine that is busy with other things.
pub(crate) const SLACK: Duration = Duration::from_millis(1_500);

/// Longer than anything here takes; whoever waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Stores on a project of their own.
#[derive(Debug)]
pub(crate) struct Rig {
    /// By way of the proxy.
    pub(crate) store: Arc<FirestoreStore>,
    /// Past the proxy.
    pub(crate) direct: Arc<FirestoreStore>,
    pub(crate) proxy: FaultProxy,
    /// The clock of both.
    pub(crate) clock: Arc<SystemClock>,
    /// By way of the proxy.
    pub(crate) settings: FirestoreSettings,
    _project: Project,
}

impl Rig {
    /// A proxy without a fault and stores that have not yet sent anything; `None` without an
    /// emulator.
    pub(crate) async fn new(seed: u64, adapt: impl FnOnce(&mut FirestoreSettings)) -> Option<Self> {
        let project = Project::new()?;
        let proxy = FaultProxy::start(address(&project.host), seed).await.expect("a free port");
        let mut past = settings(&project);
        adapt(&mut past);
        let clock = Arc::new(SystemClock::new());
        let direct = open(&past, &clock).await.expect("the store opens");
        let mut settings = past;
        settings.emulator = Some(proxy.address().to_string());
        let store = open(&settings, &clock).await.expect("the store opens");
        Some(Self { store, direct, proxy, clock, settings, _project: project })
    }

    /// One more store by way of the proxy, which has not yet sent anything.
    pub(crate) async fn another(&self) -> Arc<FirestoreStore> {
        open(&self.settings, &self.clock).await.expect("the store opens")
    }

    /// The context with a deadline so far ahead.
    pub(crate) fn within(&self, context: &CallContext, span: Duration) -> CallContext {
        within(&self.clock, context, span)
    }

    /// The answer of a call, and how long it took.
    pub(crate) async fn timed<T>(&self, call: impl Future<Output = T>) -> (T, Duration) {
        timed(&self.clock, call).await
    }
}

/// Opens a store with the rights of the owner.
pub(crate) async fn open(
    settings: &FirestoreSettings,
    clock: &Arc<SystemClock>,
) -> Result<Arc<FirestoreStore>> {
    FirestoreStore::open(settings.clone(), Arc::new(Owner), clock.clone(), Arc::new(NoLedger)).await
}

/// The context with a deadline so far ahead on the clock.
pub(crate) fn within(clock: &SystemClock, context: &CallContext, span: Duration) -> CallContext {
    context.clone().with_deadline(Some(Deadline::at(clock.monotonic() + span)))
}

/// The answer of a call, and how long it took.
pub(crate) async fn timed<T>(clock: &SystemClock, call: impl Future<Output = T>) -> (T, Duration) {
    let began = clock.monotonic();
    let answer = tokio::time::timeout(PATIENCE, call).await.expect("the call does not end");
    (answer, clock.monotonic() - began)
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("it takes too long: {what}"));
}

/// Waits until a store answers again; until then every error says that it is worth trying.
pub(crate) async fn recovered(store: &FirestoreStore, context: &CallContext) {
    let waiting = async {
        while let Err(error) = store.fetch_one(context, &id("nobody")).await {
            assert!(
                matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
                    && error.is_retryable(),
                "{error:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the store does not recover");
    let health = RecordStore::health(store).await;
    assert_eq!(health.status, memory_core::HealthStatus::Healthy, "{health:?}");
}

/// The first address of a host and port.
fn address(host: &str) -> SocketAddr {
    host.to_socket_addrs().expect("a host and port").next().expect("an address")
}

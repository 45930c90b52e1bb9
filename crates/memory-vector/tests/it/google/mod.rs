//! Google Vector Search against a server of the tests' own, and against the real one where the
//! environment names it.

mod collections;
mod failures;
mod live;
mod searches;
mod server;
mod suite;
mod twin;
mod writes;

use std::sync::{Arc, Mutex};

use memory_core::traits::{Ledger, Usage};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, ManualClock, MemoryId, MemoryItem, MetaKey,
    Metric, Result, Revision, TenantId, Timestamp,
};
use memory_google_auth::EmulatorCredentials;
use memory_vector::google::{GoogleVectorIndex, GoogleVectorSettings};

use self::server::Server;

/// A ledger that keeps what it is told, and admits until it is told not to.
#[derive(Debug, Default)]
struct Book {
    entries: Mutex<Vec<(&'static str, &'static str, Usage)>>,
    spent: Mutex<bool>,
}

impl Ledger for Book {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        match *self.spent.lock().unwrap() {
            true => {
                Err(Error::new(ErrorKind::RateLimited, "the budget is spent").with_retryable(false))
            }
            false => Ok(()),
        }
    }

    fn record(&self, backend: &'static str, operation: &'static str, usage: Usage) {
        self.entries.lock().unwrap().push((backend, operation, usage));
    }
}

impl Book {
    fn of(&self, operation: &str) -> Vec<Usage> {
        let entries = self.entries.lock().unwrap();
        entries.iter().filter(|entry| entry.1 == operation).map(|entry| entry.2).collect()
    }
}

/// A server, and an index on it.
struct Rig {
    server: Server,
    clock: Arc<ManualClock>,
    book: Arc<Book>,
    index: GoogleVectorIndex,
}

fn now() -> Timestamp {
    Timestamp::parse("2025-03-01T09:30:00Z").unwrap()
}

fn settings(server: &Server) -> GoogleVectorSettings {
    let mut settings = GoogleVectorSettings::new("a-project", "us-central1");
    settings.endpoint = server.url();
    settings.filter_keys =
        ["topic", "n", "on", "tags"].map(|key| MetaKey::new(key).unwrap()).into();
    settings
}

async fn index(
    settings: GoogleVectorSettings,
    clock: &Arc<ManualClock>,
    book: &Arc<Book>,
) -> GoogleVectorIndex {
    let credentials = Arc::new(EmulatorCredentials::new());
    GoogleVectorIndex::open(settings, credentials, Arc::clone(clock) as _, Arc::clone(book) as _)
        .await
        .unwrap()
}

impl Rig {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut GoogleVectorSettings)) -> Self {
        let server = Server::start();
        let mut settings = settings(&server);
        change(&mut settings);
        let clock = Arc::new(ManualClock::new(now()));
        let book = Arc::<Book>::default();
        let index = index(settings, &clock, &book).await;
        Self { server, clock, book, index }
    }

    /// A rig whose space is prepared and of whose requests none is remembered.
    async fn ready() -> Self {
        let rig = Self::new().await;
        rig.prepared().await;
        rig
    }

    async fn prepared(&self) {
        self.index.prepare(&space()).await.unwrap();
        self.server.forget_seen();
        self.book.entries.lock().unwrap().clear();
    }
}

fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("model", "1", 2, Metric::Cosine).unwrap()
}

fn context() -> CallContext {
    of_tenant("t")
}

fn of_tenant(tenant: &str) -> CallContext {
    CallContext::new(TenantId::new(tenant).unwrap())
}

fn id(text: &str) -> MemoryId {
    MemoryId::new(text).unwrap()
}

/// An item of a user at revision 1.
fn item(name: &str) -> MemoryItem {
    let mut item = MemoryItem::new(id(name), "a secret text", now()).unwrap();
    item.user_id = Some("ada".parse().unwrap());
    item.revision = Some(Revision::from_number(1));
    item
}

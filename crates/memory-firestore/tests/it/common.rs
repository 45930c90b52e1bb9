//! What the tests share: the emulator, stores on projects of their own, a recorder of queries, a
//! book of what is billed, items.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use memory_core::traits::{
    AccessToken, ChangeLog, CredentialProvider, EraseReceipt, EraseScope, KeywordIndex, LeaseStore,
    Ledger, RecordStore, SchemaInfo, StoreKey, StoreMeta, StoreUpkeep, TenantDirectory,
    TenantSpaces, Tombstone, Usage, VectorIndex,
};
use memory_core::{
    CallContext, Commit, CommitReceipt, EmbeddingSpace, Error, ErrorKind, IdSource as _,
    ManualClock, MemoryId, MemoryItem, MetaKey, Metric, OrderField, Precondition, RandomIds,
    Result, Revision, TenantId, Timestamp, UserId, Vectors, Write,
};
use memory_firestore::{
    FilterKeyType, FirestoreParts, FirestoreSettings, FirestoreStore, IndexDefinitions,
    QueryRecorder,
};
use memory_testkit::Harness;
use memory_testkit::conformance::{FILTER_KEYS, start};
use serde_json::Value;

use crate::checker::{self, Definitions};

/// Names the emulator: `HOST:PORT`.
const HOST: &str = "FIRESTORE_EMULATOR_HOST";
/// `absent` skips what needs the emulator.
const SERVER: &str = "ORCHESTRA_FIRESTORE";

/// The emulator's `HOST:PORT`; `None` where it is declared absent, which is said loudly.
///
/// # Panics
/// It is neither named nor declared absent, or it is absent in CI.
#[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
pub(crate) fn emulator() -> Option<String> {
    if let Ok(host) = std::env::var(HOST)
        && !host.is_empty()
    {
        return Some(host);
    }
    assert!(
        std::env::var(SERVER).is_ok_and(|text| text == "absent"),
        "these tests need the Firestore emulator: `cargo xtask servers up` starts it and prints \
         {HOST}=HOST:PORT to set; {SERVER}=absent skips them"
    );
    assert!(
        std::env::var_os("CI").is_none(),
        "{SERVER}=absent in CI: the tests on the Firestore emulator must run there"
    );
    eprintln!("SKIPPED: {SERVER}=absent: nothing was tested on the Firestore emulator");
    None
}

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
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) host: String,
    pub(crate) name: String,
}

impl Project {
    /// A project that nobody else has; `None` without an emulator.
    pub(crate) fn new() -> Option<Self> {
        let host = emulator()?;
        let digits: String = RandomIds.commit_id().as_bytes()[..10]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Some(Self { host, name: format!("om-{digits}") })
    }

    /// One HTTP request to the emulator: status and body.
    pub(crate) fn http(
        &self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(&self.host)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer owner\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        )?;
        // The emulator leaves the connection open: the answer's length says where it ends.
        let (mut answer, mut part) = (Vec::new(), [0; 8_192]);
        let (head, length) = loop {
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let mut lines = head.lines().filter_map(|line| line.split_once(':'));
                let length = lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                let length = length.and_then(|(_, value)| value.trim().parse::<usize>().ok());
                break (head.to_owned(), length.unwrap_or(0));
            }
            match stream.read(&mut part)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&part[..count]),
            }
        };
        while answer.len() < head.len() + 4 + length {
            match stream.read(&mut part)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                count => answer.extend_from_slice(&part[..count]),
            }
        }
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
        let body = String::from_utf8_lossy(&answer[head.len() + 4..]).into_owned();
        Ok((status, body))
    }

    fn documents(&self) -> String {
        format!("/v1/projects/{}/databases/(default)/documents", self.name)
    }

    /// Writes a document as it is, past the store: `fields` as the REST interface has them.
    pub(crate) fn write(&self, path: &str, fields: &Value) {
        let body = serde_json::json!({ "fields": fields }).to_string();
        let path = format!("{}/{}", self.documents(), escaped(path));
        let (status, answer) = self.http("PATCH", &path, &body).expect("the emulator answers");
        assert_eq!(status, 200, "{answer}");
    }

    /// Reads a document's fields as they are; `None` where there is none.
    pub(crate) fn read(&self, path: &str) -> Option<Value> {
        let path = format!("{}/{}", self.documents(), escaped(path));
        let (status, answer) = self.http("GET", &path, "").expect("the emulator answers");
        if status == 404 {
            return None;
        }
        assert_eq!(status, 200, "{answer}");
        let document: Value = serde_json::from_str(&answer).expect("JSON");
        Some(document.get("fields").cloned().unwrap_or_else(|| serde_json::json!({})))
    }

    /// The paths of the documents of a collection.
    pub(crate) fn list(&self, collection: &str) -> Vec<String> {
        let path = format!("{}/{}?pageSize=300", self.documents(), escaped(collection));
        let (status, answer) = self.http("GET", &path, "").expect("the emulator answers");
        assert_eq!(status, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let documents = answer["documents"].as_array().cloned().unwrap_or_default();
        let name = |document: &Value| {
            let name = document["name"].as_str().expect("a name");
            name.split_once("/documents/").expect("a full name").1.to_owned()
        };
        documents.iter().map(name).collect()
    }
}

/// A path with what a URL cannot hold escaped.
fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

impl Drop for Project {
    fn drop(&mut self) {
        // Best effort: what is left goes with the emulator.
        let path = format!("/emulator/v1/projects/{}/databases/(default)/documents", self.name);
        let _ = self.http("DELETE", &path, "");
    }
}

/// Keeps every query that was sent, each form once.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    queries: Mutex<Vec<(&'static str, Vec<u8>)>>,
}

impl QueryRecorder for Recorder {
    fn record(&self, method: &'static str, request: &[u8]) {
        let mut queries = self.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.push((method, request.to_vec()));
    }
}

impl Recorder {
    /// The queries so far: method and bytes.
    pub(crate) fn queries(&self) -> Vec<(&'static str, Vec<u8>)> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the checker has against the queries so far.
    pub(crate) fn complaints(&self, definitions: &Definitions) -> Vec<String> {
        let queries = self.queries();
        let all = queries.iter();
        all.filter_map(|(method, bytes)| checker::check(definitions, method, bytes).err()).collect()
    }
}

/// What was billed, operation by operation; refuses everything where it is told to.
#[derive(Debug, Default)]
pub(crate) struct Book {
    lines: Mutex<Vec<(&'static str, Usage)>>,
    asked: AtomicU64,
    spent: AtomicBool,
    /// How many requests it admits before it refuses; 0 for no bound.
    left: AtomicU64,
}

impl Book {
    /// Takes the lines so far out.
    pub(crate) fn take(&self) -> Vec<(&'static str, Usage)> {
        std::mem::take(&mut self.lines.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sum of the lines so far, which are taken out.
    pub(crate) fn total(&self) -> Usage {
        self.take().into_iter().fold(Usage::default(), |mut sum, (_, usage)| {
            sum.reads += usage.reads;
            sum.writes += usage.writes;
            sum.deletes += usage.deletes;
            sum.index_entries += usage.index_entries;
            sum.bytes += usage.bytes;
            sum
        })
    }

    /// How many requests asked to be admitted so far.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }

    /// Admits nothing from now on, or everything again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.left.store(0, Ordering::SeqCst);
        self.spent.store(refuse, Ordering::SeqCst);
    }

    /// Admits so many requests from now on, one at the least, and then nothing.
    pub(crate) fn allow(&self, requests: u64) {
        self.spent.store(false, Ordering::SeqCst);
        self.left.store(requests, Ordering::SeqCst);
    }
}

impl Ledger for Book {
    fn admit(&self, _backend: &'static str, _operation: &'static str) -> Result<()> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let spent = self.spent.load(Ordering::SeqCst);
        let step = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, step) == Ok(1) {
            self.spent.store(true, Ordering::SeqCst);
        }
        if spent {
            return Err(Error::new(ErrorKind::RateLimited, "the budget of the test is spent")
                .with_retryable(false));
        }
        Ok(())
    }

    fn record(&self, _backend: &'static str, operation: &'static str, usage: Usage) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push((operation, usage));
    }
}

/// A store on a project of its own, on a clock that tests move, with every query held against the
/// index definitions when it is dropped.
pub(crate) struct FirestoreHarness {
    pub(crate) store: Arc<FirestoreStore>,
    pub(crate) settings: FirestoreSettings,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) book: Arc<Book>,
    spaces: Arc<Spaces>,
    pub(crate) project: Project,
}

impl FirestoreHarness {
    /// A fresh store with the settings of the tests, which `adapt` changes; `None` without an
    /// emulator.
    pub(crate) async fn new(adapt: impl FnOnce(&mut FirestoreSettings)) -> Option<Self> {
        let project = Project::new()?;
        let mut settings = settings(&project);
        // A busy emulator takes long for a commit of a thousand.
        settings.request_timeout_ms = 120_000;
        adapt(&mut settings);
        let clock = Arc::new(ManualClock::new(start()));
        let (recorder, book) = (Arc::new(Recorder::default()), Arc::new(Book::default()));
        let store = open(&settings, &clock, &recorder, &book).await;
        let spaces = Arc::new(Spaces { inner: Arc::clone(&store), seen: Mutex::default() });
        Some(Self { store, settings, clock, recorder, book, spaces, project })
    }

    /// Another store on the same project, as another process has it.
    pub(crate) async fn another(&self) -> Arc<FirestoreStore> {
        open(&self.settings, &self.clock, &self.recorder, &self.book).await
    }

    /// The index definitions for the settings and the spaces that the store has seen.
    pub(crate) fn definitions(&self) -> Value {
        let seen = self.spaces.seen.lock().unwrap_or_else(PoisonError::into_inner);
        definitions(&self.settings, &seen)
    }

    /// What the checker has against the queries so far.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let definitions = Definitions::parse(&self.definitions()).expect("valid definitions");
        self.recorder.complaints(&definitions)
    }

    /// Gives a tenant its spaces, through this so that their indexes are among the definitions.
    pub(crate) async fn set_spaces(
        &self,
        context: &CallContext,
        active: EmbeddingSpace,
        next: Option<EmbeddingSpace>,
    ) {
        let before = self.spaces.spaces(context).await.expect("the spaces are read");
        let spaces = TenantSpaces { active: Some(active), next, ..before };
        self.spaces.set_spaces(context, &spaces).await.expect("the spaces are set");
    }

    /// Counts a space among those that the definitions are for.
    pub(crate) fn know(&self, space: &EmbeddingSpace) {
        let mut seen = self.spaces.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(space) {
            seen.push(space.clone());
        }
    }

    /// A space of three dimensions, made the tenant's active one.
    pub(crate) async fn space(&self, context: &CallContext) -> EmbeddingSpace {
        let space = EmbeddingSpace::new("test", "1", 3, Metric::Cosine).expect("a valid space");
        self.set_spaces(context, space.clone(), None).await;
        space
    }
}

impl Drop for FirestoreHarness {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let complaints = self.complaints();
        assert!(
            complaints.is_empty(),
            "{} queries have no index; the first: {}",
            complaints.len(),
            complaints[0]
        );
    }
}

/// The text of `firestore.indexes.json` for settings and spaces.
pub(crate) fn definitions(settings: &FirestoreSettings, spaces: &[EmbeddingSpace]) -> Value {
    let made = IndexDefinitions::new(settings, spaces).expect("definitions that can be made");
    serde_json::from_str(&made.to_json()).expect("the definitions are JSON")
}

/// The settings of the tests: every order, the suite's metadata keys, small steps.
pub(crate) fn settings(project: &Project) -> FirestoreSettings {
    let mut settings = FirestoreSettings::new(&project.name);
    settings.emulator = Some(project.host.clone());
    settings.orders =
        [OrderField::OccurredAt, OrderField::CreatedAt, OrderField::UpdatedAt, OrderField::Id]
            .into();
    settings.filter_keys = FILTER_KEYS
        .map(|(key, of)| {
            let of = match of {
                "number" => FilterKeyType::Number,
                "text" => FilterKeyType::Text,
                "bool" => FilterKeyType::Bool,
                "list" => FilterKeyType::List,
                other => panic!("no type is {other}"),
            };
            (MetaKey::new(key).expect("a valid key"), of)
        })
        .into();
    // Erasures of a few hundred items take several steps.
    settings.erase_batch = 100;
    settings
}

async fn open(
    settings: &FirestoreSettings,
    clock: &Arc<ManualClock>,
    recorder: &Arc<Recorder>,
    book: &Arc<Book>,
) -> Arc<FirestoreStore> {
    let mut parts = FirestoreParts::new(
        Arc::new(Owner),
        Arc::clone(clock) as Arc<dyn memory_core::Clock>,
        Arc::clone(book) as Arc<dyn Ledger>,
    );
    parts.recorder = Some(Arc::clone(recorder) as Arc<dyn QueryRecorder>);
    FirestoreStore::open_with(settings.clone(), parts).await.expect("the store opens")
}

impl Harness for FirestoreHarness {
    fn records(&self) -> Arc<dyn RecordStore> {
        self.store.clone()
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        Some(self.store.clone())
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        None
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        self.settings.change_log.then(|| self.store.clone() as Arc<dyn ChangeLog>)
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        Some(self.store.clone())
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        Some(self.spaces.clone())
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

/// What the store knows of itself, and which spaces it was given: vector indexes are of spaces.
#[derive(Debug)]
struct Spaces {
    inner: Arc<FirestoreStore>,
    seen: Mutex<Vec<EmbeddingSpace>>,
}

#[async_trait]
impl StoreMeta for Spaces {
    async fn schema(&self) -> Result<SchemaInfo> {
        self.inner.schema().await
    }
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces> {
        self.inner.spaces(context).await
    }
    async fn set_spaces(&self, context: &CallContext, to: &TenantSpaces) -> Result<TenantSpaces> {
        let answer = self.inner.set_spaces(context, to).await?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for space in to.active.iter().chain(&to.next) {
            if !seen.contains(space) {
                seen.push(space.clone());
            }
        }
        Ok(answer)
    }
    async fn analyser(&self) -> Result<Option<String>> {
        self.inner.analyser().await
    }
    async fn store_key(&self) -> Result<StoreKey> {
        self.inner.store_key().await
    }
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>> {
        self.inner.erased(context, ids).await
    }
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()> {
        self.inner.add_tombstones(tombstones).await
    }
}

pub(crate) fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).expect("a valid tenant"))
}

pub(crate) fn id(text: &str) -> MemoryId {
    MemoryId::new(text).expect("a valid id")
}

/// A fact of the user `ada`.
pub(crate) fn item(name: &str, content: &str) -> MemoryItem {
    MemoryItem::new(id(name), content, start())
        .expect("valid content")
        .with_user(UserId::new("ada").expect("a valid user"))
}

pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a valid time")
}

pub(crate) fn commit(writes: Vec<Write>) -> Commit {
    Commit::new(RandomIds.commit_id(), writes)
}

pub(crate) fn put(item: MemoryItem, precondition: Precondition) -> Write {
    Write::put(item, Vectors::default(), precondition)
}

pub(crate) fn with_vector(item: MemoryItem, space: &EmbeddingSpace, vector: [f32; 3]) -> Write {
    let vectors = BTreeMap::from([(space.id(), vector.to_vec())]);
    Write::put(item, Vectors::Replace(vectors), Precondition::Any)
}

/// Creates an item; its revision.
pub(crate) async fn add(
    store: &FirestoreStore,
    context: &CallContext,
    item: MemoryItem,
) -> Result<Revision> {
    let receipt = store.commit(context, commit(vec![put(item, Precondition::Absent)])).await?;
    Ok(revision(&receipt))
}

/// The revision of a receipt's first write.
pub(crate) fn revision(receipt: &CommitReceipt) -> Revision {
    receipt.results[0].revision.clone().expect("a put has a revision")
}

/// Erases to the end: how many items, and the receipt.
pub(crate) async fn erase(
    store: &FirestoreStore,
    context: &CallContext,
    scope: &EraseScope,
) -> (u64, EraseReceipt) {
    let (mut total, mut resume, mut steps) = (0, None, 0);
    loop {
        let step = store.erase(context, scope, resume).await.expect("a step of the erasure");
        total += step.erased;
        steps += 1;
        assert!(steps < 1_000, "the erasure does not end");
        match step.receipt {
            Some(receipt) => return (total, receipt),
            None => resume = Some(step.next.expect("a step without receipt goes on")),
        }
    }
}

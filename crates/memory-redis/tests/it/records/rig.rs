//! A store beside a plain connection to its server, which sees and changes the keys themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use memory_core::traits::{Ledger, NoLedger, TenantSpaces};
use memory_core::{
    CallContext, Commit, CommitReceipt, EmbeddingSpace, IdSource as _, ManualClock, MemoryId,
    MemoryItem, Metric, Precondition, RandomIds, Result, Revision, TenantId, Timestamp, UserId,
    Vectors, Write,
};
use memory_redis::{RedisParts, RedisSettings, RedisStore};
use memory_testkit::conformance::start;
use redis::{Connection, Value};
use serde_json::json;

/// The servers that the tests of this module run on.
pub(crate) const SERVERS: [&str; 4] = [
    "MEMORY_TEST_REDIS",
    "MEMORY_TEST_REDIS_PLAIN",
    "MEMORY_TEST_REDIS_OLD",
    "MEMORY_TEST_REDIS_CLUSTER",
];

/// The time of a text, since when it is 2025-03-01T09:30:00Z for every rig.
pub(crate) const NOW: &str = "2025-03-01T09:30:00Z";

/// A store under a prefix of its own, whose keys go with it.
pub(crate) struct Rig {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) clock: Arc<ManualClock>,
    url: String,
    cluster: bool,
    pub(crate) prefix: String,
}

impl Rig {
    /// A rig on the server that a variable names; `None`, said loudly, where it names none.
    #[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
    pub(crate) async fn on(variable: &str) -> Option<Self> {
        let Some(url) = std::env::var(variable).ok().filter(|url| !url.is_empty()) else {
            eprintln!("SKIPPED: {variable} names no server");
            return None;
        };
        Some(Self::at(url, variable.ends_with("CLUSTER")).await)
    }

    pub(crate) async fn at(url: String, cluster: bool) -> Self {
        let digits = RandomIds.commit_id().as_bytes()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>();
        let prefix = format!("t-{digits}");
        let clock = Arc::new(ManualClock::new(start()));
        let store = open(&url, cluster, &prefix, &clock, json!({})).await;
        Self { store, clock, url, cluster, prefix }
    }

    /// Another store on the same keys, with some settings of its own.
    pub(crate) async fn with(&self, changed: serde_json::Value) -> Arc<RedisStore> {
        open(&self.url, self.cluster, &self.prefix, &self.clock, changed).await
    }

    /// Another store on the same keys: another process.
    pub(crate) async fn another(&self) -> Arc<RedisStore> {
        open(&self.url, self.cluster, &self.prefix, &self.clock, json!({})).await
    }

    /// Another store on the same keys, whose requests a ledger sees.
    pub(crate) async fn counted(&self, ledger: Arc<dyn Ledger>) -> Arc<RedisStore> {
        let settings = settings(&self.url, self.cluster, &self.prefix, &json!({}));
        RedisStore::open(settings, RedisParts::new(self.clock.clone(), ledger)).await.unwrap()
    }

    /// What each key of a tenant begins with.
    pub(crate) fn base(&self, tenant: &str) -> String {
        format!("{}:{{{tenant}}}:", self.prefix)
    }

    /// A connection to the server where a tenant's keys lie.
    pub(crate) fn raw(&self, tenant: &str) -> Raw {
        let base = self.base(tenant);
        let mut connection = connect(&self.url);
        if self.cluster {
            // The owner of a key says so when it is not this one.
            let probe: redis::RedisResult<Value> =
                redis::cmd("EXISTS").arg(&base).query(&mut connection);
            if let Err(error) = probe
                && let Some((address, _)) = error.redirect_node()
            {
                connection = connect(&format!("redis://{address}"));
            }
        }
        Raw { connection, base }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut urls = BTreeSet::from([self.url.clone()]);
        if self.cluster {
            let mut connection = connect(&self.url);
            let nodes: String = redis::cmd("CLUSTER").arg("NODES").query(&mut connection).unwrap();
            for line in nodes.lines().filter(|line| line.contains("master")) {
                let address = line.split([' ', '@']).nth(1).unwrap();
                urls.insert(format!("redis://{address}"));
            }
        }
        for url in urls {
            let mut connection = connect(&url);
            let indexes: redis::RedisResult<Vec<String>> =
                redis::cmd("FT._LIST").query(&mut connection);
            let own = format!("{}:", self.prefix);
            for index in indexes.unwrap_or_default().iter().filter(|name| name.starts_with(&own)) {
                let _: redis::RedisResult<()> =
                    redis::cmd("FT.DROPINDEX").arg(index).query(&mut connection);
            }
            for key in keys(&mut connection, &format!("{}:*", self.prefix)) {
                let _: redis::RedisResult<()> =
                    redis::cmd("UNLINK").arg(key).query(&mut connection);
            }
        }
    }
}

async fn open(
    url: &str,
    cluster: bool,
    prefix: &str,
    clock: &Arc<ManualClock>,
    changed: serde_json::Value,
) -> Arc<RedisStore> {
    let parts = RedisParts::new(clock.clone(), Arc::new(NoLedger));
    RedisStore::open(settings(url, cluster, prefix, &changed), parts).await.unwrap()
}

fn settings(url: &str, cluster: bool, prefix: &str, changed: &serde_json::Value) -> RedisSettings {
    let mut settings = json!({
        "url": url, "cluster": cluster, "prefix": prefix,
        "filter_keys": {"number": "number", "text": "text", "flag": "bool", "list": "list"},
    });
    for (name, value) in changed.as_object().unwrap() {
        settings[name] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

fn connect(url: &str) -> Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

fn keys(connection: &mut Connection, pattern: &str) -> Vec<Vec<u8>> {
    let mut found = BTreeSet::new();
    let mut cursor = 0_u64;
    loop {
        let (next, some): (u64, Vec<Vec<u8>>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("MATCH")
            .arg(pattern)
            .arg("COUNT")
            .arg(1_000)
            .query(connection)
            .unwrap();
        found.extend(some);
        cursor = next;
        if cursor == 0 {
            return Vec::from_iter(found);
        }
    }
}

/// A plain connection to where a tenant's keys lie.
pub(crate) struct Raw {
    pub(crate) connection: Connection,
    pub(crate) base: String,
}

impl Raw {
    /// Runs a command: name, key after the base, arguments.
    pub(crate) fn run(&mut self, command: &str, key: &str, args: &[&[u8]]) -> Value {
        let mut sent = redis::cmd(command);
        sent.arg(format!("{}{key}", self.base));
        for arg in args {
            sent.arg(*arg);
        }
        sent.query(&mut self.connection).unwrap()
    }

    /// The fields of a hash.
    pub(crate) fn hash(&mut self, key: &str) -> BTreeMap<String, Vec<u8>> {
        let name = format!("{}{key}", self.base);
        redis::cmd("HGETALL").arg(name).query(&mut self.connection).unwrap()
    }

    /// The members of a sorted set.
    pub(crate) fn set(&mut self, key: &str) -> BTreeSet<Vec<u8>> {
        let name = format!("{}{key}", self.base);
        redis::cmd("ZRANGE").arg(name).arg(0).arg(-1).query(&mut self.connection).unwrap()
    }

    /// The keys, without the base.
    pub(crate) fn keys(&mut self) -> BTreeSet<Vec<u8>> {
        let escaped = self.base.replace('%', "?");
        keys(&mut self.connection, &format!("{escaped}*"))
            .into_iter()
            .filter_map(|key| key.strip_prefix(self.base.as_bytes()).map(<[u8]>::to_vec))
            .collect()
    }

    /// Everything there is of the tenant: what each key holds, in an order of its own.
    pub(crate) fn dump(&mut self) -> BTreeMap<String, String> {
        let keys = self.keys();
        keys.into_iter()
            .map(|key| {
                let key = String::from_utf8(key).unwrap();
                let holds = match self.run("TYPE", &key, &[]) {
                    Value::SimpleString(kind) if kind == "hash" => shown(
                        self.hash(&key)
                            .into_iter()
                            .map(|(name, value)| [name.as_bytes(), b"=", &value].concat()),
                    ),
                    Value::SimpleString(kind) if kind == "set" => {
                        let name = format!("{}{key}", self.base);
                        let members: BTreeSet<Vec<u8>> =
                            redis::cmd("SMEMBERS").arg(name).query(&mut self.connection).unwrap();
                        shown(members)
                    }
                    Value::SimpleString(kind) if kind == "zset" => shown(self.set(&key)),
                    Value::SimpleString(kind) if kind == "stream" => {
                        format!("{:?}", self.run("XRANGE", &key, &[b"-", b"+"]))
                    }
                    _ => format!("{:?}", self.run("GET", &key, &[])),
                };
                (key, holds)
            })
            .collect()
    }

    /// Checks that everything is as it was; names the keys that are not.
    pub(crate) fn assert_unchanged(&mut self, before: &BTreeMap<String, String>) {
        let after = self.dump();
        let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed: Vec<_> =
            keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).collect();
        assert!(changed.is_empty(), "changed: {changed:?}");
    }

    /// Checks that the sorted sets are those of the hashes, no more and no fewer; returns the ids.
    pub(crate) fn check(&mut self) -> BTreeSet<String> {
        let mut wanted: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let keys = self.keys();
        for key in &keys {
            let Some(id) = key.strip_prefix(b"m:") else { continue };
            let id = String::from_utf8(id.to_vec()).unwrap();
            let hash = self.hash(&format!("m:{id}"));
            let with_id = |field: &str| [&hash[field], id.as_bytes()].concat();
            let mut add = |set: String, member| {
                wanted.entry(set.into_bytes()).or_default().insert(member);
            };
            add("x:i".to_owned(), id.clone().into_bytes());
            add("x:o".to_owned(), with_id("to"));
            add("x:c".to_owned(), with_id("tc"));
            add("x:u".to_owned(), with_id("tu"));
            if hash["e"] != b"18446744073709551615" {
                add("x:e".to_owned(), with_id("e"));
            }
            for (field, set) in [("u", "x:U:"), ("a", "x:A:"), ("s", "x:S:")] {
                if let Some(name) = hash.get(field) {
                    let name = String::from_utf8(name.clone()).unwrap();
                    add(format!("{set}{name}"), with_id("to"));
                }
            }
            ids.insert(id);
        }
        let sets: Vec<_> =
            keys.iter().filter(|key| key.starts_with(b"x:") && **key != b"x:k").cloned().collect();
        let mut found = BTreeMap::new();
        for key in sets {
            let members = self.set(std::str::from_utf8(&key).unwrap());
            found.insert(key, members);
        }
        assert_eq!(found, wanted, "the sorted sets are not those of the memories");
        ids
    }
}

/// Texts one after the other, whatever bytes they have.
fn shown(texts: impl IntoIterator<Item = Vec<u8>>) -> String {
    let texts: Vec<_> = texts.into_iter().map(|text| text.escape_ascii().to_string()).collect();
    texts.join("\n")
}

pub(crate) fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).unwrap())
}

pub(crate) fn id(text: &str) -> MemoryId {
    MemoryId::new(text).unwrap()
}

pub(crate) fn time(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

/// An item of the user `u`.
pub(crate) fn item(name: &str, content: &str) -> MemoryItem {
    MemoryItem::new(id(name), content, time(NOW)).unwrap().with_user(UserId::new("u").unwrap())
}

pub(crate) fn put(item: MemoryItem, precondition: Precondition) -> Write {
    Write::put(item, Vectors::default(), precondition)
}

pub(crate) fn commit(writes: Vec<Write>) -> Commit {
    Commit::new(RandomIds.commit_id(), writes)
}

/// The revision of a receipt's first result.
pub(crate) fn revision(receipt: &CommitReceipt) -> Revision {
    receipt.results[0].revision.clone().unwrap()
}

/// Puts an item, whatever is there.
pub(crate) async fn put_one(
    store: &RedisStore,
    context: &CallContext,
    item: MemoryItem,
) -> Result<Revision> {
    use memory_core::traits::RecordStore as _;
    let receipt = store.commit(context, commit(vec![put(item, Precondition::Any)])).await?;
    Ok(revision(&receipt))
}

pub(crate) fn space(model: &str, dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new(model, "1", dimensions, Metric::Cosine).unwrap()
}

/// Declares a tenant's spaces, whatever they were, as they are stored: so does another process, of
/// which no store here knows.
pub(crate) async fn set_spaces(
    rig: &Rig,
    context: &CallContext,
    active: EmbeddingSpace,
    next: Option<EmbeddingSpace>,
) {
    let mut raw = rig.raw(context.tenant.as_str());
    let before = raw
        .hash("s")
        .remove("sv")
        .map_or(0, |digits| String::from_utf8(digits).unwrap().parse::<u64>().unwrap());
    let spaces = TenantSpaces { active: Some(active), next, version: before + 1 };
    let json = serde_json::to_string(&spaces).unwrap();
    let version = spaces.version.to_string();
    raw.run("HSET", "s", &[b"sv", version.as_bytes(), b"sp", json.as_bytes()]);
}

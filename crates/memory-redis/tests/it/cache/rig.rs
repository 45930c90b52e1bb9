//! A cache beside a plain connection to its server, and servers that a test starts for itself.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory_core::traits::{
    Cache as _, CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite, NoLedger,
};
use memory_core::{CallContext, IdSource as _, RandomIds, SystemClock, TenantId};
use memory_redis::{RedisCache, RedisParts, RedisSettings};
use redis::{Connection, FromRedisValue};
use serde_json::json;
use tempfile::TempDir;

/// The servers that the tests of this module run on.
pub(crate) const SERVERS: [&str; 4] = [
    "MEMORY_TEST_REDIS",
    "MEMORY_TEST_REDIS_PLAIN",
    "MEMORY_TEST_REDIS_OLD",
    "MEMORY_TEST_REDIS_CLUSTER",
];

/// The folder with `redis-server`.
const BINARIES: &str = "MEMORY_TEST_REDIS_BIN";

/// How long tests keep values that they want to find again.
pub(crate) const LIFE: Duration = Duration::from_mins(1);

/// The longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cache under a prefix of its own.
pub(crate) struct Rig {
    pub(crate) cache: Arc<RedisCache>,
    pub(crate) url: String,
    pub(crate) cluster: bool,
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
        Some(Self::at(&url, variable.ends_with("CLUSTER")).await)
    }

    pub(crate) async fn at(url: &str, cluster: bool) -> Self {
        let digits: String = RandomIds.commit_id().as_bytes()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let prefix = format!("t-{digits}");
        let cache = open(url, cluster, &prefix).await;
        Self { cache, url: url.to_owned(), cluster, prefix }
    }

    /// Another cache on the same keys: another process.
    pub(crate) async fn another(&self) -> Arc<RedisCache> {
        open(&self.url, self.cluster, &self.prefix).await
    }

    /// The key of a group of a tenant whose id needs no escape.
    pub(crate) fn key(&self, tenant: &str, group: &str) -> Vec<u8> {
        format!("{}:{{{tenant}}}:c:{group}", self.prefix).into_bytes()
    }

    /// Runs a command where its key lies: its name, the key, the other arguments.
    pub(crate) fn raw<T: FromRedisValue>(&self, name: &str, key: &[u8], args: &[&[u8]]) -> T {
        let mut command = redis::cmd(name);
        command.arg(key);
        for arg in args {
            command.arg(*arg);
        }
        match command.query(&mut connect(&self.url)) {
            Ok(answer) => answer,
            // The owner of a key says so when it is not this one.
            Err(error) => match error.redirect_node() {
                Some((address, _)) => {
                    command.query(&mut connect(&format!("redis://{address}"))).unwrap()
                }
                None => panic!("{name}: {error}"),
            },
        }
    }

    pub(crate) async fn read(&self, tenant: &CallContext, group: &str) -> CacheRead {
        one(self.cache.read(tenant, &[key(group)], LIFE).await.unwrap())
    }

    pub(crate) async fn fill(
        &self,
        tenant: &CallContext,
        group: &str,
        token: CacheToken,
        value: &[u8],
    ) -> bool {
        one(self.cache.fill(tenant, vec![fill(group, token, value)]).await.unwrap())
    }

    /// Reads a miss and keeps a value under its tokens.
    pub(crate) async fn put(&self, tenant: &CallContext, group: &str, value: &[u8]) {
        let token = miss(self.read(tenant, group).await);
        assert!(self.fill(tenant, group, token, value).await);
    }

    pub(crate) async fn begin(&self, tenant: &CallContext, groups: &[&str]) -> CacheWrite {
        self.cache.begin_write(tenant, names(groups), LIFE).await.unwrap()
    }

    pub(crate) async fn end(&self, tenant: &CallContext, write: &CacheWrite) {
        self.cache.end_write(tenant, write.clone(), LIFE).await.unwrap();
    }
}

pub(crate) async fn open(url: &str, cluster: bool, prefix: &str) -> Arc<RedisCache> {
    let settings: RedisSettings = serde_json::from_value(json!({
        "url": url, "cluster": cluster, "prefix": prefix,
        "connect_timeout_ms": 500, "response_timeout_ms": 500, "reconnect_pause_ms": 50,
    }))
    .unwrap();
    let parts = RedisParts::new(Arc::new(SystemClock::new()), Arc::new(NoLedger));
    RedisCache::open(settings, parts).await.unwrap()
}

pub(crate) fn connect(url: &str) -> Connection {
    redis::Client::open(url).unwrap().get_connection().unwrap()
}

pub(crate) fn tenant(name: &str) -> CallContext {
    CallContext::new(TenantId::new(name).unwrap())
}

/// The one entry of a group that most tests use.
pub(crate) fn key(group: &str) -> CacheKey {
    CacheKey { group: group.to_owned(), under: "all".to_owned(), entry: "1cpm".to_owned() }
}

pub(crate) fn fill(group: &str, token: CacheToken, value: &[u8]) -> CacheFill {
    CacheFill { key: key(group), token, value: value.to_vec() }
}

pub(crate) fn names(groups: &[&str]) -> Vec<String> {
    groups.iter().map(|group| (*group).to_owned()).collect()
}

pub(crate) fn one<T>(answers: Vec<T>) -> T {
    assert_eq!(answers.len(), 1);
    answers.into_iter().next().unwrap()
}

pub(crate) fn hit(value: &[u8]) -> CacheRead {
    CacheRead::Hit(value.to_vec())
}

#[track_caller]
pub(crate) fn miss(read: CacheRead) -> CacheToken {
    match read {
        CacheRead::Miss(token) => token,
        other => panic!("{other:?} where a miss was due"),
    }
}

#[expect(clippy::disallowed_methods, reason = "servers live by the machine's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks again and again until something holds.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A server of the test's own, which ends with it.
pub(crate) struct Server {
    child: Child,
    port: u16,
    args: Vec<String>,
    folder: TempDir,
}

impl Server {
    #[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
    pub(crate) fn new(args: &[&str]) -> Option<Self> {
        if std::env::var_os(BINARIES).is_none_or(|name| name.is_empty()) {
            eprintln!("SKIPPED: {BINARIES} names no folder");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let args = names(args);
        let child = start(port, &args, folder.path());
        let server = Self { child, port, args, folder };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it at once.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it on the same port, after it was killed.
    pub(crate) fn restart(&mut self) {
        self.child = start(self.port, &self.args, self.folder.path());
        self.wait();
    }

    /// Sends it a signal: `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn wait(&self) {
        let began = now();
        while redis::Client::open(self.url()).unwrap().get_connection().is_err() {
            assert!(began.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn start(port: u16, args: &[String], folder: &Path) -> Child {
    let binaries = std::env::var_os(BINARIES).unwrap();
    Command::new(Path::new(&binaries).join("redis-server"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "no", "--dir"])
        .arg(folder)
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that was stopped dies of this signal too; one that was killed is waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Servers of a test's own, on free ports of the loopback interface, ended by their ids.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::NoLedger;
use memory_core::{Clock as _, Result, SystemClock};
use memory_redis::{RedisParts, RedisSettings, RedisStore};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

/// The longest wait for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server that is ended with this.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    folder: TempDir,
    options: Vec<String>,
}

/// The folder of the binaries; `None`, said loudly, where none is named.
#[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
pub(crate) fn binaries() -> Option<PathBuf> {
    let folder = std::env::var_os("MEMORY_TEST_REDIS_BIN").filter(|name| !name.is_empty());
    if folder.is_none() {
        eprintln!("SKIPPED: MEMORY_TEST_REDIS_BIN names no folder");
    }
    folder.map(PathBuf::from)
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// A server with these options, answering; `None` where there is none to be started.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        binaries()?;
        let (port, folder) = (free_port(), TempDir::new().unwrap());
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(port, &folder, &options);
        let server = Self { child, port, folder, options };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options);
        self.wait();
    }

    /// Sends it a signal: `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Runs a command on a connection of its own; `None` where it does not answer.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> Option<T> {
        ask_at(&self.url(), words)
    }

    fn wait(&self) {
        // Whether it wants a password or not, it answers.
        until("a server that answers", || {
            let stream = std::net::TcpStream::connect(("127.0.0.1", self.port));
            stream.is_ok_and(|mut stream| {
                use std::io::{Read as _, Write as _};
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut first = [0];
                stream.write_all(b"PING\r\n").is_ok()
                    && stream.read(&mut first).is_ok_and(|read| read == 1)
            })
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, options: &[String]) -> Child {
    let binary = binaries().unwrap().join("redis-server");
    Command::new(binary)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
        .args(["--dir", folder.path().to_str().unwrap()])
        .args(options)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

pub(crate) fn ask_at<T: redis::FromRedisValue>(url: &str, words: &[&str]) -> Option<T> {
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_connection_with_timeout(Duration::from_secs(2)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut connection).ok()
}

/// Asks until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let clock = SystemClock::new();
    while !is_so() {
        assert!(clock.monotonic() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens a store with a second's patience.
pub(crate) async fn open(url: &str, more: Json) -> Result<Arc<RedisStore>> {
    let mut settings = json!({
        "url": url, "search": "off", "connect_timeout_ms": 500, "response_timeout_ms": 1_000,
        "reconnect_pause_ms": 100,
    });
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    let settings: RedisSettings = serde_json::from_value(settings).unwrap();
    let parts = RedisParts::new(Arc::new(SystemClock::new()), Arc::new(NoLedger));
    RedisStore::open(settings, parts).await
}

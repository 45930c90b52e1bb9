//! A Redis of the test's own, which ends with it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The folder with `redis-server`.
const BINARIES: &str = "MEMORY_TEST_REDIS_BIN";

/// The longest wait for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// A server without persistence; `None`, said loudly, where there is none to be started.
    pub(crate) fn new() -> Option<Self> {
        if std::env::var_os(BINARIES).is_none_or(|name| name.is_empty()) {
            eprintln!("SKIPPED: {BINARIES} names no folder");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = TempDir::new().unwrap();
        let child = start(port, folder.path());
        let server = Self { child, port, folder };
        server.wait();
        Some(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends a command of words without spaces, and returns the first line of the answer.
    pub(crate) fn say(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let (mut line, mut byte) = (Vec::new(), [0]);
        while stream.read(&mut byte).ok()? == 1 && byte != *b"\n" {
            line.extend(byte);
        }
        String::from_utf8(line).ok().filter(|line| !line.is_empty())
    }

    pub(crate) fn flush(&self) {
        assert_eq!(self.say("FLUSHALL").as_deref(), Some("+OK\r"));
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.child = start(self.port, self.folder.path());
        self.wait();
    }

    /// Sends it a signal: `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn wait(&self) {
        let began = now();
        while self.say("PING").as_deref() != Some("+PONG\r") {
            assert!(began.elapsed() < PATIENCE, "the server does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(port: u16, folder: &Path) -> Child {
    let binaries = std::env::var_os(BINARIES).unwrap();
    Command::new(Path::new(&binaries).join("redis-server"))
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[expect(clippy::disallowed_methods, reason = "servers live by the machine's time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

//! A server without memory for more: puts are refused whole, deletes make room.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use memory_core::traits::{RecordStore as _, RecordStoreExt as _};
use memory_core::{ErrorKind, IdempotencyKey, Outcome, Precondition, Write};
use tempfile::TempDir;

use super::rig::{Rig, commit, id, item, put, put_one, tenant};

/// The folder with `redis-server`.
const BINARIES: &str = "MEMORY_TEST_REDIS_BIN";

/// A server of the test's own, ended with it.
struct Server {
    child: Child,
    url: String,
    _folder: TempDir,
}

impl Server {
    #[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
    fn new(args: &[&str]) -> Option<Self> {
        let Some(binaries) = std::env::var_os(BINARIES).filter(|name| !name.is_empty()) else {
            eprintln!("SKIPPED: {BINARIES} names no folder");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(Path::new(&binaries).join("redis-server"))
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir")
            .arg(folder.path())
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, url: format!("redis://127.0.0.1:{port}"), _folder: folder };
        #[expect(clippy::disallowed_methods, reason = "the server's start has a deadline")]
        let (began, now) = (Instant::now(), Instant::now);
        while redis::Client::open(&*server.url).unwrap().get_connection().is_err() {
            assert!(now() - began < Duration::from_secs(20), "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_puts_whole_and_takes_deletes() {
    let Some(server) = Server::new(&["--maxmemory-policy", "noeviction"]) else { return };
    let rig = Rig::at(server.url.clone(), false).await;
    let (context, mut raw) = (tenant("t"), rig.raw("t"));
    for name in ["a", "b", "c"] {
        put_one(&rig.store, &context, item(name, &"x".repeat(10_000))).await.unwrap();
    }
    let limit = |raw: &mut super::rig::Raw, bytes: &str| {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("maxmemory").arg(bytes);
        command.exec(&mut raw.connection).unwrap();
    };
    limit(&mut raw, "1");
    let before = raw.dump();
    let key = || Some(IdempotencyKey::new("key", [1; 32]).unwrap());
    for writes in [
        vec![put(item("d", "x"), Precondition::Absent)],
        vec![put(item("a", "y"), Precondition::Any)],
        vec![Write::delete(id("a"), Precondition::Any), put(item("d", "x"), Precondition::Any)],
    ] {
        for key in [None, key()] {
            let refused = rig.store.commit(&context, commit(writes.clone()).with_idempotency(key));
            let error = refused.await.unwrap_err();
            assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
            assert!(
                [ErrorKind::Overloaded, ErrorKind::Unavailable].contains(&error.kind()),
                "{error}"
            );
            raw.assert_unchanged(&before);
        }
    }
    assert!(rig.store.fetch_one(&context, &id("a")).await.unwrap().is_some());
    let delete = |name: &str| vec![Write::delete(id(name), Precondition::Any)];
    rig.store.commit(&context, commit(delete("a"))).await.unwrap();
    rig.store.commit(&context, commit(delete("b")).with_idempotency(key())).await.unwrap();
    assert_eq!(raw.check(), ["c".to_owned()].into());
    assert!(
        rig.store
            .commit(&context, commit(delete("b")).with_idempotency(key()))
            .await
            .unwrap()
            .replayed
    );
    limit(&mut raw, "0");
    put_one(&rig.store, &context, item("d", "x")).await.unwrap();
    assert_eq!(raw.check(), ["c", "d"].map(str::to_owned).into());
}

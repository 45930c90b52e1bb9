//! The server is killed and comes back on the same port, having forgotten everything.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use memory_core::traits::{BulkWriter as _, NoObserver, RecordStore as _, RecordStoreExt as _};
use memory_core::{
    ErrorKind, Filter, IdSource as _, Outcome, Precondition, Query, RandomIds, SystemClock,
};
use memory_firestore::FirestoreSettings;
use tokio::task::JoinSet;

use super::rig::{PATIENCE, open, recovered, timed, within};
use crate::common::{add, commit, emulator, id, item, put, tenant};

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(10);
/// Callers while the server dies.
const CALLERS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_is_unavailable_and_the_store_recovers_by_itself() {
    if emulator().is_none() {
        return;
    }
    let Some(mut server) = Server::find() else { return };
    server.start().await;
    let mut settings = FirestoreSettings::new("restart");
    settings.emulator = Some(format!("127.0.0.1:{}", server.port));
    let clock = Arc::new(SystemClock::new());
    let store = open(&settings, &clock).await.unwrap();
    let context = tenant("t");
    add(&store, &context, item("before", "a memory")).await.unwrap();

    // It is killed under callers, each of which stops at its first error.
    let (acknowledged, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, clock, context) = (Arc::clone(&store), Arc::clone(&clock), context.clone());
        let (acknowledged, killed) = (Arc::clone(&acknowledged), Arc::clone(&killed));
        callers.spawn(async move {
            for n in 0.. {
                let context = within(&clock, &context, DEADLINE);
                let new = item(&format!("{caller}-{n}"), "a memory");
                let (added, took) = timed(&clock, add(&store, &context, new)).await;
                assert!(took < DEADLINE, "{took:?}");
                let Err(error) = added else {
                    acknowledged.fetch_add(1, Ordering::SeqCst);
                    continue;
                };
                assert!(killed.load(Ordering::SeqCst), "before the kill: {error:?}");
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                return;
            }
        });
    }
    super::rig::until("the callers are at work", || acknowledged.load(Ordering::SeqCst) > 50).await;
    killed.store(true, Ordering::SeqCst);
    server.kill();
    callers.join_all().await;

    // Now nobody is there: every call says so at once.
    let within = || within(&clock, &context, DEADLINE);
    let create = || put(item("after", "a memory"), Precondition::Absent);
    for _ in 0..3 {
        let unavailable = |kind: ErrorKind, took: Duration| {
            assert_eq!(kind, ErrorKind::Unavailable);
            assert!(took < DEADLINE, "{took:?}");
        };
        let (answer, took) = timed(&clock, store.fetch_one(&within(), &id("before"))).await;
        unavailable(answer.unwrap_err().kind(), took);
        let (answer, took) = timed(&clock, store.query(&within(), &Query::new(5))).await;
        unavailable(answer.unwrap_err().kind(), took);
        let (answer, took) = timed(&clock, store.count(&within(), &Filter::All)).await;
        unavailable(answer.unwrap_err().kind(), took);
        let (answer, took) = timed(&clock, store.commit(&within(), commit(vec![create()]))).await;
        let error = answer.unwrap_err();
        unavailable(error.kind(), took);
        assert_eq!(error.outcome(), Outcome::NotApplied, "nobody accepts: {error:?}");
        let deadline = within();
        let load =
            store.write_many(&deadline, RandomIds.commit_id(), vec![create()], false, &NoObserver);
        let (answer, took) = timed(&clock, load).await;
        unavailable(answer.unwrap().remove(0).unwrap_err().kind(), took);
    }

    server.start().await;
    recovered(&store, &context).await;
    // The server has forgotten the tenant; the store, which remembers it, finds that out.
    assert!(store.fetch_one(&context, &id("before")).await.unwrap().is_none());
    add(&store, &context, item("before", "another memory")).await.unwrap();
    let answers = store
        .write_many(&context, RandomIds.commit_id(), vec![create()], false, &NoObserver)
        .await
        .unwrap();
    assert!(answers[0].is_ok(), "{answers:?}");
    assert_eq!(store.query(&context, &Query::new(5)).await.unwrap().items.len(), 2);
    store.close().await.unwrap();
}

/// An emulator of the test's own.
struct Server {
    jar: PathBuf,
    java: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Finds the emulator's jar; `None`, said loudly, where there is none.
    #[expect(clippy::print_stderr, reason = "what is skipped is said loudly")]
    fn find() -> Option<Self> {
        const IN_SDK: &str = "platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = variable("ORCHESTRA_FIRESTORE_EMULATOR_JAR").map(PathBuf::from);
        let roots = ["CLOUDSDK_ROOT_DIR", "GOOGLE_CLOUD_SDK", "CLOUDSDK_ROOT"].map(variable);
        let roots = roots.into_iter().flatten().map(PathBuf::from);
        let home = variable("HOME").map(|home| PathBuf::from(home).join("google-cloud-sdk"));
        let roots = roots.chain([PathBuf::from("/usr/lib/google-cloud-sdk")]).chain(home);
        let jar =
            named.into_iter().chain(roots.map(|root| root.join(IN_SDK))).find(|jar| jar.is_file());
        let Some(jar) = jar else {
            assert!(
                variable("CI").is_none(),
                "no jar of the Firestore emulator: this test must run in CI; \
                 ORCHESTRA_FIRESTORE_EMULATOR_JAR names it"
            );
            eprintln!("SKIPPED: no jar of the Firestore emulator: no restart was tested");
            return None;
        };
        let home = variable("JAVA_HOME").map(|home| PathBuf::from(home).join("bin/java"));
        let java = home.filter(|java| java.is_file()).unwrap_or_else(|| "java".into());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a port").port();
        Some(Self { jar, java, port, child: None })
    }

    /// Starts it and waits until it answers.
    async fn start(&mut self) {
        let child = Command::new(&self.java)
            .args(["-Duser.language=en", "-Xmx512m", "-cp"])
            .arg(&self.jar)
            .arg("com.google.cloud.datastore.emulator.firestore.CloudFirestore")
            .args(["start", "--host=127.0.0.1", &format!("--port={}", self.port)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("java starts");
        self.child = Some(child);
        let port = self.port;
        let waiting = async {
            while !speaks_http(port).await {
                let child = self.child.as_mut().expect("it was started");
                let ended = child.try_wait().expect("a child of this process");
                assert!(ended.is_none(), "the emulator ended at once: {ended:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the emulator does not answer");
    }

    /// Kills it, by its pid, and waits for its end.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of this process");
            child.wait().expect("a child of this process");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a server of HTTP answers on a port of the loopback interface.
async fn speaks_http(port: u16) -> bool {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let ask = async {
        let mut stream = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
        let mut start = [0; 7];
        stream.read_exact(&mut start).await?;
        std::io::Result::Ok(&start == b"HTTP/1.")
    };
    let asked = tokio::time::timeout(Duration::from_secs(2), ask).await;
    asked.is_ok_and(|answer| answer.unwrap_or(false))
}

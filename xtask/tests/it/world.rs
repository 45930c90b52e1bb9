//! A folder with everything that the program takes for the machine around it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longer than anything here takes; whoever waits so long has failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// The emulator in the folder of a [`World`].
pub(crate) const JAR: &str = "sdk/platform/cloud-firestore-emulator/cloud-firestore-emulator.jar";

/// The variable with the arguments that the Java of [`World`] was called with.
const PRETEND: &str = "XTASK_TEST_JAVA";

/// Not a test by itself: called by the Java of [`World`], it answers as the emulator does.
#[test]
fn pretends_to_be_java() {
    let Ok(args) = std::env::var(PRETEND) else { return };
    let port = args.split(' ').find_map(|arg| arg.strip_prefix("--port=")).unwrap();
    assert!(args.contains("-Xmx3g") && args.contains("--host=127.0.0.1"), "{args}");
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 512]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nOk\n");
    }
}

/// A folder of its own for the program; processes that were started in it are ended with it.
pub(crate) struct World {
    folder: TempDir,
}

/// The variables of the servers of Redis.
pub(crate) const REDIS: [&str; 5] = [
    "MEMORY_TEST_REDIS",
    "MEMORY_TEST_REDIS_PLAIN",
    "MEMORY_TEST_REDIS_OLD",
    "MEMORY_TEST_REDIS_CLUSTER",
    "MEMORY_TEST_REDIS_BIN",
];

impl World {
    pub(crate) fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        let this = std::env::current_exe().unwrap();
        world.script("java/bin/java", &format!(
            "echo $$ >> '{}'\n{PRETEND}=\"$*\" exec '{}' --exact world::pretends_to_be_java --nocapture",
            world.path("java-pids").display(),
            this.display()
        ));
        let metadata = format!(
            r#"{{"workspace_members":[],"packages":[],"resolve":{{"nodes":[]}},"target_directory":"{}"}}"#,
            world.path("target").display()
        );
        // What it is called with beside these is a run of tests or a bench; the run that has to leak
        // does what the test that leaks would do.
        world.script(
            "cargo",
            &format!(
                "if [ -n \"$ORCHESTRA_MEMORY_TEST_LEAK\" ]; then\n\
             echo zqxcanarytext > \"$ORCHESTRA_MEMORY_TEST_TRACES/outputs.xml\"\n\
             echo zqxcanarytext > \"$ORCHESTRA_MEMORY_TEST_TRACES/1.trace\"\n\
             exit 0\nfi\n\
             case \"$1 $2\" in\n\
             'metadata '*) echo '{metadata}' ;;\n\
             'nextest --version') ;;\n\
             *) echo \"$1 $2: host=$FIRESTORE_EMULATOR_HOST why=$ORCHESTRA_FIRESTORE jar=$ORCHESTRA_FIRESTORE_EMULATOR_JAR\" >> '{}'\n\
             if [ -n \"$PRETEND_HANG\" ]; then exec sleep 600; fi\n\
             echo 'Summary [ 0.1s] 7 tests run: 7 passed, 0 skipped'\n\
             exit ${{PRETEND_CODE:-0}} ;;\n\
             esac",
                world.path("runs").display()
            ),
        );
        for file in [JAR, "benches/benches/firestore.rs", "xtask/x", "empty/x"] {
            fs::create_dir_all(world.path(file).parent().unwrap()).unwrap();
            fs::write(world.path(file), "").unwrap();
        }
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of a few lines.
    pub(crate) fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The program, where nothing of the person's own counts.
    pub(crate) fn xtask(&self, args: &[&str]) -> Command {
        // A shell may have kept the interrupt from what it started in the background.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_xtask")]).args(args);
        for name in [
            "CI",
            "FIRESTORE_EMULATOR_HOST",
            "ORCHESTRA_FIRESTORE",
            "ORCHESTRA_FIRESTORE_EMULATOR_JAR",
        ] {
            command.env_remove(name);
        }
        command
            .env("CARGO", self.path("cargo"))
            .env("CARGO_MANIFEST_DIR", self.path("xtask"))
            .env("JAVA_HOME", self.path("java"))
            .env("CLOUDSDK_ROOT_DIR", self.path("sdk"))
            .env("ORCHESTRA_MEMORY_TEST_MODEL", self.path("model"))
            // Servers that are given, so that none is fetched and started.
            .envs(REDIS.map(|name| (name, "redis://127.0.0.1:1")))
            .stdin(Stdio::null());
        command
    }

    /// Where no Java is installed.
    pub(crate) fn xtask_without_java(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let like = self.xtask(&[]);
        for (name, value) in like.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(args).env_remove("JAVA_HOME").env("PATH", self.path("empty"));
        command
    }

    /// Starts the program as the leader of a group of processes, as a terminal does.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let output = fs::File::create(self.path("output")).unwrap();
        command.process_group(0).stdout(output.try_clone().unwrap()).stderr(output);
        command.spawn().unwrap()
    }

    /// The runs of tests and benches so far, a line each.
    pub(crate) fn runs(&self) -> Vec<String> {
        lines(&self.path("runs"))
    }

    /// The processes that Java was started as, so far.
    pub(crate) fn java(&self) -> Vec<u32> {
        lines(&self.path("java-pids")).iter().map(|line| line.parse().unwrap()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // None is left where a test passes, so that no number can have gone to another process.
        for pid in self.java().into_iter().filter(|pid| runs(*pid)) {
            signal("KILL", &pid.to_string());
        }
    }
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Whether a process runs.
pub(crate) fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Sends a signal to a process, or to a group by its number with a minus before it.
pub(crate) fn signal(name: &str, target: &str) {
    let script = "kill -s \"$1\" -- \"$2\"";
    let sent = Command::new("sh").args(["-c", script, "sh", name, target]).status().unwrap();
    assert!(sent.success(), "{name} {target}");
}

/// Waits until something holds.
#[expect(clippy::disallowed_methods, reason = "processes of the machine run on its clock")]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < DEADLINE, "it takes too long: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the program has said, on both of its outputs, and whether it was content.
pub(crate) fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Runs a command that has to succeed, and gives back what it has said.
pub(crate) fn succeed(command: &mut Command) -> String {
    let (success, text) = said(&command.output().unwrap());
    assert!(success, "{text}");
    text
}

/// Runs a command that has to fail, and gives back what it has said.
pub(crate) fn fail(command: &mut Command) -> String {
    let (success, text) = said(&command.output().unwrap());
    assert!(!success, "{text}");
    text
}

/// Whether somebody listens there.
pub(crate) fn listens(host: &str) -> bool {
    TcpStream::connect(host).is_ok()
}

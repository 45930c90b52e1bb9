//! A temporary folder with a store, and the program run in it.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The variable that names a folder with the real model's files.
const TEST_MODEL: &str = "ORCHESTRA_MEMORY_TEST_MODEL";

/// The variables by which an emulator and credentials of Google's services are found.
const CLOUD: [&str; 6] = [
    "FIRESTORE_EMULATOR_HOST",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_QUOTA_PROJECT",
    "CLOUDSDK_CONFIG",
    "GCE_METADATA_HOST",
    "ORCHESTRA_GOOGLE_KEY",
];

/// The file of [`World::settings`].
const SETTINGS: &str = "world.toml";

/// A folder of its own, seen by no other test and by none of the person's settings.
pub(crate) struct World {
    folder: TempDir,
    /// The folder of the model's files that the program is told of.
    model: Option<PathBuf>,
}

/// The folder of the real model's files, or a loud word that the test is skipped.
///
/// `cargo xtask test` names it. In CI a test that needs it and does not have it fails.
pub(crate) fn real_model() -> Option<PathBuf> {
    let folder = std::env::var_os(TEST_MODEL).map(PathBuf::from);
    if folder.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{TEST_MODEL} must be set in CI");
        eprintln!("SKIPPED: {TEST_MODEL} is not set; `cargo xtask test` sets it");
    }
    folder
}

/// What a run of the program gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), model: None }
    }

    /// A world where the real model is at hand; `None`, said aloud, if it is not.
    pub(crate) fn with_model() -> Option<Self> {
        let folder = real_model()?;
        Some(Self { model: Some(folder), ..Self::new() })
    }

    /// Takes the model away from the program, and says where it is.
    pub(crate) fn take_model(&mut self) -> PathBuf {
        self.model.take().unwrap()
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes the settings that every command of this world reads from then on.
    pub(crate) fn settings(&self, toml: impl AsRef<[u8]>) {
        self.file(SETTINGS, toml);
    }

    /// The program with the folder's store, not yet run.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orchestra-memory"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("ORCHESTRA_MEMORY") {
                command.env_remove(name);
            }
        }
        for name in CLOUD {
            command.env_remove(name);
        }
        command
            .current_dir(self.folder.path())
            .env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            .env("HOME", self.folder.path())
            .env("XDG_DATA_HOME", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("ORCHESTRA_MEMORY_STORE", "memory.db")
            .stdin(Stdio::null())
            .args(args);
        if self.path(SETTINGS).exists() {
            command.env("ORCHESTRA_MEMORY_CONFIG", SETTINGS);
        }
        if let Some(model) = &self.model {
            command.env("ORCHESTRA_MEMORY_MODEL_DIR", model);
        }
        command
    }

    /// Runs it.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        finish(self.command(args), None)
    }

    /// Runs it with variables of the environment.
    pub(crate) fn run_in(&self, args: &[&str], variables: &[(&str, &str)]) -> Run {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        finish(command, None)
    }

    /// Starts it with variables of the environment, and pipes for what it writes.
    pub(crate) fn start(&self, args: &[&str], variables: &[(&str, &str)]) -> Child {
        let mut command = self.command(args);
        command.envs(variables.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs it with a text on standard input.
    pub(crate) fn run_with(&self, args: &[&str], input: impl Into<Vec<u8>>) -> Run {
        finish(self.command(args), Some(input.into()))
    }

    /// Runs it with `--json`, expects success, and reads every line.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        // In front, for behind `--` everything is an argument.
        let run = self.run(&[&["--json"], args].concat());
        assert_eq!(run.code, 0, "{args:?}: {run:?}");
        assert!(run.err.is_empty(), "{args:?}: {run:?}");
        run.lines()
    }

    /// As [`World::json`], with one line.
    pub(crate) fn object(&self, args: &[&str]) -> Value {
        let mut lines = self.json(args);
        assert_eq!(lines.len(), 1, "{args:?}: {lines:?}");
        lines.remove(0)
    }

    /// Runs it with `--json`, expects an exit code, and gives the error of standard error.
    pub(crate) fn error<S: AsRef<OsStr>>(&self, args: &[S], code: i32) -> Value {
        let mut args: Vec<&OsStr> = args.iter().map(AsRef::as_ref).collect();
        args.insert(0, OsStr::new("--json"));
        let run = self.run(&args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        run.error()
    }

    /// Adds a memory of the user `u`.
    pub(crate) fn add(&self, id: &str, text: &str) {
        self.object(&["add", text, "--user", "u", "--id", id]);
    }

    /// Visible memories of the tenant `default`.
    pub(crate) fn count(&self) -> u64 {
        self.object(&["stats"])["tenant_stats"]["items"].as_u64().unwrap()
    }

    /// Memories of the tenant `default` with a vector, and those without.
    pub(crate) fn vectors(&self) -> (u64, u64) {
        let stats = self.object(&["stats"]);
        let number = |value: &Value| value.as_u64().unwrap();
        (number(&stats["tenant_stats"]["embedded"]), number(&stats["embedding"]["missing"]))
    }

    /// The ids that `list` gives, oldest first.
    pub(crate) fn ids(&self) -> Vec<String> {
        let lines = self.json(&["list", "--order", "oldest", "--limit", "1000"]);
        let ids = lines.iter().filter_map(|line| line["id"].as_str());
        ids.map(str::to_owned).collect()
    }
}

/// Waits until something is so: a minute at the longest.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{what}: a minute is over");
}

/// Sends Ctrl-C to a program that was started.
#[cfg(unix)]
pub(crate) fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status().unwrap();
    assert!(sent.success());
}

/// Waits for a program that was started.
pub(crate) fn wait(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Run {
    /// Standard output, a JSON object a line.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let read = |line: &str| -> Value {
            let value = serde_json::from_str(line);
            value.unwrap_or_else(|error| panic!("{error} in {line}: {self:?}"))
        };
        self.out.lines().map(read).collect()
    }

    /// The one error object of standard error.
    pub(crate) fn error(&self) -> Value {
        let mut object: Value = serde_json::from_str(self.err.trim_end())
            .unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert_eq!(object.as_object().unwrap().len(), 1);
        object["error"].take()
    }
}

fn finish(mut command: Command, input: Option<Vec<u8>>) -> Run {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let writer = input.map(|input| {
        let mut stdin = child.stdin.take().unwrap();
        // The program may end before it has read everything.
        std::thread::spawn(move || drop(stdin.write_all(&input)))
    });
    let run = wait(child);
    if let Some(writer) = writer {
        writer.join().unwrap();
    }
    run
}

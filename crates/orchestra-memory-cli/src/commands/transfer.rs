//! `import` and `export`: memories as JSON lines, and texts that become memories.

use std::error::Error as _;
use std::io::{self, Write as _};
use std::path::Path;

use orchestra_memory::{
    AgentId, BadLine, Callback, EmbedWhen, Error, ExportOptions, ExportReport, ImportFormat,
    ImportOptions, ImportReport, Memory, SplitOptions, TenantMemory, UserId, is_refused_by_space,
};
use serde_json::json;
use tempfile::NamedTempFile;

use super::write::{MAKES_UP, on_conflict};
use crate::app::{App, Places, utf8};
use crate::args::{Export, Format, Import};
use crate::failure::{Failure, Result, describe};
use crate::output::complain;
use crate::progress::Progress;
use crate::{human, lines, scope};

/// Extensions of files that hold a text rather than JSON lines.
const TEXT_EXTENSIONS: [&str; 3] = ["txt", "md", "markdown"];

/// `import`.
pub(crate) async fn import(
    app: &mut App,
    places: &Places,
    memory: &Memory,
    tenant: &TenantMemory,
    import: &Import,
) -> Result<()> {
    let (reader, size) = lines::open(&import.file)?;
    let progress = Progress::new(&app.output, "importing", size);
    // Until the first batch has been read.
    progress.message("reading".to_owned());
    let embeds = memory.embedder().is_some() && places.settings.embedding.when == EmbedWhen::Write;
    let options = import_options(app, import, embeds, &progress)?;
    let report = tenant.import(reader, options).await;
    progress.finish();
    // What went in has gone in, whoever reads the summary: a closed pipe is the least of the news.
    let shown = show_import(app, &report);
    let refused = refused(&report);
    let ImportReport { stopped, lines, bad, cancelled, .. } = report;
    match (stopped, cancelled, bad) {
        (Some(error), ..) => Err(error.into()),
        (None, true, _) => Err(Failure::Interrupted(format!(
            "interrupted after line {lines}: import it again to go on"
        ))),
        (None, false, 0) => shown,
        (None, false, _) => Err(Failure::Partial(refused)),
    }
}

/// How many memories the lines made up, a bad line for one; `None` where each line was one.
fn memories(report: &ImportReport) -> Option<u64> {
    let memories = counted(report);
    (memories + report.blank > report.lines).then_some(memories)
}

/// All that a report counts beside blank lines.
fn counted(report: &ImportReport) -> u64 {
    let written = report.added + report.replaced;
    let known = report.unchanged + report.skipped + report.erased;
    written + known + report.bad + report.pending
}

/// What was not taken, and of how many.
fn refused(report: &ImportReport) -> String {
    let all = match memories(report) {
        // A line that was split is counted with each of its parts.
        Some(memories) => human::count(memories, "memory", "memories"),
        None => human::count(report.lines, "line", "lines"),
    };
    format!("{} of {all} could not be taken", human::grouped(report.bad))
}

/// `embeds`: what is read is embedded before it is written.
fn import_options(
    app: &App,
    import: &Import,
    embeds: bool,
    progress: &Progress,
) -> Result<ImportOptions> {
    let name = match &import.source {
        Some(name) => name.clone(),
        None => import.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let mut options = ImportOptions::new(name)
        .with_format(format(import))
        .with_split(split(import))
        .with_on_conflict(on_conflict(import.if_exists))
        .with_include_erased(import.include_erased)
        .with_cancel(app.cancel.clone());
    if let Some(size) = import.batch_size {
        options = options.with_batch_size(size);
    }
    if let Some(user) = &import.user {
        options = options.with_default_user(UserId::new(user)?);
    }
    if let Some(agent) = &import.agent {
        options = options.with_default_agent(AgentId::new(agent)?);
    }
    let (json, bar) = (app.output.is_json(), progress.clone());
    options = options.with_on_bad_line(Callback::new(move |bad: &BadLine| {
        bar.aside(|| tell_bad_line(bad, json));
    }));
    let bar = progress.clone();
    Ok(options.with_progress(Callback::new(move |so_far: &ImportReport| {
        bar.done(written_bytes(so_far));
        bar.message(how_far(so_far.lines, so_far.pending, embeds));
    })))
}

/// How much of what was read is written, in bytes: by the share of the memories.
fn written_bytes(report: &ImportReport) -> u64 {
    let read = u128::from(counted(report));
    if read == 0 {
        return report.bytes;
    }
    let bytes = u128::from(report.bytes) * (read - u128::from(report.pending)) / read;
    u64::try_from(bytes).unwrap_or(report.bytes)
}

/// How far an import is: what was read, and what of it is on its way.
fn how_far(lines: u64, pending: u64, embeds: bool) -> String {
    let lines = human::count(lines, "line", "lines");
    let memories = human::count(pending, "memory", "memories");
    match (pending, embeds) {
        (0, _) => lines,
        (_, true) => format!("{lines}, embedding and writing {memories}"),
        (_, false) => format!("{lines}, writing {memories}"),
    }
}

/// How the input is written: as was said, or by the file's extension.
fn format(import: &Import) -> ImportFormat {
    let format = import.format.unwrap_or_else(|| {
        let extension = import.file.extension().and_then(|extension| extension.to_str());
        let is_text = extension.is_some_and(|extension| {
            TEXT_EXTENSIONS.iter().any(|text| extension.eq_ignore_ascii_case(text))
        });
        if is_text { Format::Text } else { Format::Jsonl }
    });
    match format {
        Format::Jsonl => ImportFormat::JsonLines,
        Format::Text => ImportFormat::Text,
    }
}

/// Whether and how long texts are split.
fn split(import: &Import) -> Option<SplitOptions> {
    let usual = SplitOptions::default();
    match import.split_tokens.map(usize::from) {
        // As far above its target as the usual limit is above the usual target.
        Some(target) => {
            let max_tokens = target * usual.max_tokens / usual.target_tokens;
            Some(SplitOptions { target_tokens: target, max_tokens })
        }
        None => import.split.then_some(usual),
    }
}

/// Reports a line that was not taken, at once: there may be too many to keep.
fn tell_bad_line(bad: &BadLine, json: bool) {
    if json {
        let line = json!({ "line": bad.line, "error": describe(&bad.error) });
        // Whether anybody reads it must not decide what goes in.
        let _ = writeln!(io::stdout(), "{line}");
    } else {
        // Of a line that was split, which part.
        let id = bad.error.context().iter().find(|(key, _)| *key == "id");
        let id = id.map(|(_, id)| format!(", {}", human::one_line(id))).unwrap_or_default();
        complain(&format!("line {}{id}: {}", bad.line, human::one_line(bad.error.message())));
    }
}

fn show_import(app: &mut App, report: &ImportReport) -> Result<()> {
    if app.output.is_json() {
        return app.output.json(&json!({ "import": {
            "lines": report.lines,
            "bytes": report.bytes,
            "blank": report.blank,
            "added": report.added,
            "replaced": report.replaced,
            "unchanged": report.unchanged,
            "skipped": report.skipped,
            "erased": report.erased,
            "bad": report.bad,
            "pending": report.pending,
            "removed": report.removed,
            "without_vector": report.without_vector,
            "cancelled": report.cancelled,
        } }));
    }
    let counts = [
        (report.added, "added"),
        (report.replaced, "replaced"),
        (report.unchanged, "there already"),
        (report.skipped, "skipped"),
        (report.erased, "erased here before"),
        (report.bad, "bad"),
        (report.blank, "blank"),
        (report.pending, "not written"),
        (report.removed, "left over and removed"),
    ];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", human::grouped(*number)))
        .collect();
    let mut lines = human::count(report.lines, "line", "lines");
    if let Some(memories) = memories(report) {
        lines.push_str(&format!(" as {}", human::count(memories, "memory", "memories")));
    }
    let counts = if counts.is_empty() { "nothing in it".to_owned() } else { counts.join(", ") };
    app.output.note(format!("{lines}: {counts}"))?;
    if report.without_vector > 0 {
        let memories = match report.without_vector {
            1 => "1 memory has".to_owned(),
            number => format!("{} memories have", human::grouped(number)),
        };
        let text = match &report.without_vector_reason {
            // The embedder has no part in the tenant's vectors.
            Some(error) if is_refused_by_space(error) => error.message().to_owned(),
            Some(error) => format!("{}; {MAKES_UP}", error.message()),
            None => MAKES_UP.to_owned(),
        };
        let text = format!("note: {memories} no vector: {}", human::one_line(&text));
        app.output.note(app.output.style().dim(&text))?;
    }
    Ok(())
}

/// `export`.
pub(crate) async fn export(app: &mut App, tenant: &TenantMemory, export: &Export) -> Result<()> {
    let filter = scope::filter(&export.scope, app.now())?;
    let file = export.output.as_deref().filter(|path| path.as_os_str() != "-");
    let progress = Progress::new(&app.output, "exporting", None);
    let bar = progress.clone();
    let options = ExportOptions::new()
        .with_filter(filter)
        .with_vectors(export.with_vectors)
        .with_cancel(app.cancel.clone())
        .with_progress(Callback::new(move |so_far: &ExportReport| {
            bar.message(human::count(so_far.items, "memory", "memories"));
        }));
    let report = match file {
        Some(path) => into_file(tenant, options, path).await,
        None => tenant.export(app.output.writer(), options).await.map_err(unwritable),
    };
    progress.finish();
    let report = report?;
    if report.cancelled {
        return Err(Failure::Interrupted("interrupted: the export is not whole".to_owned()));
    }
    match file {
        Some(path) if app.output.is_json() => app.output.json(&json!({ "export": {
            "items": report.items,
            "vectors": report.vectors,
            "bytes": report.bytes,
            "output": utf8(path)?,
        } })),
        Some(path) => {
            let count = human::count(report.items, "memory", "memories");
            app.output.note(format!("exported {count} to {}", path.display()))
        }
        None => Ok(()),
    }
}

/// Exports into a new file that takes the place of the old one when it is whole and on the disk.
async fn into_file(
    tenant: &TenantMemory,
    options: ExportOptions,
    path: &Path,
) -> Result<ExportReport> {
    let failed = |error| Failure::file(&path.display().to_string(), error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if path.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display())));
    }
    let mut file = io::BufWriter::new(NamedTempFile::new_in(folder).map_err(failed)?);
    let report = tenant.export(&mut file, options).await.map_err(unwritable)?;
    if report.cancelled {
        return Ok(report);
    }
    let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(report)
}

/// An export's error: a target that cannot be written is told by its cause.
fn unwritable(error: Error) -> Failure {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match cause.map(io::Error::kind) {
        Some(io::ErrorKind::BrokenPipe) => Failure::ClosedPipe,
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(args: &[&str]) -> Import {
        use clap::Parser as _;
        let args = [&["orchestra-memory", "import"], args].concat();
        match crate::args::Cli::try_parse_from(args).unwrap().command {
            crate::args::Command::Import(import) => import,
            _ => panic!("another command"),
        }
    }

    #[test]
    fn the_extension_decides_unless_the_format_is_given() {
        use ImportFormat::{JsonLines, Text};
        for (args, expected) in [
            (&["a.jsonl"][..], JsonLines),
            (&["a"], JsonLines),
            (&["-"], JsonLines),
            (&["txt"], JsonLines),
            (&["a.txt"], Text),
            (&["dir.md/a.MD"], Text),
            (&["a.b.markdown"], Text),
            (&["a.md", "--format", "jsonl"], JsonLines),
            (&["-", "--format", "text"], Text),
        ] {
            assert_eq!(format(&import(args)), expected, "{args:?}");
        }
    }

    #[test]
    fn a_target_implies_a_split_and_its_limit() {
        assert_eq!(split(&import(&["a"])), None);
        assert_eq!(split(&import(&["a", "--split"])), Some(SplitOptions::default()));
        let tokens = |n: &str| split(&import(&["a", "--split-tokens", n])).unwrap();
        assert_eq!(tokens("180"), SplitOptions::default());
        assert_eq!((tokens("16").target_tokens, tokens("16").max_tokens), (16, 21));
        assert_eq!(tokens("8192").max_tokens, 10_922);
    }

    #[test]
    fn parts_of_lines_are_counted_as_what_they_are() {
        let report = |lines, added, bad, blank| {
            let mut report = ImportReport::default();
            (report.lines, report.added) = (lines, added);
            (report.bad, report.blank) = (bad, blank);
            report
        };
        let text = |report: ImportReport| refused(&report);
        assert_eq!(text(report(12, 2, 9, 1)), "9 of 12 lines could not be taken");
        assert_eq!(text(report(1, 2, 24, 0)), "24 of 26 memories could not be taken");
        assert_eq!(memories(&report(12, 2, 9, 1)), None);
        assert_eq!(memories(&report(2, 26, 0, 1)), Some(26));
        assert_eq!(how_far(1_000, 0, true), "1,000 lines");
        assert_eq!(how_far(1_000, 1, false), "1,000 lines, writing 1 memory");
        assert_eq!(how_far(1_000, 500, true), "1,000 lines, embedding and writing 500 memories");
    }

    #[test]
    fn what_is_not_written_yet_is_no_progress() {
        let bytes = |added, pending| {
            let mut report = ImportReport::default();
            (report.bytes, report.added, report.pending) = (4_000, added, pending);
            written_bytes(&report)
        };
        assert_eq!((bytes(0, 500), bytes(500, 500), bytes(500, 0)), (0, 2_000, 4_000));
        assert_eq!(bytes(0, 0), 4_000, "blank lines are done with");
    }

    #[test]
    fn a_closed_pipe_is_found_under_the_export_error() {
        let error = |kind: io::ErrorKind| Error::invalid("x").with_source(io::Error::from(kind));
        assert!(matches!(unwritable(error(io::ErrorKind::BrokenPipe)), Failure::ClosedPipe));
        assert_eq!(unwritable(error(io::ErrorKind::StorageFull)).exit_code(), 2);
        assert_eq!(unwritable(Error::invalid("x")).exit_code(), 2);
    }
}

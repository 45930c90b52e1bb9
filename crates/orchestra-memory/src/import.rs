//! Import: JSON lines into a tenant's memories, as often as it takes.
//!
//! One JSON object a line, with the keys of [`KEYS`](line::KEYS); all but `content` and one of
//! `user_id` and `agent_id` may be left out. A line without `id` gets one that is derived from the
//! source's name, the line's number and its content, so that the same file, imported again, finds
//! what is there. Each memory is added at most once; an interrupted import is resumed by starting
//! it anew.
//!
//! | file | what it holds |
//! |---|---|
//! | `reader` | lines of bounded length |
//! | `line` | a line to a memory |

mod line;
mod reader;

use std::io::BufRead;

use memory_core::limits::COMMIT_BYTES;
use memory_core::{AgentId, Error, ErrorKind, Result, UserId};

use crate::new_memory::NewMemory;
use crate::notify::{Callback, CancelFlag, is_cancelled};
use crate::options::{ItemOutcome, OnConflict};
use crate::tenant::{BatchPolicy, TenantMemory, check_batch_size};
use line::read_line;
use reader::{Line, LineReader};

/// Most lines read between two looks at the flag: about a tenth of a second of short ones.
const LINES_BETWEEN_LOOKS: u64 = 100_000;

/// How an import is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The source's name, from which ids are derived for lines that have none: the file's name,
    /// say. The same source must have the same name when it is imported again.
    pub source: String,
    /// Memories of one commit, 1 to 1,000; when `None`, the setting `import.batch_size` (500).
    pub batch_size: Option<usize>,
    /// What happens when the id is there with another text; with the same text the line counts as
    /// unchanged, but for [`OnConflict::Replace`], which replaces it. Fail unless set: the line is
    /// then a bad one.
    pub on_conflict: OnConflict,
    /// Whether memories that were erased here are brought back. No unless set.
    pub include_erased: bool,
    /// The user of lines that have neither user nor agent.
    pub default_user: Option<UserId>,
    /// The agent of lines that have neither user nor agent.
    pub default_agent: Option<AgentId>,
    /// Told of each bad line, in the order in which they are found.
    pub on_bad_line: Option<Callback<BadLine>>,
    /// Told after each batch.
    pub progress: Option<Callback<ImportReport>>,
    /// Looked at before each batch.
    pub cancel: Option<CancelFlag>,
}

impl ImportOptions {
    /// The defaults, for a source of this name.
    #[must_use]
    pub fn new(source: impl Into<String>) -> Self {
        Self {
            source: source.into(),
            batch_size: None,
            on_conflict: OnConflict::Fail,
            include_erased: false,
            default_user: None,
            default_agent: None,
            on_bad_line: None,
            progress: None,
            cancel: None,
        }
    }

    /// Sets how many memories one commit has.
    #[must_use]
    pub fn with_batch_size(mut self, memories: usize) -> Self {
        self.batch_size = Some(memories);
        self
    }

    /// Sets what happens when the id is there with another text.
    #[must_use]
    pub fn with_on_conflict(mut self, on_conflict: OnConflict) -> Self {
        self.on_conflict = on_conflict;
        self
    }

    /// Sets whether memories that were erased here are brought back.
    #[must_use]
    pub fn with_include_erased(mut self, include: bool) -> Self {
        self.include_erased = include;
        self
    }

    /// Sets the user of lines that have neither user nor agent.
    #[must_use]
    pub fn with_default_user(mut self, user: UserId) -> Self {
        self.default_user = Some(user);
        self
    }

    /// Sets the agent of lines that have neither user nor agent.
    #[must_use]
    pub fn with_default_agent(mut self, agent: AgentId) -> Self {
        self.default_agent = Some(agent);
        self
    }

    /// Sets what is told of each bad line.
    #[must_use]
    pub fn with_on_bad_line(mut self, told: Callback<BadLine>) -> Self {
        self.on_bad_line = Some(told);
        self
    }

    /// Sets what is told after each batch.
    #[must_use]
    pub fn with_progress(mut self, progress: Callback<ImportReport>) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Sets the flag that stops the import before the next batch.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelFlag) -> Self {
        self.cancel = Some(cancel);
        self
    }
}

/// A line that was not taken, and why.
#[derive(Debug)]
#[non_exhaustive]
pub struct BadLine {
    /// Its number, from 1.
    pub line: u64,
    /// Why. Names fields and sizes, never what the line says.
    pub error: Error,
}

/// What an import did. Every line that was read is counted once beside `lines`.
#[derive(Debug, Default)]
#[must_use = "bad lines and a stop are reported here and nowhere else"]
#[non_exhaustive]
pub struct ImportReport {
    /// Lines read.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Blank lines.
    pub blank: u64,
    /// Memories added.
    pub added: u64,
    /// Memories that took the place of another, under [`OnConflict::Replace`].
    pub replaced: u64,
    /// Lines whose memory was there already, with the same text.
    pub unchanged: u64,
    /// Lines whose id was there with another text, under [`OnConflict::Skip`].
    pub skipped: u64,
    /// Lines whose memory was erased here and stays so.
    pub erased: u64,
    /// Lines that were not taken.
    pub bad: u64,
    /// The first of those, by number; as many as the setting `import.bad_lines_kept` (100).
    pub bad_lines: Vec<BadLine>,
    /// Lines read whose batch was not written, because the flag or a fault of the store stopped
    /// it, or whose commit's outcome is unknown. Importing again takes them.
    pub pending: u64,
    /// Whether the caller's flag stopped it.
    pub cancelled: bool,
    /// The fault of the store or of the source that stopped it.
    pub stopped: Option<Error>,
}

impl TenantMemory {
    /// Imports JSON lines. See the fields of [`ImportOptions`] and [`ImportReport`].
    ///
    /// Bad lines are reported by number while the good ones go in; a line that is longer than the
    /// setting `import.line_bytes` (8 MiB) is one, and is passed over without being held. A byte
    /// order mark before the first line is no part of it.
    ///
    /// The reader is read on the caller's task: it blocks for as long as the source does.
    ///
    /// # Cancellation
    /// A future that is dropped loses the report; batches committed before stay. The flag of the
    /// options stops it with a report.
    pub async fn import<R>(&self, source: R, options: ImportOptions) -> ImportReport
    where
        R: BufRead + Send,
    {
        let mut report = ImportReport::default();
        if let Err(error) = self.run_import(source, &options, &mut report).await {
            report.stopped = Some(error);
        }
        report.bad_lines.sort_by_key(|bad| bad.line);
        report
    }

    async fn run_import<R>(
        &self,
        source: R,
        options: &ImportOptions,
        report: &mut ImportReport,
    ) -> Result<()>
    where
        R: BufRead + Send,
    {
        let settings = &self.inner().settings.import;
        let size = options.batch_size.unwrap_or(settings.batch_size);
        check_batch_size(size)?;
        let policy = BatchPolicy {
            on_conflict: options.on_conflict,
            same_is_unchanged: true,
            keep_erased: !options.include_erased,
            timeout: None,
        };
        let kept = settings.bad_lines_kept;
        let mut lines = LineReader::new(source, settings.line_bytes);
        let mut ended = false;
        while !ended {
            if is_cancelled(options.cancel.as_ref()) {
                report.cancelled = true;
                return Ok(());
            }
            let mut batch: Vec<(u64, NewMemory)> = Vec::with_capacity(size);
            let mut bytes = 0;
            // A file of blank or bad lines fills no batch; the flag is looked at all the same.
            let last = report.lines + LINES_BETWEEN_LOOKS;
            while batch.len() < size && bytes < COMMIT_BYTES && report.lines < last {
                let line = match lines.next_line() {
                    Ok(Some(line)) => line,
                    Ok(None) => {
                        ended = true;
                        break;
                    }
                    Err(error) => {
                        report.pending += batch.len() as u64;
                        return Err(source_error(error));
                    }
                };
                report.lines += 1;
                let read = match line {
                    Line::Blank => None,
                    Line::TooLong { bytes } => Some(Err(Error::invalid(format!(
                        "the line has {bytes} bytes; the limit is {}",
                        settings.line_bytes
                    )))),
                    Line::Text(text) => {
                        bytes += text.len();
                        Some(read_line(text, report.lines, options))
                    }
                };
                report.bytes = lines.bytes();
                match read {
                    Some(Ok(memory)) => batch.push((report.lines, memory)),
                    Some(Err(error)) => note_bad(report, options, kept, report.lines, error),
                    None => report.blank += 1,
                }
            }
            if batch.is_empty() && ended {
                break;
            }
            self.import_batch(batch, &policy, options, kept, report).await?;
        }
        Ok(())
    }

    async fn import_batch(
        &self,
        batch: Vec<(u64, NewMemory)>,
        policy: &BatchPolicy,
        options: &ImportOptions,
        kept: usize,
        report: &mut ImportReport,
    ) -> Result<()> {
        let (numbers, memories): (Vec<u64>, Vec<NewMemory>) = batch.into_iter().unzip();
        let result = self.add_batch(memories, policy).await;
        for (number, outcome) in numbers.into_iter().zip(result.outcomes) {
            match outcome {
                ItemOutcome::Added(_) => report.added += 1,
                ItemOutcome::Replaced(_) => report.replaced += 1,
                ItemOutcome::Unchanged(_) => report.unchanged += 1,
                ItemOutcome::Skipped(_) => report.skipped += 1,
                ItemOutcome::Erased(_) => report.erased += 1,
                ItemOutcome::NotReached => report.pending += 1,
                ItemOutcome::Failed(error) => note_bad(report, options, kept, number, error),
            }
        }
        if let Some(progress) = &options.progress {
            progress.call(report);
        }
        result.stopped.map_or(Ok(()), Err)
    }
}

fn note_bad(
    report: &mut ImportReport,
    options: &ImportOptions,
    kept: usize,
    line: u64,
    error: Error,
) {
    report.bad += 1;
    let bad = BadLine { line, error };
    if let Some(told) = &options.on_bad_line {
        told.call(&bad);
    }
    if report.bad_lines.len() < kept {
        report.bad_lines.push(bad);
    }
}

fn source_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the source cannot be read any further")
        .with_operation("import")
        .with_retryable(false)
        .with_source(error)
}

//! A source to batches, and the report of what became of them.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read as _};

use memory_core::limits::COMMIT_BYTES;
use memory_core::{Error, ErrorKind, Result};

use super::line::{read_document, read_line};
use super::parts::Parts;
use super::reader::{BYTE_ORDER_MARK, Line, LineReader};
use super::{BadLine, ImportFormat, ImportOptions, ImportReport};
use crate::new_memory::NewMemory;
use crate::notify::is_cancelled;
use crate::options::ItemOutcome;
use crate::settings::ImportSettings;
use crate::tenant::{BatchFeed, BatchResult};

/// Most lines read between two looks at the flag: about a tenth of a second of short ones.
const LINES_BETWEEN_LOOKS: u64 = 100_000;

/// Batches of a source.
pub(super) struct ImportFeed<'a, R> {
    source: Source<R>,
    options: &'a ImportOptions,
    settings: &'a ImportSettings,
    size: usize,
    /// What is left of the line at hand.
    parts: Option<Parts>,
    /// For each batch that was read and not taken in yet, the lines of its memories.
    read: VecDeque<Vec<u64>>,
    ended: bool,
    report: ImportReport,
}

enum Source<R> {
    Lines(LineReader<R>),
    Document(R),
}

impl<'a, R: BufRead> ImportFeed<'a, R> {
    pub(super) fn new(
        source: R,
        options: &'a ImportOptions,
        settings: &'a ImportSettings,
        size: usize,
    ) -> Self {
        Self {
            source: match options.format {
                ImportFormat::JsonLines => {
                    Source::Lines(LineReader::new(source, settings.line_bytes))
                }
                ImportFormat::Text => Source::Document(source),
            },
            options,
            settings,
            size,
            parts: None,
            read: VecDeque::new(),
            ended: false,
            report: ImportReport::default(),
        }
    }

    pub(super) fn into_report(mut self) -> ImportReport {
        let left = self.parts.take().map_or(0, |parts| parts.left());
        self.report.pending += left;
        self.report.bad_lines.sort_by_key(|bad| bad.line);
        self.report
    }

    /// The next memory, with its line's number; `None` where a line gave none, or at the end.
    fn next(&mut self) -> io::Result<Option<NewMemory>> {
        if let Some(parts) = &mut self.parts {
            match parts.next() {
                Some(part) => return Ok(Some(part)),
                None => self.parts = None,
            }
        }
        let read = match &mut self.source {
            Source::Lines(lines) => {
                let Some(line) = lines.next_line()? else {
                    self.ended = true;
                    return Ok(None);
                };
                self.report.lines += 1;
                match line {
                    Line::Blank => None,
                    Line::TooLong { bytes } => Some(Err(Error::invalid(format!(
                        "the line has {bytes} bytes; the limit is {}",
                        self.settings.line_bytes
                    )))),
                    Line::Text(text) => Some(read_line(text, self.report.lines, self.options)),
                }
            }
            Source::Document(source) => {
                self.ended = true;
                let text = whole(source, self.settings.document_bytes)?;
                self.report.lines = 1;
                match text {
                    Ok(text) => {
                        self.report.bytes = text.len() as u64;
                        let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&text);
                        let blank = text.trim_ascii().is_empty();
                        (!blank).then(|| read_document(text, self.options))
                    }
                    Err(error) => Some(Err(error)),
                }
            }
        };
        if let Source::Lines(lines) = &self.source {
            self.report.bytes = lines.bytes();
        }
        let split = read.map(|read| read.and_then(|memory| self.split(memory)));
        match split {
            Some(Ok(memory)) => return Ok(memory),
            Some(Err(error)) => self.note_bad(self.report.lines, error),
            None => self.report.blank += 1,
        }
        Ok(None)
    }

    /// The memory itself, or, where it is to be split, its first part.
    fn split(&mut self, memory: NewMemory) -> Result<Option<NewMemory>> {
        let Some(options) = self.options.split else { return Ok(Some(memory)) };
        match Parts::of(memory, &options)? {
            Ok(whole) => Ok(Some(whole)),
            Err(mut parts) => {
                let first = parts.next();
                self.parts = Some(parts);
                Ok(first)
            }
        }
    }

    fn note_bad(&mut self, line: u64, error: Error) {
        self.report.bad += 1;
        let bad = BadLine { line, error };
        if let Some(told) = &self.options.on_bad_line {
            told.call(&bad);
        }
        if self.report.bad_lines.len() < self.settings.bad_lines_kept {
            self.report.bad_lines.push(bad);
        }
    }
}

impl<R: BufRead + Send> BatchFeed for ImportFeed<'_, R> {
    fn is_cancelled(&self) -> bool {
        is_cancelled(self.options.cancel.as_ref())
    }

    async fn read(&mut self) -> Option<Vec<NewMemory>> {
        let mut batch = Vec::with_capacity(self.size);
        let mut numbers = Vec::with_capacity(self.size);
        let mut bytes = 0;
        // A file of blank or bad lines fills no batch; the flag is looked at all the same.
        let last = self.report.lines + LINES_BETWEEN_LOOKS;
        while batch.len() < self.size && bytes < COMMIT_BYTES && self.report.lines < last {
            if self.ended && self.parts.is_none() {
                break;
            }
            let before = self.report.bytes;
            match self.next() {
                Ok(Some(memory)) => {
                    let line = usize::try_from(self.report.bytes - before).unwrap_or(usize::MAX);
                    bytes += line.max(memory.content.len());
                    numbers.push(self.report.lines);
                    batch.push(memory);
                }
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    self.report.pending += batch.len() as u64;
                    self.report.stopped.get_or_insert_with(|| source_error(error));
                    return None;
                }
            }
        }
        if batch.is_empty() && self.ended {
            return None;
        }
        self.read.push_back(numbers);
        Some(batch)
    }

    fn written(&mut self, result: BatchResult, ahead: usize) -> bool {
        let numbers = self.read.pop_front().unwrap_or_default();
        for (number, outcome) in numbers.into_iter().zip(result.outcomes) {
            match outcome {
                ItemOutcome::Added(_) => self.report.added += 1,
                ItemOutcome::Replaced(_) => self.report.replaced += 1,
                ItemOutcome::Unchanged(_) => self.report.unchanged += 1,
                ItemOutcome::Skipped(_) => self.report.skipped += 1,
                ItemOutcome::Erased(_) => self.report.erased += 1,
                ItemOutcome::NotReached => self.report.pending += 1,
                ItemOutcome::Failed(error) => self.note_bad(number, error),
            }
        }
        let report = &mut self.report;
        report.without_vector += result.without_vector;
        if let Some(reason) = result.reason {
            report.without_vector_reason.get_or_insert(reason);
        }
        if let Some(progress) = &self.options.progress {
            report.pending += ahead as u64;
            progress.call(report);
            report.pending -= ahead as u64;
        }
        // The source may have broken off while this batch was written.
        let goes_on = result.stopped.is_none();
        if let Some(error) = result.stopped {
            report.stopped = Some(error);
        }
        goes_on
    }

    fn not_reached(&mut self, memories: usize) {
        self.read.pop_front();
        self.report.pending += memories as u64;
    }

    fn cancelled(&mut self) {
        self.report.cancelled = true;
    }
}

/// A whole source, unless it is longer than the bound.
fn whole<R: BufRead>(source: &mut R, most: usize) -> io::Result<Result<Vec<u8>>> {
    let mut text = Vec::new();
    source.take(most as u64 + 1).read_to_end(&mut text)?;
    if text.len() > most {
        return Ok(Err(Error::invalid(format!(
            "the text has more than {most} bytes, the setting `import.document_bytes`"
        ))));
    }
    Ok(Ok(text))
}

fn source_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "the source cannot be read any further")
        .with_operation("import")
        .with_retryable(false)
        .with_source(error)
}

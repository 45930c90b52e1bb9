//! A source to batches, and the report of what became of them.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read as _};

use memory_core::limits::CONTENT_BYTES;
use memory_core::{Error, ErrorKind, MemoryId, Result};
use memory_text::SplitOptions;

use super::documents::{Entry, Obsolete, taken};
use super::line::{read_document, read_line};
use super::parts::{Parts, Place, part_bytes};
use super::reader::{BYTE_ORDER_MARK, Line, LineReader};
use super::{BadLine, ImportFormat, ImportOptions, ImportReport};
use crate::new_memory::NewMemory;
use crate::notify::is_cancelled;
use crate::options::{ItemOutcome, OnConflict};
use crate::settings::ImportSettings;
use crate::tenant::{BatchFeed, BatchResult, BatchSize, TenantMemory};

/// Most lines read between two looks at the flag: about a tenth of a second of short ones.
const LINES_BETWEEN_LOOKS: u64 = 100_000;

/// Batches of a source.
pub(super) struct ImportFeed<'a, R> {
    tenant: &'a TenantMemory,
    source: Source<R>,
    options: &'a ImportOptions,
    settings: &'a ImportSettings,
    size: BatchSize,
    /// What is left of the line at hand.
    parts: Option<Parts>,
    /// For each batch that was read and not taken in yet, its memories.
    read: VecDeque<Vec<Entry>>,
    /// What documents that were written have left behind.
    obsolete: Obsolete,
    /// Whether nothing is to be read from the source any more.
    ended: bool,
    report: ImportReport,
}

enum Source<R> {
    Lines(LineReader<R>),
    Document(R),
}

/// A memory that was read, and where it stands if it is a part.
type Read = (NewMemory, Option<Place>);

impl<'a, R: BufRead> ImportFeed<'a, R> {
    pub(super) fn new(
        tenant: &'a TenantMemory,
        source: R,
        options: &'a ImportOptions,
        settings: &'a ImportSettings,
        size: BatchSize,
    ) -> Self {
        Self {
            tenant,
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
            obsolete: Obsolete::default(),
            ended: false,
            report: ImportReport::default(),
        }
    }

    /// The report, once what is left over is removed.
    pub(super) async fn into_report(mut self) -> ImportReport {
        if self.report.stopped.is_none()
            && let Err(error) = self.remove_obsolete().await
        {
            self.report.stopped = Some(error);
        }
        let left = self.parts.take().map_or(0, |parts| parts.left());
        self.report.pending += left;
        self.report.bad_lines.sort_by_key(|bad| bad.line);
        self.report
    }

    /// The next memory; `None` where a line gave none, or at the end.
    fn next(&mut self) -> io::Result<Option<Read>> {
        if let Some(part) = self.next_part() {
            return Ok(Some(part));
        }
        if self.ended {
            return Ok(None);
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
    fn split(&mut self, memory: NewMemory) -> Result<Option<Read>> {
        let Some(options) = self.options.split else { return unsplit(memory).map(Some) };
        match Parts::of(memory, &options)? {
            Ok(whole) => Ok(Some((whole, None))),
            Err(parts) => {
                self.parts = Some(parts);
                Ok(self.next_part())
            }
        }
    }

    /// The next part of the line at hand.
    fn next_part(&mut self) -> Option<Read> {
        let parts = self.parts.as_mut()?;
        let part = parts.next();
        // The last one: nothing is asked for where nothing is.
        if parts.left() == 0 {
            self.parts = None;
        }
        part.map(|(memory, place)| (memory, Some(place)))
    }

    /// Whether what was split otherwise before is looked for.
    fn replaces_parts(&self) -> bool {
        self.options.split.is_some() && self.options.on_conflict == OnConflict::Replace
    }

    /// Takes out of a batch what would take the place of something else than it should.
    async fn without_strangers(
        &mut self,
        batch: Vec<NewMemory>,
        entries: Vec<Entry>,
    ) -> Result<(Vec<NewMemory>, Vec<Entry>)> {
        if !self.replaces_parts() || entries.is_empty() {
            return Ok((batch, entries));
        }
        let before = self.read.iter().flatten();
        let verdicts = taken(self.tenant, before, &entries).await?;
        let mut left = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for ((memory, mut entry), verdict) in batch.into_iter().zip(entries).zip(verdicts) {
            match verdict {
                Ok(had_parts) => {
                    entry.had_parts = had_parts;
                    left.0.push(memory);
                    left.1.push(entry);
                }
                Err(error) => self.note_bad(entry.line, error),
            }
        }
        Ok(left)
    }

    /// Removes what the documents that were written have left behind, but for those that are being
    /// written again.
    async fn remove_obsolete(&mut self) -> Result<()> {
        let at_hand = self.parts.as_ref().map(Parts::document);
        let under_way: Vec<&MemoryId> =
            self.read.iter().flatten().map(Entry::document).chain(at_hand).collect();
        let removed = self.obsolete.remove(self.tenant, &under_way).await;
        self.report.removed += self.obsolete.take_removed();
        removed
    }

    fn tell_progress(&mut self, ahead: usize) {
        if let Some(progress) = &self.options.progress {
            self.report.pending += ahead as u64;
            progress.call(&self.report);
            self.report.pending -= ahead as u64;
        }
    }

    /// Nothing is read any more; `read` memories of the batch at hand are not written.
    fn stop(&mut self, error: Error, read: usize) {
        self.ended = true;
        self.report.pending += read as u64;
        self.report.stopped.get_or_insert(error);
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
        if let Err(error) = self.remove_obsolete().await {
            self.stop(error, 0);
            return None;
        }
        let BatchSize { memories: most, bytes: most_bytes } = self.size;
        let mut batch = Vec::with_capacity(most);
        let mut entries = Vec::with_capacity(most);
        let mut bytes = 0;
        // A file of blank or bad lines fills no batch; the flag is looked at all the same.
        let last = self.report.lines + LINES_BETWEEN_LOOKS;
        while batch.len() < most && bytes < most_bytes && self.report.lines < last {
            if self.ended && self.parts.is_none() {
                break;
            }
            let before = self.report.bytes;
            match self.next() {
                Ok(Some((memory, place))) => {
                    let line = usize::try_from(self.report.bytes - before).unwrap_or(usize::MAX);
                    bytes += match place {
                        Some(_) => part_bytes(&memory),
                        None => line.max(memory.content.len()),
                    };
                    entries.extend(Entry::new(self.report.lines, &memory, place));
                    batch.push(memory);
                }
                Ok(None) => {}
                Err(error) => {
                    self.stop(source_error(error), batch.len());
                    return None;
                }
            }
        }
        if batch.is_empty() && self.ended {
            return None;
        }
        let read = batch.len();
        match self.without_strangers(batch, entries).await {
            Ok((batch, entries)) => {
                self.read.push_back(entries);
                self.tell_progress(self.read.iter().map(Vec::len).sum());
                Some(batch)
            }
            Err(error) => {
                self.stop(error, read);
                None
            }
        }
    }

    fn written(&mut self, result: BatchResult, ahead: usize) -> bool {
        let entries = self.read.pop_front().unwrap_or_default();
        for (entry, outcome) in entries.into_iter().zip(result.outcomes) {
            let written = matches!(outcome, ItemOutcome::Added(_) | ItemOutcome::Replaced(_));
            if written && self.replaces_parts() {
                self.obsolete.written(&entry);
            }
            match outcome {
                ItemOutcome::Added(_) => self.report.added += 1,
                ItemOutcome::Replaced(_) => self.report.replaced += 1,
                ItemOutcome::Unchanged(_) => self.report.unchanged += 1,
                ItemOutcome::Skipped(_) => self.report.skipped += 1,
                ItemOutcome::Erased(_) => self.report.erased += 1,
                ItemOutcome::NotReached => self.report.pending += 1,
                ItemOutcome::Failed(error) => self.note_bad(entry.line, entry.refused(error)),
            }
        }
        let report = &mut self.report;
        report.without_vector += result.without_vector;
        if let Some(reason) = result.reason {
            report.without_vector_reason.get_or_insert(reason);
        }
        self.tell_progress(ahead);
        // The source may have broken off while this batch was written.
        let goes_on = result.stopped.is_none();
        if let Some(error) = result.stopped {
            self.report.stopped = Some(error);
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

/// A memory that is not to be split.
///
/// # Errors
/// `InvalidInput`: its text is too long; names splitting, if that helps.
fn unsplit(memory: NewMemory) -> Result<Read> {
    let bytes = memory.content.len();
    if bytes <= CONTENT_BYTES {
        return Ok((memory, None));
    }
    let splits = matches!(Parts::of(memory, &SplitOptions::default()), Ok(Err(_)));
    let hint = if splits { "; splitting (`--split`) makes several memories of it" } else { "" };
    Err(Error::invalid(format!(
        "the content has {bytes} bytes; the limit is {CONTENT_BYTES}{hint}"
    )))
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

//! Import: JSON lines into a tenant's memories, as often as it takes.
//!
//! One JSON object a line, with the keys of [`KEYS`](line::KEYS); all but `content` and one of
//! `user_id` and `agent_id` may be left out. A line without `id` gets one that is derived from the
//! source's name, the line's number and its content, so that the same file, imported again, finds
//! what is there. Each memory is added at most once; an interrupted import is resumed by starting
//! it anew.
//!
//! A source can also be one plain text, and the text of a line or document that is too long to be
//! found by its meaning can be split into several memories.
//!
//! | file | what it holds |
//! |---|---|
//! | `documents` | what a document that is split takes the place of |
//! | `feed` | a source to batches, and the report of them |
//! | `line` | a line, or a plain text, to a memory |
//! | `parts` | a long memory to several |
//! | `reader` | lines of bounded length |

mod documents;
mod feed;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod line;
mod parts;
mod reader;

use std::io::BufRead;

use memory_core::{AgentId, Error, UserId};
use memory_text::SplitOptions;

use crate::notify::{Callback, CancelFlag};
use crate::options::OnConflict;
use crate::tenant::{BatchPolicy, TenantMemory};
use feed::ImportFeed;

/// What a source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ImportFormat {
    /// A memory on each line, as JSON.
    #[default]
    JsonLines,
    /// One plain text: one document, which counts as one line. Its id is derived as that of a
    /// first line without one; user or agent are the options' defaults.
    Text,
}

/// How an import is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImportOptions {
    /// The source's name, from which ids are derived for lines that have none: the file's name,
    /// say. The same source must have the same name when it is imported again.
    pub source: String,
    /// What the source holds; JSON lines unless set.
    pub format: ImportFormat,
    /// Whether texts that are longer than a target are split into several memories. No unless set.
    ///
    /// The parts of the memory `ID` are `ID#1`, `ID#2` and so on, with the same fields, and with
    /// the metadata `document` (`ID`), `part` (1, 2 and so on) and `parts` (how many there are).
    /// The payload goes with the first part alone. A line that is to be split is a bad one if it
    /// has one of those keys itself, a vector, which would be that of the whole text, or an id that
    /// is too long to be numbered.
    ///
    /// A document that is imported again with another text under the same id, or with other split
    /// options, has other parts. [`OnConflict::Replace`] is made for that; see
    /// [`ImportOptions::with_split`].
    pub split: Option<SplitOptions>,
    /// Memories of one commit, 1 to 1,000; when `None`, the setting `import.batch_size` (500), or
    /// `write.bulk_batch_size` (2,000) as [`AddManyOptions::batch_size`](crate::AddManyOptions::batch_size)
    /// has it.
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
    /// Told when a batch has been read, before its vectors are made, and when it is written. What
    /// is read and not written yet counts as `pending` there.
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
            format: ImportFormat::default(),
            split: None,
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

    /// Sets what the source holds.
    #[must_use]
    pub fn with_format(mut self, format: ImportFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets whether and how long texts are split.
    ///
    /// Under [`OnConflict::Replace`] a document that was imported before, and is split otherwise
    /// now, leaves nothing behind: when its last part is written, its earlier parts beyond that are
    /// deleted (those that have the metadata `document` = `ID` and the id `ID#n`), and so is the
    /// memory `ID`, if it was stored whole. When it is whole now and was split before, its parts
    /// are. Without splitting, nothing of this is looked for. It costs one read a batch and one a
    /// document that is split.
    ///
    /// A part never takes the place of a memory that is no part of the same document, and no line
    /// that of a part of another one, in the store or in the same import: the one that comes second
    /// is a bad line.
    ///
    /// Under the other policies what is there stays: where the parts are other ones than before,
    /// those whose id is taken are bad lines or skipped, the others are added, and passages
    /// overlap. Import with the same split options again, or replace.
    #[must_use]
    pub fn with_split(mut self, split: Option<SplitOptions>) -> Self {
        self.split = split;
        self
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

    /// Sets what is told when a batch has been read, and when it is written.
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

/// What an import did. Every line that was read is counted once beside `lines`; one that was split
/// is counted with each of its parts.
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
    /// Memories deleted under [`OnConflict::Replace`] because their document is split otherwise now;
    /// see [`ImportOptions::with_split`].
    pub removed: u64,
    /// Lines whose memory was there already, with the same text.
    pub unchanged: u64,
    /// Lines whose id was there with another text, under [`OnConflict::Skip`].
    pub skipped: u64,
    /// Lines whose memory was erased here and stays so.
    pub erased: u64,
    /// Lines that were not taken, and parts of lines.
    pub bad: u64,
    /// The first of those, by number; as many as the setting `import.bad_lines_kept` (100).
    pub bad_lines: Vec<BadLine>,
    /// Lines read whose batch was not written, because the flag or a fault stopped it, or whose
    /// commit's outcome is unknown. Importing again takes them. While an import runs, what is
    /// read and not written yet is counted here.
    pub pending: u64,
    /// Of the memories added and replaced, those whose vector was to be made and was not: see
    /// [`VectorState::Missing`](crate::VectorState::Missing) and
    /// [`VectorState::Aside`](crate::VectorState::Aside).
    pub without_vector: u64,
    /// Why the first of those has none.
    pub without_vector_reason: Option<Error>,
    /// Whether the caller's flag stopped it.
    pub cancelled: bool,
    /// The fault of the store, of the source or, under
    /// [`OnEmbedFailure::Refuse`](crate::OnEmbedFailure::Refuse), of the embedder that stopped it.
    pub stopped: Option<Error>,
}

impl TenantMemory {
    /// Imports JSON lines, or a plain text. See the fields of [`ImportOptions`] and
    /// [`ImportReport`].
    ///
    /// Bad lines are reported by number while the good ones go in; a line that is longer than the
    /// setting `import.line_bytes` (8 MiB) is one, and is passed over without being held. A byte
    /// order mark before the first line is no part of it. A plain text is held whole, up to the
    /// setting `import.document_bytes` (64 MiB).
    ///
    /// Vectors are made as by [`TenantMemory::add_many`]; of lines whose memory is there already
    /// nothing is embedded.
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
        let settings = &self.inner().settings.import;
        let size = match self.batch_size(options.batch_size, settings.batch_size) {
            Ok(size) => size,
            Err(error) => {
                return ImportReport { stopped: Some(error), ..ImportReport::default() };
            }
        };
        let policy = BatchPolicy {
            on_conflict: options.on_conflict,
            same_is_unchanged: true,
            keep_erased: !options.include_erased,
            timeout: None,
        };
        let mut feed = ImportFeed::new(self, source, &options, settings, size);
        self.add_batches(&mut feed, &policy).await;
        feed.into_report().await
    }
}

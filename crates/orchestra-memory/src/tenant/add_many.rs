//! Adding many memories, batch by batch.

use std::pin::Pin;

use futures::{Stream, StreamExt as _};
use memory_core::limits::{COMMIT_BYTES, FETCH_IDS};
use memory_core::{Error, Result};

use super::batch::{BatchFeed, BatchResult};
use super::{BatchPolicy, TenantMemory};
use crate::new_memory::NewMemory;
use crate::notify::is_cancelled;
use crate::options::{AddManyOptions, ItemOutcome};
use crate::report::{AddManyReport, FAILURES_KEPT, FailedItem};

impl TenantMemory {
    /// Adds memories in batches, each of which is one commit where all is well. A store with a way
    /// of its own for many writes writes each memory of a batch by itself, several at once.
    ///
    /// A bad memory does not take others with it: a batch that is refused is split until the bad
    /// ones stand alone. A fault of the store stops the call; what was added before is in the
    /// report. The whole is not atomic; each memory is.
    ///
    /// Where there is an embedder and vectors are made with the writes, memories without one of
    /// the caller's get theirs, and a batch is read and embedded while the one before is written.
    /// What becomes of those whose vector cannot be made says the setting `embedding.on_failure`.
    ///
    /// # Cancellation
    /// A future that is dropped loses the report; batches committed before stay. The flag of the
    /// options stops it with a report.
    pub async fn add_many<I>(&self, memories: I, options: AddManyOptions) -> AddManyReport
    where
        I: IntoIterator<Item = NewMemory>,
    {
        self.add_stream(futures::stream::iter(memories), options).await
    }

    /// As [`TenantMemory::add_many`], from a stream. Without an embedder the stream is not read
    /// while a batch is written.
    ///
    /// # Cancellation
    /// As [`TenantMemory::add_many`].
    pub async fn add_stream<S>(&self, memories: S, options: AddManyOptions) -> AddManyReport
    where
        S: Stream<Item = NewMemory>,
    {
        let usual = self.inner().settings.write.batch_size;
        let size = match self.batch_size(options.batch_size, usual) {
            Ok(size) => size,
            Err(error) => {
                return AddManyReport { stopped: Some(error), ..AddManyReport::default() };
            }
        };
        let policy = BatchPolicy::plain(options.on_conflict, options.timeout);
        let memories = std::pin::pin!(memories.fuse());
        let mut feed =
            StreamFeed { memories, size, options: &options, report: AddManyReport::default() };
        self.add_batches(&mut feed, &policy).await;
        feed.report
    }

    /// How much a batch may have: what the caller says, or `usual` memories. More of them where the
    /// store has a way of its own for many writes, and no batch waits for its vectors.
    ///
    /// # Errors
    /// `InvalidInput`: a caller's number that is none.
    pub(crate) fn batch_size(&self, given: Option<usize>, usual: usize) -> Result<BatchSize> {
        let inner = self.inner();
        let bulk = inner.backend.bulk.is_some() && inner.embedding.with_writes().is_none();
        let memories = match given {
            Some(given) => {
                check_batch_size(given)?;
                given
            }
            None if bulk => inner.settings.write.bulk_batch_size,
            None => usual,
        };
        Ok(BatchSize { memories, bytes: if bulk { BULK_BYTES } else { COMMIT_BYTES } })
    }
}

/// Bytes of a batch that goes a store's own way for many writes: as many as four commits have, for
/// it is held in memory.
const BULK_BYTES: usize = 4 * COMMIT_BYTES;

/// How much is read for a batch: no more, once it has either.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchSize {
    pub(crate) memories: usize,
    pub(crate) bytes: usize,
}

/// Batches of a stream, and the report of them.
struct StreamFeed<'a, S> {
    memories: Pin<&'a mut S>,
    size: BatchSize,
    options: &'a AddManyOptions,
    report: AddManyReport,
}

impl<S: Stream<Item = NewMemory>> BatchFeed for StreamFeed<'_, S> {
    fn is_cancelled(&self) -> bool {
        is_cancelled(self.options.cancel.as_ref())
    }

    async fn read(&mut self) -> Option<Vec<NewMemory>> {
        let mut batch = Vec::with_capacity(self.size.memories);
        let mut bytes = 0;
        while batch.len() < self.size.memories && bytes < self.size.bytes {
            let Some(memory) = self.memories.next().await else { break };
            bytes += memory.content.len() + memory.embedding.as_ref().map_or(0, Vec::len) * 4;
            batch.push(memory);
        }
        (!batch.is_empty()).then_some(batch)
    }

    fn written(&mut self, result: BatchResult, _ahead: usize) -> bool {
        let report = &mut self.report;
        let first = report.seen;
        report.seen += result.outcomes.len() as u64;
        report.without_vector += result.without_vector;
        if let Some(reason) = result.reason {
            report.without_vector_reason.get_or_insert(reason);
        }
        for (index, outcome) in (first..).zip(result.outcomes) {
            tally(report, index, outcome, self.options.collect_ids);
        }
        report.stopped = result.stopped;
        if let Some(progress) = &self.options.progress {
            progress.call(report);
        }
        report.stopped.is_none()
    }

    fn not_reached(&mut self, memories: usize) {
        for _ in 0..memories {
            let index = self.report.seen;
            self.report.seen += 1;
            tally(&mut self.report, index, ItemOutcome::NotReached, self.options.collect_ids);
        }
    }

    fn cancelled(&mut self) {
        self.report.cancelled = true;
    }
}

/// A batch is one fetch of its ids, so it is bounded as a fetch is.
fn check_batch_size(size: usize) -> Result<()> {
    if !(1..=FETCH_IDS).contains(&size) {
        return Err(Error::invalid(format!(
            "a batch has 1 to {FETCH_IDS} memories; this asks for {size}"
        )));
    }
    Ok(())
}

fn tally(report: &mut AddManyReport, index: u64, outcome: ItemOutcome, collect_ids: bool) {
    let id = match outcome {
        ItemOutcome::Added(id) => {
            report.added += 1;
            Some(id)
        }
        ItemOutcome::Replaced(id) => {
            report.replaced += 1;
            Some(id)
        }
        ItemOutcome::Skipped(id) | ItemOutcome::Unchanged(id) | ItemOutcome::Erased(id) => {
            report.skipped += 1;
            Some(id)
        }
        ItemOutcome::Failed(error) => {
            report.failed += 1;
            if report.failures.len() < FAILURES_KEPT {
                report.failures.push(FailedItem { index, error });
            }
            None
        }
        ItemOutcome::NotReached => None,
    };
    if collect_ids {
        report.ids.push(id);
    }
}

//! Adding many memories, batch by batch.

use futures::{Stream, StreamExt as _};
use memory_core::limits::{COMMIT_BYTES, FETCH_IDS};
use memory_core::{Error, Result};

use super::{BatchPolicy, TenantMemory};
use crate::new_memory::NewMemory;
use crate::notify::is_cancelled;
use crate::options::{AddManyOptions, ItemOutcome};
use crate::report::{AddManyReport, FAILURES_KEPT, FailedItem};

impl TenantMemory {
    /// Adds memories in batches, each of which is one commit where all is well.
    ///
    /// A bad memory does not take others with it: a batch that is refused is split until the bad
    /// ones stand alone. A fault of the store stops the call; what was added before is in the
    /// report. The whole is not atomic; each memory is.
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

    /// As [`TenantMemory::add_many`], from a stream. The stream is not read while a batch is
    /// written.
    ///
    /// # Cancellation
    /// As [`TenantMemory::add_many`].
    pub async fn add_stream<S>(&self, memories: S, options: AddManyOptions) -> AddManyReport
    where
        S: Stream<Item = NewMemory>,
    {
        let mut report = AddManyReport::default();
        let size = options.batch_size.unwrap_or(self.inner().settings.write.batch_size);
        if let Err(error) = check_batch_size(size) {
            report.stopped = Some(error);
            return report;
        }
        let policy = BatchPolicy::plain(options.on_conflict, options.timeout);
        let mut memories = std::pin::pin!(memories.fuse());
        loop {
            if is_cancelled(options.cancel.as_ref()) {
                report.cancelled = true;
                return report;
            }
            let mut batch = Vec::with_capacity(size);
            let mut bytes = 0;
            while batch.len() < size && bytes < COMMIT_BYTES {
                let Some(memory) = memories.next().await else { break };
                bytes += memory.content.len() + memory.embedding.as_ref().map_or(0, Vec::len) * 4;
                batch.push(memory);
            }
            if batch.is_empty() {
                return report;
            }
            let first = report.seen;
            report.seen += batch.len() as u64;
            let result = self.add_batch(batch, &policy).await;
            for (index, outcome) in (first..).zip(result.outcomes) {
                tally(&mut report, index, outcome, options.collect_ids);
            }
            report.stopped = result.stopped;
            if let Some(progress) = &options.progress {
                progress.call(&report);
            }
            if report.stopped.is_some() {
                return report;
            }
        }
    }
}

/// A batch is one fetch of its ids, so it is bounded as a fetch is.
pub(crate) fn check_batch_size(size: usize) -> Result<()> {
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

//! One batch after the other; where texts are embedded, one batch is prepared while the one before
//! is written.

use futures::future::join;

use super::{BatchPolicy, BatchResult, Prepared};
use crate::new_memory::NewMemory;
use crate::tenant::TenantMemory;

/// Where batches come from, and who is told what became of them.
pub(crate) trait BatchFeed {
    /// Whether the caller wants it to end. Looked at before each batch is read; one that was read
    /// by then is written.
    fn is_cancelled(&self) -> bool;

    /// The next batch, of at most as many memories as the options or the settings say, which may
    /// be empty; `None` at the end.
    async fn read(&mut self) -> Option<Vec<NewMemory>>;

    /// Takes in what became of the oldest batch that was read and not taken in yet. `ahead`: how
    /// many memories of the next one have been read. Says whether to go on.
    fn written(&mut self, result: BatchResult, ahead: usize) -> bool;

    /// The oldest batch that was read and not taken in yet, of so many memories, is not written.
    fn not_reached(&mut self, memories: usize);

    /// The caller has ended it.
    fn cancelled(&mut self);
}

impl TenantMemory {
    /// Adds every batch of a feed, until it ends, is cancelled or stops. Where it is cancelled, the
    /// batch that was read is the last one written; where it stops, one that was read ahead is not
    /// written.
    pub(crate) async fn add_batches<F: BatchFeed>(&self, feed: &mut F, policy: &BatchPolicy) {
        match self.inner().embedding.with_writes() {
            Some(_) => self.one_ahead(feed, policy).await,
            None => self.one_by_one(feed, policy).await,
        }
    }

    async fn one_by_one<F: BatchFeed>(&self, feed: &mut F, policy: &BatchPolicy) {
        loop {
            if feed.is_cancelled() {
                return feed.cancelled();
            }
            let Some(memories) = feed.read().await else { return };
            let result = self.add_batch(memories, policy).await;
            if !feed.written(result, 0) {
                return;
            }
        }
    }

    async fn one_ahead<F: BatchFeed>(&self, feed: &mut F, policy: &BatchPolicy) {
        if feed.is_cancelled() {
            return feed.cancelled();
        }
        let mut waiting = self.next_batch(feed, policy).await;
        while let Some(batch) = waiting {
            // What is embedded by now is written all the same: it is the most costly part.
            let cancelled = feed.is_cancelled();
            let ends = cancelled || batch.result.stopped.is_some();
            let read = async {
                match ends {
                    true => None,
                    false => self.next_batch(feed, policy).await,
                }
            };
            // The write is polled first: it is on its way while the next batch is read and
            // embedded.
            let (result, next) = join(self.write_batch(batch, policy), read).await;
            let ahead = next.as_ref().map_or(0, Prepared::len);
            if !feed.written(result, ahead) {
                if let Some(next) = next {
                    feed.not_reached(next.len());
                }
                return;
            }
            if cancelled {
                return feed.cancelled();
            }
            waiting = next;
        }
    }

    async fn next_batch<F: BatchFeed>(
        &self,
        feed: &mut F,
        policy: &BatchPolicy,
    ) -> Option<Prepared> {
        let memories = feed.read().await?;
        Some(self.prepare_batch(memories, policy).await)
    }
}

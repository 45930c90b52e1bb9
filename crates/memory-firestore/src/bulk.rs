//! Loads of many memories: requests of bounded size, several at once, at a pace that grows.
//!
//! Each request is a commit of its own, so that the tenant's fence and spaces are checked with it;
//! where one of its writes is refused, the others go on without it. The service wants traffic on a
//! collection that is new to it to begin at 500 writes a second and to grow by half every five
//! minutes; the pace is that of the whole store, and begins anew after an idle step.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use memory_core::traits::{BulkObserver, BulkProgress};
use memory_core::{
    CallContext, Commit, CommitId, Error, ErrorKind, Outcome, Result, Write, WriteResult,
};

use crate::commit;
use crate::settings::BulkSettings;
use crate::store::FirestoreStore;
use crate::wire::Call;

/// Writes each by itself; see [`memory_core::traits::BulkWriter`].
///
/// Billed: as commits are.
pub(crate) async fn write_many(
    store: &FirestoreStore,
    call: Call<'_>,
    context: &CallContext,
    id: CommitId,
    writes: Vec<Write>,
    resend: bool,
    observer: &dyn BulkObserver,
) -> Result<Vec<Result<WriteResult>>> {
    let mut ids = BTreeSet::new();
    if let Some(twice) = writes.iter().position(|write| !ids.insert(write.id().as_str())) {
        return Err(Error::invalid("two writes of one load name the same id")
            .with_context("write", twice.to_string()));
    }
    let mut answers: Vec<Option<Result<WriteResult>>> = Vec::new();
    answers.resize_with(writes.len(), || None);
    let mut progress = BulkProgress { total: writes.len() as u64, ..BulkProgress::default() };
    let mut sound = Vec::with_capacity(writes.len());
    for (place, write) in writes.iter().enumerate() {
        match Commit::new(id, vec![write.clone()]).validate() {
            Ok(()) => sound.push((place, write)),
            Err(error) => {
                answers[place] = Some(Err(error));
                progress.done += 1;
                progress.failed += 1;
            }
        }
    }
    let chunks = chunks(&store.settings.bulk, store.wire.request_bytes(), sound);
    let load = Load { store, call, context, id: &id, resend };
    let concurrency = usize::try_from(store.settings.bulk.concurrency).unwrap_or(1);
    // Boxed one by one: a closure over borrowed writes is not general enough for a trait's method.
    let mut requests: Vec<BoxFuture<'_, _>> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        requests.push(Box::pin(load.write(chunk)));
    }
    let mut under_way = futures::stream::iter(requests).buffer_unordered(concurrency);
    while let Some(done) = under_way.next().await {
        for (place, answer) in done {
            progress.done += 1;
            progress.failed += u64::from(answer.is_err());
            answers[place] = Some(answer);
        }
        observer.progress(progress);
    }
    drop(under_way);
    Ok(answers
        .into_iter()
        .map(|answer| {
            answer.unwrap_or_else(|| {
                Err(Error::new(ErrorKind::Unexpected, "a write of a load has no answer"))
            })
        })
        .collect())
}

/// Writes in requests of bounded size, in order.
fn chunks<'a>(
    settings: &BulkSettings,
    request_bytes: usize,
    writes: Vec<(usize, &'a Write)>,
) -> Vec<Vec<(usize, &'a Write)>> {
    let most_bytes = settings.batch_bytes.min(request_bytes);
    let most = usize::try_from(settings.batch_documents).unwrap_or(usize::MAX);
    let mut chunks: Vec<Vec<(usize, &Write)>> = Vec::new();
    let mut bytes = 0;
    for (place, write) in writes {
        let size = commit::sent_bytes(write);
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < most && bytes + size <= most_bytes => {
                chunk.push((place, write));
                bytes += size;
            }
            _ => {
                chunks.push(vec![(place, write)]);
                bytes = size;
            }
        }
    }
    chunks
}

#[derive(Clone, Copy)]
struct Load<'a> {
    store: &'a FirestoreStore,
    call: Call<'a>,
    context: &'a CallContext,
    id: &'a CommitId,
    resend: bool,
}

impl Load<'_> {
    /// Writes a chunk: one answer for each write.
    async fn write(self, chunk: Vec<(usize, &Write)>) -> Vec<(usize, Result<WriteResult>)> {
        let mut answers = Vec::with_capacity(chunk.len());
        let mut waiting = vec![chunk];
        while let Some(mut part) = waiting.pop() {
            match self.write_part(&part).await {
                Ok(results) => {
                    answers.extend(part.into_iter().map(|(place, _)| place).zip(results));
                }
                // One of them is more than the service takes: halves find out which.
                Err(error) if error.kind() == ErrorKind::InvalidInput && part.len() > 1 => {
                    waiting.push(part.split_off(part.len() / 2));
                    waiting.push(part);
                }
                Err(error) => {
                    answers.extend(part.into_iter().map(|(place, _)| (place, Err(copy(&error)))));
                }
            }
        }
        answers
    }

    async fn write_part(self, part: &[(usize, &Write)]) -> Result<Vec<Result<WriteResult>>> {
        self.wait_for_the_pace(part.len()).await?;
        let writes: Vec<&Write> = part.iter().map(|(_, write)| *write).collect();
        // The state machine of a commit is large; each chunk has its own on the heap.
        Box::pin(commit::each(self.store, self.call, self.context, self.id, &writes, self.resend))
            .await
    }

    async fn wait_for_the_pace(self, writes: usize) -> Result<()> {
        let store = self.store;
        self.context.check_deadline(store.clock.monotonic())?;
        if !store.settings.ramps() {
            return Ok(());
        }
        let now = store.clock.monotonic();
        let left = self.context.deadline.map(|deadline| deadline.remaining(now));
        let Some(wait) = store.pace.book(&store.settings.bulk, now, writes, left) else {
            return Err(Error::new(
                ErrorKind::Timeout,
                "the deadline passes before the load's pace allows this write",
            ));
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }
}

/// The error of a request, once more for each of its writes.
fn copy(error: &Error) -> Error {
    let copy = crate::error::not_applied(error);
    match error.outcome() {
        Outcome::Unknown => copy.with_unknown_outcome(),
        Outcome::NotApplied => copy,
    }
}

/// The pace of a store's loads.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Booked>>);

#[derive(Clone, Copy, Debug)]
struct Booked {
    /// When this run of loads began.
    began: Duration,
    /// Until when writes have been given out.
    until: Duration,
}

impl Pace {
    /// Takes the next place for some writes: how long to wait for it. `None`, and no place is taken,
    /// where it is not before the time left has passed.
    fn book(
        &self,
        settings: &BulkSettings,
        now: Duration,
        writes: usize,
        left: Option<Duration>,
    ) -> Option<Duration> {
        let step = Duration::from_secs(u64::from(settings.ramp_step_s));
        let mut booked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let current = booked.filter(|booked| now < booked.until + step);
        let mut next = current.unwrap_or(Booked { began: now, until: now });
        let start = next.until.max(now);
        let steps = (start - next.began).as_secs() / u64::from(settings.ramp_step_s.max(1));
        // Beyond sixty steps, five hours, nothing that one process sends is slowed any more.
        let growth = 1.5_f64.powi(i32::try_from(steps.min(60)).unwrap_or(60));
        let rate = f64::from(settings.ramp_start) * growth;
        #[expect(clippy::cast_precision_loss, reason = "a count of writes in one request")]
        let takes = Duration::from_secs_f64(writes as f64 / rate);
        let wait = start - now;
        if left.is_some_and(|left| left <= wait) {
            return None;
        }
        next.until = start + takes;
        *booked = Some(next);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pace_begins_at_its_rate_and_grows_by_half() {
        let settings = BulkSettings::default();
        let pace = Pace::default();
        let mut now = Duration::from_secs(1_000);
        let mut written = Vec::new();
        let begin = now;
        let mut count = 0;
        while now < begin + 700 * SECOND {
            now += pace.book(&settings, now, 50, None).unwrap();
            count += 50;
            if now >= begin + 300 * SECOND * (u32::try_from(written.len()).unwrap() + 1) {
                written.push(count);
            }
        }
        let close = |found: i32, wanted: i32| (found - wanted).abs() <= 200;
        assert!(close(written[0], 150_000), "{written:?}");
        assert!(close(written[1] - written[0], 225_000), "{written:?}");
    }

    #[test]
    fn an_idle_step_begins_anew_and_a_short_pause_does_not_save_up() {
        let settings = BulkSettings::default();
        let pace = Pace::default();
        assert_eq!(pace.book(&settings, SECOND, 500, None), Some(Duration::ZERO));
        assert_eq!(pace.book(&settings, SECOND, 500, None), Some(SECOND));
        assert_eq!(pace.book(&settings, SECOND, 500, Some(SECOND)), None, "and takes no place");
        // Ten idle seconds give no credit beyond the next request.
        assert_eq!(pace.book(&settings, 13 * SECOND, 500, None), Some(Duration::ZERO));
        assert_eq!(pace.book(&settings, 13 * SECOND, 500, None), Some(SECOND));
        let late = 2_000 * SECOND;
        assert_eq!(pace.book(&settings, late, 500, None), Some(Duration::ZERO));
        assert_eq!(pace.book(&settings, late, 500, None), Some(SECOND), "the first rate again");
    }
}

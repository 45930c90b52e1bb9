//! The way to the cache: each request is bounded in time, and one that fails costs no answer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use memory_core::traits::{Cache, CacheFill, CacheKey, CacheRead, CacheWrite};
use memory_core::{
    CallContext, Clock, Deadline, Error, ErrorKind, Health, HealthStatus, Result, Timer,
};

use super::counts::{Counts, Total};
use super::settings::CacheSettings;

/// The name in errors.
pub(super) const CACHE: &str = "cache";

/// The mark of a write that has none: no other write's.
pub(super) const NO_MARK: [u8; 16] = [0; 16];

/// The cache behind a timeout and a pause after failures.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) cache: Arc<dyn Cache>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) timer: Arc<dyn Timer>,
    pub(super) settings: CacheSettings,
    pub(super) counts: Arc<Counts>,
    /// Failures in a row.
    failed: AtomicU32,
    /// Milliseconds of the clock's monotonic time until which reads leave the cache alone.
    until: AtomicU64,
}

impl Door {
    pub(super) fn new(
        settings: CacheSettings,
        cache: Arc<dyn Cache>,
        clock: Arc<dyn Clock>,
        timer: Arc<dyn Timer>,
        counts: Arc<Counts>,
    ) -> Self {
        let (failed, until) = (AtomicU32::new(0), AtomicU64::new(0));
        Self { cache, clock, timer, settings, counts, failed, until }
    }

    /// Reads keys. `None` where the cache was not asked or did not answer as it should.
    pub(super) async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
    ) -> Option<Vec<CacheRead>> {
        if !self.admits() {
            return None;
        }
        let (context, left) = self.starts(context)?;
        let send = self.cache.read(&context, keys, self.settings.max_stale());
        let answers = self.bounded(left, send).await.ok()?;
        (answers.len() == keys.len()).then_some(answers)
    }

    /// Keeps values; says of each whether it was kept. `None` where nobody knows.
    pub(super) async fn fill(
        &self,
        context: &CallContext,
        fills: Vec<CacheFill>,
    ) -> Option<Vec<bool>> {
        if self.is_paused() {
            return None;
        }
        let asked = fills.len();
        let (context, left) = self.starts(context)?;
        let kept = self.bounded(left, self.cache.fill(&context, fills)).await.ok()?;
        (kept.len() == asked).then_some(kept)
    }

    /// Puts a mark on groups. Tried whatever failed before.
    pub(super) async fn begin_write(
        &self,
        context: &CallContext,
        groups: &[String],
        most: Duration,
    ) -> Option<CacheWrite> {
        let (context, left) = self.starts(context)?;
        let send = self.cache.begin_write(&context, groups.to_vec(), most);
        self.bounded(left, send).await.ok()
    }

    /// Sets fresh tokens; says whether they stand. Tried whatever failed before.
    pub(super) async fn end_write(&self, context: &CallContext, write: CacheWrite) -> bool {
        let Some((context, left)) = self.starts(context) else { return false };
        let send = self.cache.end_write(&context, write, self.settings.max_stale());
        self.bounded(left, send).await.is_ok()
    }

    /// How long a mark stands: beyond what is left of the call, if that is known.
    pub(super) fn mark(&self, context: &CallContext) -> Duration {
        let left = context.deadline.map(|deadline| deadline.remaining(self.clock.monotonic()));
        // Half of it again, as the settings' default has it of a call.
        let beyond = left.map_or(Duration::ZERO, |left| left.saturating_add(left / 2));
        self.settings.mark().max(beyond.min(LONGEST_MARK))
    }

    /// The cache's health, as a part that is never more than degraded.
    pub(super) async fn health(&self, health: &mut Health) {
        let answer = self.in_time(self.settings.timeout(), self.cache.health()).await;
        let mut part = answer.unwrap_or_else(|| {
            let mut part = Health::healthy();
            part.lower(HealthStatus::Degraded, "it does not answer; the store is read");
            part
        });
        part.status = part.status.min(HealthStatus::Degraded);
        if self.is_paused() {
            part.lower(HealthStatus::Degraded, "reads leave it alone after failures");
        }
        health.merge(CACHE, part);
    }

    /// Lets go of the cache.
    pub(super) async fn close(&self) -> Result<()> {
        self.cache.close().await
    }

    /// Whether a read may ask the cache; of those that come when a pause is over, one.
    fn admits(&self) -> bool {
        if self.failed.load(Ordering::Relaxed) < self.settings.failures {
            return true;
        }
        let (now, until) = (self.now(), self.until.load(Ordering::Relaxed));
        let next = now.saturating_add(self.settings.pause_ms);
        now >= until
            && self
                .until
                .compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn is_paused(&self) -> bool {
        self.failed.load(Ordering::Relaxed) >= self.settings.failures
            && self.now() < self.until.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.clock.monotonic().as_millis()).unwrap_or(u64::MAX)
    }

    /// What a request is sent with, and how long it may take: the timeout, and no longer than the
    /// call. `None` where the call's time is over, which says nothing about the cache.
    fn starts(&self, context: &CallContext) -> Option<(CallContext, Duration)> {
        let now = self.clock.monotonic();
        let timeout = self.settings.timeout();
        let left = context.deadline.map_or(timeout, |it| it.remaining(now).min(timeout));
        let deadline = Some(Deadline::at(now.saturating_add(left)));
        (!left.is_zero()).then(|| (context.clone().with_deadline(deadline), left))
    }

    /// One request.
    async fn bounded<T>(
        &self,
        left: Duration,
        send: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let answer = self.in_time(left, send).await.unwrap_or_else(|| Err(late()));
        match &answer {
            Ok(_) => self.failed.store(0, Ordering::Relaxed),
            // What the caller cut short says little about the cache.
            Err(_) if left < self.settings.timeout() => self.counts.total(Total::failures),
            Err(_) => self.fail(),
        }
        answer
    }

    fn fail(&self) {
        self.counts.total(Total::failures);
        let before = self.failed.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) == self.settings.failures {
            let until = self.now().saturating_add(self.settings.pause_ms);
            self.until.store(until, Ordering::Relaxed);
            self.counts.total(Total::pauses);
        } else if before == u32::MAX {
            self.failed.store(u32::MAX, Ordering::Relaxed);
        }
    }

    /// The answer, if it comes within `most`. Most are there when they are first looked for, and
    /// need no timer.
    pub(super) async fn in_time<T>(
        &self,
        most: Duration,
        work: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut end = None;
        poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                let end = end.get_or_insert_with(|| self.timer.sleep(most));
                end.as_mut().poll(context).map(|()| None)
            }
        })
        .await
    }
}

/// The longest mark, for a call with a far deadline: as `mark_ms` has it.
const LONGEST_MARK: Duration = Duration::from_secs(3_600);

fn late() -> Error {
    Error::new(ErrorKind::Timeout, "the cache did not answer in time").with_backend(CACHE)
}

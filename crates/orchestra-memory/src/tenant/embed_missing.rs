//! Vectors for memories that have none.
//!
//! The store names the memories; their texts are read, embedded, and their vectors kept for the
//! revision that was read. What changes meanwhile is stale and gets a second turn. A vector that
//! came otherwise in between is never covered, for a memory that has one is passed over.

use std::collections::VecDeque;

use futures::future::join;
use memory_core::limits::{FETCH_IDS, PAGE};
use memory_core::traits::{UpsertOutcome, VectorEntry};
use memory_core::{
    CallContext, EmbeddingSpace, Error, ErrorKind, Filter, MemoryId, Order, Projection, Query,
    Result, VectorProjection,
};

use super::TenantMemory;
use super::vectors::{Stance, stands_aside};
use crate::embedding::{Attached, FAULTS_IN_A_ROW, Queued, TextOutcome, text_of};
use crate::notify::is_cancelled;
use crate::options::EmbedOptions;
use crate::report::{EmbedReport, FAILURES_KEPT, FailedEmbed};

/// Most stale memories that get a second turn; the others count as stale at once. 10,000: a
/// megabyte of ids of usual lengths.
const STALE_KEPT: usize = 10_000;

/// Where a pass over a tenant's missing vectors stands. It holds nothing of the memory.
#[derive(Debug)]
pub(crate) struct EmbedRun {
    /// Found with the first step.
    space: Option<EmbeddingSpace>,
    /// Memories to look at.
    ids: VecDeque<MemoryId>,
    /// Whether the store names more, and after which id.
    walk: Option<Option<MemoryId>>,
    /// Memories for a second turn.
    stale: Vec<MemoryId>,
    /// Whether `ids` are those.
    second: bool,
    /// Memories of one step.
    size: Option<usize>,
    /// Memories that failed in steps which are too small to tell whether it was for their texts;
    /// fewer than [`FAULTS_IN_A_ROW`].
    doubtful: Vec<FailedEmbed>,
    /// Whether the embedder has answered to any text.
    answers: bool,
    /// Whether the space is not the active one, so that the store's counts say nothing of it.
    moving: bool,
}

/// Vectors of one step, to be kept.
#[derive(Debug)]
struct Step {
    space: EmbeddingSpace,
    entries: Vec<VectorEntry>,
    failed: Vec<FailedEmbed>,
    /// What ended the step early.
    fault: Option<Error>,
    second: bool,
}

impl Step {
    fn new(space: &EmbeddingSpace, second: bool) -> Self {
        let space = space.clone();
        Self { space, entries: Vec::new(), failed: Vec::new(), fault: None, second }
    }
}

/// What became of the vectors of a step.
#[derive(Debug, Default)]
struct Kept {
    stored: u64,
    stale: Vec<MemoryId>,
}

impl EmbedRun {
    /// A pass over what was queued.
    pub(crate) fn of(queued: Queued) -> Self {
        let (ids, walk) = match queued {
            Queued::All => (VecDeque::new(), Some(None)),
            Queued::These(ids) => (ids.into_iter().collect(), None),
        };
        let (stale, doubtful) = (Vec::new(), Vec::new());
        let (second, answers, moving) = (false, false, false);
        Self { space: None, ids, walk, stale, second, size: None, doubtful, answers, moving }
    }

    /// A pass over the memories that have no vector in a space that the tenant is being moved to.
    pub(crate) fn to(space: EmbeddingSpace) -> Self {
        Self { space: Some(space), moving: true, ..Self::of(Queued::All) }
    }

    /// Whether nothing is left to look at.
    fn is_done(&self) -> bool {
        let looked_at = self.ids.is_empty() && self.walk.is_none() && self.stale.is_empty();
        looked_at && self.doubtful.is_empty()
    }

    /// Puts off the judgement of a step of so few texts that its fault may be theirs: the next
    /// steps tell. Gives the fault back where it is the embedder's.
    fn doubt(&mut self, ids: Vec<MemoryId>, fault: Error) -> Option<Error> {
        if self.doubtful.len() + ids.len() >= FAULTS_IN_A_ROW {
            return Some(fault);
        }
        for id in ids {
            let error = Error::new(fault.kind(), fault.message()).with_operation("embed");
            self.doubtful.push(FailedEmbed { id, error });
        }
        None
    }

    /// Takes in what was stale; says how many have had both their turns.
    fn take_in(&mut self, stale: Vec<MemoryId>, second: bool) -> u64 {
        if second {
            return stale.len() as u64;
        }
        let room = STALE_KEPT.saturating_sub(self.stale.len());
        let lost = stale.len().saturating_sub(room);
        self.stale.extend(stale.into_iter().take(room));
        lost as u64
    }
}

impl TenantMemory {
    /// Makes the vectors that the tenant's memories lack: of those that were written without one,
    /// or whose text has changed since. A tenant that has memories and no space gets the
    /// embedder's.
    ///
    /// What is done stays done: called again after a stop, it goes on. Texts that the embedder
    /// refuses, or fails at while it serves others, are counted, passed over and met again by the
    /// next call. While the vectors of one step are stored, the texts of the next are embedded.
    ///
    /// Errors are in the report: `Unsupported`, there is no embedder; `Config`, the embedder's
    /// space is another one than the tenant's, or its vectors are the caller's own; otherwise
    /// what the embedder or the store met.
    ///
    /// # Cancellation
    /// A future that is dropped loses the report; vectors that were stored stay. The flag of the
    /// options stops it with a report, once what was embedded by then is stored.
    pub async fn embed_missing(&self, options: EmbedOptions) -> EmbedReport {
        let mut report = EmbedReport::default();
        if let Err(error) = self.run_embed(&options, &mut report).await {
            report.stopped = Some(error);
        }
        let inner = self.inner();
        match report.stopped.is_some() || report.cancelled || report.stale > 0 {
            true => self.note_made(),
            false => {
                let lacks = report.failed > 0;
                inner.lacking.put(self.id(), lacks, inner.clock.monotonic(), None);
            }
        }
        report
    }

    async fn run_embed(&self, options: &EmbedOptions, report: &mut EmbedReport) -> Result<()> {
        let embedding = &self.inner().embedding;
        let Some(attached) = embedding.attached() else {
            return Err(Error::unsupported(embedding.no_model()).with_operation("embed"));
        };
        if let Stance::Aside(active) = self.stance_now(&self.context(None), attached).await? {
            return Err(stands_aside(attached, &active));
        }
        let stats = self.stats().await?;
        report.missing_before = stats.items.saturating_sub(stats.embedded);
        self.fill_space(attached, EmbedRun::of(Queued::All), options, report).await
    }

    /// A pass, to its end.
    pub(super) async fn fill_space(
        &self,
        attached: &Attached,
        mut run: EmbedRun,
        options: &EmbedOptions,
        report: &mut EmbedReport,
    ) -> Result<()> {
        let embedding = &self.inner().embedding;
        let size = options.batch_size.unwrap_or_else(|| embedding.texts_per_call());
        if !(1..=FETCH_IDS).contains(&size) {
            return Err(Error::invalid(format!(
                "a step has 1 to {FETCH_IDS} memories; this asks for {size}"
            )));
        }
        run.size = Some(size);
        if is_cancelled(options.cancel.as_ref()) {
            report.cancelled = true;
            return Ok(());
        }
        let mut waiting = self.next_step(attached, &mut run).await?;
        while let Some(mut step) = waiting {
            // What is embedded by now is stored all the same.
            let cancelled = is_cancelled(options.cancel.as_ref());
            let fault = step.fault.take();
            let second = step.second;
            report.take_in(std::mem::take(&mut step.failed));
            let read = async {
                match fault.is_some() || cancelled {
                    true => Ok(None),
                    false => self.next_step(attached, &mut run).await,
                }
            };
            let (kept, next) = join(self.keep(attached, step), read).await;
            let kept = kept?;
            report.embedded += kept.stored;
            report.stale += run.take_in(kept.stale, second);
            if let Some(progress) = &options.progress {
                progress.call(report);
            }
            if let Some(fault) = fault {
                return Err(fault);
            }
            if cancelled {
                report.cancelled = !run.is_done();
                return Ok(());
            }
            waiting = match next? {
                Some(next) => Some(next),
                // The last step of the first turn may have left something for the second.
                None => self.next_step(attached, &mut run).await?,
            };
        }
        Ok(())
    }

    /// One step of a pass in the background; says whether more are left. A tenant that is none of
    /// the embedder's business has none.
    ///
    /// # Errors
    /// As every call, and those of the embedder.
    pub(crate) async fn embed_step(&self, run: &mut EmbedRun) -> Result<bool> {
        let embedding = &self.inner().embedding;
        let Some(attached) = embedding.attached() else { return Ok(false) };
        if run.space.is_none() {
            match self.stance_now(&self.context(None), attached).await {
                Ok(Stance::Aside(_)) => return Ok(false),
                // A tenant of another model is no reason for others to wait, and nothing changes
                // it but other settings.
                Err(error) if error.kind() == ErrorKind::Config => {
                    embedding.note_failure(&error);
                    return Ok(false);
                }
                stance => drop(stance?),
            }
        }
        let Some(mut step) = self.next_step(attached, run).await? else {
            self.note_made();
            return Ok(false);
        };
        step.failed.iter().for_each(|failed| embedding.note_failure(&failed.error));
        let (fault, second) = (step.fault.take(), step.second);
        let kept = self.keep(attached, step).await?;
        run.take_in(kept.stale, second);
        fault.map_or(Ok(true), Err)
    }

    /// The next step with its vectors; `None` when nothing is left.
    async fn next_step(&self, attached: &Attached, run: &mut EmbedRun) -> Result<Option<Step>> {
        let context = self.context(None);
        let space = match &run.space {
            Some(space) => space.clone(),
            None => match self.space_to_fill(&context, attached).await? {
                Some(space) => run.space.insert(space).clone(),
                None => return Ok(None),
            },
        };
        let step = self.read_step(&context, attached, &space, run).await;
        self.unless_the_space_is_gone(&context, attached, step).await
    }

    /// What the store answered; nothing, where it refused because an erasure or another
    /// declaration took the space away.
    async fn unless_the_space_is_gone<T: Default>(
        &self,
        context: &CallContext,
        attached: &Attached,
        answer: Result<T>,
    ) -> Result<T> {
        match answer {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {
                match self.stance_now(context, attached).await? {
                    Stance::Serves(_) => Err(error),
                    Stance::Undeclared | Stance::Aside(_) => Ok(T::default()),
                }
            }
            answer => answer,
        }
    }

    /// The embedder's space, declared if the tenant has memories and no space; `None` if it has
    /// neither.
    async fn space_to_fill(
        &self,
        context: &CallContext,
        attached: &Attached,
    ) -> Result<Option<EmbeddingSpace>> {
        let mut stance = self.stance_now(context, attached).await?;
        if let Stance::Undeclared = stance {
            let any = Query::new(1).with_order(Order::BY_ID).with_filter(Filter::All);
            let any = any.with_projection(Projection::narrow());
            if self.inner().backend.records.query(context, &any).await?.items.is_empty() {
                return Ok(None);
            }
            stance = self.stance_declared(context, attached).await?;
        }
        match stance {
            Stance::Serves(known) => Ok(Some(known.space)),
            Stance::Aside(active) => Err(stands_aside(attached, &active)),
            Stance::Undeclared => {
                Err(Error::new(ErrorKind::Unexpected, "a declared space is not there"))
            }
        }
    }

    async fn read_step(
        &self,
        context: &CallContext,
        attached: &Attached,
        space: &EmbeddingSpace,
        run: &mut EmbedRun,
    ) -> Result<Option<Step>> {
        let embedding = &self.inner().embedding;
        let size = run.size.unwrap_or_else(|| embedding.texts_per_call());
        let ids = self.next_ids(context, space, run, size).await?;
        if ids.is_empty() {
            let mut step = Step::new(space, run.second);
            let mut doubtful = std::mem::take(&mut run.doubtful);
            match doubtful.pop() {
                None => return Ok(None),
                Some(last) if run.answers => step.failed.extend(doubtful.into_iter().chain([last])),
                // As far as can be told, it is the embedder.
                Some(FailedEmbed { id, error }) => {
                    step.fault = Some(error.with_context("id", id.to_string()));
                }
            }
            return Ok(Some(step));
        }
        let mut projection = Projection::narrow().with_vectors(VectorProjection::Space(space.id()));
        projection.content = true;
        let found = self.inner().backend.records.fetch(context, &ids, &projection).await?;
        let (mut sources, mut texts) = (Vec::new(), Vec::new());
        for item in found.into_iter().flatten() {
            // A write that came in between may have brought one along.
            if item.vectors.contains_key(&space.id()) {
                continue;
            }
            let revision = item.revision.clone().ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "the store gave a memory without a revision")
            })?;
            texts.push(text_of(&item).into_owned());
            sources.push((item.id, revision));
        }
        let mut made = embedding.texts(attached, context, &texts).await;
        let mut step = Step::new(space, run.second);
        if let Some(fault) = made.fault.take() {
            let ids = sources.iter().map(|(id, _)| id.clone()).collect();
            step.fault = match embedding.may_be_of_a_text(&fault, context) {
                true => run.doubt(ids, fault),
                false => Some(fault),
            };
        } else if !texts.is_empty() {
            // It answers, so that it was their texts.
            run.answers = true;
            step.failed.append(&mut run.doubtful);
        }
        for ((id, revision), outcome) in sources.into_iter().zip(made.outcomes) {
            match outcome {
                TextOutcome::Vector(vector) => {
                    step.entries.push(VectorEntry { id, revision, vector });
                }
                TextOutcome::Refused(error) => step.failed.push(FailedEmbed { id, error }),
                TextOutcome::Failed => {}
            }
        }
        Ok(Some(step))
    }

    /// Up to `size` memories to look at: what the store names, then what was stale.
    async fn next_ids(
        &self,
        context: &CallContext,
        space: &EmbeddingSpace,
        run: &mut EmbedRun,
        size: usize,
    ) -> Result<Vec<MemoryId>> {
        if run.ids.is_empty()
            && let Some(after) = run.walk.take()
        {
            let backend = &self.inner().backend;
            // The walk passes every memory, and a store may bill each; counts cost next to nothing.
            let ids = match after.is_none()
                && self.inner().bills
                && !run.moving
                && self.is_complete(context).await?
            {
                true => Vec::new(),
                false => backend.vectors.missing(context, space, after, PAGE).await?,
            };
            // A shorter answer is the last one.
            let more = ids.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
            run.walk = ids.last().filter(|_| more).cloned().map(Some);
            run.ids = ids.into();
        }
        if run.ids.is_empty() && !run.stale.is_empty() {
            run.second = true;
            run.ids = std::mem::take(&mut run.stale).into();
        }
        let size = size.min(run.ids.len());
        Ok(run.ids.drain(..size).collect())
    }

    /// Whether every memory has a vector, by the store's counts.
    async fn is_complete(&self, context: &CallContext) -> Result<bool> {
        let stats = self.inner().backend.upkeep.tenant_stats(context).await?;
        Ok(stats.embedded >= stats.items)
    }

    /// Keeps the vectors of a step.
    async fn keep(&self, attached: &Attached, step: Step) -> Result<Kept> {
        let mut kept = Kept::default();
        if step.entries.is_empty() {
            return Ok(kept);
        }
        let context = self.context(None);
        let ids: Vec<MemoryId> = step.entries.iter().map(|entry| entry.id.clone()).collect();
        let vectors = &self.inner().backend.vectors;
        let outcomes = vectors.upsert(&context, &step.space, &step.entries).await;
        let outcomes = self.unless_the_space_is_gone(&context, attached, outcomes).await?;
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            match outcome {
                UpsertOutcome::Stored => kept.stored += 1,
                UpsertOutcome::Stale => kept.stale.push(id),
            }
        }
        Ok(kept)
    }
}

impl EmbedReport {
    fn take_in(&mut self, failed: Vec<FailedEmbed>) {
        self.failed += failed.len() as u64;
        let room = FAILURES_KEPT.saturating_sub(self.failures.len());
        self.failures.extend(failed.into_iter().take(room));
    }
}

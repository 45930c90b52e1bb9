//! Moving a tenant to the embedder's space.
//!
//! The new space is declared beside the active one, every memory gets a vector in it, and then the
//! two change places and the old one goes. What stands in the store says how far it is, so that a
//! move that was stopped anywhere goes on when it is begun again, in any process; until the switch,
//! searches go by the old space as before.

use memory_core::traits::TenantSpaces;
use memory_core::{CallContext, EmbeddingSpace, Error, ErrorKind, Result};

use super::TenantMemory;
use super::embed_missing::EmbedRun;
use crate::embedding::Attached;
use crate::options::EmbedOptions;
use crate::report::{EmbedReport, ReembedPreview, ReembedReport};

/// Passes over the memories that lack a vector in the new space, before the switch. The second one
/// finds what was written during the first, and is short; who writes faster than vectors are made
/// gets the rest of them after the switch.
const PASSES: u32 = 5;
/// How often a lost race for the tenant's spaces is run again.
const ATTEMPTS: usize = 4;

/// What there is to do.
enum Course {
    /// The tenant has no space, or the embedder's already.
    There,
    /// From one space to the other; `begun`: the other is declared.
    Move { from: EmbeddingSpace, begun: bool },
}

impl TenantMemory {
    /// What [`TenantMemory::reembed`] would do, and what it would cost the store.
    ///
    /// # Errors
    /// As there.
    pub async fn reembed_preview(&self) -> Result<ReembedPreview> {
        let context = self.context(None);
        let attached = self.attached_for_a_move()?;
        let spaces = self.inner().backend.meta.spaces(&context).await?;
        let course = course(attached, &spaces)?;
        let stats = self.stats().await?;
        let (from, begun, memories) = match course {
            Course::There => (None, false, stats.items.saturating_sub(stats.embedded)),
            Course::Move { from, begun } => (Some(from), begun, stats.items),
        };
        let inner = self.inner();
        // Each memory's text is read, once to find it and once for its text, and its vector written.
        let (reads, writes) = (memories.saturating_mul(2), memories);
        let cost = &inner.settings.cost;
        let estimate = inner.bills.then(|| cost.amount(reads, writes, 0));
        let to = attached.space.clone();
        Ok(ReembedPreview { from, to, begun, memories, reads, writes, estimate })
    }

    /// Moves the tenant's vectors to the embedder's space: makes a vector of every memory, switches,
    /// and drops the old space.
    ///
    /// Until the switch searches and writes of processes that have the old model go on as before;
    /// after it they are told that the tenant has another model. Called again after a stop, it goes
    /// on. A memory that is written meanwhile and missed at the switch has no vector until the end of
    /// this call, or until [`TenantMemory::embed_missing`]; it is found by its words all the time.
    ///
    /// Errors are in the report: `Unsupported`, there is no embedder; `Conflict`, the tenant is being
    /// moved to yet another space, see [`TenantMemory::abandon_reembed`]; otherwise what the embedder
    /// or the store met.
    ///
    /// # Cancellation
    /// As [`TenantMemory::embed_missing`]: what was stored stays, and the next call goes on.
    pub async fn reembed(&self, options: EmbedOptions) -> ReembedReport {
        let mut report = ReembedReport::default();
        if let Err(error) = self.run_reembed(&options, &mut report).await {
            report.embed.stopped = Some(error);
        }
        report
    }

    async fn run_reembed(&self, options: &EmbedOptions, report: &mut ReembedReport) -> Result<()> {
        let context = self.context(None);
        let attached = self.attached_for_a_move()?;
        report.to = Some(attached.space.clone());
        let Some(from) = self.begin_move(&context, attached).await? else {
            return self.rest(options, report).await;
        };
        report.from = Some(from);
        report.embed.missing_before = self.stats().await?.items;
        for _ in 0..PASSES {
            let before = report.embed.embedded + report.embed.stale;
            // What is refused is met again by each pass.
            (report.embed.failed, report.embed.failures) = (0, Vec::new());
            let run = EmbedRun::to(attached.space.clone());
            self.fill_space(attached, run, options, &mut report.embed).await?;
            if report.embed.cancelled {
                return Ok(());
            }
            if report.embed.embedded + report.embed.stale == before {
                break;
            }
        }
        self.switch(&context, attached).await?;
        report.switched = true;
        self.rest(options, report).await
    }

    /// What the active space lacks.
    async fn rest(&self, options: &EmbedOptions, report: &mut ReembedReport) -> Result<()> {
        let EmbedReport { embedded, stale, failed, failures, cancelled, stopped, .. } =
            self.embed_missing(options.clone()).await;
        report.embed.embedded += embedded;
        report.embed.stale += stale;
        (report.embed.failed, report.embed.failures) = (failed, failures);
        report.embed.cancelled = cancelled;
        stopped.map_or(Ok(()), Err)
    }

    /// Gives up a move that was begun: the next space is dropped with its vectors, and the active one
    /// stays. `false` where none was begun.
    ///
    /// # Errors
    /// As every call.
    pub async fn abandon_reembed(&self) -> Result<bool> {
        let context = self.context(None);
        for _ in 0..ATTEMPTS {
            let spaces = self.inner().backend.meta.spaces(&context).await?;
            if spaces.next.is_none() {
                return Ok(false);
            }
            if self.set(&context, TenantSpaces { next: None, ..spaces }).await? {
                return Ok(true);
            }
        }
        Err(unsettled())
    }

    fn attached_for_a_move(&self) -> Result<&Attached> {
        let embedding = &self.inner().embedding;
        embedding
            .attached()
            .ok_or_else(|| Error::unsupported(embedding.no_model()).with_operation("reembed"))
    }

    /// Declares the new space, where it is not; the old one, or `None` where there is nothing to move.
    async fn begin_move(
        &self,
        context: &CallContext,
        attached: &Attached,
    ) -> Result<Option<EmbeddingSpace>> {
        for _ in 0..ATTEMPTS {
            let spaces = self.inner().backend.meta.spaces(context).await?;
            match course(attached, &spaces)? {
                Course::There => return Ok(None),
                Course::Move { from, begun: true } => return Ok(Some(from)),
                Course::Move { from, begun: false } => {
                    let next = Some(attached.space.clone());
                    if self.set(context, TenantSpaces { next, ..spaces }).await? {
                        return Ok(Some(from));
                    }
                }
            }
        }
        Err(unsettled())
    }

    /// The new space becomes the active one, and the old one goes with its vectors.
    async fn switch(&self, context: &CallContext, attached: &Attached) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let spaces = self.inner().backend.meta.spaces(context).await?;
            if spaces.active.as_ref() == Some(&attached.space) {
                return Ok(());
            }
            if spaces.next.as_ref() != Some(&attached.space) {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "the move was given up, or the tenant erased, while it was under way",
                )
                .with_operation("reembed"));
            }
            let active = Some(attached.space.clone());
            if self.set(context, TenantSpaces { active, next: None, ..spaces }).await? {
                return Ok(());
            }
        }
        Err(unsettled())
    }

    /// Sets the spaces; `false` where somebody else was quicker.
    async fn set(&self, context: &CallContext, spaces: TenantSpaces) -> Result<bool> {
        let answer = self.inner().backend.meta.set_spaces(context, &spaces).await;
        self.forget_space();
        match answer {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// What there is to do for a tenant with these spaces.
///
/// # Errors
/// `Conflict`: it is being moved elsewhere.
fn course(attached: &Attached, spaces: &TenantSpaces) -> Result<Course> {
    let target = &attached.space;
    match (&spaces.active, &spaces.next) {
        (None, _) => Ok(Course::There),
        (Some(active), None) if active == target => Ok(Course::There),
        (Some(active), Some(next)) if next == target => {
            Ok(Course::Move { from: active.clone(), begun: true })
        }
        (Some(active), None) => Ok(Course::Move { from: active.clone(), begun: false }),
        (Some(_), Some(next)) => Err(Error::new(
            ErrorKind::Conflict,
            format!(
                "the tenant is being moved to the space {next}, and the embedding model makes \
                 vectors of {target}: finish that move with its model, or give it up (`reembed \
                 --abandon`)"
            ),
        )
        .with_operation("reembed")),
    }
}

fn unsettled() -> Error {
    Error::new(ErrorKind::Conflict, "the tenant's embedding spaces keep changing")
        .with_operation("reembed")
}

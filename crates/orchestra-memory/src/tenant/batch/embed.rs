//! The vectors of a batch.

use memory_core::{CallContext, Error, Result};

use super::{BatchPolicy, Prepared};
use crate::embedding::TextOutcome;
use crate::options::{ItemOutcome, OnConflict};
use crate::report::VectorState;
use crate::settings::{EmbedWhen, OnEmbedFailure};
use crate::tenant::TenantMemory;
use crate::tenant::vectors::{Stance, stands_aside};

impl TenantMemory {
    /// Makes the vectors of memories that have none of the caller's, as the settings say. What is
    /// there already is taken out first.
    ///
    /// # Errors
    /// `Config`: the tenant has a space of another model. Under [`OnEmbedFailure::Refuse`] the
    /// fault of the embedder.
    pub(super) async fn embed_batch(
        &self,
        context: &CallContext,
        policy: &BatchPolicy,
        batch: &mut Prepared,
    ) -> Result<()> {
        let embedding = &self.inner().embedding;
        let Some(attached) = embedding.attached() else { return Ok(()) };
        if lacking(batch).next().is_none() {
            return Ok(());
        }
        if policy.on_conflict != OnConflict::Replace && embedding.when == EmbedWhen::Write {
            let ready = std::mem::take(&mut batch.ready);
            batch.ready = self.without_taken(context, ready, policy, &mut batch.result).await?;
            if lacking(batch).next().is_none() {
                return Ok(());
            }
        }
        if let Stance::Aside(active) = self.stance(context, attached).await? {
            lacking(batch).for_each(|ready| ready.state = VectorState::Aside);
            batch.result.note(stands_aside(attached, &active));
            return Ok(());
        }
        if embedding.when != EmbedWhen::Write {
            lacking(batch).for_each(|ready| ready.state = VectorState::Later);
            return Ok(());
        }
        let texts: Vec<String> = lacking(batch).map(|ready| ready.text().into_owned()).collect();
        let context = self.embed_context(context);
        let made = embedding.texts(attached, &context, &texts).await;
        drop(texts);
        if let Some(fault) = &made.fault {
            embedding.note_failure(fault);
        }
        if embedding.on_failure == OnEmbedFailure::Refuse
            && let Some(fault) = made.fault
        {
            return Err(fault);
        }
        let mut refused = Vec::new();
        let mut first: Option<Error> = None;
        for (ready, outcome) in lacking(batch).zip(made.outcomes) {
            match outcome {
                TextOutcome::Vector(vector) => {
                    ready.set_vector(Some(vector), VectorState::Made);
                }
                TextOutcome::Failed => ready.state = VectorState::Missing,
                TextOutcome::Refused(error) => {
                    embedding.note_failure(&error);
                    ready.state = VectorState::Missing;
                    match embedding.on_failure {
                        OnEmbedFailure::Refuse => refused.push((ready.place, error)),
                        OnEmbedFailure::Store => drop(first.get_or_insert(error)),
                    }
                }
            }
        }
        // A text that was refused comes before the fault that ended the calls.
        first.into_iter().chain(made.fault).for_each(|reason| batch.result.note(reason));
        // Their memories stand alone: the others go in.
        batch.ready.retain(|ready| !refused.iter().any(|(place, _)| *place == ready.place));
        for (place, error) in refused {
            batch.result.outcomes[place] = ItemOutcome::Failed(error);
        }
        Ok(())
    }
}

/// The memories whose vector is to be made: none of the caller's, and nothing decided yet.
fn lacking(batch: &mut Prepared) -> impl Iterator<Item = &mut super::Ready> {
    batch.ready.iter_mut().filter(|ready| ready.state == VectorState::NoEmbedder)
}

//! What the embedder is to a tenant, and the vector of a text that is written.

use memory_core::{CallContext, Deadline, EmbeddingSpace, Error, ErrorKind, Result};

use super::TenantMemory;
use super::spaces::{CALLER, KnownSpace, TENANT_SPACE};
use crate::embedding::{Attached, TextOutcome};
use crate::report::VectorState;
use crate::settings::{EmbedWhen, OnEmbedFailure};

/// What the embedder is to a tenant.
#[derive(Clone, Debug)]
pub(super) enum Stance {
    /// The tenant's active space is the embedder's.
    Serves(KnownSpace),
    /// The tenant has no space: the first vector declares the embedder's.
    Undeclared,
    /// The tenant's vectors are the caller's own, and the embedder was found rather than asked
    /// for: it makes none.
    Aside(EmbeddingSpace),
}

/// The vector of a text that is written.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) vector: Option<Vec<f32>>,
    pub(super) state: VectorState,
    /// Why there is none, where one was to be made.
    pub(super) reason: Option<Error>,
}

impl Made {
    /// No vector was made.
    pub(super) fn of(state: VectorState) -> Self {
        Self { vector: None, state, reason: None }
    }

    pub(super) fn aside(attached: &Attached, active: &EmbeddingSpace) -> Self {
        let reason = Some(stands_aside(attached, active));
        Self { reason, ..Self::of(VectorState::Aside) }
    }
}

impl TenantMemory {
    /// What the embedder is to the tenant, by what is remembered of its space where that does.
    ///
    /// # Errors
    /// `Config`: the tenant has a space of another model.
    pub(super) async fn stance(
        &self,
        context: &CallContext,
        attached: &Attached,
    ) -> Result<Stance> {
        // A refusal rests on what the store says now, not on what it said some seconds ago.
        if let Some(known) = self.remembered()
            && let Ok(stance) = judge(attached, known)
        {
            return Ok(stance);
        }
        self.stance_now(context, attached).await
    }

    /// As [`TenantMemory::stance`], as the store has it.
    pub(super) async fn stance_now(
        &self,
        context: &CallContext,
        attached: &Attached,
    ) -> Result<Stance> {
        match self.read_spaces(context).await? {
            (_, Some(active)) => judge(attached, KnownSpace::read(active)),
            (_, None) => Ok(Stance::Undeclared),
        }
    }

    /// As [`TenantMemory::stance`]; a tenant without a space has the embedder's afterwards.
    pub(super) async fn stance_declared(
        &self,
        context: &CallContext,
        attached: &Attached,
    ) -> Result<Stance> {
        match self.stance(context, attached).await? {
            Stance::Undeclared => {
                let wanted = || Ok(attached.space.clone());
                let active = self.active_or_declared(context, wanted).await?;
                judge(attached, KnownSpace::read(active))
            }
            stance => Ok(stance),
        }
    }

    /// The vector of a text that is about to be written and has none of the caller's, or why it
    /// has none.
    ///
    /// # Errors
    /// `Config`: the tenant has a space of another model. Under [`OnEmbedFailure::Refuse`] those
    /// of the embedder.
    pub(super) async fn make(&self, context: &CallContext, text: &str) -> Result<Made> {
        let embedding = &self.inner().embedding;
        let Some(attached) = embedding.attached() else {
            return Ok(Made::of(VectorState::NoEmbedder));
        };
        // Before what is left for later: a memory that nobody would ever make a vector for is not
        // promised one.
        if let Stance::Aside(active) = self.stance(context, attached).await? {
            return Ok(Made::aside(attached, &active));
        }
        if embedding.when != EmbedWhen::Write {
            return Ok(Made::of(VectorState::Later));
        }
        let context = self.embed_context(context);
        let mut made = embedding.texts(attached, &context, &[text.to_owned()]).await;
        let error = match (made.outcomes.pop(), made.fault) {
            (Some(TextOutcome::Vector(vector)), _) => {
                return Ok(Made { vector: Some(vector), state: VectorState::Made, reason: None });
            }
            (Some(TextOutcome::Refused(error)), _) | (_, Some(error)) => error,
            (_, None) => Error::new(ErrorKind::Unexpected, "a text was not embedded"),
        };
        embedding.note_failure(&error);
        match embedding.on_failure {
            OnEmbedFailure::Refuse => Err(error),
            OnEmbedFailure::Store => {
                Ok(Made { vector: None, state: VectorState::Missing, reason: Some(error) })
            }
        }
    }

    /// The context of the embedder's part of a write. Where a memory is stored without a vector
    /// that cannot be made, the embedder has half of the time that is left, so that a slow one
    /// leaves some for the commit.
    pub(super) fn embed_context(&self, context: &CallContext) -> CallContext {
        let inner = self.inner();
        let deadline = match inner.embedding.on_failure {
            OnEmbedFailure::Refuse => context.deadline,
            OnEmbedFailure::Store => context.deadline.map(|deadline| {
                let now = inner.clock.monotonic();
                Deadline::at(now.saturating_add(deadline.remaining(now) / 2))
            }),
        };
        context.clone().with_deadline(deadline)
    }
}

/// What the embedder is to a tenant of this space.
pub(super) fn judge(attached: &Attached, known: KnownSpace) -> Result<Stance> {
    if known.space == attached.space {
        return Ok(Stance::Serves(known));
    }
    if attached.stands_aside() && known.space.model() == CALLER {
        return Ok(Stance::Aside(known.space));
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "the embedding model makes vectors of the space {}; the tenant's is {}, and the two \
             cannot be compared: set the embedder back to the tenant's model, search by words \
             alone (`--arm keyword`), or move the tenant to the model (`reembed`)",
            attached.space, known.space
        ),
    )
    .with_operation("embed")
    .with_context(TENANT_SPACE, known.space.to_string()))
}

/// Why there is no vector, for a receipt: the kind and the message, without the places it came by.
pub(super) fn in_words(reason: &Error) -> String {
    format!("{}: {}", reason.kind(), reason.message())
}

/// Why nothing is made for a tenant whose vectors are the caller's.
pub(super) fn stands_aside(attached: &Attached, active: &EmbeddingSpace) -> Error {
    Error::new(
        ErrorKind::Config,
        format!(
            "the tenant's vectors are the caller's own (space {active}), and the embedding model \
             ({}) was found on this machine rather than asked for: it makes none; to have it embed the tenant's memories in \
             place of those vectors, move the tenant to it (`reembed`)",
            attached.space
        ),
    )
    .with_operation("embed")
    .with_context(TENANT_SPACE, active.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use async_trait::async_trait;
    use futures::executor::block_on;
    use memory_core::traits::{EmbedPurpose, Embedder, StoreMeta, TenantSpaces};
    use memory_core::{
        Health, ManualClock, MemoryId, Metric, RandomIds, TenantId, Timestamp, UserId,
    };
    use memory_testkit::ReferenceStore;

    use super::*;
    use crate::backend::Backend;
    use crate::embedding::Embedding;
    use crate::layers::{Composer, Layers};
    use crate::ledger::UsageLedger;
    use crate::memory::Memory;
    use crate::new_memory::NewMemory;
    use crate::options::{AddManyOptions, AddOptions, UpdateOptions};
    use crate::patch::Patch;
    use crate::settings::Settings;

    /// Declares a caller's space for the tenant while it embeds, as often as it is told.
    #[derive(Debug)]
    struct Overtaken {
        store: Arc<ReferenceStore>,
        times: Mutex<u32>,
    }

    #[async_trait]
    impl Embedder for Overtaken {
        fn space(&self) -> EmbeddingSpace {
            EmbeddingSpace::new("found", "1", 2, Metric::Cosine).unwrap()
        }
        fn max_batch(&self) -> usize {
            8
        }
        async fn embed(
            &self,
            context: &CallContext,
            texts: &[String],
            _: EmbedPurpose,
        ) -> Result<Vec<Vec<f32>>> {
            let overtaken = {
                let mut times = self.times.lock().unwrap();
                let left = *times;
                *times = left.saturating_sub(1);
                left > 0
            };
            if overtaken {
                let now = self.store.spaces(context).await?;
                let active = Some(EmbeddingSpace::new(CALLER, "1", 2, Metric::Cosine)?);
                self.store.set_spaces(context, &TenantSpaces { active, ..now }).await?;
            }
            Ok(texts.iter().map(|_| vec![1.0, 0.0]).collect())
        }
        async fn health(&self) -> Health {
            Health::healthy()
        }
    }

    fn memory(times: u32) -> (Memory, Arc<ReferenceStore>, Arc<ManualClock>) {
        memory_of(times, EmbedWhen::Write)
    }

    fn memory_of(times: u32, when: EmbedWhen) -> (Memory, Arc<ReferenceStore>, Arc<ManualClock>) {
        let manual = Arc::new(ManualClock::new(Timestamp::MIN));
        let clock: Arc<dyn memory_core::Clock> = manual.clone();
        let store = Arc::new(ReferenceStore::new(clock.clone()));
        let overtaken = Overtaken { store: store.clone(), times: Mutex::new(times) };
        let mut settings = Settings::default();
        settings.embedding.cache_entries = 0;
        settings.embedding.when = when;
        let composer = Composer {
            settings: &settings.layers,
            clock: clock.clone(),
            ids: Arc::new(RandomIds),
            timer: None,
            recorder: None,
            own: Vec::new(),
        };
        let opened = Embedding::open(&settings.embedding, Some(Arc::new(overtaken)), &composer);
        let (embedding, around) = opened.unwrap();
        let backend = Backend::of(store.clone());
        let layers =
            Layers { backend: composer.backend(&backend, None).unwrap(), embedder: around };
        let memory = Memory::compose(
            backend,
            layers,
            Arc::new(settings.clone()),
            clock,
            Arc::new(RandomIds),
            Arc::new(UsageLedger::new()),
            embedding.found(),
        );
        (memory.unwrap(), store, manual)
    }

    fn note(text: &str) -> NewMemory {
        NewMemory::new(text).with_user(UserId::new("ada").unwrap())
    }

    fn embedded(tenant: &TenantMemory) -> (u64, u64) {
        let stats = block_on(tenant.stats()).unwrap();
        (stats.items, stats.embedded)
    }

    #[test]
    fn a_made_vector_is_left_out_where_the_caller_came_first_meanwhile() {
        for (times, made) in [(0, true), (1, false)] {
            let state = if made { VectorState::Made } else { VectorState::Aside };
            let (memory, ..) = memory(times);
            let tenant = memory.tenant("one").unwrap();
            let receipt = block_on(tenant.add_with(note("x"), AddOptions::new())).unwrap();
            assert_eq!((receipt.vector, receipt.vector_reason.is_some()), (state, !made));
            let way_out = |reason: &String| reason.contains("(`reembed`)");
            assert_eq!(receipt.vector_reason.is_some_and(|reason| way_out(&reason)), !made);
            assert_eq!(embedded(&tenant), (1, u64::from(made)));
        }
        for (times, made) in [(0, true), (1, false)] {
            let (memory, ..) = memory(times);
            let tenant = memory.tenant("many").unwrap();
            let report = block_on(tenant.add_many(["x", "y"].map(note), AddManyOptions::new()));
            let without = if made { 0 } else { 2 };
            assert_eq!((report.added, report.without_vector), (2, without));
            assert_eq!(report.without_vector_reason.is_some(), !made);
            assert_eq!(embedded(&tenant), (2, 2 - without));
        }
    }

    #[test]
    fn a_callers_vector_outlives_another_author_whenever_vectors_are_made() {
        for when in [EmbedWhen::Write, EmbedWhen::Background, EmbedWhen::Later] {
            let (memory, ..) = memory_of(0, when);
            let id = MemoryId::new("m").unwrap();
            let update = |tenant: &TenantMemory, patch: Patch| {
                let options = UpdateOptions::new();
                block_on(tenant.update_with(&id, &patch, options)).unwrap().vector
            };
            let author = || Patch::new().with_author("Ada".to_owned());
            let tenant = memory.tenant("own").unwrap();
            let own = note("own").with_id(id.clone()).with_embedding(vec![0.0, 1.0, 0.0]);
            block_on(tenant.add(own)).unwrap();
            let receipt = block_on(tenant.add_with(note("x"), AddOptions::new())).unwrap();
            assert_eq!(receipt.vector, VectorState::Aside, "{when:?}");
            let report = block_on(tenant.add_many([note("y")], AddManyOptions::new()));
            assert_eq!((report.added, report.without_vector), (1, 1), "{when:?}");
            assert_eq!(update(&tenant, author()), VectorState::Aside, "{when:?}");
            assert_eq!(embedded(&tenant), (3, 1), "{when:?}");
            let content = Patch::new().with_content("another");
            assert_eq!(update(&tenant, content), VectorState::Aside, "{when:?}");
            assert_eq!(embedded(&tenant), (3, 0), "it was of the content");
            // The twin: the vectors are the model's.
            let tenant = memory.tenant("made").unwrap();
            let made = match when {
                EmbedWhen::Write => VectorState::Made,
                _ => VectorState::Later,
            };
            let note = note("x").with_id(id.clone());
            let receipt = block_on(tenant.add_with(note, AddOptions::new())).unwrap();
            assert_eq!((receipt.vector, update(&tenant, author())), (made, made), "{when:?}");
        }
    }

    #[test]
    fn a_space_that_was_remembered_and_is_the_callers_now_is_noticed() {
        let (memory, store, clock) = memory(0);
        let tenant = memory.tenant("t").unwrap();
        let id = MemoryId::new("m").unwrap();
        block_on(tenant.add(note("x").with_id(id.clone()))).unwrap();
        let context = CallContext::new(TenantId::new("t").unwrap());
        let declare = |model: &str| {
            let now = block_on(store.spaces(&context)).unwrap();
            let active = Some(EmbeddingSpace::new(model, "1", 2, Metric::Cosine).unwrap());
            block_on(store.set_spaces(&context, &TenantSpaces { active, ..now })).unwrap();
        };
        let found_again = || {
            declare("found");
            // What was remembered ends.
            clock.advance(Duration::from_secs(5));
        };
        let remember = || {
            found_again();
            block_on(tenant.add(note("remembers"))).unwrap();
            declare(CALLER);
        };
        remember();
        let receipt = block_on(tenant.add_with(note("y"), AddOptions::new())).unwrap();
        assert_eq!(receipt.vector, VectorState::Aside);
        remember();
        let many = [note("z"), note("own").with_embedding(vec![0.0, 1.0]), note("w")];
        let report = block_on(tenant.add_many(many, AddManyOptions::new()));
        assert_eq!((report.added, report.failed, report.without_vector), (3, 0, 2));
        assert_eq!(embedded(&tenant).1, 1, "the caller's own");
        remember();
        let patch = Patch::new().with_content("new");
        block_on(tenant.update(&id, &patch, UpdateOptions::new())).unwrap();
        assert_eq!(embedded(&tenant).1, 0);
        found_again();
        let patch = Patch::new().with_content("newer");
        block_on(tenant.update(&id, &patch, UpdateOptions::new())).unwrap();
        assert_eq!(embedded(&tenant).1, 1);
    }
}

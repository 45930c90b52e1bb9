//! The embedder's space and the tenant's: who declares it, and what becomes of a mismatch.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::traits::{EmbedPurpose, Embedder, TenantSpaces};
use memory_core::{CallContext, EmbeddingSpace, Health, ManualClock, Metric};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, AddOptions, ArmSelection, Backend, EmbedOptions, EmbedWhen, EraseOptions,
    ErrorKind, Filter, ImportOptions, Memory, MemoryBuilder, Patch, Projection, Result,
    SearchRequest, TenantMemory, UpdateOptions, VectorProjection, VectorState,
};

use crate::support::{
    block_on, each_store_embedding, each_store_with, embedding, id, note, plain, start,
};
use crate::words::{Words, vector};

/// Two memories on one store, as two processes have them: the first with an embedder.
#[expect(clippy::needless_pass_by_value, reason = "callers write the check as a closure in place")]
fn each_pair(words: impl Fn() -> Words, check: impl AsyncFn(&Memory, &Memory, &Words)) {
    each_pair_with(|_| words().into(), |here, there, words| block_on(check(here, there, words)));
}

/// As above, with an embedder that may know the other memory.
fn each_pair_with(embedder: impl Fn(&Memory) -> Fixture, check: impl Fn(&Memory, &Memory, &Words)) {
    let clock = Arc::new(ManualClock::new(start()));
    let store = Arc::new(ReferenceStore::new(clock.clone()));
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("pair.db").display());
    let file = |builder: MemoryBuilder| builder.url(&url);
    let reference = |builder: MemoryBuilder| builder.backend(Backend::of(store.clone()));
    type Over<'a> = &'a dyn Fn(MemoryBuilder) -> MemoryBuilder;
    let mut places: Vec<Over<'_>> = vec![&reference];
    if cfg!(feature = "sqlite") {
        places.push(&file);
    }
    for over in places {
        let open =
            |builder: MemoryBuilder| block_on(over(builder.clock(clock.clone())).open()).unwrap();
        let there = open(Memory::builder().settings(plain()));
        let fixture = embedder(&there);
        let here = Memory::builder().settings(embedding()).embedder(fixture.embedder);
        let here = open(here);
        check(&here, &there, &fixture.words);
        block_on(here.close()).unwrap();
        block_on(there.close()).unwrap();
    }
}

struct Fixture {
    words: Words,
    embedder: Arc<dyn Embedder>,
}

impl From<Words> for Fixture {
    fn from(words: Words) -> Self {
        Self { embedder: words.embedder(), words }
    }
}

fn space(model: &str, dimensions: u32) -> EmbeddingSpace {
    EmbeddingSpace::new(model, "1", dimensions, Metric::Cosine).unwrap()
}

/// Declares an active space, which takes the vectors of the former one away.
async fn declare(memory: &Memory, space: Option<EmbeddingSpace>) {
    let tenant = memory.default_tenant();
    let spaces = tenant.spaces().await.unwrap();
    let spaces = TenantSpaces { active: space, next: None, ..spaces };
    let admin = memory.admin();
    admin.meta().set_spaces(&admin.context(tenant.id().clone()), &spaces).await.unwrap();
}

async fn vectors_of(tenant: &TenantMemory, name: &str) -> Vec<Vec<f32>> {
    let projection = Projection::full().with_vectors(VectorProjection::All);
    let found = tenant.get_many(&[id(name)], &projection).await.unwrap();
    found.into_iter().flatten().flat_map(|item| item.vectors.into_values()).collect()
}

const LINE: &[u8] = b"{\"user_id\":\"u\",\"content\":\"imported\"}\n";

#[test]
fn an_embedder_of_another_space_is_refused_before_anything_is_written() {
    each_pair(Words::new, async |here, there, words| {
        let other = there.default_tenant();
        let theirs = note("there").with_id(id("m")).with_embedding(vec![1.0, 0.0]);
        other.add(theirs).await.unwrap();
        let tenant = here.default_tenant();
        let patch = Patch::new().with_content("new");
        let stopped = |stopped: Option<memory_core::Error>| stopped.unwrap();
        for error in [
            tenant.add(note("x")).await.unwrap_err(),
            tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap_err(),
            stopped(tenant.add_many([note("x")], AddManyOptions::new()).await.stopped),
            stopped(tenant.import(LINE, ImportOptions::new("f")).await.stopped),
            stopped(tenant.embed_missing(EmbedOptions::new()).await.stopped),
            tenant.search(&SearchRequest::new().with_text("there")).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            for part in ["256/cosine/words@1", "2/cosine/caller@1", "--arm keyword", "`reembed`"] {
                assert!(error.message().contains(part), "{part}: {error}");
            }
        }
        assert_eq!((words.calls(), tenant.count(&Filter::All).await.unwrap()), (0, 1));
        assert_eq!(tenant.get(&id("m")).await.unwrap().unwrap().content(), "there");
        // What embeds nothing goes on.
        let by_words = SearchRequest::new().with_text("there");
        let by_words = by_words.with_arms(ArmSelection::KeywordOnly);
        assert_eq!(tenant.search(&by_words).await.unwrap().hits.len(), 1);
        let patch = Patch::new().with_importance(0.5);
        tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        tenant.add(note("own").with_embedding(vec![0.0, 1.0])).await.unwrap();
        let request = SearchRequest::new();
        let found = tenant.search_with_vector(request, vec![0.0, 1.0]).await.unwrap();
        assert_eq!(found.hits[0].item.content(), "own");
    });
}

#[test]
fn the_embedders_space_is_declared_by_the_first_vector_of_either_kind() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let made = stack.memory.tenant("made").unwrap();
        made.add(note("x")).await.unwrap();
        let own = stack.memory.tenant("own").unwrap();
        let error = own.add(note("x").with_embedding(vec![1.0, 0.0])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "it is none of the model's");
        assert!(own.spaces().await.unwrap().active.is_none());
        own.add(note("x").with_embedding(vector("y"))).await.unwrap();
        for tenant in [made, own] {
            let active = tenant.spaces().await.unwrap().active;
            assert_eq!(active, Some(words.embedder().space()));
        }
        // Vectors of both kinds in one batch, the caller's last.
        let both = stack.memory.tenant("both").unwrap();
        let many = [note("x"), note("y").with_embedding(vector("z"))];
        let report = both.add_many(many, AddManyOptions::new()).await;
        assert_eq!((report.added, report.without_vector), (2, 0));
        assert_eq!(both.stats().await.unwrap().embedded, 2);
    });
}

#[test]
fn a_space_that_another_process_takes_away_is_declared_again() {
    each_pair(Words::new, async |here, there, words| {
        let (tenant, other) = (here.default_tenant(), there.default_tenant());
        let request = SearchRequest::new().with_text("tea");
        let erase = async || other.erase_tenant(EraseOptions::new()).await.unwrap();
        tenant.add(note("tea")).await.unwrap();
        erase().await;
        let answer = tenant.search(&request).await.unwrap();
        assert!(answer.notes[0].contains("has a vector yet"), "{:?}", answer.notes);
        tenant.add(note("tea")).await.unwrap();
        erase().await;
        tenant.add(note("tea").with_id(id("one"))).await.unwrap();
        assert_eq!(vectors_of(&tenant, "one").await, [vector("tea")]);
        erase().await;
        let many = ["two", "three"].map(|name| note("tea").with_id(id(name)));
        let report = tenant.add_many(many, AddManyOptions::new()).await;
        assert_eq!((report.added, report.without_vector), (2, 0));
        assert_eq!(vectors_of(&tenant, "three").await, [vector("tea")]);
        let patch = Patch::new().with_content("coffee");
        declare(there, None).await;
        tenant.update(&id("two"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(vectors_of(&tenant, "two").await, [vector("coffee")]);
        assert_eq!(tenant.search(&request).await.unwrap().hits.len(), 2);
        assert_eq!(tenant.spaces().await.unwrap().active, Some(words.embedder().space()));
    });
}

#[test]
fn a_made_vector_never_goes_into_a_space_that_came_in_between() {
    each_pair(Words::new, async |here, there, words| {
        let tenant = here.default_tenant();
        let patch = Patch::new().with_content("new");
        for (round, batch) in [(1, false), (2, true), (3, false)] {
            // What is remembered serves, so that the texts are embedded; the store then refuses.
            tenant.add(note("tea").with_id(id(&format!("m{round}")))).await.unwrap();
            declare(there, Some(space("another", 256))).await;
            let error = match (round, batch) {
                (1, _) => tenant.add(note("x")).await.unwrap_err(),
                (_, false) => {
                    tenant.update(&id("m1"), &patch, UpdateOptions::new()).await.unwrap_err()
                }
                (_, true) => {
                    let many = [note("x"), note("y"), note("z").with_embedding(vector("z"))];
                    let report = tenant.add_many(many, AddManyOptions::new()).await;
                    assert_eq!(report.added, 0);
                    report.stopped.unwrap()
                }
            };
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert_eq!(tenant.count(&Filter::All).await.unwrap(), round);
            let request = SearchRequest::new().with_text("tea");
            assert_eq!(tenant.search(&request).await.unwrap_err().kind(), ErrorKind::Config);
            declare(there, Some(space("words", 256))).await;
        }
        assert_eq!(words.calls(), 6, "each was embedded before it was refused");
        tenant.update(&id("m1"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(vectors_of(&tenant, "m1").await, [vector("new")]);
    });
}

/// Declares a space in the other process while it embeds.
#[derive(Debug)]
struct Usurper {
    words: Words,
    there: Memory,
    spaces: Mutex<Vec<Option<EmbeddingSpace>>>,
}

#[async_trait]
impl Embedder for Usurper {
    fn space(&self) -> EmbeddingSpace {
        self.words.space()
    }
    fn max_batch(&self) -> usize {
        self.words.max_batch()
    }
    async fn embed(
        &self,
        context: &CallContext,
        texts: &[String],
        purpose: EmbedPurpose,
    ) -> Result<Vec<Vec<f32>>> {
        let next = self.spaces.lock().unwrap().pop();
        if let Some(space) = next {
            declare(&self.there, space).await;
        }
        self.words.embed(context, texts, purpose).await
    }
    async fn health(&self) -> Health {
        Health::healthy()
    }
}

#[test]
fn a_race_for_the_first_space_is_lost_without_a_trace() {
    let embedder = |there: &Memory| {
        let words = Words::new();
        let spaces = vec![Some(space("another", 256)), None, Some(space("another", 256))];
        let usurper =
            Usurper { words: words.clone(), there: there.clone(), spaces: Mutex::new(spaces) };
        Fixture { words, embedder: Arc::new(usurper) }
    };
    each_pair_with(embedder, |here, there, _| {
        let tenant = here.default_tenant();
        let error = block_on(tenant.add(note("x"))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        block_on(declare(there, None));
        // The twin: nobody else declares one.
        block_on(tenant.add(note("x"))).unwrap();
        block_on(declare(there, None));
        let report = block_on(tenant.add_many([note("x")], AddManyOptions::new()));
        assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Config);
        assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 1);
        assert_eq!(
            block_on(there.default_tenant().spaces()).unwrap().active.unwrap().model(),
            "another"
        );
    });
}

#[test]
fn a_write_that_leaves_its_vector_for_later_is_refused_too() {
    for when in [EmbedWhen::Background, EmbedWhen::Later] {
        let mut settings = embedding();
        settings.embedding.when = when;
        each_store_embedding(&settings, Words::new, async |stack, words| {
            let tenant = stack.memory.default_tenant();
            declare(&stack.memory, Some(space("another", 2))).await;
            let error = tenant.add(note("x")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{when:?}");
            let report = tenant.add_many([note("x")], AddManyOptions::new()).await;
            assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Config, "{when:?}");
            let report = tenant.import(LINE, ImportOptions::new("f")).await;
            assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Config, "{when:?}");
            assert_eq!((tenant.count(&Filter::All).await.unwrap(), words.calls()), (0, 0));
            let own = note("x").with_id(id("m")).with_embedding(vec![1.0, 0.0]);
            let receipt = tenant.add_with(own, AddOptions::new()).await.unwrap();
            assert_eq!(receipt.vector, VectorState::Supplied);
            let patch = Patch::new().with_author("Ada".to_owned());
            let error = tenant.update(&id("m"), &patch, UpdateOptions::new()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{when:?}");
            assert_eq!(vectors_of(&tenant, "m").await, [vec![1.0, 0.0]]);
            // The twin: a tenant without a space is the embedder's.
            let fresh = stack.memory.tenant("fresh").unwrap();
            let receipt = fresh.add_with(note("x"), AddOptions::new()).await.unwrap();
            assert_eq!(receipt.vector, VectorState::Later, "{when:?}");
        });
    }
}

#[test]
fn another_author_keeps_a_vector_that_is_the_callers_and_no_other() {
    each_pair(Words::new, async |here, there, _| {
        let (tenant, other) = (here.default_tenant(), there.default_tenant());
        tenant.add(note("tea").with_id(id("m"))).await.unwrap();
        let author = async |tenant: &TenantMemory, name: &str| {
            let patch = Patch::new().with_author(name.to_owned());
            tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap().vector
        };
        // Nobody here could make it anew.
        assert_eq!(author(&other, "Ada").await, VectorState::NoEmbedder);
        assert!(vectors_of(&other, "m").await.is_empty());
        assert_eq!(tenant.embed_missing(EmbedOptions::new()).await.embedded, 1);
        assert_eq!(vectors_of(&tenant, "m").await, [vector("Ada: tea")]);
        // The twins: a caller's vector, by its space and by the settings.
        let own = there.tenant("own").unwrap();
        let given = note("tea").with_id(id("m")).with_embedding(vec![1.0, 0.0]);
        own.add(given.clone()).await.unwrap();
        assert_eq!(author(&own, "Ada").await, VectorState::Kept);
        assert_eq!(vectors_of(&own, "m").await, [vec![1.0, 0.0]]);
    });
    let mut settings = plain();
    settings.embedding = orchestra_memory::EmbeddingSettings::new("named", 2);
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.default_tenant();
        let given = note("tea").with_id(id("m")).with_embedding(vec![1.0, 0.0]);
        tenant.add(given).await.unwrap();
        let patch = Patch::new().with_author("Ada".to_owned());
        let done = tenant.update_with(&id("m"), &patch, UpdateOptions::new()).await.unwrap();
        assert_eq!(done.vector, VectorState::Kept);
        assert_eq!(vectors_of(&tenant, "m").await, [vec![1.0, 0.0]]);
    });
}

/// The local model, whose files have the right names and sizes and nothing in them.
#[cfg(feature = "minilm")]
mod auto {
    use orchestra_memory::model::MINILM;
    use orchestra_memory::{EmbedderSource, Settings};

    use super::*;

    fn found(check: impl Fn(&Settings)) {
        let folder = tempfile::tempdir().unwrap();
        for file in MINILM.files {
            let made = std::fs::File::create(folder.path().join(file.name)).unwrap();
            made.set_len(file.bytes).unwrap();
        }
        let mut settings = Settings::default();
        settings.embedding.minilm.folder = Some(folder.path().to_owned());
        check(&settings);
    }

    #[test]
    fn a_model_that_was_found_stands_aside_where_vectors_are_the_callers() {
        found(|settings| {
            each_store_with(settings, async |stack| {
                let info = stack.memory.embedder().unwrap();
                assert_eq!(info.source, EmbedderSource::Auto);
                let tenant = stack.memory.default_tenant();
                tenant.add(note("own").with_embedding(vec![1.0, 0.0])).await.unwrap();
                assert_eq!(tenant.spaces().await.unwrap().active, Some(space("caller", 2)));
                let options = AddOptions::new();
                let receipt = tenant.add_with(note("plain tea"), options).await.unwrap();
                assert_eq!(receipt.vector, VectorState::Aside);
                assert!(receipt.vector_reason.unwrap().contains("2/cosine/caller@1"));
                let many = [note("x"), note("y").with_embedding(vec![0.0, 1.0])];
                let report = tenant.add_many(many, AddManyOptions::new()).await;
                assert_eq!((report.added, report.without_vector), (2, 1));
                assert_eq!(report.without_vector_reason.unwrap().kind(), ErrorKind::Config);
                let report = tenant.import(LINE, ImportOptions::new("f")).await;
                assert_eq!((report.added, report.without_vector), (1, 1));
                let request = SearchRequest::new().with_text("tea");
                let answer = tenant.search(&request).await.unwrap();
                assert_eq!(answer.hits.len(), 1);
                assert!(answer.notes[0].contains("the caller's own"), "{:?}", answer.notes);
                let only = request.clone().with_arms(ArmSelection::VectorOnly);
                let error = tenant.search(&only).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                let report = tenant.embed_missing(EmbedOptions::new()).await;
                assert_eq!(report.stopped.unwrap().kind(), ErrorKind::Config);
                let state = stack.memory.embedding_state().await;
                assert_eq!(state.failures, 0, "it was never asked");
                // Another model's space is no caller's: that is a mistake here as well.
                declare(&stack.memory, Some(space("another", 2))).await;
                let other = stack.memory.tenant("fresh").unwrap();
                let error = tenant.search(&request).await.err();
                // What was remembered ends after five seconds.
                assert!(error.is_none_or(|error| error.kind() == ErrorKind::Config));
                stack.clock.advance(std::time::Duration::from_secs(5));
                let error = tenant.add(note("x")).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(other.spaces().await.unwrap().active.is_none());
            });
        });
    }

    #[test]
    fn a_model_that_is_broken_is_no_reason_to_forget() {
        found(|settings| {
            each_store_with(settings, async |stack| {
                let tenant = stack.memory.default_tenant();
                let receipt = tenant.add_with(note("tea"), AddOptions::new()).await.unwrap();
                assert_eq!(receipt.vector, VectorState::Missing);
                let reason = receipt.vector_reason.unwrap();
                assert!(reason.starts_with("corrupt") && reason.contains("model pull"), "{reason}");
                assert!(tenant.spaces().await.unwrap().active.is_none());
                assert_eq!(stack.memory.embedding_state().await.failures, 1);
            });
        });
    }
}

//! Vectors that are made from texts: with writes, and for searches.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use memory_core::traits::{EmbedPurpose, MockEmbedder, MockRecordStore, MockStoreMeta};
use memory_core::{EmbeddingSpace, Metric};
use orchestra_memory::{
    AddManyOptions, AddManyReport, AddOptions, Arm, ArmSelection, Callback, CancelFlag, Change,
    EmbedOptions, EmbedWhen, EmbedderSource, EmbeddingSettings, ErrorKind, HealthStatus,
    ImportOptions, ImportReport, Memory, OnConflict, Patch, Projection, SearchRequest,
    TenantMemory, UpdateOptions, VectorProjection, VectorState,
};

use crate::support::{
    block_on, builder, each_store, each_store_embedding, embedding, id, mock_backend, note,
};
use crate::words::{Failure, Words, vector};

async fn held(tenant: &TenantMemory, name: &str) -> Option<Vec<f32>> {
    let projection = Projection::full().with_vectors(VectorProjection::All);
    let found = tenant.get_many(&[id(name)], &projection).await.unwrap();
    found[0].as_ref().unwrap().vectors.values().next().cloned()
}

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().copied().map(str::to_owned).collect()
}

/// Lines of a file, `line 0` and so on.
fn lines(count: usize) -> String {
    (0..count).map(|n| format!("{{\"user_id\":\"u\",\"content\":\"line {n}\"}}\n")).collect()
}

#[test]
fn every_write_makes_the_vector_that_it_was_not_given() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("one").with_id(id("one"))).await.unwrap();
        let space = tenant.spaces().await.unwrap().active.unwrap();
        assert_eq!((space.model(), space.dimensions()), ("words", 256));
        assert_eq!(held(&tenant, "one").await, Some(vector("one")));
        let receipt = tenant.add_with(note("two").with_id(id("two")), AddOptions::new()).await;
        let receipt = receipt.unwrap();
        assert_eq!((receipt.vector, receipt.vector_reason), (VectorState::Made, None));
        let own = vector("something else");
        let given = note("three").with_id(id("three")).with_embedding(own.clone());
        let receipt = tenant.add_with(given, AddOptions::new()).await.unwrap();
        assert_eq!(receipt.vector, VectorState::Supplied);
        let many = [
            note("four").with_id(id("four")),
            note("five").with_id(id("five")).with_embedding(own.clone()),
            note("six").with_id(id("six")),
        ];
        let report = tenant.add_many(many, AddManyOptions::new()).await;
        assert_eq!((report.added, report.without_vector), (3, 0));
        assert!(report.without_vector_reason.is_none());
        let line = b"{\"id\":\"seven\",\"user_id\":\"u\",\"content\":\"seven\"}\n";
        let report = tenant.import(&line[..], ImportOptions::new("f")).await;
        assert_eq!((report.added, report.without_vector), (1, 0));
        assert_eq!(words.documents(), texts(&["one", "two", "four", "six", "seven"]));
        for (name, want) in [("four", vector("four")), ("five", own), ("seven", vector("seven"))] {
            assert_eq!(held(&tenant, name).await, Some(want), "{name}");
        }
        let stats = tenant.stats().await.unwrap();
        assert_eq!((stats.items, stats.embedded), (7, 7));
    });
}

#[test]
fn an_update_embeds_a_text_that_changes_and_no_other() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("old").with_id(id("m"))).await.unwrap();
        words.take();
        let update =
            async |patch: Patch| tenant.update(&id("m"), &patch, UpdateOptions::new()).await;
        update(Patch::new().with_importance(0.5)).await.unwrap();
        update(Patch::new().with_content("old")).await.unwrap();
        assert_eq!((words.calls(), held(&tenant, "m").await), (0, Some(vector("old"))));
        update(Patch::new().with_content("new")).await.unwrap();
        assert_eq!(words.documents(), texts(&["new"]));
        assert_eq!(held(&tenant, "m").await, Some(vector("new")));
        // Who says it is part of what is embedded.
        update(Patch::new().with_author("Ada".to_owned())).await.unwrap();
        assert_eq!(words.documents(), texts(&["Ada: new"]));
        assert_eq!(held(&tenant, "m").await, Some(vector("Ada: new")));
        update(Patch::new().with_content("own").with_embedding(vector("x"))).await.unwrap();
        assert_eq!((words.calls(), held(&tenant, "m").await), (0, Some(vector("x"))));
        update(Patch::new().with_content("bare").with_embedding(Change::Clear)).await.unwrap();
        assert_eq!((words.calls(), held(&tenant, "m").await), (0, None));
    });
}

#[test]
fn every_way_in_embeds_the_author_with_the_content() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("one").with_author("Ada")).await.unwrap();
        let many = [note("two").with_author("Ada"), note("three")];
        assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 2);
        let line = br#"{"user_id": "ada", "author": "Ben", "content": "four"}"#;
        assert_eq!(tenant.import(&line[..], ImportOptions::new("f")).await.added, 1);
        assert_eq!(words.documents(), texts(&["Ada: one", "Ada: two", "three", "Ben: four"]));
        words.take();
        let without = note("five").with_author("Ada").with_id(id("five"));
        tenant.add(without).await.unwrap();
        let clear = Patch::new().with_embedding(Change::Clear);
        tenant.update(&id("five"), &clear, UpdateOptions::new()).await.unwrap();
        words.take();
        assert_eq!(tenant.embed_missing(EmbedOptions::new()).await.embedded, 1);
        assert_eq!(held(&tenant, "five").await, Some(vector("Ada: five")));
    });
}

#[test]
fn a_search_finds_by_meaning_and_by_words() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        for (name, text) in [
            ("tea", "Ada drinks green tea"),
            ("cat", "the cat sleeps outdoors"),
            ("van", "a removal van comes tomorrow"),
        ] {
            tenant.add(note(text).with_id(id(name))).await.unwrap();
        }
        words.take();
        let request = SearchRequest::new().with_text("favourite beverage");
        let answer = tenant.search(&request).await.unwrap();
        assert_eq!(answer.arms_used, [Arm::Keyword, Arm::Vector]);
        assert_eq!(answer.hits[0].item.id, id("tea"), "no word of the question is in it");
        assert!(answer.notes.is_empty(), "{:?}", answer.notes);
        let query = vec!["favourite beverage".to_owned()];
        assert_eq!(words.take(), [(EmbedPurpose::Query, query)]);
        for (arms, used) in [
            (ArmSelection::VectorOnly, vec![Arm::Vector]),
            (ArmSelection::Both, vec![Arm::Keyword, Arm::Vector]),
        ] {
            let request = SearchRequest::new().with_text("feline").with_arms(arms);
            let answer = tenant.search(&request).await.unwrap();
            assert_eq!((answer.arms_used, &answer.hits[0].item.id), (used, &id("cat")));
        }
        words.take();
        let words_only = request.clone().with_arms(ArmSelection::KeywordOnly);
        let answer = tenant.search(&words_only).await.unwrap();
        assert!(answer.hits.is_empty() && answer.arms_used == [Arm::Keyword]);
        let given = tenant.search_with_vector(request, vector("cat")).await.unwrap();
        assert_eq!(given.arms_used, [Arm::Keyword, Arm::Vector]);
        let blank = tenant.search(&SearchRequest::new().with_text(" ")).await.unwrap_err();
        assert_eq!(blank.kind(), ErrorKind::InvalidInput);
        assert_eq!(words.calls(), 0, "none of these embeds anything");
    });
}

#[test]
fn a_search_by_words_alone_never_asks_the_embedder() {
    let mut embedder = MockEmbedder::new();
    let space = EmbeddingSpace::new("mock", "1", 2, Metric::Cosine).unwrap();
    embedder.expect_space().returning(move || space.clone());
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Later;
    let store = Arc::new(memory_testkit::ReferenceStore::new(Arc::new(
        memory_core::ManualClock::new(crate::support::start()),
    )));
    let builder = Memory::builder()
        .settings(settings)
        .backend(orchestra_memory::Backend::of(store))
        .embedder(Arc::new(embedder));
    let memory = block_on(builder.open()).unwrap();
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("Ada drinks tea"))).unwrap();
    let request = SearchRequest::new().with_text("tea").with_arms(ArmSelection::KeywordOnly);
    // A mock panics at a call that it does not expect.
    assert_eq!(block_on(tenant.search(&request)).unwrap().hits.len(), 1);
}

#[test]
fn a_search_without_an_embedder_says_what_to_do() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("Ada drinks tea")).await.unwrap();
        let request = SearchRequest::new().with_text("tea");
        let answer = tenant.search(&request).await.unwrap();
        assert_eq!((answer.hits.len(), answer.arms_used), (1, vec![Arm::Keyword]));
        assert_eq!(
            answer.notes,
            ["keyword search only: there is no embedding model: the setting \
              `embedding.provider` is `none`"]
        );
        for arms in [ArmSelection::VectorOnly, ArmSelection::Both] {
            let error = tenant.search(&request.clone().with_arms(arms)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains("there is no embedding model"), "{error}");
        }
        assert!(stack.memory.embedder().is_none());
        let state = stack.memory.embedding_state().await;
        assert!(state.absent.unwrap().contains("`none`") && state.health.is_none());
    });
}

#[test]
fn a_search_before_the_first_vector_is_by_words_and_says_so() {
    let mut settings = embedding();
    settings.embedding.when = EmbedWhen::Later;
    each_store_embedding(&settings, Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let receipt = tenant.add_with(note("Ada drinks tea"), AddOptions::new()).await.unwrap();
        assert_eq!(receipt.vector, VectorState::Later);
        let request = SearchRequest::new().with_text("tea");
        let answer = tenant.search(&request).await.unwrap();
        assert_eq!((answer.hits.len(), answer.arms_used), (1, vec![Arm::Keyword]));
        assert!(answer.notes[0].contains("none of the tenant's memories has a vector yet"));
        for arms in [ArmSelection::VectorOnly, ArmSelection::Both] {
            let error = tenant.search(&request.clone().with_arms(arms)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.message().contains("embed --missing"), "{error}");
        }
        assert_eq!(words.calls(), 0);
        assert!(tenant.spaces().await.unwrap().active.is_none(), "a search declares nothing");
    });
}

#[test]
fn an_import_that_is_repeated_embeds_nothing() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let text = lines(20);
        let import = async |options: ImportOptions| tenant.import(text.as_bytes(), options).await;
        let options = ImportOptions::new("f").with_batch_size(6);
        assert_eq!(import(options.clone()).await.added, 20);
        assert_eq!(words.documents().len(), 20);
        let again = import(options.clone()).await;
        assert_eq!((again.unchanged, again.bad, words.calls()), (20, 0, 0));
        // What is left of an interrupted import is embedded, and no more.
        let first = stack.memory.tenant("first").unwrap();
        let cut = text.lines().take(7).map(|line| format!("{line}\n")).collect::<String>();
        assert_eq!(first.import(cut.as_bytes(), options.clone()).await.added, 7);
        words.take();
        let rest = first.import(text.as_bytes(), options.clone()).await;
        assert_eq!((rest.added, rest.unchanged), (13, 7));
        assert_eq!(words.documents().len(), 13);
        let replaced = import(options.with_on_conflict(OnConflict::Replace)).await;
        assert_eq!((replaced.replaced, words.documents().len()), (20, 20));
        assert_eq!(tenant.stats().await.unwrap().embedded, 20);
    });
}

#[test]
fn ids_that_are_taken_are_found_before_anything_is_embedded() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("there").with_id(id("a"))).await.unwrap();
        words.take();
        let many = || ["a", "b"].map(|name| note("new").with_id(id(name)));
        let report = tenant.add_many(many(), AddManyOptions::new()).await;
        assert_eq!((report.added, report.failed), (1, 1));
        assert_eq!(report.failures[0].error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(words.take()[0].1.len(), 1, "one of the two");
        let skip = AddManyOptions::new().with_on_conflict(OnConflict::Skip);
        let report = tenant.add_many(many(), skip).await;
        assert_eq!((report.added, report.skipped, words.calls()), (0, 2, 0));
        let replace = AddManyOptions::new().with_on_conflict(OnConflict::Replace);
        let report = tenant.add_many(many(), replace).await;
        assert_eq!((report.replaced, words.take()[0].1.len()), (2, 2));
    });
}

#[test]
fn a_batch_is_embedded_while_the_one_before_is_written_and_no_more_than_one() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let (seen, counter) = (Arc::new(Mutex::new(Vec::new())), words.clone());
        let log = seen.clone();
        let options = AddManyOptions::new().with_batch_size(4).with_ids().with_progress(
            Callback::new(move |report: &AddManyReport| {
                log.lock().unwrap().push((report.seen, report.added, counter.calls()));
            }),
        );
        let many = (0..14).map(|n| note(&format!("text {n}")).with_id(id(&format!("m{n:02}"))));
        let report = tenant.add_many(many, options).await;
        assert_eq!((report.seen, report.added), (14, 14));
        let ids: Vec<_> = (0..14).map(|n| Some(id(&format!("m{n:02}")))).collect();
        assert_eq!(report.ids, ids, "in the order of the input");
        assert_eq!(*seen.lock().unwrap(), [(4, 4, 2), (8, 8, 3), (12, 12, 4), (14, 14, 4)]);
    });
}

#[test]
fn a_raised_flag_lets_the_batch_ahead_be_written_and_no_other_be_read() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let text = lines(12);
        let flag = CancelFlag::new();
        let raise = flag.clone();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let options = ImportOptions::new("f").with_batch_size(4);
        let stopped = options.clone().with_cancel(flag.clone()).with_progress(Callback::new(
            move |report: &ImportReport| {
                log.lock().unwrap().push((report.lines, report.added, report.pending));
                // It is told of what is read as well.
                if report.added > 0 {
                    raise.cancel();
                }
            },
        ));
        let report = tenant.import(text.as_bytes(), stopped).await;
        assert!(report.cancelled);
        assert_eq!((report.lines, report.added, report.pending), (8, 8, 0));
        let seen = std::mem::take(&mut *seen.lock().unwrap());
        assert!(seen.contains(&(8, 4, 4)), "{seen:?}");
        let counted = |(lines, added, pending): &(u64, u64, u64)| *lines == added + pending;
        assert!(seen.iter().all(counted), "every line is counted at every time: {seen:?}");
        let stats = tenant.stats().await.unwrap();
        assert_eq!((stats.items, stats.embedded), (8, 8));
        assert_eq!(words.documents().len(), 8, "nothing is embedded in vain");
        let report = tenant.import(text.as_bytes(), options).await;
        assert_eq!((report.added, report.unchanged, report.pending), (4, 8, 0));
        assert!(!report.cancelled, "without a flag it goes to the end");

        let other = stack.memory.tenant("other").unwrap();
        let many = (0..9).map(|n| note(&format!("text {n}")));
        let flag = CancelFlag::new();
        let raise = flag.clone();
        let options = AddManyOptions::new()
            .with_batch_size(3)
            .with_ids()
            .with_cancel(flag)
            .with_progress(Callback::new(move |_: &AddManyReport| raise.cancel()));
        let report = other.add_many(many, options).await;
        assert!(report.cancelled);
        assert_eq!((report.seen, report.added, report.ids.len()), (6, 6, 6));
        assert!(report.ids.iter().all(Option::is_some));
        // A flag that is raised before anything is read leaves everything alone.
        let flag = CancelFlag::new();
        flag.cancel();
        words.take();
        let options = AddManyOptions::new().with_cancel(flag);
        let report = other.add_many([note("x")], options).await;
        assert!(report.cancelled && report.seen == 0 && words.calls() == 0);
    });
}

#[test]
fn an_idempotency_key_stands_for_the_request_and_not_for_the_vector() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        let options = || AddOptions::new().with_idempotency_key("request 1");
        words.fail(1, Failure::Kind(ErrorKind::Unavailable));
        let first = tenant.add_with(note("once"), options()).await.unwrap();
        assert_eq!((first.vector, first.replayed), (VectorState::Missing, false));
        stack.clock.advance(Duration::from_secs(1));
        let again = tenant.add_with(note("once"), options()).await.unwrap();
        assert_eq!((&again.id, again.replayed), (&first.id, true));
        assert_eq!(again.vector, VectorState::NotWritten, "the vector of now was not stored");
        assert_eq!(tenant.stats().await.unwrap().embedded, 0);
        let skipped = AddOptions::new().with_on_conflict(OnConflict::Skip);
        let taken = tenant.add_with(note("x").with_id(first.id), skipped).await.unwrap();
        assert_eq!(taken.vector, VectorState::NotWritten);
    });
}

#[test]
fn an_embedder_of_the_callers_own_is_named_and_its_health_counts() {
    each_store_embedding(&embedding(), Words::new, async |stack, words| {
        let info = stack.memory.embedder().unwrap();
        assert_eq!((info.space.model(), info.source), ("words", EmbedderSource::Own));
        assert_eq!(stack.memory.health().await.status, HealthStatus::Healthy);
        words.fail(1, Failure::Kind(ErrorKind::Unavailable));
        let health = stack.memory.health().await;
        assert_eq!(health.status, HealthStatus::Degraded, "the store serves");
        assert_eq!(health.reasons, ["embedder: the model is away"]);
        stack.memory.default_tenant().add(note("x")).await.unwrap();
        let state = stack.memory.embedding_state().await;
        assert_eq!((state.failures, state.waiting), (1, 0));
        assert!(state.last_failure.unwrap().contains("the model is away"));
        assert_eq!(stack.memory.health().await.status, HealthStatus::Healthy);
    });
}

#[test]
fn what_was_embedded_is_cached_by_text() {
    let mut settings = embedding();
    settings.embedding.cache_entries = 100;
    each_store_embedding(&settings, Words::new, async |stack, words| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("the same")).await.unwrap();
        tenant.add(note("the same")).await.unwrap();
        let cached = cfg!(any(feature = "minilm", feature = "http"));
        assert_eq!(words.calls(), if cached { 1 } else { 2 });
        assert_eq!(tenant.stats().await.unwrap().embedded, 2);
    });
}

#[test]
fn texts_go_to_the_embedder_in_bounded_calls() {
    for (batch_size, max_batch, want) in [(None, 8, 8), (Some(3), 8, 3), (Some(1), 1, 1)] {
        let mut settings = embedding();
        settings.embedding.batch_size = batch_size;
        let model = || Words::of("words", max_batch);
        each_store_embedding(&settings, model, async |stack, words| {
            let many = (0..20).map(|n| note(&format!("text {n}")));
            let tenant = stack.memory.default_tenant();
            let report = tenant.add_many(many, AddManyOptions::new()).await;
            assert_eq!(report.added, 20);
            let sizes: Vec<usize> = words.take().iter().map(|(_, texts)| texts.len()).collect();
            assert_eq!(sizes.iter().max(), Some(&want));
            assert_eq!(sizes.iter().sum::<usize>(), 20);
        });
    }
}

#[test]
fn a_provider_that_cannot_be_had_is_not_replaced() {
    let open = |embedding: EmbeddingSettings| {
        let mut settings = crate::support::plain();
        settings.embedding = embedding;
        let backend = mock_backend(MockRecordStore::new(), MockStoreMeta::new());
        block_on(builder().settings(settings).backend(backend).open())
    };
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = EmbeddingSettings::default();
    wanted.provider = Some(orchestra_memory::Provider::MiniLm);
    wanted.minilm.folder = Some(folder.path().to_owned());
    let error = open(wanted.clone()).unwrap_err();
    match cfg!(feature = "minilm") {
        true => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        false => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains("feature `minilm`"), "{error}");
        }
    }
    // The twin: left to itself it goes without, and says so.
    wanted.provider = Some(orchestra_memory::Provider::Auto);
    let memory = open(wanted).unwrap();
    let absent = block_on(memory.embedding_state()).absent.unwrap();
    let part = if cfg!(feature = "minilm") { "model pull" } else { "feature `minilm`" };
    assert!(memory.embedder().is_none() && absent.contains(part), "{absent}");

    let mut wanted = EmbeddingSettings::new("a-model", 3);
    wanted.provider = Some(orchestra_memory::Provider::Http);
    wanted.http.url = Some("http://127.0.0.1:9/v1".to_owned());
    match open(wanted) {
        Ok(memory) if cfg!(feature = "http") => {
            let info = memory.embedder().unwrap();
            assert_eq!((info.space.model(), info.source), ("a-model", EmbedderSource::Http));
        }
        Ok(_) => panic!("there is no such provider in this build"),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.message().contains("feature `http`"), "{error}");
        }
    }
}

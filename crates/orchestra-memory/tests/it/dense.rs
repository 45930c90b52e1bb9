//! A store without a keyword index, and one without a change log: what is not there is said, and
//! nothing else is lost.

use std::sync::Arc;

use memory_core::traits::MockVectorIndex;
use memory_core::{Capabilities, Capability, Durability, ManualClock};
use memory_testkit::ReferenceStore;
use orchestra_memory::{
    AddManyOptions, Arm, ArmSelection, Backend, EmbeddingSettings, ErrorKind, Filter, Memory,
    MemoryBuilder, Result, SearchRequest,
};

use crate::support::{block_on, builder, embedding, id, note, plain, start};
use crate::words::{Failure, Words};

const ALONE: &str = "searched by meaning alone: this store has no keyword index";

fn backend() -> Backend {
    Backend::without_keywords(Arc::new(ReferenceStore::new(Arc::new(ManualClock::new(start())))))
}

fn over(builder: MemoryBuilder) -> Result<Memory> {
    block_on(builder.backend(backend()).open())
}

fn meaning(words: &Words) -> Memory {
    over(Memory::builder().settings(embedding()).embedder(words.embedder())).unwrap()
}

fn text() -> SearchRequest {
    SearchRequest::new().with_text("a warm beverage")
}

#[test]
fn a_search_is_by_meaning_alone_and_says_so() {
    let memory = meaning(&Words::new());
    assert!(!memory.has_keyword_index());
    let tenant = memory.default_tenant();
    block_on(tenant.add(note("Ada drinks warm tea").with_id(id("tea")))).unwrap();
    block_on(tenant.add(note("The dog sleeps").with_id(id("dog")))).unwrap();
    let answer = block_on(tenant.search(&text().with_explain(true))).unwrap();
    assert_eq!(answer.hits[0].item.id, id("tea"));
    assert_eq!(
        (answer.arms_used.as_slice(), answer.notes.as_slice()),
        ([Arm::Vector].as_slice(), [ALONE.to_owned()].as_slice())
    );
    let explained = answer.hits[0].explanation.as_ref().unwrap();
    assert_eq!((explained.arms.len(), explained.arms[0].arm), (1, Arm::Vector));
    assert!((explained.arms[0].contribution - answer.hits[0].score).abs() < 1e-12);
    // Asked for by name it is no surprise.
    let answer = block_on(tenant.search(&text().with_arms(ArmSelection::VectorOnly))).unwrap();
    assert!(answer.notes.is_empty() && answer.hits.len() == 2, "{answer:?}");
    for arms in [ArmSelection::KeywordOnly, ArmSelection::Both] {
        let error = block_on(tenant.search(&text().with_arms(arms))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("no keyword index"), "{error}");
    }
}

#[test]
fn what_has_no_vector_is_not_found_and_the_answer_says_so() {
    let words = Words::new();
    let memory = meaning(&words);
    let tenant = memory.default_tenant();
    let answer = block_on(tenant.search(&text())).unwrap();
    assert!(answer.hits.is_empty() && answer.arms_used == [Arm::Vector], "{answer:?}");
    assert!(answer.notes[0] == ALONE && answer.notes[1].contains("none of the tenant's"));
    words.fail(1, Failure::Kind(ErrorKind::Unavailable));
    block_on(tenant.add(note("Ada drinks warm tea").with_id(id("bare")))).unwrap();
    let answer = block_on(tenant.search(&text())).unwrap();
    assert!(answer.hits.is_empty() && answer.notes.len() == 2, "{answer:?}");
    block_on(tenant.add(note("warm tea again").with_id(id("tea")))).unwrap();
    let answer = block_on(tenant.search(&text())).unwrap();
    assert_eq!(answer.hits.len(), 1);
    assert!(answer.notes.iter().any(|note| note.contains("are not found")), "{answer:?}");
    // An embedder that fails fails the search, and words are no way out.
    words.fail(1, Failure::Kind(ErrorKind::Unavailable));
    let error = block_on(tenant.search(&text())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.message().contains("keyword"), "{error}");
}

#[test]
fn without_an_embedder_a_text_cannot_be_searched_and_a_vector_can() {
    let memory = over(builder()).unwrap();
    let tenant = memory.default_tenant();
    let many = [("a", vec![1.0, 0.0]), ("b", vec![0.0, 1.0])];
    let many = many.map(|(name, vector)| note(name).with_id(id(name)).with_embedding(vector));
    assert_eq!(block_on(tenant.add_many(many, AddManyOptions::new())).added, 2);
    let error = block_on(tenant.search(&text())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    for part in ["no keyword index", "configure an embedder", "pass a query vector"] {
        assert!(error.message().contains(part), "{part}: {error}");
    }
    let answer = block_on(tenant.search_with_vector(text(), vec![1.0, 0.1])).unwrap();
    assert_eq!(
        (answer.hits[0].item.id.as_str(), answer.notes.as_slice()),
        ("a", [ALONE.to_owned()].as_slice())
    );
    let alone = SearchRequest::new();
    let answer = block_on(tenant.search_with_vector(alone, vec![1.0, 0.1])).unwrap();
    assert_eq!(answer.hits.len(), 2);
    // Everything else works as ever.
    assert_eq!(block_on(tenant.count(&Filter::All)).unwrap(), 2);
    assert!(block_on(tenant.delete(&id("a"), None)).unwrap());
    block_on(memory.close()).unwrap();
}

#[test]
fn a_change_log_that_is_not_kept_is_unsupported() {
    let memory = over(builder()).unwrap();
    let error = memory.admin().changes().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("keeps no change log"), "{error}");
    let store = Arc::new(ReferenceStore::new(Arc::new(ManualClock::new(start()))));
    let memory = block_on(builder().backend(Backend::of(store)).open()).unwrap();
    assert!(memory.admin().changes().is_ok() && memory.has_keyword_index());
}

#[test]
fn a_space_with_too_many_dimensions_is_refused_when_the_store_opens() {
    let open = |dimensions: u32| {
        let mut vectors = MockVectorIndex::new();
        vectors.expect_capabilities().returning(|| {
            let set = [Capability::CoLocated];
            let mut capabilities = Capabilities::new("reference", set, Durability::Volatile);
            capabilities.max_dimensions = 2_048;
            capabilities
        });
        let backend = Backend { vectors: Arc::new(vectors), ..backend() };
        let mut settings = plain();
        settings.embedding = EmbeddingSettings::new("large", dimensions);
        block_on(Memory::builder().settings(settings).backend(backend).open())
    };
    let error = open(2_049).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("2048") && error.message().contains("2049"), "{error}");
    assert!(open(2_048).is_ok());
}

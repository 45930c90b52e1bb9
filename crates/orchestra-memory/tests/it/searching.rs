//! Search by words, by vector, by both, and the spaces of vectors, over every real store.

use orchestra_memory::{
    AddManyOptions, Arm, ArmSelection, EmbeddingSettings, ErrorKind, Field, Filter, Limit, Metric,
    SearchAnswer, SearchRequest, TenantMemory,
};

use crate::support::{each_store, each_store_with, id, note, plain, user};

fn ids(answer: &SearchAnswer) -> Vec<&str> {
    answer.hits.iter().map(|hit| hit.item.id.as_str()).collect()
}

async fn birds(tenant: &TenantMemory) {
    let many = [
        ("owl", "The owl hunts at night.", [1.0, 0.0]),
        ("kestrel", "A kestrel hovers over the field.", [0.8, 0.6]),
        ("penguin", "The penguin swims under the ice.", [0.0, 1.0]),
    ];
    let many = many
        .map(|(name, text, vector)| note(text).with_id(id(name)).with_embedding(vector.to_vec()));
    assert_eq!(tenant.add_many(many, AddManyOptions::new()).await.added, 3);
}

#[test]
fn words_vectors_and_both_find_what_they_should() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        birds(&tenant).await;
        let answer = tenant.search(&SearchRequest::new().with_text("hovers")).await.unwrap();
        assert_eq!(ids(&answer), ["kestrel"]);
        let two = SearchRequest::new().with_limit(Limit::Count(2));
        let answer = tenant.search_with_vector(two.clone(), vec![2.0, 0.1]).await.unwrap();
        assert_eq!(ids(&answer), ["owl", "kestrel"]);
        assert_eq!(answer.arms_used, [Arm::Vector]);
        let both = two.with_text("swims").with_explain(true);
        let answer = tenant.search_with_vector(both, vec![0.0, 1.0]).await.unwrap();
        assert_eq!(answer.hits[0].item.id, id("penguin"));
        assert_eq!(answer.arms_used, [Arm::Keyword, Arm::Vector]);
        assert!(answer.hits[0].explanation.is_some());
        let nobody = SearchRequest::new()
            .with_text("owl")
            .with_filter(Filter::eq(Field::UserId, user("bob").as_str()));
        assert!(tenant.search(&nobody).await.unwrap().hits.is_empty());
        assert!(tenant.delete(&id("kestrel"), None).await.unwrap());
        let answer = tenant.search(&SearchRequest::new().with_text("hovers")).await.unwrap();
        assert!(answer.hits.is_empty());
    });
}

#[test]
fn a_wrong_vector_names_both_lengths() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        birds(&tenant).await;
        for vector in [vec![1.0], vec![1.0; 3], vec![f32::NAN, 0.0], vec![0.0, 0.0]] {
            let request = SearchRequest::new();
            let error = tenant.search_with_vector(request, vector.clone()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let error = tenant.add(note("x").with_embedding(vector)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        let error = tenant.add(note("x").with_embedding(vec![1.0; 7])).await.unwrap_err();
        assert!(error.message().contains('7') && error.message().contains('2'), "{error}");
        assert_eq!(tenant.count(&Filter::All).await.unwrap(), 3);
    });
}

#[test]
fn the_first_vector_declares_the_space() {
    each_store(async |stack| {
        let tenant = stack.memory.default_tenant();
        tenant.add(note("no vector")).await.unwrap();
        assert!(tenant.spaces().await.unwrap().active.is_none());
        let words = SearchRequest::new().with_text("vector");
        let answer = tenant.search_with_vector(words.clone(), vec![1.0]).await.unwrap();
        assert_eq!(answer.hits.len(), 1);
        assert!(answer.notes.iter().any(|note| note.contains("not used")), "{:?}", answer.notes);
        for request in [SearchRequest::new(), words.with_arms(ArmSelection::Both)] {
            let error = tenant.search_with_vector(request, vec![1.0]).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
        tenant.add(note("x").with_embedding(vec![1.0, 2.0, 3.0])).await.unwrap();
        let space = tenant.spaces().await.unwrap().active.unwrap();
        assert_eq!((space.model(), space.revision()), ("caller", "1"));
        assert_eq!((space.dimensions(), space.metric()), (3, Metric::Cosine));
    });
}

#[test]
fn settings_can_name_the_space() {
    let mut settings = plain();
    settings.embedding = EmbeddingSettings::new("some-model", 2);
    each_store_with(&settings, async |stack| {
        let tenant = stack.memory.default_tenant();
        let error = tenant.add(note("x").with_embedding(vec![1.0; 3])).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(tenant.spaces().await.unwrap().active.is_none(), "a bad vector declares nothing");
        tenant.add(note("x").with_embedding(vec![1.0; 2])).await.unwrap();
        let space = tenant.spaces().await.unwrap().active.unwrap();
        assert_eq!((space.model(), space.dimensions()), ("some-model", 2));
    });
}

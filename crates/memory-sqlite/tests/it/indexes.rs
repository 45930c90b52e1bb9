//! The derived indexes: memory, languages, exactness, what they load and follow.

use std::collections::BTreeMap;

use memory_core::traits::{
    KeywordIndex, KeywordQuery, RecordStore, StoreMeta, StoreUpkeep, TenantSpaces, VectorIndex,
    VectorQuery,
};
use memory_core::{
    CallContext, EmbeddingSpace, Field, Filter, Metric, Precondition, Vectors, Write,
};
use memory_sqlite::{SqliteSettings, SqliteStore};
use proptest::prelude::*;

use crate::common::{commit, id, item, open, open_with, put, space, tenant, with_vector};

async fn found(store: &SqliteStore, context: &CallContext, words: &str) -> Vec<String> {
    let query = KeywordQuery::new(words, 1_000);
    let hits = KeywordIndex::search(store, context, &query).await.expect("the search answers").hits;
    hits.into_iter().map(|hit| hit.id.to_string()).collect()
}

#[tokio::test]
async fn indexes_of_many_tenants_stay_within_their_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SqliteSettings::new(folder.path().join("m.db"));
    settings.index_bytes = 60_000;
    let store = open_with(settings).unwrap();
    for number in 0..40 {
        let context = tenant(&format!("t-{number}"));
        for part in 0..10 {
            let words = format!("tea number{number} part{part} {}", "leaf ".repeat(part));
            put(&store, &context, item(&format!("{part}"), &words)).await.unwrap();
        }
    }
    for round in 0..2 {
        for number in 0..40 {
            let context = tenant(&format!("t-{number}"));
            assert_eq!(found(&store, &context, "tea").await.len(), 10, "round {round}");
            let other = format!("number{}", (number + 1) % 40);
            assert!(found(&store, &context, &other).await.is_empty());
        }
    }
    let stats = store.store_stats().await.unwrap().numbers;
    assert!(stats["index_bytes"] <= 60_000, "{stats:?}");
    assert!(stats["index_evictions"] > 0, "{stats:?}");
}

#[tokio::test]
async fn a_change_of_language_makes_the_terms_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let context = tenant("t");
    let store = open(&path);
    put(&store, &context, item("a", "the walkers were walking")).await.unwrap();
    assert_eq!(found(&store, &context, "walked").await, ["a"], "English stems");
    RecordStore::close(store.as_ref()).await.unwrap();
    let mut settings = SqliteSettings::new(&path);
    settings.language = "none".to_owned();
    let store = open_with(settings).unwrap();
    assert!(found(&store, &context, "walked").await.is_empty(), "no stems");
    assert_eq!(found(&store, &context, "walking").await, ["a"]);
    assert_eq!(store.analyser().await.unwrap().unwrap(), "v1-none");
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn a_trimmed_log_makes_a_late_reader_load_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let mut settings = SqliteSettings::new(&path);
    settings.change_log_keep = 5;
    let (writer, late) = (open_with(settings).unwrap(), open(&path));
    let context = tenant("t");
    put(&writer, &context, item("first", "tea")).await.unwrap();
    assert_eq!(found(&late, &context, "tea").await.len(), 1);
    for number in 0..60 {
        put(&writer, &context, item(&format!("n-{number}"), "tea")).await.unwrap();
    }
    let stats = writer.store_stats().await.unwrap().numbers;
    assert!(stats["changes"] < 20, "the log is trimmed: {stats:?}");
    assert_eq!(found(&late, &context, "tea").await.len(), 61);
}

#[tokio::test]
async fn two_spaces_live_side_by_side_while_a_tenant_is_re_embedded() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    let old = space(&store, &context).await;
    let new = EmbeddingSpace::new("newer", "1", 2, Metric::Dot).unwrap();
    store
        .commit(&context, commit(vec![with_vector(item("a", "tea"), &old, [1.0, 0.0, 0.0])]))
        .await
        .unwrap();
    let before = store.spaces(&context).await.unwrap();
    let both = TenantSpaces { active: Some(old.clone()), next: Some(new.clone()), ..before };
    let both = store.set_spaces(&context, &both).await.unwrap();
    let vectors = BTreeMap::from([(old.id(), vec![0.0, 1.0, 0.0]), (new.id(), vec![2.0, 1.0])]);
    let write = Write::put(item("b", "tea"), Vectors::Replace(vectors), Precondition::Any);
    store.commit(&context, commit(vec![write])).await.unwrap();
    let near = async |space: &EmbeddingSpace, vector: Vec<f32>| {
        let query = VectorQuery::new(space.clone(), vector, 10);
        VectorIndex::search(store.as_ref(), &context, &query)
            .await
            .map(|hits| hits.hits.into_iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(near(&old, vec![1.0, 0.1, 0.0]).await.unwrap(), ["a", "b"]);
    assert_eq!(near(&new, vec![1.0, 0.0]).await.unwrap(), ["b"]);
    let after = TenantSpaces { active: Some(new.clone()), next: None, ..both };
    store.set_spaces(&context, &after).await.unwrap();
    assert_eq!(near(&new, vec![1.0, 0.0]).await.unwrap(), ["b"], "its vectors stay");
    assert!(near(&old, vec![1.0, 0.0, 0.0]).await.is_err(), "no space of the tenant any more");
    assert_eq!(store.store_stats().await.unwrap().numbers["vectors"], 1);
    assert_eq!(store.verify().await.unwrap().faults, Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// The int8 scan with its rerank from the file gives what comparing every f32 row gives.
    #[test]
    fn vector_search_is_exact(
        rows in proptest::collection::vec(proptest::array::uniform3(-1.0_f32..1.0), 1..60),
        query in proptest::array::uniform3(-1.0_f32..1.0),
        limit in 1_u32..12,
        in_memory in any::<bool>(),
    ) {
        prop_assume!(query.iter().any(|x| x.abs() > 1e-3));
        let rows: Vec<_> = rows.into_iter().filter(|row| row.iter().any(|x| x.abs() > 1e-3)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut settings = SqliteSettings::in_memory();
            settings.vectors_in_memory = in_memory;
            let store = open_with(settings).unwrap();
            let context = tenant("t");
            let space = space(&store, &context).await;
            for (number, row) in rows.iter().enumerate() {
                let mut item = item(&format!("{number:03}"), "x");
                item.importance = Some(if number % 3 == 0 { 1.0 } else { 0.0 });
                store.commit(&context, commit(vec![with_vector(item, &space, *row)])).await.unwrap();
            }
            for filtered in [false, true] {
                let cosine = |row: &[f32; 3]| {
                    let dot = |a: &[f32; 3], b: &[f32; 3]| -> f64 {
                        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                    };
                    dot(row, &query) / (dot(row, row) * dot(&query, &query)).sqrt()
                };
                let mut expected: Vec<_> = rows
                    .iter()
                    .enumerate()
                    .filter(|(number, _)| !filtered || number % 3 == 0)
                    .map(|(number, row)| (number, cosine(row)))
                    .collect();
                expected.sort_by(|a, b| b.1.total_cmp(&a.1));
                let filter = if filtered { Filter::eq(Field::Importance, 1.0) } else { Filter::All };
                let search = VectorQuery::new(space.clone(), query.to_vec(), limit).with_filter(filter);
                let hits = VectorIndex::search(store.as_ref(), &context, &search).await.unwrap().hits;
                assert_eq!(hits.len(), expected.len().min(limit as usize));
                for (hit, (_, score)) in hits.iter().zip(&expected) {
                    assert!((hit.score - score).abs() < 1e-6, "{} against {score}", hit.score);
                }
            }
        });
    }
}

#[tokio::test]
async fn explanations_add_up_to_the_score() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    put(&store, &context, item("a", "green tea and black tea")).await.unwrap();
    put(&store, &context, item("b", "coffee")).await.unwrap();
    let query = KeywordQuery::new("black tea", 5).with_explain(true);
    let hits = KeywordIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].id, id("a"));
    let sum: f64 = hits[0].terms.iter().map(|share| share.score).sum();
    assert!((sum - hits[0].score).abs() < 1e-5 && sum > 0.0);
    let terms: Vec<_> = hits[0].terms.iter().map(|share| share.term.as_str()).collect();
    assert_eq!(terms, ["black", "tea"]);
}

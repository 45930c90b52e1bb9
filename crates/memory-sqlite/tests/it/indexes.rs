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

use crate::common::{commit, id, item, open, open_with, put, space, start, tenant, with_vector};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

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

/// More rows than a batch of the loading has, some without author, session or vector, some expired:
/// what one store followed by the log is what another one loads.
#[tokio::test]
async fn what_is_loaded_is_what_was_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let store = open(&path);
    let context = tenant("t");
    let space = space(&store, &context).await;
    let near = async |store: &SqliteStore| {
        let query = VectorQuery::new(space.clone(), vec![1.0, 0.5, 0.25], 1_000);
        VectorIndex::search(store, &context, &query).await.unwrap().hits
    };
    let named = async |store: &SqliteStore| {
        let query = KeywordQuery::new("tea", 1_000);
        KeywordIndex::search(store, &context, &query).await.unwrap().hits
    };
    assert!(near(&store).await.is_empty(), "the index is there before the rows are");
    let writes = (0..800_u16)
        .map(|number| {
            let mut item = item(&format!("n-{number}"), &format!("tea number{number}"));
            item.author = (number % 3 > 0).then(|| format!("Ada {}", number % 5));
            item.session_id =
                (number % 4 > 0).then(|| format!("s-{}", number % 6).parse().unwrap());
            item.importance = (number % 2 > 0).then(|| f64::from(number) / 800.0);
            let passed = if number % 7 == 0 { start() } else { start().saturating_add(DAY) };
            item.expires_at = (number % 8 > 0).then_some(passed);
            if number % 5 == 0 {
                return Write::put(item, Vectors::default(), Precondition::Absent);
            }
            with_vector(item, &space, [1.0, f32::from(number), 3.0])
        })
        .collect();
    store.commit(&context, commit(writes)).await.unwrap();
    let followed = (named(&store).await, near(&store).await);
    assert!(followed.0.len() > 600 && followed.1.len() > 500);
    assert!(followed.0.iter().any(|hit| hit.context.as_ref().unwrap().author.is_some()));
    let anew = open(&path);
    assert_eq!((named(&anew).await, near(&anew).await), followed);
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

/// Two handles on one file, as two processes have it: each search looks at the tenant's head in the
/// change log first, so that neither ever answers from before the other's last commit.
#[tokio::test]
async fn writes_of_another_handle_are_found_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.db");
    let (one, two) = (open(&path), open(&path));
    let context = tenant("t");
    let none: [&str; 0] = [];
    for round in 0..30 {
        let (writer, reader) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let name = format!("item-{round:02}");
        let (word, other) = (format!("first{round}"), format!("second{round}"));
        put(writer, &context, item(&name, &format!("{word} shared"))).await.unwrap();
        assert_eq!(found(reader, &context, &word).await, [name.as_str()]);
        assert_eq!(found(reader, &context, "shared").await.len(), round / 3 * 2 + round % 3 + 1);

        put(writer, &context, item(&name, &format!("{other} shared"))).await.unwrap();
        assert_eq!(found(reader, &context, &word).await, none);
        assert_eq!(found(reader, &context, &other).await, [name.as_str()]);
        assert_eq!(found(writer, &context, &word).await, none);
        if round % 3 == 2 {
            let gone = Write::delete(id(&name), Precondition::Any);
            reader.commit(&context, commit(vec![gone])).await.unwrap();
            assert_eq!(found(writer, &context, &other).await, none);
            assert_eq!(found(reader, &context, &other).await, none);
        }
    }
    assert_eq!(found(&one, &context, "shared").await.len(), 20);
    assert_eq!(two.verify().await.unwrap().faults, Vec::<String>::new());
}

/// A tenant that is larger than all the memory for indexes is found all the same, and the others
/// keep theirs.
#[tokio::test]
async fn a_tenant_larger_than_the_memory_for_indexes_is_searched() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = SqliteSettings::new(folder.path().join("m.db"));
    settings.index_bytes = 40_000;
    let store = open_with(settings).unwrap();
    let (large, small) = (tenant("large"), tenant("small"));
    let words = |number: usize| (0..40).map(|at| format!("word{number}x{at} ")).collect::<String>();
    for number in 0..40 {
        put(&store, &large, item(&format!("{number}"), &(words(number) + "tea"))).await.unwrap();
    }
    put(&store, &small, item("a", "tea")).await.unwrap();
    for _ in 0..3 {
        assert_eq!(found(&store, &large, "tea").await.len(), 40);
        assert_eq!(found(&store, &large, "word7x3").await, ["7"]);
        assert_eq!(found(&store, &small, "tea").await, ["a"]);
    }
    let stats = store.store_stats().await.unwrap().numbers;
    assert!(stats["index_bytes"] <= 40_000, "{stats:?}");
    assert_eq!(stats["index_tenants"], 1, "the small one stayed: {stats:?}");
}

/// Accents are folded, and scripts without spaces are found by any two characters in a row.
#[tokio::test]
async fn accents_and_scripts_without_spaces_are_found() {
    let store = open_with(SqliteSettings::in_memory()).unwrap();
    let context = tenant("t");
    for (name, text) in [
        ("french", "Elle a pris un café crème à Besançon"),
        ("decomposed", "the re\u{301}sume\u{301} of Bjo\u{308}rn"),
        ("chinese", "我们明天去北京市看长城"),
        ("japanese", "来週、東京タワーへ行きます"),
        ("thai", "พรุ่งนี้เราจะไปเชียงใหม่"),
        ("korean", "내일은 서울에서 만나요"),
        ("german", "Die Straße nach Köln ist gesperrt"),
    ] {
        put(&store, &context, item(name, text)).await.unwrap();
    }
    for (question, name) in [
        ("CAFE", "french"),
        ("cre\u{300}me", "french"),
        ("Besancon", "french"),
        ("résumé", "decomposed"),
        ("bjorn", "decomposed"),
        ("北京", "chinese"),
        ("长城", "chinese"),
        ("東京", "japanese"),
        ("タワー", "japanese"),
        ("เชียงใหม่", "thai"),
        ("서울", "korean"),
        ("STRASSE", "german"),
        ("koln", "german"),
    ] {
        assert_eq!(found(&store, &context, question).await, [name], "{question}");
    }
    let none: [&str; 0] = [];
    for absent in ["上海", "大阪", "กรุงเทพ", "부산", "Munchen", "京长"] {
        assert_eq!(found(&store, &context, absent).await, none, "{absent}");
    }
    // A changed text is found by its new characters and no longer by its old ones.
    put(&store, &context, item("chinese", "我们后天去上海")).await.unwrap();
    assert_eq!(found(&store, &context, "北京").await, none);
    assert_eq!(found(&store, &context, "上海").await, ["chinese"]);
}

/// More rows than the thread that reads them builds by itself, some without a vector: what a second
/// handle loads from the file is what the first one followed.
#[tokio::test]
async fn a_large_index_is_loaded_whole() {
    for in_memory in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = SqliteSettings::new(folder.path().join("m.db"));
        settings.vectors_in_memory = in_memory;
        let first = open_with(settings.clone()).unwrap();
        let context = tenant("t");
        let space = space(&first, &context).await;
        let number = |number: u16| format!("{number:04}");
        for chunk in 0..9_u16 {
            let writes = (chunk * 100..(chunk + 1) * 100).map(|at| {
                let item = item(&number(at), &format!("tea cup{at}"));
                let turn = f32::from(at) * 0.003;
                match at % 3 {
                    0 => Write::put(item, Vectors::Replace(BTreeMap::new()), Precondition::Any),
                    _ => with_vector(item, &space, [turn.cos(), turn.sin(), 0.0]),
                }
            });
            first.commit(&context, commit(writes.collect())).await.unwrap();
        }
        let second = open_with(settings).unwrap();
        for store in [&first, &second] {
            assert_eq!(found(store, &context, "tea").await.len(), 900);
            assert_eq!(found(store, &context, "cup899").await, [number(899)]);
            for at in [1_u16, 511, 512, 770, 899] {
                let turn = f32::from(at) * 0.003;
                let vector = vec![turn.cos(), turn.sin(), 0.0];
                let query = VectorQuery::new(space.clone(), vector, 1_000);
                let hits =
                    VectorIndex::search(store.as_ref(), &context, &query).await.unwrap().hits;
                assert_eq!(hits.len(), 600);
                assert_eq!(hits[0].id, id(&number(at)));
                assert!(hits[0].score > 0.999_999);
            }
        }
    }
}

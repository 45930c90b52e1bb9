//! What is found, and in which order.

use std::time::Duration;

use memory_core::traits::{
    ChangePosition, HitRecords, KeywordIndex, KeywordQuery, RecordStore as _, UpsertOutcome,
    VectorEntry, VectorIndex, VectorQuery,
};
use memory_core::{
    Clock as _, EmbeddingSpace, ErrorKind, Filter, Metric, Precondition, Projection, Write,
};

use crate::records::rig::put_one;

use super::rig::{
    Rig, WITH_ENGINE, WITHOUT, by_words, commit, id, ids, item, nearest, put, set_spaces, space,
    tenant,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neighbours_come_in_order_with_what_surrounds_them() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, store, space) = (tenant("t"), &rig.store, space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let mut near = item("near", "x");
        near.author = Some("Ada Lovelace".to_owned());
        near.importance = Some(0.5);
        let writes = vec![
            put(item("far", "x"), &space, &[0.0, 1.0]),
            put(near.clone(), &space, &[1.0, 0.0]),
            put(item("middle", "x"), &space, &[1.0, 1.0]),
            Write::put(item("none", "x"), memory_core::Vectors::default(), Precondition::Any),
        ];
        let receipt = store.commit(&context, commit(writes)).await.unwrap();
        let found = nearest(store, &context, &space, &[2.0, 0.0], Filter::All, 10).await.unwrap();
        assert_eq!(ids(&found), ["near", "middle", "far"]);
        assert!(found.exact);
        assert!((found.hits[0].score - 1.0).abs() < 1e-6 && found.hits[2].score.abs() < 1e-6);
        assert!((found.hits[1].score - 0.5_f64.sqrt()).abs() < 1e-6);
        assert_eq!(Some(&found.hits[0].revision), receipt.results[1].revision.as_ref());
        let surroundings = found.hits[0].context.as_deref().unwrap();
        assert_eq!(surroundings.author.as_deref(), Some("Ada Lovelace"));
        assert_eq!(surroundings.occurred_at, near.occurred_at);
        assert_eq!(surroundings.importance, Some(0.5));
        assert!(found.hits[0].item.is_none());

        let records = HitRecords { first: 2, projection: Projection::full() };
        let query = VectorQuery::new(space.clone(), vec![2.0, 0.0], 10).with_records(Some(records));
        let found = VectorIndex::search(&**store, &context, &query).await.unwrap();
        let mut first = (**found.hits[0].item.as_ref().unwrap()).clone();
        assert_eq!(first.revision.take(), Some(found.hits[0].revision.clone()));
        assert_eq!(first, near);
        assert!(found.hits[1].item.is_some() && found.hits[2].item.is_none());
        let late = query.with_at_least(Some(ChangePosition(5)));
        let error = VectorIndex::search(&**store, &context, &late).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let reached = late.with_at_least(receipt.position);
        assert!(VectorIndex::search(&**store, &context, &reached).await.is_ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dot_products_and_distances_are_scores() {
    let Some(rig) = Rig::on(WITH_ENGINE[0]).await else { return };
    let (context, store) = (tenant("t"), &rig.store);
    let dot = EmbeddingSpace::new("m", "1", 2, Metric::Dot).unwrap();
    let far = EmbeddingSpace::new("m", "1", 2, Metric::Euclidean).unwrap();
    set_spaces(&rig, &context, dot.clone(), Some(far.clone())).await;
    let vectors = [(dot.id(), vec![3.0, 4.0]), (far.id(), vec![3.0, 4.0])];
    let vectors = memory_core::Vectors::Replace(vectors.into());
    let write = Write::put(item("a", "x"), vectors, Precondition::Any);
    store.commit(&context, commit(vec![write])).await.unwrap();
    let by_dot = nearest(store, &context, &dot, &[2.0, 1.0], Filter::All, 1).await.unwrap();
    assert!((by_dot.hits[0].score - 10.0).abs() < 1e-5, "{}", by_dot.hits[0].score);
    let by_distance = nearest(store, &context, &far, &[0.0, 0.0], Filter::All, 1).await.unwrap();
    assert!((by_distance.hits[0].score + 25.0).abs() < 1e-5, "{}", by_distance.hits[0].score);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equals_go_by_id_and_what_has_expired_leaves_its_place() {
    let Some(rig) = Rig::on(WITH_ENGINE[0]).await else { return };
    let (context, store, space) = (tenant("t"), &rig.store, space("m", 2));
    set_spaces(&rig, &context, space.clone(), None).await;
    let writes = (0..300).map(|n| {
        let mut one = item(&format!("{n:03}"), "zebra");
        if n < 200 {
            one.expires_at = Some(rig.clock.now().saturating_add(Duration::from_secs(5)));
        }
        put(one, &space, &[1.0, 0.0])
    });
    store.commit(&context, commit(writes.collect())).await.unwrap();
    let found = nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 3).await.unwrap();
    assert_eq!(ids(&found), ["000", "001", "002"]);
    let by_word = by_words(store, &context, "zebra", Filter::All, 300).await.unwrap();
    assert_eq!(by_word.hits.len(), 300);
    assert!(by_word.exact);
    rig.clock.advance(Duration::from_secs(5));
    let found = nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 3).await.unwrap();
    assert_eq!(ids(&found), ["200", "201", "202"]);
    let by_word = by_words(store, &context, "zebra", Filter::All, 60).await.unwrap();
    assert_eq!(by_word.hits.len(), 60, "the answer is filled up");
    assert!(by_word.hits.iter().all(|hit| hit.id.as_str() >= "200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_are_scored_by_the_querys_parameters() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, store) = (tenant("t"), &rig.store);
        let texts = ["zebra zebra lantern", "zebra", "violin violin violin violin", "meadow"];
        let writes = texts.iter().enumerate().map(|(n, text)| {
            Write::put(
                item(&n.to_string(), text),
                memory_core::Vectors::default(),
                Precondition::Any,
            )
        });
        store.commit(&context, commit(writes.collect())).await.unwrap();
        let average = 9.0 / 4.0;
        let rarity = |holders: f64| (1.0_f64 + (4.0 - holders + 0.5) / (holders + 0.5)).ln();
        for (k1, b) in [(0.9, 0.4), (2.0, 0.0), (0.0, 1.0)] {
            let score = |times: f64, words: f64, holders: f64| {
                rarity(holders) * times * (k1 + 1.0)
                    / (times + k1 * (1.0 - b + b * words / average))
            };
            let query = KeywordQuery::new("Zebras, lanterns: walnut?", 10)
                .with_bm25(k1, b)
                .with_explain(true);
            let found = KeywordIndex::search(&**store, &context, &query).await.unwrap();
            assert!(found.exact);
            assert_eq!(ids(&found), ["0", "1"]);
            let wanted = score(2.0, 3.0, 2.0) + score(1.0, 3.0, 1.0);
            assert!((found.hits[0].score - wanted).abs() < 1e-9, "{k1} {b}");
            assert!((found.hits[1].score - score(1.0, 1.0, 2.0)).abs() < 1e-9, "{k1} {b}");
            let named: Vec<_> = found.hits[0].terms.iter().map(|term| term.term.as_str()).collect();
            assert_eq!(named, ["zebra", "lantern"]);
            let mass = rarity(2.0) + rarity(1.0) + rarity(0.0);
            let coverage = found.hits[0].context.as_ref().unwrap().coverage.unwrap();
            assert!((coverage - wanted / (mass * (k1 + 1.0))).abs() < 1e-9);
        }
        // What is replaced and deleted leaves the statistics.
        let before = by_words(store, &context, "zebra", Filter::All, 10).await.unwrap();
        let other = Write::put(
            item("3", "zebra zebra zebra x y z"),
            memory_core::Vectors::default(),
            Precondition::Any,
        );
        store.commit(&context, commit(vec![other])).await.unwrap();
        let between = by_words(store, &context, "zebra", Filter::All, 10).await.unwrap();
        assert_eq!(between.hits.len(), 3);
        let back =
            Write::put(item("3", "meadow"), memory_core::Vectors::default(), Precondition::Any);
        store.commit(&context, commit(vec![back])).await.unwrap();
        let gone = Write::put(
            item("4", "zebra lantern"),
            memory_core::Vectors::default(),
            Precondition::Any,
        );
        store.commit(&context, commit(vec![gone])).await.unwrap();
        let delete = Write::delete(id("4"), Precondition::Any);
        store.commit(&context, commit(vec![delete])).await.unwrap();
        let after = by_words(store, &context, "zebra", Filter::All, 10).await.unwrap();
        for (before, after) in before.hits.iter().zip(&after.hits) {
            assert!((before.score - after.score).abs() < 1e-9);
        }
        assert_eq!(ids(&after), ids(&before));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_are_kept_for_their_revision_and_removed() {
    for server in WITH_ENGINE {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, store, space) = (tenant("t"), &rig.store, space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let writes = (0..120).map(|n| {
            Write::put(
                item(&format!("{n:03}"), "x"),
                memory_core::Vectors::default(),
                Precondition::Any,
            )
        });
        let receipt = store.commit(&context, commit(writes.collect())).await.unwrap();
        let lacking = VectorIndex::missing(&**store, &context, &space, None, 1_000).await.unwrap();
        assert_eq!(lacking.len(), 120);
        let mut entries: Vec<_> = receipt
            .results
            .iter()
            .enumerate()
            .map(|(n, result)| VectorEntry {
                id: id(&format!("{n:03}")),
                revision: result.revision.clone().unwrap(),
                vector: vec![1.0, 0.5],
            })
            .collect();
        entries[7].revision = entries[8].revision.clone();
        let outcomes = VectorIndex::upsert(&**store, &context, &space, &entries).await.unwrap();
        assert_eq!(outcomes.iter().filter(|one| **one == UpsertOutcome::Stored).count(), 119);
        assert_eq!(outcomes[7], UpsertOutcome::Stale);
        let lacking = VectorIndex::missing(&**store, &context, &space, None, 10).await.unwrap();
        assert_eq!(lacking, [id("007")]);
        VectorIndex::remove(&**store, &context, &space, &[id("000"), id("no")]).await.unwrap();
        let after =
            VectorIndex::missing(&**store, &context, &space, Some(id("000")), 10).await.unwrap();
        assert_eq!(after, [id("007")]);
        let found =
            nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 1_000).await.unwrap();
        assert_eq!(found.hits.len(), 118);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authors_are_known_while_something_of_theirs_is_visible() {
    let Some(rig) = Rig::on(WITH_ENGINE[0]).await else { return };
    let (context, store) = (tenant("t"), &rig.store);
    let writes = (0..40).map(|n| {
        let mut one = item(&n.to_string(), "x");
        one.author = Some(if n < 20 { "Ada Lovelace" } else { "Bob, {*} \\ Émile" }.to_owned());
        if n < 20 {
            one.expires_at = Some(rig.clock.now().saturating_add(Duration::from_secs(1)));
        }
        Write::put(one, memory_core::Vectors::default(), Precondition::Any)
    });
    store.commit(&context, commit(writes.collect())).await.unwrap();
    let names: Vec<String> = [
        "ada",
        "Lovelace",
        "ADA LOVELACE",
        "bob, {*} \\ émile",
        "Bob,",
        "bob",
        "*",
        " ",
        "Ada Byron",
    ]
    .map(str::to_owned)
    .into();
    let known = store.authors(&context, &names).await.unwrap();
    assert_eq!(known, ["ada", "ADA LOVELACE", "bob, {*} \\ émile", "Bob,"]);
    rig.clock.advance(Duration::from_secs(1));
    let known = store.authors(&context, &names).await.unwrap();
    assert_eq!(known, ["bob, {*} \\ émile", "Bob,"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_engine_the_error_says_what_to_enable() {
    for server in WITHOUT {
        let Some(rig) = Rig::on(server).await else { continue };
        let (context, space) = (tenant("t"), space("m", 2));
        set_spaces(&rig, &context, space.clone(), None).await;
        let store = &rig.store;
        let write = put(item("a", "zebra"), &space, &[1.0, 0.0]);
        store.commit(&context, commit(vec![write])).await.unwrap();
        let vectors = nearest(store, &context, &space, &[1.0, 0.0], Filter::All, 1).await;
        let words = by_words(store, &context, "zebra", Filter::All, 1).await;
        let authors = store.authors(&context, &["a".to_owned()]).await;
        // Vectors are kept all the same: an index elsewhere can read them.
        let revision = put_one(store, &context, item("b", "horse")).await.unwrap();
        let missing =
            async || VectorIndex::missing(&**store, &context, &space, None, 10).await.unwrap();
        assert_eq!(missing().await, [id("b")]);
        let entry = VectorEntry { id: id("b"), revision, vector: vec![0.0, 1.0] };
        let kept = VectorIndex::upsert(&**store, &context, &space, &[entry]).await.unwrap();
        assert_eq!((kept, missing().await), (vec![UpsertOutcome::Stored], vec![]));
        for error in [vectors.map(drop), words.map(drop), authors.map(drop)] {
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains("RediSearch"), "{error}");
        }
    }
    let Some(rig) = Rig::on(WITH_ENGINE[0]).await else { return };
    let off = rig.with(serde_json::json!({"search": "off"})).await;
    let error = by_words(&off, &tenant("t"), "x", Filter::All, 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("`search`"));
}

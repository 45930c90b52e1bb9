//! Only what the store of record has now is shown, and the answer fills up.

use memory_core::traits::IndexHit;
use memory_core::{Field, Filter, MetaKey, Projection, Revision};
use memory_search::{ArmSelection, Limit, SearchRequest, SearchSettings};

use crate::world::{World, by_both, by_text, hit, ids, item, scores, settings};

fn small() -> SearchSettings {
    settings().with_candidates_per_hit(1).with_min_candidates(1)
}

/// `count` records and a keyword index that has them in order; those before `dead` are deleted.
fn lagging(count: usize, dead: usize) -> World {
    let names: Vec<String> = (0..count).map(|n| format!("m{n:04}")).collect();
    let live: Vec<&str> = names[dead..].iter().map(String::as_str).collect();
    let world = World::with_rows(&live);
    let hits: Vec<IndexHit> = names
        .iter()
        .zip((0..u32::try_from(count).unwrap()).rev())
        .map(|(name, score)| hit(name, 1, f64::from(score)))
        .collect();
    world.change(|state| state.keyword = hits);
    world
}

fn count(limit: u32) -> SearchRequest {
    by_text().with_limit(Limit::Count(limit))
}

#[test]
fn a_stale_hit_is_taken_out_before_the_fusion_and_the_answer_fills_up() {
    let world = World::with_rows(&["a", "b", "c", "d"]).keyword(&[
        ("a", 100.0),
        ("b", 6.0),
        ("c", 4.0),
        ("d", 2.0),
    ]);
    let request = count(2);
    assert_eq!(scores(&world.search(&request).unwrap()), [("a", 1_000), ("b", 60)]);
    world.change(|state| {
        state.rows.insert("a".to_owned(), item("a", 2));
        state.fetches.clear();
    });
    let answer = world.search(&request).unwrap();
    assert_eq!(scores(&answer), [("b", 1_000), ("c", 667)], "a is no longer the best");
    assert_eq!(answer.hits[0].arms[0].rank, 1);
    assert_eq!(world.look(|state| state.fetches.clone()), [2, 1], "no id is read twice");
    assert_eq!(world.look(|state| state.keyword_calls.clone()), [2, 2, 4], "widened to fill up");
    assert!(answer.exact && answer.notes.len() == 1, "{:?}", answer.notes);
}

#[test]
fn a_missing_or_expired_item_is_not_shown() {
    // An expired item is one that the store no longer answers with.
    let world = World::with_rows(&["b", "c"]).keyword(&[("a", 3.0), ("b", 2.0), ("c", 1.0)]);
    assert_eq!(ids(&world.search(&by_text()).unwrap()), ["b", "c"]);
    world.change(|state| state.rows.clear());
    assert!(world.search(&by_text()).unwrap().hits.is_empty());
    world.change(|state| {
        state.rows.insert("a".to_owned(), item("a", 1));
    });
    assert_eq!(ids(&world.search(&by_text()).unwrap()), ["a"]);
}

#[test]
fn an_item_that_is_stale_in_one_arm_is_found_by_the_other_alone() {
    let world = World::with_rows(&["a", "b"])
        .keyword(&[("a", 2.0), ("b", 1.0)])
        .vector(&[("a", 0.9), ("b", 0.1)]);
    assert_eq!(scores(&world.search(&by_both()).unwrap()), [("a", 1_000), ("b", 0)]);
    world.change(|state| state.vector[0].revision = Revision::from_number(0));
    let answer = world.search(&by_both()).unwrap();
    assert_eq!(scores(&answer), [("b", 550), ("a", 450)]);
    assert_eq!(answer.hits[1].arms.len(), 1);
}

#[test]
fn the_filter_is_checked_again_and_its_metadata_does_not_leak() {
    let world = World::with_rows(&["a", "b"]).keyword(&[("a", 2.0), ("b", 1.0)]);
    let key = MetaKey::new("topic").unwrap();
    world.change(|state| {
        for (name, topic) in [("a", "work"), ("b", "tea")] {
            let metadata = &mut state.rows.get_mut(name).unwrap().metadata;
            metadata.insert(key.clone(), topic.into());
        }
    });
    let request = by_text().with_filter(Filter::eq(Field::Metadata(key), "tea"));
    let answer = world.search(&request).unwrap();
    assert_eq!(ids(&answer), ["b"], "the index let everything pass");
    assert_eq!(answer.hits[0].item.metadata.len(), 1);
    let answer = world.search(&request.with_projection(Projection::narrow())).unwrap();
    assert_eq!(ids(&answer), ["b"]);
    assert!(answer.hits[0].item.metadata.is_empty(), "the projection left it out");
}

#[test]
fn an_answer_that_is_short_widens_until_it_is_full() {
    let world = lagging(200, 30);
    let answer = world.search_with(small(), &count(5)).unwrap();
    assert_eq!(ids(&answer), ["m0030", "m0031", "m0032", "m0033", "m0034"]);
    assert!(answer.exact);
    world.look(|state| {
        assert_eq!(state.keyword_calls, [5, 10, 20, 40]);
        assert_eq!(state.fetches, [5, 5, 5, 5, 5, 15], "each candidate is read once");
    });
}

#[test]
fn widening_stops_where_the_arm_has_no_more() {
    let world = lagging(12, 10);
    let answer = world.search_with(small(), &count(5)).unwrap();
    assert_eq!(ids(&answer), ["m0010", "m0011"]);
    assert!(answer.exact, "that is all there is");
    assert_eq!(world.look(|state| state.keyword_calls.clone()), [5, 10, 20]);
}

#[test]
fn widening_is_bounded_and_says_what_it_left() {
    let world = lagging(1_500, 1_200);
    let answer = world.search_with(small(), &count(5)).unwrap();
    assert!(answer.hits.is_empty() && !answer.exact);
    assert!(answer.notes.iter().any(|note| note.contains("shorter than asked")), "{answer:?}");
    world.look(|state| {
        assert_eq!(state.keyword_calls, [5, 10, 20, 40, 80, 160, 320, 640, 1_000]);
        assert!(state.fetches.len() <= 2 * state.keyword_calls.len(), "{:?}", state.fetches);
    });
    let full = lagging(1_500, 100).search_with(small(), &count(5)).unwrap();
    assert_eq!(full.hits.len(), 5);
    assert!(full.exact && !full.notes.iter().any(|note| note.contains("shorter")), "{full:?}");
}

#[test]
fn only_the_arm_that_has_more_is_asked_again() {
    let world = lagging(100, 20);
    world.change(|state| state.vector = vec![hit("m0000", 1, 0.5)]);
    let answer = world.search_with(small(), &by_both().with_limit(Limit::Count(10))).unwrap();
    assert_eq!(answer.hits.len(), 10);
    world.look(|state| {
        assert_eq!(state.keyword_calls, [10, 20, 40]);
        assert_eq!(state.vector_calls, [10]);
    });
}

#[test]
fn a_write_between_search_and_reading_is_asked_again_where_one_commit_covers_both() {
    let world = || {
        let world =
            World::with_rows(&["a", "b"]).keyword(&[("a", 2.0), ("b", 1.0)]).vector(&[("a", 0.9)]);
        world.change(|state| {
            state.rows.insert("a".to_owned(), item("a", 2));
            state.catch_up = vec![("a".to_owned(), 2)];
        });
        world
    };
    let mut together = world();
    together.co_located = true;
    assert_eq!(scores(&together.search(&by_both()).unwrap()), [("a", 1_000), ("b", 0)]);
    together.look(|state| {
        assert_eq!((state.keyword_calls.len(), state.vector_calls.len()), (2, 2));
    });
    // An index elsewhere lags behind by itself; asking again at once would cost and not help.
    let apart = world();
    assert_eq!(ids(&apart.search(&by_both()).unwrap()), ["b"]);
    assert_eq!(apart.look(|state| state.keyword_calls.len()), 1);
}

#[test]
fn starting_anew_is_bounded() {
    let mut world = World::with_rows(&["b"]).keyword(&[("a", 2.0), ("b", 1.0)]);
    world.co_located = true;
    world.change(|state| {
        state.rows.insert("a".to_owned(), item("a", 2));
    });
    let request = by_text().with_arms(ArmSelection::KeywordOnly);
    assert_eq!(ids(&world.search(&request).unwrap()), ["b"]);
    assert_eq!(world.look(|state| state.keyword_calls.len()), 3);
}

#[test]
fn more_than_a_thousand_candidates_are_read_in_batches() {
    let names: Vec<String> = (0..2_000).map(|n| format!("m{n:04}")).collect();
    let live: Vec<&str> = names[1..].iter().map(String::as_str).collect();
    let world = World::with_rows(&live);
    world.change(|state| {
        let score = |n: usize| 2_000.0 - f64::from(u32::try_from(n).unwrap());
        let hits = |from: usize| {
            (from..from + 1_000).map(|n| hit(&names[n], 1, score(n))).collect::<Vec<_>>()
        };
        (state.keyword, state.vector) = (hits(0), hits(1_000));
    });
    let answer = world.search(&by_both().with_limit(Limit::Count(1_000))).unwrap();
    assert_eq!(answer.hits.len(), 1_000);
    assert!(!ids(&answer).contains(&"m0000"));
    // The harness refuses a fetch of more than a thousand ids.
    let fetches = world.look(|state| state.fetches.clone());
    assert_eq!((fetches.len(), fetches.iter().sum::<usize>()), (2, 2_000));
}

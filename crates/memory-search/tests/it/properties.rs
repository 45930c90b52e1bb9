//! The searcher against a naive reading of its rule, over arbitrary indexes and records.

use std::collections::{BTreeMap, BTreeSet};

use memory_core::traits::IndexHit;
use memory_search::{ArmSelection, FusionSettings, Limit, SearchSettings};
use proptest::prelude::*;

use crate::world::{World, by_both, hit, ids, item};

/// Few ids and few scores, so that ties, overlaps and stale hits are frequent.
fn candidates() -> impl Strategy<Value = Vec<IndexHit>> {
    let score = prop_oneof![(-3_i8..4).prop_map(f64::from), -1e3..1e3_f64];
    proptest::collection::btree_map(0_u8..30, (score, 1_u64..3), 0..25).prop_map(|hits| {
        let mut hits: Vec<_> = hits
            .into_iter()
            .map(|(name, (score, revision))| hit(&format!("m{name:02}"), revision, score))
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id)));
        hits
    })
}

/// The revision that the store has of each id; a missing one is deleted or expired.
fn records() -> impl Strategy<Value = BTreeMap<u8, u64>> {
    proptest::collection::btree_map(0_u8..30, prop_oneof![4 => Just(1_u64), 1 => Just(2)], 15..30)
}

fn world(keyword: &[IndexHit], vector: &[IndexHit], records: &BTreeMap<u8, u64>) -> World {
    let world = World::default();
    world.change(|state| {
        state.keyword = keyword.to_vec();
        state.vector = vector.to_vec();
        state.rows = records
            .iter()
            .map(|(name, revision)| {
                let name = format!("m{name:02}");
                (name.clone(), item(&name, *revision))
            })
            .collect();
    });
    world
}

fn is_live(world: &World, hit: &IndexHit) -> bool {
    world.look(|state| {
        state
            .rows
            .get(hit.id.as_str())
            .is_some_and(|row| row.revision.as_ref() == Some(&hit.revision))
    })
}

/// The rule, item by item: each score is worked out by itself, by looking through every list.
fn reference(lists: [&[IndexHit]; 2], weights: [f64; 2]) -> Vec<(String, f64)> {
    let names: BTreeSet<&str> =
        lists.iter().flat_map(|list| list.iter().map(|hit| hit.id.as_str())).collect();
    let raw = |name: &str, list: &[IndexHit]| {
        list.iter().find(|hit| hit.id.as_str() == name).map(|hit| hit.score)
    };
    let mut ranking: Vec<_> = names
        .into_iter()
        .map(|name| {
            let mut score = 0.0;
            for (list, weight) in lists.iter().zip(weights) {
                let Some(own) = raw(name, list) else { continue };
                let lowest = list.iter().map(|hit| hit.score).min_by(f64::total_cmp).unwrap();
                let highest = list.iter().map(|hit| hit.score).max_by(f64::total_cmp).unwrap();
                let normalised =
                    if lowest < highest { (own - lowest) / (highest - lowest) } else { 1.0 };
                score += weight / (weights[0] + weights[1]) * normalised;
            }
            (name.to_owned(), f64::min(score, 1.0), raw(name, lists[0]), raw(name, lists[1]))
        })
        .collect();
    ranking.sort_by(|a, b| {
        let better = b.1.partial_cmp(&a.1).unwrap();
        let better = better.then_with(|| b.2.partial_cmp(&a.2).unwrap());
        let better = better.then_with(|| b.3.partial_cmp(&a.3).unwrap());
        better.then_with(|| a.0.cmp(&b.0))
    });
    ranking.into_iter().map(|(name, score, ..)| (name, score)).collect()
}

proptest! {
    #[test]
    fn the_ranking_is_that_of_the_rule(
        keyword in candidates(),
        vector in candidates(),
        records in records(),
        limit in 1_u32..20,
        weights in (0.0..2.0_f64, 0.1..2.0_f64),
    ) {
        let world = world(&keyword, &vector, &records);
        let weights = [weights.0, weights.1];
        let settings = SearchSettings::default().with_fusion(
            FusionSettings::default().with_keyword(weights[0]).with_vector(weights[1]),
        );
        let answer = world
            .search_with(settings, &by_both().with_limit(Limit::Count(limit)))
            .unwrap();
        let top = usize::try_from(limit).unwrap();
        let live = |list: &[IndexHit]| -> Vec<IndexHit> {
            list.iter().filter(|hit| is_live(&world, hit)).cloned().collect()
        };
        let all = reference([&keyword, &vector], weights);
        let dead = |name: &str| {
            let mut hits = keyword.iter().chain(&vector);
            hits.any(|hit| hit.id.as_str() == name && !is_live(&world, hit))
        };
        let mut want = if all.iter().take(top).any(|(name, _)| dead(name)) {
            reference([&live(&keyword), &live(&vector)], weights)
        } else {
            all
        };
        want.truncate(top);
        let shown: Vec<_> =
            answer.hits.iter().map(|hit| (hit.item.id.to_string(), hit.score)).collect();
        prop_assert_eq!(shown, want);
    }

    #[test]
    fn an_answer_is_live_full_and_within_its_limit(
        keyword in candidates(),
        vector in candidates(),
        records in records(),
        limit in 1_u32..20,
        width in 1_u32..10,
    ) {
        let world = world(&keyword, &vector, &records);
        let settings =
            SearchSettings::default().with_candidates_per_hit(1).with_min_candidates(width);
        let request = by_both().with_limit(Limit::Count(limit)).with_explain(true);
        let answer = world.search_with(settings, &request).unwrap();
        let shown: BTreeSet<_> = ids(&answer).into_iter().map(str::to_owned).collect();
        prop_assert_eq!(shown.len(), answer.hits.len(), "an item stands twice");
        let live: BTreeSet<_> = keyword
            .iter()
            .chain(&vector)
            .filter(|hit| is_live(&world, hit))
            .map(|hit| hit.id.to_string())
            .collect();
        prop_assert!(shown.is_subset(&live));
        prop_assert_eq!(shown.len(), live.len().min(usize::try_from(limit).unwrap()));
        prop_assert!(answer.hits.is_sorted_by(|a, b| a.score >= b.score));
        for hit in &answer.hits {
            prop_assert!((0.0..=1.0).contains(&hit.score));
            prop_assert!(!hit.arms.is_empty());
            let sum: f64 =
                hit.explanation.as_ref().unwrap().arms.iter().map(|arm| arm.contribution).sum();
            prop_assert!((sum - hit.score).abs() < 1e-9);
        }
        prop_assert_eq!(world.search_with(settings, &request).unwrap(), answer);
    }

    #[test]
    fn an_arm_that_is_alone_keeps_its_order_and_a_shorter_answer_is_a_longer_ones_beginning(
        found in candidates(),
        records in records(),
        limits in (1_u32..20, 1_u32..20),
        by_words in proptest::bool::ANY,
    ) {
        let world = world(&found, &found, &records);
        let arms = if by_words { ArmSelection::KeywordOnly } else { ArmSelection::VectorOnly };
        let ask = |limit| {
            world.search(&by_both().with_arms(arms).with_limit(Limit::Count(limit))).unwrap()
        };
        let (short, long) = (ask(limits.0.min(limits.1)), ask(limits.0.max(limits.1)));
        let live: Vec<&str> = found
            .iter()
            .filter(|hit| is_live(&world, hit))
            .map(|hit| hit.id.as_str())
            .take(long.hits.len())
            .collect();
        prop_assert_eq!(ids(&long), live);
        prop_assert!(long.hits.iter().all(|hit| (0.0..=1.0).contains(&hit.score)));
        // Where keywords have no score above 0, they are measured by the candidates there are.
        let best = long.hits.first().map_or(0.0, |hit| hit.arms[0].raw_score);
        if !by_words || best > 0.0 {
            prop_assert_eq!(&short.hits[..], &long.hits[..short.hits.len()]);
        }
    }
}

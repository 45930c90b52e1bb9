//! Fusion: the candidates of the arms become one ranking. Pure arithmetic;
//! [`FusionSettings`] states the rule.

use std::cmp::Ordering;
use std::collections::HashMap;

use memory_core::traits::IndexHit;
use memory_core::{MemoryId, Metric, Revision};

use crate::answer::Arm;
use crate::context::Signals;
use crate::scale::Scale;
use crate::settings::FusionSettings;

/// The arms in the order in which answers list them and ties are broken.
pub(crate) const ARMS: [Arm; 2] = [Arm::Keyword, Arm::Vector];

/// What one arm knows of an item.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Where it stands in the arm's list, from 0.
    pub(crate) place: usize,
    /// The revision that the arm's index saw.
    pub(crate) revision: Revision,
    /// The arm's own score.
    pub(crate) raw: f64,
    /// The arm's score brought to [0, 1].
    pub(crate) normalised: f64,
}

/// An item with its fused score.
#[derive(Clone, Debug)]
pub(crate) struct Fused {
    pub(crate) id: MemoryId,
    /// In [0, 1].
    pub(crate) score: f64,
    /// By arm, in the order of [`ARMS`]; at least one is there.
    pub(crate) parts: [Option<Part>; 2],
    /// What the context made of the score; `None` where it had no part.
    pub(crate) signals: Option<Signals>,
}

/// The weight of each arm that ran, in the order of [`ARMS`]; they add up to 1.
pub(crate) fn weights(ran: [bool; 2], settings: &FusionSettings) -> [f64; 2] {
    match ran {
        [true, true] => {
            let sum = settings.keyword + settings.vector;
            [settings.keyword / sum, settings.vector / sum]
        }
        [keyword, vector] => [f64::from(u8::from(keyword)), f64::from(u8::from(vector))],
    }
}

/// Fuses the arms' lists, best first.
///
/// Each list is in the arm's order, names an item once, and has finite scores only; `None` is an
/// arm that did not run. `metric` is that of the vectors, which an arm that is alone goes by;
/// without it, it goes by the range of its candidates.
pub(crate) fn fuse(
    lists: [Option<&[IndexHit]>; 2],
    metric: Option<Metric>,
    settings: &FusionSettings,
) -> Vec<Fused> {
    let ran = lists.map(|list| list.is_some());
    let weights = weights(ran, settings);
    let most = lists.iter().flatten().map(|list| list.len()).sum();
    let mut places: HashMap<&MemoryId, usize> = HashMap::with_capacity(most);
    let mut fused: Vec<Fused> = Vec::with_capacity(most);
    for (arm, list) in lists.into_iter().enumerate() {
        let list = list.unwrap_or_default();
        let scale = match (ran, metric) {
            ([true, false], _) => Scale::keywords_alone(list),
            ([false, true], Some(metric)) => Scale::Likeness(metric),
            _ => Scale::among(list),
        };
        for (place, hit) in list.iter().enumerate() {
            let at = *places.entry(&hit.id).or_insert_with(|| {
                fused.push(Fused {
                    id: hit.id.clone(),
                    score: 0.0,
                    parts: [None, None],
                    signals: None,
                });
                fused.len() - 1
            });
            let normalised = scale.apply(hit.score);
            fused[at].score += weights[arm] * normalised;
            let revision = hit.revision.clone();
            fused[at].parts[arm] = Some(Part { place, revision, raw: hit.score, normalised });
        }
    }
    for item in &mut fused {
        // The weights add up to 1 only as nearly as their quotients do.
        item.score = item.score.min(1.0);
    }
    fused.sort_by(best_first);
    fused
}

/// Sorts one arm's hits as every index should have: best first, ties by id.
pub(crate) fn arm_order(a: &IndexHit, b: &IndexHit) -> Ordering {
    b.score.total_cmp(&a.score).then_with(|| a.id.cmp(&b.id))
}

pub(crate) fn best_first(a: &Fused, b: &Fused) -> Ordering {
    let raw = |item: &Fused, arm: usize| {
        // Every found item, however low, stands before one that the arm did not find.
        item.parts[arm].as_ref().map_or(f64::NEG_INFINITY, |part| part.raw)
    };
    b.score
        .total_cmp(&a.score)
        .then_with(|| raw(b, 0).total_cmp(&raw(a, 0)))
        .then_with(|| raw(b, 1).total_cmp(&raw(a, 1)))
        .then_with(|| a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(hits: &[(&str, f64)]) -> Vec<IndexHit> {
        let hit = |&(id, score): &(&str, f64)| IndexHit {
            id: MemoryId::new(id).unwrap(),
            revision: Revision::from_number(1),
            score,
            terms: Vec::new(),
            item: None,
            context: None,
        };
        hits.iter().map(hit).collect()
    }

    fn fused(
        keyword: Option<&[(&str, f64)]>,
        vector: Option<&[(&str, f64)]>,
    ) -> Vec<(String, f64)> {
        let (keyword, vector) = (keyword.map(list), vector.map(list));
        let lists = [keyword.as_deref(), vector.as_deref()];
        let settings = FusionSettings::default().with_keyword(0.45).with_vector(0.55);
        fuse(lists, Some(Metric::Euclidean), &settings)
            .into_iter()
            .map(|item| (item.id.to_string(), item.score))
            .collect()
    }

    fn close(found: &[(String, f64)], want: &[(&str, f64)]) {
        assert_eq!(found.len(), want.len(), "{found:?}");
        for ((id, score), (want_id, want_score)) in found.iter().zip(want) {
            assert_eq!(id, want_id, "{found:?}");
            assert!((score - want_score).abs() < 1e-12, "{found:?}");
        }
    }

    #[test]
    fn both_arms_by_hand() {
        // keyword: a (10-2)/8 = 1, b (6-2)/8 = .5, c 0; vector: c 1, b (.5-.1)/.8 = .5, d 0.
        let found = fused(
            Some(&[("a", 10.0), ("b", 6.0), ("c", 2.0)]),
            Some(&[("c", 0.9), ("b", 0.5), ("d", 0.1)]),
        );
        close(&found, &[("c", 0.55), ("b", 0.5), ("a", 0.45), ("d", 0.0)]);
    }

    #[test]
    fn one_arm_alone_has_all_the_weight_and_keeps_its_order() {
        let hits = [("a", 4.0), ("b", 3.0), ("c", 1.0)];
        close(&fused(Some(&hits), None), &[("a", 1.0), ("b", 0.75), ("c", 0.25)]);
        let hits = [("a", 0.0), ("b", -1.0), ("c", -4.0)];
        close(&fused(None, Some(&hits)), &[("a", 1.0), ("b", 0.5), ("c", 0.2)]);
        assert!(fused(None, None).is_empty());
    }

    #[test]
    fn a_single_candidate_and_equal_candidates_get_one() {
        close(&fused(Some(&[("a", 3.0)]), None), &[("a", 1.0)]);
        close(&fused(Some(&[("b", 3.0), ("a", 3.0)]), None), &[("a", 1.0), ("b", 1.0)]);
        close(&fused(Some(&[("a", 0.0)]), Some(&[("b", -7.0)])), &[("b", 0.55), ("a", 0.45)]);
    }

    #[test]
    fn an_arm_that_found_nothing_keeps_its_weight() {
        close(&fused(Some(&[("a", 2.0), ("b", 1.0)]), Some(&[])), &[("a", 0.45), ("b", 0.0)]);
        close(&fused(Some(&[]), Some(&[("a", 2.0)])), &[("a", 0.55)]);
    }

    #[test]
    fn ties_go_by_raw_keyword_then_raw_vector_then_id() {
        // z is last of the keywords, y last of the vectors: both score 0, and z was found by words.
        let found =
            fused(Some(&[("a", 5.0), ("z", 1.0)]), Some(&[("a", 0.5), ("y", 0.1), ("x", 0.1)]));
        close(&found, &[("a", 1.0), ("z", 0.0), ("x", 0.0), ("y", 0.0)]);
    }

    #[test]
    fn extreme_scores_stay_within_bounds() {
        let hits = [("a", f64::MAX), ("b", 0.0), ("c", f64::MIN)];
        let found = fused(Some(&hits), Some(&hits));
        close(&found, &[("a", 1.0), ("b", 0.5), ("c", 0.0)]);
        let tiny = f64::from_bits(1);
        for (_, score) in fused(Some(&[("a", tiny), ("b", 0.0)]), Some(&[])) {
            assert!((0.0..=1.0).contains(&score), "{score}");
        }
    }

    #[test]
    fn weights_add_up_to_one_over_the_arms_that_ran() {
        let settings = FusionSettings::default().with_keyword(3.0).with_vector(1.0);
        assert_eq!(weights([true, true], &settings), [0.75, 0.25]);
        assert_eq!(weights([true, false], &settings), [1.0, 0.0]);
        assert_eq!(weights([false, true], &settings), [0.0, 1.0]);
    }
}

//! How an arm's scores are brought to [0, 1]. Pure arithmetic; [`crate::FusionSettings`] states
//! the rules.

use memory_core::Metric;
use memory_core::traits::IndexHit;

/// How the scores of one arm's candidates become numbers in [0, 1]. Never turns their order; it
/// may make neighbours equal, whose raw scores then decide.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scale {
    /// By the lowest and highest of the candidates.
    Range {
        /// The lowest score.
        lowest: f64,
        /// The highest score.
        highest: f64,
    },
    /// As a share of the best score, which is above 0.
    Share {
        /// The best score.
        best: f64,
    },
    /// By itself, as the metric bounds it.
    Likeness(Metric),
}

impl Scale {
    /// For an arm that is fused with another.
    pub(crate) fn among(list: &[IndexHit]) -> Self {
        let scores = list.iter().map(|hit| hit.score);
        Self::Range {
            lowest: scores.clone().fold(f64::INFINITY, f64::min),
            highest: scores.fold(f64::NEG_INFINITY, f64::max),
        }
    }

    /// For keywords alone.
    pub(crate) fn keywords_alone(list: &[IndexHit]) -> Self {
        let best = list.iter().map(|hit| hit.score).fold(0.0, f64::max);
        // An index whose best score is no BM25 above 0 has no zero to measure shares from.
        if best > 0.0 { Self::Share { best } } else { Self::among(list) }
    }

    /// A finite score in [0, 1].
    pub(crate) fn apply(self, score: f64) -> f64 {
        match self {
            Self::Range { lowest, highest } => within(lowest, highest, score),
            Self::Share { best } => score / best,
            Self::Likeness(Metric::Cosine) => f64::midpoint(1.0, score),
            Self::Likeness(Metric::Dot) => f64::midpoint(1.0, score / (1.0 + score.abs())),
            Self::Likeness(Metric::Euclidean) => 1.0 / (1.0 - score.min(0.0)),
        }
        .clamp(0.0, 1.0)
    }
}

fn within(lowest: f64, highest: f64, score: f64) -> f64 {
    if lowest >= highest {
        return 1.0;
    }
    // Halves, because the distance of two finite numbers may be more than the largest one.
    let half = |high: f64, low: f64| high / 2.0 - low / 2.0;
    let span = half(highest, lowest);
    // Two subnormal neighbours may have halves that are the same number.
    if span > 0.0 { half(score, lowest) / span } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use memory_core::{MemoryId, Revision};

    use super::*;

    fn list(scores: &[f64]) -> Vec<IndexHit> {
        let hit = |(at, &score): (usize, &f64)| IndexHit {
            id: MemoryId::new(format!("m{at}")).unwrap(),
            revision: Revision::from_number(1),
            score,
            terms: Vec::new(),
            item: None,
            context: None,
        };
        scores.iter().enumerate().map(hit).collect()
    }

    fn close(scale: Scale, cases: &[(f64, f64)]) {
        for (score, want) in cases {
            let got = scale.apply(*score);
            assert!((got - want).abs() < 1e-12, "{scale:?} makes {got} of {score}");
        }
    }

    #[test]
    fn the_rules_by_hand() {
        close(Scale::among(&list(&[10.0, 6.0, 2.0])), &[(10.0, 1.0), (6.0, 0.5), (2.0, 0.0)]);
        close(Scale::among(&list(&[3.0, 3.0])), &[(3.0, 1.0)]);
        let alone = Scale::keywords_alone(&list(&[10.0, 6.0, 0.0]));
        close(alone, &[(10.0, 1.0), (6.0, 0.6), (0.0, 0.0), (-1.0, 0.0)]);
        close(Scale::keywords_alone(&list(&[-1.0, -2.0])), &[(-1.0, 1.0), (-2.0, 0.0)]);
        close(Scale::keywords_alone(&list(&[0.0, 0.0])), &[(0.0, 1.0)]);
        let cosine = Scale::Likeness(Metric::Cosine);
        close(cosine, &[(1.0, 1.0), (1.000_001, 1.0), (0.5, 0.75), (0.0, 0.5), (-1.0, 0.0)]);
        let dot = Scale::Likeness(Metric::Dot);
        close(dot, &[(0.0, 0.5), (1.0, 0.75), (-1.0, 0.25), (3.0, 0.875)]);
        let euclidean = Scale::Likeness(Metric::Euclidean);
        close(euclidean, &[(0.0, 1.0), (-1.0, 0.5), (-3.0, 0.25)]);
    }

    #[test]
    fn every_finite_score_stays_within_bounds_and_in_order() {
        let tiny = f64::from_bits(1);
        let scores = [f64::MIN, -2.0, -1.0, -tiny, 0.0, tiny, 0.3, 1.0, 7.0, 1e300, f64::MAX];
        let few = list(&[tiny, 0.0]);
        let all = list(&scores);
        let scales = [
            Scale::among(&all),
            Scale::among(&few),
            Scale::keywords_alone(&all),
            Scale::keywords_alone(&few),
            Scale::Likeness(Metric::Cosine),
            Scale::Likeness(Metric::Dot),
            Scale::Likeness(Metric::Euclidean),
        ];
        for scale in scales {
            let applied = scores.map(|score| scale.apply(score));
            assert!(applied.iter().all(|x| (0.0..=1.0).contains(x)), "{scale:?}: {applied:?}");
            assert!(applied.is_sorted(), "{scale:?}: {applied:?}");
        }
    }
}

//! What an answer is worth: recall, reciprocal rank and NDCG, from the places of the relevant ids.

/// How many hits are asked for: the deepest cut.
pub(crate) const DEPTH: usize = 50;

/// The places at which recall is taken.
pub(crate) const CUTS: [usize; 5] = [1, 5, 10, 25, DEPTH];

/// The place of 10 in `CUTS`.
pub(crate) const CUT_10: usize = 2;

/// Where NDCG is cut.
const NDCG_CUT: usize = 10;

/// The scores of one answer, or their mean over many; each lies in [0, 1].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Scores {
    /// The share of the relevant ids among the first k hits, for each k of `CUTS`.
    pub(crate) recall: [f64; CUTS.len()],
    /// One divided by the place of the first relevant hit, or 0 without one.
    pub(crate) reciprocal_rank: f64,
    /// Binary gains, each divided by the logarithm of its place plus one, as a share of the best
    /// order of the relevant ids.
    pub(crate) ndcg: f64,
}

impl Scores {
    /// Scores an answer: `hits` in their order, and the ids that are relevant, at least one and
    /// none twice.
    pub(crate) fn of(hits: &[String], relevant: &[String]) -> Self {
        let places: Vec<usize> =
            relevant.iter().filter_map(|id| place(hits, id)).filter(|at| *at <= DEPTH).collect();
        let within = |cut: usize| places.iter().filter(move |at| **at <= cut);
        let best = (1..=relevant.len().min(NDCG_CUT)).map(discount).sum::<f64>();
        // Summed from the first place on, so that the order of `relevant` changes no last digit.
        let mut gains: Vec<usize> = within(NDCG_CUT).copied().collect();
        gains.sort_unstable();
        Self {
            recall: CUTS.map(|cut| float(within(cut).count()) / float(relevant.len())),
            reciprocal_rank: places.iter().min().map_or(0.0, |at| 1.0 / float(*at)),
            ndcg: gains.into_iter().map(discount).sum::<f64>() / best,
        }
    }

    /// The mean of many scores; all zero without any.
    pub(crate) fn mean<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut sum, mut count) = (Self::default(), 0);
        for one in all {
            for (sum, value) in sum.recall.iter_mut().zip(one.recall) {
                *sum += value;
            }
            sum.reciprocal_rank += one.reciprocal_rank;
            sum.ndcg += one.ndcg;
            count += 1;
        }
        let count = float(count.max(1));
        Self {
            recall: sum.recall.map(|value| value / count),
            reciprocal_rank: sum.reciprocal_rank / count,
            ndcg: sum.ndcg / count,
        }
    }
}

/// The place of an id among the hits, from 1 on.
pub(crate) fn place(hits: &[String], id: &str) -> Option<usize> {
    hits.iter().position(|hit| hit == id).map(|at| at + 1)
}

fn discount(place: usize) -> f64 {
    1.0 / float(place + 1).log2()
}

/// A count as a number with a point; none here comes near the bound.
pub(crate) fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// `count` hits named h1, h2, ..., with `id` at `place` instead.
    fn hits(count: usize, planted: &[(usize, &str)]) -> Vec<String> {
        let mut hits: Vec<String> = (1..=count).map(|at| format!("h{at}")).collect();
        for (at, id) in planted {
            hits[at - 1] = (*id).to_owned();
        }
        hits
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn the_perfect_answer_scores_one_everywhere() {
        let scores = Scores::of(&ids("a b c"), &ids("a"));
        assert_eq!(scores.recall, [1.0; 5]);
        assert!(near(scores.reciprocal_rank, 1.0) && near(scores.ndcg, 1.0));
    }

    #[test]
    fn an_answer_without_a_relevant_hit_scores_zero() {
        let zero = Scores::default();
        assert_eq!(Scores::of(&ids("x y"), &ids("a b")), zero);
        assert_eq!(Scores::of(&[], &ids("a")), zero);
    }

    #[test]
    fn recall_counts_the_share_within_each_cut() {
        let hits = hits(50, &[(1, "a"), (5, "b"), (11, "c"), (50, "d")]);
        let scores = Scores::of(&hits, &ids("a b c d"));
        assert_eq!(scores.recall, [0.25, 0.5, 0.5, 0.75, 1.0]);
        let scores = Scores::of(&hits, &ids("d missing"));
        assert_eq!(scores.recall, [0.0, 0.0, 0.0, 0.0, 0.5]);
        assert!(near(scores.reciprocal_rank, 1.0 / 50.0));
    }

    #[test]
    fn what_lies_below_the_depth_counts_for_nothing() {
        let hits = hits(60, &[(51, "a")]);
        assert_eq!(Scores::of(&hits, &ids("a")), Scores::default());
    }

    #[test]
    fn the_first_relevant_hit_decides_the_reciprocal_rank() {
        let scores = Scores::of(&ids("x y a b"), &ids("b a"));
        assert!(near(scores.reciprocal_rank, 1.0 / 3.0));
    }

    #[test]
    fn ndcg_compares_with_the_best_order() {
        // Places 2 and 4 of two: (1/log2 3 + 1/log2 5) / (1 + 1/log2 3).
        let scores = Scores::of(&ids("x a y b"), &ids("a b"));
        let expected = (1.0 / 3f64.log2() + 1.0 / 5f64.log2()) / (1.0 + 1.0 / 3f64.log2());
        assert!(near(scores.ndcg, expected), "{}", scores.ndcg);
        assert!(near(scores.ndcg, Scores::of(&ids("x a y b"), &ids("b a")).ndcg));
        // The eleventh place is beyond the cut.
        assert!(near(Scores::of(&hits(20, &[(11, "a")]), &ids("a")).ndcg, 0.0));
        // More relevant ids than places: the first ten are all that the best order can hold.
        let many: Vec<String> = (1..=15).map(|at| format!("h{at}")).collect();
        let scores = Scores::of(&hits(50, &[]), &many);
        assert!(near(scores.ndcg, 1.0));
        assert!(near(scores.recall[CUT_10], 10.0 / 15.0));
    }

    #[test]
    fn a_mean_is_taken_over_the_questions() {
        let all = [Scores::of(&ids("a"), &ids("a")), Scores::of(&ids("x b"), &ids("b"))];
        let mean = Scores::mean(&all);
        assert_eq!(mean.recall, [0.5, 1.0, 1.0, 1.0, 1.0]);
        assert!(near(mean.reciprocal_rank, 0.75));
        assert_eq!(Scores::mean(&[]), Scores::default());
    }

    #[test]
    fn the_cut_of_ten_is_where_it_is_said_to_be() {
        assert_eq!(CUTS[CUT_10], 10);
    }
}

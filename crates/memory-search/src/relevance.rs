//! How likely it is that a tenant's memories have anything to do with a question at all.

use memory_core::Metric;
use memory_core::traits::IndexHit;

/// The logistic functions of the cosine of the nearest memory and of the greatest share of the
/// question's words that one memory holds ([`memory_core::traits::HitContext::coverage`]), fitted
/// on three conversations of LoCoMo asked their own questions and each other's, both counting the
/// same (all-MiniLM-L6-v2); `docs/retrieval.md` has the figures.
const BOTH: [f64; 3] = [-8.21, 9.17, 23.1];
/// The same by the cosine alone: constant, cosine.
const MEANING: [f64; 2] = [-7.36, 17.0];
/// The same by words alone: constant, share.
const WORDS: [f64; 2] = [-5.14, 27.8];

/// The relevance of an answer, in [0, 1], by the candidates of its arms; `None` where it cannot be
/// told: no arm ran that has an absolute scale.
pub(crate) fn relevance(lists: [Option<&[IndexHit]>; 2], metric: Option<Metric>) -> Option<f64> {
    let words = lists[0].and_then(|list| {
        if list.is_empty() {
            return Some(0.0);
        }
        let shares = list.iter().map(|hit| hit.context.as_ref()?.coverage);
        shares.flatten().reduce(f64::max)
    });
    let meaning = match metric {
        Some(Metric::Cosine) => lists[1].and_then(|list| Some(list.first()?.score)),
        _ => None,
    };
    let weighed = match (words, meaning) {
        (Some(words), Some(meaning)) => BOTH[0] + BOTH[1] * meaning + BOTH[2] * words,
        (None, Some(meaning)) => MEANING[0] + MEANING[1] * meaning,
        (Some(words), None) => WORDS[0] + WORDS[1] * words,
        (None, None) => return None,
    };
    Some(1.0 / (1.0 + (-weighed).exp()))
}

#[cfg(test)]
mod tests {
    use memory_core::traits::HitContext;
    use memory_core::{MemoryId, Revision, Timestamp};

    use super::*;

    fn hit(score: f64, coverage: Option<f64>) -> IndexHit {
        let context = HitContext {
            session: None,
            author: None,
            occurred_at: Timestamp::MIN,
            importance: None,
            lent: 0.0,
            coverage,
        };
        IndexHit {
            id: MemoryId::new("m").unwrap(),
            revision: Revision::from_number(1),
            score,
            terms: Vec::new(),
            item: None,
            context: Some(Box::new(context)),
        }
    }

    #[test]
    fn both_arms_one_arm_and_none() {
        let words = [hit(3.0, Some(0.1)), hit(2.0, Some(0.2))];
        let near = [hit(0.5, None), hit(0.1, None)];
        let told = |lists, metric| relevance(lists, metric);
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let cosine = Some(Metric::Cosine);
        // The greatest share counts, wherever it stands; the first cosine is the greatest.
        let both = told([Some(&words), Some(&near)], cosine).unwrap();
        assert!((both - logistic(-8.21 + 9.17 * 0.5 + 23.1 * 0.2)).abs() < 1e-12);
        let meaning = told([None, Some(&near)], cosine).unwrap();
        assert!((meaning - logistic(-7.36 + 17.0 * 0.5)).abs() < 1e-12);
        let by_words = told([Some(&words), None], None).unwrap();
        assert!((by_words - logistic(-5.14 + 27.8 * 0.2)).abs() < 1e-12);
        let nothing = told([Some(&[]), None], None).unwrap();
        assert!((nothing - logistic(-5.14)).abs() < 1e-12);
        // A metric without a scale of its own, and an index that tells no shares.
        assert_eq!(told([None, Some(&near)], Some(Metric::Dot)), None);
        assert_eq!(told([Some(&near), None], None), None);
        assert_eq!(told([None, None], None), None);
    }
}

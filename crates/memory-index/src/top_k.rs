//! The best k of a stream of scores.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::{DocKey, ScoredDoc};

/// Keeps the k best offers: higher score first, then lower key.
pub(crate) struct TopK {
    k: usize,
    heap: BinaryHeap<Worst>,
}

/// Orders the worst offer as the greatest, so that it is on top of the heap.
struct Worst(ScoredDoc);

impl TopK {
    pub(crate) fn new(k: usize) -> Self {
        // A caller may ask for a billion: memory follows what is found, not what is asked for.
        Self { k, heap: BinaryHeap::with_capacity(k.min(1_024)) }
    }

    /// The score of the worst offer kept, once there are k: what is lower cannot get in.
    #[inline]
    pub(crate) fn floor(&self) -> Option<f64> {
        if self.heap.len() < self.k { None } else { self.heap.peek().map(|worst| worst.0.score) }
    }

    pub(crate) fn offer(&mut self, key: DocKey, score: f64) {
        // Adding zero turns -0.0 into 0.0, which the total order would tell apart.
        let offer = Worst(ScoredDoc { key, score: score + 0.0 });
        if self.heap.len() < self.k {
            self.heap.push(offer);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && offer < *worst
        {
            *worst = offer;
        }
    }

    /// The offers kept, the best first.
    pub(crate) fn into_sorted(self) -> Vec<ScoredDoc> {
        self.heap.into_sorted_vec().into_iter().map(|kept| kept.0).collect()
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        other.0.score.total_cmp(&self.0.score).then(self.0.key.cmp(&other.0.key))
    }
}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Worst {}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(k: usize, offers: &[(DocKey, f64)]) -> Vec<(DocKey, f64)> {
        let mut top = TopK::new(k);
        for (key, score) in offers {
            top.offer(*key, *score);
        }
        top.into_sorted().into_iter().map(|doc| (doc.key, doc.score)).collect()
    }

    #[test]
    fn the_best_come_first_and_ties_by_key() {
        let offers = [(5, 1.0), (2, 3.0), (9, 2.0), (1, 2.0), (7, 0.5), (3, 2.0)];
        assert_eq!(best(4, &offers), [(2, 3.0), (1, 2.0), (3, 2.0), (9, 2.0)]);
        assert_eq!(best(3, &offers), [(2, 3.0), (1, 2.0), (3, 2.0)]);
        assert_eq!(best(100, &offers).len(), 6);
        assert_eq!(best(usize::MAX, &[(1, 1.0)]), [(1, 1.0)]);
        assert_eq!(best(0, &offers), []);
    }

    #[test]
    fn minus_zero_ties_with_zero() {
        assert_eq!(best(1, &[(2, 0.0), (1, -0.0)]), [(1, 0.0)]);
    }

    #[test]
    fn there_is_a_floor_once_k_are_there() {
        let mut top = TopK::new(2);
        top.offer(1, 5.0);
        assert_eq!(top.floor(), None);
        top.offer(2, 4.0);
        assert_eq!(top.floor(), Some(4.0));
        top.offer(3, 6.0);
        assert_eq!(top.floor(), Some(5.0));
    }
}

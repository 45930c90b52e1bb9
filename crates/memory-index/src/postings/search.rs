//! BM25 over the postings: search, and the explanation of one document's score.

use super::entries::Entries;
use super::{KeywordPostings, Term};
use crate::top_k::TopK;
use crate::{DocKey, ScoredDoc};

/// The two parameters of BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework:
/// BM25 and Beyond", 2009).
///
/// A term contributes `weight x idf x tf (k1 + 1) / (tf + k1 (1 - b + b length / average length))`
/// with `idf = ln(1 + (N - df + 0.5) / (df + 0.5))`, the form that is never negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bm25 {
    k1: f32,
    b: f32,
}

impl Bm25 {
    /// Parameters of the caller's own: `k1 >= 0` is how slowly repeats of a term stop to count,
    /// `b` in [0, 1] is how far long documents are held back. What lies outside is moved to the
    /// nearest bound; what is not finite is the default.
    #[must_use]
    pub fn new(k1: f32, b: f32) -> Self {
        let default = Self::default();
        Self {
            k1: if k1.is_finite() { k1.max(0.0) } else { default.k1 },
            b: if b.is_finite() { b.clamp(0.0, 1.0) } else { default.b },
        }
    }

    /// How slowly repeats of a term stop to count.
    #[must_use]
    pub fn k1(&self) -> f32 {
        self.k1
    }

    /// How far long documents are held back.
    #[must_use]
    pub fn b(&self) -> f32 {
        self.b
    }
}

/// `k1 = 1.2`, `b = 0.75`: the usual values, which Lucene and SQLite's FTS5 share.
impl Default for Bm25 {
    fn default() -> Self {
        Self { k1: 1.2, b: 0.75 }
    }
}

/// What one query term adds to one document's score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TermContribution {
    /// The position of the term in the query.
    pub index: usize,
    /// How often the document has the term; at least 1.
    pub term_frequency: u32,
    /// How many documents have the term; at least 1.
    pub document_frequency: u32,
    /// The inverse document frequency; positive.
    pub idf: f32,
    /// The part of the score.
    pub contribution: f32,
}

/// BM25 as it stands for this index, with what does not depend on the document worked out.
struct Formula {
    k1: f32,
    /// `k1 (1 - b)`.
    base: f32,
    /// `k1 b / average length`.
    per_token: f32,
    documents: f64,
}

impl KeywordPostings {
    /// The `k` best documents for these terms, each with its weight (1 for an ordinary word).
    ///
    /// The score is the BM25 sum over the terms, in f32. A term that is listed twice counts twice;
    /// one whose weight is not finite and positive, or that no document has, not at all. Only
    /// documents with at least one of the terms are found. `accept` is asked only of documents
    /// that score high enough to be among the best; it does not change the statistics.
    ///
    /// Time is linear in the postings of the terms; memory for scores is reused between calls.
    pub fn search<T: AsRef<str>>(
        &self,
        query: &[(T, f32)],
        k: usize,
        params: Bm25,
        mut accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<ScoredDoc> {
        if k == 0 || self.is_empty() {
            return Vec::new();
        }
        let formula = self.formula(params);
        let mut scratch = self.scratch.take(self.keys.len());
        for (text, weight) in query {
            let Some(term) = self.live_term(text.as_ref(), *weight) else { continue };
            let gain = formula.gain(term, *weight);
            for (slot, frequency) in Entries::new(&term.bytes) {
                let slot = slot as usize;
                scratch.scores[slot] += formula.part(gain, frequency, self.lengths[slot]);
                scratch.dirty[slot / 64] = true;
            }
        }

        let mut best = TopK::new(k);
        let mut floor = 0.0;
        for (block, live) in self.live.iter().enumerate() {
            if !std::mem::take(&mut scratch.dirty[block]) {
                continue;
            }
            let first = block * 64;
            let scores = &mut scratch.scores[first..first + 64];
            for (offset, score) in scores.iter().enumerate() {
                // Zero is a document without any of the terms; a dead one has a score all the same.
                if *score <= 0.0 || *score < floor || live >> offset & 1 == 0 {
                    continue;
                }
                let key = self.keys[first + offset];
                if accept(key) {
                    best.offer(key, f64::from(*score));
                    floor = best.floor().map_or(0.0, to_f32);
                }
            }
            scores.fill(0.0);
        }
        self.scratch.put(scratch);
        best.into_sorted()
    }

    /// What each query term adds to the score of one document, in the order of the query; terms
    /// that the document does not have are left out. Empty if there is no such document.
    ///
    /// The contributions, added in this order, are exactly the score that
    /// [`KeywordPostings::search`] gives with the same arguments.
    #[must_use]
    pub fn explain<T: AsRef<str>>(
        &self,
        key: DocKey,
        query: &[(T, f32)],
        params: Bm25,
    ) -> Vec<TermContribution> {
        let Some(slot) = self.slots.get(&key) else { return Vec::new() };
        let formula = self.formula(params);
        let length = self.lengths[*slot as usize];
        let mut parts = Vec::new();
        for (index, (text, weight)) in query.iter().enumerate() {
            let Some(term) = self.live_term(text.as_ref(), *weight) else { continue };
            let Some(id) = self.vocabulary.get(text.as_ref()) else { continue };
            let Some((_, frequency)) = self.terms_of(*slot).find(|(term, _)| term == id) else {
                continue;
            };
            parts.push(TermContribution {
                index,
                term_frequency: frequency,
                document_frequency: term.frequency,
                idf: formula.idf(term),
                contribution: formula.part(formula.gain(term, *weight), frequency, length),
            });
        }
        parts
    }

    /// The postings of a query term that can add to a score.
    fn live_term(&self, text: &str, weight: f32) -> Option<&Term> {
        if !(weight.is_finite() && weight > 0.0) {
            return None;
        }
        let term = &self.terms[*self.vocabulary.get(text)? as usize];
        (term.frequency > 0).then_some(term)
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^32 documents")]
    fn formula(&self, params: Bm25) -> Formula {
        let average = to_f32(self.average_length());
        Formula {
            k1: params.k1,
            base: params.k1 * (1.0 - params.b),
            // Where every document has length zero, length does not matter.
            per_token: if average > 0.0 { params.k1 * params.b / average } else { 0.0 },
            documents: self.len() as f64,
        }
    }
}

impl Formula {
    fn idf(&self, term: &Term) -> f32 {
        let frequency = f64::from(term.frequency);
        to_f32(((self.documents - frequency + 0.5) / (frequency + 0.5)).ln_1p())
    }

    /// What of a term's contribution is the same for every document.
    fn gain(&self, term: &Term, weight: f32) -> f32 {
        weight * self.idf(term) * (self.k1 + 1.0)
    }

    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "counts above 2^24 may round in a score")]
    fn part(&self, gain: f32, frequency: u32, length: u32) -> f32 {
        let frequency = frequency as f32;
        gain * frequency / (frequency + self.base + self.per_token * length as f32)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "scores are kept in f32")]
fn to_f32(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> KeywordPostings {
        let mut index = KeywordPostings::new();
        index.insert(30, 4, &[("tea", 1), ("cup", 1)]);
        index.insert(10, 4, &[("tea", 1), ("pot", 1)]);
        index.insert(20, 4, &[("tea", 3)]);
        index.insert(40, 40, &[("tea", 3)]);
        index.insert(50, 4, &[("coffee", 1)]);
        index
    }

    fn keys(found: &[ScoredDoc]) -> Vec<DocKey> {
        found.iter().map(|doc| doc.key).collect()
    }

    #[test]
    fn repeats_and_brevity_count_and_ties_go_by_key() {
        let found = index().search(&[("tea", 1.0)], 10, Bm25::default(), |_| true);
        assert_eq!(keys(&found), [20, 10, 30, 40]);
        assert_eq!(found[1].score, found[2].score);
        // N = 5, df = 4, average length 56 / 5, tf = 3, length 4, worked out by hand.
        let idf = (1.0_f64 + 1.5 / 4.5).ln();
        let expected = idf * 3.0 * 2.2 / (3.0 + 1.2 * (0.25 + 0.75 * 4.0 / 11.2));
        assert!((found[0].score - expected).abs() < 1e-6);
    }

    #[test]
    fn the_limit_the_filter_and_the_weights_hold() {
        let index = index();
        let all = index.search(&[("tea", 1.0), ("coffee", 2.0)], 10, Bm25::default(), |_| true);
        assert_eq!(keys(&all)[0], 50);
        let two = index.search(&[("tea", 1.0), ("coffee", 2.0)], 2, Bm25::default(), |_| true);
        assert_eq!(two, all[..2]);
        let some = index.search(&[("tea", 1.0)], 1, Bm25::default(), |key| key >= 30);
        assert_eq!(keys(&some), [30]);
        for (query, k) in
            [(("tea", 1.0), 0), (("water", 1.0), 9), (("tea", f32::NAN), 9), (("tea", -1.0), 9)]
        {
            assert_eq!(index.search(&[query], k, Bm25::default(), |_| true), []);
        }
        assert_eq!(index.search(&[("tea", 1.0)], usize::MAX, Bm25::default(), |_| true).len(), 4);
    }

    #[test]
    fn a_search_leaves_nothing_behind_for_the_next() {
        let mut index = index();
        let first = index.search(&[("tea", 1.0)], 10, Bm25::default(), |_| true);
        let again = index.search(&[("tea", 1.0)], 10, Bm25::default(), |_| true);
        assert_eq!(first, again);
        assert_eq!(keys(&index.search(&[("pot", 1.0)], 10, Bm25::default(), |_| true)), [10]);

        index.remove(20);
        let found = index.search(&[("tea", 1.0)], 10, Bm25::default(), |_| true);
        assert_eq!(keys(&found), [10, 30, 40]);
    }

    #[test]
    fn a_panic_in_the_filter_does_not_spoil_later_searches() {
        let index = index();
        let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            index.search(&[("tea", 1.0)], 10, Bm25::default(), |_| panic!("filter"))
        }));
        assert!(attempt.is_err());
        assert_eq!(index.search(&[("tea", 1.0)], 10, Bm25::default(), |_| true).len(), 4);
    }

    #[test]
    fn an_explanation_adds_up_to_the_score() {
        let index = index();
        let query = [("tea", 1.0), ("water", 1.0), ("pot", 0.5), ("coffee", 1.0)];
        let parts = index.explain(10, &query, Bm25::default());
        assert_eq!(parts.iter().map(|part| part.index).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((parts[0].term_frequency, parts[0].document_frequency), (1, 4));
        let sum = parts.iter().fold(0.0_f32, |sum, part| sum + part.contribution);
        let found = index.search(&query, 10, Bm25::default(), |key| key == 10);
        assert_eq!(found, [ScoredDoc { key: 10, score: f64::from(sum) }]);
        assert_eq!(index.explain(999, &query, Bm25::default()), []);
    }

    #[test]
    fn parameters_outside_their_range_are_moved_into_it() {
        assert_eq!(Bm25::new(-1.0, 7.0), Bm25::new(0.0, 1.0));
        assert_eq!(Bm25::new(f32::NAN, f32::INFINITY), Bm25::default());
        let found = index().search(&[("tea", 1.0)], 10, Bm25::new(0.0, 0.0), |_| true);
        assert_eq!(keys(&found), [10, 20, 30, 40]);
    }

    #[test]
    fn documents_of_length_zero_are_ranked() {
        let mut index = KeywordPostings::new();
        index.insert(1, 0, &[("tea", 1)]);
        let found = index.search(&[("tea", 1.0)], 1, Bm25::default(), |_| true);
        assert!(found[0].score.is_finite() && found[0].score > 0.0);
    }
}

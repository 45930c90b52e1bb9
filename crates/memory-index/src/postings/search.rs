//! BM25 over the postings: search, and the explanation of one document's score.

use super::KeywordPostings;
use super::bounded::POSTINGS_TO_BOUND;
use super::documents::BLOCK;
use super::scratch::{QueryTerm, Scratch};
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
pub(super) struct Formula {
    k1: f32,
    /// `k1 (1 - b)`.
    base: f32,
    /// `k1 b / average length`.
    per_token: f32,
    documents: f64,
    /// [`Formula::saturation`] of a term that occurs once, by length.
    once: [f32; SHORT],
}

/// Lengths below this have their saturation worked out beforehand.
const SHORT: usize = 256;

impl KeywordPostings {
    /// The `k` best documents for these terms, each with its weight (1 for an ordinary word).
    ///
    /// The score is the BM25 sum over the terms, in f32. A term that is listed twice counts twice;
    /// one whose weight is not finite and positive, or that no document has, not at all. Only
    /// documents with at least one of the terms are found. `accept` is asked only of documents
    /// that score high enough to be among the best, possibly more than once; it does not change the
    /// statistics.
    ///
    /// Time is linear in the postings of the terms. Where they are many, terms that can no longer
    /// bring a document among the best are not read; the answer is the same to the last bit.
    /// Memory for scores is reused between calls, and nothing is allocated but the answer.
    pub fn search<T: AsRef<str>>(
        &self,
        query: &[(T, f32)],
        k: usize,
        params: Bm25,
        accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<ScoredDoc> {
        self.search_from(POSTINGS_TO_BOUND, query, k, params, accept)
    }

    /// [`KeywordPostings::search`] that reads every posting of every term, whatever their number:
    /// what the search with bounds is compared with.
    #[doc(hidden)]
    pub fn search_exhaustively<T: AsRef<str>>(
        &self,
        query: &[(T, f32)],
        k: usize,
        params: Bm25,
        accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<ScoredDoc> {
        self.search_from(usize::MAX, query, k, params, accept)
    }

    /// [`KeywordPostings::search`] that weighs bounds however few the postings are.
    #[doc(hidden)]
    pub fn search_with_bounds<T: AsRef<str>>(
        &self,
        query: &[(T, f32)],
        k: usize,
        params: Bm25,
        accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<ScoredDoc> {
        self.search_from(0, query, k, params, accept)
    }

    fn search_from<T: AsRef<str>>(
        &self,
        bound_from: usize,
        query: &[(T, f32)],
        k: usize,
        params: Bm25,
        mut accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<ScoredDoc> {
        if k == 0 || self.is_empty() {
            return Vec::new();
        }
        let formula = self.formula(params);
        let mut scratch = self.scratch.take(self.documents.slots());
        scratch.terms.clear();
        scratch.terms.extend(query.iter().filter_map(|(text, weight)| {
            let (id, frequency) = self.live_term(text.as_ref(), *weight)?;
            Some(QueryTerm { id, frequency, gain: formula.gain(frequency, *weight) })
        }));
        let postings: usize = scratch.terms.iter().map(|term| term.frequency as usize).sum();
        let mut best = None;
        if postings >= bound_from && Self::can_bound(&scratch, k) {
            best = self.bounded(&formula, &mut scratch, k, bound_from == 0, &mut accept);
        }
        let best = best.unwrap_or_else(|| {
            for place in 0..scratch.terms.len() {
                self.add_up(&formula, &mut scratch, place);
            }
            self.collect(&mut scratch, k, &mut accept)
        });
        self.scratch.put(scratch);
        best.into_sorted()
    }

    /// Adds what a term of the query is worth to the scores of all documents that have it.
    pub(super) fn add_up(&self, formula: &Formula, scratch: &mut Scratch, place: usize) {
        let QueryTerm { id, gain, .. } = scratch.terms[place];
        let Scratch { scores, dirty, .. } = scratch;
        let documents = &self.documents;
        self.lists.each(self.lists.get(id), |slot, frequency| {
            let length = documents.length(slot);
            scores[slot as usize] += gain * formula.saturation_of(frequency, length);
            dirty[slot as usize / BLOCK] = true;
        });
    }

    /// The best of the documents that have a score, and clean scores.
    fn collect(
        &self,
        scratch: &mut Scratch,
        k: usize,
        accept: &mut impl FnMut(DocKey) -> bool,
    ) -> TopK {
        let mut best = TopK::new(k);
        // The lowest score above zero.
        let mut floor = f32::from_bits(1);
        let (blocks, _) = scratch.scores.as_chunks_mut::<BLOCK>();
        let live = self.documents.live();
        for (block, (scores, dirty)) in blocks.iter_mut().zip(&mut scratch.dirty).enumerate() {
            if !std::mem::take(dirty) {
                continue;
            }
            if scores.iter().fold(false, |any, score| any | (*score >= floor)) {
                for (offset, score) in scores.iter().enumerate() {
                    // Zero is a document without any of the terms; a dead one has a score too.
                    if *score < floor || live[block] >> offset & 1 == 0 {
                        continue;
                    }
                    let key = self.documents.key(slot_number(block, offset));
                    if accept(key) {
                        best.offer(key, f64::from(*score));
                        floor = best.floor().map_or(floor, to_f32);
                    }
                }
            }
            scores.fill(0.0);
        }
        best
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
        let Some(slot) = self.documents.slot(key) else { return Vec::new() };
        let formula = self.formula(params);
        let length = self.documents.length(slot);
        let mut parts = Vec::new();
        for (index, (text, weight)) in query.iter().enumerate() {
            let Some((id, documents)) = self.live_term(text.as_ref(), *weight) else { continue };
            let Some((_, frequency)) = self.documents.terms(slot).find(|(term, _)| *term == id)
            else {
                continue;
            };
            parts.push(TermContribution {
                index,
                term_frequency: frequency,
                document_frequency: documents,
                idf: formula.idf(documents),
                contribution: formula.gain(documents, *weight)
                    * formula.saturation_of(frequency, length),
            });
        }
        parts
    }

    /// A query term that can add to a score: its id, and how many documents have it.
    fn live_term(&self, text: &str, weight: f32) -> Option<(u32, u32)> {
        if !(weight.is_finite() && weight > 0.0) {
            return None;
        }
        let id = self.vocabulary.find(text)?;
        let frequency = self.lists.get(id).frequency;
        (frequency > 0).then_some((id, frequency))
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^32 documents")]
    fn formula(&self, params: Bm25) -> Formula {
        let average = to_f32(self.average_length());
        let mut formula = Formula {
            k1: params.k1,
            base: params.k1 * (1.0 - params.b),
            // Where every document has length zero, length does not matter.
            per_token: if average > 0.0 { params.k1 * params.b / average } else { 0.0 },
            documents: self.len() as f64,
            once: [0.0; SHORT],
        };
        for length in 0..SHORT {
            formula.once[length] = formula.saturation(1.0, length as f32);
        }
        formula
    }
}

impl Formula {
    /// The inverse document frequency of a term that this many documents have.
    fn idf(&self, frequency: u32) -> f32 {
        let frequency = f64::from(frequency);
        to_f32(((self.documents - frequency + 0.5) / (frequency + 0.5)).ln_1p())
    }

    /// What of a term's contribution is the same for every document.
    fn gain(&self, frequency: u32, weight: f32) -> f32 {
        weight * self.idf(frequency) * (self.k1 + 1.0)
    }

    /// What part of its gain a term brings to a document of this length in which it stands
    /// this often; in [0, 1].
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "counts above 2^24 may round in a score")]
    pub(super) fn saturation_of(&self, frequency: u32, length: u32) -> f32 {
        match self.once.get(length as usize) {
            Some(saturation) if frequency == 1 => *saturation,
            _ => self.saturation(frequency as f32, length as f32),
        }
    }

    /// The same in floats; the frequency may be infinite.
    #[inline]
    pub(super) fn saturation(&self, frequency: f32, length: f32) -> f32 {
        if frequency.is_infinite() {
            return 1.0;
        }
        frequency / (frequency + self.base + self.per_token * length)
    }
}

/// The slot at a place of a block.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "slots are below 2^32")]
pub(super) fn slot_number(block: usize, offset: usize) -> u32 {
    (block * BLOCK + offset) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "scores are kept in f32")]
pub(super) fn to_f32(value: f64) -> f32 {
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

//! Early termination: a search that stops reading postings where they cannot change the answer.
//!
//! Terms are put in the order of what they can add, the highest first. Where the first of them can
//! add much more than all others, and the others have most of the postings, the first are worked off;
//! then the best documents so far have their scores completed from their own term lists. The k-th of
//! these scores is reached by k documents, so the answer's k-th is no lower. What the other terms can
//! add to a document is bounded by its length and by the highest frequency that a document no longer
//! than it has. Where that bound alone is below the k-th score, a document without a score cannot
//! come in; where it is below together with the score so far, that document is out as well. If few
//! are left, their scores are completed from their term lists, and the other postings, those of the
//! commonest words, are never read. If many are left, all postings are read after all.
//!
//! Scores that decide are added up in the order of the query, as the exhaustive search adds them,
//! so that answers agree to the last bit, ties included; bounds leave room for rounding.
//!
//! `cargo xtask bench keywords` shows both searches beside one another. Reading a posting takes less
//! than a nanosecond, so that at 100,000 documents only questions of some rare and some very common
//! words gain, those by a factor of ten and more, and the rest are kept away by the conditions below.

use std::ops::{Range, RangeInclusive};

use super::KeywordPostings;
use super::documents::BLOCK;
use super::lists::LONG;
use super::scratch::Scratch;
use super::search::{Formula, slot_number, to_f32};
use crate::DocKey;
use crate::top_k::TopK;

/// Postings of all terms of a query from which bounds are weighed: reading fewer takes about ten
/// microseconds.
pub(super) const POSTINGS_TO_BOUND: usize = 16_384;

/// Most documents asked for where bounds are weighed: the answer of a larger search is a good part
/// of what has a score at all.
const MOST_TO_BOUND: usize = 1_024;

/// What it costs to complete a document's score, in postings read: some misses of the cache.
const COMPLETION: usize = 200;

/// What it costs to look through the scores of a block, in postings read.
const SCAN: usize = 24;

/// Bounds are weighed where the postings that they could spare are this many times the work of
/// weighing them, so that weighing in vain is lost in the search.
const WORTH: usize = 8;

/// Bounds are weighed where the terms that could be spared add at most this share of what the terms
/// before them add: questions in which no few words stand out fail the comparison with the floor.
const MOST_LEFT: f32 = 0.5;

/// Most terms of a query for which bounds are weighed.
const MOST_TERMS: usize = 1_000;

/// Room for rounding where two sums of at most [`MOST_TERMS`] positive floats are compared that were
/// added up in different orders: each is off by at most one part in 2^24 for each step.
const ROOM: f32 = 1.0 + 4_096.0 * f32::EPSILON;

/// The gains of a query's terms for which bounds are weighed: so far from the ends of the range of
/// floats that an error of rounding is a share of its number.
const GAINS: RangeInclusive<f32> = 1e-20..=1e20;

/// What the terms that are left can add to a document, by its length.
struct Rest {
    by_length: [f32; LONG as usize + 1],
    most: f32,
}

impl Rest {
    const NOTHING: Self = Self { by_length: [0.0; LONG as usize + 1], most: 0.0 };

    /// What a document's score so far has at least if it can still reach the floor.
    fn least(&self, floor: f32) -> f32 {
        ((floor - self.most) / (ROOM * ROOM)).max(f32::MIN_POSITIVE)
    }
}

impl KeywordPostings {
    /// Whether bounds can be weighed for the terms of `scratch`.
    pub(super) fn can_bound(scratch: &Scratch, k: usize) -> bool {
        k <= MOST_TO_BOUND
            && (2..=MOST_TERMS).contains(&scratch.terms.len())
            && scratch.terms.iter().all(|term| GAINS.contains(&term.gain))
    }

    /// The best documents for the terms of `scratch`, and clean scores; `None`, and nothing done, where
    /// bounds cannot pay. `eager` weighs them there too, and after half of the terms at the latest.
    pub(super) fn bounded(
        &self,
        formula: &Formula,
        scratch: &mut Scratch,
        k: usize,
        eager: bool,
        accept: &mut impl FnMut(DocKey) -> bool,
    ) -> Option<TopK> {
        let (turn, pays) = self.arrange(formula, scratch, k);
        if pays == 0 && !eager {
            return None;
        }
        let count = scratch.terms.len();
        let turn = if eager { turn.min(count / 2) } else { turn };
        for place in 0..turn {
            self.add_up(formula, scratch, scratch.order[place] as usize);
        }
        let rest = self.rest(formula, scratch, turn);
        let most = if eager { usize::MAX } else { pays };
        if let Some(floor) = self.floor(formula, scratch, k, &rest, accept)
            && self.candidates(scratch, floor, &rest) <= most
        {
            return Some(self.complete(formula, scratch, k, floor, &rest, accept));
        }
        for place in turn..count {
            self.add_up(formula, scratch, scratch.order[place] as usize);
        }
        Some(self.complete(formula, scratch, k, 0.0, &Rest::NOTHING, accept))
    }

    /// Puts the terms in the order of what they can add, the highest first, and by id. Returns how
    /// many come first, and how many completed scores the postings of the others are worth; 0 where
    /// bounds cannot pay.
    fn arrange(&self, formula: &Formula, scratch: &mut Scratch, k: usize) -> (usize, usize) {
        let Scratch { terms, order, by_id, parts, .. } = scratch;
        order.clear();
        parts.clear();
        by_id.clear();
        for (place, term) in (0_u32..).zip(terms.iter()) {
            order.push(place);
            by_id.push((term.id, place));
            // For a moment, the most that the term can add.
            parts.push(self.lists.get(term.id).steps().fold(0.0, |most, (lengths, highest)| {
                f32::max(most, term.gain * formula.saturation(highest, shortest(&lengths)))
            }));
        }
        by_id.sort_unstable();
        order.sort_unstable_by(|a, b| {
            parts[*b as usize].total_cmp(&parts[*a as usize]).then(a.cmp(b))
        });
        let all: f32 = parts.iter().sum();
        let mut left: usize = terms.iter().map(|term| term.frequency as usize).sum();
        let (mut done, mut bound) = (0, 0.0);
        let blocks = self.documents.slots().div_ceil(BLOCK);
        for (turn, place) in order.iter().enumerate() {
            let place = *place as usize;
            if turn > 0 && all - bound <= bound * MOST_LEFT {
                let costs = done.min(blocks) * SCAN + k * COMPLETION;
                let pays = if left >= WORTH * costs { left / (2 * COMPLETION) } else { 0 };
                return (turn, pays);
            }
            let frequency = terms[place].frequency as usize;
            (left, done, bound) = (left - frequency, done + frequency, bound + parts[place]);
        }
        (terms.len(), 0)
    }

    /// What the terms from `turn` on can add.
    fn rest(&self, formula: &Formula, scratch: &Scratch, turn: usize) -> Rest {
        let mut rest = Rest::NOTHING;
        for place in &scratch.order[turn..] {
            let term = scratch.terms[*place as usize];
            for (lengths, highest) in self.lists.get(term.id).steps() {
                let mut length = shortest(&lengths);
                for bound in &mut rest.by_length[lengths] {
                    *bound += term.gain * formula.saturation(highest, length);
                    length += 1.0;
                }
            }
        }
        // Sums of as many floats as there are terms, in another order each, and some steps more.
        let count = u16::try_from(scratch.terms.len()).unwrap_or(u16::MAX);
        let room = 1.0 + 2.0 * (f32::from(count) + 8.0) * f32::EPSILON;
        for bound in &mut rest.by_length {
            *bound *= room;
            rest.most = rest.most.max(*bound);
        }
        rest
    }

    /// A score that `k` acceptable documents reach or pass; `None` where fewer have a score yet or
    /// the terms that are left could bring a document without a score to it.
    fn floor(
        &self,
        formula: &Formula,
        scratch: &mut Scratch,
        k: usize,
        rest: &Rest,
        accept: &mut impl FnMut(DocKey) -> bool,
    ) -> Option<f32> {
        let mut best = TopK::new(k);
        let mut floor = 0.0;
        let (blocks, _) = scratch.scores.as_chunks::<BLOCK>();
        let live = self.documents.live();
        for (block, (scores, _)) in
            blocks.iter().zip(&scratch.dirty).enumerate().filter(|(_, (_, dirty))| **dirty)
        {
            if !scores.iter().fold(false, |any, score| any | (*score > floor)) {
                continue;
            }
            for (offset, score) in scores.iter().enumerate() {
                if *score > floor && live[block] >> offset & 1 == 1 {
                    let slot = slot_number(block, offset);
                    if accept(self.documents.key(slot)) {
                        // By slot, for the term lists lie by slot.
                        best.offer(u64::from(slot), f64::from(*score));
                        floor = best.floor().map_or(floor, to_f32);
                    }
                }
            }
        }
        best.floor()?;
        let mut floor = f32::INFINITY;
        for doc in best.into_sorted() {
            let slot = u32::try_from(doc.key).unwrap_or(u32::MAX);
            floor = floor.min(self.score(formula, scratch, slot));
        }
        (floor > rest.most).then_some(floor)
    }

    /// How many documents with a score could still reach the floor.
    fn candidates(&self, scratch: &Scratch, floor: f32, rest: &Rest) -> usize {
        let (blocks, _) = scratch.scores.as_chunks::<BLOCK>();
        let least = rest.least(floor);
        let mut count = 0;
        for (block, (scores, _)) in
            blocks.iter().zip(&scratch.dirty).enumerate().filter(|(_, (_, dirty))| **dirty)
        {
            if scores.iter().fold(false, |any, score| any | (*score >= least)) {
                let reaching = |(offset, score): (usize, &f32)| {
                    *score >= least && self.reaches(rest, block, offset, *score, floor)
                };
                count += scores.iter().enumerate().filter(|pair| reaching(*pair)).count();
            }
        }
        count
    }

    /// Completes the score of every document that could reach the floor, and cleans the scores.
    fn complete(
        &self,
        formula: &Formula,
        scratch: &mut Scratch,
        k: usize,
        floor: f32,
        rest: &Rest,
        accept: &mut impl FnMut(DocKey) -> bool,
    ) -> TopK {
        let mut best = TopK::new(k);
        let mut floor = floor;
        for block in 0..self.documents.live().len() {
            if !std::mem::take(&mut scratch.dirty[block]) {
                continue;
            }
            let first = block * BLOCK;
            let least = rest.least(floor);
            let scores = &scratch.scores[first..first + BLOCK];
            if scores.iter().fold(false, |any, score| any | (*score >= least)) {
                for offset in 0..BLOCK {
                    let score = scratch.scores[first + offset];
                    if score <= 0.0
                        || !self.reaches(rest, block, offset, score, floor)
                        || self.documents.live()[block] >> offset & 1 == 0
                    {
                        continue;
                    }
                    let slot = slot_number(block, offset);
                    let key = self.documents.key(slot);
                    if accept(key) {
                        let score = self.score(formula, scratch, slot);
                        best.offer(key, f64::from(score));
                        floor = best.floor().map_or(floor, |worst| floor.max(to_f32(worst)));
                    }
                }
            }
            scratch.scores[first..first + BLOCK].fill(0.0);
        }
        best
    }

    /// Whether a document could reach the floor.
    #[inline]
    fn reaches(&self, rest: &Rest, block: usize, offset: usize, score: f32, floor: f32) -> bool {
        let length = self.documents.short_length(block * BLOCK + offset);
        // The scores so far were added in another order than the one that decides.
        score * ROOM + rest.by_length[usize::from(length)] >= floor
    }

    /// A document's score, added up in the order of the query.
    fn score(&self, formula: &Formula, scratch: &mut Scratch, slot: u32) -> f32 {
        let Scratch { terms, by_id, parts, .. } = scratch;
        parts.clear();
        parts.resize(terms.len(), 0.0);
        let length = self.documents.length(slot);
        let mut wanted = by_id.as_slice();
        for (id, frequency) in self.documents.terms(slot) {
            while let Some(((first, place), others)) = wanted.split_first()
                && *first <= id
            {
                if *first == id {
                    let gain = terms[*place as usize].gain;
                    parts[*place as usize] = gain * formula.saturation_of(frequency, length);
                }
                wanted = others;
            }
            if wanted.is_empty() {
                break;
            }
        }
        parts.iter().fold(0.0, |sum, part| sum + part)
    }
}

/// The lowest length of a range that is not empty.
fn shortest(lengths: &Range<usize>) -> f32 {
    u8::try_from(lengths.start).map_or(f32::from(LONG), f32::from)
}

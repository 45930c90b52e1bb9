//! Exact nearest neighbours in two steps: a scan over int8 codes that cannot miss, and a rerank.
//!
//! The scan knows for each row an interval that is certain to hold its score (see
//! [`memory_distance::dot_bound`]). Let L be the k-th highest lower end. At least k rows score L or
//! more, so a row whose upper end is below L is not among the best k, and every other row is a
//! candidate. Scoring the candidates exactly thus gives the exact top k, ties included.
//!
//! L is not known before the end, but the k-th highest lower end of the rows seen so far is never
//! above it, so what lies below that may be let go of at once. Under the cosine a sieve in f32 does
//! so for most rows without their interval being worked out; its own proof stands with it. Every
//! step only ever widens what is kept: where rounding leaves a doubt, the row stays.

use std::borrow::Cow;
use std::ops::Range;

use memory_distance::{
    Quantized, dot_bound, dot_estimate, dot_f32, dot_f64, quantize, squared_l2_f64,
};

use super::sieve::Sieve;
use super::{Metric, Storage, VectorScan};
use crate::hash::KeyMap;
use crate::top_k::TopK;
use crate::{DocKey, KeyedRow, ScoredDoc, VectorError};

/// Rows per call of the kernel: enough to make the call's cost vanish, few enough that the lists of
/// a block stay in the first-level cache.
const BLOCK: usize = 256;

/// Rows of the first block, which doubles from there: before there are `k` rows nothing can be held
/// back, and soon after that most is.
const FIRST_BLOCK: usize = 32;

/// Candidates are cut down to those above the threshold whenever this many have come together, or
/// twice as many as survived the last cut.
const PRUNE_AT: usize = 1_024;

/// Candidates that there is room for from the start: nearly always enough.
pub(super) const ROOM: usize = 256;

/// The least number of rows to ask the caller for at once.
const FETCH: usize = 32;

/// Rounding of f64 in the squared norms of the Euclidean metric, relative to them; the slack of
/// [`memory_distance::dot_bound`] for the same reason.
const NORM_SLACK: f64 = 1e-10;

/// A row that may be among the best, with the bounds of its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The document.
    pub key: DocKey,
    /// The score is at least this.
    pub lower: f64,
    /// The score is at most this.
    pub upper: f64,
}

/// A checked query with its codes.
pub(super) struct Query<'a> {
    row: Cow<'a, [f32]>,
    quantized: Quantized,
    padded: Vec<i8>,
}

impl VectorScan {
    /// Every row that may be among the `k` best accepted ones, the highest upper bound first, then
    /// by key. The exact best `k` are always among them.
    ///
    /// `accept` is asked before a row is scored, so a filter makes the scan cheaper. How many
    /// candidates come back depends on how close the scores lie; typically it is a few times `k`,
    /// and for rows that are all equal it is all of them.
    ///
    /// # Errors
    ///
    /// Those of [`VectorScan::insert`], for the query.
    pub fn candidates(
        &self,
        query: &[f32],
        k: usize,
        accept: impl FnMut(DocKey) -> bool,
    ) -> Result<Vec<Candidate>, VectorError> {
        let query = self.prepare(Cow::Borrowed(query))?;
        Ok(self.scan(&query, k, accept).into_iter().map(|(candidate, _)| candidate).collect())
    }

    /// The exact best `k` of the accepted rows, scored as the [`Metric`] says in f64, so that the
    /// scores are the same numbers on every machine.
    ///
    /// Where rows are kept in memory `fetch` is never called. Otherwise it gets keys, at least 32
    /// at a time where there are so many, and returns the vectors that still exist, in any order,
    /// as they were given to [`VectorScan::insert`]; it is called until no row that is left can be
    /// among the best. A key that it leaves out is treated as removed, and the search goes on
    /// without it.
    ///
    /// # Errors
    ///
    /// What `fetch` returns, or a [`VectorError`] for the query or for a fetched row.
    pub fn search_exact<E: From<VectorError>>(
        &self,
        query: &[f32],
        k: usize,
        mut accept: impl FnMut(DocKey) -> bool,
        mut fetch: impl FnMut(&[DocKey]) -> Result<Vec<KeyedRow>, E>,
    ) -> Result<Vec<ScoredDoc>, E> {
        if self.storage == Storage::CodesAndRows {
            return Ok(self.search(query, k, accept)?);
        }
        let query = self.prepare(Cow::Borrowed(query))?;
        // The score of each key that was asked for; none for those that are gone.
        let mut known: KeyMap<Option<f64>> = KeyMap::default();
        loop {
            let gone = |key| matches!(known.get(&key), Some(None));
            let candidates = self.scan(&query, k, |key| !gone(key) && accept(key));
            let mut best = TopK::new(k);
            let mut complete = true;
            for chunk in candidates.chunks(k.max(FETCH)) {
                // In order of their upper bounds: once the first cannot get in, no other can.
                if best.floor().is_some_and(|floor| floor > chunk[0].0.upper) {
                    break;
                }
                let keys = chunk.iter().map(|(candidate, _)| candidate.key);
                let wanted: Vec<DocKey> = keys.filter(|key| !known.contains_key(key)).collect();
                if !wanted.is_empty() {
                    known.extend(wanted.iter().map(|key| (*key, None)));
                    for (key, row) in fetch(&wanted)? {
                        let norm = self.check_row(&row)?;
                        known.insert(key, Some(self.score(&query, &row, norm)));
                    }
                }
                for (candidate, _) in chunk {
                    match known.get(&candidate.key) {
                        Some(Some(score)) => best.offer(candidate.key, *score),
                        _ => complete = false,
                    }
                }
            }
            // Rows that are gone may have raised the threshold above rows that are not: look again
            // without them. Each round excludes at least one more key, so the rounds end.
            if complete {
                return Ok(best.into_sorted());
            }
        }
    }

    /// [`VectorScan::search_exact`] over the rows in memory.
    ///
    /// # Errors
    ///
    /// Those of [`VectorScan::insert`], for the query, and [`VectorError::RowMissing`] where only
    /// codes are kept.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        accept: impl FnMut(DocKey) -> bool,
    ) -> Result<Vec<ScoredDoc>, VectorError> {
        if self.storage != Storage::CodesAndRows {
            return Err(VectorError::RowMissing);
        }
        let query = self.prepare(Cow::Borrowed(query))?;
        Ok(self.rerank(&query, k, self.scan(&query, k, accept)))
    }

    /// The exact best `k` of candidates that are sorted by their upper ends, by the rows in memory.
    pub(super) fn rerank(
        &self,
        query: &Query<'_>,
        k: usize,
        mut candidates: Vec<(Candidate, u32)>,
    ) -> Vec<ScoredDoc> {
        if self.metric != Metric::Euclidean {
            candidates = self.narrowed(query, k, &candidates);
        }
        let mut best = TopK::new(k);
        for (candidate, slot) in candidates {
            if best.floor().is_some_and(|floor| floor > candidate.upper) {
                break;
            }
            let norm = self.quantized[slot as usize].norm;
            best.offer(candidate.key, self.score(query, self.row_at(slot), norm));
        }
        best.into_sorted()
    }

    /// Candidates whose bounds are tightened by an f32 dot product of each row: of some hundred
    /// that int8 cannot tell apart hardly more than `k` are left for the exact, slower one.
    ///
    /// A sum of n products in f32, in any order and with any fusing, is off by at most
    /// n u / (1 - n u) of the product of the norms, with u = 2^-24 (Higham, Accuracy and Stability
    /// of Numerical Algorithms, section 3.1), and by what underflows.
    fn narrowed(
        &self,
        query: &Query<'_>,
        k: usize,
        candidates: &[(Candidate, u32)],
    ) -> Vec<(Candidate, u32)> {
        let dims = f64::from(u32::try_from(self.dims()).unwrap_or(u32::MAX));
        let share = 2.0 * dims / f64::from(1 << 24);
        let underflow = dims * f64::from(f32::MIN_POSITIVE);
        let mut lowest = TopK::new(k);
        let mut tight = Vec::with_capacity(candidates.len());
        for (candidate, slot) in candidates {
            if lowest.floor().is_some_and(|floor| floor > candidate.upper) {
                break;
            }
            let norms = self.quantized[*slot as usize].norm * query.quantized.norm;
            let dot = f64::from(dot_f32(&query.row, self.row_at(*slot)));
            let error = norms * share + underflow;
            let mut narrow = *candidate;
            // An overflow says nothing, and the bounds stay as they were.
            if dot.is_finite() && share < 1.0 {
                let (low, high) = match self.metric {
                    Metric::Cosine => ((dot - error) / norms, (dot + error) / norms),
                    _ => (dot - error, dot + error),
                };
                narrow.lower = narrow.lower.max(low.min(narrow.upper));
                narrow.upper = narrow.upper.min(high.max(narrow.lower));
            }
            lowest.offer(narrow.key, narrow.lower);
            tight.push((narrow, *slot));
        }
        let floor = lowest.floor().unwrap_or(f64::NEG_INFINITY);
        tight.retain(|(candidate, _)| candidate.upper >= floor);
        tight
            .sort_unstable_by(|(a, _), (b, _)| b.upper.total_cmp(&a.upper).then(a.key.cmp(&b.key)));
        tight
    }

    pub(super) fn prepare<'a>(&self, row: Cow<'a, [f32]>) -> Result<Query<'a>, VectorError> {
        self.check_row(&row)?;
        let mut codes = vec![0; row.len()];
        let quantized = quantize(&row, &mut codes);
        Ok(Query { row, quantized, padded: self.codes.padded(&codes) })
    }

    /// The candidates with their slots.
    fn scan(
        &self,
        query: &Query<'_>,
        k: usize,
        mut accept: impl FnMut(DocKey) -> bool,
    ) -> Vec<(Candidate, u32)> {
        if k == 0 {
            return Vec::new();
        }
        let mut net = Net::new(self, query, k);
        net.scan(query, 0..self.keys.len(), &mut accept);
        let mut found = Vec::new();
        net.hand_over(&mut found);
        sorted(found)
    }

    /// The exact score of a row.
    fn score(&self, query: &Query<'_>, row: &[f32], norm: f64) -> f64 {
        match self.metric {
            Metric::Cosine => {
                (dot_f64(&query.row, row) / (query.quantized.norm * norm)).clamp(-1.0, 1.0)
            }
            Metric::Dot => dot_f64(&query.row, row),
            Metric::Euclidean => -squared_l2_f64(&query.row, row),
        }
    }
}

/// The rows that may still be among the best k, while a scan goes on.
pub(super) struct Net<'a> {
    scan: &'a VectorScan,
    query: Quantized,
    /// Under the cosine.
    sieve: Option<Sieve>,
    found: Vec<(Candidate, u32)>,
    /// The k highest lower ends of the rows that were taken in here.
    lowest: TopK,
    /// The least of them, once there are k, or a higher one that is known from elsewhere.
    threshold: f64,
    prune_at: usize,
}

impl<'a> Net<'a> {
    pub(super) fn new(scan: &'a VectorScan, query: &Query<'_>, k: usize) -> Self {
        Self {
            scan,
            query: query.quantized,
            sieve: (scan.metric == Metric::Cosine).then(|| Sieve::new(&query.quantized)),
            found: Vec::with_capacity(ROOM),
            lowest: TopK::new(k),
            threshold: f64::NEG_INFINITY,
            prune_at: PRUNE_AT,
        }
    }

    /// What a row has to reach.
    pub(super) fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Holds back rows below a threshold that is known from elsewhere, too.
    pub(super) fn raise(&mut self, threshold: f64) {
        if threshold > self.threshold {
            self.threshold = threshold;
            if let Some(sieve) = &mut self.sieve {
                sieve.raise(threshold);
            }
        }
    }

    /// Takes in what is accepted of some rows.
    pub(super) fn scan(
        &mut self,
        query: &Query<'_>,
        rows: Range<usize>,
        mut accept: impl FnMut(DocKey) -> bool,
    ) {
        let scan = self.scan;
        let mut sieve = self.sieve.take();
        let (mut accepted, mut dots) = ([0_u32; BLOCK], [0_i32; BLOCK]);
        let mut first = rows.start;
        let mut size = if self.threshold == f64::NEG_INFINITY { FIRST_BLOCK } else { BLOCK };
        while first < rows.end {
            let keys = &scan.keys[first..rows.end.min(first + size)];
            let mut count = 0;
            for (slot, key) in (number(first)..).zip(keys) {
                accepted[count] = slot;
                count += usize::from(accept(*key));
            }
            let dots = &mut dots[..count];
            if count == keys.len() {
                scan.codes.dots_span(&query.padded, first, dots);
                match &mut sieve {
                    Some(sieve) => sieve.span(&scan.shares, first, dots, |at| {
                        self.take(number(first + at), dots[at])
                    }),
                    None => (number(first)..).zip(dots).for_each(|(slot, dot)| {
                        self.take(slot, *dot);
                    }),
                }
            } else {
                let accepted = &accepted[..count];
                scan.codes.dots(&query.padded, accepted, dots);
                for (slot, dot) in accepted.iter().zip(dots) {
                    let held = |sieve: &Sieve| sieve.holds_back(&scan.shares, *slot as usize, *dot);
                    if sieve.as_ref().is_some_and(held) {
                        continue;
                    }
                    let threshold = self.take(*slot, *dot);
                    if let Some(sieve) = &mut sieve {
                        sieve.raise(threshold);
                    }
                }
            }
            self.prune_some();
            first += keys.len();
            size = (size * 2).min(BLOCK);
        }
        self.sieve = sieve;
    }

    /// Takes a row in unless it is below the threshold, which is returned as it is then.
    fn take(&mut self, slot: u32, dot: i32) -> f64 {
        let row = &self.scan.quantized[slot as usize];
        let (lower, upper) = bounds(self.scan.metric, row, &self.query, dot);
        if upper < self.threshold {
            return self.threshold;
        }
        let key = self.scan.keys[slot as usize];
        self.found.push((Candidate { key, lower, upper }, slot));
        if lower > self.threshold {
            self.lowest.offer(key, lower);
            self.threshold =
                self.lowest.floor().map_or(self.threshold, |it| it.max(self.threshold));
        }
        self.threshold
    }

    /// Lets go of rows that the threshold has passed, where they are many.
    fn prune_some(&mut self) {
        if self.found.len() >= self.prune_at {
            self.prune();
            self.prune_at = PRUNE_AT.max(self.found.len() * 2);
        }
    }

    fn prune(&mut self) {
        let threshold = self.threshold;
        self.found.retain(|(candidate, _)| candidate.upper >= threshold);
    }

    /// Adds to `all` what was taken in and is not below the threshold, in no order. It counts on:
    /// rows that follow have to reach what these have set.
    pub(super) fn hand_over(&mut self, all: &mut Vec<(Candidate, u32)>) {
        self.prune();
        if all.is_empty() && all.capacity() < self.found.len() {
            std::mem::swap(all, &mut self.found);
        } else {
            all.append(&mut self.found);
        }
    }
}

/// Candidates with the highest upper end first, then by key.
pub(super) fn sorted(mut found: Vec<(Candidate, u32)>) -> Vec<(Candidate, u32)> {
    found.sort_unstable_by(|(a, _), (b, _)| b.upper.total_cmp(&a.upper).then(a.key.cmp(&b.key)));
    found
}

/// A place among the rows, of which there are fewer than 2^32.
fn number(row: usize) -> u32 {
    u32::try_from(row).unwrap_or(u32::MAX)
}

/// An interval that holds the score of a row.
#[inline]
fn bounds(metric: Metric, row: &Quantized, query: &Quantized, codes_dot: i32) -> (f64, f64) {
    let estimate = dot_estimate(row, query, codes_dot);
    let error = dot_bound(row, query);
    match metric {
        Metric::Dot => (estimate - error, estimate + error),
        Metric::Cosine => {
            let norms = row.norm * query.norm;
            // Clamped as the score is; clamping keeps the order of the three.
            let within = |cosine: f64| cosine.clamp(-1.0, 1.0);
            (within((estimate - error) / norms), within((estimate + error) / norms))
        }
        Metric::Euclidean => {
            // -||x - q||^2 = 2 x.q - ||x||^2 - ||q||^2
            let norms = row.norm * row.norm + query.norm * query.norm;
            let error = 2.0 * error + norms * NORM_SLACK;
            let estimate = 2.0 * estimate - norms;
            (estimate - error, (estimate + error).min(0.0))
        }
    }
}

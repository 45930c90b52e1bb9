//! One exact search that several threads make together.
//!
//! The rows are cut into chunks, and whoever is free takes the next one. What is found in a chunk is
//! handed in under a lock; the threshold that one thread has reached holds for all, for the k-th
//! highest lower end of some rows is never above that of all rows.
//!
//! Nobody waits for anybody: the thread that ends the search scans once more what was taken and is
//! not handed in, which is a chunk for each helper at the most. A helper that comes too late finds
//! no chunk left, and what it hands in after the end is dropped.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::search::{Candidate, Net, Query, ROOM, sorted};
use super::{Storage, VectorScan};
use crate::top_k::TopK;
use crate::{ScoredDoc, VectorError};

/// Rows of a chunk: one or two microseconds of 384 dimensions, which is what taking it from another
/// thread is worth, and what is lost where it has to be scanned twice.
const CHUNK: usize = 256;

/// How often the end looks whether chunks that were taken are handed in, before it scans them
/// itself: about as long as a chunk takes.
const LOOKS: u32 = 64;

/// A search that was begun, over the rows as they were then.
pub struct SharedSearch {
    /// Of the rows.
    stamp: u64,
    query: Query<'static>,
    k: usize,
    rows: usize,
    /// The next chunk to take.
    next: AtomicUsize,
    /// The bits of the highest threshold that anybody has reached.
    threshold: AtomicU64,
    handed_in: Mutex<HandedIn>,
}

#[derive(Default)]
struct HandedIn {
    found: Vec<(Candidate, u32)>,
    /// By chunk.
    done: Vec<bool>,
    left: usize,
    ended: bool,
}

impl SharedSearch {
    /// How many hits it looks for.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    fn handed_in(&self) -> MutexGuard<'_, HandedIn> {
        // Nothing is half done where it is held.
        self.handed_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threshold(&self) -> f64 {
        f64::from_bits(self.threshold.load(Ordering::Relaxed))
    }

    fn raise(&self, threshold: f64) {
        // A lower one that wins a race costs some rows that are looked at in vain.
        if threshold > self.threshold() {
            self.threshold.store(threshold.to_bits(), Ordering::Relaxed);
        }
    }
}

impl VectorScan {
    /// Begins [`VectorScan::search`] over all rows, for several threads.
    ///
    /// # Errors
    ///
    /// As [`VectorScan::search`].
    pub fn share(&self, query: &[f32], k: usize) -> Result<SharedSearch, VectorError> {
        if self.storage != Storage::CodesAndRows {
            return Err(VectorError::RowMissing);
        }
        let chunks = self.len().div_ceil(CHUNK);
        Ok(SharedSearch {
            stamp: self.stamp,
            query: self.prepare(Cow::Owned(query.to_owned()))?,
            k,
            rows: self.len(),
            next: AtomicUsize::new(0),
            threshold: AtomicU64::new(f64::NEG_INFINITY.to_bits()),
            handed_in: Mutex::new(HandedIn {
                found: Vec::with_capacity(ROOM),
                done: vec![false; chunks],
                left: chunks,
                ..HandedIn::default()
            }),
        })
    }

    /// Scans for a search until no rows are left to scan, or as many codes as `most_bytes` have been
    /// read. Does nothing where these rows are not those that the search was begun over.
    pub fn help(&self, shared: &SharedSearch, most_bytes: usize) {
        if self.stamp == shared.stamp && shared.k > 0 {
            let chunk_bytes = (CHUNK * self.codes.stride()).max(1);
            self.work(
                shared,
                &mut Net::new(self, &shared.query, shared.k),
                most_bytes / chunk_bytes,
            );
        }
    }

    /// Scans what is left of a search, and gives what [`VectorScan::search`] would; `None` where
    /// these rows are not those that it was begun over, and where it was finished before.
    #[must_use]
    pub fn finish(&self, shared: &SharedSearch) -> Option<Vec<ScoredDoc>> {
        if self.stamp != shared.stamp {
            return None;
        }
        if shared.k == 0 {
            return Some(Vec::new());
        }
        let mut net = Net::new(self, &shared.query, shared.k);
        self.work(shared, &mut net, usize::MAX);
        for _ in 0..LOOKS {
            if shared.handed_in().left == 0 {
                break;
            }
            std::hint::spin_loop();
        }
        let HandedIn { mut found, done, ended, .. } = {
            let ended = HandedIn { ended: true, ..HandedIn::default() };
            std::mem::replace(&mut *shared.handed_in(), ended)
        };
        if ended {
            return None;
        }
        for (chunk, done) in done.into_iter().enumerate() {
            if !done {
                self.scan_chunk(shared, &mut net, chunk);
            }
        }
        net.hand_over(&mut found);
        let mut lowest = TopK::new(shared.k);
        found.iter().for_each(|(candidate, _)| lowest.offer(candidate.key, candidate.lower));
        if let Some(floor) = lowest.floor() {
            found.retain(|(candidate, _)| candidate.upper >= floor);
        }
        Some(self.rerank(&shared.query, shared.k, sorted(found)))
    }

    /// Takes chunks and hands in what is found in them.
    fn work(&self, shared: &SharedSearch, net: &mut Net<'_>, most_chunks: usize) {
        let chunks = shared.rows.div_ceil(CHUNK);
        for _ in 0..most_chunks {
            if shared.next.load(Ordering::Relaxed) >= chunks {
                return;
            }
            let chunk = shared.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= chunks {
                return;
            }
            self.scan_chunk(shared, net, chunk);
            shared.raise(net.threshold());
            let mut handed_in = shared.handed_in();
            if handed_in.ended {
                return;
            }
            net.hand_over(&mut handed_in.found);
            handed_in.done[chunk] = true;
            handed_in.left -= 1;
        }
    }

    fn scan_chunk(&self, shared: &SharedSearch, net: &mut Net<'_>, chunk: usize) {
        net.raise(shared.threshold());
        let first = chunk * CHUNK;
        net.scan(&shared.query, first..shared.rows.min(first + CHUNK), |_| true);
    }
}

/// Prints counts: a query is a caller's data.
impl fmt::Debug for SharedSearch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSearch")
            .field("k", &self.k)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Metric;

    fn vector(seed: u64) -> Vec<f32> {
        let mut state = seed;
        (0..32)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(seed | 1);
                f32::from(u16::try_from(state >> 48).unwrap()) / 65_536.0 - 0.4
            })
            .collect()
    }

    fn scan(metric: Metric, rows: u64) -> VectorScan {
        let mut scan = VectorScan::new(32, metric, Storage::CodesAndRows).unwrap();
        (0..rows).for_each(|key| scan.insert(key, &vector(key + 1)).unwrap());
        scan
    }

    #[test]
    fn what_several_threads_find_is_what_one_finds() {
        for metric in [Metric::Cosine, Metric::Dot, Metric::Euclidean] {
            for rows in [0, 1, 255, 256, 257, 5_000] {
                let scan = scan(metric, rows);
                for (query, k) in [(7_001, 1), (7_002, 11), (7_003, 300)] {
                    let query = vector(query);
                    let shared = scan.share(&query, k).unwrap();
                    let found = std::thread::scope(|scope| {
                        for most in [usize::MAX, 3 * CHUNK * scan.codes.stride()] {
                            let (scan, shared) = (&scan, &shared);
                            scope.spawn(move || scan.help(shared, most));
                        }
                        scan.finish(&shared).unwrap()
                    });
                    let alone = scan.search(&query, k, |_| true).unwrap();
                    assert_eq!(found, alone, "{metric:?}, {rows} rows, k = {k}");
                    assert_eq!(scan.finish(&shared), None, "it was finished before");
                }
            }
        }
    }

    #[test]
    fn what_was_taken_and_not_handed_in_is_scanned_again() {
        let scan = scan(Metric::Cosine, 2_000);
        let query = vector(9_000);
        let shared = scan.share(&query, 11).unwrap();
        scan.help(&shared, 2 * CHUNK * scan.codes.stride());
        // Somebody takes two chunks and sleeps.
        shared.next.fetch_add(2, Ordering::Relaxed);
        assert_eq!(scan.finish(&shared), Some(scan.search(&query, 11, |_| true).unwrap()));
        // What it hands in then is dropped.
        shared.next.store(2, Ordering::Relaxed);
        scan.help(&shared, usize::MAX);
        assert!(shared.handed_in().found.is_empty());
    }

    #[test]
    fn other_rows_are_neither_scanned_nor_answered_from() {
        let mut changed = scan(Metric::Cosine, 600);
        let same = changed.clone();
        let shared = changed.share(&vector(9_000), 5).unwrap();
        changed.insert(3, &vector(3_000)).unwrap();
        changed.help(&shared, usize::MAX);
        assert_eq!(shared.next.load(Ordering::Relaxed), 0);
        assert_eq!(changed.finish(&shared), None);
        changed.remove(4);
        assert_eq!(changed.finish(&shared), None);
        // A copy has the same rows in the same order.
        assert_eq!(same.finish(&shared), Some(same.search(&vector(9_000), 5, |_| true).unwrap()));
    }

    #[test]
    fn without_rows_in_memory_there_is_nothing_to_share() {
        let scan = VectorScan::new(32, Metric::Dot, Storage::CodesOnly).unwrap();
        assert_eq!(scan.share(&vector(1), 5).unwrap_err(), VectorError::RowMissing);
    }
}

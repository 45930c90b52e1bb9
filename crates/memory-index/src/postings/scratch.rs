//! Score accumulators, kept between queries so that a query does not allocate and clear one float
//! per document.

use std::sync::{Mutex, PoisonError};

/// Scratch buffers that are kept for reuse; more are dropped. Queries of one tenant that run at
/// the same time are few.
const KEPT: usize = 4;

/// One score per slot, and which blocks of 64 slots have been written. Between uses every score is
/// zero and no block is dirty.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) scores: Vec<f32>,
    pub(crate) dirty: Vec<bool>,
    /// The terms of the query, in its order. Empty between uses.
    pub(crate) terms: Vec<QueryTerm>,
    /// The places of those terms, in the order in which they are worked off.
    pub(crate) order: Vec<u32>,
    /// Their ids with their places, by id.
    pub(crate) by_id: Vec<(u32, u32)>,
    /// What each of them adds to the score of one document.
    pub(crate) parts: Vec<f32>,
}

/// A term of a query that can add to a score.
#[derive(Clone, Copy)]
pub(crate) struct QueryTerm {
    pub(crate) id: u32,
    /// What of its contribution is the same for every document.
    pub(crate) gain: f32,
    /// The number of live documents that have it.
    pub(crate) frequency: u32,
}

/// The scratch buffers of one index.
#[derive(Default)]
pub(crate) struct ScratchPool {
    free: Mutex<Vec<Scratch>>,
}

impl ScratchPool {
    /// A clean buffer for this many slots, rounded up to whole blocks.
    pub(crate) fn take(&self, slots: usize) -> Scratch {
        let mut scratch = self.lock(Vec::pop).unwrap_or_default();
        let blocks = slots.div_ceil(64);
        if scratch.dirty.len() < blocks {
            // Grown with some room, so that an index that grows between queries does not move its
            // scratch each time.
            let room = blocks + blocks / 8;
            scratch.scores.reserve_exact(room * 64 - scratch.scores.len());
            scratch.dirty.reserve_exact(room - scratch.dirty.len());
            scratch.scores.resize(room * 64, 0.0);
            scratch.dirty.resize(room, false);
        }
        scratch
    }

    /// Gives a clean buffer back. One that is never given back, after a panic, is merely lost.
    pub(crate) fn put(&self, scratch: Scratch) {
        self.lock(|free| {
            if free.len() < KEPT {
                free.push(scratch);
            }
        });
    }

    pub(crate) fn clear(&self) {
        self.lock(|free| *free = Vec::new());
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.lock(|free| {
            free.iter()
                .map(|scratch| {
                    scratch.scores.capacity() * size_of::<f32>()
                        + scratch.dirty.capacity()
                        + scratch.terms.capacity() * size_of::<QueryTerm>()
                        + scratch.order.capacity() * size_of::<u32>()
                        + scratch.by_id.capacity() * size_of::<(u32, u32)>()
                        + scratch.parts.capacity() * size_of::<f32>()
                })
                .sum::<usize>()
                + free.capacity() * size_of::<Scratch>()
        })
    }

    fn lock<R>(&self, act: impl FnOnce(&mut Vec<Scratch>) -> R) -> R {
        // The list is whole at every instant, whatever panicked while it was locked.
        act(&mut self.free.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

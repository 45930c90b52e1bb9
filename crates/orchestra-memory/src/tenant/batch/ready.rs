//! A memory that passed every check that needs no store, as it goes into commits.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use memory_core::{ContentHash, MemoryId, MemoryItem, Put, SpaceId, Vectors, Write};

use super::BatchPolicy;
use crate::embedding::text_of;
use crate::report::VectorState;
use crate::tenant::add::precondition;

/// A memory that passed every check that needs no store.
pub(super) struct Ready {
    pub(super) place: usize,
    pub(super) id: MemoryId,
    pub(super) hash: ContentHash,
    held: Held,
    bytes: usize,
    /// Whether the caller chose the id; a random one need not be looked for.
    pub(super) chosen: bool,
    /// What becomes of its vector, if it is written.
    pub(super) state: VectorState,
}

/// What is to be written: in parts until it is first sent, and then as it was sent, shared with the
/// commit, so that a batch that goes through is copied nowhere on its way.
enum Held {
    Parts(Box<MemoryItem>, Option<Vec<f32>>),
    Sent(Option<SpaceId>, Arc<Put>),
}

impl Ready {
    pub(super) fn new(
        place: usize,
        item: MemoryItem,
        vector: Option<Vec<f32>>,
        chosen: bool,
    ) -> Self {
        let bytes = item.size_bytes() + vector_bytes(vector.as_ref());
        let state = match vector {
            Some(_) => VectorState::Supplied,
            None => VectorState::NoEmbedder,
        };
        let (id, hash) = (item.id.clone(), item.content_hash());
        Self { place, id, hash, held: Held::Parts(Box::new(item), vector), bytes, chosen, state }
    }

    /// What is embedded of it.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match &self.held {
            Held::Parts(item, _) => text_of(item),
            Held::Sent(_, put) => text_of(&put.item),
        }
    }

    pub(super) fn vector(&self) -> Option<&Vec<f32>> {
        match &self.held {
            Held::Parts(_, vector) => vector.as_ref(),
            Held::Sent(_, put) => match &put.vectors {
                Vectors::Replace(vectors) => vectors.values().next(),
                Vectors::Keep => None,
            },
        }
    }

    /// Gives it a vector that was made, or takes the one away that it has.
    pub(super) fn set_vector(&mut self, vector: Option<Vec<f32>>, state: VectorState) {
        self.bytes -= vector_bytes(self.vector());
        self.bytes += vector_bytes(vector.as_ref());
        self.state = state;
        match &mut self.held {
            Held::Parts(_, held) => *held = vector,
            Held::Sent(space, put) => {
                let vectors = space.clone().zip(vector).into_iter().collect();
                Arc::make_mut(put).vectors = Vectors::Replace(vectors);
            }
        }
    }

    /// The write of it, and itself for what comes of the write.
    pub(super) fn put(self, space: Option<&SpaceId>, policy: &BatchPolicy) -> (Self, Write) {
        let keyed = |vector: Option<Vec<f32>>| {
            Vectors::Replace(space.cloned().zip(vector).into_iter().collect())
        };
        let put = match self.held {
            Held::Sent(sent, put) if sent.as_ref() == space => put,
            // The tenant's space is another one by now.
            Held::Sent(_, put) => {
                let mut put = Arc::unwrap_or_clone(put);
                if let Vectors::Replace(vectors) = put.vectors {
                    put.vectors = keyed(vectors.into_values().next());
                }
                Arc::new(put)
            }
            Held::Parts(item, vector) => Arc::new(Put {
                item: *item,
                vectors: keyed(vector),
                precondition: precondition(policy.on_conflict),
            }),
        };
        let write = Write::Put(Arc::clone(&put));
        (Self { held: Held::Sent(space.cloned(), put), ..self }, write)
    }
}

fn vector_bytes(vector: Option<&Vec<f32>>) -> usize {
    vector.map_or(0, |vector| vector.len() * 4)
}

/// Memory text stays out of logs.
impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready")
            .field("place", &self.place)
            .field("id", &self.id)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// Cuts a batch into parts that can be written at once: distinct ids, at most so many bytes, order
/// kept.
pub(super) fn parts(ready: Vec<Ready>, most_bytes: usize) -> Vec<Vec<Ready>> {
    let mut parts = Vec::new();
    let mut part: Vec<Ready> = Vec::new();
    let (mut ids, mut bytes) = (BTreeSet::new(), 0);
    for next in ready {
        if ids.contains(&next.id) || bytes + next.bytes > most_bytes {
            parts.push(std::mem::take(&mut part));
            ids.clear();
            bytes = 0;
        }
        bytes += next.bytes;
        ids.insert(next.id.clone());
        part.push(next);
    }
    parts.push(part);
    parts
}

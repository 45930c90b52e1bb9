//! What an index keeps for each document, by slot.

use super::entries::{BEFORE, Entries, write_entry};
use super::lists::{LONG, grow_bytes};
use super::table::Table;
use super::{GONE, grow, number};
use crate::DocKey;
use crate::hash::{KeyMap, map_bytes, mix};

/// Stands in `lengths` for a length that is kept in `long`.
const ELSEWHERE: u16 = u16::MAX;

/// The slots that share a start in `bases`, and a word of `live`.
pub(crate) const BLOCK: usize = 64;

/// The documents by slot and by key.
#[derive(Default)]
pub(crate) struct Documents {
    table: Table,
    keys: Vec<DocKey>,
    lengths: Vec<u16>,
    /// The lengths of 65,535 and more, by slot.
    long: KeyMap<u32>,
    /// One bit a slot.
    live: Vec<u64>,
    /// Where the terms of the first slot of each block start in `forward`.
    bases: Vec<usize>,
    /// Where the terms of each slot start, from its base; they end where the next ones start.
    starts: Vec<u32>,
    forward: Vec<u8>,
    /// The sum of the live documents' lengths.
    pub(crate) total_length: u64,
}

impl Documents {
    /// The number of live documents.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of slots, dead ones too.
    pub(crate) fn slots(&self) -> usize {
        self.keys.len()
    }

    /// The slot of a document.
    #[inline]
    pub(crate) fn slot(&self, key: DocKey) -> Option<u32> {
        self.table.find(mix(key), |slot| self.keys[slot as usize] == key)
    }

    /// The slots of all live documents, in no particular order.
    pub(crate) fn live_slots(&self) -> impl Iterator<Item = u32> {
        self.table.iter()
    }

    #[inline]
    pub(crate) fn key(&self, slot: u32) -> DocKey {
        self.keys[slot as usize]
    }

    #[inline]
    pub(crate) fn length(&self, slot: u32) -> u32 {
        match self.lengths[slot as usize] {
            ELSEWHERE => self.long.get(&u64::from(slot)).copied().unwrap_or(u32::MAX),
            length => u32::from(length),
        }
    }

    /// The length as the bounds of posting lists know it.
    #[inline]
    pub(crate) fn short_length(&self, slot: usize) -> u8 {
        u8::try_from(self.lengths[slot]).unwrap_or(LONG)
    }

    /// The live slots of each block, a bit each.
    pub(crate) fn live(&self) -> &[u64] {
        &self.live
    }

    #[inline]
    pub(crate) fn is_live(&self, slot: u32) -> bool {
        self.live[slot as usize / BLOCK] >> (slot as usize % BLOCK) & 1 == 1
    }

    /// The terms of a slot's document as (term id, frequency).
    #[inline]
    pub(crate) fn terms(&self, slot: u32) -> Entries<'_> {
        let slot = slot as usize;
        let start = self.start(slot);
        let end =
            if slot + 1 < self.starts.len() { self.start(slot + 1) } else { self.forward.len() };
        Entries::new(&self.forward[start..end])
    }

    /// Adds a document that is not there, with its terms by ascending id; returns its slot.
    pub(crate) fn push(&mut self, key: DocKey, length: u32, terms: &[(u32, u32)]) -> u32 {
        let slot = number(self.keys.len());
        if (slot as usize).is_multiple_of(BLOCK) {
            grow(&mut self.bases);
            self.bases.push(self.forward.len());
            grow(&mut self.live);
            self.live.push(0);
        }
        let base = self.bases[slot as usize / BLOCK];
        grow(&mut self.starts);
        self.starts.push(number(self.forward.len() - base));
        let mut last = BEFORE;
        for (id, frequency) in terms {
            grow_bytes(&mut self.forward, super::entries::MAX_ENTRY);
            write_entry(&mut self.forward, id.wrapping_sub(last), *frequency);
            last = *id;
        }
        grow(&mut self.lengths);
        self.lengths.push(u16::try_from(length).unwrap_or(ELSEWHERE));
        if length >= u32::from(ELSEWHERE) {
            self.long.insert(u64::from(slot), length);
        }
        grow(&mut self.keys);
        self.keys.push(key);
        self.live[slot as usize / BLOCK] |= 1 << (slot as usize % BLOCK);
        self.total_length += u64::from(length);
        let Self { table, keys, .. } = self;
        table.insert(mix(key), slot, |slot| mix(keys[slot as usize]));
        slot
    }

    /// Marks a document as dead and returns its slot.
    pub(crate) fn remove(&mut self, key: DocKey) -> Option<u32> {
        let Self { table, keys, .. } = self;
        let slot = table.remove(
            mix(key),
            |slot| keys[slot as usize] == key,
            |slot| mix(keys[slot as usize]),
        )?;
        self.live[slot as usize / BLOCK] &= !(1 << (slot as usize % BLOCK));
        self.total_length -= u64::from(self.length(slot));
        Some(slot)
    }

    /// The live documents alone, in the order of their slots, and the new number of each slot;
    /// `terms` has that of each term.
    pub(crate) fn compacted(&self, terms: &[u32]) -> Self {
        let count = self.len();
        let mut kept = Self {
            table: Table::with_room(count),
            keys: Vec::with_capacity(count),
            lengths: Vec::with_capacity(count),
            live: Vec::with_capacity(count.div_ceil(BLOCK)),
            bases: Vec::with_capacity(count.div_ceil(BLOCK)),
            starts: Vec::with_capacity(count),
            ..Self::default()
        };
        let mut renamed = Vec::new();
        for slot in (0..number(self.slots())).filter(|slot| self.is_live(*slot)) {
            renamed.clear();
            let ids = self.terms(slot).map(|(id, frequency)| (terms[id as usize], frequency));
            renamed.extend(ids.filter(|(id, _)| *id != GONE));
            kept.push(self.key(slot), self.length(slot), &renamed);
        }
        kept.forward.shrink_to_fit();
        kept
    }

    /// The heap bytes of the documents.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.table.heap_bytes()
            + self.keys.capacity() * size_of::<DocKey>()
            + self.lengths.capacity() * size_of::<u16>()
            + map_bytes::<u64, u32>(self.long.capacity())
            + self.live.capacity() * size_of::<u64>()
            + self.bases.capacity() * size_of::<usize>()
            + self.starts.capacity() * size_of::<u32>()
            + self.forward.capacity()
    }

    #[inline]
    fn start(&self, slot: usize) -> usize {
        self.bases[slot / BLOCK] + self.starts[slot] as usize
    }
}

#[cfg(test)]
mod tests {
    use super::super::lists::short;
    use super::*;

    #[test]
    fn long_documents_keep_their_length() {
        let mut documents = Documents::default();
        for (key, length) in [(1, 0), (2, 254), (3, 65_534), (4, 65_535), (5, u32::MAX)] {
            let slot = documents.push(key, length, &[(3, 1)]);
            assert_eq!(documents.length(slot), length);
            assert_eq!(documents.short_length(slot as usize), short(length));
        }
        let kept = documents.compacted(&[GONE, GONE, GONE, 0]);
        assert_eq!(kept.length(4), u32::MAX);
        assert_eq!(kept.terms(4).collect::<Vec<_>>(), [(0, 1)]);
        assert_eq!(kept.total_length, documents.total_length);
    }
}

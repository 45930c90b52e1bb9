//! The posting lists of all terms, in one pool of bytes.
//!
//! A list is a chain of chunks, each a little larger than the one before it: a term that stands in
//! one document costs twelve bytes, a common one wastes a few per cent, and nothing that is written
//! moves. Entries are those of [`super::entries`]; each lies whole in one chunk, and what a chunk
//! has left over is zeros.

use std::ops::Range;

use super::entries::{BEFORE, Entries, MAX_ENTRY, write_entry};
use super::{grow, number};

/// The bytes of a chunk that name the next one, in units of [`UNIT`].
const LINK: usize = 4;

/// Chunks begin at multiples of this, so that 32 bits name a place in 16 GiB.
const UNIT: usize = 4;

/// The payload of the chunks of a list, in order; all that follow are as large as the last. A chunk
/// adds about a quarter to what is there before it.
const CHUNKS: [u16; 24] = [
    8, 16, 16, 16, 16, 24, 24, 32, 40, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768,
    1_024, 2_048,
];

/// Frequencies in a document fall into bands: 1, 2, 3 to 4, 5 and more.
const BANDS: usize = 4;

/// Lengths from here on count as this one where a bound is asked for.
pub(crate) const LONG: u8 = u8::MAX;

/// The postings of one term.
#[derive(Clone, Copy)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    /// The place of the tail in the chain.
    chunk: u32,
    last_slot: u32,
    /// The number of live documents that have the term.
    pub(crate) frequency: u32,
    /// The bytes of the tail that are in use.
    filled: u16,
    /// The highest frequency in a document; `u16::MAX` for that and more.
    highest: u16,
    /// The length of the shortest document of each band.
    shortest: [u8; BANDS],
}

/// The lists of all terms, by term id.
#[derive(Default)]
pub(crate) struct Lists {
    lists: Vec<List>,
    pool: Vec<u8>,
}

impl Lists {
    /// The number of terms.
    pub(crate) fn len(&self) -> usize {
        self.lists.len()
    }

    /// A term's list.
    pub(crate) fn get(&self, id: u32) -> &List {
        &self.lists[id as usize]
    }

    /// Adds a term without postings. Its id is the number of terms before it.
    pub(crate) fn add(&mut self) {
        let head = self.chunk(0);
        grow(&mut self.lists);
        self.lists.push(List {
            head,
            tail: head,
            chunk: 0,
            last_slot: BEFORE,
            frequency: 0,
            filled: 0,
            highest: 0,
            shortest: [LONG; BANDS],
        });
    }

    /// Appends a posting; `slot` is beyond all that the list has.
    pub(crate) fn push(&mut self, id: u32, slot: u32, frequency: u32, length: u32) {
        let list = self.lists[id as usize];
        let mut start = self.pool.len();
        // Written at the end of the pool, then moved to where it belongs.
        grow_bytes(&mut self.pool, MAX_ENTRY);
        write_entry(&mut self.pool, slot.wrapping_sub(list.last_slot), frequency);
        let mut entry = [0; MAX_ENTRY];
        let written = self.pool.len() - start;
        entry[..written].copy_from_slice(&self.pool[start..]);
        self.pool.truncate(start);

        let (mut tail, mut chunk, mut filled) = (list.tail, list.chunk, usize::from(list.filled));
        if capacity(chunk) - filled < written {
            chunk += 1;
            let next = self.chunk(chunk);
            let link = tail as usize * UNIT;
            self.pool[link..link + LINK].copy_from_slice(&next.to_le_bytes());
            (tail, filled) = (next, 0);
        }
        start = tail as usize * UNIT + LINK + filled;
        self.pool[start..start + written].copy_from_slice(&entry[..written]);

        let list = &mut self.lists[id as usize];
        (list.tail, list.chunk, list.last_slot) = (tail, chunk, slot);
        list.filled = u16::try_from(filled + written).unwrap_or(u16::MAX);
        list.frequency += 1;
        list.highest = list.highest.max(u16::try_from(frequency).unwrap_or(u16::MAX));
        let shortest = &mut list.shortest[band(frequency)];
        *shortest = (*shortest).min(short(length));
    }

    /// One document fewer has the term; its posting stays until the lists are made anew.
    pub(crate) fn forget(&mut self, id: u32) {
        self.lists[id as usize].frequency -= 1;
    }

    /// Calls `visit` with every posting of the list as (slot, frequency), dead ones too.
    #[inline]
    pub(crate) fn each(&self, list: &List, mut visit: impl FnMut(u32, u32)) {
        let (mut at, mut last) = (list.head as usize * UNIT, BEFORE);
        for chunk in 0..=list.chunk {
            let tail = chunk == list.chunk;
            let filled = if tail { usize::from(list.filled) } else { capacity(chunk) };
            let start = at + LINK;
            let mut entries = Entries::after(last, &self.pool[start..start + filled]);
            for (slot, frequency) in &mut entries {
                visit(slot, frequency);
            }
            last = entries.number();
            if !tail {
                let mut link = [0; LINK];
                link.copy_from_slice(&self.pool[at..start]);
                at = u32::from_le_bytes(link) as usize * UNIT;
            }
        }
    }

    /// The heap bytes of the lists.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.lists.capacity() * size_of::<List>() + self.pool.capacity()
    }

    /// Gives spare room back.
    pub(crate) fn shrink(&mut self) {
        self.lists.shrink_to_fit();
        self.pool.shrink_to_fit();
    }

    /// Makes a chunk at the end of the pool, all zeros.
    fn chunk(&mut self, place: u32) -> u32 {
        let start = self.pool.len();
        let bytes = LINK + capacity(place);
        grow_bytes(&mut self.pool, bytes);
        self.pool.resize(start + bytes, 0);
        number(start / UNIT)
    }
}

impl List {
    /// The lengths below 256 that documents with the term have, in falling ranges, each with the
    /// highest frequency that a document of such a length has; infinite where it is too high to be
    /// known. Longer documents count with the last length.
    ///
    /// A longer document never has a lower bound, and one shorter than all ranges has no posting.
    #[inline]
    pub(crate) fn steps(&self) -> impl Iterator<Item = (Range<usize>, f32)> {
        let mut end = usize::from(LONG) + 1;
        (0..BANDS).rev().filter_map(move |band| {
            let start = usize::from(self.shortest[band]);
            let range = start..end;
            end = end.min(start);
            let highest = match band {
                0 => 1,
                1 => 2,
                2 => self.highest.min(4),
                _ => self.highest,
            };
            let highest = if highest == u16::MAX { f32::INFINITY } else { f32::from(highest) };
            (!range.is_empty()).then_some((range, highest))
        })
    }
}

/// A length as the bounds know it.
#[inline]
pub(crate) fn short(length: u32) -> u8 {
    u8::try_from(length).unwrap_or(LONG)
}

fn band(frequency: u32) -> usize {
    match frequency {
        0 | 1 => 0,
        2 => 1,
        3 | 4 => 2,
        _ => 3,
    }
}

fn capacity(chunk: u32) -> usize {
    usize::from(CHUNKS[(chunk as usize).min(CHUNKS.len() - 1)])
}

/// Makes room for `more` bytes, an eighth at a time.
pub(super) fn grow_bytes(bytes: &mut Vec<u8>, more: usize) {
    if bytes.capacity() - bytes.len() < more {
        bytes.reserve_exact(more.max(bytes.len() / 8).max(64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    fn read(lists: &Lists, id: u32) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        lists.each(lists.get(id), |slot, frequency| found.push((slot, frequency)));
        found
    }

    proptest! {
        /// Lists that grow in turns keep apart, over many chunks, and bound what they hold.
        #[test]
        fn lists_share_a_pool(
            steps in proptest::collection::vec(
                (0_u32..3, 1_u32..3_000_000, 1_u32..9, 0_u32..300), 0..2_000),
            rare in 1_u32..=u32::MAX,
        ) {
            let mut lists = Lists::default();
            (0..3).for_each(|_| lists.add());
            let mut expected = vec![Vec::new(); 3];
            let mut slot = 0;
            for (id, gap, frequency, length) in steps {
                slot += gap % if id == 0 { 4 } else { 2_000_000 } + 1;
                let frequency = if frequency == 8 { rare } else { frequency };
                lists.push(id, slot, frequency, length);
                expected[id as usize].push((slot, frequency));
                let at = usize::from(short(length));
                let mut steps = lists.get(id).steps();
                let bound = steps.find(|(range, _)| range.contains(&at)).map(|step| step.1);
                #[expect(clippy::cast_precision_loss, reason = "a bound that rounds is checked as one")]
                let reached = frequency as f32;
                prop_assert!(bound.is_some_and(|bound| bound >= reached));
            }
            for id in 0..3 {
                prop_assert_eq!(&read(&lists, id), &expected[id as usize]);
                prop_assert_eq!(lists.get(id).frequency as usize, expected[id as usize].len());
                let steps: Vec<_> = lists.get(id).steps().collect();
                let falls = steps.windows(2).all(|pair| {
                    pair[1].0.end == pair[0].0.start && pair[1].1 <= pair[0].1
                });
                prop_assert!(falls);
            }
        }
    }

    #[test]
    fn a_chunk_is_a_multiple_of_the_unit() {
        assert!(CHUNKS.iter().all(|payload| (usize::from(*payload) + LINK).is_multiple_of(UNIT)));
        assert!(CHUNKS.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(usize::from(CHUNKS[1]) >= MAX_ENTRY, "an entry fits a chunk that follows");
    }
}

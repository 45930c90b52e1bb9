//! The keyword index of one tenant: what it stores, and how documents come and go.

mod entries;
mod scratch;
mod search;

use std::collections::HashMap;
use std::fmt;

use self::entries::{Entries, write_entry};
use self::scratch::ScratchPool;
pub use self::search::{Bm25, TermContribution};
use crate::DocKey;
use crate::hash::{KeyMap, map_bytes};

/// Dead slots are cleared away once they are more than this share of all slots, in percent. At 30
/// a query wades through at most three dead postings for seven live ones, and a document is
/// rewritten two or three times over its life.
const MAX_DEAD_PERCENT: usize = 30;

/// Below this number of dead slots nothing is cleared away: a small index is quick with any share.
const MIN_DEAD: usize = 64;

/// Stands for a slot or a term that did not survive compaction.
const GONE: u32 = u32::MAX;

/// An inverted index over the terms of documents, ranked by BM25 ([`KeywordPostings::search`]).
///
/// A document occupies a slot; slots are handed out in order, so an addition appends a few bytes
/// to the list of each of its terms. A removal marks the slot as dead and takes the document out
/// of the statistics at once: the number of documents, their average length and the document
/// frequency of every term are exact at every instant. Dead slots, and terms that no document has
/// any more, are cleared away when more than 30 % of the slots (and at least 64) are dead; a
/// removal that triggers this takes time linear in the index.
///
/// At most 4,294,967,294 documents fit.
#[derive(Default)]
pub struct KeywordPostings {
    vocabulary: HashMap<Box<str>, u32>,
    terms: Vec<Term>,
    slots: KeyMap<u32>,
    keys: Vec<DocKey>,
    lengths: Vec<u32>,
    /// One bit per slot, 64 slots a word.
    live: Vec<u64>,
    /// Where the terms of each slot's document start in `forward`; they end where the next start.
    starts: Vec<usize>,
    forward: Vec<u8>,
    /// The sum of the live documents' lengths.
    total_length: u64,
    /// The bytes of the posting lists and of the terms' texts.
    term_bytes: usize,
    /// A buffer for the terms of the document being inserted: (term id, frequency).
    incoming: Vec<(u32, u32)>,
    scratch: ScratchPool,
}

/// The postings of one term.
#[derive(Default)]
struct Term {
    bytes: Vec<u8>,
    last_slot: u32,
    /// The number of live documents that have the term.
    frequency: u32,
}

impl KeywordPostings {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a document, replacing the one with the same key.
    ///
    /// `length` is the document's length in tokens, as BM25 is to see it; `terms` are its distinct
    /// terms with their frequencies. A term listed twice counts with the sum of its frequencies, a
    /// frequency of zero not at all. A document without terms is found by no search but counts in
    /// the statistics.
    pub fn insert<T: AsRef<str>>(&mut self, key: DocKey, length: u32, terms: &[(T, u32)]) {
        self.remove(key);

        let mut incoming = std::mem::take(&mut self.incoming);
        incoming.clear();
        for (term, frequency) in terms.iter().filter(|(_, frequency)| *frequency > 0) {
            incoming.push((self.term_id(term.as_ref()), *frequency));
        }
        incoming.sort_unstable();
        incoming.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(next.1);
            }
            same
        });

        let slot = number(self.keys.len());
        self.starts.push(self.forward.len());
        let mut last_id = 0;
        for (id, frequency) in &incoming {
            write_entry(&mut self.forward, id - last_id, *frequency);
            last_id = *id;
            let term = &mut self.terms[*id as usize];
            let before = term.bytes.capacity();
            term.push(slot, *frequency);
            term.frequency += 1;
            self.term_bytes += term.bytes.capacity() - before;
        }
        self.incoming = incoming;

        if slot.is_multiple_of(64) {
            self.live.push(0);
        }
        self.live[slot as usize / 64] |= 1 << (slot % 64);
        self.keys.push(key);
        self.lengths.push(length);
        self.total_length += u64::from(length);
        self.slots.insert(key, slot);
    }

    /// Removes a document, and says whether it was there.
    pub fn remove(&mut self, key: DocKey) -> bool {
        let Some(slot) = self.slots.remove(&key) else { return false };
        for (id, _) in document_terms(&self.starts, &self.forward, slot) {
            self.terms[id as usize].frequency -= 1;
        }
        self.live[slot as usize / 64] &= !(1 << (slot % 64));
        self.total_length -= u64::from(self.lengths[slot as usize]);
        let dead = self.dead();
        if dead >= MIN_DEAD && dead * 100 > self.keys.len() * MAX_DEAD_PERCENT {
            self.compact();
        }
        true
    }

    /// The number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the document is in the index.
    #[must_use]
    pub fn contains(&self, key: DocKey) -> bool {
        self.slots.contains_key(&key)
    }

    /// The keys of all documents, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = DocKey> {
        self.slots.keys().copied()
    }

    /// The number of documents that have the term.
    #[must_use]
    pub fn document_frequency(&self, term: &str) -> u32 {
        self.vocabulary.get(term).map_or(0, |id| self.terms[*id as usize].frequency)
    }

    /// The average length of a document in tokens; 0 where there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more than 53 bits")]
    pub fn average_length(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.total_length as f64 / self.len() as f64 }
    }

    /// An estimate of the bytes the index occupies, spare capacity included.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + map_bytes::<Box<str>, u32>(self.vocabulary.capacity())
            + map_bytes::<DocKey, u32>(self.slots.capacity())
            + self.terms.capacity() * size_of::<Term>()
            + self.term_bytes
            + self.keys.capacity() * size_of::<DocKey>()
            + self.lengths.capacity() * size_of::<u32>()
            + self.live.capacity() * size_of::<u64>()
            + self.starts.capacity() * size_of::<usize>()
            + self.forward.capacity()
            + self.scratch.memory_bytes()
    }

    /// Clears away dead slots and unused terms now, as removals do by themselves in time.
    ///
    /// Both slots and term ids keep their order, so every list stays ascending.
    pub fn compact(&mut self) {
        if self.dead() == 0 {
            return;
        }
        let slot_numbers = self.renumbered_slots();
        let term_numbers = self.compact_terms(&slot_numbers);
        self.compact_documents(&slot_numbers, &term_numbers);
    }

    fn dead(&self) -> usize {
        self.keys.len() - self.slots.len()
    }

    fn is_live(&self, slot: u32) -> bool {
        self.live[slot as usize / 64] >> (slot % 64) & 1 == 1
    }

    /// The terms of a slot's document as (term id, frequency).
    fn terms_of(&self, slot: u32) -> Entries<'_> {
        document_terms(&self.starts, &self.forward, slot)
    }

    fn term_id(&mut self, text: &str) -> u32 {
        if let Some(id) = self.vocabulary.get(text) {
            return *id;
        }
        let id = number(self.terms.len());
        self.terms.push(Term::default());
        self.vocabulary.insert(text.into(), id);
        self.term_bytes += text.len();
        id
    }

    fn renumbered_slots(&self) -> Vec<u32> {
        let mut next = 0;
        (0..number(self.keys.len()))
            .map(|slot| {
                if !self.is_live(slot) {
                    return GONE;
                }
                next += 1;
                next - 1
            })
            .collect()
    }

    /// Rewrites the posting lists; returns the new id of each term.
    fn compact_terms(&mut self, slot_numbers: &[u32]) -> Vec<u32> {
        let mut numbers = vec![GONE; self.terms.len()];
        let mut kept = Vec::new();
        self.term_bytes = 0;
        for (id, old) in std::mem::take(&mut self.terms).into_iter().enumerate() {
            if old.frequency == 0 {
                continue;
            }
            let mut term = Term {
                bytes: Vec::with_capacity(old.bytes.len()),
                last_slot: 0,
                frequency: old.frequency,
            };
            for (slot, frequency) in Entries::new(&old.bytes) {
                let slot = slot_numbers[slot as usize];
                if slot != GONE {
                    term.push(slot, frequency);
                }
            }
            term.bytes.shrink_to_fit();
            self.term_bytes += term.bytes.capacity();
            numbers[id] = number(kept.len());
            kept.push(term);
        }
        self.terms = kept;
        self.vocabulary.retain(|_, id| {
            *id = numbers[*id as usize];
            *id != GONE
        });
        self.vocabulary.shrink_to_fit();
        self.term_bytes += self.vocabulary.keys().map(|text| text.len()).sum::<usize>();
        numbers
    }

    /// Rewrites everything that is kept per document.
    fn compact_documents(&mut self, slot_numbers: &[u32], term_numbers: &[u32]) {
        let count = self.slots.len();
        let mut keys = Vec::with_capacity(count);
        let mut lengths = Vec::with_capacity(count);
        let mut starts = Vec::with_capacity(count);
        let mut forward = Vec::with_capacity(self.forward.len());
        for slot in 0..number(slot_numbers.len()) {
            if slot_numbers[slot as usize] == GONE {
                continue;
            }
            starts.push(forward.len());
            let mut last_id = 0;
            for (id, frequency) in self.terms_of(slot) {
                let id = term_numbers[id as usize];
                write_entry(&mut forward, id - last_id, frequency);
                last_id = id;
            }
            keys.push(self.keys[slot as usize]);
            lengths.push(self.lengths[slot as usize]);
        }
        forward.shrink_to_fit();
        for slot in self.slots.values_mut() {
            *slot = slot_numbers[*slot as usize];
        }
        self.slots.shrink_to_fit();
        self.live = vec![u64::MAX; count.div_ceil(64)];
        if let Some(last) = self.live.last_mut()
            && !count.is_multiple_of(64)
        {
            *last = (1 << (count % 64)) - 1;
        }
        (self.keys, self.lengths, self.starts, self.forward) = (keys, lengths, starts, forward);
        self.scratch.clear();
    }
}

/// Prints counts alone: the terms are the text of memories.
impl fmt::Debug for KeywordPostings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeywordPostings")
            .field("documents", &self.len())
            .field("terms", &self.terms.len())
            .finish_non_exhaustive()
    }
}

impl Term {
    #[inline]
    fn push(&mut self, slot: u32, frequency: u32) {
        write_entry(&mut self.bytes, slot - self.last_slot, frequency);
        self.last_slot = slot;
    }
}

/// The part of the forward list that belongs to a slot.
fn document_terms<'a>(starts: &[usize], forward: &'a [u8], slot: u32) -> Entries<'a> {
    let slot = slot as usize;
    let end = starts.get(slot + 1).copied().unwrap_or(forward.len());
    Entries::new(&forward[starts[slot]..end])
}

/// A slot or a term id. Memory ends long before the range does.
fn number(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(number) if number != GONE => number,
        _ => panic!("an index holds at most {GONE} documents and terms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_follow_every_change() {
        let mut index = KeywordPostings::new();
        index.insert(1, 3, &[("tea", 2), ("green", 1)]);
        index.insert(2, 5, &[("tea", 1), ("tea", 3), ("milk", 0)]);
        assert_eq!((index.len(), index.average_length()), (2, 4.0));
        assert_eq!(index.document_frequency("tea"), 2);
        assert_eq!(index.document_frequency("milk"), 0);

        index.insert(1, 1, &[("milk", 1)]);
        assert_eq!((index.len(), index.average_length()), (2, 3.0));
        assert_eq!(index.document_frequency("tea"), 1);
        assert_eq!(index.document_frequency("green"), 0);

        assert!(index.remove(2));
        assert!(!index.remove(2));
        assert_eq!((index.len(), index.average_length()), (1, 1.0));
        assert!(index.contains(1) && !index.contains(2));
        assert_eq!(index.keys().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn compaction_forgets_unused_terms_and_keeps_the_rest() {
        let mut index = KeywordPostings::new();
        for key in 0..200_u64 {
            let own = format!("word{key}");
            index.insert(key, 2, &[(own.as_str(), 1), ("shared", 2)]);
        }
        let before = index.memory_bytes();
        for key in 0..150 {
            assert!(index.remove(key));
        }
        // More than 30 % were dead on the way, so less than that many are left.
        assert!(index.keys.len() < 200);
        index.compact();
        assert_eq!(index.keys.len(), 50);
        assert_eq!(index.terms.len(), 51);
        assert_eq!(index.vocabulary.len(), 51);
        assert_eq!(index.document_frequency("shared"), 50);
        assert_eq!(index.document_frequency("word10"), 0);
        assert_eq!(index.document_frequency("word199"), 1);
        assert!(index.memory_bytes() < before / 2);

        index.insert(10, 2, &[("word10", 1), ("shared", 2)]);
        assert_eq!(index.document_frequency("word10"), 1);
        assert_eq!(index.document_frequency("shared"), 51);
    }

    #[test]
    fn emptying_the_index_gives_its_memory_back() {
        let mut index = KeywordPostings::new();
        for key in 0..1_000_u64 {
            index.insert(key, 1, &[(format!("word{key}"), 1)]);
        }
        let full = index.memory_bytes();
        for key in 0..1_000 {
            index.remove(key);
        }
        index.compact();
        assert!(index.is_empty());
        assert!(index.memory_bytes() < full / 50);
        assert_eq!(index.average_length(), 0.0);
    }

    #[test]
    fn debug_output_holds_no_text() {
        let mut index = KeywordPostings::new();
        index.insert(1, 1, &[("secret", 1)]);
        let text = format!("{index:?}");
        assert!(text.contains("documents: 1") && !text.contains("secret"));
    }
}

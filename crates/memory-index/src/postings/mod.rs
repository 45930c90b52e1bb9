//! The keyword index of one tenant: what it stores, and how documents come and go.

mod bounded;
mod documents;
mod entries;
mod lists;
mod scratch;
mod search;
mod table;
mod vocabulary;

use std::fmt;

use self::documents::Documents;
use self::lists::Lists;
use self::scratch::ScratchPool;
pub use self::search::{Bm25, TermContribution};
use self::vocabulary::Vocabulary;
use crate::DocKey;

/// Dead slots are cleared away once they are more than this share of all slots, in percent. At 30
/// a query wades through at most three dead postings for seven live ones, and a removal pays for
/// the rewriting of at most two and a third live documents.
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
/// any more, are cleared away when more than 30 % of the slots (and at least 64) are dead: by the
/// removal (or replacement) that passes this bound and never by a search. That removal takes time
/// linear in the index; spread over the removals before it, each pays for the rewriting of at most
/// two and a third documents.
///
/// At most 4,294,967,294 documents fit, and 16 GiB of postings.
#[derive(Default)]
pub struct KeywordPostings {
    vocabulary: Vocabulary,
    lists: Lists,
    documents: Documents,
    /// A buffer for the terms of the document being inserted: (term id, frequency).
    incoming: Vec<(u32, u32)>,
    scratch: ScratchPool,
}

/// What is kept by slot beside the index, and has to follow when slots are numbered anew.
pub(crate) trait Columns {
    /// Keeps only the rows of these slots, which ascend; each row's place is its new slot.
    fn keep(&mut self, slots: &mut dyn Iterator<Item = u32>);
}

/// Nothing is kept beside the index.
impl Columns for () {
    fn keep(&mut self, _: &mut dyn Iterator<Item = u32>) {}
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
        self.insert_beside(key, length, terms, &mut ());
    }

    /// [`KeywordPostings::insert`] for an owner of columns; returns the document's slot.
    pub(crate) fn insert_beside<T: AsRef<str>>(
        &mut self,
        key: DocKey,
        length: u32,
        terms: &[(T, u32)],
        columns: &mut impl Columns,
    ) -> u32 {
        self.remove_beside(key, columns);

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
        let slot = self.documents.push(key, length, &incoming);
        for (id, frequency) in &incoming {
            self.lists.push(*id, slot, *frequency, length);
        }
        self.incoming = incoming;
        slot
    }

    /// Removes a document, and says whether it was there.
    pub fn remove(&mut self, key: DocKey) -> bool {
        self.remove_beside(key, &mut ())
    }

    /// [`KeywordPostings::remove`] for an owner of columns.
    pub(crate) fn remove_beside(&mut self, key: DocKey, columns: &mut impl Columns) -> bool {
        let Some(slot) = self.documents.remove(key) else { return false };
        for (id, _) in self.documents.terms(slot) {
            self.lists.forget(id);
        }
        let dead = self.dead();
        if dead >= MIN_DEAD && dead * 100 > self.documents.slots() * MAX_DEAD_PERCENT {
            self.compact_beside(columns);
        }
        true
    }

    /// The number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.documents.len()
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the document is in the index.
    #[must_use]
    pub fn contains(&self, key: DocKey) -> bool {
        self.slot(key).is_some()
    }

    /// The keys of all documents, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = DocKey> {
        self.documents.live_slots().map(|slot| self.documents.key(slot))
    }

    /// The number of documents that have the term.
    #[must_use]
    pub fn document_frequency(&self, term: &str) -> u32 {
        self.vocabulary.find(term).map_or(0, |id| self.lists.get(id).frequency)
    }

    /// The number of terms that are kept: those that a document has, and those that none has any
    /// more and that the next compaction drops.
    #[must_use]
    pub fn vocabulary_len(&self) -> usize {
        self.vocabulary.len()
    }

    /// The average length of a document in tokens; 0 where there is none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "an average needs no more than 53 bits")]
    pub fn average_length(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.documents.total_length as f64 / self.len() as f64 }
    }

    /// The bytes that the index occupies, spare capacity and buffers of searches included; what the
    /// allocator adds to each block is not.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.vocabulary.heap_bytes()
            + self.lists.heap_bytes()
            + self.documents.heap_bytes()
            + self.incoming.capacity() * size_of::<(u32, u32)>()
            + self.scratch.memory_bytes()
    }

    /// Clears away dead slots and unused terms now, as removals do by themselves in time.
    ///
    /// Both slots and term ids keep their order, so every list stays ascending.
    pub fn compact(&mut self) {
        self.compact_beside(&mut ());
    }

    /// The slot of a document.
    pub(crate) fn slot(&self, key: DocKey) -> Option<u32> {
        self.documents.slot(key)
    }

    fn compact_beside(&mut self, columns: &mut impl Columns) {
        if self.dead() == 0 {
            return;
        }
        let used: Vec<u32> =
            (0..number(self.lists.len())).filter(|id| self.lists.get(*id).frequency > 0).collect();
        let mut renamed = vec![GONE; self.lists.len()];
        for (place, id) in used.iter().enumerate() {
            renamed[*id as usize] = number(place);
        }
        self.vocabulary = self.vocabulary.kept(&used);
        columns.keep(
            &mut (0..number(self.documents.slots())).filter(|slot| self.documents.is_live(*slot)),
        );
        self.documents = self.documents.compacted(&renamed);

        let mut lists = Lists::default();
        used.iter().for_each(|_| lists.add());
        for slot in 0..number(self.documents.slots()) {
            let length = self.documents.length(slot);
            for (id, frequency) in self.documents.terms(slot) {
                lists.push(id, slot, frequency, length);
            }
        }
        lists.shrink();
        self.lists = lists;
        self.incoming = Vec::new();
        self.scratch.clear();
    }

    fn dead(&self) -> usize {
        self.documents.slots() - self.documents.len()
    }

    fn term_id(&mut self, text: &str) -> u32 {
        self.vocabulary.find(text).unwrap_or_else(|| {
            self.lists.add();
            self.vocabulary.add(text)
        })
    }
}

/// Prints counts alone: the terms are the text of memories.
impl fmt::Debug for KeywordPostings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeywordPostings")
            .field("documents", &self.len())
            .field("terms", &self.vocabulary.len())
            .finish_non_exhaustive()
    }
}

/// A slot, a term id or a place of 32 bits. Memory ends long before the range does.
pub(crate) fn number(index: usize) -> u32 {
    match u32::try_from(index) {
        Ok(number) if number != GONE => number,
        _ => panic!("an index holds at most {GONE} documents and terms"),
    }
}

/// Makes room for one more, an eighth at a time: what is kept for long should have little to spare.
pub(crate) fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(8));
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
        assert!(index.documents.slots() < 200);
        index.compact();
        assert_eq!(index.documents.slots(), 50);
        assert_eq!(index.lists.len(), 51);
        assert_eq!(index.vocabulary_len(), 51);
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

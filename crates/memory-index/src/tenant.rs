//! All the indexes of one tenant, kept in step with one another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::context::{Contexts, Surroundings};
use crate::hash::{KeyMap, map_bytes};
use crate::rows::Rows;
use crate::{DocKey, IndexError, KeywordPostings, VectorInput, VectorScan};

/// A document as an index takes it in.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct DocEntry<'a, T> {
    /// The store's row key.
    pub key: DocKey,
    /// What the store calls the document; an answer needs it, and no row is read for it.
    pub name: &'a str,
    /// The store's version of it.
    pub version: i64,
    /// The instant from which the document is invisible, in microseconds since 1970 UTC;
    /// [`i64::MAX`] for never.
    pub visible_until: i64,
    /// The length in tokens.
    pub doc_length: u32,
    /// The distinct terms with their frequencies.
    pub terms: &'a [(T, u32)],
    /// The vectors by the slot of their space.
    pub vectors: &'a [(u8, VectorInput<'a>)],
    /// What surrounds it.
    pub around: Surroundings<'a>,
}

impl<'a, T: AsRef<str>> DocEntry<'a, T> {
    /// A document without a name, that never expires and has no vector.
    #[must_use]
    pub fn new(key: DocKey, doc_length: u32, terms: &'a [(T, u32)]) -> Self {
        Self {
            key,
            name: "",
            version: 0,
            visible_until: i64::MAX,
            doc_length,
            terms,
            vectors: &[],
            around: Surroundings::default(),
        }
    }

    /// Sets the name and the version.
    #[must_use]
    pub fn named(mut self, name: &'a str, version: i64) -> Self {
        self.name = name;
        self.version = version;
        self
    }

    /// Sets the instant from which the document is invisible, in microseconds since 1970 UTC.
    #[must_use]
    pub fn visible_until(mut self, micros: i64) -> Self {
        self.visible_until = micros;
        self
    }

    /// Sets what surrounds the document.
    #[must_use]
    pub fn around(mut self, around: Surroundings<'a>) -> Self {
        self.around = around;
        self
    }

    /// Sets the vectors, each with the slot of its space.
    #[must_use]
    pub fn vectors(mut self, vectors: &'a [(u8, VectorInput<'a>)]) -> Self {
        self.vectors = vectors;
        self
    }
}

/// Prints counts in place of terms, which are the text of a memory, and of vectors.
impl<T> fmt::Debug for DocEntry<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocEntry")
            .field("key", &self.key)
            .field("visible_until", &self.visible_until)
            .field("doc_length", &self.doc_length)
            .field("terms", &self.terms.len())
            .field("vectors", &self.vectors.len())
            .finish()
    }
}

/// The derived indexes of one tenant: keyword postings, and one vector scan per embedding space.
///
/// It starts out empty at position 0. Whoever owns it brings it up to date, either from the
/// store's rows or from its change log, and notes how far it got in [`TenantIndex::set_position`].
#[derive(Debug, Default)]
pub struct TenantIndex {
    postings: KeywordPostings,
    spaces: BTreeMap<u8, VectorScan>,
    /// The documents that expire, by time; those that never do are not here.
    by_deadline: BTreeSet<(i64, DocKey)>,
    deadlines: KeyMap<i64>,
    rows: Rows,
    contexts: Contexts,
    position: i64,
}

/// The bytes of a B-tree entry, with its share of nodes that are two thirds full.
const DEADLINE_BYTES: usize = size_of::<(i64, DocKey)>() * 3 / 2;

impl TenantIndex {
    /// An empty index without vector spaces, at position 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The keyword index.
    #[must_use]
    pub fn keywords(&self) -> &KeywordPostings {
        &self.postings
    }

    /// The vector index of a space.
    #[must_use]
    pub fn space(&self, space: u8) -> Option<&VectorScan> {
        self.spaces.get(&space)
    }

    /// The slots of the vector spaces, ascending.
    pub fn spaces(&self) -> impl Iterator<Item = u8> {
        self.spaces.keys().copied()
    }

    /// Adds a vector space, and returns the one that had this slot before.
    pub fn set_space(&mut self, space: u8, scan: VectorScan) -> Option<VectorScan> {
        self.spaces.insert(space, scan)
    }

    /// Drops a vector space with all its vectors.
    pub fn remove_space(&mut self, space: u8) -> Option<VectorScan> {
        self.spaces.remove(&space)
    }

    /// Adds a document, replacing the one with the same key as a whole: a vector that the new one
    /// does not bring is gone. Where a space is listed twice the last vector counts.
    ///
    /// A document that has expired already is taken in and goes with the next
    /// [`TenantIndex::expire`].
    ///
    /// # Errors
    ///
    /// [`IndexError::UnknownSpace`], or [`IndexError::Vector`] for a vector that does not fit its
    /// space; the index is then as it was.
    pub fn upsert<T: AsRef<str>>(&mut self, entry: &DocEntry<'_, T>) -> Result<(), IndexError> {
        for (space, vector) in entry.vectors {
            let scan = self.spaces.get(space).ok_or(IndexError::UnknownSpace { space: *space })?;
            scan.check(*vector).map_err(|source| IndexError::Vector { space: *space, source })?;
        }
        let slot =
            self.postings.insert_beside(entry.key, entry.doc_length, entry.terms, &mut self.rows);
        self.rows.push(entry.name, entry.version);
        debug_assert_eq!(self.rows.name(slot), (entry.name, entry.version));
        for (space, scan) in &mut self.spaces {
            match entry.vectors.iter().rev().find(|(target, _)| target == space) {
                Some((_, vector)) => scan
                    .put(entry.key, *vector)
                    .map_err(|source| IndexError::Vector { space: *space, source })?,
                None => {
                    scan.remove(entry.key);
                }
            }
        }
        self.contexts.put(entry.key, &entry.around);
        self.forget_deadline(entry.key);
        if entry.visible_until != i64::MAX {
            self.deadlines.insert(entry.key, entry.visible_until);
            self.by_deadline.insert((entry.visible_until, entry.key));
        }
        Ok(())
    }

    /// Removes a document with its vectors, and says whether it was there.
    pub fn remove(&mut self, key: DocKey) -> bool {
        self.forget_deadline(key);
        self.contexts.remove(key);
        for scan in self.spaces.values_mut() {
            scan.remove(key);
        }
        self.postings.remove_beside(key, &mut self.rows)
    }

    /// Removes every document with `visible_until <= now`, and returns how many they were. `now` is
    /// in microseconds since 1970 UTC. Costs nothing where none is due.
    pub fn expire(&mut self, now: i64) -> usize {
        let mut removed = 0;
        while let Some((deadline, key)) = self.by_deadline.first().copied()
            && deadline <= now
        {
            self.remove(key);
            removed += 1;
        }
        removed
    }

    /// The instant at which [`TenantIndex::expire`] next has something to do, in microseconds since
    /// 1970 UTC. A reader compares it with the time before it asks for the writer's lock.
    #[must_use]
    pub fn next_expiry(&self) -> Option<i64> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// The number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.postings.len()
    }

    /// Whether there is no document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.postings.is_empty()
    }

    /// Whether the document is in the index.
    #[must_use]
    pub fn contains(&self, key: DocKey) -> bool {
        self.postings.contains(key)
    }

    /// The name and the version that a document came with.
    #[must_use]
    pub fn name(&self, key: DocKey) -> Option<(&str, i64)> {
        self.postings.slot(key).map(|slot| self.rows.name(slot))
    }

    /// What surrounds the documents.
    #[must_use]
    pub fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// The position in the store's change log that the index reflects; 0 for a new one.
    #[must_use]
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Notes the position in the store's change log that the index now reflects.
    pub fn set_position(&mut self, position: i64) {
        self.position = position;
    }

    /// Removes every document; the vector spaces stay, empty, and the position is 0 again.
    pub fn clear(&mut self) {
        let spaces = std::mem::take(&mut self.spaces);
        *self = Self::default();
        for (space, scan) in spaces {
            self.spaces.insert(space, scan.emptied());
        }
    }

    /// The bytes that the indexes occupy, spare capacity included; what the allocator adds to each
    /// block is not, and the deadlines of documents that expire are an estimate. Cheap: nothing is
    /// walked but the list of spaces.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>()
            + self.postings.memory_bytes()
            + self.spaces.values().map(VectorScan::memory_bytes).sum::<usize>()
            + self.by_deadline.len() * DEADLINE_BYTES
            + map_bytes::<DocKey, i64>(self.deadlines.capacity())
            + self.rows.heap_bytes()
            + self.contexts.memory_bytes()
    }

    fn forget_deadline(&mut self, key: DocKey) {
        if let Some(deadline) = self.deadlines.remove(&key) {
            self.by_deadline.remove(&(deadline, key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Bm25, Metric, Storage, VectorError};

    #[test]
    fn names_come_and_go_with_their_documents() {
        let mut index = TenantIndex::new();
        let entry = |name, version| DocEntry::new(7, 1, &[("tea", 1)]).named(name, version);
        index.upsert(&entry("a", 1)).unwrap();
        assert_eq!(index.name(7), Some(("a", 1)));
        let small = index.memory_bytes();
        let longer = "a much longer name than before ".repeat(9);
        index.upsert(&entry(&longer, 2)).unwrap();
        assert_eq!(index.name(7), Some((longer.as_str(), 2)));
        assert!(index.memory_bytes() > small);
        index.remove(7);
        assert_eq!(index.name(7), None);
    }

    /// Slots are numbered anew on the way; names, versions and dates stay with their documents.
    #[test]
    fn names_survive_compactions() {
        let mut index = TenantIndex::new();
        for round in 0..6_i64 {
            for key in 0..400_u64 {
                if (key + round.unsigned_abs()).is_multiple_of(3) {
                    let name = format!("document {key} of {round}");
                    let words = [("tea", 1)];
                    let entry = DocEntry::new(key, 1, &words).named(&name, round);
                    index.upsert(&entry.visible_until(10_000 + round)).unwrap();
                } else if key % 7 == 0 {
                    index.remove(key);
                    assert_eq!(index.name(key), None);
                }
            }
        }
        assert!(index.len() > 200);
        for key in index.keywords().keys() {
            let (name, version) = index.name(key).unwrap();
            assert_eq!(name, format!("document {key} of {version}"));
        }
    }

    fn index() -> TenantIndex {
        let mut index = TenantIndex::new();
        let scan = VectorScan::new(2, Metric::Cosine, Storage::CodesAndRows).unwrap();
        assert!(index.set_space(0, scan).is_none());
        index
    }

    fn found(index: &TenantIndex, term: &str) -> Vec<DocKey> {
        let hits = index.keywords().search(&[(term, 1.0)], 10, Bm25::default(), |_| true);
        hits.into_iter().map(|hit| hit.key).collect()
    }

    #[test]
    fn a_document_is_replaced_as_a_whole() {
        let mut index = index();
        let row = [1.0, 0.0];
        let vectors = [(0, VectorInput::Row(&row))];
        index.upsert(&DocEntry::new(1, 1, &[("tea", 1)]).vectors(&vectors)).unwrap();
        assert_eq!(found(&index, "tea"), [1]);
        assert!(index.space(0).unwrap().contains(1));

        index.upsert(&DocEntry::new(1, 1, &[("milk", 1)])).unwrap();
        assert!(found(&index, "tea").is_empty());
        assert_eq!(found(&index, "milk"), [1]);
        assert!(!index.space(0).unwrap().contains(1));
        assert_eq!(index.len(), 1);

        assert!(index.remove(1));
        assert!(!index.remove(1));
        assert!(index.is_empty());
    }

    #[test]
    fn a_bad_vector_changes_nothing() {
        let mut index = index();
        index.upsert(&DocEntry::new(1, 1, &[("tea", 1)])).unwrap();
        let (good, bad) = ([1.0, 0.0], [0.0, 0.0]);
        let unknown = [(0, VectorInput::Row(&good)), (3, VectorInput::Row(&good))];
        assert_eq!(
            index.upsert(&DocEntry::new(1, 1, &[("milk", 1)]).vectors(&unknown)),
            Err(IndexError::UnknownSpace { space: 3 })
        );
        let zero = [(0, VectorInput::Row(&bad))];
        assert_eq!(
            index.upsert(&DocEntry::new(1, 1, &[("milk", 1)]).vectors(&zero)),
            Err(IndexError::Vector { space: 0, source: VectorError::ZeroNorm })
        );
        assert_eq!(found(&index, "tea"), [1]);
        assert!(index.space(0).unwrap().is_empty());
    }

    #[test]
    fn documents_go_at_their_instant() {
        let mut index = index();
        let row = [1.0, 0.0];
        let vectors = [(0, VectorInput::Row(&row))];
        let tea = [("tea", 1)];
        index.upsert(&DocEntry::new(1, 1, &tea).visible_until(100).vectors(&vectors)).unwrap();
        index.upsert(&DocEntry::new(2, 1, &tea).visible_until(200)).unwrap();
        index.upsert(&DocEntry::new(3, 1, &tea)).unwrap();
        // The later date of a replaced document counts.
        index.upsert(&DocEntry::new(4, 1, &tea).visible_until(50)).unwrap();
        index.upsert(&DocEntry::new(4, 1, &tea).visible_until(300)).unwrap();
        assert_eq!(index.next_expiry(), Some(100));

        assert_eq!(index.expire(99), 0);
        assert!(index.contains(1));
        assert_eq!(index.expire(100), 1);
        assert!(!index.contains(1) && !index.space(0).unwrap().contains(1));
        assert_eq!(found(&index, "tea"), [2, 3, 4]);
        assert_eq!(index.expire(i64::MAX), 2);
        assert_eq!(found(&index, "tea"), [3]);
        assert_eq!(index.next_expiry(), None);
    }

    #[test]
    fn debug_output_holds_no_content() {
        let mut index = index();
        let row = [0.123_456, 1.0];
        let vectors = [(0, VectorInput::Row(&row))];
        let terms = [("secret", 1)];
        let entry = DocEntry::new(7, 1, &terms).vectors(&vectors);
        index.upsert(&entry).unwrap();
        let text = format!("{entry:?} {index:?} {vectors:?}");
        assert!(text.contains("key: 7") && text.contains("vectors: 1"), "{text}");
        assert!(!text.contains("secret") && !text.contains("0.123"), "{text}");
    }

    #[test]
    fn clearing_keeps_the_spaces() {
        let mut index = index();
        let row = [1.0, 0.0];
        let vectors = [(0, VectorInput::Row(&row))];
        index
            .upsert(&DocEntry::new(1, 1, &[("tea", 1)]).visible_until(5).vectors(&vectors))
            .unwrap();
        index.set_position(17);
        assert_eq!(index.position(), 17);
        index.clear();
        assert_eq!((index.len(), index.position(), index.next_expiry()), (0, 0, None));
        assert_eq!(index.spaces().collect::<Vec<_>>(), [0]);
        let scan = index.space(0).unwrap();
        assert_eq!((scan.len(), scan.dims(), scan.metric()), (0, 2, Metric::Cosine));
        assert!(index.remove_space(0).is_some());
        assert!(index.space(0).is_none());
    }

    #[test]
    fn memory_grows_with_what_is_held() {
        let mut index = index();
        let empty = index.memory_bytes();
        for key in 0..1_000_u64 {
            let words = [(format!("word{key}"), 1), ("shared".to_owned(), 1)];
            index.upsert(&DocEntry::new(key, 2, &words).visible_until(5)).unwrap();
        }
        let full = index.memory_bytes();
        assert!(full > empty + 1_000 * 40, "{full} bytes");
        assert!(full < empty + 1_000 * 400, "{full} bytes");
        index.expire(5);
        index.clear();
        assert!(index.memory_bytes() <= empty + 200);
    }
}

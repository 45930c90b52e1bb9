//! What a tenant's index keeps of each document beside its terms and vectors, by the slot that the
//! keyword postings give it.
//!
//! A column more belongs here: it is filled by [`Rows::push`], and [`Columns::keep`] carries it over
//! when slots are numbered anew.

use crate::postings::{Columns, grow, number};

/// Slots that share a start in `bases`.
const BLOCK: usize = 64;

/// The columns, each with a row for every slot, dead ones too.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    versions: Vec<i64>,
    names: Texts,
}

/// Texts by slot, one behind another.
#[derive(Default)]
struct Texts {
    bytes: String,
    /// Where the text of the first slot of each block starts.
    bases: Vec<usize>,
    /// Where each text starts, from its base; it ends where the next one starts.
    starts: Vec<u32>,
}

impl Rows {
    /// Adds the row of the next slot.
    pub(crate) fn push(&mut self, name: &str, version: i64) {
        grow(&mut self.versions);
        self.versions.push(version);
        self.names.push(name);
    }

    /// The name and the version of a slot.
    pub(crate) fn name(&self, slot: u32) -> (&str, i64) {
        (self.names.get(slot as usize), self.versions[slot as usize])
    }

    /// The heap bytes of the columns.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.versions.capacity() * size_of::<i64>() + self.names.heap_bytes()
    }
}

impl Columns for Rows {
    fn keep(&mut self, slots: &mut dyn Iterator<Item = u32>) {
        let mut kept = Self::default();
        for slot in slots {
            let (name, version) = self.name(slot);
            kept.push(name, version);
        }
        *self = kept;
    }
}

impl Texts {
    fn push(&mut self, text: &str) {
        if self.starts.len().is_multiple_of(BLOCK) {
            grow(&mut self.bases);
            self.bases.push(self.bytes.len());
        }
        let base = self.bases[self.starts.len() / BLOCK];
        grow(&mut self.starts);
        self.starts.push(number(self.bytes.len() - base));
        if self.bytes.capacity() - self.bytes.len() < text.len() {
            self.bytes.reserve_exact(text.len().max(self.bytes.len() / 8).max(64));
        }
        self.bytes.push_str(text);
    }

    fn get(&self, slot: usize) -> &str {
        let end =
            if slot + 1 < self.starts.len() { self.start(slot + 1) } else { self.bytes.len() };
        &self.bytes[self.start(slot)..end]
    }

    fn start(&self, slot: usize) -> usize {
        self.bases[slot / BLOCK] + self.starts[slot] as usize
    }

    fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
            + self.bases.capacity() * size_of::<usize>()
            + self.starts.capacity() * size_of::<u32>()
    }
}

/// Prints the number of texts alone.
impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Texts").field("len", &self.starts.len()).finish_non_exhaustive()
    }
}

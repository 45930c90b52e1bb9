//! The terms of an index: each has a number, handed out in order; texts lie one behind another.

use std::hash::{BuildHasher, RandomState};

use super::table::Table;
use super::{grow, number};

/// Terms by number and by text.
#[derive(Default)]
pub(crate) struct Vocabulary {
    texts: String,
    /// Where each text starts; it ends where the next one starts.
    starts: Vec<u32>,
    table: Table,
    /// Callers choose the terms, so the hash has a secret.
    hasher: RandomState,
}

impl Vocabulary {
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// The number of a term.
    #[inline]
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        self.table.find(self.hasher.hash_one(text), |id| self.text(id) == text)
    }

    /// Adds a term that is not there.
    pub(crate) fn add(&mut self, text: &str) -> u32 {
        let id = number(self.starts.len());
        let start = number(self.texts.len());
        if self.texts.capacity() - self.texts.len() < text.len() {
            self.texts.reserve_exact(text.len().max(self.texts.len() / 8).max(64));
        }
        self.texts.push_str(text);
        grow(&mut self.starts);
        self.starts.push(start);
        let Self { texts, starts, table, hasher } = self;
        table.insert(hasher.hash_one(text), id, |id| hasher.hash_one(text_of(texts, starts, id)));
        id
    }

    /// The terms of these numbers alone, which ascend; each is numbered by its place.
    pub(crate) fn kept(&self, ids: &[u32]) -> Self {
        let bytes = ids.iter().map(|id| self.text(*id).len()).sum();
        let mut kept = Self {
            texts: String::with_capacity(bytes),
            starts: Vec::with_capacity(ids.len()),
            table: Table::with_room(ids.len()),
            hasher: self.hasher.clone(),
        };
        for id in ids {
            kept.add(self.text(*id));
        }
        kept
    }

    /// The heap bytes of the terms.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.texts.capacity() + self.starts.capacity() * size_of::<u32>() + self.table.heap_bytes()
    }

    fn text(&self, id: u32) -> &str {
        text_of(&self.texts, &self.starts, id)
    }
}

fn text_of<'a>(texts: &'a str, starts: &[u32], id: u32) -> &'a str {
    let id = id as usize;
    let end = starts.get(id + 1).map_or(texts.len(), |end| *end as usize);
    &texts[starts[id] as usize..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_found_by_text_and_keep_their_order() {
        let mut terms = Vocabulary::default();
        for number in 0..1_000 {
            assert_eq!(terms.find(&format!("word{number}")), None);
            assert_eq!(terms.add(&format!("word{number}")), number);
        }
        let third: Vec<u32> = (0..1_000).filter(|id| id % 3 == 0).collect();
        let kept = terms.kept(&third);
        assert_eq!(kept.len(), 334);
        assert!(kept.heap_bytes() < terms.heap_bytes() / 2);
        for number in 0..1_000 {
            let text = format!("word{number}");
            assert_eq!(terms.find(&text), Some(number));
            assert_eq!(kept.find(&text), (number % 3 == 0).then_some(number / 3));
        }
        assert_eq!(terms.find(""), None);
    }
}

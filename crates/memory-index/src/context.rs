//! What surrounds each document: its conversation and its neighbours there, its author, its time.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use crate::DocKey;
use crate::hash::{KeyMap, map_bytes};

/// The surroundings of a document, as an index takes them in.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Surroundings<'a> {
    /// The number of its conversation; `None` for none.
    pub session: Option<u64>,
    /// Whose words it is.
    pub author: Option<&'a str>,
    /// When it occurred, in microseconds since 1970 UTC; documents of one instant follow one
    /// another by their keys.
    pub time: i64,
    /// How important it is, in [0, 1].
    pub importance: Option<f64>,
}

/// Names stay out of logs.
impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("session", &self.session)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Row {
    session: Option<u64>,
    author: Option<Arc<str>>,
    time: i64,
    importance: Option<f32>,
}

/// The surroundings of all documents of a tenant.
#[derive(Default)]
pub struct Contexts {
    rows: KeyMap<Row>,
    /// The documents of conversations, by conversation, time and key.
    order: BTreeSet<(u64, i64, DocKey)>,
    /// Each author once, with the number of documents.
    authors: HashMap<Arc<str>, u32>,
    author_bytes: usize,
}

/// Names stay out of logs.
impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contexts")
            .field("rows", &self.rows.len())
            .field("in_conversations", &self.order.len())
            .field("authors", &self.authors.len())
            .finish()
    }
}

/// The bytes of a B-tree entry, with its share of nodes that are two thirds full.
const ORDER_BYTES: usize = size_of::<(u64, i64, DocKey)>() * 3 / 2;

impl Contexts {
    pub(crate) fn put(&mut self, key: DocKey, around: &Surroundings<'_>) {
        self.remove(key);
        let author = around.author.map(|name| {
            if let Some((known, _)) = self.authors.get_key_value(name) {
                return Arc::clone(known);
            }
            self.author_bytes += name.len();
            Arc::from(name)
        });
        if let Some(author) = &author {
            *self.authors.entry(Arc::clone(author)).or_insert(0) += 1;
        }
        if let Some(session) = around.session {
            self.order.insert((session, around.time, key));
        }
        #[expect(clippy::cast_possible_truncation, reason = "24 bits of importance are enough")]
        let importance = around.importance.map(|importance| importance as f32);
        let row = Row { session: around.session, author, time: around.time, importance };
        self.rows.insert(key, row);
    }

    pub(crate) fn remove(&mut self, key: DocKey) {
        let Some(row) = self.rows.remove(&key) else { return };
        if let Some(session) = row.session {
            self.order.remove(&(session, row.time, key));
        }
        if let Some(author) = row.author
            && let Some(count) = self.authors.get_mut(&author)
        {
            *count -= 1;
            if *count == 0 {
                self.authors.remove(&author);
                self.author_bytes -= author.len();
            }
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        map_bytes::<DocKey, Row>(self.rows.capacity())
            + map_bytes::<Arc<str>, u32>(self.authors.capacity())
            + self.author_bytes
            + self.order.len() * ORDER_BYTES
    }

    /// The surroundings of a document.
    #[must_use]
    pub fn get(&self, key: DocKey) -> Option<Surroundings<'_>> {
        let row = self.rows.get(&key)?;
        Some(Surroundings {
            session: row.session,
            author: row.author.as_deref(),
            time: row.time,
            importance: row.importance.map(f64::from),
        })
    }

    /// The author of a document, shared.
    #[must_use]
    pub fn author(&self, key: DocKey) -> Option<Arc<str>> {
        self.rows.get(&key)?.author.clone()
    }

    /// All authors, each once, in no order.
    pub fn authors(&self) -> impl Iterator<Item = &str> {
        self.authors.keys().map(|author| &**author)
    }

    /// The documents of the same conversation after this one, nearest first.
    pub fn after(&self, key: DocKey) -> impl Iterator<Item = DocKey> {
        let place = self.place(key);
        let end = place.map(|(session, ..)| (session, i64::MAX, DocKey::MAX));
        let range = place.zip(end).map(|(place, end)| {
            self.order.range((std::ops::Bound::Excluded(place), std::ops::Bound::Included(end)))
        });
        range.into_iter().flatten().map(|(.., key)| *key)
    }

    /// The documents of the same conversation before this one, nearest first.
    pub fn before(&self, key: DocKey) -> impl Iterator<Item = DocKey> {
        let place = self.place(key);
        let range =
            place.map(|place| self.order.range((place.0, i64::MIN, DocKey::MIN)..place).rev());
        range.into_iter().flatten().map(|(.., key)| *key)
    }

    fn place(&self, key: DocKey) -> Option<(u64, i64, DocKey)> {
        let row = self.rows.get(&key)?;
        Some((row.session?, row.time, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(session: Option<u64>, author: Option<&'static str>, time: i64) -> Surroundings<'static> {
        Surroundings { session, author, time, importance: Some(0.5) }
    }

    #[test]
    fn neighbours_follow_time_within_one_conversation() {
        let mut contexts = Contexts::default();
        // Keys against time; 40 and 41 at one instant; 50 elsewhere; 60 nowhere.
        for (key, around) in [
            (30, at(Some(1), None, 5)),
            (20, at(Some(1), None, 9)),
            (41, at(Some(1), None, 7)),
            (40, at(Some(1), None, 7)),
            (50, at(Some(2), None, 6)),
            (60, at(None, None, 6)),
        ] {
            contexts.put(key, &around);
        }
        let after = |key| contexts.after(key).collect::<Vec<_>>();
        let before = |key| contexts.before(key).collect::<Vec<_>>();
        assert_eq!(after(30), [40, 41, 20]);
        assert_eq!(before(20), [41, 40, 30]);
        assert_eq!(before(40), [30]);
        assert!(after(20).is_empty() && before(30).is_empty());
        assert!(after(50).is_empty() && before(50).is_empty());
        assert!(after(60).is_empty() && before(60).is_empty());
        assert!(after(99).is_empty());
    }

    #[test]
    fn what_goes_leaves_nothing() {
        let mut contexts = Contexts::default();
        contexts.put(1, &at(Some(1), Some("Ada"), 1));
        contexts.put(2, &at(Some(1), Some("Ada"), 2));
        contexts.put(2, &at(Some(1), Some("Bob"), 3));
        assert_eq!(contexts.after(1).collect::<Vec<_>>(), [2]);
        assert_eq!(contexts.get(2).unwrap().author, Some("Bob"));
        contexts.remove(1);
        assert_eq!(contexts.authors().collect::<Vec<_>>(), ["Bob"]);
        assert!(contexts.before(2).next().is_none());
        contexts.remove(2);
        assert_eq!((contexts.authors().count(), contexts.author_bytes), (0, 0));
        assert!(contexts.order.is_empty() && contexts.get(2).is_none());
    }
}

//! Which indexes a tenant has: one small document in `iv` of the tenant's state.
//!
//! It is the truth: it names an index before the index is made, and one that has gone before it is
//! dropped, so that whoever finds it after a crash goes on. Every index has a number that the tenant
//! never gave before, and every change swaps the whole document, if it is still what was read.

use std::collections::BTreeMap;

use memory_core::traits::TenantSpaces;
use memory_core::{EmbeddingSpace, SpaceId};
use serde::{Deserialize, Serialize};

use super::schema::Kind;

/// The indexes of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    /// What they are made as.
    pub(super) mark: String,
    /// The last number that was given.
    last: u64,
    /// The index of the words.
    pub(super) words: Index,
    /// The indexes of the vectors of each space.
    pub(super) spaces: BTreeMap<SpaceId, Vectors>,
    /// Indexes that are no longer used and may still be there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) dropped: Vec<String>,
}

/// An index: `w`, `f` or `h` and its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Index {
    /// Its name.
    pub(super) name: String,
    /// Whether it may lack memories that were there before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) building: bool,
}

/// The indexes of the vectors of one space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Vectors {
    /// The one that is used.
    pub(super) now: Index,
    /// The one that is to be, of the other kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Index>,
}

impl Table {
    /// Indexes made as `mark`, all of them still to be made, in place of others.
    pub(super) fn new(old: Option<&Self>, mark: &str, spaces: &TenantSpaces, kind: Kind) -> Self {
        let mut table = Self { mark: mark.to_owned(), ..Self::default() };
        if let Some(old) = old {
            table.last = old.last;
            table.dropped.clone_from(&old.dropped);
            table.dropped.extend(old.names());
        }
        table.words = table.give("w");
        for space in named(spaces) {
            table.add(space, kind);
        }
        table
    }

    /// The names of all indexes that are used or to be used.
    pub(super) fn names(&self) -> Vec<String> {
        let vectors =
            self.spaces.values().flat_map(|space| [Some(&space.now), space.next.as_ref()]);
        std::iter::once(&self.words)
            .chain(vectors.flatten())
            .map(|index| index.name.clone())
            .filter(|name| !name.is_empty())
            .collect()
    }

    /// Takes in spaces that came and drops those that went. Returns whether anything changed.
    pub(super) fn follow(&mut self, spaces: &TenantSpaces, kind: Kind) -> bool {
        let gone: Vec<_> =
            self.spaces.keys().filter(|id| spaces.find(id).is_none()).cloned().collect();
        let mut changed = !gone.is_empty();
        for id in gone {
            if let Some(space) = self.spaces.remove(&id) {
                self.dropped.push(space.now.name);
                self.dropped.extend(space.next.map(|next| next.name));
            }
        }
        for space in named(spaces) {
            if !self.spaces.contains_key(&space.id()) {
                self.add(space, kind);
                changed = true;
            }
        }
        changed
    }

    /// Marks an index as whole. Where it is to take another's place it does.
    pub(super) fn whole(&mut self, name: &str) {
        if self.words.name == name {
            self.words.building = false;
        }
        for space in self.spaces.values_mut() {
            if space.now.name == name {
                space.now.building = false;
            }
            if let Some(next) = space.next.take_if(|next| next.name == name) {
                let old = std::mem::replace(&mut space.now, Index { building: false, ..next });
                self.dropped.push(old.name);
            }
        }
    }

    /// Marks all indexes as whole: there is nothing that they could lack.
    pub(super) fn all_whole(&mut self) {
        for name in self.names() {
            self.whole(&name);
        }
    }

    /// Puts a new index in the place of one that was found to be missing.
    pub(super) fn lost(&mut self, name: &str) {
        if self.words.name == name {
            self.words = self.give("w");
        }
        let ids: Vec<_> = self.spaces.keys().cloned().collect();
        for id in ids {
            let Some(space) = self.spaces.get(&id) else { continue };
            let (now, next) = (space.now.name == name, space.next.as_ref());
            let next = next.is_some_and(|next| next.name == name);
            let given = self.give(letter(kind_of(name)));
            if let Some(space) = self.spaces.get_mut(&id) {
                if now {
                    space.now = given;
                } else if next {
                    space.next = Some(given);
                }
            }
        }
    }

    /// Begins to change how the vectors of a space are indexed. Returns whether it is a change.
    pub(super) fn switch(&mut self, id: &SpaceId, kind: Kind) -> bool {
        let Some(space) = self.spaces.get(id) else { return false };
        if space.next.is_some() || kind_of(&space.now.name) == kind {
            return false;
        }
        let next = self.give(letter(kind));
        if let Some(space) = self.spaces.get_mut(id) {
            space.next = Some(next);
        }
        true
    }

    /// The indexes that may lack memories, and the space of each; none of the words.
    pub(super) fn building(&self) -> Vec<(String, Option<SpaceId>)> {
        let mut building = Vec::new();
        if self.words.building {
            building.push((self.words.name.clone(), None));
        }
        for (id, space) in &self.spaces {
            for index in std::iter::once(&space.now).chain(&space.next) {
                if index.building {
                    building.push((index.name.clone(), Some(id.clone())));
                }
            }
        }
        building
    }

    fn add(&mut self, space: &EmbeddingSpace, kind: Kind) {
        let now = self.give(letter(kind));
        self.spaces.insert(space.id(), Vectors { now, next: None });
    }

    fn give(&mut self, letter: &str) -> Index {
        self.last += 1;
        Index { name: format!("{letter}{}", self.last), building: true }
    }
}

fn named(spaces: &TenantSpaces) -> impl Iterator<Item = &EmbeddingSpace> {
    spaces.active.iter().chain(&spaces.next)
}

fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Flat => "f",
        Kind::Graph => "h",
    }
}

/// How the index of a name holds vectors.
pub(super) fn kind_of(name: &str) -> Kind {
    if name.starts_with('h') { Kind::Graph } else { Kind::Flat }
}

/// The kind that so many memories ask for. What is a graph stays one down to half as many, so that
/// a tenant at the border does not change back and forth.
pub(super) fn wanted(now: Option<Kind>, memories: u64, flat_up_to: u64) -> Kind {
    let border = if now == Some(Kind::Graph) { flat_up_to / 2 } else { flat_up_to };
    if memories > border { Kind::Graph } else { Kind::Flat }
}

#[cfg(test)]
mod tests {
    use memory_core::Metric;

    use super::*;

    fn spaces(active: &[&str]) -> TenantSpaces {
        let space = |name: &&str| EmbeddingSpace::new(*name, "1", 2, Metric::Dot).unwrap();
        TenantSpaces {
            active: active.first().map(space),
            next: active.get(1).map(space),
            version: 1,
        }
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut table = Table::new(None, "1", &spaces(&["a"]), Kind::Flat);
        let mut seen: std::collections::BTreeSet<_> = table.names().into_iter().collect();
        assert_eq!(seen.len(), 2);
        assert!(table.follow(&spaces(&["a", "b"]), Kind::Graph));
        assert!(!table.follow(&spaces(&["a", "b"]), Kind::Flat), "nothing came or went");
        assert!(table.follow(&spaces(&["b"]), Kind::Flat));
        assert_eq!(table.dropped.len(), 1);
        let name = table.names().pop().unwrap();
        table.lost(&name);
        assert!(!table.names().contains(&name));
        let next = Table::new(Some(&table), "2", &spaces(&["b"]), Kind::Flat);
        for name in table.names() {
            assert!(next.dropped.contains(&name) && !next.names().contains(&name));
        }
        seen.extend(next.dropped.iter().cloned());
        assert!(next.names().iter().all(|name| !seen.contains(name)));
    }

    #[test]
    fn an_index_takes_the_others_place_when_it_is_whole() {
        let mut table = Table::new(None, "1", &spaces(&["a"]), Kind::Flat);
        assert_eq!(table.building().len(), 2);
        table.all_whole();
        assert!(table.building().is_empty());
        let id = spaces(&["a"]).active.unwrap().id();
        assert!(!table.switch(&id, Kind::Flat), "it is one");
        assert!(table.switch(&id, Kind::Graph) && !table.switch(&id, Kind::Graph));
        let old = table.spaces[&id].now.name.clone();
        let [(next, Some(_))] = &table.building()[..] else { panic!("one is building") };
        let next = next.clone();
        table.whole(&next);
        assert_eq!(table.spaces[&id].now, Index { name: next, building: false });
        assert_eq!(table.dropped, [old]);
        let text = serde_json::to_string(&table).unwrap();
        assert_eq!(serde_json::from_str::<Table>(&text).unwrap(), table);
    }

    #[test]
    fn the_border_between_the_kinds_is_wide() {
        assert_eq!(wanted(None, 10, 10), Kind::Flat);
        assert_eq!(wanted(None, 11, 10), Kind::Graph);
        assert_eq!(wanted(Some(Kind::Graph), 6, 10), Kind::Graph);
        assert_eq!(wanted(Some(Kind::Graph), 5, 10), Kind::Flat);
        assert_eq!(wanted(Some(Kind::Flat), 1, 0), Kind::Graph);
    }
}

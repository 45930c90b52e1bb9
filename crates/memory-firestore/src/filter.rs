//! Filters as unions of boxes: what the service's queries can say.
//!
//! A box holds, for each stored field that it constrains, the set of values that the field may have,
//! and the strings that lists must hold. A filter is true of a memory where one of its boxes is.
//! Every operator is a set of values and its negation the complement within the field's domain, so
//! `not` needs nothing of the server; only a list's member cannot be negated.

mod domain;
mod interval;

use std::collections::{BTreeMap, BTreeSet};

use memory_core::{CompareOp, Error, Field, Filter, MetaKey, Result, Timestamp};

use crate::settings::{FilterKeyType, FirestoreSettings};
pub(crate) use domain::domain;
pub(crate) use interval::{Interval, Point, Set};

/// Most boxes of a filter: ten requests of the 30 alternatives that one may have.
const MOST_BOXES: usize = 300;
/// Most boxes that are looked at on the way: a bound on the work, far above what filters of people
/// need.
const MOST_WORK: usize = 20_000;

/// Conditions that all hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    /// The values that fields may have; a field that is not here may have any.
    pub(crate) sets: BTreeMap<Field, Set>,
    /// The strings that the lists of metadata keys hold.
    pub(crate) contains: BTreeSet<(MetaKey, String)>,
}

impl Conditions {
    /// Both; `None` where they contradict each other.
    fn meet(&self, other: &Self) -> Option<Self> {
        let mut both = self.clone();
        for (field, set) in &other.sets {
            let set = match both.sets.get(field) {
                Some(own) => own.meet(set),
                None => set.clone(),
            };
            if set.is_none() {
                return None;
            }
            both.sets.insert(field.clone(), set);
        }
        both.contains.extend(other.contains.iter().cloned());
        Some(both)
    }

    /// Whether it is true of whatever `other` is true of.
    fn covers(&self, other: &Self) -> bool {
        self.contains.is_subset(&other.contains)
            && self.sets.iter().all(|(field, set)| {
                other.sets.get(field).is_some_and(|narrower| set.covers(narrower))
            })
    }

    /// The field in which alone two of them differ.
    fn differs_in<'a>(&'a self, other: &'a Self) -> Option<&'a Field> {
        if self.contains != other.contains || self.sets.len() != other.sets.len() {
            return None;
        }
        let mut differing = None;
        for ((field, set), (other_field, other_set)) in self.sets.iter().zip(&other.sets) {
            if field != other_field {
                return None;
            }
            if set != other_set {
                if differing.is_some() {
                    return None;
                }
                differing = Some(field);
            }
        }
        differing
    }

    #[cfg(test)]
    fn admits(&self, item: &memory_core::MemoryItem) -> bool {
        self.sets.iter().all(|(field, set)| set.holds(&domain::stored(field, item)))
            && self.contains.iter().all(|(key, text)| {
                Filter::Contains(Field::Metadata(key.clone()), text.clone()).matches(item)
            })
    }
}

/// A filter as boxes: true where one of them is.
///
/// `now` is the instant of the read: an expired memory passes no filter.
///
/// # Errors
/// `Unsupported`: a metadata key that is not declared, a list's member of a key that is not declared
/// as a list, negated or twice in one alternative, and a filter of too many alternatives.
pub(crate) fn boxes(
    settings: &FirestoreSettings,
    filter: &Filter,
    now: Timestamp,
) -> Result<Vec<Conditions>> {
    let mut reader = Reader { settings, now, work: 0 };
    let boxes = reader.read(filter, false)?;
    if boxes.iter().any(|conditions| conditions.contains.len() > 1) {
        return Err(Error::unsupported(
            "Firestore takes one `contains` in each alternative of a filter: ask for one, and look \
             for the other in what comes back",
        ));
    }
    Ok(boxes)
}

struct Reader<'a> {
    settings: &'a FirestoreSettings,
    now: Timestamp,
    work: usize,
}

impl Reader<'_> {
    fn read(&mut self, filter: &Filter, negated: bool) -> Result<Vec<Conditions>> {
        match (filter, negated) {
            (Filter::All, false) => Ok(vec![Conditions::default()]),
            (Filter::All, true) => Ok(Vec::new()),
            (Filter::Not(inner), _) => self.read(inner, !negated),
            (Filter::And(filters), false) | (Filter::Or(filters), true) => {
                let mut all = vec![Conditions::default()];
                for filter in filters {
                    // Each is read, also where nothing is left: what is not declared is always named.
                    let next = self.read(filter, negated)?;
                    let mut met = Vec::new();
                    for a in &all {
                        for b in &next {
                            if let Some(both) = a.meet(b) {
                                self.add(&mut met, both)?;
                            }
                        }
                    }
                    all = met;
                }
                Ok(all)
            }
            (Filter::Or(filters), false) | (Filter::And(filters), true) => {
                let mut any = Vec::new();
                for filter in filters {
                    for conditions in self.read(filter, negated)? {
                        self.add(&mut any, conditions)?;
                    }
                }
                Ok(any)
            }
            (Filter::Contains(field, text), _) => self.contains(field, text, negated),
            (Filter::Compare(field, op, value), _) => {
                let set = domain::compare(field, *op, value, self.now);
                self.atom(field, &set, negated)
            }
            (Filter::In(field, values), _) => {
                let set = values.iter().fold(Set::none(), |set, value| {
                    set.join(&domain::compare(field, CompareOp::Eq, value, self.now))
                });
                self.atom(field, &set, negated)
            }
            (Filter::Exists(field), _) => {
                self.atom(field, &domain::exists(field, self.now), negated)
            }
        }
    }

    fn atom(&self, field: &Field, set: &Set, negated: bool) -> Result<Vec<Conditions>> {
        if let Field::Metadata(key) = field {
            self.declared(key)?;
        }
        let domain = domain(field, self.now);
        let set = if negated { set.complement(&domain) } else { set.meet(&domain) };
        if set.is_none() {
            return Ok(Vec::new());
        }
        let mut conditions = Conditions::default();
        if set != domain {
            conditions.sets.insert(field.clone(), set);
        }
        Ok(vec![conditions])
    }

    fn contains(&self, field: &Field, text: &str, negated: bool) -> Result<Vec<Conditions>> {
        let Field::Metadata(key) = field else {
            return Ok(if negated { vec![Conditions::default()] } else { Vec::new() });
        };
        if self.declared(key)? != FilterKeyType::List {
            return Err(Error::unsupported(format!(
                "`contains` needs the metadata key {key:?} to be declared as a list in the setting \
                 filter_keys"
            )));
        }
        if negated {
            return Err(Error::unsupported(format!(
                "Firestore cannot ask for lists of {field} that do not hold a string: leave the \
                 `not` out, and look at what comes back"
            )));
        }
        let contains = BTreeSet::from([(key.clone(), text.to_owned())]);
        Ok(vec![Conditions { contains, ..Conditions::default() }])
    }

    fn declared(&self, key: &MetaKey) -> Result<FilterKeyType> {
        self.settings.filter_keys.get(key).copied().ok_or_else(|| {
            Error::unsupported(format!(
                "filters may name declared metadata keys only, and {:?} is not one: declare it in \
                 the setting filter_keys",
                key.as_str()
            ))
        })
    }

    /// Adds a box to a union: what is covered is left out, what differs in one field is joined.
    fn add(&mut self, union: &mut Vec<Conditions>, mut new: Conditions) -> Result<()> {
        'again: loop {
            self.work += 1;
            if self.work > MOST_WORK {
                return Err(too_many());
            }
            if union.iter().any(|old| old.covers(&new)) {
                return Ok(());
            }
            union.retain(|old| !new.covers(old));
            for at in 0..union.len() {
                let Some(field) = union[at].differs_in(&new).cloned() else { continue };
                let old = union.remove(at);
                let joined = match (old.sets.get(&field), new.sets.get(&field)) {
                    (Some(a), Some(b)) => a.join(b),
                    _ => domain(&field, self.now),
                };
                if joined == domain(&field, self.now) {
                    new.sets.remove(&field);
                } else {
                    new.sets.insert(field, joined);
                }
                continue 'again;
            }
            if union.len() == MOST_BOXES {
                return Err(too_many());
            }
            union.push(new);
            return Ok(());
        }
    }
}

/// The error of a filter that has more alternatives than are asked for.
pub(crate) fn too_many() -> Error {
    Error::unsupported(format!(
        "the filter comes to more than {MOST_BOXES} alternatives: make it simpler, or ask in parts"
    ))
}

#[cfg(test)]
mod tests;

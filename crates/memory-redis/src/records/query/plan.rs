//! Which sorted set a query walks along, and between which bounds.

use memory_core::{
    CompareOp, CursorKey, Direction, Error, Field, Filter, OrderField, Query, Result, Scalar,
};

use crate::fields::sortable;
use crate::settings::RedisSettings;

/// Digits before the id of a member.
const DIGITS: usize = 20;
/// After every text that begins with what stands before it: no id has this byte.
const AFTER: u8 = 0xff;

/// A walk along a sorted set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// The set, after the tenant's base.
    set: String,
    /// Bounds as ZRANGEBYLEX has them.
    lower: Vec<u8>,
    upper: Vec<u8>,
    is_down: bool,
    /// Bytes of a member before the id.
    head: usize,
}

impl Walk {
    fn all(set: String, head: usize, is_down: bool) -> Self {
        Self { set, lower: b"-".to_vec(), upper: b"+".to_vec(), is_down, head }
    }

    /// Goes on after a member.
    pub(super) fn go_on_after(&mut self, member: &[u8]) {
        let bound = [b"(", member].concat();
        if self.is_down {
            self.upper = bound;
        } else {
            self.lower = bound;
        }
    }

    /// What the script takes before the fields.
    pub(super) fn args(&self, most: usize) -> Vec<Vec<u8>> {
        vec![
            self.set.clone().into_bytes(),
            self.lower.clone(),
            self.upper.clone(),
            if self.is_down { b"1".to_vec() } else { Vec::new() },
            most.to_string().into_bytes(),
            self.head.to_string().into_bytes(),
        ]
    }

    /// Leaves out what does not lie between two times, both included.
    fn between(&mut self, (from, to): (Option<i64>, Option<i64>)) {
        if let Some(from) = from {
            self.lower = [b"[", sortable(from).as_bytes()].concat();
        }
        if let Some(to) = to {
            self.upper = [b"(", sortable(to).as_bytes(), &[AFTER]].concat();
        }
    }
}

/// How a page is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) walk: Walk,
    /// Whether most of what the walk meets passes.
    pub(super) is_likely: bool,
    /// The members of an owner that the walk, in another order, would look for among all: where they
    /// are few, they are read and put in order instead.
    pub(super) few: Option<Walk>,
}

impl Plan {
    pub(super) fn of(query: &Query, after: Option<&CursorKey>) -> Self {
        let is_down = query.order.direction == Direction::Descending;
        let parts = conjuncts(&query.filter);
        let order = |set: &str| set.to_owned();
        let (set, head) = match query.order.field {
            OrderField::OccurredAt => (owner(&parts).unwrap_or_else(|| order("x:o")), DIGITS),
            OrderField::CreatedAt => (order("x:c"), DIGITS),
            OrderField::UpdatedAt => (order("x:u"), DIGITS),
            OrderField::Id => (order("x:i"), 0),
        };
        let is_likely = query.filter.is_all()
            || query.order.field == OrderField::OccurredAt
                && parts.iter().all(|part| owned(part).is_some() || is_span(part));
        let mut walk = Walk::all(set, head, is_down);
        let field = match query.order.field {
            OrderField::OccurredAt => Some(Field::OccurredAt),
            OrderField::CreatedAt => Some(Field::CreatedAt),
            OrderField::UpdatedAt => Some(Field::UpdatedAt),
            OrderField::Id => None,
        };
        if let Some(field) = field {
            walk.between(span(&parts, &field));
        }
        if let Some(after) = after {
            let sort = if head == 0 { String::new() } else { sortable(after.sort) };
            walk.go_on_after(&[sort.as_bytes(), after.id.as_str().as_bytes()].concat());
        }
        let few = match query.order.field {
            OrderField::OccurredAt => None,
            _ => owner(&parts).map(|set| {
                let mut few = Walk::all(set, DIGITS, false);
                few.between(span(&parts, &Field::OccurredAt));
                few
            }),
        };
        Self { walk, is_likely, few }
    }
}

/// The walk that meets the fewest memories that do not pass, in any order.
pub(super) fn narrowest(filter: &Filter) -> Walk {
    let parts = conjuncts(filter);
    let bounds = span(&parts, &Field::OccurredAt);
    match owner(&parts) {
        None if bounds == (None, None) => Walk::all("x:i".to_owned(), 0, false),
        set => {
            let mut walk = Walk::all(set.unwrap_or_else(|| "x:o".to_owned()), DIGITS, false);
            walk.between(bounds);
            walk
        }
    }
}

/// The set whose members are what passes, and whether it is that of all memories.
pub(super) fn counted(filter: &Filter) -> Option<(String, bool)> {
    if filter.is_all() {
        return Some(("x:i".to_owned(), true));
    }
    match &conjuncts(filter)[..] {
        [part] => owned(part).map(|(_, set)| (set, false)),
        _ => None,
    }
}

/// The parts of a filter that all have to pass.
fn conjuncts(filter: &Filter) -> Vec<&Filter> {
    match filter {
        Filter::All => Vec::new(),
        Filter::And(parts) => parts.iter().flat_map(conjuncts).collect(),
        part => vec![part],
    }
}

/// The set of an owner that a part of a filter names, and how narrow it is.
fn owned(part: &Filter) -> Option<(u8, String)> {
    let Filter::Compare(field, CompareOp::Eq, Scalar::Text(name)) = part else { return None };
    match field {
        Field::SessionId => Some((0, format!("x:S:{name}"))),
        Field::UserId => Some((1, format!("x:U:{name}"))),
        Field::AgentId => Some((2, format!("x:A:{name}"))),
        _ => None,
    }
}

fn owner(parts: &[&Filter]) -> Option<String> {
    parts.iter().filter_map(|part| owned(part)).min().map(|(_, set)| set)
}

/// Whether a part bounds when a memory occurred, which the walk takes over.
fn is_span(part: &Filter) -> bool {
    matches!(
        part,
        Filter::Compare(
            Field::OccurredAt,
            CompareOp::Lt | CompareOp::Lte | CompareOp::Gt | CompareOp::Gte,
            Scalar::Time(_)
        )
    )
}

/// Between which times a field must lie, both included.
fn span(parts: &[&Filter], of: &Field) -> (Option<i64>, Option<i64>) {
    let (mut from, mut to): (Option<i64>, Option<i64>) = (None, None);
    for part in parts {
        let Filter::Compare(field, op, Scalar::Time(time)) = part else { continue };
        if field != of {
            continue;
        }
        let time = time.as_micros();
        if matches!(op, CompareOp::Eq | CompareOp::Gt | CompareOp::Gte) {
            from = Some(from.map_or(time, |from| from.max(time)));
        }
        if matches!(op, CompareOp::Eq | CompareOp::Lt | CompareOp::Lte) {
            to = Some(to.map_or(time, |to| to.min(time)));
        }
    }
    (from, to)
}

/// Refuses a filter on a metadata key that is not declared.
///
/// # Errors
/// `Unsupported`, naming the key.
pub(crate) fn check_keys(settings: &RedisSettings, filter: &Filter) -> Result<()> {
    for field in filter.fields() {
        if let Field::Metadata(key) = &field
            && !settings.filter_keys.contains_key(key)
        {
            return Err(Error::unsupported(format!(
                "the metadata key `{key}` is not declared in `redis.filter_keys`; filters take \
                 declared keys"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use memory_core::{MemoryId, Order, Timestamp};

    use super::*;

    fn time(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    #[test]
    fn the_narrowest_owner_is_walked() {
        let both = Filter::eq(Field::UserId, "u").and(Filter::eq(Field::SessionId, "s"));
        let query = Query::new(5).with_filter(both.clone());
        let plan = Plan::of(&query, None);
        assert_eq!(plan.walk.set, "x:S:s");
        assert!(plan.is_likely && plan.walk.is_down);
        let other = Plan::of(&query.with_order(Order::BY_ID), None);
        assert_eq!((other.walk.set.as_str(), other.is_likely), ("x:i", false));
        assert_eq!(other.few.map(|few| few.set).as_deref(), Some("x:S:s"));
        assert_eq!(plan.few, None);
        assert_eq!(counted(&both), None);
        assert_eq!(counted(&Filter::eq(Field::UserId, "u")), Some(("x:U:u".to_owned(), false)));
        assert_eq!(counted(&Filter::All), Some(("x:i".to_owned(), true)));
        let either = Filter::Or(vec![Filter::eq(Field::UserId, "u"), Filter::All]);
        assert_eq!(Plan::of(&Query::new(5).with_filter(either), None).walk.set, "x:o");
    }

    #[test]
    fn times_and_cursors_are_bounds() {
        let after = Filter::Compare(Field::OccurredAt, CompareOp::Gt, Scalar::Time(time(5)));
        let until = Filter::Compare(Field::OccurredAt, CompareOp::Lte, Scalar::Time(time(9)));
        let query = Query::new(5).with_filter(after.and(until)).with_order(Order::OLDEST);
        let walk = Plan::of(&query, None).walk;
        assert_eq!(walk.lower, [b"[", sortable(5).as_bytes()].concat());
        assert_eq!(walk.upper, [b"(", sortable(9).as_bytes(), &[AFTER]].concat());
        let key = CursorKey { sort: 7, id: MemoryId::new("m").unwrap() };
        let walk = Plan::of(&query, Some(&key)).walk;
        assert_eq!(walk.lower, [b"(", sortable(7).as_bytes(), b"m"].concat());
    }
}

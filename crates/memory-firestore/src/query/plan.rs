//! Structured queries out of a filter's boxes and an order.
//!
//! Two families of queries are sent, and `indexes` defines the indexes of both:
//!
//! - plain: equalities, at most one `contains`, ranges of the sort key and of `visible_until`; in
//!   the order of the sort key and `visible_until`. Each equality has an index with these two
//!   behind it, and the service joins several of them.
//! - ranges: everything else. All conditions are ranges, equalities too, and the order lists the
//!   sort key, every field of a fixed list, and `visible_until`: one index, which is walked.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Direction, Error, Field, MetaKey, Order, OrderField, Result, Timestamp};
use proto::structured_query::Filter;
use proto::value::ValueType;
use proto::{StructuredQuery, Value};

use super::parts::{self, Op};
use super::walks::visible;
use crate::fields as f;
use crate::filter::{Conditions, Interval, Point, Set, domain, too_many};
use crate::keys::time_digits;
use crate::model;
use crate::names::Names;
use crate::settings::{FieldName, FirestoreSettings};

/// Most alternatives of one query: the service's limit.
const ALTERNATIVES: usize = 30;
/// Most conditions of all alternatives, orders and one for the parent of a query: the service's
/// limit is 100.
const PARTS: usize = 100;
/// Most fields with ranges in one query: the service's limit.
const RANGED: usize = 10;
/// Most alternatives of a filter: ten queries.
const MOST: usize = 300;

/// The queries that answer a filter in an order; each item is found by one of them only.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Without projection, cursor and limit. None where no item passes.
    pub(crate) queries: Vec<StructuredQuery>,
    /// The field of the sort key.
    pub(crate) key: &'static str,
    /// Whether index entries are billed besides documents: where two fields or more have ranges.
    pub(crate) entries: bool,
}

/// The field of an order's sort key.
pub(crate) fn sort_key(order: OrderField) -> &'static str {
    match order {
        OrderField::OccurredAt => f::BY_OCCURRED,
        OrderField::CreatedAt => f::BY_CREATED,
        OrderField::UpdatedAt => f::BY_UPDATED,
        OrderField::Id => f::BY_ID,
    }
}

/// The field of an item that an order's sort key begins with: its ranges are ranges of the key.
fn sorted_by(order: OrderField) -> Field {
    match order {
        OrderField::OccurredAt => Field::OccurredAt,
        OrderField::CreatedAt => Field::CreatedAt,
        OrderField::UpdatedAt => Field::UpdatedAt,
        OrderField::Id => Field::Id,
    }
}

/// Where a field is stored.
pub(crate) fn path(field: &Field) -> String {
    match field {
        Field::Id => f::BY_ID,
        Field::UserId => f::USER_ID,
        Field::AgentId => f::AGENT_ID,
        Field::SessionId => f::SESSION_ID,
        Field::Kind => f::KIND,
        Field::Role => f::ROLE,
        Field::Author => f::AUTHOR,
        Field::ContentHash => f::CONTENT_HASH,
        Field::Importance => f::IMPORTANCE,
        Field::OccurredAt => f::OCCURRED_AT,
        Field::CreatedAt => f::CREATED_AT,
        Field::UpdatedAt => f::UPDATED_AT,
        Field::ExpiresAt => f::VISIBLE_UNTIL,
        Field::Metadata(key) => return f::path(f::KEYS, key.as_str()),
    }
    .to_owned()
}

/// The fields between the sort key and `visible_until` in a query of ranges, by path.
pub(crate) fn ranged_fields(settings: &FirestoreSettings, order: OrderField) -> Vec<String> {
    let mut paths: Vec<_> = Field::FIXED
        .into_iter()
        .filter(|field| *field != Field::ExpiresAt && *field != sorted_by(order))
        .chain(settings.filter_keys.keys().cloned().map(Field::Metadata))
        .map(|field| path(&field))
        .collect();
    paths.sort();
    paths
}

/// Plans a filter's boxes in an order.
///
/// # Errors
/// `Unsupported`: an order or a field without an index (the message names the setting), ranges of
/// too many fields, too many alternatives.
pub(crate) fn plan(
    settings: &FirestoreSettings,
    names: &Names,
    boxes: &[Conditions],
    order: Order,
    now: Timestamp,
) -> Result<Plan> {
    let planner = Planner { settings, names, order, now };
    planner.check_order()?;
    planner.plan(boxes, planner.unplain(boxes))
}

/// Plans a filter's boxes to be counted: in the declared order that serves them best.
///
/// # Errors
/// As [`plan`].
pub(crate) fn plan_count(
    settings: &FirestoreSettings,
    names: &Names,
    boxes: &[Conditions],
    now: Timestamp,
) -> Result<Plan> {
    let planner = |field| {
        let order = Order { field, direction: Direction::Ascending };
        Planner { settings, names, order, now }
    };
    let plain = settings.orders.iter().find(|field| planner(**field).unplain(boxes).is_none());
    // Of those that walk, one whose walk is cut short by the filter.
    let cut = |field: &&OrderField| {
        let own = sorted_by(**field);
        boxes.iter().all(|conditions| conditions.sets.contains_key(&own))
    };
    let chosen = plain
        .or_else(|| settings.orders.iter().find(cut))
        .or_else(|| settings.orders.first())
        .ok_or_else(|| Error::unsupported("counts need an order: the setting orders is empty"))?;
    let planner = planner(*chosen);
    planner.plan(boxes, planner.unplain(boxes))
}

/// One condition on one field: its alternatives, each of one or two comparisons.
struct Term {
    choices: Vec<Vec<Filter>>,
}

/// One alternative of all.
#[derive(Clone, Default)]
struct Conjunction {
    intervals: BTreeMap<Field, Interval>,
    contains: BTreeSet<(MetaKey, String)>,
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    settings: &'a FirestoreSettings,
    names: &'a Names,
    order: Order,
    now: Timestamp,
}

impl Planner<'_> {
    fn check_order(&self) -> Result<()> {
        if self.settings.orders.contains(&self.order.field) {
            return Ok(());
        }
        let field = sorted_by(self.order.field);
        Err(Error::unsupported(format!(
            "there is no index for the order by {field}: add it to the setting orders, and make \
             its indexes"
        )))
    }

    /// The first field that a plain query cannot ask for; `None` where it can ask for all.
    fn unplain<'b>(&self, boxes: &'b [Conditions]) -> Option<(&'b Field, &'b Set)> {
        let own = sorted_by(self.order.field);
        boxes.iter().flat_map(|conditions| &conditions.sets).find(|(field, set)| {
            let ranged = **field == own || **field == Field::ExpiresAt;
            let equal = matches!(field, Field::Metadata(_))
                || self.settings.equals.contains(&FieldName((*field).clone()));
            let plain = ranged || (equal && set.is_points());
            !plain
        })
    }

    fn plan(&self, boxes: &[Conditions], unplain: Option<(&Field, &Set)>) -> Result<Plan> {
        let plain = unplain.is_none();
        if let Some((field, set)) = unplain
            && !self.settings.ranges
        {
            return Err(no_index(field, set));
        }
        let mut ranged: BTreeSet<_> = boxes.iter().flat_map(|c| c.sets.keys()).collect();
        ranged.insert(&Field::ExpiresAt);
        if plain {
            let own = sorted_by(self.order.field);
            ranged.retain(|field| **field == own || **field == Field::ExpiresAt);
        }
        if ranged.len() > RANGED {
            return Err(Error::unsupported(format!(
                "the filter has conditions on {} fields, the expiry among them, that need a range; \
                 Firestore takes {RANGED}",
                ranged.len()
            )));
        }
        let order_by = self.order_by(plain);
        let queries = self
            .wheres(boxes, plain, PARTS - 1 - order_by.len().min(PARTS - 1))?
            .into_iter()
            .map(|r#where| StructuredQuery {
                r#where,
                order_by: order_by.clone(),
                ..parts::from(&self.names.memories)
            })
            .collect();
        Ok(Plan { queries, key: sort_key(self.order.field), entries: ranged.len() > 1 })
    }

    fn order_by(&self, plain: bool) -> Vec<proto::structured_query::Order> {
        let mut paths = vec![sort_key(self.order.field).to_owned()];
        if !plain {
            paths.extend(ranged_fields(self.settings, self.order.field));
        }
        paths.push(f::VISIBLE_UNTIL.to_owned());
        paths.iter().map(|path| parts::ordered(path, self.order.direction)).collect()
    }

    /// The conditions of each query; `room` is how many a query may have.
    fn wheres(
        &self,
        boxes: &[Conditions],
        plain: bool,
        room: usize,
    ) -> Result<Vec<Option<Filter>>> {
        if boxes.is_empty() {
            return Ok(Vec::new());
        }
        let terms: Vec<Vec<Term>> = boxes.iter().map(|b| self.terms(b, plain)).collect();
        let count: usize =
            terms.iter().map(|terms| alternatives(terms)).fold(0, usize::saturating_add);
        let comparisons = terms.iter().map(|terms| size(terms)).fold(0, usize::saturating_add);
        if count <= ALTERNATIVES && comparisons <= room {
            return Ok(vec![self.one_where(terms)]);
        }
        if count > MOST {
            return Err(too_many());
        }
        let conjunctions: Vec<_> = boxes.iter().flat_map(expand).collect();
        let apart = |a: &Conjunction, b: &Conjunction| {
            a.intervals.iter().any(|(field, interval)| {
                b.intervals.get(field).is_some_and(|other| interval.meet(other).is_none())
            })
        };
        for (at, a) in conjunctions.iter().enumerate() {
            if conjunctions[at + 1..].iter().any(|b| !apart(a, b)) {
                return Err(Error::unsupported(format!(
                    "the filter comes to {count} alternatives, some of which overlap, so that they \
                     cannot be asked for in parts; Firestore takes {ALTERNATIVES} at once, and \
                     {PARTS} conditions: make it simpler"
                )));
            }
        }
        let mut wheres = Vec::new();
        let (mut group, mut used) = (Vec::new(), 0);
        for conjunction in conjunctions {
            let terms = self.terms(&conjunction.into_conditions(), plain);
            let more = size(&terms);
            if !group.is_empty() && (group.len() == ALTERNATIVES || used + more > room) {
                wheres.push(self.one_where(std::mem::take(&mut group)));
                used = 0;
            }
            used += more;
            group.push(terms);
        }
        wheres.push(self.one_where(group));
        Ok(wheres)
    }

    fn one_where(&self, boxes: Vec<Vec<Term>>) -> Option<Filter> {
        let mut all = vec![visible(self.now)];
        let mut boxes: Vec<Vec<Filter>> = boxes
            .into_iter()
            .map(|terms| {
                let mut filters = Vec::new();
                for Term { mut choices } in terms {
                    if choices.len() == 1 {
                        filters.append(&mut choices[0]);
                    } else {
                        let choices = choices.into_iter().filter_map(parts::all_of).collect();
                        filters.extend(parts::one_of(choices));
                    }
                }
                filters
            })
            .collect();
        if boxes.len() == 1 {
            all.append(&mut boxes[0]);
        } else {
            all.extend(parts::one_of(boxes.into_iter().filter_map(parts::all_of).collect()));
        }
        parts::all_of(all)
    }

    fn terms(&self, conditions: &Conditions, plain: bool) -> Vec<Term> {
        let contains = conditions.contains.iter().map(|(key, text)| {
            let path = f::path(f::LISTS, key.as_str());
            let has = parts::compare(&path, Op::ArrayContains, model::text(text));
            Term { choices: vec![vec![has]] }
        });
        let fields = conditions.sets.iter().map(|(field, set)| Term {
            choices: set.intervals().iter().map(|i| self.comparisons(field, i, plain)).collect(),
        });
        contains.chain(fields).collect()
    }

    fn comparisons(&self, field: &Field, interval: &Interval, plain: bool) -> Vec<Filter> {
        let own = *field == sorted_by(self.order.field);
        let ranged = own || *field == Field::ExpiresAt || !plain;
        if let Some(point) = interval.only()
            && !ranged
        {
            return vec![parts::compare(&path(field), Op::Equal, value(point))];
        }
        let interval = self.without_ends(field, interval);
        if own && field.is_time() {
            return time_of_key(sort_key(self.order.field), &interval);
        }
        let path = path(field);
        let low = match &interval.low {
            Bound::Unbounded => None,
            Bound::Included(low) => Some((Op::GreaterThanOrEqual, value(low))),
            Bound::Excluded(low) => Some((Op::GreaterThan, value(low))),
        };
        let high = match &interval.high {
            Bound::Unbounded => None,
            Bound::Included(high) => Some((Op::LessThanOrEqual, value(high))),
            Bound::Excluded(high) => Some((Op::LessThan, value(high))),
        };
        low.into_iter().chain(high).map(|(op, value)| parts::compare(&path, op, value)).collect()
    }

    /// The interval without the ends that every memory's value lies within.
    fn without_ends(&self, field: &Field, interval: &Interval) -> Interval {
        let domain = domain(field, self.now);
        let mut interval = interval.clone();
        if let [whole] = domain.intervals() {
            if interval.low == whole.low {
                interval.low = Bound::Unbounded;
            }
            if interval.high == whole.high {
                interval.high = Bound::Unbounded;
            }
        }
        interval
    }
}

/// A range of times as a range of sort keys, which begin with the time's digits.
fn time_of_key(path: &str, interval: &Interval) -> Vec<Filter> {
    let digits = |point: &Point, more: i64| {
        let Point::Time(micros) = point else { return model::text("") };
        let time = Timestamp::from_micros(micros.saturating_add(more)).unwrap_or(Timestamp::MAX);
        model::text(time_digits(time))
    };
    let low = match &interval.low {
        Bound::Unbounded => None,
        Bound::Included(low) => Some(digits(low, 0)),
        Bound::Excluded(low) => Some(digits(low, 1)),
    };
    let high = match &interval.high {
        Bound::Unbounded => None,
        Bound::Included(high) => Some(digits(high, 1)),
        Bound::Excluded(high) => Some(digits(high, 0)),
    };
    let low = low.map(|value| parts::compare(path, Op::GreaterThanOrEqual, value));
    let high = high.map(|value| parts::compare(path, Op::LessThan, value));
    low.into_iter().chain(high).collect()
}

/// A value as the service takes it.
pub(crate) fn value(point: &Point) -> Value {
    match point {
        Point::Text(text) => model::text(text),
        Point::Bytes(bytes) => model::value(ValueType::BytesValue(bytes.clone())),
        Point::Number(number) => model::value(ValueType::DoubleValue(*number)),
        Point::Time(micros) => model::time(*micros),
    }
}

fn alternatives(terms: &[Term]) -> usize {
    terms.iter().fold(1, |product, term| product.saturating_mul(term.choices.len()))
}

/// The comparisons of all alternatives, with that of the expiry in each.
fn size(terms: &[Term]) -> usize {
    let count = alternatives(terms);
    let in_all = |term: &Term| {
        let comparisons: usize = term.choices.iter().map(Vec::len).sum();
        // Each choice stands in as many alternatives as the others have.
        comparisons.saturating_mul(count / term.choices.len().max(1))
    };
    terms.iter().map(in_all).fold(count, usize::saturating_add)
}

/// Every alternative of a box.
fn expand(conditions: &Conditions) -> Vec<Conjunction> {
    let first = Conjunction { contains: conditions.contains.clone(), ..Conjunction::default() };
    conditions.sets.iter().fold(vec![first], |all, (field, set)| {
        all.iter()
            .flat_map(|conjunction| {
                set.intervals().iter().map(|interval| {
                    let mut next = conjunction.clone();
                    next.intervals.insert(field.clone(), interval.clone());
                    next
                })
            })
            .collect()
    })
}

impl Conjunction {
    fn into_conditions(self) -> Conditions {
        let sets = self
            .intervals
            .into_iter()
            .map(|(field, interval)| (field, Set::between(interval.low, interval.high)))
            .collect();
        Conditions { sets, contains: self.contains }
    }
}

fn no_index(field: &Field, set: &Set) -> Error {
    let text = !field.is_time() && !matches!(field, Field::Id | Field::Importance);
    if text && set.is_points() {
        return Error::unsupported(format!(
            "there is no index for {field}: add it to the setting equals, or turn on ranges, and \
             make the indexes"
        ));
    }
    let equals = if matches!(field, Field::Metadata(_)) { "" } else { " (equals is for texts)" };
    Error::unsupported(format!(
        "the condition on {field} is a range, and the setting ranges is off: turn it on and make \
         its indexes{equals}"
    ))
}

//! Stored fields: which values they have, and which of them a condition lets through.
//!
//! | field | stored as | lacking it |
//! |---|---|---|
//! | `id` | the encoded id, whose order is that of the id's bytes | never |
//! | `kind`, `content_hash` | text | never |
//! | `user_id`, `agent_id`, `session_id`, `role`, `author` | text | the empty text |
//! | `importance` | number | -1 |
//! | `occurred_at`, `created_at`, `updated_at` | time | never |
//! | `expires_at` | `visible_until`: only what is later than now is asked for | the far date |
//! | `metadata.KEY` | ordered bytes | the byte `0xFB` |

use std::ops::Bound;

use memory_core::limits::ID_BYTES;
use memory_core::{CompareOp, Field, Scalar, Timestamp};

use super::interval::{Point, Set};
use crate::keys;
use crate::model::{FOREVER, NO_IMPORTANCE};
use crate::names::encode;

/// The values that a field can have in a visible memory, with the one that stands for none.
pub(crate) fn domain(field: &Field, now: Timestamp) -> Set {
    let none = Bound::Unbounded;
    match field {
        Field::Id | Field::Kind | Field::ContentHash => {
            Set::between(Bound::Excluded(text("")), none)
        }
        Field::UserId | Field::AgentId | Field::SessionId | Field::Role | Field::Author => {
            Set::between(Bound::Included(text("")), none)
        }
        Field::Importance => Set::between(Bound::Included(Point::Number(NO_IMPORTANCE)), none),
        Field::OccurredAt | Field::CreatedAt | Field::UpdatedAt => Set::between(
            Bound::Included(Point::Time(Timestamp::MIN.as_micros())),
            Bound::Included(Point::Time(Timestamp::MAX.as_micros())),
        ),
        Field::ExpiresAt => Set::between(
            Bound::Excluded(Point::Time(now.as_micros())),
            Bound::Included(Point::Time(FOREVER)),
        ),
        Field::Metadata(_) => Set::between(none, Bound::Included(bytes(&[keys::MISSING]))),
    }
}

/// What stands for a memory that lacks the field; `None` where none does.
fn missing(field: &Field) -> Option<Point> {
    match field {
        Field::UserId | Field::AgentId | Field::SessionId | Field::Role | Field::Author => {
            Some(text(""))
        }
        Field::Importance => Some(Point::Number(NO_IMPORTANCE)),
        Field::ExpiresAt => Some(Point::Time(FOREVER)),
        Field::Metadata(_) => Some(bytes(&[keys::MISSING])),
        Field::Id
        | Field::Kind
        | Field::ContentHash
        | Field::OccurredAt
        | Field::CreatedAt
        | Field::UpdatedAt => None,
    }
}

/// The values of memories that have the field.
pub(crate) fn exists(field: &Field, now: Timestamp) -> Set {
    let domain = domain(field, now);
    match missing(field) {
        Some(missing) => Set::point(missing).complement(&domain),
        None => domain,
    }
}

/// The values that compare so with a scalar.
pub(crate) fn compare(field: &Field, op: CompareOp, value: &Scalar, now: Timestamp) -> Set {
    let there = exists(field, now);
    let Some(end) = End::of(field, value) else {
        // Another type: present, but neither equal nor in order.
        return if op == CompareOp::Ne { there } else { Set::none() };
    };
    let equal = end.point.map_or(Set::none(), Set::point);
    let typed = match (field, value) {
        (Field::Metadata(_), value) => of_type(value),
        _ => there.clone(),
    };
    let below = Set::between(Bound::Unbounded, end.below);
    let above = Set::between(end.above, Bound::Unbounded);
    let ordered = |set: Set| {
        // Booleans have no order.
        if matches!(value, Scalar::Bool(_)) { Set::none() } else { set.meet(&typed) }
    };
    let set = match op {
        CompareOp::Eq => equal,
        CompareOp::Ne => equal.complement(&there),
        CompareOp::Lt => ordered(below),
        CompareOp::Lte => ordered(below.join(&equal)),
        CompareOp::Gt => ordered(above),
        CompareOp::Gte => ordered(above.join(&equal)),
    };
    set.meet(&there)
}

/// A scalar's place in a field's order.
struct End {
    /// The stored value that equals it, if there can be one.
    point: Option<Point>,
    /// The high end of what is less.
    below: Bound<Point>,
    /// The low end of what is greater.
    above: Bound<Point>,
}

impl End {
    fn at(point: Point) -> Self {
        Self {
            below: Bound::Excluded(point.clone()),
            above: Bound::Excluded(point.clone()),
            point: Some(point),
        }
    }

    /// Between `point` and whatever is stored above it.
    fn just_above(point: Point) -> Self {
        Self { below: Bound::Included(point.clone()), above: Bound::Excluded(point), point: None }
    }

    /// `None` for a scalar of a type that the field never has.
    fn of(field: &Field, value: &Scalar) -> Option<Self> {
        match (field, value) {
            (Field::Metadata(_), value) => {
                keys::bytes_of_scalar(value).map(|b| Self::at(Point::Bytes(b)))
            }
            (Field::Importance, Scalar::Float(value)) => Some(Self::at(number(*value))),
            // Importances lie in 0 to 1, and so far from where integers are rounded.
            #[expect(clippy::cast_precision_loss, reason = "rounded ones are compared with 0 to 1")]
            (Field::Importance, Scalar::Int(value)) => Some(Self::at(number(*value as f64))),
            (Field::Importance, _) => None,
            (field, Scalar::Time(time)) if field.is_time() => {
                Some(Self::at(Point::Time(time.as_micros())))
            }
            (field, _) if field.is_time() => None,
            (Field::Id, Scalar::Text(value)) => Some(id(value)),
            (_, Scalar::Text(value)) => Some(Self::at(text(value))),
            _ => None,
        }
    }
}

/// The place of a text among encoded ids. No id has a byte `0x7F`, which the encoding would leave
/// above those that it writes as `~80` and up, and none is longer than an id may be.
fn id(value: &str) -> End {
    let encoded = encode(value).replace('\u{7f}', "~7f");
    if value.len() <= ID_BYTES {
        return End::at(Point::Text(encoded));
    }
    let kept: usize = value
        .bytes()
        .enumerate()
        .take(ID_BYTES)
        .map(|(at, byte)| match byte {
            b'.' | b'/' => 2,
            b'_' if at == 0 => 2,
            b'~' | 0x7f.. => 3,
            _ => 1,
        })
        .sum();
    End::just_above(text(&encoded[..kept]))
}

/// The bytes of values of a scalar's type.
fn of_type(value: &Scalar) -> Set {
    let from = |first: u8| {
        Set::between(Bound::Included(bytes(&[first])), Bound::Excluded(bytes(&[first + 1])))
    };
    match value {
        Scalar::Text(_) => Set::between(Bound::Unbounded, Bound::Excluded(bytes(&[keys::NUMBER]))),
        Scalar::Int(_) | Scalar::Float(_) => from(keys::NUMBER),
        Scalar::Bool(_) => from(keys::BOOL),
        Scalar::Time(_) => Set::none(),
    }
}

fn text(text: &str) -> Point {
    Point::Text(text.to_owned())
}

fn bytes(bytes: &[u8]) -> Point {
    Point::Bytes(bytes.to_vec())
}

fn number(value: f64) -> Point {
    // Minus zero is zero.
    Point::Number(value + 0.0)
}

/// What a memory holds in a field, as it is stored.
#[cfg(test)]
pub(crate) fn stored(field: &Field, item: &memory_core::MemoryItem) -> Point {
    fn or_none(value: Option<&str>) -> Point {
        text(value.unwrap_or_default())
    }
    match field {
        Field::Id => text(&encode(item.id.as_str())),
        Field::UserId => or_none(item.user_id.as_ref().map(|id| id.as_str())),
        Field::AgentId => or_none(item.agent_id.as_ref().map(|id| id.as_str())),
        Field::SessionId => or_none(item.session_id.as_ref().map(|id| id.as_str())),
        Field::Kind => text(item.kind.name()),
        Field::Role => or_none(item.role.map(memory_core::Role::name)),
        Field::Author => or_none(item.author.as_deref()),
        Field::ContentHash => text(&item.content_hash().to_string()),
        Field::Importance => number(item.importance.unwrap_or(NO_IMPORTANCE)),
        Field::OccurredAt => Point::Time(item.occurred_at.as_micros()),
        Field::CreatedAt => Point::Time(item.created_at.as_micros()),
        Field::UpdatedAt => Point::Time(item.updated_at.as_micros()),
        Field::ExpiresAt => Point::Time(item.expires_at.map_or(FOREVER, Timestamp::as_micros)),
        Field::Metadata(key) => Point::Bytes(keys::bytes_of(item.metadata.get(key))),
    }
}

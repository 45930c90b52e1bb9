//! The queries that upkeep, erasure and sweeps walk a tenant's memories by.
//!
//! Each is of the tenant's memories: send it with the tenant's document as its parent. `mask` names
//! the fields to bring; an empty one brings names alone. All but [`of_kind`], [`distinct_kinds`] and
//! [`embedded`] are served by the indexes that the service keeps of every single field.

use googleapis_tonic_google_firestore_v1::google::firestore::v1 as proto;
use memory_core::{Direction, SpaceId, Timestamp, UserId};
use proto::value::ValueType;
use proto::{Cursor, StructuredQuery};

use super::parts::{self, NAME, Op};
use crate::fields as f;
use crate::model;
use crate::names::Names;

/// Every memory of a user, expired ones too, by document name after the document `after` (its full
/// name).
pub(crate) fn by_user(
    names: &Names,
    user: &UserId,
    after: Option<&str>,
    limit: u32,
    mask: &[String],
) -> StructuredQuery {
    let is = parts::compare(f::USER_ID, Op::Equal, model::text(user.as_str()));
    StructuredQuery { r#where: Some(is), ..all(names, after, limit, mask) }
}

/// Every memory, expired ones too, by document name after the document `after` (its full name).
/// That is the order of the ids' bytes.
pub(crate) fn all(
    names: &Names,
    after: Option<&str>,
    limit: u32,
    mask: &[String],
) -> StructuredQuery {
    let start_at = after.map(|name| Cursor {
        values: vec![model::value(ValueType::ReferenceValue(name.to_owned()))],
        before: false,
    });
    StructuredQuery {
        select: Some(parts::select(mask)),
        order_by: vec![parts::ordered(NAME, Direction::Ascending)],
        start_at,
        limit: Some(most(limit)),
        ..parts::from(&names.memories)
    }
}

/// The memories that are expired at `now`, longest expired first.
pub(crate) fn expired(
    names: &Names,
    now: Timestamp,
    limit: u32,
    mask: &[String],
) -> StructuredQuery {
    let now = model::time(now.as_micros());
    StructuredQuery {
        select: Some(parts::select(mask)),
        r#where: Some(parts::compare(f::VISIBLE_UNTIL, Op::LessThanOrEqual, now)),
        order_by: vec![parts::ordered(f::VISIBLE_UNTIL, Direction::Ascending)],
        limit: Some(most(limit)),
        ..parts::from(&names.memories)
    }
}

/// How many memories are expired at `now`: to be counted.
pub(crate) fn expired_all(names: &Names, now: Timestamp) -> StructuredQuery {
    StructuredQuery { select: None, limit: None, ..expired(names, now, 1, &[]) }
}

/// One visible memory of the first kind after `after`, with its field `kind`: asked again with the
/// kind that it finds, it lists the kinds that there are.
pub(crate) fn distinct_kinds(
    names: &Names,
    now: Timestamp,
    after: Option<&str>,
) -> StructuredQuery {
    let after = parts::compare(f::KIND, Op::GreaterThan, model::text(after.unwrap_or_default()));
    StructuredQuery {
        select: Some(parts::select(&[f::KIND.to_owned()])),
        r#where: parts::all_of(vec![after, visible(now)]),
        order_by: vec![
            parts::ordered(f::KIND, Direction::Ascending),
            parts::ordered(f::VISIBLE_UNTIL, Direction::Ascending),
        ],
        limit: Some(1),
        ..parts::from(&names.memories)
    }
}

/// The visible memories of a kind: to be counted.
pub(crate) fn of_kind(names: &Names, now: Timestamp, kind: &str) -> StructuredQuery {
    let is = parts::compare(f::KIND, Op::Equal, model::text(kind));
    StructuredQuery {
        r#where: parts::all_of(vec![is, visible(now)]),
        order_by: vec![parts::ordered(f::VISIBLE_UNTIL, Direction::Ascending)],
        ..parts::from(&names.memories)
    }
}

/// The visible memories that have a vector in a space, by id: to be counted.
pub(crate) fn embedded(names: &Names, now: Timestamp, space: &SpaceId) -> StructuredQuery {
    let has = parts::compare(f::SPACES, Op::ArrayContains, model::text(model::short_name(space)));
    StructuredQuery {
        r#where: parts::all_of(vec![has, visible(now)]),
        order_by: vec![
            parts::ordered(f::BY_ID, Direction::Ascending),
            parts::ordered(f::VISIBLE_UNTIL, Direction::Ascending),
        ],
        ..parts::from(&names.memories)
    }
}

/// That a memory is visible at `now`.
pub(crate) fn visible(now: Timestamp) -> proto::structured_query::Filter {
    parts::compare(f::VISIBLE_UNTIL, Op::GreaterThan, model::time(now.as_micros()))
}

/// A limit as the service takes it.
pub(crate) fn most(limit: u32) -> i32 {
    i32::try_from(limit).unwrap_or(i32::MAX)
}

//! Filters: what they are, and the one truth table that every back end must agree with.
//!
//! | operator | true when |
//! |---|---|
//! | `eq` | the field exists, has the value's type, and equals it |
//! | `ne` | the field exists and `eq` is false (another type is not equal) |
//! | `lt` `lte` `gt` `gte` | the field exists, has the value's type, and compares so |
//! | `in` | `eq` holds for one of the values |
//! | `contains` | the field is a list of strings and holds the string |
//! | `exists` | the field exists |
//! | `and`, `or`, `not` | as in two-valued logic; an empty `and` is true, an empty `or` is false |
//!
//! The types are boolean, number, text, time and list. An integer and a float compare as the
//! exact numbers they are; numbers never compare as text; texts compare as UTF-8 bytes; a list is
//! never equal to a scalar. Booleans have no order.
//!
//! [`Filter::matches`] is the definition; a back end that cannot evaluate a filter in this way
//! answers `Unsupported` and names the field.

use std::cmp::Ordering;
use std::fmt;

use crate::error::{Error, Result};
use crate::item::MemoryItem;
use crate::limits::{FILTER_DEPTH, FILTER_IN, FILTER_NODES, METADATA_STRING_BYTES};
use crate::metadata::{MetaKey, MetaValue};
use crate::time::Timestamp;

/// A field that a filter can name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `id`, a text.
    Id,
    /// `user_id`, a text.
    UserId,
    /// `agent_id`, a text.
    AgentId,
    /// `session_id`, a text.
    SessionId,
    /// `kind`, a text.
    Kind,
    /// `role`, a text.
    Role,
    /// `author`, a text.
    Author,
    /// `content_hash`, a text of 64 lower-case hexadecimal digits.
    ContentHash,
    /// `importance`, a number.
    Importance,
    /// `occurred_at`, a time.
    OccurredAt,
    /// `created_at`, a time.
    CreatedAt,
    /// `updated_at`, a time.
    UpdatedAt,
    /// `expires_at`, a time; absent for items that never expire.
    ExpiresAt,
    /// `metadata.KEY`.
    Metadata(MetaKey),
}

impl Field {
    /// The fields that every item type has, without metadata.
    pub const FIXED: [Self; 13] = [
        Self::Id,
        Self::UserId,
        Self::AgentId,
        Self::SessionId,
        Self::Kind,
        Self::Role,
        Self::Author,
        Self::ContentHash,
        Self::Importance,
        Self::OccurredAt,
        Self::CreatedAt,
        Self::UpdatedAt,
        Self::ExpiresAt,
    ];

    /// Reads a field's name: `user_id`, `metadata.topic`, ...
    ///
    /// # Errors
    /// `InvalidInput`: no such field (the message lists them), or a bad metadata key.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some(key) = name.strip_prefix("metadata.") {
            return Ok(Self::Metadata(MetaKey::new(key)?));
        }
        Self::FIXED.into_iter().find(|field| field.fixed_name() == Some(name)).ok_or_else(|| {
            let names: Vec<_> = Self::FIXED.iter().filter_map(Self::fixed_name).collect();
            Error::invalid(format!(
                "a filter names an unknown field; known: {}, metadata.KEY",
                names.join(", ")
            ))
        })
    }

    fn fixed_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Id => "id",
            Self::UserId => "user_id",
            Self::AgentId => "agent_id",
            Self::SessionId => "session_id",
            Self::Kind => "kind",
            Self::Role => "role",
            Self::Author => "author",
            Self::ContentHash => "content_hash",
            Self::Importance => "importance",
            Self::OccurredAt => "occurred_at",
            Self::CreatedAt => "created_at",
            Self::UpdatedAt => "updated_at",
            Self::ExpiresAt => "expires_at",
            Self::Metadata(_) => return None,
        })
    }

    /// Whether the field holds a time.
    #[must_use]
    pub fn is_time(&self) -> bool {
        matches!(self, Self::OccurredAt | Self::CreatedAt | Self::UpdatedAt | Self::ExpiresAt)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(key) => write!(f, "metadata.{key}"),
            fixed => f.write_str(fixed.fixed_name().unwrap_or_default()),
        }
    }
}

/// A value that a filter compares with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scalar {
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// A text.
    Text(String),
    /// A time.
    Time(Timestamp),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<Timestamp> for Scalar {
    fn from(value: Timestamp) -> Self {
        Self::Time(value)
    }
}

/// How a field and a value are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Exists and is not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

impl CompareOp {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Lte => "lte",
            Self::Gt => "gt",
            Self::Gte => "gte",
        }
    }

    /// Whether it needs an order, not only equality.
    #[must_use]
    pub fn is_ordering(self) -> bool {
        !matches!(self, Self::Eq | Self::Ne)
    }
}

/// A condition on items.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Filter {
    /// Every item.
    #[default]
    All,
    /// All of these.
    And(Vec<Filter>),
    /// One of these at least.
    Or(Vec<Filter>),
    /// Not this.
    Not(Box<Filter>),
    /// A field compared with a value.
    Compare(Field, CompareOp, Scalar),
    /// A field equal to one of 1 to 30 values.
    In(Field, Vec<Scalar>),
    /// A list that holds a string.
    Contains(Field, String),
    /// A field that is there.
    Exists(Field),
}

/// What an item holds in a field.
#[derive(Clone, Copy, Debug)]
enum Held<'a> {
    Missing,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
    Time(Timestamp),
    List(&'a [String]),
}

impl Filter {
    /// `field = value`.
    pub fn eq(field: Field, value: impl Into<Scalar>) -> Self {
        Self::Compare(field, CompareOp::Eq, value.into())
    }

    /// This and another.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, filter) | (filter, Self::All) => filter,
            (Self::And(mut filters), filter) => {
                filters.push(filter);
                Self::And(filters)
            }
            (first, second) => Self::And(vec![first, second]),
        }
    }

    /// Checks depth, size and values.
    ///
    /// # Errors
    /// `InvalidInput`: too deep, too large, an empty or too long `in`, a value that is not
    /// finite or too long, an order on booleans, a type that the field never has.
    pub fn validate(&self) -> Result<()> {
        let mut nodes = 0;
        self.check(FILTER_DEPTH, &mut nodes)
    }

    fn check(&self, depth_left: usize, nodes: &mut usize) -> Result<()> {
        *nodes += 1;
        if *nodes > FILTER_NODES {
            return Err(Error::invalid(format!("the filter has more than {FILTER_NODES} nodes")));
        }
        if depth_left == 0 {
            return Err(Error::invalid(format!("the filter is more than {FILTER_DEPTH} deep")));
        }
        match self {
            Self::All | Self::Exists(_) => Ok(()),
            Self::And(filters) | Self::Or(filters) => {
                filters.iter().try_for_each(|filter| filter.check(depth_left - 1, nodes))
            }
            Self::Not(filter) => filter.check(depth_left - 1, nodes),
            Self::Compare(field, op, value) => {
                if op.is_ordering() && matches!(value, Scalar::Bool(_)) {
                    return Err(Error::invalid("booleans have no order"));
                }
                check_value(field, value)
            }
            Self::In(field, values) => {
                if values.is_empty() || values.len() > FILTER_IN {
                    return Err(Error::invalid(format!("`in` takes 1 to {FILTER_IN} values")));
                }
                *nodes += values.len();
                values.iter().try_for_each(|value| check_value(field, value))
            }
            Self::Contains(field, text) => {
                if !matches!(field, Field::Metadata(_)) {
                    return Err(Error::invalid("`contains` applies to metadata lists"));
                }
                check_value(field, &Scalar::Text(text.clone()))
            }
        }
    }

    /// Whether an item passes: the definition of every operator.
    #[must_use]
    pub fn matches(&self, item: &MemoryItem) -> bool {
        match self {
            Self::All => true,
            Self::And(filters) => filters.iter().all(|filter| filter.matches(item)),
            Self::Or(filters) => filters.iter().any(|filter| filter.matches(item)),
            Self::Not(filter) => !filter.matches(item),
            Self::Compare(field, op, value) => {
                with_field(item, field, |held| compare(held, *op, value))
            }
            Self::In(field, values) => with_field(item, field, |held| {
                values.iter().any(|value| compare(held, CompareOp::Eq, value))
            }),
            Self::Contains(field, text) => with_field(
                item,
                field,
                |held| matches!(held, Held::List(texts) if texts.contains(text)),
            ),
            Self::Exists(field) => with_field(item, field, |held| !matches!(held, Held::Missing)),
        }
    }

    /// The fields that the filter names, each once, in order.
    #[must_use]
    pub fn fields(&self) -> Vec<Field> {
        fn collect(filter: &Filter, fields: &mut Vec<Field>) {
            match filter {
                Filter::All => {}
                Filter::And(filters) | Filter::Or(filters) => {
                    filters.iter().for_each(|filter| collect(filter, fields));
                }
                Filter::Not(filter) => collect(filter, fields),
                Filter::Compare(field, ..)
                | Filter::In(field, _)
                | Filter::Contains(field, _)
                | Filter::Exists(field) => fields.push(field.clone()),
            }
        }
        let mut fields = Vec::new();
        collect(self, &mut fields);
        fields.sort();
        fields.dedup();
        fields
    }

    /// Whether it lets every item pass without looking.
    #[must_use]
    pub fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::And(filters) => filters.iter().all(Self::is_all),
            _ => false,
        }
    }
}

fn check_value(field: &Field, value: &Scalar) -> Result<()> {
    match value {
        Scalar::Float(float) if !float.is_finite() => {
            return Err(Error::invalid("a filter's number is not finite"));
        }
        Scalar::Text(text) if text.len() > METADATA_STRING_BYTES => {
            return Err(Error::invalid(format!(
                "a filter's text has {} bytes; the limit is {METADATA_STRING_BYTES}",
                text.len()
            )));
        }
        Scalar::Text(text) if text.contains('\0') => {
            return Err(Error::invalid("a filter's text has a NUL character"));
        }
        _ => {}
    }
    let fits = match field {
        Field::Metadata(_) => !matches!(value, Scalar::Time(_)),
        Field::Importance => matches!(value, Scalar::Int(_) | Scalar::Float(_)),
        field if field.is_time() => matches!(value, Scalar::Time(_)),
        _ => matches!(value, Scalar::Text(_)),
    };
    if fits { Ok(()) } else { Err(Error::invalid(format!("{field} never has that type"))) }
}

fn with_field<R>(item: &MemoryItem, field: &Field, look: impl FnOnce(Held<'_>) -> R) -> R {
    fn text<'a>(text: Option<&'a (impl AsRef<str> + ?Sized)>) -> Held<'a> {
        text.map_or(Held::Missing, |text| Held::Text(text.as_ref()))
    }
    let held = match field {
        Field::Id => Held::Text(item.id.as_str()),
        Field::UserId => text(item.user_id.as_ref()),
        Field::AgentId => text(item.agent_id.as_ref()),
        Field::SessionId => text(item.session_id.as_ref()),
        Field::Kind => Held::Text(item.kind.name()),
        Field::Role => item.role.map_or(Held::Missing, |role| Held::Text(role.name())),
        Field::Author => text(item.author.as_deref()),
        Field::ContentHash => return look(Held::Text(&item.content_hash().to_string())),
        Field::Importance => item.importance.map_or(Held::Missing, Held::Float),
        Field::OccurredAt => Held::Time(item.occurred_at),
        Field::CreatedAt => Held::Time(item.created_at),
        Field::UpdatedAt => Held::Time(item.updated_at),
        Field::ExpiresAt => item.expires_at.map_or(Held::Missing, Held::Time),
        Field::Metadata(key) => match item.metadata.get(key) {
            None => Held::Missing,
            Some(MetaValue::Bool(value)) => Held::Bool(*value),
            Some(MetaValue::Int(value)) => Held::Int(*value),
            Some(MetaValue::Float(value)) => Held::Float(*value),
            Some(MetaValue::Text(value)) => Held::Text(value),
            Some(MetaValue::List(values)) => Held::List(values),
        },
    };
    look(held)
}

fn compare(held: Held<'_>, op: CompareOp, value: &Scalar) -> bool {
    let order = match (held, value) {
        (Held::Missing, _) => return false,
        (Held::Bool(a), Scalar::Bool(b)) => {
            return match op {
                CompareOp::Eq => a == *b,
                CompareOp::Ne => a != *b,
                _ => false,
            };
        }
        (Held::Int(a), Scalar::Int(b)) => Some(a.cmp(b)),
        (Held::Int(a), Scalar::Float(b)) => int_float(a, *b),
        (Held::Float(a), Scalar::Int(b)) => int_float(*b, a).map(Ordering::reverse),
        (Held::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
        (Held::Text(a), Scalar::Text(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
        (Held::Time(a), Scalar::Time(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match (op, order) {
        (CompareOp::Ne, order) => order != Some(Ordering::Equal),
        (_, None) => false,
        (CompareOp::Eq, Some(order)) => order.is_eq(),
        (CompareOp::Lt, Some(order)) => order.is_lt(),
        (CompareOp::Lte, Some(order)) => order.is_le(),
        (CompareOp::Gt, Some(order)) => order.is_gt(),
        (CompareOp::Gte, Some(order)) => order.is_ge(),
    }
}

/// Compares an integer with a float as the exact numbers they are.
fn int_float(int: i64, float: f64) -> Option<Ordering> {
    if float.is_nan() {
        return None;
    }
    // 2^63: every float at or above it is greater than every i64, every one below -2^63 less.
    const TWO_63: f64 = 9_223_372_036_854_775_808.0;
    if float >= TWO_63 {
        return Some(Ordering::Less);
    }
    if float < -TWO_63 {
        return Some(Ordering::Greater);
    }
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked above")]
    let whole = float.trunc() as i64;
    Some(int.cmp(&whole).then_with(|| {
        let rest = float - float.trunc();
        0.0_f64.partial_cmp(&rest).unwrap_or(Ordering::Equal)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MemoryId, UserId};

    fn item() -> MemoryItem {
        let mut item = MemoryItem::new(MemoryId::new("m").unwrap(), "x", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap());
        for (key, value) in [
            ("int", MetaValue::Int(10)),
            ("big", MetaValue::Int(i64::MAX)),
            ("float", MetaValue::Float(10.5)),
            ("text", "10".into()),
            ("flag", MetaValue::Bool(true)),
            ("list", MetaValue::List(vec!["a".into(), "b".into()])),
        ] {
            item.metadata.insert(MetaKey::new(key).unwrap(), value);
        }
        item
    }

    fn meta(key: &str) -> Field {
        Field::parse(&format!("metadata.{key}")).unwrap()
    }

    fn holds(field: Field, op: CompareOp, value: impl Into<Scalar>) -> bool {
        Filter::Compare(field, op, value.into()).matches(&item())
    }

    #[test]
    fn the_truth_table() {
        use CompareOp::{Eq, Gt, Gte, Lt, Lte, Ne};
        assert!(holds(meta("int"), Eq, 10));
        assert!(holds(meta("int"), Eq, 10.0));
        assert!(!holds(meta("int"), Eq, "10"), "numbers never compare as text");
        assert!(holds(meta("int"), Ne, "10"), "another type is not equal");
        assert!(!holds(meta("none"), Ne, 1), "`ne` needs the field");
        assert!(!holds(meta("none"), Eq, 1));
        assert!(holds(meta("int"), Gt, 9.5));
        assert!(holds(meta("float"), Gt, 10) && !holds(meta("float"), Gt, 11));
        assert!(holds(meta("text"), Lt, "9"), "texts compare as bytes");
        assert!(!holds(meta("text"), Lt, 9) && !holds(meta("text"), Gte, 9));
        assert!(holds(meta("big"), Eq, i64::MAX));
        assert!(!holds(meta("big"), Eq, i64::MAX - 1));
        assert!(!holds(meta("big"), Eq, 9_223_372_036_854_775_807.0), "2^63 is not 2^63 - 1");
        assert!(holds(meta("big"), Lt, 9_223_372_036_854_775_807.0));
        assert!(holds(meta("flag"), Eq, true) && holds(meta("flag"), Ne, false));
        assert!(!holds(meta("flag"), Eq, 1));
        assert!(!holds(meta("list"), Eq, "a") && holds(meta("list"), Ne, "a"));
        assert!(Filter::Contains(meta("list"), "a".into()).matches(&item()));
        assert!(!Filter::Contains(meta("list"), "c".into()).matches(&item()));
        assert!(!Filter::Contains(meta("text"), "1".into()).matches(&item()));
        assert!(Filter::Exists(meta("list")).matches(&item()));
        assert!(!Filter::Exists(Field::AgentId).matches(&item()));
        assert!(Filter::Not(Box::new(Filter::eq(meta("none"), 1))).matches(&item()));
        assert!(Filter::And(vec![]).matches(&item()) && !Filter::Or(vec![]).matches(&item()));
        assert!(Filter::In(Field::UserId, vec!["a".into(), "u".into()]).matches(&item()));
        assert!(holds(Field::OccurredAt, Lte, Timestamp::MIN));
    }

    #[test]
    fn malformed_filters_are_refused() {
        let mut deep = Filter::All;
        for _ in 0..FILTER_DEPTH {
            deep = Filter::Not(Box::new(deep));
        }
        let bad = [
            deep,
            Filter::And(vec![Filter::All; FILTER_NODES]),
            Filter::In(Field::Id, vec![]),
            Filter::In(Field::Id, vec!["x".into(); FILTER_IN + 1]),
            Filter::eq(meta("x"), f64::NAN),
            Filter::eq(Field::UserId, 1),
            Filter::eq(Field::OccurredAt, "2025"),
            Filter::eq(Field::Importance, "high"),
            Filter::eq(meta("x"), "x".repeat(1_501).as_str()),
            Filter::eq(meta("x"), "a\0b"),
            Filter::Compare(meta("x"), CompareOp::Lt, Scalar::Bool(true)),
            Filter::Contains(Field::Author, "x".into()),
        ];
        for filter in bad {
            assert!(filter.validate().is_err(), "{filter:?}");
        }
        assert!(Filter::eq(meta("x"), 1).and(Filter::All).validate().is_ok());
    }

    #[test]
    fn integers_and_floats_compare_exactly() {
        assert_eq!(int_float(5, 5.5), Some(Ordering::Less));
        assert_eq!(int_float(-5, -5.5), Some(Ordering::Greater));
        assert_eq!(int_float(i64::MIN, -9_223_372_036_854_775_808.0), Some(Ordering::Equal));
        assert_eq!(int_float(0, f64::INFINITY), Some(Ordering::Less));
        assert_eq!(int_float(0, f64::NAN), None);
        assert_eq!(
            int_float(9_007_199_254_740_993, 9_007_199_254_740_992.0),
            Some(Ordering::Greater)
        );
    }
}

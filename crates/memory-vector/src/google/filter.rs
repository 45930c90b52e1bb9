//! What of a filter the service can be asked: a necessary condition, never a sufficient one.
//!
//! | asked | as |
//! |---|---|
//! | a text, a boolean equals | `$eq` |
//! | a number or a time equals | `$eq` with the nearest float |
//! | a number or a time is below or above | `$lte` or `$gte` with the nearest float |
//! | one of some texts | `$in` |
//! | one of other values | `$or` of them |
//! | a list holds a text | `$all` |
//! | a field is there, is not equal; a text is below or above | `$all` on the list of fields |
//! | not | nothing: every item passes |
//!
//! The service orders numbers alone, and says nowhere what `$ne` and `$nin` mean for a field that is
//! not there, so neither is used.

use std::collections::BTreeSet;

use memory_core::{CompareOp, Error, Field, Filter, MetaKey, Result, Scalar, TenantId, Timestamp};
use serde_json::{Map, Value, json};

use super::attributes::{rounded, time};
use super::names::{self, Held};

/// A necessary condition.
#[derive(Clone, Debug, PartialEq)]
enum Needs {
    /// Every item passes.
    Everything,
    /// None does.
    Nothing,
    /// Those that the service finds by this.
    This(Value),
}

/// The condition of a search: of the tenant, visible now, and passing as much of the filter as can
/// be asked, or else of an object that carries nothing to ask for. `None`: nothing can pass.
///
/// # Errors
/// `Unsupported`: a metadata key that is not declared, named.
pub(crate) fn condition(
    tenant: &TenantId,
    now: Timestamp,
    filter: &Filter,
    keys: &BTreeSet<MetaKey>,
) -> Result<Option<Map<String, Value>>> {
    for field in filter.fields() {
        if let Field::Metadata(key) = field
            && !keys.contains(&key)
        {
            return Err(Error::unsupported(format!(
                "filters cannot name metadata.{key}: declare it in filter_keys"
            )));
        }
    }
    let mut parts = vec![
        one(names::TENANT, "$eq", tenant.as_str()),
        one(names::VISIBLE_UNTIL, "$gte", time(now)),
    ];
    match needs(filter, false) {
        Needs::Everything => {}
        Needs::Nothing => return Ok(None),
        Needs::This(value) => {
            parts.push(json!({ "$or": [value, one(names::BARE, "$eq", true)] }));
        }
    }
    Ok(Some(and(parts)))
}

/// The condition of a walk: of the tenant, whatever else.
pub(crate) fn of_tenant(tenant: &TenantId) -> Map<String, Value> {
    and(vec![one(names::TENANT, "$eq", tenant.as_str())])
}

fn and(mut parts: Vec<Value>) -> Map<String, Value> {
    match parts.pop() {
        Some(Value::Object(only)) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            Map::from_iter([("$and".to_owned(), Value::from(parts))])
        }
    }
}

fn one(name: &str, operator: &str, value: impl Into<Value>) -> Value {
    json!({ name: { operator: value.into() } })
}

/// The condition that follows from a filter, or from its negation.
fn needs(filter: &Filter, negated: bool) -> Needs {
    match filter {
        Filter::All if negated => Needs::Nothing,
        Filter::All => Needs::Everything,
        Filter::And(filters) if negated => any(filters.iter().map(|filter| needs(filter, true))),
        Filter::And(filters) => all(filters.iter().map(|filter| needs(filter, false))),
        Filter::Or(filters) if negated => all(filters.iter().map(|filter| needs(filter, true))),
        Filter::Or(filters) => any(filters.iter().map(|filter| needs(filter, false))),
        Filter::Not(filter) => needs(filter, !negated),
        _ if negated => Needs::Everything,
        Filter::Compare(field, op, value) => compare(field, *op, value),
        Filter::In(field, values) => within(field, values),
        Filter::Contains(Field::Metadata(key), text) => {
            Needs::This(one(&names::metadata(key, Held::List), "$all", vec![text.as_str()]))
        }
        Filter::Contains(..) => Needs::Nothing,
        Filter::Exists(field) => exists(field),
    }
}

fn all(parts: impl Iterator<Item = Needs>) -> Needs {
    let mut found = Vec::new();
    for part in parts {
        match part {
            Needs::Everything => {}
            Needs::Nothing => return Needs::Nothing,
            Needs::This(value) => found.push(value),
        }
    }
    match found.len() {
        0 => Needs::Everything,
        1 => Needs::This(found.remove(0)),
        _ => Needs::This(json!({ "$and": found })),
    }
}

fn any(parts: impl Iterator<Item = Needs>) -> Needs {
    let mut found = Vec::new();
    for part in parts {
        match part {
            Needs::Everything => return Needs::Everything,
            Needs::Nothing => {}
            Needs::This(value) => found.push(value),
        }
    }
    match found.len() {
        0 => Needs::Nothing,
        1 => Needs::This(found.remove(0)),
        _ => Needs::This(json!({ "$or": found })),
    }
}

/// The field of the object that holds values of this type, and the value as it is kept there.
fn kept(field: &Field, value: &Scalar) -> (String, Value, bool) {
    let (held, value, number) = match value {
        Scalar::Bool(value) => (Held::Bool, Value::from(*value), false),
        Scalar::Int(value) => (Held::Number, Value::from(rounded(*value)), true),
        Scalar::Float(value) => (Held::Number, Value::from(*value), true),
        Scalar::Text(value) => (Held::Text, Value::from(value.as_str()), false),
        Scalar::Time(value) => (Held::Number, Value::from(time(*value)), true),
    };
    let name = match field {
        Field::Metadata(key) => names::metadata(key, held),
        fixed => names::field(fixed),
    };
    (name, value, number)
}

fn compare(field: &Field, op: CompareOp, value: &Scalar) -> Needs {
    let (name, value, number) = kept(field, value);
    match op {
        CompareOp::Eq => Needs::This(one(&name, "$eq", value)),
        CompareOp::Lt | CompareOp::Lte if number => Needs::This(one(&name, "$lte", value)),
        CompareOp::Gt | CompareOp::Gte if number => Needs::This(one(&name, "$gte", value)),
        _ => exists(field),
    }
}

fn within(field: &Field, values: &[Scalar]) -> Needs {
    let mut texts = Vec::new();
    let mut others = Vec::new();
    for value in values {
        match value {
            Scalar::Text(text) => texts.push(Value::from(text.as_str())),
            other => {
                let (name, value, _) = kept(field, other);
                others.push(Needs::This(one(&name, "$eq", value)));
            }
        }
    }
    if !texts.is_empty() {
        let (name, ..) = kept(field, &Scalar::Text(String::new()));
        others.push(Needs::This(one(&name, "$in", texts)));
    }
    any(others.into_iter())
}

/// That a field is there; of those that every item has, nothing.
fn exists(field: &Field) -> Needs {
    match field {
        Field::Id
        | Field::Kind
        | Field::ContentHash
        | Field::OccurredAt
        | Field::CreatedAt
        | Field::UpdatedAt => Needs::Everything,
        other => Needs::This(one(names::HAS, "$all", vec![names::field(other)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(filter: &Filter) -> Value {
        match needs(filter, false) {
            Needs::Everything => Value::from("everything"),
            Needs::Nothing => Value::from("nothing"),
            Needs::This(value) => value,
        }
    }

    fn key(text: &str) -> Field {
        Field::Metadata(MetaKey::new(text).unwrap())
    }

    #[test]
    fn what_can_be_asked_is_asked() {
        let not = |filter: Filter| Filter::Not(Box::new(filter));
        let user = || Filter::eq(Field::UserId, "u");
        let less = |op| Filter::Compare(key("n"), op, Scalar::Int(3));
        let table = [
            (Filter::All, json!("everything")),
            (user(), json!({"f_user_id": {"$eq": "u"}})),
            (Filter::eq(Field::Id, "x"), json!({"id": {"$eq": "x"}})),
            (Filter::eq(key("a.b"), "x"), json!({"mt_a_2eb": {"$eq": "x"}})),
            (Filter::eq(key("b"), true), json!({"mb_b": {"$eq": true}})),
            (less(CompareOp::Eq), json!({"mn_n": {"$eq": 3.0}})),
            (less(CompareOp::Lt), json!({"mn_n": {"$lte": 3.0}})),
            (less(CompareOp::Gte), json!({"mn_n": {"$gte": 3.0}})),
            (less(CompareOp::Ne), json!({"has": {"$all": ["m_n"]}})),
            (
                Filter::Compare(key("t"), CompareOp::Lt, "x".into()),
                json!({"has": {"$all": ["m_t"]}}),
            ),
            (Filter::Compare(Field::Kind, CompareOp::Ne, "x".into()), json!("everything")),
            (Filter::Exists(Field::Role), json!({"has": {"$all": ["f_role"]}})),
            (Filter::Exists(Field::Kind), json!("everything")),
            (Filter::Contains(key("l"), "x".to_owned()), json!({"ml_l": {"$all": ["x"]}})),
            (
                Filter::In(key("k"), vec!["x".into(), 1.into(), "y".into()]),
                json!({"$or": [{"mn_k": {"$eq": 1.0}}, {"mt_k": {"$in": ["x", "y"]}}]}),
            ),
            (Filter::And(vec![]), json!("everything")),
            (Filter::Or(vec![]), json!("nothing")),
            (not(Filter::Or(vec![])), json!("everything")),
            (not(Filter::All), json!("nothing")),
            (not(user()), json!("everything")),
            (not(not(user())), json!({"f_user_id": {"$eq": "u"}})),
            (not(Filter::And(vec![not(user())])), json!({"f_user_id": {"$eq": "u"}})),
            (
                not(Filter::Or(vec![not(user()), not(less(CompareOp::Eq))])),
                json!({"$and": [{"f_user_id": {"$eq": "u"}}, {"mn_n": {"$eq": 3.0}}]}),
            ),
            (Filter::And(vec![user(), not(user())]), json!({"f_user_id": {"$eq": "u"}})),
            (Filter::Or(vec![user(), not(user())]), json!("everything")),
        ];
        for (filter, expected) in table {
            assert_eq!(said(&filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn tenant_and_time_stand_in_every_condition_and_undeclared_keys_are_refused() {
        let tenant = TenantId::new("t").unwrap();
        let now = Timestamp::from_micros(1_000_000).unwrap();
        let keys = BTreeSet::from([MetaKey::new("a").unwrap()]);
        let of = |filter: &Filter| condition(&tenant, now, filter, &keys);
        let parts = json!([{"tenant": {"$eq": "t"}}, {"visible_until": {"$gte": 1_000_000.0}}]);
        assert_eq!(Value::from(of(&Filter::All).unwrap().unwrap()), json!({ "$and": parts }));
        let filtered = Value::from(of(&Filter::eq(key("a"), "x")).unwrap().unwrap());
        assert_eq!(
            filtered["$and"][2],
            json!({"$or": [{"mt_a": {"$eq": "x"}}, {"bare": {"$eq": true}}]})
        );
        assert_eq!(of(&Filter::Or(vec![])).unwrap(), None);
        let nested = Filter::Not(Box::new(Filter::Exists(key("b"))));
        let error = of(&nested).unwrap_err();
        assert_eq!(error.kind(), memory_core::ErrorKind::Unsupported);
        assert!(error.message().contains("metadata.b"), "{error}");
        assert_eq!(Value::from(of_tenant(&tenant)), json!({"tenant": {"$eq": "t"}}));
    }

    #[test]
    fn rounded_bounds_lose_nothing() {
        // Neighbours that the same float stands for.
        let (low, high) = (9_007_199_254_740_992_i64, 9_007_199_254_740_993_i64);
        assert_eq!(rounded(low).to_bits(), rounded(high).to_bits());
        let filter = Filter::Compare(key("n"), CompareOp::Gt, Scalar::Int(low));
        assert_eq!(said(&filter), json!({"mn_n": {"$gte": rounded(high)}}));
    }
}

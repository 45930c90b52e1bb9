//! Filters as SQL: fixed texts and bound values, nothing pasted.
//!
//! Every condition is two-valued by construction: a column that may be NULL is compared behind
//! `IS NOT NULL`, and metadata conditions are memberships of the item's key in a set.
//! Metadata sets begin with the tenant's number, the first part of their index, so an index entry
//! of another tenant is not even looked at.

use memory_core::{CompareOp, Field, Filter, Result, Scalar};
use rusqlite::types::Value;

/// A condition on `item i`, with its values in order.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
}

impl Condition {
    fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    fn bind(&mut self, value: Value) {
        self.sql.push('?');
        self.values.push(value);
    }
}

/// Turns a filter into a condition for one tenant.
///
/// # Errors
/// `InvalidInput`: the filter is not valid.
pub(crate) fn condition(filter: &Filter, tenant: i64) -> Result<Condition> {
    filter.validate()?;
    let mut out = Condition::default();
    write(filter, tenant, &mut out);
    Ok(out)
}

fn write(filter: &Filter, tenant: i64, out: &mut Condition) {
    let mut join = |filters: &[Filter], empty: &str, word: &str| {
        if filters.is_empty() {
            return out.push(empty);
        }
        out.push("(");
        for (place, filter) in filters.iter().enumerate() {
            if place > 0 {
                out.push(word);
            }
            write(filter, tenant, out);
        }
        out.push(")");
    };
    match filter {
        Filter::All => out.push("1"),
        Filter::And(filters) => join(filters, "1", " AND "),
        Filter::Or(filters) => join(filters, "0", " OR "),
        Filter::Not(filter) => {
            out.push("NOT ");
            // Parentheses: NOT binds looser than comparison, but readers should not have to know.
            out.push("(");
            write(filter, tenant, out);
            out.push(")");
        }
        Filter::Compare(field, op, value) => compare(field, *op, value, tenant, out),
        Filter::In(field, values) => {
            out.push("(");
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    out.push(" OR ");
                }
                compare(field, CompareOp::Eq, value, tenant, out);
            }
            out.push(")");
        }
        Filter::Contains(field, text) => match field {
            Field::Metadata(key) => {
                members(key.as_str(), tenant, out);
                out.push(" AND type = 'l' AND value = ");
                out.bind(Value::Text(text.clone()));
                out.push(")");
            }
            _ => out.push("0"),
        },
        Filter::Exists(field) => match (field, column(field)) {
            (Field::Metadata(key), _) => {
                members(key.as_str(), tenant, out);
                out.push(")");
            }
            (_, Some((column, true))) => {
                out.push(column);
                out.push(" IS NOT NULL");
            }
            _ => out.push("1"),
        },
    }
}

/// Opens the set of the tenant's items that have a metadata key.
fn members(key: &str, tenant: i64, out: &mut Condition) {
    // `item >> 36` is the tenant, written as the index has it.
    out.push("i.item IN (SELECT item FROM metadata WHERE item >> 36 = ");
    out.bind(Value::Integer(tenant));
    out.push(" AND key = ");
    out.bind(Value::Text(key.to_owned()));
}

fn compare(field: &Field, op: CompareOp, value: &Scalar, tenant: i64, out: &mut Condition) {
    match field {
        Field::Metadata(key) => compare_metadata(key.as_str(), op, value, tenant, out),
        Field::ContentHash => compare_hash(op, value, out),
        _ => {
            let Some((column, nullable)) = column(field) else { return out.push("0") };
            out.push("(");
            if nullable {
                out.push(column);
                out.push(" IS NOT NULL AND ");
            }
            out.push(column);
            out.push(symbol(op));
            out.bind(bound(value));
            out.push(")");
        }
    }
}

fn compare_metadata(key: &str, op: CompareOp, value: &Scalar, tenant: i64, out: &mut Condition) {
    let types = match value {
        Scalar::Bool(_) => "type = 'b'",
        Scalar::Int(_) | Scalar::Float(_) => "type IN ('i', 'f')",
        Scalar::Text(_) => "type = 's'",
        // No metadata value is a time: validation refuses it.
        Scalar::Time(_) => "0",
    };
    if op == CompareOp::Ne {
        // There, and not equal: another type is not equal either.
        out.push("(");
        members(key, tenant, out);
        out.push(") AND NOT ");
        compare_metadata(key, CompareOp::Eq, value, tenant, out);
        out.push(")");
        return;
    }
    members(key, tenant, out);
    out.push(" AND ");
    out.push(types);
    // SQLite compares an INTEGER with a REAL as the exact numbers they are.
    out.push(" AND value");
    out.push(symbol(op));
    out.bind(bound(value));
    out.push(")");
}

fn compare_hash(op: CompareOp, value: &Scalar, out: &mut Condition) {
    let Scalar::Text(text) = value else { return out.push("0") };
    let hash = memory_core::ContentHash::parse(text).ok().filter(|hash| hash.to_string() == *text);
    match (op, hash) {
        // The column's bytes, which have an index, for the question that is asked most.
        (CompareOp::Eq, Some(hash)) => {
            out.push("i.content_hash = ");
            out.bind(Value::Blob(hash.as_bytes().to_vec()));
        }
        _ => {
            out.push("lower(hex(i.content_hash))");
            out.push(symbol(op));
            out.bind(Value::Text(text.clone()));
        }
    }
}

/// A fixed field's column, and whether it may be NULL.
fn column(field: &Field) -> Option<(&'static str, bool)> {
    Some(match field {
        Field::Id => ("i.id", false),
        Field::UserId => ("i.user_id", true),
        Field::AgentId => ("i.agent_id", true),
        Field::SessionId => ("i.session_id", true),
        Field::Kind => ("i.kind", false),
        Field::Role => ("i.role", true),
        Field::Author => ("i.author", true),
        Field::ContentHash => ("i.content_hash", false),
        Field::Importance => ("i.importance", true),
        Field::OccurredAt => ("i.occurred_at", false),
        Field::CreatedAt => ("i.created_at", false),
        Field::UpdatedAt => ("i.updated_at", false),
        Field::ExpiresAt => ("i.expires_at", true),
        Field::Metadata(_) => return None,
    })
}

fn symbol(op: CompareOp) -> &'static str {
    match op {
        CompareOp::Eq => " = ",
        CompareOp::Ne => " <> ",
        CompareOp::Lt => " < ",
        CompareOp::Lte => " <= ",
        CompareOp::Gt => " > ",
        CompareOp::Gte => " >= ",
    }
}

fn bound(value: &Scalar) -> Value {
    match value {
        Scalar::Bool(value) => Value::Integer(i64::from(*value)),
        Scalar::Int(value) => Value::Integer(*value),
        Scalar::Float(value) => Value::Real(*value),
        Scalar::Text(text) => Value::Text(text.clone()),
        Scalar::Time(time) => Value::Integer(time.as_micros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_values_are_bound_and_never_pasted() {
        let hostile = "x' OR 1=1 --";
        let filter = Filter::And(vec![
            Filter::eq(Field::UserId, hostile),
            Filter::eq(Field::parse(&format!("metadata.{hostile}")).unwrap(), hostile),
            Filter::Contains(Field::parse("metadata.k").unwrap(), hostile.to_owned()),
        ]);
        let condition = condition(&filter, 3).unwrap();
        assert!(!condition.sql.contains("1=1"), "{}", condition.sql);
        assert_eq!(condition.sql.matches('?').count(), condition.values.len());
        let texts = condition
            .values
            .iter()
            .filter(|value| matches!(value, Value::Text(text) if text.contains(hostile)))
            .count();
        assert_eq!(texts, 4);
    }

    #[test]
    fn an_invalid_filter_is_refused() {
        assert!(condition(&Filter::In(Field::Id, vec![]), 1).is_err());
        assert_eq!(condition(&Filter::All, 1).unwrap().sql, "1");
    }
}

//! The service's filter language, as its page has it: what it does not name is refused.

use serde_json::{Map, Value};

use super::service::{No, invalid};

/// Whether an object's data passes a filter.
pub(super) fn passes(
    filter: &Value,
    data: &Map<String, Value>,
    schema: &Value,
) -> Result<bool, No> {
    let Some(filter) = filter.as_object() else { return Err(invalid("a filter is an object")) };
    if filter.len() != 1 {
        return Err(invalid("a filter has one entry"));
    }
    let (name, wanted) = filter.iter().next().unwrap();
    match name.as_str() {
        "$and" => {
            let mut all = true;
            for part in list(wanted)? {
                all &= passes(part, data, schema)?;
            }
            Ok(all)
        }
        "$or" => {
            let mut any = false;
            for part in list(wanted)? {
                any |= passes(part, data, schema)?;
            }
            Ok(any)
        }
        field => {
            let kind = schema["properties"][field]["type"]
                .as_str()
                .ok_or_else(|| invalid("a filter names a field that the schema does not have"))?;
            let Some(wanted) = wanted.as_object().filter(|wanted| wanted.len() == 1) else {
                return Err(invalid("a field has one operator"));
            };
            let (operator, value) = wanted.iter().next().unwrap();
            holds(operator, value, data.get(field), kind)
        }
    }
}

fn list(value: &Value) -> Result<&Vec<Value>, No> {
    value.as_array().filter(|list| !list.is_empty()).ok_or_else(|| invalid("an empty list"))
}

fn holds(operator: &str, value: &Value, held: Option<&Value>, kind: &str) -> Result<bool, No> {
    let number = |value: &Value| value.as_f64().ok_or_else(|| invalid("not a number"));
    match operator {
        "$eq" => {
            let fits = match value {
                Value::Bool(_) => kind == "boolean",
                Value::Number(_) => kind == "number",
                Value::String(_) => kind == "string",
                _ => false,
            };
            if !fits {
                return Err(invalid("$eq takes a number, a string or a boolean, as the field is"));
            }
            Ok(held.is_some_and(|held| match (held.as_f64(), value.as_f64()) {
                (Some(held), Some(value)) => held == value,
                _ => held == value,
            }))
        }
        "$gt" | "$gte" | "$lt" | "$lte" => {
            let value = number(value)?;
            if kind != "number" {
                return Err(invalid("only numbers have an order"));
            }
            let Some(held) = held.and_then(Value::as_f64) else { return Ok(false) };
            Ok(match operator {
                "$gt" => held > value,
                "$gte" => held >= value,
                "$lt" => held < value,
                _ => held <= value,
            })
        }
        "$in" => {
            let values = list(value)?;
            if kind != "string" || !values.iter().all(Value::is_string) {
                return Err(invalid("$in takes strings"));
            }
            Ok(held.is_some_and(|held| values.contains(held)))
        }
        "$all" => {
            let values = list(value)?;
            if kind != "array" {
                return Err(invalid("$all is for arrays"));
            }
            let held = held.and_then(Value::as_array);
            Ok(held.is_some_and(|held| values.iter().all(|value| held.contains(value))))
        }
        _ => Err(invalid("an operator that the client is not meant to use")),
    }
}

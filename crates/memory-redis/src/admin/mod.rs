//! What operators and workers ask: the change log, leases, the directory, what the store knows of
//! itself, figures and checks.

mod changes;
mod directory;
mod leases;
mod meta;
mod upkeep;

use memory_core::Result;
use redis::Value;

use crate::error::corrupt;

pub(crate) use changes::{head, trim_now_and_then};
pub(crate) use directory::{enlist, listed_as, unlist};
pub(crate) use meta::{check_store, keep_tombstones, store_key, tombstone};

/// A text of an answer.
///
/// # Errors
/// `Corrupt`: something else stands there.
pub(crate) fn text(value: &Value) -> Result<String> {
    match value {
        Value::Nil => Ok(String::new()),
        Value::BulkString(bytes) => {
            String::from_utf8(bytes.clone()).map_err(|_| corrupt("an answer is not UTF-8"))
        }
        Value::SimpleString(text) => Ok(text.clone()),
        Value::Int(number) => Ok(number.to_string()),
        _ => Err(corrupt("an answer has another shape than was asked for")),
    }
}

/// A number of an answer.
///
/// # Errors
/// `Corrupt`: something else stands there.
pub(crate) fn int(value: &Value) -> Result<i64> {
    match value {
        Value::Nil => Ok(0),
        Value::Int(number) => Ok(*number),
        other => text(other)?.parse().map_err(|_| corrupt("an answer is not a number")),
    }
}

/// A number of an answer that is never negative.
///
/// # Errors
/// `Corrupt`: something else stands there.
pub(crate) fn count(value: &Value) -> Result<u64> {
    u64::try_from(int(value)?).map_err(|_| corrupt("an answer is a negative number"))
}

/// The values of a list.
///
/// # Errors
/// `Corrupt`: it is no list.
pub(crate) fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) | Value::Set(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(corrupt("an answer is no list")),
    }
}

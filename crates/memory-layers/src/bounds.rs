//! Checks of settings that say all faults at once.

use std::fmt::Display;

use memory_core::{Error, ErrorKind, Result};

/// Adds a sentence to `faults` where a value lies out of its range.
pub(crate) fn within<T: PartialOrd + Display + Copy>(
    faults: &mut Vec<String>,
    name: &str,
    value: T,
    low: T,
    high: T,
) {
    // What is not a number lies in no range.
    if !(low..=high).contains(&value) {
        faults.push(format!("{name} lies in {low} to {high}; this is {value}"));
    }
}

/// One `Config` error for all faults; nothing for none.
pub(crate) fn refused(faults: &[String]) -> Result<()> {
    if faults.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Config, faults.join("; ")))
}

//! Instants: UTC, microseconds, years 1 to 9999.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An instant in microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z, the first instant that every back end can hold.
    pub const MIN: Self = Self(-62_135_596_800_000_000);
    /// 9999-12-30T22:00:00Z, the last one: the latest that reads the same at every offset.
    pub const MAX: Self = Self(253_402_207_200_000_000);
    /// What `visible_until` holds for an item that never expires.
    pub const FAR_FUTURE: Self = Self::MAX;

    /// Wraps microseconds since the epoch.
    ///
    /// # Errors
    /// `InvalidInput`: outside the years 1 to 9999.
    pub fn from_micros(micros: i64) -> Result<Self> {
        if (Self::MIN.0..=Self::MAX.0).contains(&micros) {
            Ok(Self(micros))
        } else {
            Err(Error::invalid("the time lies outside the years 1 to 9999"))
        }
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 time with its offset; digits below a microsecond are cut.
    ///
    /// # Errors
    /// `InvalidInput`: no such time, no offset, or outside the years 1 to 9999.
    pub fn parse(text: &str) -> Result<Self> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| {
            Error::invalid("a time is written as RFC 3339 with an offset: 2025-03-01T09:30:00Z")
        })?;
        let micros = parsed.as_nanosecond().div_euclid(1_000);
        Self::from_micros(
            i64::try_from(micros).map_err(|_| Error::invalid("the time is out of range"))?,
        )
    }

    /// This instant and a span after it, held within the range.
    #[must_use]
    pub fn saturating_add(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros).min(Self::MAX.0))
    }

    /// This instant less a span, held within the range.
    #[must_use]
    pub fn saturating_sub(self, span: Duration) -> Self {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros).max(Self::MIN.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => write!(f, "{}us", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

impl TryFrom<String> for Timestamp {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_at_microseconds() {
        let time = Timestamp::parse("2025-03-01T10:30:00.1234569+01:00").unwrap();
        assert_eq!(time.to_string(), "2025-03-01T09:30:00.123456Z");
        assert_eq!(Timestamp::parse(&time.to_string()).unwrap(), time);
        let before = Timestamp::parse("1969-12-31T23:59:59.9999995Z").unwrap();
        assert_eq!(before.as_micros(), -1);
    }

    #[test]
    fn the_range_is_held() {
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00Z").unwrap(), Timestamp::MIN);
        assert_eq!(Timestamp::from_micros(Timestamp::MAX.0).unwrap(), Timestamp::MAX);
        // The range's ends print, and the first reads back.
        assert_eq!(Timestamp::MIN.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Timestamp::MAX.to_string(), "9999-12-30T22:00:00Z");
        for bad in ["", "2025-03-01", "2025-03-01T10:30:00", "0000-12-31T23:59:59Z", "yesterday"] {
            assert!(Timestamp::parse(bad).is_err(), "{bad}");
        }
        assert!(Timestamp::from_micros(i64::MAX).is_err());
        assert_eq!(Timestamp::MAX.saturating_add(Duration::from_secs(1)), Timestamp::MAX);
        assert_eq!(Timestamp::MIN.saturating_sub(Duration::MAX), Timestamp::MIN);
    }
}

//! How near a day is to a date of which some parts are known.

use super::dates::{PartialDate, days_in};

impl PartialDate {
    /// How near a day is to the date, in [0, 1]: 1 on it, or anywhere in the month or the year where
    /// no more is known, and falling evenly to 0 at `within` days before it begins or after it
    /// ends. A date without a year is that of any year, the nearest one counts.
    ///
    /// `day` counts from 1 January 1970. With `within` 0 only the date itself counts.
    #[must_use]
    pub fn nearness(&self, day: i64, within: u32) -> f64 {
        let distance = match self.year {
            Some(year) => self.distance(i64::from(year), day),
            // A day of December may be near a January.
            None => {
                let year = year_of(day);
                (year - 1..=year + 1).filter_map(|year| self.distance(year, day)).min()
            }
        };
        match distance {
            Some(0) => 1.0,
            Some(away) if away < i64::from(within) => {
                let away = u32::try_from(away).unwrap_or(u32::MAX);
                1.0 - f64::from(away) / f64::from(within)
            }
            _ => 0.0,
        }
    }

    /// Days between a day and the date in a year; `None` where the year has no such date.
    fn distance(&self, year: i64, day: i64) -> Option<i64> {
        let (first, last) = match (self.month, self.day) {
            (Some(month), Some(of_month)) => {
                let length = days_in(u16::try_from(year).ok(), month)?;
                if of_month > length {
                    return None;
                }
                let at = day_number(year, month, of_month);
                (at, at)
            }
            (Some(month), None) => {
                let length = days_in(u16::try_from(year).ok(), month)?;
                (day_number(year, month, 1), day_number(year, month, length))
            }
            (None, _) => (day_number(year, 1, 1), day_number(year, 12, 31)),
        };
        Some((first - day).max(day - last).max(0))
    }
}

/// The number of a day of the proleptic Gregorian calendar, counted from 1 January 1970.
fn day_number(year: i64, month: u8, day: u8) -> i64 {
    // Years that begin in March, so that the leap day is the last; 400 of them have 146,097 days.
    let year = if month <= 2 { year - 1 } else { year };
    let month = (i64::from(month) + 9) % 12;
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year of a day.
fn year_of(day: i64) -> i64 {
    // The mean year of the calendar is exact to a day or two, which two steps mend.
    let mut year = 1970 + day * 400 / 146_097;
    while day < day_number(year, 1, 1) {
        year -= 1;
    }
    while day > day_number(year, 12, 31) {
        year += 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use super::super::dates;
    use super::*;

    fn near(text: &str, day: i64, within: u32) -> f64 {
        dates(text)[0].date.nearness(day, within)
    }

    #[test]
    fn days_are_numbered_as_the_calendar_has_them() {
        for (number, (year, month, day)) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_484, (2023, 5, 7)),
            (-719_162, (1, 1, 1)),
        ] {
            assert_eq!(day_number(year, month, day), number);
            assert_eq!(year_of(number), year);
        }
    }

    #[test]
    fn a_whole_date_is_one_day_and_its_neighbourhood() {
        let day = day_number(2023, 5, 7);
        assert_eq!(near("7 May 2023", day, 7), 1.0);
        assert!((near("7 May 2023", day + 1, 7) - 6.0 / 7.0).abs() < 1e-12);
        assert!((near("7 May 2023", day - 6, 7) - 1.0 / 7.0).abs() < 1e-12);
        assert_eq!(near("7 May 2023", day + 7, 7), 0.0);
        assert_eq!(near("7 May 2023", day + 1, 0), 0.0);
        assert_eq!(near("7 May 2023", day, 0), 1.0);
    }

    #[test]
    fn months_and_years_are_spans() {
        assert_eq!(near("in May 2023", day_number(2023, 5, 31), 7), 1.0);
        assert!((near("in May 2023", day_number(2023, 6, 1), 7) - 6.0 / 7.0).abs() < 1e-12);
        assert_eq!(near("in May 2023", day_number(2022, 5, 31), 7), 0.0);
        assert_eq!(near("since 2023", day_number(2023, 12, 31), 7), 1.0);
        assert_eq!(near("since 2023", day_number(2024, 2, 1), 7), 0.0);
    }

    #[test]
    fn without_a_year_the_nearest_one_counts() {
        assert_eq!(near("in January", day_number(1999, 1, 5), 7), 1.0);
        assert!((near("1 January", day_number(1999, 12, 31), 7) - 6.0 / 7.0).abs() < 1e-12);
        assert!((near("31 December", day_number(2000, 1, 1), 7) - 6.0 / 7.0).abs() < 1e-12);
        // Only leap years have the day.
        assert_eq!(near("29 February", day_number(2024, 2, 29), 7), 1.0);
        assert_eq!(near("29 February", day_number(2022, 3, 1), 7), 0.0);
    }
}

//! Dates as English texts write them, whole or in part.

use super::tokens::{Token, tokens};
use std::fmt;
use std::ops::Range;

/// A date of which some parts are known.
///
/// At least one part is; a day only ever comes with its month, and fits it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PartialDate {
    /// 1000 to 2999; 1900 to 2099 when it stands alone.
    pub year: Option<u16>,
    /// 1 to 12.
    pub month: Option<u8>,
    /// 1 to the length of the month; 29 February is accepted where no year is known.
    pub day: Option<u8>,
}

impl PartialDate {
    fn new(year: Option<u16>, month: Option<u8>, day: Option<u8>) -> Option<Self> {
        let date = Self { year, month, day };
        let fits = match (month, day) {
            (Some(month), Some(day)) => day >= 1 && day <= days_in(year, month)?,
            (Some(month), None) => days_in(year, month).is_some(),
            (None, Some(_)) => false,
            (None, None) => year.is_some(),
        };
        (fits && year.is_none_or(|year| (1000..3000).contains(&year))).then_some(date)
    }
}

impl fmt::Display for PartialDate {
    /// As ISO 8601 writes it: `2023`, `2023-05`, `2023-05-07`, and `--05`, `--05-07` without a
    /// year.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.year {
            Some(year) => write!(f, "{year:04}")?,
            None => f.write_str("-")?,
        }
        for part in [self.month, self.day].into_iter().flatten() {
            write!(f, "-{part:02}")?;
        }
        Ok(())
    }
}

/// A date in a text, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DateMention {
    /// What is known of the date.
    pub date: PartialDate,
    /// The bytes of the text that say it.
    pub span: Range<usize>,
}

/// The dates that `text` mentions, in its order; spans do not overlap.
///
/// Read are ISO dates (`2023-05-07`, `2023/05/07`, `2023-05`, also before a time of day);
/// `7 May 2023`, `7th of May, 2023`, `May 7, 2023`, `May 7`, `7 May`, `May 2023`; numbers with
/// slashes or stops (`25/12/2023`), of which day and month are left out where either order is
/// possible; months and years alone. English month names and their usual abbreviations count,
/// in any case. A month's name that is also a word or a person's (`May`, `March`, `April`,
/// `June`, `August`, and the abbreviations) counts alone only after a word such as `in` or
/// `since`. An impossible day leaves the month and the year: `31 February 2023` is
/// `2023-02`.
#[must_use]
pub fn dates(text: &str) -> Vec<DateMention> {
    let words = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let rest = &words[at..];
        let before = at.checked_sub(1).map(|n| words[n]);
        let read = numeric(rest)
            .or_else(|| day_first(rest))
            .or_else(|| month_first(rest, before))
            .or_else(|| year_alone(rest, before));
        match read {
            Some((date, used)) if used > 0 => {
                let span = words[at].start..words[at + used - 1].end();
                found.push(DateMention { date, span });
                at += used;
            }
            _ => at += 1,
        }
    }
    found
}

/// A date and the number of words that it takes.
type Read = Option<(PartialDate, usize)>;

/// `2023-05-07`, `2023/05`, `25/12/2023`, `25.12.2023`.
fn numeric(words: &[Token<'_>]) -> Read {
    let separator = words.get(1)?.gap;
    if !["-", "/", "."].contains(&separator) {
        return None;
    }
    let third = words.get(2).filter(|word| word.gap == separator);
    let first = words[0].text;
    if first.len() == 4 {
        let year = Some(number(first)?);
        let month = u8::try_from(number(words[1].text)?).ok()?;
        if separator == "." || words[1].text.len() > 2 {
            return None;
        }
        // The day may be followed at once by a time of day, as in 2023-05-07T10:00.
        if let Some(third) = third {
            let day = third.text.split(['T', 't']).next().unwrap_or_default();
            let day = number(day).filter(|_| day.len() <= 2).and_then(|day| u8::try_from(day).ok());
            if let Some(date) = PartialDate::new(year, Some(month), Some(day?)) {
                return Some((date, 3));
            }
        }
        // Two numbers with a hyphen may be a span of years; only a written-out month counts.
        let date = PartialDate::new(year, Some(month), None)?;
        return (words[1].text.len() == 2).then_some((date, 2));
    }
    let third = third.filter(|word| word.text.len() == 4)?;
    let (a, b) = (number(first)?, number(words[1].text)?);
    if first.len() > 2 || words[1].text.len() > 2 {
        return None;
    }
    let (a, b) = (u8::try_from(a).ok()?, u8::try_from(b).ok()?);
    let year = Some(number(third.text)?);
    let day_month = PartialDate::new(year, Some(b), Some(a));
    let month_day = PartialDate::new(year, Some(a), Some(b));
    let date = match (day_month, month_day) {
        (Some(date), None) | (None, Some(date)) => date,
        (Some(date), Some(other)) if date == other => date,
        (Some(_), Some(_)) => PartialDate::new(year, None, None)?,
        (None, None) => return None,
    };
    Some((date, 3))
}

/// `7 May 2023`, `7th of May`, `the 7th May, 2023`.
fn day_first(words: &[Token<'_>]) -> Read {
    let day = day_number(words[0].text)?;
    let of = words.get(1).is_some_and(|word| word.text.eq_ignore_ascii_case("of"));
    let at = if of { 2 } else { 1 };
    let near = |n: usize| words.get(n).filter(|word| matches!(word.gap, " " | "-" | ". "));
    if of {
        near(1)?;
    }
    let month = month(near(at)?.text)?;
    let (year, used) = year_after(words, at + 1);
    match PartialDate::new(year, Some(month.number), Some(day)) {
        Some(date) => Some((date, used)),
        None => Some((PartialDate::new(year, Some(month.number), None)?, used)),
    }
}

/// `May 7, 2023`, `May 7`, `May 2023`, `in May`.
fn month_first(words: &[Token<'_>], before: Option<Token<'_>>) -> Read {
    let month = month(words[0].text)?;
    let near = words.get(1).filter(|word| matches!(word.gap, " " | "-" | ". " | " the "));
    if let Some(day) = near.and_then(|word| day_number(word.text)) {
        let (year, used) = year_after(words, 2);
        if let Some(date) = PartialDate::new(year, Some(month.number), Some(day)) {
            return Some((date, used));
        }
    }
    let (year, used) = year_after(words, 1);
    let told = year.is_some() || !month.ambiguous || before.is_some_and(|word| leads_to_date(word));
    let date = PartialDate::new(year, Some(month.number), None)?;
    told.then_some((date, used))
}

/// `2023`, if it can be nothing else: not a part of a larger number, not an amount.
fn year_alone(words: &[Token<'_>], before: Option<Token<'_>>) -> Read {
    let word = words[0];
    let decade = word.text.strip_suffix('s').is_some();
    let year = number(word.text).filter(|year| (1900..2100).contains(year) && !decade)?;
    let digit = |token: Token<'_>| token.text.bytes().all(|byte| byte.is_ascii_digit());
    let tight = |gap: &str| [",", ".", ":", "/"].contains(&gap);
    let in_number = (before.is_some_and(digit) && tight(word.gap))
        || words.get(1).is_some_and(|next| digit(*next) && tight(next.gap));
    let amount = word.gap.ends_with(['$', '€', '£', '#', '+']);
    (!in_number && !amount).then_some((PartialDate::new(Some(year), None, None)?, 1))
}

/// The year at `at`, if one stands there, and the number of words up to and with it.
fn year_after(words: &[Token<'_>], at: usize) -> (Option<u16>, usize) {
    let near = words.get(at).filter(|word| matches!(word.gap, " " | ", " | "," | "-" | ". "));
    let year = near.filter(|word| word.text.len() == 4).and_then(|word| number(word.text));
    match year.filter(|year| (1000..3000).contains(year)) {
        Some(year) => (Some(year), at + 1),
        None => (None, at),
    }
}

/// A month by its name.
struct Month {
    number: u8,
    /// The name is also an ordinary word or a person's.
    ambiguous: bool,
}

fn month(word: &str) -> Option<Month> {
    const NAMES: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    if !word.is_ascii() || word.len() < 3 || word.len() > 9 {
        return None;
    }
    let lower = word.to_ascii_lowercase();
    let whole = NAMES.iter().position(|name| *name == lower);
    let at = whole.or_else(|| {
        let abbreviation = lower.len() == 3 || lower == "sept";
        NAMES.iter().position(|name| abbreviation && name.starts_with(&lower))
    })?;
    let ambiguous =
        whole.is_none() || matches!(lower.as_str(), "march" | "april" | "may" | "june" | "august");
    Some(Month { number: u8::try_from(at + 1).ok()?, ambiguous })
}

/// Words after which a month's name means the month.
fn leads_to_date(word: Token<'_>) -> bool {
    const WORDS: [&str; 14] = [
        "in",
        "during",
        "since",
        "until",
        "till",
        "last",
        "next",
        "this",
        "early",
        "late",
        "mid",
        "throughout",
        "every",
        "each",
    ];
    WORDS.iter().any(|known| word.text.eq_ignore_ascii_case(known))
}

/// A number of plain digits that fits.
fn number(word: &str) -> Option<u16> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    word.parse().ok()
}

/// `7`, `07`, `7th`.
fn day_number(word: &str) -> Option<u8> {
    let digits = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let ordinal = matches!(&word[digits.len()..], "" | "st" | "nd" | "rd" | "th");
    let day = number(digits).filter(|_| ordinal && digits.len() <= 2)?;
    u8::try_from(day).ok().filter(|day| (1..=31).contains(day))
}

/// The length of a month; `None` for no month. Without a year February has 29 days.
pub(super) fn days_in(year: Option<u16>, month: u8) -> Option<u8> {
    let leap = year.is_none_or(|year| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    });
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 if leap => Some(29),
        2 => Some(28),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        dates(text).iter().map(|mention| mention.date.to_string()).collect()
    }

    #[test]
    fn the_written_forms() {
        let table: [(&str, &[&str]); 29] = [
            ("on 2023-05-07.", &["2023-05-07"]),
            ("at 2023-05-07T10:00:00Z", &["2023-05-07"]),
            ("2023/05/07 and 2023-05", &["2023-05-07", "2023-05"]),
            ("7 May 2023", &["2023-05-07"]),
            ("the 7th of May, 2023", &["2023-05-07"]),
            ("May 7, 2023", &["2023-05-07"]),
            ("May 7th", &["--05-07"]),
            ("7 may", &["--05-07"]),
            ("3rd Sept. 2021", &["2021-09-03"]),
            ("Dec 2022 and january", &["2022-12", "--01"]),
            ("in May or since 2019", &["--05", "2019"]),
            ("last March", &["--03"]),
            ("25/12/2023 and 12/25/2023", &["2023-12-25", "2023-12-25"]),
            ("7/5/2023", &["2023"]),
            ("5/5/2023", &["2023-05-05"]),
            ("25.12.2023", &["2023-12-25"]),
            ("29 February 2024, 29 February", &["2024-02-29", "--02-29"]),
            ("31 February 2023", &["2023-02"]),
            ("29 February 2023", &["2023-02"]),
            ("2023-13-01", &["2023"]),
            ("May I ask? April may march.", &[]),
            ("Jan called June", &[]),
            ("it cost $2000 and 12,000 or 2000.5", &[]),
            ("the 1990s", &[]),
            ("1850 people, 20235, 999", &[]),
            ("99/99/2023", &[]),
            ("", &[]),
            ("10 June 2022 to 3 July 2022", &["2022-06-10", "2022-07-03"]),
            ("in 2022 and 2023?", &["2022", "2023"]),
        ];
        for (text, expected) in table {
            assert_eq!(found(text), expected, "{text}");
        }
    }

    #[test]
    fn spans_cover_the_words() {
        let text = "Ünder 7th of May, 2023 — or in June?";
        let mentions = dates(text);
        let said: Vec<&str> = mentions.iter().map(|mention| &text[mention.span.clone()]).collect();
        assert_eq!(said, ["7th of May, 2023", "June"]);
    }

    #[test]
    fn days_fit_their_months() {
        assert_eq!(days_in(Some(1900), 2), Some(28));
        assert_eq!(days_in(Some(2000), 2), Some(29));
        assert_eq!(days_in(None, 13), None);
        assert_eq!(PartialDate::new(None, None, Some(3)), None);
        assert_eq!(PartialDate::new(None, None, None), None);
    }
}

//! The `Retry-After` of a server: how long it asks to wait, within bounds.

use std::time::Duration;

use memory_core::Timestamp;

/// The longest wait that is taken over from a server: a day. Beyond it a caller gives up anyway.
const MOST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// Reads the header's value: seconds, or a date such as `Sun, 06 Nov 1994 08:49:37 GMT`, counted
/// from `now`. A day at the most; zero for a date that has passed; `None` for anything else.
pub(crate) fn wait(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a u64 has are longer than the longest wait too.
        text.parse().map_or(MOST_WAIT, Duration::from_secs)
    } else {
        let micros = date(text)?.as_micros().saturating_sub(now.as_micros());
        // A date that has passed: at once.
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    };
    Some(wait.min(MOST_WAIT))
}

fn date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = parts[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Timestamp::parse(&format!("{year}-{month:02}-{day}T{time}Z")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_in_seconds_and_as_dates_and_are_bounded() {
        let now = Timestamp::parse("2025-11-06T08:49:00Z").unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 17 ", Some(17)),
            ("86401", Some(86_400)),
            ("99999999999999999999999", Some(86_400)),
            ("Thu, 06 Nov 2025 08:49:37 GMT", Some(37)),
            ("Thu, 06 Nov 2025 08:48:00 GMT", Some(0)),
            ("Sun, 06 Nov 2035 08:49:37 GMT", Some(86_400)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Thu, 06 Nix 2025 08:49:37 GMT", None),
            ("Thu, 36 Nov 2025 08:49:37 GMT", None),
            ("Thu, 06 Nov 2025 08:49:37 CET", None),
            ("Thursday, 06-Nov-25 08:49:37 GMT", None),
        ] {
            assert_eq!(wait(text, now).map(|wait| wait.as_secs()), expected, "{text}");
        }
    }
}

//! Revisions: what a compare and swap needs to know of a document, without reading it.
//!
//! A revision is `{update time}.{expiry}.{content hash}`: the server's update time in microseconds,
//! which no two states of one document share, also not after a delete; the instant from which the
//! item is invisible, or `-`; and twelve bytes of the content's hash. All in hexadecimal digits.
//! So a swap can be sent with the update time as its precondition, an expired item is known to be
//! absent, and it is known whether vectors may stay. Vectors that are written later keep the
//! revision in the document's field `rev`, for the update time moves and the revision does not.

use memory_core::{ContentHash, Revision, Timestamp};

use crate::names::digits;

/// Bytes of the content's hash that a revision carries.
const HASH: usize = 12;

/// A revision, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The server's update time, in microseconds since 1970.
    pub(crate) time: i64,
    /// From when on the item is invisible; `None` for never.
    pub(crate) until: Option<Timestamp>,
    /// The beginning of the content's hash.
    pub(crate) hash: [u8; HASH],
}

impl Parts {
    pub(crate) fn new(time: i64, until: Option<Timestamp>, hash: &ContentHash) -> Self {
        let mut short = [0; HASH];
        short.copy_from_slice(&hash.as_bytes()[..HASH]);
        Self { time, until, hash: short }
    }

    /// Whether the item of this revision can be seen at `now`.
    pub(crate) fn is_visible(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether content of this hash is the revision's own.
    pub(crate) fn has_content(&self, hash: &ContentHash) -> bool {
        hash.as_bytes()[..HASH] == self.hash
    }

    #[expect(clippy::expect_used, reason = "hexadecimal digits and dots are a valid revision")]
    pub(crate) fn issue(&self) -> Revision {
        let until = self.until.map_or("-".to_owned(), |at| {
            format!("{:x}", at.as_micros().wrapping_sub(Timestamp::MIN.as_micros()))
        });
        let hash = digits(&self.hash);
        Revision::new(format!("{:x}.{until}.{hash}", self.time)).expect("a valid revision")
    }

    /// `None` for a text that this store never issued.
    pub(crate) fn parse(revision: &Revision) -> Option<Self> {
        let mut parts = revision.as_str().split('.');
        let (time, until, digits) = (parts.next()?, parts.next()?, parts.next()?);
        let time = i64::from_str_radix(time, 16).ok()?;
        let until = match until {
            "-" => None,
            digits => {
                let since = i64::from_str_radix(digits, 16).ok()?;
                let micros = since.checked_add(Timestamp::MIN.as_micros())?;
                Some(Timestamp::from_micros(micros).ok()?)
            }
        };
        if digits.len() != HASH * 2 || !digits.is_ascii() {
            return None;
        }
        let mut hash = [0; HASH];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(digits.get(at * 2..at * 2 + 2)?, 16).ok()?;
        }
        let found = Self { time, until, hash };
        // One text for one revision: another spelling of the numbers was never issued.
        (found.issue() == *revision).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_come_apart_as_they_were_put_together() {
        let hash = ContentHash::of("x");
        for until in [None, Some(Timestamp::MIN), Some(Timestamp::MAX)] {
            let parts = Parts::new(1_795_381_465_577_850, until, &hash);
            assert_eq!(Parts::parse(&parts.issue()), Some(parts));
            assert!(parts.has_content(&hash) && !parts.has_content(&ContentHash::of("y")));
            assert_eq!(parts.is_visible(Timestamp::MAX), until.is_none());
        }
        let good = Parts::new(1, None, &hash).issue();
        for bad in
            ["1", "1.-", "x.-.00", &format!("0{good}"), &good.as_str().to_uppercase(), "é.é.é"]
        {
            assert_eq!(Parts::parse(&Revision::new(bad).unwrap()), None, "{bad}");
        }
    }
}

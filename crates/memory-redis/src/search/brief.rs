//! What a search needs of each hit, in one field: to load one is cheaper than to load eight.
//!
//! A byte that says its version, 1; until when the memory is visible, when it occurred (each an i64),
//! the number of its words (a u32), which of the rest there is (bits of a byte: 1 session, 2
//! importance, 4 author), the number of its conversation (a u64), its importance (an f64), its
//! author, which ends it. All little-endian.

use std::sync::Arc;

use memory_core::traits::HitContext;
use memory_core::{MemoryItem, Result, Timestamp};

use crate::error::corrupt;
use crate::fields as f;

const VERSION: u8 = 1;

/// What a search needs of each hit.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Brief {
    /// Until when it is visible, in microseconds; [`f::ALWAYS`] for always.
    pub(super) until: i64,
    /// The number of its words.
    pub(super) words: u32,
    /// What surrounds it.
    pub(super) context: HitContext,
}

impl Brief {
    /// That of a memory of so many words.
    pub(super) fn of(item: &MemoryItem, words: u32) -> Self {
        let until = item.expires_at.map_or(f::ALWAYS, Timestamp::as_micros);
        Self { until, words, context: HitContext::of(item) }
    }

    /// Whether it can be seen at a time.
    pub(super) fn is_visible(&self, now: Timestamp) -> bool {
        now.as_micros() < self.until
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let HitContext { session, author, occurred_at, importance, .. } = &self.context;
        let mut bytes = vec![VERSION];
        bytes.extend(self.until.to_le_bytes());
        bytes.extend(occurred_at.as_micros().to_le_bytes());
        bytes.extend(self.words.to_le_bytes());
        let flag = |is: bool, bit: u8| if is { bit } else { 0 };
        bytes.push(
            flag(session.is_some(), 1) | flag(importance.is_some(), 2) | flag(author.is_some(), 4),
        );
        bytes.extend(session.iter().flat_map(|session| session.to_le_bytes()));
        bytes.extend(importance.iter().flat_map(|importance| importance.to_le_bytes()));
        bytes.extend(author.iter().flat_map(|author| author.bytes()));
        bytes
    }

    /// Reads what [`Brief::to_bytes`] wrote.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let bad = || corrupt("a stored memory has a field that is not what was written: z");
        Self::parse(bytes).ok_or_else(bad)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let [VERSION] = take(&mut rest)? else { return None };
        let until = i64::from_le_bytes(take(&mut rest)?);
        let occurred_at = Timestamp::from_micros(i64::from_le_bytes(take(&mut rest)?)).ok()?;
        let words = u32::from_le_bytes(take(&mut rest)?);
        let [flags @ 0..=7] = take(&mut rest)? else { return None };
        let session =
            if flags & 1 == 0 { None } else { Some(u64::from_le_bytes(take(&mut rest)?)) };
        let importance = if flags & 2 == 0 {
            None
        } else {
            Some(f64::from_le_bytes(take(&mut rest)?)).filter(|is| (0.0..=1.0).contains(is))
        };
        let author = std::str::from_utf8(rest).ok()?;
        if flags & 4 == 0 && !author.is_empty() {
            return None;
        }
        let author = (flags & 4 != 0).then(|| Arc::from(author));
        let context =
            HitContext { session, author, occurred_at, importance, lent: 0.0, coverage: None };
        Some(Self { until, words, context })
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

#[cfg(test)]
mod tests {
    use memory_core::{MemoryId, SessionId, UserId};

    use super::*;

    #[test]
    fn briefs_round_trip_and_garbage_is_corrupt() {
        let mut item = MemoryItem::new(MemoryId::new("a").unwrap(), "x", Timestamp::MIN).unwrap();
        let mut items = vec![item.clone()];
        item = item.with_user(UserId::new("u").unwrap());
        item.session_id = Some(SessionId::new("s").unwrap());
        items.push(item.clone());
        item.importance = Some(0.25);
        item.author = Some("Ada".to_owned());
        item.expires_at = Some(Timestamp::MAX);
        items.push(item);
        for item in items {
            let brief = Brief::of(&item, 7);
            let bytes = brief.to_bytes();
            assert_eq!(Brief::read(&bytes).unwrap(), brief);
            assert_eq!(brief.is_visible(Timestamp::MIN), item.is_visible(Timestamp::MIN));
            for end in 0..22 {
                assert!(Brief::read(&bytes[..end]).is_err());
            }
        }
        assert!(Brief::read(&[9; 40]).is_err());
    }
}

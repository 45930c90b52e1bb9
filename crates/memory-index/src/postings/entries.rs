//! The byte format of a list of (number, frequency) pairs in ascending order of number: the
//! postings of a term (slots) and the terms of a document (term ids).
//!
//! An entry is one variable-length integer, seven bits a byte, low bits first: the distance from
//! the number before it (from -1 for the first, so that it is never zero), doubled, plus one if the
//! frequency is not 1; in that case the frequency follows as a second integer. Most words occur
//! once in a document, so most entries are one or two bytes. A byte of zero begins no entry.

/// The most bytes that an entry takes: 33 bits and 32 bits, seven a byte.
pub(crate) const MAX_ENTRY: usize = 10;

/// The number before the first.
pub(crate) const BEFORE: u32 = u32::MAX;

/// Appends an entry. `gap` is the distance from the number before it; `frequency` is at least 1.
#[inline]
pub(crate) fn write_entry(bytes: &mut Vec<u8>, gap: u32, frequency: u32) {
    let repeats = frequency != 1;
    write_varint(bytes, u64::from(gap) << 1 | u64::from(repeats));
    if repeats {
        write_varint(bytes, u64::from(frequency));
    }
}

/// Reads the entries of a list as (number, frequency).
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    number: u32,
}

impl<'a> Entries<'a> {
    /// All entries of the list.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::after(BEFORE, bytes)
    }

    /// Those that follow on a number. They end with the bytes or at a byte of zero.
    #[inline]
    pub(crate) fn after(number: u32, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, number }
    }

    /// The number of the last entry read.
    #[inline]
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        let mut value = u64::from(first & 0x7F);
        let mut more = first & 0x80 != 0;
        let mut shift = 7_u32;
        while more {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7F) << shift;
            more = byte & 0x80 != 0;
            shift += 7;
        }
        Some(value)
    }
}

impl Iterator for Entries<'_> {
    type Item = (u32, u32);

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "only u32 values are ever written")]
    fn next(&mut self) -> Option<(u32, u32)> {
        let head = self.varint()?;
        if head == 0 {
            return None;
        }
        self.number = self.number.wrapping_add((head >> 1) as u32);
        let frequency = if head & 1 == 0 { 1 } else { self.varint()? as u32 };
        Some((self.number, frequency))
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the byte is masked to its low seven bits")]
fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    proptest! {
        #[test]
        fn what_is_written_is_read(
            numbers in proptest::collection::btree_map(0..BEFORE, 1..=u32::MAX, 0..100),
            zeros in 0_usize..20,
        ) {
            let mut bytes = Vec::new();
            let mut last = BEFORE;
            for (number, frequency) in &numbers {
                let before = bytes.len();
                write_entry(&mut bytes, number.wrapping_sub(last), *frequency);
                prop_assert!(bytes.len() - before <= MAX_ENTRY && bytes[before] != 0);
                last = *number;
            }
            bytes.resize(bytes.len() + zeros, 0);
            let read: Vec<_> = Entries::new(&bytes).collect();
            prop_assert_eq!(read, numbers.into_iter().collect::<Vec<_>>());
        }

        /// Whatever the bytes are, reading them ends and gives no more entries than there are bytes.
        #[test]
        fn any_bytes_are_read_to_their_end(bytes in proptest::collection::vec(any::<u8>(), 0..9)) {
            prop_assert!(Entries::new(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn a_frequent_word_costs_one_byte_a_document() {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            write_entry(&mut bytes, 63, 1);
        }
        assert_eq!(bytes.len(), 100);
    }
}

//! The fields of a memory's hash. Short, for each memory carries them.
//!
//! Texts are as they are, times are [`sortable`] digits. `docs/data-model-redis.md` describes them.

/// Version and everything that has no field of its own.
pub(crate) const HEAD: &str = "h";
/// The content.
pub(crate) const CONTENT: &str = "c";
/// The payload as JSON; absent without one.
pub(crate) const PAYLOAD: &str = "p";
/// The revision's text.
pub(crate) const REVISION: &str = "r";
/// The id of the commit that wrote it, 16 bytes.
pub(crate) const COMMIT: &str = "k";
/// The user; absent without one.
pub(crate) const USER: &str = "u";
/// The agent; absent without one.
pub(crate) const AGENT: &str = "a";
/// The session; absent without one.
pub(crate) const SESSION: &str = "s";
/// The kind.
pub(crate) const KIND: &str = "kd";
/// The role; absent without one.
pub(crate) const ROLE: &str = "ro";
/// The author; absent without one.
pub(crate) const AUTHOR: &str = "au";
/// The content's hash, 64 hexadecimal digits.
pub(crate) const HASH: &str = "ch";
/// The importance, as the shortest decimal that is the same number; absent without one.
pub(crate) const IMPORTANCE: &str = "im";
/// When it occurred.
pub(crate) const OCCURRED: &str = "to";
/// When it was made.
pub(crate) const CREATED: &str = "tc";
/// When it was changed.
pub(crate) const UPDATED: &str = "tu";
/// Until when it is visible; [`ALWAYS`] without an expiry.
pub(crate) const VISIBLE: &str = "e";
/// The words that the keyword index sees.
pub(crate) const WORDS: &str = "w";
/// How many words that is; decimal.
pub(crate) const LENGTH: &str = "n";
/// What a search needs of each hit, together; `search/brief.rs` has its shape.
pub(crate) const BRIEF: &str = "z";
/// The codes that the author's name is looked for by; absent without an author.
pub(crate) const NAMES: &str = "an";
/// What a declared metadata key begins with, before the key.
pub(crate) const METADATA: &str = "m:";
/// What a vector begins with, before the space's id; little endian f32.
pub(crate) const VECTOR: &str = "v:";

/// What [`VISIBLE`] holds for always: later than any time. `lua/memory.lua` knows it too.
pub(crate) const ALWAYS: i64 = i64::MAX;

/// A number as 20 decimal digits whose order is the numbers' order.
///
/// Scripts compare texts; digits compare alike in every locale, and no double is involved.
pub(crate) fn sortable(number: i64) -> String {
    format!("{:020}", number.cast_unsigned() ^ (1 << 63))
}

/// The number of [`sortable`] digits.
pub(crate) fn from_sortable(digits: &[u8]) -> Option<i64> {
    if digits.len() != 20 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((number ^ (1 << 63)).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_in_the_order_of_their_numbers() {
        let numbers = [i64::MIN, -1, 0, 1, 9, 10, 1 << 53, (1 << 53) + 1, i64::MAX];
        for pair in numbers.windows(2) {
            assert!(sortable(pair[0]) < sortable(pair[1]));
        }
        for number in numbers {
            assert_eq!(from_sortable(sortable(number).as_bytes()), Some(number));
        }
        for bad in ["", "1", "99999999999999999999", "0000000000000000000x"] {
            assert_eq!(from_sortable(bad.as_bytes()), None);
        }
    }
}

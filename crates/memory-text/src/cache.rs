//! A bounded cache from a lower-cased word to its finished term, so that a word met before
//! costs one look instead of a stemmer's run.
//!
//! The table is direct-mapped: each word has one slot, and the newest word in it stays. So
//! the size is fixed, nothing is ever allocated after the start, and no choice of words can
//! make it slow; at worst every look misses.

/// Slots of one table. 4,096 slots of 64 bytes are 256 KiB, which a processor's second-level
/// cache holds, and keep the words that make up most of any conversation.
const SLOTS: usize = 4096;

/// Bytes that a word and its term share in one slot, so that a slot is one cache line.
const SLOT_BYTES: usize = 61;

/// See the file's documentation.
pub(crate) struct WordCache {
    slots: Vec<Slot>,
}

/// What is known of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CachedTerm<'a> {
    pub(crate) term: &'a str,
    pub(crate) stop: bool,
}

/// Aligned, so that a slot is one cache line and not a part of two.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot {
    /// Zero in a slot that was never filled; words are never empty.
    word_len: u8,
    term_len: u8,
    stop: bool,
    bytes: [u8; SLOT_BYTES],
}

impl WordCache {
    pub(crate) fn new() -> Self {
        let empty = Slot { word_len: 0, term_len: 0, stop: false, bytes: [0; SLOT_BYTES] };
        Self { slots: vec![empty; SLOTS] }
    }

    /// The term of `word`, if the table still has it.
    pub(crate) fn get(&self, word: &str) -> Option<CachedTerm<'_>> {
        let slot = self.slots.get(index(word))?;
        let word_len = usize::from(slot.word_len);
        if word_len != word.len() || word_len == 0 {
            return None;
        }
        let (stored, rest) = slot.bytes.split_at(word_len);
        if stored != word.as_bytes() {
            return None;
        }
        let term = std::str::from_utf8(rest.get(..usize::from(slot.term_len))?).ok()?;
        Some(CachedTerm { term, stop: slot.stop })
    }

    /// Remembers `word`, in place of what its slot held. A pair too long for a slot is not
    /// remembered.
    pub(crate) fn put(&mut self, word: &str, term: &str, stop: bool) {
        let total = word.len() + term.len();
        let (Ok(word_len), Ok(term_len)) = (u8::try_from(word.len()), u8::try_from(term.len()))
        else {
            return;
        };
        if word.is_empty() || total > SLOT_BYTES {
            return;
        }
        if let Some(slot) = self.slots.get_mut(index(word)) {
            slot.word_len = word_len;
            slot.term_len = term_len;
            slot.stop = stop;
            slot.bytes[..word.len()].copy_from_slice(word.as_bytes());
            slot.bytes[word.len()..total].copy_from_slice(term.as_bytes());
        }
    }
}

/// The slot of a word: eight bytes at a time, mixed by a rotation and a multiplication with
/// the 64-bit golden ratio. Quality beyond an even spread is not needed.
fn index(word: &str) -> usize {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = word.len() as u64;
    let (blocks, rest) = word.as_bytes().as_chunks::<8>();
    for block in blocks {
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(*block)).wrapping_mul(GOLDEN);
    }
    let tail = rest.iter().fold(0_u64, |tail, byte| (tail << 8) | u64::from(*byte));
    hash = (hash.rotate_left(5) ^ tail).wrapping_mul(GOLDEN);
    // The upper bits are the mixed ones; one more round brings the lower ones up.
    hash = (hash ^ (hash >> 29)).wrapping_mul(GOLDEN);
    usize::try_from(hash >> 40).unwrap_or(0) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_and_forgets() {
        let mut cache = WordCache::new();
        assert_eq!(cache.get("horses"), None);
        cache.put("horses", "hors", false);
        cache.put("the", "the", true);
        assert_eq!(cache.get("horses"), Some(CachedTerm { term: "hors", stop: false }));
        assert_eq!(cache.get("the"), Some(CachedTerm { term: "the", stop: true }));
        assert_eq!(cache.get("horse"), None);
        assert_eq!(cache.get(""), None);

        // A word of the same slot pushes the old one out and never answers for it.
        let rival = (0..).map(|n| format!("w{n}")).find(|w| index(w) == index("horses"));
        let rival = rival.expect("some word shares the slot");
        cache.put(&rival, "x", false);
        assert_eq!(cache.get("horses"), None);
        assert_eq!(cache.get(&rival).map(|found| found.term), Some("x"));
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut cache = WordCache::new();
        let long = "x".repeat(SLOT_BYTES);
        cache.put(&long, "x", false);
        assert_eq!(cache.get(&long), None);
        let fits = "x".repeat(SLOT_BYTES - 1);
        cache.put(&fits, "x", false);
        assert!(cache.get(&fits).is_some());
        cache.put("", "x", false);
        assert_eq!(cache.get(""), None);
    }

    #[test]
    fn words_spread_over_the_slots() {
        let used: std::collections::HashSet<usize> =
            (0..SLOTS).map(|n| index(&format!("word{n}"))).collect();
        // A random choice fills 1 - 1/e of the slots, 63 %.
        assert!(used.len() > SLOTS / 2, "{} of {SLOTS} slots", used.len());
    }
}

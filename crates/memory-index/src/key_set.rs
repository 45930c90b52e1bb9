//! The set of documents that a filter lets through, made once per query and asked per document.

use crate::DocKey;

/// A fixed set of row keys: a bitmap where the keys lie close together, a sorted list otherwise.
///
/// Stores hand out row keys in order, so the keys of a tenant in a file of its own are dense, and
/// those in a file of thousands of tenants are not.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Sorted(Vec<DocKey>),
    Bitmap { first: DocKey, words: Vec<u64>, len: usize },
}

/// A bitmap may be this many times the size of the list: it answers in one step where the list
/// needs a binary search, and four times eight bytes a key is still little.
const BITMAP_FACTOR: u64 = 4;

impl KeySet {
    /// The set of these keys, in any order, repeats allowed.
    #[must_use]
    pub fn new(mut keys: Vec<DocKey>) -> Self {
        keys.sort_unstable();
        keys.dedup();
        if let (Some(first), Some(last)) = (keys.first(), keys.last()) {
            let words = (last - first) / 64 + 1;
            if words.div_ceil(BITMAP_FACTOR) <= keys.len() as u64
                && let Ok(words) = usize::try_from(words)
            {
                return Self { form: Form::bitmap(*first, words, &keys) };
            }
        }
        Self { form: Form::Sorted(keys) }
    }

    /// Whether the key is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: DocKey) -> bool {
        match &self.form {
            Form::Sorted(keys) => keys.binary_search(&key).is_ok(),
            Form::Bitmap { first, words, .. } => {
                let bit = key.wrapping_sub(*first);
                usize::try_from(bit / 64)
                    .ok()
                    .and_then(|word| words.get(word))
                    .is_some_and(|word| word >> (bit % 64) & 1 == 1)
            }
        }
    }

    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.form {
            Form::Sorted(keys) => keys.len(),
            Form::Bitmap { len, .. } => *len,
        }
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes the set occupies.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let heap = match &self.form {
            Form::Sorted(keys) => keys.capacity(),
            Form::Bitmap { words, .. } => words.capacity(),
        };
        size_of::<Self>() + heap * size_of::<u64>()
    }
}

impl FromIterator<DocKey> for KeySet {
    fn from_iter<I: IntoIterator<Item = DocKey>>(keys: I) -> Self {
        Self::new(keys.into_iter().collect())
    }
}

impl Form {
    fn bitmap(first: DocKey, words: usize, keys: &[DocKey]) -> Self {
        let mut bits = vec![0_u64; words];
        let mut word = 0;
        let mut word_start = first;
        for key in keys {
            // Keys ascend, so the word under the pen only ever moves forward.
            while key - word_start >= 64 {
                word += 1;
                word_start += 64;
            }
            bits[word] |= 1 << (key - word_start);
        }
        Self::Bitmap { first, words: bits, len: keys.len() }
    }
}

impl Default for Form {
    fn default() -> Self {
        Self::Sorted(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_keys_become_a_bitmap_and_sparse_ones_a_list() {
        let dense: KeySet = (1_000..2_000).filter(|key| key % 3 == 0).collect();
        assert!(matches!(dense.form, Form::Bitmap { .. }));
        assert_eq!(dense.len(), 333);
        assert!(dense.memory_bytes() < 400);
        for key in 0..3_000 {
            assert_eq!(dense.contains(key), (1_000..2_000).contains(&key) && key % 3 == 0, "{key}");
        }

        let sparse = KeySet::new(vec![u64::MAX, 0, 1 << 40, 0]);
        assert!(matches!(sparse.form, Form::Sorted(_)));
        assert_eq!(sparse.len(), 3);
        assert!(sparse.contains(0) && sparse.contains(1 << 40) && sparse.contains(u64::MAX));
        assert!(!sparse.contains(1) && !sparse.contains(u64::MAX - 1));
    }

    #[test]
    fn the_edges_of_the_key_range_fit_a_bitmap() {
        let set = KeySet::new(vec![u64::MAX, u64::MAX - 1]);
        assert!(set.contains(u64::MAX) && set.contains(u64::MAX - 1));
        assert!(!set.contains(u64::MAX - 2) && !set.contains(0));
    }

    #[test]
    fn the_empty_set_contains_nothing() {
        assert!(KeySet::default().is_empty());
        assert!(!KeySet::new(Vec::new()).contains(0));
    }
}

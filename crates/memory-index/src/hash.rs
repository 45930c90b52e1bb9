//! Hash maps over row keys, and what a hash map weighs.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::DocKey;

/// A map from row keys. The store issues them, no caller chooses them, so they need no defence
/// against crafted collisions, and mixing one is an order of magnitude cheaper than `SipHash`.
pub(crate) type KeyMap<V> = HashMap<DocKey, V, BuildHasherDefault<KeyHasher>>;

/// Mixes one `u64`.
#[derive(Clone, Copy, Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the key reaches every
        // bit of the hash, which the map needs at both ends.
        let mut z = (self.0 ^ value).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        self.0 = z ^ (z >> 31);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The bytes that a standard hash map of this capacity occupies: it keeps one control byte per
/// bucket and fills at most seven of eight buckets.
pub(crate) fn map_bytes<K, V>(capacity: usize) -> usize {
    capacity.div_ceil(7) * 8 * (size_of::<(K, V)>() + 1)
}

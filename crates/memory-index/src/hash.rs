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
        self.0 = mix(self.0 ^ value);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every bit of the key reaches every bit of
/// the hash, which a table needs at both ends.
#[inline]
pub(crate) fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The heap bytes of a standard hash map of this capacity: buckets are a power of two of which at
/// most seven of eight are filled, each with one control byte, and there are sixteen more of them.
pub(crate) fn map_bytes<K, V>(capacity: usize) -> usize {
    let buckets = match capacity {
        0 => return 0,
        1..=3 => 4,
        4..=7 => 8,
        _ => (capacity * 8 / 7).next_power_of_two(),
    };
    buckets * (size_of::<(K, V)>() + 1) + 16
}

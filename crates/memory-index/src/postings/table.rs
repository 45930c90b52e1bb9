//! A hash table of numbers alone: what a number stands for lies elsewhere, and the caller compares.
//!
//! A map from row key to slot would hold every key a second time, beside 16 bytes a bucket. Here a
//! bucket is four bytes, buckets are at most four fifths full, and the table grows by a quarter,
//! so that an entry costs five to six and a quarter bytes.

/// No number: an empty bucket.
const EMPTY: u32 = u32::MAX;

/// Open addressing with linear probing; a removal moves what follows back, so that there are no
/// tombstones.
#[derive(Default)]
pub(crate) struct Table {
    buckets: Vec<u32>,
    len: usize,
}

impl Table {
    /// An empty table that takes this many numbers without growing.
    pub(crate) fn with_room(count: usize) -> Self {
        let buckets = if count == 0 { 0 } else { count + count.div_ceil(4) };
        Self { buckets: vec![EMPTY; buckets], len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The heap bytes of the table.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u32>()
    }

    /// The numbers, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().copied().filter(|number| *number != EMPTY)
    }

    /// The number with this hash of which `is` says that it is the one sought.
    #[inline]
    pub(crate) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.bucket(hash, is).map(|bucket| self.buckets[bucket])
    }

    /// Adds a number that is not there. `hash_of` gives the hash of every number of the table.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 5 > self.buckets.len() * 4 {
            let room = (self.buckets.len() + self.buckets.len() / 4).max(8);
            let old = std::mem::replace(&mut self.buckets, vec![EMPTY; room]);
            for number in old.into_iter().filter(|number| *number != EMPTY) {
                self.place(hash_of(number), number);
            }
        }
        self.place(hash, number);
        self.len += 1;
    }

    /// Removes the number that `is` recognises, and returns it.
    pub(crate) fn remove(
        &mut self,
        hash: u64,
        is: impl Fn(u32) -> bool,
        hash_of: impl Fn(u32) -> u64,
    ) -> Option<u32> {
        let mut hole = self.bucket(hash, is)?;
        let removed = std::mem::replace(&mut self.buckets[hole], EMPTY);
        self.len -= 1;
        let mut next = self.after(hole);
        while self.buckets[next] != EMPTY {
            let home = self.home(hash_of(self.buckets[next]));
            // It may move into the hole unless its home lies behind the hole.
            let stays =
                if hole < next { hole < home && home <= next } else { hole < home || home <= next };
            if !stays {
                self.buckets[hole] = std::mem::replace(&mut self.buckets[next], EMPTY);
                hole = next;
            }
            next = self.after(next);
        }
        Some(removed)
    }

    #[inline]
    fn bucket(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        if self.buckets.is_empty() {
            return None;
        }
        let mut bucket = self.home(hash);
        loop {
            match self.buckets[bucket] {
                EMPTY => return None,
                number if is(number) => return Some(bucket),
                _ => bucket = self.after(bucket),
            }
        }
    }

    fn place(&mut self, hash: u64, number: u32) {
        let mut bucket = self.home(hash);
        while self.buckets[bucket] != EMPTY {
            bucket = self.after(bucket);
        }
        self.buckets[bucket] = number;
    }

    /// The high bits of the product spread the hash over a number of buckets that is no power of
    /// two (Lemire 2016).
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the product's high half is below len")]
    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize
    }

    #[inline]
    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    proptest! {
        /// Hashes of few values, so that runs are long and wrap around.
        #[test]
        fn it_holds_what_a_set_holds(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..60), 0..400),
            spread in 1_u64..12,
        ) {
            let hash_of = |number: u32| (u64::from(number) % spread) << 59;
            let mut table = Table::default();
            let mut set = BTreeSet::new();
            for (adds, number) in steps {
                let hash = hash_of(number);
                if adds && set.insert(number) {
                    table.insert(hash, number, hash_of);
                } else if !adds {
                    let removed = table.remove(hash, |at| at == number, hash_of);
                    prop_assert_eq!(removed.is_some(), set.remove(&number));
                }
                prop_assert_eq!(table.len(), set.len());
                for number in 0..60 {
                    let found = table.find(hash_of(number), |at| at == number);
                    prop_assert_eq!(found.is_some(), set.contains(&number));
                }
            }
            let mut all: Vec<_> = table.iter().collect();
            all.sort_unstable();
            prop_assert_eq!(all, set.into_iter().collect::<Vec<_>>());
            prop_assert!(table.heap_bytes() <= (60 * 4 * 5 / 4 + 32) * 5 / 4);
        }
    }
}

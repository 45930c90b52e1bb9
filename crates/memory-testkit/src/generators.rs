//! Things to store, made from a seed: the same seed gives the same things on every machine.

use std::time::Duration;

use crate::canary::TEXT;
use memory_core::{MemoryId, MemoryItem, MetaKey, MetaValue, Result, SessionId, Timestamp, UserId};

/// Words that no list of stop words holds and that no stemmer makes alike.
pub const WORDS: [&str; 16] = [
    "zebra", "lantern", "quartz", "violin", "harbor", "meadow", "walnut", "copper", "falcon",
    "marble", "saffron", "thunder", "velvet", "willow", "anchor", "bishop",
];

/// A small generator of random things. Not for secrets.
///
/// SplitMix64, after Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
/// 2014.
#[derive(Clone, Debug)]
pub struct Generator {
    state: u64,
}

impl Generator {
    /// A generator that gives what its seed gives.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`; 0 if that is 0.
    #[expect(clippy::cast_possible_truncation, reason = "the rest is below a usize")]
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % (end.max(1) as u64)) as usize
    }

    /// A number in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A number around 0 with a standard deviation of about 1: the sum of twelve uniform ones.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }

    /// One of some things.
    ///
    /// # Panics
    /// There is none.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.below(things.len())]
    }

    /// `count` vectors of `dimensions` around `clusters` centres, as embeddings lie. None of them
    /// is zero in practice.
    pub fn clustered_vectors(
        &mut self,
        count: usize,
        dimensions: usize,
        clusters: usize,
    ) -> Vec<Vec<f32>> {
        let vector = |random: &mut Self| (0..dimensions).map(|_| random.normal()).collect();
        let centres: Vec<Vec<f32>> = (0..clusters.max(1)).map(|_| vector(self)).collect();
        (0..count)
            .map(|_| {
                let centre = self.pick(&centres).clone();
                centre.iter().map(|x| x + 0.3 * self.normal()).collect()
            })
            .collect()
    }

    /// A sentence of `words` of [`WORDS`].
    pub fn sentence(&mut self, words: usize) -> String {
        let words: Vec<_> = (0..words.max(1)).map(|_| *self.pick(&WORDS)).collect();
        let mut text = words.join(" ");
        text.push('.');
        text
    }

    /// An item of one of a few users and sessions, said within the last day, with some metadata.
    ///
    /// # Errors
    /// `InvalidInput`: an id that is none.
    pub fn item(&mut self, id: &str, now: Timestamp) -> Result<MemoryItem> {
        let words = 1 + self.below(30);
        let text = format!("{} {TEXT}", self.sentence(words));
        let mut item = MemoryItem::new(MemoryId::new(id)?, text, now)?
            .with_user(UserId::new(*self.pick(&["ada", "bob", "eve"]))?);
        if self.below(3) > 0 {
            item = item.with_session(SessionId::new(format!("s{}", self.below(5)))?);
        }
        let back = Duration::from_micros(self.bits() % 86_400_000_000);
        item.occurred_at = now.saturating_sub(back);
        if self.below(2) > 0 {
            let number = i64::from_be_bytes(self.bits().to_be_bytes());
            item.metadata.insert(MetaKey::new("number")?, MetaValue::Int(number));
        }
        if self.below(2) > 0 {
            item.metadata.insert(MetaKey::new("text")?, MetaValue::from(*self.pick(&WORDS)));
        }
        item.payload = Some(serde_json::json!({ "note": TEXT }));
        if self.below(4) == 0 {
            item.importance = Some(f64::from(self.unit()));
        }
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_things() {
        let things = |seed| {
            let mut random = Generator::new(seed);
            (random.clustered_vectors(3, 4, 2), random.sentence(5), random.below(10))
        };
        assert_eq!(things(1), things(1));
        assert_ne!(things(1), things(2));
    }

    #[test]
    fn clusters_are_nearer_within_than_between() {
        let vectors = Generator::new(5).clustered_vectors(40, 32, 2);
        let distance =
            |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let mut distances: Vec<_> =
            vectors[1..].iter().map(|vector| distance(&vectors[0], vector)).collect();
        distances.sort_by(f32::total_cmp);
        assert!(distances[38] > 4.0 * distances[0], "{distances:?}");
    }

    #[test]
    fn items_are_valid() {
        let mut random = Generator::new(9);
        for n in 0..100 {
            random.item(&n.to_string(), Timestamp::MAX).unwrap().validate().unwrap();
        }
        assert_eq!(random.below(0), 0);
    }
}

//! What may be left of a file when the power goes: a model that is harsh and legal.
//!
//! What was synced is there. Each write since then is there whole, not there, or torn: any choice of
//! its sectors is there. They arrive in any order, so that of two writes to one place either may be
//! the last. A file that grew may have its new size without its new bytes; what was never written
//! there is zeroes or noise.

/// The border at which a write tears, in bytes: the smallest unit that a disk writes whole.
pub(super) const SECTOR: usize = 512;

/// A change of a file since its last sync.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate { size: usize },
}

/// How many changes had which fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fates {
    /// Changes that are there.
    pub kept: u64,
    /// Changes that are not.
    pub dropped: u64,
    /// Writes of which a part is there.
    pub torn: u64,
}

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is above 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    fn often(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// How one loss of power treats all files: the extremes are as legal as the mixture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mood {
    /// Changes that are there, in percent.
    keep: usize,
    /// Of the writes that are not, those that are torn, in percent.
    tear: usize,
    /// Whether changes arrive in the order in which they were made.
    in_order: bool,
    /// Whether space that was never written holds noise.
    noise: bool,
}

impl Mood {
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let keep = match dice.below(8) {
            0 => 0,
            1 => 100,
            2 => 90,
            _ => dice.below(101),
        };
        Self {
            keep,
            tear: if dice.often(75) { dice.below(101) } else { 0 },
            in_order: dice.often(50),
            noise: dice.often(25),
        }
    }
}

/// Does a change to a file's bytes, as the file system does while there is power.
pub(super) fn apply(file: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write { at, bytes } => place(file, *at, bytes, None),
        Change::Truncate { size } => file.resize(*size, 0),
    }
}

/// Writes bytes at a place; a gap before it is filled with noise, or with zeroes.
fn place(file: &mut Vec<u8>, at: usize, bytes: &[u8], noise: Option<&mut Dice>) {
    let end = at + bytes.len();
    if file.len() < end {
        grow(file, end, noise);
    }
    file[at..end].copy_from_slice(bytes);
}

fn grow(file: &mut Vec<u8>, size: usize, noise: Option<&mut Dice>) {
    match noise {
        None => file.resize(size, 0),
        Some(dice) => {
            while file.len() < size {
                let left = size - file.len();
                let drawn = dice.next().to_le_bytes();
                file.extend_from_slice(&drawn[..left.min(drawn.len())]);
            }
        }
    }
}

/// What is left of a file: of its synced bytes and of the changes since.
pub(super) fn survivors(
    durable: &[u8],
    changes: &[Change],
    mood: Mood,
    dice: &mut Dice,
    fates: &mut Fates,
) -> Vec<u8> {
    let mut file = durable.to_vec();
    let mut order: Vec<&Change> = changes.iter().collect();
    if !mood.in_order {
        for last in (1..order.len()).rev() {
            order.swap(last, dice.below(last + 1));
        }
    }
    for change in order {
        if dice.often(mood.keep) {
            fates.kept += 1;
            match change {
                Change::Write { at, bytes } => {
                    let mut noise = mood.noise.then(|| dice.clone());
                    place(&mut file, *at, bytes, noise.as_mut());
                }
                Change::Truncate { .. } => apply(&mut file, change),
            }
        } else if let Change::Write { at, bytes } = change
            && dice.often(mood.tear)
        {
            fates.torn += 1;
            let mut from = 0;
            while from < bytes.len() {
                let to = bytes.len().min((*at + from) / SECTOR * SECTOR + SECTOR - *at);
                if dice.often(50) {
                    let mut noise = mood.noise.then(|| dice.clone());
                    place(&mut file, *at + from, &bytes[from..to], noise.as_mut());
                }
                from = to;
            }
        } else {
            fates.dropped += 1;
        }
    }
    // The size may have reached the disk without the bytes.
    let mut size = durable.len();
    for change in changes {
        match change {
            Change::Write { at, bytes } => size = size.max(*at + bytes.len()),
            Change::Truncate { size: new } => size = *new,
        }
    }
    if file.len() < size && dice.often(30) {
        let mut noise = mood.noise.then(|| dice.clone());
        grow(&mut file, size, noise.as_mut());
    }
    file
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn write(at: usize, byte: u8, count: usize) -> Change {
        Change::Write { at, bytes: vec![byte; count] }
    }

    /// Every outcome over many seeds.
    fn outcomes(durable: &[u8], changes: &[Change]) -> BTreeSet<Vec<u8>> {
        (0..2_000)
            .map(|seed| {
                let mut dice = Dice::new(seed);
                let mood = Mood { noise: false, ..Mood::draw(&mut dice) };
                survivors(durable, changes, mood, &mut dice, &mut Fates::default())
            })
            .collect()
    }

    #[test]
    fn what_was_synced_is_there_and_nothing_else_is_certain() {
        assert_eq!(outcomes(b"synced", &[]), [b"synced".to_vec()].into());
        let found = outcomes(b"old", &[Change::Write { at: 0, bytes: b"new".to_vec() }]);
        assert_eq!(found, [b"old".to_vec(), b"new".to_vec()].into());
    }

    #[test]
    fn a_write_tears_at_sectors_and_nowhere_else() {
        let found = outcomes(&[0; 3 * SECTOR], &[write(100, 1, 2 * SECTOR)]);
        // Three pieces, each there or not.
        assert_eq!(found.len(), 8);
        for file in found {
            assert_eq!(file.len(), 3 * SECTOR);
            for (from, to) in [(100, SECTOR), (SECTOR, 2 * SECTOR), (2 * SECTOR, 2 * SECTOR + 100)]
            {
                assert!(file[from..to].iter().all(|byte| *byte == file[from]));
            }
            assert!(file[..100].iter().chain(&file[2 * SECTOR + 100..]).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn of_two_writes_to_a_place_either_may_be_the_last() {
        let found = outcomes(&[0], &[write(0, 1, 1), write(0, 2, 1)]);
        assert_eq!(found, [vec![0], vec![1], vec![2]].into());
    }

    #[test]
    fn a_size_may_arrive_without_its_bytes_and_a_truncation_not_at_all() {
        let found = outcomes(b"", &[write(0, 7, 4)]);
        assert_eq!(found, [vec![], vec![0; 4], vec![7; 4]].into());
        let found = outcomes(b"abcd", &[Change::Truncate { size: 1 }]);
        assert_eq!(found, [b"abcd".to_vec(), b"a".to_vec()].into());
    }

    #[test]
    fn a_seed_gives_the_same_outcome_again() {
        let changes = [write(0, 1, 900), write(300, 2, 900), Change::Truncate { size: 800 }];
        let once = |seed| {
            let mut dice = Dice::new(seed);
            let mood = Mood::draw(&mut dice);
            let mut fates = Fates::default();
            let file = survivors(&[9; 100], &changes, mood, &mut dice, &mut fates);
            assert_eq!(fates.kept + fates.dropped + fates.torn, 3);
            file
        };
        for seed in 0..50 {
            assert_eq!(once(seed), once(seed));
        }
    }
}

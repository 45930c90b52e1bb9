//! What the benches share: made-up memories, timing in turns, and the table that they print.
//!
//! A subject and its baseline take turns in one run, so that whatever else the machine does falls
//! on both. The minimum says what the code can do, the median what it mostly does; ratios are of
//! medians unless a table says otherwise.

#![allow(clippy::print_stdout, reason = "a bench prints its table")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use orchestra_memory::{NewMemory, UserId};

/// Dimensions of the vectors, as those of the common small embedding models.
pub const DIMENSIONS: usize = 384;
/// Words of a memory: the average turn of a conversation has about as many.
pub const WORDS: usize = 26;
/// Words of a question.
pub const QUESTION: usize = 9;

/// A small generator of numbers, the same in every run (SplitMix64).
#[derive(Debug, Clone)]
pub struct Numbers(u64);

impl Numbers {
    /// A generator that starts from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number in [0, 1).
    #[expect(clippy::cast_precision_loss, reason = "53 bits fit a double")]
    pub fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A vector around one of 40 centres, as embeddings of related texts lie.
    #[expect(clippy::cast_possible_truncation, reason = "components are small numbers")]
    pub fn vector(&mut self) -> Vec<f32> {
        let mut centre = Self::new(1_000 + self.next_u64() % 40);
        (0..DIMENSIONS).map(|_| (centre.unit() - 0.5 + (self.unit() - 0.5) * 1.5) as f32).collect()
    }

    /// Words of a vocabulary in which few are common and most are rare: the commonest stands in one
    /// memory of eight, as in conversations once the stop words are out.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number between 30 and 20,010"
    )]
    pub fn words(&mut self, count: usize) -> String {
        let words: Vec<String> = (0..count)
            .map(|_| {
                let rank = (30.0 * 667_f64.powf(self.unit())) as u64;
                format!("word{rank}x")
            })
            .collect();
        words.join(" ")
    }

    /// A memory with its vector.
    ///
    /// # Errors
    /// None in practice: the user's id is valid.
    pub fn memory(&mut self) -> Result<NewMemory> {
        Ok(NewMemory::new(self.words(WORDS))
            .with_user(UserId::new("ada")?)
            .with_embedding(self.vector()))
    }
}

/// Times of one contestant.
#[derive(Debug, Default, Clone)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Times one run.
    ///
    /// # Errors
    /// What the run met.
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub fn run<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let answer = work()?;
        self.0.push(begun.elapsed());
        Ok(answer)
    }

    /// Begins a run that cannot be a closure, for it waits.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a bench measures real time")]
    pub fn start(&self) -> Instant {
        Instant::now()
    }

    /// Ends a run.
    pub fn stop(&mut self, begun: Instant) {
        self.0.push(begun.elapsed());
    }

    /// Takes in a time that was measured elsewhere.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The median.
    ///
    /// # Errors
    /// Nothing was timed.
    pub fn median(&self) -> Result<Duration> {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted.get(sorted.len() / 2).copied().context("nothing was timed")
    }

    /// The shortest.
    ///
    /// # Errors
    /// Nothing was timed.
    pub fn least(&self) -> Result<Duration> {
        self.0.iter().min().copied().context("nothing was timed")
    }
}

/// A duration in milliseconds, with the digits that matter.
#[must_use]
pub fn ms(time: Duration) -> String {
    format!("{:.3}", time.as_secs_f64() * 1e3)
}

/// Prints the head of a table.
pub fn head(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

/// Prints a row of a table.
pub fn row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_memories() {
        let (mut one, mut two) = (Numbers::new(7), Numbers::new(7));
        assert_eq!(one.words(50), two.words(50));
        assert_eq!(one.vector(), two.vector());
        assert_eq!(one.vector().len(), DIMENSIONS);
        assert_ne!(one.words(50), one.words(50));
    }

    #[test]
    fn medians_and_minima() {
        let times = Times([5, 1, 3].map(Duration::from_millis).to_vec());
        assert_eq!(times.median().unwrap(), Duration::from_millis(3));
        assert_eq!(times.least().unwrap(), Duration::from_millis(1));
        assert!(Times::default().median().is_err());
        assert_eq!(ms(Duration::from_micros(1_500)), "1.500");
    }
}

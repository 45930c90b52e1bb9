//! The settings of what a conversation tells beside the words: who speaks, when, what stands near.

use memory_core::limits::TOP_K;
use memory_core::traits::Lending;
use memory_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How words are scored.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct KeywordSettings {
    /// How slowly repeats of a word stop to count: the `k1` of BM25, 0 to 10. Default 0.9: memories
    /// are short, and a word that stands twice in one is mostly said twice and not meant twice.
    pub k1: f64,
    /// How far long memories are held back: the `b` of BM25, in [0, 1]. Default 0.4.
    pub b: f64,
}

impl Default for KeywordSettings {
    fn default() -> Self {
        Self { k1: 0.9, b: 0.4 }
    }
}

impl KeywordSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        first(self.faults())
    }

    /// All that is wrong, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let all = [within("keyword.k1", self.k1, 10.0), within("keyword.b", self.b, 1.0)];
        all.into_iter().flatten().collect()
    }
}

/// What the context of a memory adds to its score. A weight of 0 switches a signal off.
///
/// The fused score `f` of each candidate, in [0, 1], becomes
///
/// `s = (f + base) * (1 + speaker * S + date * D + importance * I + recency * R)`, and
///
/// `score = s + session * B`,
///
/// divided by the most that this can be, so that it lies in [0, 1]. A signal of which nothing is
/// known for any candidate (nobody is named, no date, no conversations) is left out, and where all
/// are, the fused score stands as it is.
///
/// - `S` is 1 where the author is the person whom the question names first, among the names by which
///   an author goes, and 0 for another author. A memory without an author gets 1: a fact is nobody
///   else's words.
/// - `D` is how near the memory's time is to a date in the question: 1 within it, falling evenly to 0
///   at `date_days` before and after it.
/// - `I` is its importance, 0 without one.
/// - `R` halves with every `recency_days` between the memory and the newest candidate.
/// - `B` is the highest `s` among the candidates of its conversation; a memory without a conversation
///   is one by itself.
///
/// Besides, keyword scores are lent to neighbours: an item gives `next` of its score to the one after
/// it in its conversation, `second` to the one after that, and `previous` to the one before.
///
/// The defaults were chosen on three conversations of LoCoMo and confirmed on two;
/// `docs/retrieval.md` has the figures of each signal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ContextSettings {
    /// What is lent to the next item: in [0, 1]. Default 0.5.
    pub next: f64,
    /// What is lent to the one after it: in [0, 1]. Default 0.3.
    pub second: f64,
    /// What is lent to the item before: in [0, 1]. Default 0.2.
    pub previous: f64,
    /// What every candidate has before the signals count: 0 to 10. Default 0.5. With 0 a signal
    /// raises only what words and meaning have found well.
    pub base: f64,
    /// For the words of the person who is named: 0 to 10. Default 0.5.
    pub speaker: f64,
    /// For the time that the question names: 0 to 10. Default 1.
    pub date: f64,
    /// How many days around a date still count: 0 to 3,650. Default 7: people tell what happened
    /// within a week of it.
    pub date_days: u32,
    /// For the conversation of the best hits: 0 to 10. Default 0.3.
    pub session: f64,
    /// For importance: 0 to 10. Default 0.
    pub importance: f64,
    /// For recency: 0 to 10. Default 0.
    pub recency: f64,
    /// The days in which recency halves: 1 to 36,500. Default 30.
    pub recency_days: u32,
    /// Whether a question is embedded without the names of its authors. Default true.
    pub without_names: bool,
    /// Candidates that each arm is asked for at the least, where the indexes lie in memory: 0 to
    /// 1,000. Default 100: more find a little more and take longer, as `docs/retrieval.md` shows.
    /// Elsewhere
    /// [`crate::SearchSettings::min_candidates`] counts alone.
    pub candidates: u32,
}

impl Default for ContextSettings {
    fn default() -> Self {
        Self {
            next: 0.5,
            second: 0.3,
            previous: 0.2,
            base: 0.5,
            speaker: 0.5,
            date: 1.0,
            date_days: 7,
            session: 0.3,
            importance: 0.0,
            recency: 0.0,
            recency_days: 30,
            without_names: true,
            candidates: 100,
        }
    }
}

impl ContextSettings {
    /// Without any signal: words and meaning alone.
    #[must_use]
    pub fn none() -> Self {
        Self {
            next: 0.0,
            second: 0.0,
            previous: 0.0,
            speaker: 0.0,
            date: 0.0,
            session: 0.0,
            without_names: false,
            candidates: 0,
            ..Self::default()
        }
    }

    /// What neighbours lend each other; `None` for nothing.
    pub(crate) fn lending(&self, join: bool) -> Option<Lending> {
        let lending = Lending::new(self.next, self.second, self.previous).with_join(join);
        (!lending.is_nothing()).then_some(lending)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        first(self.faults())
    }

    /// All that is wrong, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let all = [
            ("context.next", self.next, 1.0),
            ("context.second", self.second, 1.0),
            ("context.previous", self.previous, 1.0),
            ("context.base", self.base, 10.0),
            ("context.speaker", self.speaker, 10.0),
            ("context.date", self.date, 10.0),
            ("context.session", self.session, 10.0),
            ("context.importance", self.importance, 10.0),
            ("context.recency", self.recency, 10.0),
            ("context.date_days", f64::from(self.date_days), 3_650.0),
            ("context.recency_days", f64::from(self.recency_days), 36_500.0),
            ("context.candidates", f64::from(self.candidates), f64::from(TOP_K)),
        ];
        let all = all.into_iter().filter_map(|(name, value, most)| within(name, value, most));
        let mut faults: Vec<String> = all.collect();
        if self.recency_days == 0 {
            faults.push("context.recency_days is at least 1".to_owned());
        }
        faults
    }
}

/// The first fault as an error.
pub(crate) fn first(faults: Vec<String>) -> Result<()> {
    faults.into_iter().next().map_or(Ok(()), |fault| Err(Error::invalid(fault)))
}

fn within(name: &str, value: f64, most: f64) -> Option<String> {
    (!(0.0..=most).contains(&value)).then(|| format!("{name} lies in 0 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        assert!(ContextSettings::default().validate().is_ok());
        assert!(ContextSettings::none().validate().is_ok());
        assert!(ContextSettings::none().lending(true).is_none());
        assert!(KeywordSettings::default().validate().is_ok());
        type Change = fn(&mut ContextSettings);
        let table: [(&str, Change); 7] = [
            ("context.next", |settings| settings.next = 1.1),
            ("context.base", |settings| settings.base = -0.1),
            ("context.speaker", |settings| settings.speaker = f64::NAN),
            ("context.session", |settings| settings.session = f64::INFINITY),
            ("context.date_days", |settings| settings.date_days = 4_000),
            ("context.recency_days", |settings| settings.recency_days = 0),
            ("context.candidates", |settings| settings.candidates = 1_001),
        ];
        for (name, change) in table {
            let mut settings = ContextSettings::default();
            change(&mut settings);
            assert!(settings.validate().unwrap_err().message().contains(name), "{name}");
        }
        let keyword = KeywordSettings { k1: 11.0, b: 0.4 };
        assert!(keyword.validate().unwrap_err().message().contains("keyword.k1"));
    }
}

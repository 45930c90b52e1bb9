//! The settings of a search: how scores are fused and how many candidates are looked at.

use memory_core::limits::TOP_K;
use memory_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::context_settings::{ContextSettings, KeywordSettings, first};

/// How the scores of the arms become one.
///
/// The rule for two arms: within each the scores of its candidates are brought to [0, 1] by their
/// lowest and highest, and the results are added by weight:
///
/// `score = (keyword * k + vector * v) / (keyword + vector)`
///
/// where `k` and `v` are `(raw - lowest) / (highest - lowest)`.
///
/// - An item that is none of an arm's candidates gets 0 from it, as does the last candidate.
/// - An arm with a single candidate, or whose candidates all score the same, gives each of them 1:
///   it found them, and knows nothing worse.
/// - An arm that ran and found nothing keeps its weight: the scores of the other stay below its
///   own share, which tells that the arms did not agree.
/// - Equal scores are ordered by the raw keyword score, then the raw vector score (an item that
///   the arm found before one that it did not), then the id, as bytes.
///
/// With one arm alone there is nothing to fuse: the weight is 1, the order is the arm's own, and
/// its scores are brought to [0, 1] by a rule that needs no candidates beyond the answer:
///
/// - Keywords: `raw / best`, the share of the best candidate's score. (Where no score is above 0,
///   by lowest and highest as above.)
/// - Vectors: by the metric. Cosine `c` gives `(1 + c) / 2`; the dot product `d` gives
///   `(1 + d / (1 + |d|)) / 2`; the negative squared distance `-s` gives `1 / (1 + s)`.
///
/// Why not reciprocal rank fusion: it throws the scores away. On real conversations (LoCoMo,
/// conversations 5 to 9, 776 questions, one turn a memory, recall of the first ten) keywords alone
/// reached .601, vectors of a small sentence model alone .401, reciprocal rank fusion with equal
/// weights .541, below keywords alone, and the normalised sum .635. A keyword score that stands
/// far above the rest is strong evidence, and ranks cannot say so.
///
/// The default weights were chosen on three conversations of the first five of LoCoMo (categories
/// 1 to 4, all-MiniLM-L6-v2) and confirmed on the other two; `docs/retrieval.md` has the figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FusionSettings {
    /// The weight of keywords: finite, at least 0. Default 0.55.
    pub keyword: f64,
    /// The weight of vectors: finite, at least 0. Default 0.45.
    pub vector: f64,
}

impl Default for FusionSettings {
    fn default() -> Self {
        Self { keyword: 0.55, vector: 0.45 }
    }
}

impl FusionSettings {
    /// Sets the weight of keywords.
    #[must_use]
    pub fn with_keyword(mut self, weight: f64) -> Self {
        self.keyword = weight;
        self
    }

    /// Sets the weight of vectors.
    #[must_use]
    pub fn with_vector(mut self, weight: f64) -> Self {
        self.vector = weight;
        self
    }

    /// Checks the weights.
    ///
    /// # Errors
    /// `InvalidInput`: a weight that is negative, above a million or not a number, or both 0.
    pub fn validate(&self) -> Result<()> {
        first(self.faults())
    }

    /// All that is wrong, one sentence each.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let weights = [("keyword", self.keyword), ("vector", self.vector)];
        let wrong = weights.iter().filter(|(_, weight)| !(0.0..=1e6).contains(weight));
        let mut faults: Vec<String> = wrong
            .map(|(name, _)| format!("fusion.{name}: a weight lies in 0 to 1000000"))
            .collect();
        if self.keyword + self.vector <= 0.0 {
            faults.push("fusion: one of the weights is above 0".to_owned());
        }
        faults
    }
}

/// How a [`crate::Searcher`] works.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SearchSettings {
    /// How scores are fused.
    pub fusion: FusionSettings,
    /// Candidates that each of two arms is asked for, for each hit of the answer: 1 to 1,000.
    /// Default 4: enough that an item low in both arms can rise above one that is high in one.
    /// An arm that is alone is asked for as many candidates as the answer has hits at the most.
    pub candidates_per_hit: u32,
    /// Candidates that each of two arms is asked for at the least: 1 to 1,000. Default 50:
    /// normalising by lowest and highest needs some candidates to say anything; with 100 or 200 the
    /// first ten of the conversations named at [`FusionSettings`] are hardly better (.003).
    pub min_candidates: u32,
    /// How words are scored.
    pub keyword: KeywordSettings,
    /// What the context of a memory adds.
    pub context: ContextSettings,
    /// An answer whose relevance is known and lower than this has no hits: in [0, 1]. Default:
    /// none, so that every answer has what was found. A request may set its own.
    pub min_relevance: Option<f64>,
}

impl Default for SearchSettings {
    fn default() -> Self {
        Self {
            fusion: FusionSettings::default(),
            candidates_per_hit: 4,
            min_candidates: 50,
            keyword: KeywordSettings::default(),
            context: ContextSettings::default(),
            min_relevance: None,
        }
    }
}

impl SearchSettings {
    /// Sets how scores are fused.
    #[must_use]
    pub fn with_fusion(mut self, fusion: FusionSettings) -> Self {
        self.fusion = fusion;
        self
    }

    /// Sets the candidates for each hit.
    #[must_use]
    pub fn with_candidates_per_hit(mut self, candidates: u32) -> Self {
        self.candidates_per_hit = candidates;
        self
    }

    /// Sets the least number of candidates.
    #[must_use]
    pub fn with_min_candidates(mut self, candidates: u32) -> Self {
        self.min_candidates = candidates;
        self
    }

    /// Sets how words are scored.
    #[must_use]
    pub fn with_keyword(mut self, keyword: KeywordSettings) -> Self {
        self.keyword = keyword;
        self
    }

    /// Sets what the context of a memory adds.
    #[must_use]
    pub fn with_context(mut self, context: ContextSettings) -> Self {
        self.context = context;
        self
    }

    /// Sets the least relevance of an answer with hits.
    #[must_use]
    pub fn with_min_relevance(mut self, relevance: Option<f64>) -> Self {
        self.min_relevance = relevance;
        self
    }

    /// Checks every value.
    ///
    /// # Errors
    /// `InvalidInput`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        first(self.faults())
    }

    /// All that is wrong, one sentence each, beginning with the setting.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.fusion.faults();
        faults.extend(self.keyword.faults());
        faults.extend(self.context.faults());
        if let Err(error) = check_relevance(self.min_relevance) {
            faults.push(error.message().to_owned());
        }
        for (name, value) in [
            ("candidates_per_hit", self.candidates_per_hit),
            ("min_candidates", self.min_candidates),
        ] {
            if !(1..=TOP_K).contains(&value) {
                faults.push(format!("{name} lies between 1 and {TOP_K}"));
            }
        }
        faults
    }

    /// How many candidates each arm that runs is asked for at first, for an answer of `limit` hits.
    /// `in_memory`: the indexes lie in memory, where candidates cost next to nothing.
    pub(crate) fn width(&self, limit: u32, runs: [bool; 2], in_memory: bool) -> u32 {
        let least = if in_memory { self.context.candidates } else { 0 };
        let width = match runs {
            [true, true] => limit.saturating_mul(self.candidates_per_hit).max(self.min_candidates),
            _ => limit,
        };
        width.max(least).min(TOP_K)
    }
}

/// Checks a least relevance.
pub(crate) fn check_relevance(relevance: Option<f64>) -> Result<()> {
    match relevance {
        Some(relevance) if !(0.0..=1.0).contains(&relevance) => {
            Err(Error::invalid("min_relevance lies in [0, 1]"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        assert!(SearchSettings::default().validate().is_ok());
        for weight in [-0.1, f64::NAN, f64::INFINITY, 1e7] {
            let settings = FusionSettings::default().with_keyword(weight);
            assert!(settings.validate().unwrap_err().message().contains("keyword"), "{weight}");
            let settings = FusionSettings::default().with_vector(weight);
            assert!(settings.validate().unwrap_err().message().contains("vector"), "{weight}");
        }
        assert!(FusionSettings::default().with_keyword(0.0).validate().is_ok());
        let zero = FusionSettings::default().with_keyword(0.0).with_vector(0.0);
        assert!(zero.validate().is_err());
        let settings = SearchSettings::default().with_min_candidates(0);
        assert!(settings.validate().unwrap_err().message().contains("min_candidates"));
        let settings = SearchSettings::default().with_candidates_per_hit(1_001);
        assert!(settings.validate().unwrap_err().message().contains("candidates_per_hit"));
    }

    #[test]
    fn the_width_follows_the_limit_within_its_bounds() {
        let settings = SearchSettings::default();
        for (limit, width) in [(1, 50), (12, 50), (13, 52), (250, 1_000), (1_000, 1_000)] {
            assert_eq!(settings.width(limit, [true, true], false), width, "{limit}");
            assert_eq!(settings.width(limit, [true, false], false), limit);
            assert_eq!(settings.width(limit, [false, true], false), limit);
            assert_eq!(settings.width(limit, [true, true], true), width.max(100));
            assert_eq!(settings.width(limit, [false, true], true), limit.max(100));
        }
        let settings = settings.with_candidates_per_hit(1_000);
        assert_eq!(settings.width(1_000, [true, true], true), TOP_K);
    }

    #[test]
    fn settings_are_data_and_typos_are_refused() {
        let read: SearchSettings =
            serde_json::from_str(r#"{"fusion": {"keyword": 0.3}, "min_candidates": 20}"#).unwrap();
        let want = SearchSettings::default()
            .with_fusion(FusionSettings::default().with_keyword(0.3))
            .with_min_candidates(20);
        assert_eq!(read, want);
        assert!(serde_json::from_str::<SearchSettings>(r#"{"fusion": {"words": 1}}"#).is_err());
    }
}

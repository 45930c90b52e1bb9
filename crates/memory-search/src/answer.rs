//! What a search answers, and how a hit explains itself. The JSON names here are stable.

use std::fmt;

use memory_core::MemoryItem;
use memory_core::traits::TermShare;
use serde::{Deserialize, Serialize};

/// One way of finding items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Arm {
    /// By words.
    Keyword,
    /// By nearness of vectors.
    Vector,
}

impl Arm {
    /// The stable name: `keyword` or `vector`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Keyword => "keyword",
            Self::Vector => "vector",
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where an arm had an item.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ArmHit {
    /// Which arm.
    pub arm: Arm,
    /// Its place among the arm's candidates, from 1.
    pub rank: u32,
    /// The arm's own score: BM25, at least 0, or the likeness by the space's metric.
    pub raw_score: f64,
}

/// What one arm gave to a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ArmShare {
    /// Which arm.
    pub arm: Arm,
    /// The place among the arm's candidates, from 1; `None` if it is none of them.
    pub rank: Option<u32>,
    /// The arm's own score; `None` if the item is none of its candidates.
    pub raw_score: Option<f64>,
    /// The arm's own score brought to [0, 1], as [`crate::FusionSettings`] has it; 0 if the item
    /// is none of its candidates.
    pub normalised: f64,
    /// The arm's part of the whole, in [0, 1]; the weights of the arms that ran add up to 1.
    pub weight: f64,
    /// `normalised` times `weight`.
    pub contribution: f64,
    /// What each term of the query gave to `raw_score`; keywords only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermShare>,
}

/// Why a hit has its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// One for each arm that ran, keywords first. Their contributions add up to the score.
    pub arms: Vec<ArmShare>,
}

/// One item found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Hit {
    /// The item, as the store of record has it.
    pub item: MemoryItem,
    /// The fused score, in [0, 1]. It compares the hits of one answer, not those of two.
    pub score: f64,
    /// The arms that found it, keywords first; never empty.
    pub arms: Vec<ArmHit>,
    /// Why; only if the request asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SearchAnswer {
    /// The hits, best first; each item once; never more than the limit.
    pub hits: Vec<Hit>,
    /// The arms that ran, keywords first.
    pub arms_used: Vec<Arm>,
    /// What the caller should know: an arm that could not run, a budget that ended the answer, an
    /// answer shorter than it might be. One sentence each, without memory text.
    pub notes: Vec<String>,
    /// Whether no arm can have missed a better candidate, and the answer is as long as it can be.
    pub exact: bool,
}

impl SearchAnswer {
    /// An answer without hits, from a caller that knows that there is nothing to find.
    #[must_use]
    pub fn nothing(arms_used: Vec<Arm>, notes: Vec<String>) -> Self {
        Self { hits: Vec::new(), arms_used, notes, exact: true }
    }
}

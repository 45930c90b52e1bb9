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
    /// The arm's part of the whole, in [0, 1]; the weights of the arms that ran add up to 1, or to
    /// less where the context has a part.
    pub weight: f64,
    /// `normalised` times `weight`.
    pub contribution: f64,
    /// The part of `raw_score` that neighbours lent; keywords only.
    #[serde(skip_serializing_if = "is_zero")]
    pub lent: f64,
    /// What each term of the query gave to `raw_score`; keywords only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermShare>,
}

/// Why a hit has its score.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// One for each arm that ran, keywords first. Their contributions and those of the context add
    /// up to the score.
    pub arms: Vec<ArmShare>,
    /// One for each signal that counted in this answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context: Vec<SignalShare>,
}

/// What the context of a memory can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Signal {
    /// What every candidate has.
    Base,
    /// It is said by the person whom the question names.
    Speaker,
    /// It is of the time that the question names.
    Date,
    /// It is important.
    Importance,
    /// It is recent.
    Recency,
    /// Its conversation has good hits.
    Session,
}

impl Signal {
    /// The stable name: `speaker`, `date` and so on.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Speaker => "speaker",
            Self::Date => "date",
            Self::Importance => "importance",
            Self::Recency => "recency",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one signal gave to a hit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SignalShare {
    /// Which signal.
    pub signal: Signal,
    /// How strongly it speaks for the hit, in [0, 1].
    pub strength: f64,
    /// Its part of the score.
    pub contribution: f64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &f64) -> bool {
    *number <= 0.0
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
    /// How likely it is that the memories have anything to do with the question, in [0, 1], as
    /// `docs/retrieval.md` has it; `None` where it cannot be told. Unlike scores it compares the
    /// answers of two questions.
    pub relevance: Option<f64>,
}

impl SearchAnswer {
    /// An answer without hits, from a caller that knows that there is nothing to find.
    #[must_use]
    pub fn nothing(arms_used: Vec<Arm>, notes: Vec<String>) -> Self {
        Self { hits: Vec::new(), arms_used, notes, exact: true, relevance: None }
    }
}

//! What a search asks for.

use std::fmt;

use memory_core::limits::{SEARCH_TEXT_BYTES, TOP_K};
use memory_core::traits::ChangePosition;
use memory_core::{EmbeddingSpace, Error, Filter, Projection, Result};
use serde::{Deserialize, Serialize};

use crate::settings::check_relevance;

/// Where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// After so many hits: 1 to 1,000.
    Count(u32),
    /// Before the hits' contents would have more tokens than the budget.
    ///
    /// Hits are taken in order. The first one that does not fit ends the answer, even if a smaller
    /// one further down would fit, so that the answer is always the best of the ranking; if it is
    /// the very first, the answer is empty. A note in the answer says so and names the sizes.
    /// Tokens are counted by [`memory_text::estimate_tokens`].
    Tokens {
        /// The most tokens of all contents together; at least 1.
        budget: u32,
        /// The most hits: 1 to 1,000.
        most: u32,
    },
}

impl Limit {
    /// The most hits that it lets through.
    #[must_use]
    pub fn most(self) -> u32 {
        match self {
            Self::Count(most) | Self::Tokens { most, .. } => most,
        }
    }
}

/// Ten hits.
impl Default for Limit {
    fn default() -> Self {
        Self::Count(10)
    }
}

/// Which arms a search uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ArmSelection {
    /// Those that the request has input for and there is an index for; at least one. The answer
    /// notes an arm that is missing.
    #[default]
    Auto,
    /// Keywords alone, even if there is a vector.
    KeywordOnly,
    /// Vectors alone, even if there is a text.
    VectorOnly,
    /// Both; it is an error if one cannot be had.
    Both,
}

/// What a search asks for: a text, a vector, or both, and what may be found.
#[derive(Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct SearchRequest {
    /// Words to find; at most 64 KiB, not blank.
    pub text: Option<String>,
    /// A vector to find neighbours of, `[dimensions]` of its space.
    pub vector: Option<(EmbeddingSpace, Vec<f32>)>,
    /// Which items may be found. Default: all.
    pub filter: Filter,
    /// Where the answer ends. Default: ten hits.
    pub limit: Limit,
    /// Whether hits explain their scores. Default: no.
    pub explain: bool,
    /// Which arms are used. Default: those that can be.
    pub arms: ArmSelection,
    /// The indexes must reflect the change log up to here; they wait until the deadline for it.
    pub at_least: Option<ChangePosition>,
    /// Which parts of the items are read. Default: everything but vectors.
    pub projection: Projection,
    /// Why there is no vector, for the note or the error about an arm that misses it. Default: no
    /// query vector was given.
    pub no_vector_reason: Option<String>,
    /// An answer whose relevance is known and lower than this has no hits: in [0, 1]. Default: that
    /// of the settings.
    pub min_relevance: Option<f64>,
}

/// Texts and vectors stay out of logs: `Debug` shows their sizes only.
impl fmt::Debug for SearchRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SearchRequest")
            .field("text_bytes", &self.text.as_ref().map(String::len))
            .field("space", &self.vector.as_ref().map(|(space, _)| space.id()))
            .field("limit", &self.limit)
            .field("explain", &self.explain)
            .field("arms", &self.arms)
            .field("at_least", &self.at_least)
            .finish_non_exhaustive()
    }
}

impl SearchRequest {
    /// A request for nothing yet: add a text, a vector, or both.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the words to find.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the vector to find neighbours of.
    #[must_use]
    pub fn with_vector(mut self, space: EmbeddingSpace, vector: Vec<f32>) -> Self {
        self.vector = Some((space, vector));
        self
    }

    /// Sets which items may be found.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets where the answer ends.
    #[must_use]
    pub fn with_limit(mut self, limit: Limit) -> Self {
        self.limit = limit;
        self
    }

    /// Asks for explanations.
    #[must_use]
    pub fn with_explain(mut self, explain: bool) -> Self {
        self.explain = explain;
        self
    }

    /// Sets which arms are used.
    #[must_use]
    pub fn with_arms(mut self, arms: ArmSelection) -> Self {
        self.arms = arms;
        self
    }

    /// Waits for the indexes to reflect a position.
    #[must_use]
    pub fn with_at_least(mut self, position: Option<ChangePosition>) -> Self {
        self.at_least = position;
        self
    }

    /// Sets which parts of the items are read.
    #[must_use]
    pub fn with_projection(mut self, projection: Projection) -> Self {
        self.projection = projection;
        self
    }

    /// Says why there is no vector: a part of a sentence, without memory text.
    #[must_use]
    pub fn with_no_vector_reason(mut self, reason: impl Into<String>) -> Self {
        self.no_vector_reason = Some(reason.into());
        self
    }

    /// Sets the least relevance of an answer with hits.
    #[must_use]
    pub fn with_min_relevance(mut self, relevance: Option<f64>) -> Self {
        self.min_relevance = relevance;
        self
    }

    /// Checks everything that needs no index.
    ///
    /// # Errors
    /// `InvalidInput`: neither text nor vector, a blank or too long text, a vector that its space
    /// refuses, a limit out of its range, a filter that is malformed, a budget of tokens with a
    /// projection without content, a least relevance outside [0, 1].
    pub fn validate(&self) -> Result<()> {
        if self.text.is_none() && self.vector.is_none() {
            return Err(Error::invalid("a search needs a text or a vector"));
        }
        if let Some(text) = &self.text {
            if text.trim().is_empty() {
                return Err(Error::invalid("the search text is blank"));
            }
            if text.len() > SEARCH_TEXT_BYTES {
                return Err(Error::invalid(format!(
                    "the search text has {} bytes; the limit is {SEARCH_TEXT_BYTES}",
                    text.len()
                )));
            }
        }
        if let Some((space, vector)) = &self.vector {
            space.check(vector)?;
        }
        let most = self.limit.most();
        if !(1..=TOP_K).contains(&most) {
            return Err(Error::invalid(format!(
                "a search finds between 1 and {TOP_K} items; this asks for {most}"
            )));
        }
        if let Limit::Tokens { budget, .. } = self.limit {
            if budget == 0 {
                return Err(Error::invalid("a budget of tokens is at least 1"));
            }
            if !self.projection.content {
                return Err(Error::invalid("a budget of tokens needs the content to be read"));
            }
        }
        check_relevance(self.min_relevance)?;
        self.filter.validate()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{ErrorKind, Field, Metric};

    use super::*;

    fn text() -> SearchRequest {
        SearchRequest::new().with_text("tea")
    }

    #[test]
    fn malformed_requests_are_refused_and_say_why() {
        let space = EmbeddingSpace::new("m", "1", 2, Metric::Cosine).unwrap();
        let narrow = text().with_projection(Projection::narrow());
        let tokens = |budget, most| Limit::Tokens { budget, most };
        let table = [
            (SearchRequest::new(), "a text or a vector"),
            (text().with_text(""), "blank"),
            (text().with_text(" \n"), "blank"),
            (text().with_text("x".repeat(SEARCH_TEXT_BYTES + 1)), "65536"),
            (text().with_vector(space.clone(), vec![1.0]), "components"),
            (text().with_vector(space.clone(), vec![0.0, 0.0]), "zero"),
            (SearchRequest::new().with_vector(space.clone(), vec![f32::NAN, 0.0]), "finite"),
            (text().with_limit(Limit::Count(0)), "between 1 and 1000"),
            (text().with_limit(Limit::Count(1_000_000_000)), "between 1 and 1000"),
            (text().with_limit(tokens(100, 0)), "between 1 and 1000"),
            (text().with_limit(tokens(100, 1_001)), "between 1 and 1000"),
            (text().with_limit(tokens(0, 10)), "at least 1"),
            (narrow.clone().with_limit(tokens(100, 10)), "content"),
            (text().with_filter(Filter::In(Field::UserId, vec![])), "in"),
        ];
        for (request, part) in table {
            let error = request.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{part}");
            assert!(error.message().contains(part), "{part}: {error}");
        }
        for request in [
            text(),
            text().with_text("x".repeat(SEARCH_TEXT_BYTES)),
            text().with_limit(Limit::Count(1_000)),
            text().with_limit(tokens(1, 1)),
            narrow,
            SearchRequest::new().with_vector(space, vec![1.0, 0.0]),
        ] {
            assert!(request.validate().is_ok(), "{request:?}");
        }
    }

    #[test]
    fn debug_shows_no_text() {
        let shown = format!("{:?}", SearchRequest::new().with_text("secret"));
        assert!(!shown.contains("secret") && shown.contains("text_bytes: Some(6)"), "{shown}");
    }
}

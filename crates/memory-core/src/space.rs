//! Embedding spaces, and the check that a vector belongs to one.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ids::{SpaceId, check_name};
use crate::limits::DIMENSIONS;

/// Largest name of a model or of its revision, in bytes: tripled by escaping it fits an id.
const NAME_BYTES: usize = 100;

/// How likeness is measured in a space. Every score is turned so that higher is closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Cosine of the angle, in [-1, 1].
    Cosine,
    /// Dot product.
    Dot,
    /// Negative squared Euclidean distance, at most 0.
    Euclidean,
}

impl Metric {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Dot => "dot",
            Self::Euclidean => "euclidean",
        }
    }
}

/// What makes vectors comparable: model, its revision, dimensions and metric.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmbeddingSpace {
    model: String,
    revision: String,
    dimensions: u32,
    metric: Metric,
}

impl EmbeddingSpace {
    /// Names a space.
    ///
    /// # Errors
    /// `InvalidInput`: an empty or overlong name, 0 dimensions, or more than the limit.
    pub fn new(
        model: impl Into<String>,
        revision: impl Into<String>,
        dimensions: u32,
        metric: Metric,
    ) -> Result<Self> {
        let (model, revision) = (model.into(), revision.into());
        check_name("model name", &model, NAME_BYTES)?;
        check_name("model revision", &revision, NAME_BYTES)?;
        if dimensions == 0 || dimensions > DIMENSIONS {
            return Err(Error::invalid(format!(
                "a space has 1 to {DIMENSIONS} dimensions, not {dimensions}"
            )));
        }
        Ok(Self { model, revision, dimensions, metric })
    }

    /// The model's name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model's revision.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Components of each vector.
    #[must_use]
    pub fn dimensions(&self) -> u32 {
        self.dimensions
    }

    /// The metric.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The name that items carry their vectors under; equal spaces have equal names.
    ///
    /// The sizes stand first, so that no model name can be mistaken for another space's.
    #[must_use]
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "the parts were checked when the space was made"
    )]
    pub fn id(&self) -> SpaceId {
        SpaceId::new(format!(
            "{}/{}/{}@{}",
            self.dimensions,
            self.metric.name(),
            self.model.replace('%', "%25").replace('@', "%40"),
            self.revision
        ))
        .expect("a checked space has a valid name")
    }

    /// Checks that a vector can belong to this space.
    ///
    /// # Errors
    /// `InvalidInput`, as [`check_vector`] has it.
    pub fn check(&self, vector: &[f32]) -> Result<()> {
        check_vector(vector, self.dimensions, self.metric)
    }
}

impl fmt::Display for EmbeddingSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())
    }
}

/// Checks a vector's shape and values.
///
/// # Errors
/// `InvalidInput`: another length, a NaN or an infinity, a norm that overflows, or a zero norm
/// under [`Metric::Cosine`].
pub fn check_vector(vector: &[f32], dimensions: u32, metric: Metric) -> Result<()> {
    if u32::try_from(vector.len()).ok() != Some(dimensions) {
        return Err(Error::invalid(format!(
            "the vector has {} components; its space has {dimensions}",
            vector.len()
        )));
    }
    let squared = squared_norm(vector);
    if !squared.is_finite() {
        // Squares of finite f32 add up to a finite f64, so one component is to blame.
        let at = vector.iter().position(|component| !component.is_finite()).unwrap_or(0);
        return Err(Error::invalid(format!("component {at} of the vector is not a finite number")));
    }
    // A norm above f32's range would turn into infinity in the kernels, one below into zero.
    if squared > 1e37 {
        return Err(Error::invalid("the vector's norm is too large"));
    }
    if metric == Metric::Cosine && squared < 1e-30 {
        return Err(Error::invalid("the vector's norm is zero, which has no cosine"));
    }
    Ok(())
}

/// The sum of the squares, in eight sums side by side, for a single one would wait for itself.
fn squared_norm(vector: &[f32]) -> f64 {
    let (chunks, rest) = vector.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    let rest: f64 = rest.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_for_distinct_spaces() {
        let space = |model: &str, revision: &str| {
            EmbeddingSpace::new(model, revision, 3, Metric::Cosine).unwrap()
        };
        assert_eq!(space("a", "b").id(), space("a", "b").id());
        assert_ne!(space("a@b", "c").id(), space("a", "b@c").id());
        assert_ne!(space("a@b", "c").id(), space("a%40b", "c").id());
        let longest = space(&"@".repeat(NAME_BYTES), &"@".repeat(NAME_BYTES));
        assert!(longest.id().as_str().starts_with("3/cosine/%40"));
        assert!(EmbeddingSpace::new("m", "1", 0, Metric::Dot).is_err());
        assert!(EmbeddingSpace::new("", "1", 3, Metric::Dot).is_err());
        assert!(EmbeddingSpace::new("m", "1", u32::MAX, Metric::Dot).is_err());
    }

    #[test]
    fn bad_vectors_are_refused_and_good_ones_are_not() {
        let space = EmbeddingSpace::new("m", "1", 3, Metric::Cosine).unwrap();
        assert!(space.check(&[1.0, 0.0, 0.0]).is_ok());
        for bad in [
            vec![],
            vec![1.0, 0.0],
            vec![f32::NAN, 0.0, 0.0],
            vec![f32::INFINITY, 0.0, 0.0],
            vec![0.0; 3],
            vec![f32::MAX; 3],
        ] {
            assert!(space.check(&bad).is_err(), "{bad:?}");
        }
        let dot = EmbeddingSpace::new("m", "1", 3, Metric::Dot).unwrap();
        assert!(dot.check(&[0.0; 3]).is_ok());
    }
}

//! What an index refuses, and why.

/// A vector that cannot be indexed or searched for. No message contains a value of the vector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VectorError {
    /// A space needs 1 to [`memory_distance::MAX_DIMS`] dimensions.
    #[error("a vector space of {dims} dimensions is not supported")]
    UnsupportedDimensions {
        /// The dimensions asked for.
        dims: usize,
    },
    /// The vector is of another length than the space.
    #[error("the vector has {actual} dimensions, the space has {expected}")]
    Dimensions {
        /// The dimensions of the space.
        expected: usize,
        /// The dimensions of the vector.
        actual: usize,
    },
    /// An element is NaN or infinite.
    #[error("an element of the vector is not finite")]
    NotFinite,
    /// The norm is zero, so that the cosine is undefined.
    #[error("the vector has no direction: its norm is zero")]
    ZeroNorm,
    /// The numbers beside stored codes are not finite, or negative.
    #[error("the stored quantisation of the vector is not valid")]
    InvalidQuantization,
    /// The space keeps f32 rows in memory, but the call brought or needs none.
    #[error("the f32 row of the vector is missing")]
    RowMissing,
}

/// A document that cannot be indexed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// A vector names a space that the index does not have.
    #[error("the index has no vector space {space}")]
    UnknownSpace {
        /// The slot of the space.
        space: u8,
    },
    /// A vector does not fit its space.
    #[error("a vector does not fit space {space}")]
    Vector {
        /// The slot of the space.
        space: u8,
        /// Why it does not fit.
        source: VectorError,
    },
}

//! The layers: what makes the stores dependable in a cloud, each policy once.
//!
//! A layer is a [`Policy`] about calls that [`Layered`] puts around every trait of the core.

mod answer;
mod forward;
mod layer;
mod operation;
mod policy;

pub use answer::Answer;
pub use layer::Layer;
pub use operation::{Operation, Safety};
pub use policy::{Attempt, Call, Layered, Policy};

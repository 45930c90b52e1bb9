//! The adaptive concurrency limit and its gate.

mod closing;
mod overload;
mod queue;
mod tools;

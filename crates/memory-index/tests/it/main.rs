//! The indexes against plain references, under random sequences of changes.

mod keywords;
mod memory;
mod sharing;
mod vectors;

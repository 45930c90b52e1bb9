//! Integration tests of the crate, as its users see it.

mod languages;
mod properties;
mod split;

//! The cache: its protocol in every state, and the layer over stores and caches that fail.

mod explore;
mod faults;
mod model;
mod reads;
mod steps;
mod tools;
mod writes;

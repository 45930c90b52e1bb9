//! Commits and reads by id on real servers, and what lies in the keys afterwards.

mod commits;
mod drops;
mod erasures;
mod faults;
mod memory_limit;
mod pages;
mod resends;
pub(crate) mod rig;
mod samples;
mod spaces;
mod stored;

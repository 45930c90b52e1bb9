//! What comes between a store and its server: connections that are cut, swallowed, slowed down and
//! refused, and a server that ends and comes back.

pub(crate) mod cuts;
mod loads;
mod outages;
mod requests;
mod restart;
pub(crate) mod rig;
mod spaces;

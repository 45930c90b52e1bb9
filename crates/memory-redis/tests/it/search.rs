//! Search by vector and by words on real servers.

mod building;
mod found;
mod hostile;
mod rig;

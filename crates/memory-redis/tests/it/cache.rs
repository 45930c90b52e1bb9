//! The shared cache on real servers.

mod faults;
mod garbage;
mod hostile;
mod rig;
mod servers;
mod steps;

//! Servers that die, hang, refuse and cut: every call ends in time, with an error that says what it
//! means.

mod faults;
pub(crate) mod server;
mod tls;
mod users;

//! Administration: what the store knows of itself and its tenants, leases, the change log, upkeep.

mod book;
mod changes;
mod declare;
mod leases;
mod leave;
mod log;
mod meta;
mod remains;
mod scan;
mod tenants;
mod upkeep;

pub(crate) use book::{StoreBook, check_store};
pub(crate) use log::{LogOp, Logs};
pub(crate) use scan::{Op, Scan};

//! Virtual file systems for SQLite that count, delay and fail: for tests and benches alone.
//!
//! - [`SlowSync::register`]`(name, delay)` puts a layer over the files of the operating system that
//!   waits at each sync and counts syncs and writes: [`SlowSync::syncs`],
//!   [`SlowSync::log_syncs`], [`SlowSync::writes`]. A store takes it by
//!   `SqliteSettings::with_vfs(name)`; [`SlowSync::make_default`] gives it to every connection that
//!   is opened from then on, until the handle is dropped.
//! - [`Disk::register`]`(name, seed)` is a disk in memory that knows of each byte whether it was
//!   synced, and can lose its power; `docs/durability.md` says what may be left then.
//!
//! Compiled with the feature `fault-vfs` only, and no part of what an application needs.

mod disk;
mod glue;
mod image;
mod slow;
#[cfg(test)]
mod tests;
mod vfs;

pub use disk::Disk;
pub use image::Fates;
pub use slow::SlowSync;

//! The checks, by what they are about. Each is listed, with what it needs, in `list.rs`.

pub(crate) mod admin;
pub(crate) mod changes;
pub(crate) mod commits;
pub(crate) mod concurrency;
pub(crate) mod crud;
pub(crate) mod erasure;
pub(crate) mod expiry;
pub(crate) mod filters;
pub(crate) mod isolation;
pub(crate) mod keywords;
pub(crate) mod leases;
pub(crate) mod lifecycle;
pub(crate) mod missing;
pub(crate) mod pages;
pub(crate) mod preconditions;
pub(crate) mod projection;
pub(crate) mod retries;
pub(crate) mod vectors;

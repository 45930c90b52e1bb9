//! A shared cache that cannot put an old value back.
//!
//! Values stand in groups: what one write makes stale together. Each group has a random token while
//! values may be put into it, or a mark while a write of it is under way. A reader sees the token
//! before it reads the store and fills under that token only. A writer first replaces the token by
//! its mark, which removes the group's values, commits, and then sets a fresh token. Tokens are
//! random, for counters recur after a flush.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::context::CallContext;
use crate::error::Result;
use crate::health::Health;

/// Where a value stands, within the tenant of the call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    /// The group: a write of it removes the value.
    pub group: String,
    /// A wider group: a write of it makes the value worthless too.
    pub under: String,
    /// Which value of the group.
    pub entry: String,
}

/// What a fill must present: the tokens of the group and of the wider group, as they were before
/// the store was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheToken {
    /// The group's.
    pub group: [u8; 16],
    /// The wider group's.
    pub under: [u8; 16],
}

/// What a cache knows of a key.
#[derive(Clone, PartialEq, Eq)]
pub enum CacheRead {
    /// The value's bytes.
    Hit(Vec<u8>),
    /// Nothing, and the token to fill it under.
    Miss(CacheToken),
    /// A write of it is under way: read the store, do not fill.
    InFlight,
}

/// Values stay out of logs.
impl Debug for CacheRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hit(value) => write!(f, "Hit({} bytes)", value.len()),
            Self::Miss(_) => f.write_str("Miss"),
            Self::InFlight => f.write_str("InFlight"),
        }
    }
}

/// A value to keep.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheFill {
    /// Where.
    pub key: CacheKey,
    /// What its reader saw.
    pub token: CacheToken,
    /// The bytes.
    pub value: Vec<u8>,
}

/// Values stay out of logs.
impl Debug for CacheFill {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CacheFill({} bytes)", self.value.len())
    }
}

/// A write under way: hand it to [`Cache::end_write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheWrite {
    /// The groups.
    pub groups: Vec<String>,
    /// The mark that stands on them.
    pub mark: [u8; 16],
}

/// A cache. Every failure of it is survivable: the store answers.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// Reads keys, one answer for each in order, and issues tokens where there are none. A token
    /// that it issues, and every value that is filled under it, lasts for `life` at the longest.
    ///
    /// # Errors
    /// As every call; the caller goes on without the cache.
    async fn read(
        &self,
        context: &CallContext,
        keys: &[CacheKey],
        life: Duration,
    ) -> Result<Vec<CacheRead>>;

    /// Keeps values whose groups still have the tokens given; says of each whether it was kept.
    ///
    /// # Errors
    /// As every call.
    async fn fill(&self, context: &CallContext, fills: Vec<CacheFill>) -> Result<Vec<bool>>;

    /// Puts a mark on groups, for `most` at the longest, and removes their values.
    ///
    /// # Errors
    /// As every call. Some of the groups may have the mark.
    async fn begin_write(
        &self,
        context: &CallContext,
        groups: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite>;

    /// Sets fresh tokens, which last for `life` at the longest, on groups that do not have another
    /// write's mark: that write ends by itself.
    ///
    /// # Errors
    /// As every call. The mark may stand until its time is over; values cannot.
    async fn end_write(
        &self,
        context: &CallContext,
        write: CacheWrite,
        life: Duration,
    ) -> Result<()>;

    /// How the cache is. Never fails: what cannot be reached is degraded, for the store answers.
    async fn health(&self) -> Health;

    /// Lets go of connections. Idempotent.
    ///
    /// # Errors
    /// What was met; it is closed all the same.
    async fn close(&self) -> Result<()>;
}

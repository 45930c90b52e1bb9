//! A shared cache that cannot put an old value back.
//!
//! A reader takes the key's token before it reads the store and fills under that token only.
//! A writer first replaces the token by an in-flight mark, commits, then sets a fresh token and
//! removes the value. Tokens are random, for counters recur after a flush.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::context::CallContext;
use crate::error::Result;

/// What a key's fills must present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheToken(pub [u8; 16]);

/// What a cache knows of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CacheRead {
    /// The value's bytes.
    Hit(Vec<u8>),
    /// Nothing, and the token to fill it under.
    Miss(CacheToken),
    /// A write of it is under way: read the store, do not fill.
    InFlight,
}

/// A write under way: hand it to [`Cache::end_write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheWrite {
    /// The keys.
    pub keys: Vec<String>,
    /// The mark that stands on them.
    pub mark: CacheToken,
}

/// A cache. Every failure of it is survivable: the store answers.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Cache: Send + Sync + Debug {
    /// Reads a key, and issues a token where there is none.
    ///
    /// # Errors
    /// As every call; the caller goes on without the cache.
    async fn read(&self, context: &CallContext, key: &str) -> Result<CacheRead>;

    /// Keeps a value for `life` if the key's token is still this one; says whether it was kept.
    ///
    /// # Errors
    /// As every call.
    async fn fill(
        &self,
        context: &CallContext,
        key: &str,
        token: CacheToken,
        value: Vec<u8>,
        life: Duration,
    ) -> Result<bool>;

    /// Marks keys as being written, for `most` at the longest.
    ///
    /// # Errors
    /// As every call.
    async fn begin_write(
        &self,
        context: &CallContext,
        keys: Vec<String>,
        most: Duration,
    ) -> Result<CacheWrite>;

    /// Sets fresh tokens and removes the values.
    ///
    /// # Errors
    /// As every call: then the invalidation is unconfirmed and staleness has its stated bound.
    async fn end_write(&self, context: &CallContext, write: CacheWrite) -> Result<()>;
}

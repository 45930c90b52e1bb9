//! What a store knows about itself and its tenants.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::context::CallContext;
use crate::error::Result;
use crate::ids::MemoryId;
use crate::space::EmbeddingSpace;

/// The stored shape's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaInfo {
    /// What the store holds.
    pub stored: u32,
    /// What this build writes.
    pub current: u32,
}

/// A tenant's embedding spaces.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantSpaces {
    /// The one that searches use.
    pub active: Option<EmbeddingSpace>,
    /// The one that the tenant is being re-embedded into.
    pub next: Option<EmbeddingSpace>,
    /// Grows with each change of the two.
    pub version: u64,
}

impl TenantSpaces {
    /// The space of an id, if it is one of the tenant's.
    #[must_use]
    pub fn find(&self, id: &crate::SpaceId) -> Option<&EmbeddingSpace> {
        self.active.iter().chain(&self.next).find(|space| space.id() == *id)
    }
}

/// The store's own secret key: 32 random bytes, made with the store.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey([u8; 32]);

impl StoreKey {
    /// Wraps the bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes. Never log them.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(redacted)")
    }
}

/// What is left of an erased item: HMAC-SHA256 of tenant and id under the store key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tombstone(pub [u8; 32]);

/// What a store knows about itself and its tenants. Reachable from an admin handle only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StoreMeta: Send + Sync + fmt::Debug {
    /// The stored shape's version.
    ///
    /// # Errors
    /// As every call.
    async fn schema(&self) -> Result<SchemaInfo>;

    /// A tenant's spaces; none for a tenant that has never had one.
    ///
    /// # Errors
    /// As every call.
    async fn spaces(&self, context: &CallContext) -> Result<TenantSpaces>;

    /// Replaces a tenant's spaces if their version is still `spaces.version`; the answer carries
    /// the new version. Vectors of a space that is no longer named are never read again; a store
    /// may keep their bytes until the items are put anew or the space is named again.
    ///
    /// # Errors
    /// `Conflict`: somebody else changed them. `InvalidInput`: a next without an active one, both
    /// the same, or more dimensions than the store keeps.
    async fn set_spaces(
        &self,
        context: &CallContext,
        spaces: &TenantSpaces,
    ) -> Result<TenantSpaces>;

    /// The fingerprint of the analyser that the keyword index was made with.
    ///
    /// # Errors
    /// As every call.
    async fn analyser(&self) -> Result<Option<String>>;

    /// The store's key.
    ///
    /// # Errors
    /// As every call.
    async fn store_key(&self) -> Result<StoreKey>;

    /// Which of these ids were erased here. For imports, restores and migrations only.
    ///
    /// # Errors
    /// `InvalidInput`: more than 1,000 ids.
    async fn erased(&self, context: &CallContext, ids: &[MemoryId]) -> Result<Vec<bool>>;

    /// Takes in tombstones that an archive or a migration carried. Idempotent.
    ///
    /// # Errors
    /// `InvalidInput`: more than 1,000.
    async fn add_tombstones(&self, tombstones: &[Tombstone]) -> Result<()>;
}

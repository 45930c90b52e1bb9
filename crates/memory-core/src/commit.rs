//! Commits: the atomic unit of writing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hash::hex;
use crate::ids::{CommitId, MemoryId, Revision, SpaceId, check_name};
use crate::item::MemoryItem;
use crate::limits::{COMMIT_BYTES, COMMIT_WRITES, ID_BYTES};
use crate::traits::ChangePosition;

/// What must be true of an id for a write of it to happen.
///
/// An expired item is absent to every precondition.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Precondition {
    /// Nothing.
    #[default]
    Any,
    /// No visible item has the id. Fails with `AlreadyExists`.
    Absent,
    /// The item is there at this revision. Fails with `NotFound` or `Conflict`.
    Revision(Revision),
}

/// What a put does to the item's vectors.
#[derive(Clone, Debug, PartialEq)]
pub enum Vectors {
    /// The item has exactly these afterwards: `[dimensions]` each, by space.
    Replace(BTreeMap<SpaceId, Vec<f32>>),
    /// The stored ones stay if the stored content has the same hash, and go if it has not.
    /// Needs a [`Precondition::Revision`]: whoever keeps must know what is there.
    Keep,
}

impl Default for Vectors {
    fn default() -> Self {
        Self::Replace(BTreeMap::new())
    }
}

/// A put: the item as it is to be, whole.
#[derive(Clone, Debug)]
pub struct Put {
    /// The item. Its `revision` and `vectors` are ignored.
    pub item: MemoryItem,
    /// What happens to its vectors.
    pub vectors: Vectors,
    /// What must be true.
    pub precondition: Precondition,
}

/// A delete. Deleting what is not there succeeds under [`Precondition::Any`].
#[derive(Clone, Debug)]
pub struct Delete {
    /// Which item.
    pub id: MemoryId,
    /// What must be true; `Absent` is refused as meaningless.
    pub precondition: Precondition,
}

/// One write of a commit.
#[derive(Clone, Debug)]
pub enum Write {
    /// Create or replace. Shared, so that a commit that may be sent again is cheap to keep.
    Put(Arc<Put>),
    /// Remove.
    Delete(Delete),
}

impl Write {
    /// A put.
    #[must_use]
    pub fn put(item: MemoryItem, vectors: Vectors, precondition: Precondition) -> Self {
        Self::Put(Arc::new(Put { item, vectors, precondition }))
    }

    /// A delete.
    #[must_use]
    pub fn delete(id: MemoryId, precondition: Precondition) -> Self {
        Self::Delete(Delete { id, precondition })
    }

    /// The id it writes.
    #[must_use]
    pub fn id(&self) -> &MemoryId {
        match self {
            Self::Put(put) => &put.item.id,
            Self::Delete(delete) => &delete.id,
        }
    }

    /// Checks that its precondition makes sense for what it does: vectors are kept under a revision
    /// only, and nothing absent is deleted.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn validate_precondition(&self) -> Result<()> {
        match self {
            Self::Put(put)
                if put.vectors == Vectors::Keep
                    && !matches!(put.precondition, Precondition::Revision(_)) =>
            {
                Err(Error::invalid("vectors are kept only under a revision precondition"))
            }
            Self::Delete(delete) if delete.precondition == Precondition::Absent => {
                Err(Error::invalid("a delete of what must be absent"))
            }
            Self::Put(_) | Self::Delete(_) => Ok(()),
        }
    }

    /// Its precondition.
    #[must_use]
    pub fn precondition(&self) -> &Precondition {
        match self {
            Self::Put(put) => &put.precondition,
            Self::Delete(delete) => &delete.precondition,
        }
    }
}

/// A caller's own key for "this request, once", kept for 24 hours.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    digest: [u8; 32],
}

impl IdempotencyKey {
    /// A key and the SHA-256 of the request it stands for.
    ///
    /// # Errors
    /// `InvalidInput`: a key that is empty, too long, or has control characters.
    pub fn new(key: impl Into<String>, digest: [u8; 32]) -> Result<Self> {
        let key = key.into();
        check_name("idempotency key", &key, ID_BYTES)?;
        Ok(Self { key, digest })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The digest of the request.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IdempotencyKey({:?}, {})", self.key, hex(&self.digest[..4]))
    }
}

/// Writes of one tenant that happen together or not at all.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Commit {
    /// Names the commit; the same for every attempt at it.
    pub id: CommitId,
    /// 1 to 2,000 writes of distinct ids.
    pub writes: Vec<Write>,
    /// The caller's key, if any.
    pub idempotency: Option<IdempotencyKey>,
    /// Whether an earlier attempt at this commit had an unknown outcome. Only then does the store
    /// look for its own work.
    pub resend: bool,
}

impl Commit {
    /// A first attempt.
    #[must_use]
    pub fn new(id: CommitId, writes: Vec<Write>) -> Self {
        Self { id, writes, idempotency: None, resend: false }
    }

    /// Adds a caller's key.
    #[must_use]
    pub fn with_idempotency(mut self, key: Option<IdempotencyKey>) -> Self {
        self.idempotency = key;
        self
    }

    /// Marks it as sent before with an unknown outcome.
    #[must_use]
    pub fn resent(mut self) -> Self {
        self.resend = true;
        self
    }

    /// Checks all that needs no store: items, distinct ids, counts, sizes, preconditions.
    /// Vectors are checked against the tenant's spaces by the store.
    ///
    /// # Errors
    /// `InvalidInput`, naming the write by its place.
    pub fn validate(&self) -> Result<()> {
        if self.writes.is_empty() || self.writes.len() > COMMIT_WRITES {
            return Err(Error::invalid(format!(
                "a commit has 1 to {COMMIT_WRITES} writes; this has {}",
                self.writes.len()
            )));
        }
        let mut ids = BTreeSet::new();
        let mut bytes = 0_usize;
        for (place, write) in self.writes.iter().enumerate() {
            let at = |error: Error| error.with_context("write", place.to_string());
            if !ids.insert(write.id().as_str()) {
                return Err(at(Error::invalid("two writes of one commit name the same id")));
            }
            match write {
                Write::Put(put) => {
                    put.item.validate().map_err(at)?;
                    bytes += put.item.size_bytes();
                    match &put.vectors {
                        Vectors::Replace(vectors) => {
                            bytes += vectors.values().map(|v| v.len() * 4).sum::<usize>();
                        }
                        Vectors::Keep => {}
                    }
                }
                Write::Delete(_) => bytes += 64,
            }
            write.validate_precondition().map_err(at)?;
        }
        if bytes > COMMIT_BYTES {
            return Err(Error::invalid(format!(
                "the commit has about {bytes} bytes; the limit is {COMMIT_BYTES}"
            )));
        }
        Ok(())
    }
}

/// What one write did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteResult {
    /// Which item.
    pub id: MemoryId,
    /// Its revision now; `None` after a delete.
    pub revision: Option<Revision>,
    /// Whether a visible item was there before. After a resend that recognised its own work, what
    /// the store can still tell.
    pub existed: bool,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitReceipt {
    /// One for each write, in order.
    pub results: Vec<WriteResult>,
    /// Where the commit stands in the tenant's change log, if the store has one.
    pub position: Option<ChangePosition>,
    /// Whether the answer is that of an earlier commit under the same idempotency key, or of this
    /// one's own earlier attempt.
    pub replayed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;
    use crate::time::Timestamp;

    fn put(id: &str) -> Write {
        let item = MemoryItem::new(MemoryId::new(id).unwrap(), "x", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap());
        Write::put(item, Vectors::default(), Precondition::Any)
    }

    fn commit(writes: Vec<Write>) -> Result<()> {
        Commit::new(CommitId::from_bytes([0; 16]), writes).validate()
    }

    #[test]
    fn commits_are_checked_whole() {
        assert!(commit(vec![put("a"), put("b")]).is_ok());
        assert!(commit(vec![]).is_err());
        assert!(commit(vec![put("a"), put("a")]).is_err());
        let many = (0..=COMMIT_WRITES).map(|n| put(&n.to_string())).collect();
        assert!(commit(many).is_err());
        let absent = Write::delete(MemoryId::new("a").unwrap(), Precondition::Absent);
        assert!(commit(vec![absent]).is_err());
        let Write::Put(mut keep) = put("a") else { unreachable!("put makes a put") };
        Arc::make_mut(&mut keep).vectors = Vectors::Keep;
        assert!(commit(vec![Write::Put(keep)]).is_err());
        let big = (0..20)
            .map(|n| {
                let Write::Put(mut put) = put(&n.to_string()) else { unreachable!("a put") };
                Arc::make_mut(&mut put).item.set_content("x".repeat(500_000)).unwrap();
                Write::Put(put)
            })
            .collect();
        assert!(commit(big).unwrap_err().message().contains("bytes"));
    }
}

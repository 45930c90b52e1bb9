//! What a back end can do, declared so that callers and the conformance suite can hold it to it.

use std::collections::BTreeSet;
use std::fmt;

use crate::metadata::MetaKey;

/// One thing that a back end may or may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Capability {
    /// Commits of several writes happen whole or not at all.
    AtomicCommit,
    /// Preconditions on writes.
    Preconditions,
    /// A commit that is sent again recognises its own work.
    CommitIds,
    /// A caller's idempotency keys.
    IdempotencyKeys,
    /// Filters by the core's truth table.
    TypedFilters,
    /// Keyset cursors.
    Cursors,
    /// Reads of parts of an item.
    Projection,
    /// Counts without reading the items.
    Counts,
    /// Expired items are invisible from their instant.
    Expiry,
    /// Erasure of a user or a tenant.
    Erase,
    /// Leases with fencing tokens.
    Leases,
    /// A list of tenants.
    TenantDirectory,
    /// A change log with named consumers.
    ChangeLog,
    /// Vector search with filters.
    VectorSearch,
    /// Keyword search with filters.
    KeywordSearch,
    /// The indexes are kept with the records: one commit covers all.
    CoLocated,
    /// Backup while it serves.
    OnlineBackup,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 17] = [
        Self::AtomicCommit,
        Self::Preconditions,
        Self::CommitIds,
        Self::IdempotencyKeys,
        Self::TypedFilters,
        Self::Cursors,
        Self::Projection,
        Self::Counts,
        Self::Expiry,
        Self::Erase,
        Self::Leases,
        Self::TenantDirectory,
        Self::ChangeLog,
        Self::VectorSearch,
        Self::KeywordSearch,
        Self::CoLocated,
        Self::OnlineBackup,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::AtomicCommit => "atomic commit",
            Self::Preconditions => "preconditions",
            Self::CommitIds => "commit ids",
            Self::IdempotencyKeys => "idempotency keys",
            Self::TypedFilters => "typed filters",
            Self::Cursors => "cursors",
            Self::Projection => "projection",
            Self::Counts => "counts",
            Self::Expiry => "expiry",
            Self::Erase => "erase",
            Self::Leases => "leases",
            Self::TenantDirectory => "tenant directory",
            Self::ChangeLog => "change log",
            Self::VectorSearch => "vector search",
            Self::KeywordSearch => "keyword search",
            Self::CoLocated => "co-located indexes",
            Self::OnlineBackup => "online backup",
        };
        f.write_str(name)
    }
}

/// What an acknowledged commit survives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Nothing: it lives in memory.
    Volatile,
    /// The end of the process, not a loss of power.
    ProcessCrash,
    /// A loss of power, as far as the disk keeps what it acknowledged.
    PowerLoss,
    /// What the service promises, in its words.
    Service(String),
}

/// Which metadata keys a filter may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FilterKeys {
    /// Any.
    Any,
    /// These; every other is `Unsupported`.
    Declared(BTreeSet<MetaKey>),
}

/// What a filter may ask of lists, with [`crate::Filter::Contains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainsFilters {
    /// Anything.
    Any,
    /// That a list holds a string, once in each alternative, and never that it does not hold one:
    /// everything else is `Unsupported`.
    OneUnnegated,
}

/// What a back end can do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// The back end's name, as in errors: `sqlite`, ...
    pub backend: &'static str,
    /// What it can do.
    pub set: BTreeSet<Capability>,
    /// What an acknowledged commit survives.
    pub durability: Durability,
    /// Which metadata keys filters may name.
    pub filter_keys: FilterKeys,
    /// What filters may ask of lists.
    pub contains: ContainsFilters,
    /// Most dimensions of a vector it keeps.
    pub max_dimensions: u32,
    /// Whether its vector search is exact.
    pub exact_vectors: bool,
    /// Whether a full page is known to be the last one. Where it is not, because one more record
    /// would have to be read, the cursor of a full last page leads to an empty page without one.
    pub knows_last_page: bool,
    /// Most bytes of one commit, counted as [`crate::limits::COMMIT_BYTES`] is.
    pub max_commit_bytes: usize,
}

impl Capabilities {
    /// Capabilities of a back end that can do these things.
    #[must_use]
    pub fn new(
        backend: &'static str,
        set: impl IntoIterator<Item = Capability>,
        durability: Durability,
    ) -> Self {
        Self {
            backend,
            set: set.into_iter().collect(),
            durability,
            filter_keys: FilterKeys::Any,
            contains: ContainsFilters::Any,
            max_dimensions: crate::limits::DIMENSIONS,
            exact_vectors: true,
            knows_last_page: true,
            max_commit_bytes: crate::limits::COMMIT_BYTES,
        }
    }

    /// Whether it can do this.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.set.contains(&capability)
    }
}

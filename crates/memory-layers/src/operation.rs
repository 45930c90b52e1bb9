//! The operations of all traits: their names, and what may be done with one whose answer was lost.

/// Whether a call may be sent again when nobody knows whether it took effect.
///
/// A failure that is known to have changed nothing may always be followed by another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Safety {
    /// It reads: as often as one likes.
    Read,
    /// It writes, and a second time changes nothing more.
    Idempotent,
    /// It writes, and recognises its own work when the next attempt says that it is one
    /// ([`memory_core::Commit::resend`]).
    Resend,
    /// A second time would be a second effect, or would answer as if the first had been somebody
    /// else's: never again.
    Once,
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $safety:ident;)*) => {
        /// One operation of one trait.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Operation {
            $($(#[$doc])* $name,)*
        }

        impl Operation {
            /// Every operation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name, as in spans and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What may be done with one whose answer was lost.
            #[must_use]
            pub const fn safety(self) -> Safety {
                match self { $(Self::$name => Safety::$safety,)* }
            }
        }
    };
}

operations! {
    /// [`memory_core::traits::RecordStore::commit`].
    Commit, "commit", Resend;
    /// [`memory_core::traits::RecordStore::fetch`].
    Fetch, "fetch", Read;
    /// [`memory_core::traits::RecordStore::query`].
    Query, "query", Read;
    /// [`memory_core::traits::RecordStore::count`].
    Count, "count", Read;
    /// [`memory_core::traits::RecordStore::sweep_expired`].
    SweepExpired, "sweep_expired", Idempotent;
    /// [`memory_core::traits::RecordStore::erase`]: a step that is done again finds nothing left.
    Erase, "erase", Idempotent;
    /// [`memory_core::traits::BulkWriter::write_many`].
    WriteMany, "write_many", Resend;
    /// [`memory_core::traits::VectorIndex::upsert`].
    VectorUpsert, "vector_upsert", Idempotent;
    /// [`memory_core::traits::VectorIndex::remove`].
    VectorRemove, "vector_remove", Idempotent;
    /// [`memory_core::traits::VectorIndex::missing`].
    VectorMissing, "vector_missing", Read;
    /// [`memory_core::traits::VectorIndex::search`].
    VectorSearch, "vector_search", Read;
    /// [`memory_core::traits::KeywordIndex::upsert`].
    KeywordUpsert, "keyword_upsert", Idempotent;
    /// [`memory_core::traits::KeywordIndex::remove`].
    KeywordRemove, "keyword_remove", Idempotent;
    /// [`memory_core::traits::KeywordIndex::search`].
    KeywordSearch, "keyword_search", Read;
    /// [`memory_core::traits::KeywordIndex::authors`].
    KeywordAuthors, "keyword_authors", Read;
    /// [`memory_core::traits::ChangeLog::read_changes`].
    ReadChanges, "read_changes", Read;
    /// [`memory_core::traits::ChangeLog::acknowledge`]: positions never go back.
    Acknowledge, "acknowledge", Idempotent;
    /// [`memory_core::traits::ChangeLog::consumers`].
    Consumers, "consumers", Read;
    /// [`memory_core::traits::ChangeLog::forget_consumer`].
    ForgetConsumer, "forget_consumer", Idempotent;
    /// [`memory_core::traits::LeaseStore::acquire`]: the lost grant would keep the next one out.
    Acquire, "acquire", Once;
    /// [`memory_core::traits::LeaseStore::renew`].
    Renew, "renew", Idempotent;
    /// [`memory_core::traits::LeaseStore::release`].
    Release, "release", Idempotent;
    /// [`memory_core::traits::LeaseStore::set_write_fence`]: somebody else may have set and lifted
    /// a newer one meanwhile, and a second time would fence anew, or lift what is theirs.
    SetWriteFence, "set_write_fence", Once;
    /// [`memory_core::traits::TenantDirectory::list_tenants`].
    ListTenants, "list_tenants", Read;
    /// [`memory_core::traits::StoreMeta::schema`].
    Schema, "schema", Read;
    /// [`memory_core::traits::StoreMeta::spaces`].
    Spaces, "spaces", Read;
    /// [`memory_core::traits::StoreMeta::set_spaces`]: a swap by version that would take its own
    /// work for somebody else's.
    SetSpaces, "set_spaces", Once;
    /// [`memory_core::traits::StoreMeta::analyser`].
    Analyser, "analyser", Read;
    /// [`memory_core::traits::StoreMeta::store_key`].
    StoreKey, "store_key", Read;
    /// [`memory_core::traits::StoreMeta::erased`].
    Erased, "erased", Read;
    /// [`memory_core::traits::StoreMeta::add_tombstones`].
    AddTombstones, "add_tombstones", Idempotent;
    /// [`memory_core::traits::StoreUpkeep::tenant_stats`].
    TenantStats, "tenant_stats", Read;
    /// [`memory_core::traits::StoreUpkeep::store_stats`].
    StoreStats, "store_stats", Read;
    /// [`memory_core::traits::StoreUpkeep::verify`].
    Verify, "verify", Read;
    /// [`memory_core::traits::StoreUpkeep::backup`]: its own copy would be in the way.
    Backup, "backup", Once;
    /// [`memory_core::traits::Embedder::embed`].
    Embed, "embed", Read;
    /// [`memory_core::traits::DocumentSource::collections`].
    Collections, "collections", Read;
    /// [`memory_core::traits::DocumentSource::documents`].
    Documents, "documents", Read;
}

impl Operation {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Operation::ALL`], for tables by operation.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether it may change what is stored.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self.safety(), Safety::Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_places_agree() {
        let mut names: Vec<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Operation::COUNT);
        for (place, operation) in Operation::ALL.iter().enumerate() {
            assert_eq!(operation.index(), place);
        }
        assert!(Operation::Commit.writes() && !Operation::Fetch.writes());
    }
}

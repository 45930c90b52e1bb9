//! What the suite needs of a store under test.

use std::sync::Arc;

use memory_core::traits::{
    ChangeLog, KeywordIndex, LeaseStore, RecordStore, StoreMeta, StoreUpkeep, TenantDirectory,
    VectorIndex,
};
use memory_core::{ManualClock, Timestamp};

/// The time that a harness's clock should start at: 2025-03-01T09:30:00Z.
#[must_use]
#[expect(clippy::expect_used, clippy::missing_panics_doc, reason = "the text is a valid time")]
pub fn start() -> Timestamp {
    Timestamp::parse("2025-03-01T09:30:00Z").expect("a time")
}

/// One fresh, empty store for one check, with all its parts, on a clock that the check moves.
///
/// A part that the store does not have is `None`; then its capability must not be declared.
/// Dropping the harness removes what it made.
pub trait Harness: Send + Sync {
    /// The store of record.
    fn records(&self) -> Arc<dyn RecordStore>;
    /// Its vector index.
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>>;
    /// Its keyword index.
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>>;
    /// Its change log.
    fn changes(&self) -> Option<Arc<dyn ChangeLog>>;
    /// Its list of tenants.
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>>;
    /// What it knows of itself. A store with vector search needs it: spaces are set there.
    fn meta(&self) -> Option<Arc<dyn StoreMeta>>;
    /// Its leases.
    fn leases(&self) -> Option<Arc<dyn LeaseStore>>;
    /// Its upkeep.
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>>;
    /// The clock that the store was made with, for both its time of day and its deadlines.
    fn clock(&self) -> Arc<ManualClock>;
    /// A place that does not exist yet, for [`StoreUpkeep::backup`]. A store that declares
    /// [`memory_core::Capability::OnlineBackup`] must have one.
    fn backup_target(&self) -> Option<String> {
        None
    }
}

/// The parts of a [`Harness`] whose store, an `Arc` in its field `store`, is every part but the
/// keyword index: for the body of its `impl`.
#[macro_export]
macro_rules! one_store {
    () => {
        fn records(&self) -> ::std::sync::Arc<dyn $crate::__core::traits::RecordStore> {
            ::std::sync::Arc::clone(&self.store) as _
        }
        fn vectors(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::VectorIndex>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
        fn changes(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::ChangeLog>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
        fn tenants(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::TenantDirectory>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
        fn meta(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::StoreMeta>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
        fn leases(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::LeaseStore>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
        fn upkeep(
            &self,
        ) -> ::std::option::Option<::std::sync::Arc<dyn $crate::__core::traits::StoreUpkeep>> {
            ::std::option::Option::Some(::std::sync::Arc::clone(&self.store) as _)
        }
    };
}

impl Harness for Box<dyn Harness> {
    fn records(&self) -> Arc<dyn RecordStore> {
        (**self).records()
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        (**self).vectors()
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        (**self).keywords()
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        (**self).changes()
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        (**self).tenants()
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        (**self).meta()
    }
    fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        (**self).leases()
    }
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>> {
        (**self).upkeep()
    }
    fn clock(&self) -> Arc<ManualClock> {
        (**self).clock()
    }
    fn backup_target(&self) -> Option<String> {
        (**self).backup_target()
    }
}

/// A harness with some parts replaced: how a layer, a wrapper or a mutant comes under the suite.
pub struct Overlay {
    inner: Box<dyn Harness>,
    records: Option<Arc<dyn RecordStore>>,
    vectors: Option<Arc<dyn VectorIndex>>,
    keywords: Option<Arc<dyn KeywordIndex>>,
    changes: Option<Arc<dyn ChangeLog>>,
    tenants: Option<Arc<dyn TenantDirectory>>,
    meta: Option<Arc<dyn StoreMeta>>,
    leases: Option<Arc<dyn LeaseStore>>,
    upkeep: Option<Arc<dyn StoreUpkeep>>,
}

impl Overlay {
    /// The harness as it is.
    #[must_use]
    pub fn new(inner: impl Harness + 'static) -> Self {
        Self {
            inner: Box::new(inner),
            records: None,
            vectors: None,
            keywords: None,
            changes: None,
            tenants: None,
            meta: None,
            leases: None,
            upkeep: None,
        }
    }

    /// Wraps the store of record.
    #[must_use]
    pub fn map_records(
        mut self,
        wrap: impl FnOnce(Arc<dyn RecordStore>) -> Arc<dyn RecordStore>,
    ) -> Self {
        self.records = Some(wrap(self.records()));
        self
    }

    /// Wraps the vector index, if there is one.
    #[must_use]
    pub fn map_vectors(
        mut self,
        wrap: impl FnOnce(Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex>,
    ) -> Self {
        self.vectors = self.vectors().map(wrap);
        self
    }

    /// Wraps the keyword index, if there is one.
    #[must_use]
    pub fn map_keywords(
        mut self,
        wrap: impl FnOnce(Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex>,
    ) -> Self {
        self.keywords = self.keywords().map(wrap);
        self
    }

    /// Wraps the change log, if there is one.
    #[must_use]
    pub fn map_changes(
        mut self,
        wrap: impl FnOnce(Arc<dyn ChangeLog>) -> Arc<dyn ChangeLog>,
    ) -> Self {
        self.changes = self.changes().map(wrap);
        self
    }

    /// Wraps the leases, if there are any.
    #[must_use]
    pub fn map_leases(
        mut self,
        wrap: impl FnOnce(Arc<dyn LeaseStore>) -> Arc<dyn LeaseStore>,
    ) -> Self {
        self.leases = self.leases().map(wrap);
        self
    }

    /// Wraps the list of tenants, if there is one.
    #[must_use]
    pub fn map_tenants(
        mut self,
        wrap: impl FnOnce(Arc<dyn TenantDirectory>) -> Arc<dyn TenantDirectory>,
    ) -> Self {
        self.tenants = self.tenants().map(wrap);
        self
    }

    /// Wraps the part that the store tells about itself with, if there is one.
    #[must_use]
    pub fn map_meta(mut self, wrap: impl FnOnce(Arc<dyn StoreMeta>) -> Arc<dyn StoreMeta>) -> Self {
        self.meta = self.meta().map(wrap);
        self
    }

    /// Wraps the upkeep, if there is any.
    #[must_use]
    pub fn map_upkeep(
        mut self,
        wrap: impl FnOnce(Arc<dyn StoreUpkeep>) -> Arc<dyn StoreUpkeep>,
    ) -> Self {
        self.upkeep = self.upkeep().map(wrap);
        self
    }
}

impl Harness for Overlay {
    fn records(&self) -> Arc<dyn RecordStore> {
        self.records.clone().unwrap_or_else(|| self.inner.records())
    }
    fn vectors(&self) -> Option<Arc<dyn VectorIndex>> {
        self.vectors.clone().or_else(|| self.inner.vectors())
    }
    fn keywords(&self) -> Option<Arc<dyn KeywordIndex>> {
        self.keywords.clone().or_else(|| self.inner.keywords())
    }
    fn changes(&self) -> Option<Arc<dyn ChangeLog>> {
        self.changes.clone().or_else(|| self.inner.changes())
    }
    fn tenants(&self) -> Option<Arc<dyn TenantDirectory>> {
        self.tenants.clone().or_else(|| self.inner.tenants())
    }
    fn meta(&self) -> Option<Arc<dyn StoreMeta>> {
        self.meta.clone().or_else(|| self.inner.meta())
    }
    fn leases(&self) -> Option<Arc<dyn LeaseStore>> {
        self.leases.clone().or_else(|| self.inner.leases())
    }
    fn upkeep(&self) -> Option<Arc<dyn StoreUpkeep>> {
        self.upkeep.clone().or_else(|| self.inner.upkeep())
    }
    fn clock(&self) -> Arc<ManualClock> {
        self.inner.clock()
    }
    fn backup_target(&self) -> Option<String> {
        self.inner.backup_target()
    }
}

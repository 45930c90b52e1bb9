//! The tenant guard: looks at each request before it is sent, and at each answer before it is
//! handed on.
//!
//! It is the second pair of eyes between the handles and a back end. What it looks at costs no
//! second reading of content: the whole of a commit is checked by the store itself, and a guard
//! that did the same would make the payload into text twice.
//!
//! Before a request is sent:
//! - the context's tenant is one that this process serves ([`GuardSettings::tenants`]);
//! - limits and counts lie in their ranges, filters and searches pass their own checks, and a
//!   cursor is of this tenant, filter and order;
//! - the preconditions of a commit make sense.
//!
//! After an answer:
//! - each rule of [`GuardRule`] holds; where one does not, the call fails with
//!   [`memory_core::ErrorKind::Corrupt`], which names the rule and nothing of what was read;
//! - a row that has expired while the answer was on its way is treated as absent;
//! - of two rows of one item at different revisions, which a store that reads a page in several
//!   requests may show when the item is changed between two of them, the first stays.
//!
//! What it cannot see: a row of another tenant under an id that this tenant has too, for a row
//! does not say whose it is. A filter that names metadata is not held against rows that were read
//! without metadata, and hits that came without their record are held against no filter: the
//! guard never asks a store for more than the caller did. Counts are taken as they come.

mod indexes;
mod parts;
mod records;
mod rules;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory_core::traits::{
    BulkWriter, ChangeLog, DocumentSource, Embedder, KeywordIndex, LeaseStore, RecordStore,
    StoreMeta, StoreUpkeep, TenantDirectory, VectorIndex,
};
use memory_core::{Clock, TenantId};
use serde::{Deserialize, Serialize};

use crate::layer::{EMBEDDER, Layer};
use rules::{Guard, Trust};

/// Most tenants of [`GuardSettings::tenants`]: a list that is written by hand is shorter, and what
/// is longer belongs into what hands out tenant handles.
const MOST_TENANTS: usize = 10_000;

/// What the tenant guard enforces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GuardSettings {
    /// The tenants that this process serves; empty: any, which is the default, for most processes
    /// serve all tenants of their store. A process that serves one customer names that one here,
    /// and every call on another tenant is `PermissionDenied`. At most 10,000.
    ///
    /// Calls that concern a whole store (its statistics, its check, its backup) name no tenant and
    /// pass; the list of tenants shows these alone.
    pub tenants: BTreeSet<TenantId>,
}

impl GuardSettings {
    /// Names the tenants that this process serves.
    #[must_use]
    pub fn with_tenants(mut self, tenants: impl IntoIterator<Item = TenantId>) -> Self {
        self.tenants = tenants.into_iter().collect();
        self
    }

    /// One sentence for each value out of its range; none when all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.tenants.len() > MOST_TENANTS {
            faults.push(format!(
                "guard.tenants names at most {MOST_TENANTS} tenants; these are {}",
                self.tenants.len()
            ));
        }
        faults
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident, $text:literal, $broken:literal;)*) => {
        /// A rule that every answer of a store must keep, whoever writes beside it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum GuardRule {
            $($(#[$doc])* $name,)*
        }

        impl GuardRule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The stable name, as in errors and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// What the answer did.
            const fn broken(self) -> &'static str {
                match self { $(Self::$name => $broken,)* }
            }
        }
    };
}

rules! {
    /// As many answers as things asked.
    Count, "count", "holds more or fewer answers than were asked for";
    /// Each answer is about what was asked in its place.
    Id, "id", "is about something else than was asked";
    /// No more rows than the limit.
    Limit, "limit", "holds more rows than the limit";
    /// Each row passes the filter.
    Filter, "filter", "holds a row that does not pass the filter";
    /// Rows stand in the order asked, after the cursor; hits with the best first.
    Order, "order", "is not in the order asked";
    /// No row twice.
    Duplicate, "duplicate", "holds a row twice";
    /// A page leads on, not back to itself.
    Cursor, "cursor", "leads back to where the page began";
    /// A hit's record is of the hit's revision.
    Revision, "revision", "brings a record of another revision than its hit";
    /// Nothing that was not asked for.
    Unasked, "unasked", "brings what was not asked for";
    /// A step goes on or has ended.
    Step, "step", "neither goes on nor has ended, or both";
    /// Vectors have the dimensions of their space.
    Shape, "shape", "holds a vector of another length than its space has dimensions";
}

/// What the guard has met since it was made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct GuardCounts {
    /// Calls on tenants that this process does not serve.
    pub denied: u64,
    /// Requests that broke a rule and were not sent.
    pub refused: u64,
    /// Rows that had expired by the time the answer was there, and were left out.
    pub expired: u64,
    /// Rows that were left out because the answer held their item at another revision too.
    pub changed: u64,
    /// Answers that broke a rule, by the place of the rule in [`GuardRule::ALL`].
    broken: Vec<u64>,
}

impl GuardCounts {
    /// How many answers broke a rule.
    #[must_use]
    pub fn of(&self, rule: GuardRule) -> u64 {
        self.broken.get(rule as usize).copied().unwrap_or(0)
    }

    /// How many answers broke any rule.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.broken.iter().sum()
    }
}

/// What all wrappers of one guard share.
#[derive(Debug)]
struct State {
    settings: GuardSettings,
    clock: Arc<dyn Clock>,
    denied: AtomicU64,
    refused: AtomicU64,
    expired: AtomicU64,
    changed: AtomicU64,
    broken: [AtomicU64; GuardRule::ALL.len()],
}

/// The tenant guard. Clones share their counts.
#[derive(Clone, Debug)]
pub struct TenantGuardLayer {
    state: Arc<State>,
}

impl TenantGuardLayer {
    /// A guard; `clock` has to be the store's, for it decides what has expired.
    #[must_use]
    pub fn new(settings: GuardSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            state: Arc::new(State {
                settings,
                clock,
                denied: AtomicU64::new(0),
                refused: AtomicU64::new(0),
                expired: AtomicU64::new(0),
                changed: AtomicU64::new(0),
                broken: Default::default(),
            }),
        }
    }

    /// What it has met so far, over all parts.
    #[must_use]
    pub fn counts(&self) -> GuardCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        GuardCounts {
            denied: read(&self.state.denied),
            refused: read(&self.state.refused),
            expired: read(&self.state.expired),
            changed: read(&self.state.changed),
            broken: self.state.broken.iter().map(read).collect(),
        }
    }

    fn around<T: ?Sized>(
        &self,
        inner: Arc<T>,
        backend: &'static str,
        trust: Trust,
    ) -> Arc<Guarded<T>> {
        Arc::new(Guarded { inner, guard: Guard::new(Arc::clone(&self.state), backend, trust) })
    }
}

/// A part of a back end behind the guard.
#[derive(Debug)]
struct Guarded<T: ?Sized> {
    guard: Guard,
    inner: Arc<T>,
}

impl Layer for TenantGuardLayer {
    fn records(&self, inner: Arc<dyn RecordStore>) -> Arc<dyn RecordStore> {
        let can = inner.capabilities();
        self.around(inner, can.backend, Trust::of(&can))
    }
    fn vectors(&self, inner: Arc<dyn VectorIndex>) -> Arc<dyn VectorIndex> {
        let can = inner.capabilities();
        self.around(inner, can.backend, Trust::of(&can))
    }
    fn keywords(&self, inner: Arc<dyn KeywordIndex>) -> Arc<dyn KeywordIndex> {
        let can = inner.capabilities();
        self.around(inner, can.backend, Trust::of(&can))
    }
    fn changes(&self, inner: Arc<dyn ChangeLog>, backend: &'static str) -> Arc<dyn ChangeLog> {
        self.around(inner, backend, Trust::default())
    }
    fn bulk(&self, inner: Arc<dyn BulkWriter>, backend: &'static str) -> Arc<dyn BulkWriter> {
        self.around(inner, backend, Trust::default())
    }
    fn tenants(
        &self,
        inner: Arc<dyn TenantDirectory>,
        backend: &'static str,
    ) -> Arc<dyn TenantDirectory> {
        self.around(inner, backend, Trust::default())
    }
    fn meta(&self, inner: Arc<dyn StoreMeta>, backend: &'static str) -> Arc<dyn StoreMeta> {
        self.around(inner, backend, Trust::default())
    }
    fn leases(&self, inner: Arc<dyn LeaseStore>, backend: &'static str) -> Arc<dyn LeaseStore> {
        self.around(inner, backend, Trust::default())
    }
    fn upkeep(&self, inner: Arc<dyn StoreUpkeep>, backend: &'static str) -> Arc<dyn StoreUpkeep> {
        self.around(inner, backend, Trust::default())
    }
    fn embedder(&self, inner: Arc<dyn Embedder>) -> Arc<dyn Embedder> {
        self.around(inner, EMBEDDER, Trust::default())
    }
    /// As it is: raw documents are of no tenant.
    fn source(
        &self,
        inner: Arc<dyn DocumentSource>,
        _backend: &'static str,
    ) -> Arc<dyn DocumentSource> {
        inner
    }
}

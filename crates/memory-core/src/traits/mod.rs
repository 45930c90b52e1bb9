//! The traits, dyn first: every one is used as `Arc<dyn Trait>`.
//!
//! Implementor traits have few methods and no defaults, so that a wrapper forwards every one;
//! conveniences stand in extension traits ([`RecordStoreExt`]).
//! What every method promises unless it says otherwise:
//!
//! - **Missing** is `None`, an empty page or a zero, never an error.
//! - **Errors** are [`crate::Error`]; `InvalidInput` is found before anything is written or sent;
//!   a deadline that has passed gives `Timeout`; after `close` every call gives `Unavailable`.
//! - **Cancellation**: a read that is dropped leaves nothing. A write that is dropped before it
//!   was queued leaves nothing; after that it may still happen, whole.
//! - **Tenants**: a call sees and touches its context's tenant only.

mod bulk;
mod cache;
mod changes;
mod credentials;
mod embedder;
mod hit_context;
mod keyword_index;
mod lease;
mod ledger;
mod meta;
mod record_store;
mod source;
mod tenants;
mod upkeep;
mod vector_index;

pub use bulk::{BulkObserver, BulkProgress, BulkWriter, NoObserver};
pub use cache::{Cache, CacheFill, CacheKey, CacheRead, CacheToken, CacheWrite};
pub use changes::{Change, ChangeBatch, ChangeLog, ChangeOp, ChangePosition};
pub use credentials::{AccessToken, CredentialProvider};
pub use embedder::{EmbedPurpose, Embedder};
pub use hit_context::{HitContext, Lending, goes_by, session_number};
pub use keyword_index::{KeywordEntry, KeywordIndex, KeywordQuery, TermShare};
pub use lease::{FencingToken, Lease, LeaseStore};
pub use ledger::{Ledger, NoLedger, Usage};
pub use meta::{SchemaInfo, StoreKey, StoreMeta, TenantSpaces, Tombstone};
pub use record_store::{
    EraseReceipt, EraseScope, EraseStep, EraseToken, RecordStore, RecordStoreExt, SweepStep,
};
pub use source::{DocumentPage, DocumentSource, RawDocument};
pub use tenants::{TenantDirectory, TenantPage};
pub use upkeep::{BackupReport, StoreStats, StoreUpkeep, TenantStats, VerifyReport};
pub use vector_index::{
    HitRecords, IndexHit, IndexHits, UpsertOutcome, VectorEntry, VectorIndex, VectorQuery,
};

#[cfg(feature = "mock")]
pub use {
    cache::MockCache, changes::MockChangeLog, credentials::MockCredentialProvider,
    embedder::MockEmbedder, keyword_index::MockKeywordIndex, lease::MockLeaseStore,
    ledger::MockLedger, meta::MockStoreMeta, record_store::MockRecordStore,
    source::MockDocumentSource, tenants::MockTenantDirectory, upkeep::MockStoreUpkeep,
    vector_index::MockVectorIndex,
};

//! Orchestra Memory: a memory layer for AI agents.
//!
//! It keeps what was said and learnt, per tenant, and finds it again by meaning, words, people
//! and time. This crate is the composition: the only one that knows concrete back ends. A
//! [`Memory`] is opened from a URL or built from parts; a [`TenantMemory`] is the only object
//! that reads or writes, and it can name no tenant but its own; an [`Admin`] does what an
//! operator does.
//!
//! ```no_run
//! use orchestra_memory::{Memory, NewMemory, SearchRequest, UserId};
//!
//! # async fn example() -> orchestra_memory::Result<()> {
//! let memory = Memory::open("sqlite:memory.db").await?;
//! let acme = memory.tenant("acme")?;
//! acme.add(NewMemory::new("Ada prefers tea.").with_user(UserId::new("ada")?)).await?;
//! let found = acme.search(&SearchRequest::new().with_text("What does Ada drink?")).await?;
//! assert_eq!(found.hits.len(), 1);
//! memory.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! | URL | back end | feature |
//! |---|---|---|
//! | `sqlite:PATH`, `sqlite:PATH?mode=ro` | one file | `sqlite` (default) |
//! | `memory:` | the same engine, in memory: for tests | `sqlite` (default) |
//! | `firestore://PROJECT`, `firestore://PROJECT/DATABASE` | Cloud Firestore | `firestore` |
//! | `redis://HOST:PORT/DATABASE`, `rediss://...` with TLS | Redis | `redis` |
//!
//! Redis can be the cache before any of them as well: see [`Settings::cache`].
//!
//! Texts are turned into vectors by the local model all-MiniLM-L6-v2 where its files are on the
//! machine (feature `minilm`, default; the feature `pull` gets them), by a server (feature `http`),
//! or by an embedder of the caller's own: see [`EmbeddingSettings`] and
//! [`MemoryBuilder::embedder`]. Without any, callers may supply vectors, and text is searched by
//! words.
//!
//! The crate needs no runtime of its own: its futures run on any executor, but for those of
//! Firestore and Redis, which run within the tokio runtime that opens it. It has one thread of
//! its own at the most, where vectors are made in the background ([`EmbedWhen::Background`]).

mod admin;
mod backend;
mod builder;
mod cache;
mod embedding;
mod export;
#[cfg(feature = "firestore")]
pub mod firestore;
mod import;
#[cfg(feature = "local")]
mod indexes;
mod lacking;
mod layers;
mod ledger;
mod memory;
#[cfg(feature = "minilm")]
pub mod model;
mod nearest;
mod new_memory;
mod notify;
mod options;
mod patch;
#[cfg(feature = "redis")]
pub mod redis;
mod registry;
mod report;
mod requests;
mod settings;
mod space_cache;
#[cfg(feature = "sqlite")]
mod sqlite;
mod tenant;
mod timer;
mod url;

pub use admin::Admin;
pub use backend::Backend;
pub use builder::MemoryBuilder;
pub use embedding::{EmbedderInfo, EmbedderSource, EmbeddingState};
pub use export::{ExportOptions, ExportReport, export_line};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use import::fuzzing;
pub use import::{BadLine, ImportFormat, ImportOptions, ImportReport};
#[cfg(feature = "local")]
pub use indexes::{IndexPlace, IndexSettings};
pub use layers::LayersReport;
pub use ledger::{CostEstimate, OperationUsage, UsageLedger, UsageReport};
pub use memory::Memory;
pub use new_memory::NewMemory;
pub use notify::{Callback, CancelFlag};
pub use options::{
    AddManyOptions, AddOptions, EmbedOptions, EraseOptions, OnConflict, UpdateOptions,
};
pub use patch::{Change, MetadataChange, Patch};
pub use registry::{BackendFactory, OpenRequest, Registry};
pub use report::{
    AddManyReport, AddOutcome, AddReceipt, EmbedReport, EraseProgress, EraseReport, FailedEmbed,
    FailedItem, ReembedPreview, ReembedReport, UpdateReceipt, VectorState, is_refused_by_space,
};
pub use requests::{HistoryRequest, ListRequest};
pub use settings::{
    CostSettings, DEFAULT_TENANT, ENV_PREFIX, EmbedWhen, EmbeddingSettings, ExportSettings,
    HttpEmbeddingSettings, ImportSettings, LoadedSettings, MiniLmPrecision, MiniLmSettings,
    OnEmbedFailure, Provider, ReadSettings, Secret, SettingEntry, SettingSource, Settings,
    WriteSettings,
};
pub use tenant::TenantMemory;
pub use url::StoreUrl;

pub use memory_core::traits::{
    BackupReport, EmbedPurpose, Embedder, EraseReceipt, EraseScope, SchemaInfo, StoreStats,
    TenantPage, TenantSpaces, TenantStats, VerifyReport,
};
pub use memory_core::{
    AgentId, Cursor, Direction, EmbeddingSpace, Error, ErrorKind, Field, Filter, Health,
    HealthStatus, Kind, MemoryId, MemoryItem, MetaKey, MetaValue, Metadata, Metric, Order,
    OrderField, Outcome, Page, Projection, Query, Result, Revision, Role, SessionId, TenantId,
    Timestamp, UserId, VectorProjection, limits,
};
pub use memory_search::{
    Arm, ArmHit, ArmSelection, ArmShare, ContextSettings, Explanation, FusionSettings, Hit,
    KeywordSettings, Limit, SearchAnswer, SearchRequest, SearchSettings, Signal, SignalShare,
};

/// How long texts are split on import.
pub use memory_text::SplitOptions;

/// The traits and types that components of the caller's own are made of.
pub use memory_core;
/// Cloud Firestore, to open one with parts that no URL carries.
#[cfg(feature = "firestore")]
pub use memory_firestore;
/// The layers, their settings, and what a layer of the caller's own is made of.
pub use memory_layers;
/// Redis, to open a store or a cache with parts that no URL carries.
#[cfg(feature = "redis")]
pub use memory_redis;
/// The embedded store, to open one with settings that no URL carries.
#[cfg(feature = "sqlite")]
pub use memory_sqlite;
#[cfg(feature = "local")]
pub use memory_vector;

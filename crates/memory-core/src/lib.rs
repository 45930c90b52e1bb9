//! The domain model and the traits on which every part of Orchestra Memory stands.
//!
//! This crate is pure: it holds no client, no runtime, no file and no environment.
//! A back end implements the traits of [`traits`], a layer wraps them, a composition wires them,
//! and all of them speak in the types of this crate: one record ([`MemoryItem`]), one filter
//! ([`Filter`]), one error ([`Error`]).
//!
//! ```
//! use memory_core::{MemoryId, MemoryItem, Timestamp, UserId};
//!
//! let now = Timestamp::parse("2025-03-01T09:30:00Z")?;
//! let item = MemoryItem::new(MemoryId::new("m-1")?, "Ada prefers tea.", now)?
//!     .with_user(UserId::new("ada")?);
//! item.validate()?;
//! # Ok::<(), memory_core::Error>(())
//! ```

mod capabilities;
mod clock;
mod commit;
mod context;
mod cursor;
mod error;
mod filter;
mod filter_json;
mod hash;
mod health;
mod ids;
mod item;
pub mod limits;
mod metadata;
mod query;
mod space;
mod time;
pub mod traits;

pub use capabilities::{Capabilities, Capability, ContainsFilters, Durability, FilterKeys};
pub use clock::{Clock, IdSource, RandomIds, SystemClock, Timer};
#[cfg(feature = "mock")]
pub use clock::{ManualClock, SequentialIds};
pub use commit::{
    Commit, CommitReceipt, Delete, IdempotencyKey, Precondition, Put, Vectors, Write, WriteResult,
};
pub use context::{CallContext, Deadline};
pub use cursor::{Cursor, CursorKey};
pub use error::{Error, ErrorKind, Outcome, Result};
pub use filter::{CompareOp, Field, Filter, Scalar};
pub use hash::ContentHash;
pub use health::{Health, HealthStatus};
pub use ids::{
    AgentId, CommitId, ConsumerName, KindName, LeaseName, MemoryId, Revision, SessionId, SpaceId,
    TenantId, UserId,
};
pub use item::{Kind, MemoryItem, Role};
pub use metadata::{MetaKey, MetaValue, Metadata};
pub use query::{Direction, Order, OrderField, Page, Projection, Query, VectorProjection};
pub use space::{EmbeddingSpace, Metric, check_vector};
pub use time::Timestamp;

//! The layers: what makes the stores dependable in a cloud, each policy once.
//!
//! A layer is a [`Policy`] about calls that [`Layered`] puts around every trait of the core.

mod answer;
mod bounds;
mod cache;
mod forward;
mod guard;
mod layer;
mod limit;
mod operation;
mod policy;
mod retry;
mod settings;
mod stack;
mod telemetry;
mod timeout;
mod timer;

pub use answer::Answer;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use cache::fuzzing;
#[doc(hidden)]
pub use cache::protocol as cache_protocol;
pub use cache::{CacheCounts, CacheLayer, CacheSettings, CacheTally, LocalCache};
pub use guard::{GuardCounts, GuardRule, GuardSettings, TenantGuardLayer};
pub use layer::Layer;
#[cfg(feature = "mutants")]
#[doc(hidden)]
pub use limit::LimitMutant;
pub use limit::{ConcurrencyLimitLayer, LimitSettings, LimitStats};
pub use operation::{Operation, Safety};
pub use policy::{Attempt, Call, Layered, Policy};
pub use retry::{GiveUp, RetryCounts, RetryLayer, RetrySettings};
pub use settings::{ApplyLayers, LayersSettings};
pub use stack::{Stack, StackStats, Waiting};
#[cfg(feature = "prometheus")]
pub use telemetry::Prometheus;
pub use telemetry::{
    CacheResult, Scope, SharedRecorder, TelemetryLayer, TelemetryLedger, TelemetrySettings,
    buckets, note_cache,
};
#[cfg(feature = "otlp")]
pub use telemetry::{Otlp, OtlpSettings};
pub use timeout::{TimeoutLayer, TimeoutSettings};
pub use timer::TokioTimer;

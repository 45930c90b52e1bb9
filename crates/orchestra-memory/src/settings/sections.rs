//! The sections of the settings and the keys of each, read off the structs themselves.

use memory_layers::{
    CacheSettings, GuardSettings, LayersSettings, LimitSettings, RetrySettings, TelemetrySettings,
    TimeoutSettings,
};
use memory_search::{ContextSettings, FusionSettings, KeywordSettings, SearchSettings};
use serde::Deserialize;

use super::{
    CostSettings, EmbeddingSettings, ExportSettings, HttpEmbeddingSettings, ImportSettings,
    MiniLmSettings, ReadSettings, Settings, WriteSettings,
};
use crate::nearest::fields_of;

/// A section: its keys, and which of them are sections themselves.
pub(super) struct Section {
    pub(super) keys: &'static [&'static str],
    sections: Vec<(&'static str, Self)>,
}

impl Section {
    fn of<'de, T: Deserialize<'de>>() -> Self {
        Self { keys: fields_of::<T>(), sections: Vec::new() }
    }

    fn with<'de, T: Deserialize<'de>>(self, name: &'static str) -> Self {
        self.and(name, Self::of::<T>())
    }

    fn and(mut self, name: &'static str, section: Self) -> Self {
        self.sections.push((name, section));
        self
    }

    /// Every section of this build.
    pub(super) fn all() -> Self {
        let all = Self::of::<Settings>();
        #[cfg(feature = "sqlite")]
        let all = all.with::<memory_sqlite::SqliteSettings>("sqlite");
        #[cfg(feature = "firestore")]
        let all = all
            .and(
                "firestore",
                Self::of::<memory_firestore::FirestoreSettings>()
                    .with::<memory_firestore::BulkSettings>("bulk"),
            )
            .with::<memory_google_auth::GoogleAuthSettings>("google");
        #[cfg(feature = "redis")]
        let all = all.and(
            "redis",
            Self::of::<memory_redis::RedisSettings>()
                .with::<memory_redis::VectorSettings>("vectors"),
        );
        #[cfg(feature = "local")]
        let all = all.and(
            "indexes",
            Self::of::<crate::IndexSettings>().with::<memory_vector::local::LocalSettings>("local"),
        );
        let search = Self::of::<SearchSettings>()
            .with::<FusionSettings>("fusion")
            .with::<KeywordSettings>("keyword")
            .with::<ContextSettings>("context");
        let embedding = Self::of::<EmbeddingSettings>()
            .with::<MiniLmSettings>("minilm")
            .with::<HttpEmbeddingSettings>("http");
        let layers = Self::of::<LayersSettings>()
            .with::<RetrySettings>("retry")
            .with::<LimitSettings>("limit")
            .with::<TimeoutSettings>("timeout")
            .with::<TelemetrySettings>("telemetry")
            .with::<GuardSettings>("guard")
            .with::<CacheSettings>("cache");
        all.and("search", search)
            .and("embedding", embedding)
            .and("layers", layers)
            .with::<ReadSettings>("read")
            .with::<WriteSettings>("write")
            .with::<ImportSettings>("import")
            .with::<ExportSettings>("export")
            .with::<CostSettings>("cost")
    }

    /// The section of a key, if it is one.
    pub(super) fn section(&self, key: &str) -> Option<&Self> {
        self.sections.iter().find(|(name, _)| *name == key).map(|(_, section)| section)
    }
}

/// The feature that a section comes with, where this build does not have it.
pub(super) fn absent(key: &str) -> Option<&'static str> {
    match key {
        "sqlite" if cfg!(not(feature = "sqlite")) => Some("sqlite"),
        "indexes" if cfg!(not(feature = "local")) => Some("local"),
        "redis" if cfg!(not(feature = "redis")) => Some("redis"),
        "firestore" | "google" if cfg!(not(feature = "firestore")) => Some("firestore"),
        _ => None,
    }
}

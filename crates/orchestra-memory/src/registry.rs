//! The registry: which scheme of a URL is opened by which back end.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::Ledger;
use memory_core::{Clock, Error, ErrorKind, Result};

use crate::backend::Backend;
use crate::settings::Settings;
use crate::url::StoreUrl;

/// Schemes that the project knows and the feature that each comes with.
const KNOWN: [(&str, &str); 5] = [
    ("sqlite", "sqlite"),
    ("memory", "sqlite"),
    ("firestore", "firestore"),
    ("redis", "redis"),
    ("rediss", "redis"),
];

/// What a back end is opened with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenRequest {
    /// The store's URL.
    pub url: StoreUrl,
    /// All settings; a factory reads its own section.
    pub settings: Arc<Settings>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the back end writes what its operations cost.
    pub ledger: Arc<dyn Ledger>,
}

/// Opens back ends of one kind.
#[async_trait]
pub trait BackendFactory: Send + Sync + Debug {
    /// Opens one.
    ///
    /// # Errors
    /// Whatever keeps it from being opened as configured; it never opens something else instead.
    async fn open(&self, request: &OpenRequest) -> Result<Backend>;
}

/// Which scheme is opened by which factory.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    factories: BTreeMap<String, Arc<dyn BackendFactory>>,
}

impl Registry {
    /// The back ends of this build.
    #[must_use]
    pub fn standard() -> Self {
        let registry = Self::empty();
        #[cfg(feature = "sqlite")]
        let registry = registry
            .with("sqlite", Arc::new(crate::sqlite::FileFactory))
            .with("memory", Arc::new(crate::sqlite::MemoryFactory));
        #[cfg(feature = "firestore")]
        let registry =
            registry.with(crate::firestore::SCHEME, Arc::new(crate::firestore::FirestoreFactory));
        #[cfg(feature = "redis")]
        let registry = crate::redis::SCHEMES.iter().fold(registry, |registry, scheme| {
            registry.with(*scheme, Arc::new(crate::redis::RedisFactory))
        });
        registry
    }

    /// A registry without back ends.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Adds a factory, in place of an earlier one for the scheme.
    #[must_use]
    pub fn with(mut self, scheme: impl Into<String>, factory: Arc<dyn BackendFactory>) -> Self {
        self.factories.insert(scheme.into().to_ascii_lowercase(), factory);
        self
    }

    /// The schemes that it opens.
    pub fn schemes(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }

    /// The factory of a scheme.
    ///
    /// # Errors
    /// `Unsupported`: the back end is known and not compiled in; the message names its feature.
    /// `Config`: an unknown scheme; the message lists the known ones.
    pub fn factory(&self, scheme: &str) -> Result<&Arc<dyn BackendFactory>> {
        if let Some(factory) = self.factories.get(scheme) {
            return Ok(factory);
        }
        if let Some((_, feature)) = KNOWN.iter().find(|(known, _)| *known == scheme) {
            return Err(not_compiled(&format!("the store `{scheme}:`"), feature));
        }
        let mut known: Vec<&str> = self.schemes().collect();
        known.extend(KNOWN.iter().map(|(scheme, _)| *scheme));
        known.sort_unstable();
        known.dedup();
        // The scheme alone is repeated, cut short: the rest of a URL may hold a password.
        let shown: String = scheme.chars().take(30).collect();
        Err(Error::new(
            ErrorKind::Config,
            format!("unknown store `{shown}:`; known: {}", known.join(", ")),
        )
        .with_operation("open"))
    }

    /// Opens the back end that a URL names.
    ///
    /// # Errors
    /// As [`Registry::factory`], and whatever the factory met.
    pub async fn open(&self, request: &OpenRequest) -> Result<Backend> {
        self.factory(request.url.scheme())?.open(request).await
    }
}

/// The error for a part that this build was made without.
pub(crate) fn not_compiled(what: &str, feature: &str) -> Error {
    Error::unsupported(format!(
        "{what} needs the feature `{feature}`, which this build was made without"
    ))
    .with_operation("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_scheme_names_its_feature_and_an_unknown_one_lists_the_known() {
        for registry in [Registry::standard(), Registry::empty()] {
            let error = registry.factory("mysql").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("sqlite") && error.message().contains("redis"));
        }
        for scheme in ["sqlite", "firestore", "redis", "rediss"] {
            let error = Registry::empty().factory(scheme).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            let feature = if scheme == "rediss" { "redis" } else { scheme };
            assert!(error.message().contains(&format!("feature `{feature}`")), "{error}");
        }
    }

    #[test]
    fn the_standard_registry_opens_what_was_compiled_in() {
        let built = [
            ("firestore", cfg!(feature = "firestore")),
            ("memory", cfg!(feature = "sqlite")),
            ("redis", cfg!(feature = "redis")),
            ("rediss", cfg!(feature = "redis")),
            ("sqlite", cfg!(feature = "sqlite")),
        ];
        let schemes = built.into_iter().filter(|(_, built)| *built).map(|(scheme, _)| scheme);
        assert!(Registry::standard().schemes().eq(schemes));
    }
}

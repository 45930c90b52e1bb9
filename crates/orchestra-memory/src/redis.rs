//! Redis: how a store and a cache are opened from a URL. The only file that names its types.
//!
//! `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS, each with the options
//! `prefix=P`, `cluster=true`, `nodes=HOST:PORT,HOST:PORT` and `ca_file=PATH`. What the URL of a
//! store leaves out stands in the section `[redis]` of the settings; `redis:` alone is the server of
//! that section. A cache takes nothing from the section, for it may be another server: what its URL
//! does not say has its default.
//!
//! The connections live in the tokio runtime that the store or the cache is opened in, and calls
//! are made within that runtime; opened outside of one, it is `Config`.

use std::sync::Arc;

use async_trait::async_trait;
use memory_core::traits::{Cache, Ledger, RecordStore, StoreMeta};
use memory_core::{Capability, Clock, Error, ErrorKind, Result};
use memory_redis::RedisParts;
use sha2::{Digest as _, Sha256};

use crate::backend::Backend;
use crate::registry::{BackendFactory, OpenRequest};
use crate::settings::Settings;
use crate::url::StoreUrl;

pub use memory_redis::{
    FilterKeyType, RedisCache, RedisSettings, RedisStore, RedisUrl, SearchMode, VectorSettings,
};

/// The schemes of its URLs.
pub const SCHEMES: [&str; 2] = ["redis", "rediss"];

/// The options of its URLs.
const OPTIONS: [&str; 4] = ["prefix", "cluster", "nodes", "ca_file"];

/// Hexadecimal digits of a store's name in the keys of its cache: 64 bits, so that two stores of
/// some thousand share one with a chance of 10^-12.
const STORE_DIGITS: usize = 16;

/// `redis://HOST:PORT/DATABASE`.
#[derive(Debug)]
pub(crate) struct RedisFactory;

#[async_trait]
impl BackendFactory for RedisFactory {
    async fn open(&self, request: &OpenRequest) -> Result<Backend> {
        let settings = settings(&request.url, &request.settings)?;
        within_runtime("store")?;
        let parts = RedisParts::new(request.clock.clone(), request.ledger.clone());
        let store = RedisStore::open(settings, parts).await?;
        let capabilities = RecordStore::capabilities(&*store);
        // Without the query engine search by vector says what to enable.
        if capabilities.has(Capability::KeywordSearch) {
            return Ok(Backend::of(store));
        }
        Ok(Backend { changes: Some(store.clone()), ..Backend::without_keywords(store) })
    }
}

/// Opens a cache for the store that `meta` belongs to.
pub(crate) async fn open_cache(
    url: &StoreUrl,
    meta: &dyn StoreMeta,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
) -> Result<Arc<dyn Cache>> {
    let mut settings = cache_settings(url)?;
    within_runtime("cache")?;
    let key = meta.store_key().await?;
    let digest = Sha256::new().chain_update(b"cache\0").chain_update(key.expose()).finalize();
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    settings.prefix = format!("{}-{}", settings.prefix, &name[..STORE_DIGITS]);
    Ok(RedisCache::open(settings, RedisParts::new(clock, ledger)).await?)
}

/// The settings of the store that a URL and the settings stand for.
///
/// The server may stand in the URL or in the section `[redis]`, or in both if they agree, and so
/// may the prefix; the other options of the URL take the place of those of the section. A URL of
/// another scheme says nothing.
///
/// # Errors
/// `Config`: the URL is malformed, an option is unknown, the two contradict each other, or a value
/// is out of its range.
pub fn settings(url: &StoreUrl, settings: &Settings) -> Result<RedisSettings> {
    let mut found = settings.redis.clone();
    if SCHEMES.contains(&url.scheme()) {
        url.check_options(&OPTIONS)?;
        let unset = RedisSettings::default();
        if !["", "//"].contains(&url.rest()) {
            let server = server(url)?;
            if found.url != unset.url && found.url != server {
                return Err(differ("server"));
            }
            found.url = server;
        }
        if let Some(prefix) = url.option("prefix") {
            if found.prefix != unset.prefix && found.prefix != prefix {
                return Err(differ("prefix"));
            }
            prefix.clone_into(&mut found.prefix);
        }
        reach(url, &mut found)?;
    }
    checked(found)
}

/// The settings of the cache that a URL stands for.
pub(crate) fn cache_settings(url: &StoreUrl) -> Result<RedisSettings> {
    url.check_options(&OPTIONS)?;
    let mut found = RedisSettings::default();
    "omc".clone_into(&mut found.prefix);
    found.url = server(url)?;
    if let Some(prefix) = url.option("prefix") {
        if prefix.len() > 64 - 1 - STORE_DIGITS {
            return Err(config("the prefix of a cache has 47 characters at the most"));
        }
        prefix.clone_into(&mut found.prefix);
    }
    reach(url, &mut found)?;
    checked(found)
}

fn server(url: &StoreUrl) -> Result<RedisUrl> {
    let text = format!("{}:{}", url.scheme(), url.rest());
    text.parse()
}

/// Takes over how nodes are reached.
fn reach(url: &StoreUrl, settings: &mut RedisSettings) -> Result<()> {
    match url.option("cluster") {
        None => {}
        Some("true") => settings.cluster = true,
        Some("false") => settings.cluster = false,
        Some(_) => return Err(config("the option `cluster` of `redis:` is true or false")),
    }
    if let Some(nodes) = url.option("nodes") {
        settings.nodes = nodes.split(',').map(str::to_owned).collect();
    }
    if let Some(path) = url.option("ca_file") {
        settings.ca_file = Some(path.into());
    }
    Ok(())
}

fn checked(settings: RedisSettings) -> Result<RedisSettings> {
    let faults = settings.faults();
    if faults.is_empty() { Ok(settings) } else { Err(config(&faults.join("; "))) }
}

fn within_runtime(what: &str) -> Result<()> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return Ok(());
    }
    Err(config(&format!(
        "a `redis:` {what} is opened and called within a tokio runtime, and there is none here"
    )))
}

fn differ(name: &str) -> Error {
    config(&format!(
        "the {name} stands in the store's URL and in the section [redis], and the two differ: leave \
         one out"
    ))
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str, toml: &str) -> Result<RedisSettings> {
        settings(&StoreUrl::parse(url)?, &Settings::from_toml_str(toml)?)
    }

    #[test]
    fn urls_are_read_and_the_section_fills_in() {
        let url = |text: &str| server(&StoreUrl::parse(text).unwrap()).unwrap();
        let found = read("rediss://h?ca_file=/etc/ca.pem", "").unwrap();
        assert_eq!(found.ca_file.as_deref(), Some("/etc/ca.pem".as_ref()));
        assert!(read("redis://h?ca_file=/etc/ca.pem", "").is_err(), "it is of TLS");
        let found = read("rediss://u:p@h:7?prefix=x&cluster=true&nodes=a:1,b:2", "").unwrap();
        assert_eq!((&found.url, found.prefix.as_str()), (&url("rediss://u:p@h:7"), "x"));
        assert_eq!((found.cluster, found.nodes), (true, vec!["a:1".to_owned(), "b:2".to_owned()]));
        assert_eq!(read("redis://h/3", "").unwrap().prefix, "om");
        let section = "[redis]\nurl = 'redis://h:1'\nprefix = 'x'\ncluster = true\n\
                       response_timeout_ms = 700\n[redis.vectors]\nef_runtime = 33\n";
        for text in ["redis:", "redis://", "redis://h:1?prefix=x"] {
            let found = read(text, section).unwrap();
            assert_eq!((&found.url, found.prefix.as_str()), (&url("redis://h:1"), "x"), "{text}");
            assert_eq!((found.response_timeout_ms, found.vectors.ef_runtime), (700, 33));
        }
        assert!(!read("redis:?cluster=false", section).unwrap().cluster);
        assert_eq!(read("sqlite:m.db", section).unwrap().prefix, "x", "another store's");
        // A cache takes nothing from the section, and its keys are not a store's.
        let cache = cache_settings(&StoreUrl::parse("redis://h:2?cluster=true").unwrap()).unwrap();
        assert_eq!(
            (cache.prefix.as_str(), cache.cluster, cache.url),
            ("omc", true, url("redis://h:2"))
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_repeated() {
        let section = "[redis]\nurl = 'redis://h:1'\nprefix = 'x'\n";
        for (url, toml, part) in [
            ("redis://h?prefx=x", "", "did you mean `prefix`?"),
            ("redis://h?cluster=yes", "", "true or false"),
            ("redis://h?prefix=a:b", "", "prefix"),
            ("redis://u:secret@g:1", section, "the server stands"),
            ("redis://h:1?prefix=y", section, "the prefix stands"),
            ("redis://u:secret@h:secret", "", "port"),
        ] {
            let error = read(url, toml).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            let message = error.to_string();
            assert!(message.to_lowercase().contains(part), "{url}: {message}");
            assert!(!message.contains("secret"), "{message}");
        }
        for (toml, part) in [
            ("[redis]\nurll = 'redis://h'", "did you mean `url`?"),
            ("[redis.vectors]\nef_runtim = 1", "did you mean `ef_runtime`?"),
            ("[redis]\nconnect_timeout_ms = 0", "redis.connect_timeout_ms"),
            ("cache = 'redis://h?prefx=x'", "cache: unknown option"),
            ("cache = 'sqlite:x'", "cache: the URL of a cache"),
            ("[layers.cache]\nmax_stal_ms = 5", "did you mean `max_stale_ms`?"),
            ("[layers.cache]\nmax_stale_ms = 5", "layers.cache.max_stale_ms"),
        ] {
            let error = Settings::from_toml_str(toml).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{toml}");
            assert!(error.to_string().contains(part), "{toml}: {error}");
        }
    }

    #[test]
    fn a_store_and_a_cache_need_a_runtime() {
        let open = |settings: Settings| {
            futures::executor::block_on(crate::Memory::builder().settings(settings).open())
        };
        let error = open(Settings::from_toml_str("store = 'redis://h'").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("tokio"), "{error}");
    }
}

//! The cache before a store, from its URL.

use std::sync::Arc;

use memory_core::traits::{Cache, Ledger, StoreMeta};
use memory_core::{Clock, Error, ErrorKind, Result};

#[cfg(not(feature = "redis"))]
use crate::registry::not_compiled;
use crate::url::StoreUrl;

/// The schemes that a cache can have.
const SCHEMES: [&str; 2] = ["redis", "rediss"];

/// What is wrong with the URL of a cache, as far as the text tells; the text is not repeated.
pub(crate) fn fault(url: &str) -> Option<String> {
    let parsed = parse(url);
    #[cfg(feature = "redis")]
    let parsed = parsed.and_then(|url| crate::redis::cache_settings(&url).map(drop));
    parsed.err().map(|error| format!("cache: {}", error.message()))
}

fn parse(url: &str) -> Result<StoreUrl> {
    let scheme = url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
    if scheme.is_none_or(|scheme| !SCHEMES.contains(&scheme.as_str())) {
        let message =
            "the URL of a cache is `redis://HOST:PORT/DATABASE`, or `rediss://...` with TLS";
        return Err(Error::new(ErrorKind::Config, message).with_operation("open"));
    }
    StoreUrl::parse(url)
}

/// Opens a cache for the store that `meta` belongs to. Its keys carry a name that is made of the
/// store's own key, so that stores share a server without seeing each other's memories.
///
/// # Errors
/// `Config`: the URL is none. `Unsupported`: Redis was not compiled in. What reading the store's key
/// met. A server that cannot be reached is none: the store answers.
#[cfg_attr(not(feature = "redis"), expect(clippy::unused_async, reason = "it is not compiled in"))]
pub(crate) async fn open(
    url: &str,
    meta: &dyn StoreMeta,
    clock: Arc<dyn Clock>,
    ledger: Arc<dyn Ledger>,
) -> Result<Arc<dyn Cache>> {
    let url = parse(url)?;
    #[cfg(feature = "redis")]
    {
        crate::redis::open_cache(&url, meta, clock, ledger).await
    }
    #[cfg(not(feature = "redis"))]
    {
        let _ = (meta, clock, ledger);
        Err(not_compiled(&format!("the cache `{}:`", url.scheme()), "redis"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cache_is_refused_without_being_repeated() {
        for good in ["redis://h", "rediss://u:p@h:6380/2?prefix=x", "REDIS://h"] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in ["", "secret", "sqlite:secret.db", "redis:secret", "redis://h?secret"] {
            if cfg!(not(feature = "redis")) && bad == "redis:secret" {
                continue;
            }
            let fault = fault(bad).expect(bad);
            assert!(fault.starts_with("cache: ") && !fault.contains("secret"), "{bad}: {fault}");
        }
    }
}

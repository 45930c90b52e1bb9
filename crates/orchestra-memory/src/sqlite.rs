//! How the embedded store is opened from a URL. The only file that names its types.

use async_trait::async_trait;
use memory_core::{Error, ErrorKind, Result};
use memory_sqlite::{SqliteSettings, SqliteStore};

use crate::backend::Backend;
use crate::registry::{BackendFactory, OpenRequest};

/// `sqlite:PATH`, `sqlite:///ABSOLUTE/PATH`, each with `?mode=ro`.
#[derive(Debug)]
pub(crate) struct FileFactory;

/// `memory:`: the same engine without a file. It ends with its handle.
#[derive(Debug)]
pub(crate) struct MemoryFactory;

#[async_trait]
impl BackendFactory for FileFactory {
    async fn open(&self, request: &OpenRequest) -> Result<Backend> {
        open(request, file_settings(request)?)
    }
}

#[async_trait]
impl BackendFactory for MemoryFactory {
    async fn open(&self, request: &OpenRequest) -> Result<Backend> {
        request.url.check_options(&[])?;
        if !request.url.rest().is_empty() {
            return Err(config("`memory:` takes no path; a file is `sqlite:PATH`"));
        }
        open(request, section(request)?)
    }
}

/// Opening blocks for as long as the file takes to be checked and migrated: no runtime is assumed
/// that could take it elsewhere, and a program opens its store once.
fn open(request: &OpenRequest, settings: SqliteSettings) -> Result<Backend> {
    settings.validate()?;
    let (clock, ledger) = (request.clock.clone(), request.ledger.clone());
    Ok(Backend::of(SqliteStore::open(settings, clock, ledger)?))
}

fn file_settings(request: &OpenRequest) -> Result<SqliteSettings> {
    request.url.check_options(&["mode"])?;
    let mut settings = section(request)?;
    settings.path = path(request.url.rest())?.into();
    match request.url.option("mode") {
        None => {}
        Some("ro") => settings.read_only = true,
        Some(_) => return Err(config("the option `mode` of `sqlite:` takes `ro` alone")),
    }
    Ok(settings)
}

fn path(rest: &str) -> Result<&str> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => {
            return Err(config(
                "after `sqlite://` stands an absolute path: `sqlite:///folder/memory.db`; \
                 a relative one is `sqlite:memory.db`",
            ));
        }
        None => rest,
    };
    match path {
        "" => Err(config("`sqlite:` needs a path: `sqlite:memory.db`")),
        ":memory:" => Err(config("a store without a file is `memory:`")),
        path => Ok(path),
    }
}

fn section(request: &OpenRequest) -> Result<SqliteSettings> {
    let settings = request.settings.sqlite.clone();
    if !settings.is_in_memory() {
        return Err(config("the path stands in the store's URL; leave it out of [sqlite]"));
    }
    Ok(settings)
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("open")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory_core::SystemClock;
    use memory_core::traits::NoLedger;

    use super::*;
    use crate::settings::Settings;
    use crate::url::StoreUrl;

    fn settings(url: &str, settings: Settings) -> Result<SqliteSettings> {
        file_settings(&OpenRequest {
            url: StoreUrl::parse(url)?,
            settings: Arc::new(settings),
            clock: Arc::new(SystemClock::new()),
            ledger: Arc::new(NoLedger),
        })
    }

    #[test]
    fn paths_and_modes_are_read() {
        for (url, path, read_only) in [
            ("sqlite:a.db", "a.db", false),
            ("sqlite:/x/a b.db?mode=ro", "/x/a b.db", true),
            ("sqlite:///x/%20.db", "/x/%20.db", false),
            ("sqlite:../a.db", "../a.db", false),
        ] {
            let found = settings(url, Settings::default()).unwrap();
            assert_eq!((found.path.to_str(), found.read_only), (Some(path), read_only), "{url}");
        }
        for url in [
            "sqlite:",
            "sqlite:?mode=ro",
            "sqlite::memory:",
            "sqlite://host/a.db",
            "sqlite:a.db?mode=rw",
            "sqlite:a.db?made=ro",
        ] {
            let error = settings(url, Settings::default()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
        let mut twice = Settings::default();
        twice.sqlite.path = "b.db".into();
        assert!(settings("sqlite:a.db", twice).is_err(), "two paths contradict each other");
    }
}

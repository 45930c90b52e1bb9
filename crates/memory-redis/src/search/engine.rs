//! The server's query engine: whether it is there, may be used, and what indexes are made as.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use memory_core::{Error, ErrorKind, Result, TenantId};
use memory_text::{Analyzer, Language};
use redis::{Value, cmd};
use sha2::{Digest, Sha256};

use super::reply;
use super::seen::Seen;
use crate::keys::Keys;
use crate::settings::{FilterKeyType, RedisSettings, SearchMode};
use crate::wire::{Call, Effect, Wire};

/// The version of what indexes hold and of the fields that only they read. It grows with every
/// change of the two; a build that finds a larger one leaves the indexes alone.
pub(crate) const DEFINITION: u32 = 1;

/// What is known of the server's query engine. The default is none.
#[derive(Default)]
pub(crate) struct Engine {
    on: Option<On>,
    why: Option<Why>,
}

/// An engine that is used.
pub(super) struct On {
    pub(super) version: Version,
    pub(super) mark: String,
    pub(super) analyzer: Analyzer,
    /// The states of the tenants searched last.
    seen: Mutex<LruCache<TenantId, Arc<Seen>>>,
}

/// The version of the module: 21005 is 2.10.5. 0 where the server does not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(pub(super) u32);

/// Why no engine is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    Absent,
    Denied,
    Off,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("version", &self.on.as_ref().map(|on| on.version))
            .field("mark", &self.mark())
            .field("why", &self.why)
            .finish()
    }
}

impl Engine {
    /// Asks the server, every primary of a cluster, what it has.
    ///
    /// # Errors
    /// `Unsupported`: none, where the settings require one. `PermissionDenied`: there is one, the
    /// settings require it, and this user may not use it. `Config`: the language is not known. What
    /// the server met.
    pub(crate) async fn detect(
        wire: &Wire,
        call: Call<'_>,
        settings: &RedisSettings,
        keys: &Keys,
    ) -> Result<Self> {
        let language: Language = settings
            .language
            .parse()
            .map_err(|_| Error::new(ErrorKind::Config, "language is not one of the known codes"))?;
        let why = match settings.search {
            SearchMode::Off => Some(Why::Off),
            SearchMode::Auto | SearchMode::Required => refused(wire, call, keys).await?,
        };
        let Some(why) = why else {
            let version = version(wire, call).await;
            return Ok(Self::made(settings, language, version));
        };
        let engine = Self { on: None, why: Some(why) };
        if settings.search == SearchMode::Required {
            return Err(engine.unsupported());
        }
        if why == Why::Denied {
            tracing::warn!("the server has a query engine that this user may not use: no searches");
        }
        Ok(engine)
    }

    fn made(settings: &RedisSettings, language: Language, version: Version) -> Self {
        let analyzer = Analyzer::new(language);
        let mark = mark(settings, &analyzer);
        let most = usize::try_from(settings.tenant_cache).unwrap_or(1);
        let seen = Mutex::new(LruCache::new(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN)));
        Self { on: Some(On { version, mark, analyzer, seen }), why: None }
    }

    /// What was last seen of a tenant's state.
    pub(super) fn seen(&self, tenant: &TenantId) -> Option<Arc<Seen>> {
        let on = self.on.as_ref()?;
        on.seen.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    /// Remembers what was seen of a tenant's state: a guess, which the next search checks.
    pub(super) fn remember(&self, tenant: &TenantId, seen: Arc<Seen>) {
        if let Some(on) = &self.on {
            on.seen.lock().unwrap_or_else(PoisonError::into_inner).put(tenant.clone(), seen);
        }
    }

    /// What a tenant's indexes must be made as; `None` where no engine is used.
    pub(crate) fn mark(&self) -> Option<&str> {
        self.on.as_ref().map(|on| on.mark.as_str())
    }

    /// The fingerprint of the analyser of the words; `None` where no engine is used.
    pub(crate) fn analyser(&self) -> Option<String> {
        self.on.as_ref().map(|on| on.analyzer.fingerprint())
    }

    /// The engine that is used.
    ///
    /// # Errors
    /// `Unsupported`: none; it names what to enable. `PermissionDenied`: this user may not.
    pub(super) fn used(&self) -> Result<&On> {
        self.on.as_ref().ok_or_else(|| self.unsupported())
    }

    fn unsupported(&self) -> Error {
        match self.why {
            Some(Why::Denied) => Error::new(
                ErrorKind::PermissionDenied,
                "the Redis user may not use the query engine: grant it FT.CREATE, FT.SEARCH, \
                 FT.AGGREGATE, FT.INFO, FT.DROPINDEX and FT._LIST (with Redis 8, +@search)",
            ),
            Some(Why::Off) => Error::unsupported(
                "search is off: set `search` to `auto` or `required`, on a Redis 8 or a Redis with \
                 the RediSearch module",
            ),
            Some(Why::Absent) | None => Error::unsupported(
                "this Redis has no query engine: use Redis 8, or load the RediSearch module",
            ),
        }
    }
}

/// Why the engine cannot be used; `None` where it can, on every primary.
async fn refused(wire: &Wire, call: Call<'_>, keys: &Keys) -> Result<Option<Why>> {
    let list = wire.each_primary(call, &cmd("FT._LIST"), Effect::Reads).await?;
    let mut answers: Vec<_> = list.into_iter().map(|(_, answer)| answer).collect();
    // A search in an index that never is: what the server thinks of it tells the rest.
    let none = keys.store("none");
    let mut search = cmd("FT.SEARCH");
    search.arg(&none).arg("*").arg("LIMIT").arg(0).arg(0);
    answers.push(wire.at(call, &none, &search, Effect::Reads).await);
    let mut why = None;
    for error in answers.into_iter().filter_map(Result::err) {
        match reply::meaning(&error) {
            reply::Meaning::NoIndex => {}
            reply::Meaning::NoCommand => return Ok(Some(Why::Absent)),
            reply::Meaning::Denied => why = Some(Why::Denied),
            _ => return Err(error),
        }
    }
    Ok(why)
}

/// The smallest version among the primaries; 0 where one does not tell.
async fn version(wire: &Wire, call: Call<'_>) -> Version {
    let mut list = cmd("MODULE");
    list.arg("LIST");
    let answers = wire.each_primary(call, &list, Effect::Reads).await.unwrap_or_default();
    let each = answers.into_iter().map(|(_, answer)| answer.ok().and_then(module_version));
    Version(each.map(Option::unwrap_or_default).min().unwrap_or_default())
}

fn module_version(answer: Value) -> Option<u32> {
    let Value::Array(modules) = answer else { return None };
    modules.iter().find_map(|module| {
        let name = reply::get(module, "name").and_then(reply::text)?;
        if !name.eq_ignore_ascii_case(b"search") && !name.eq_ignore_ascii_case(b"ft") {
            return None;
        }
        reply::get(module, "ver").and_then(reply::integer).and_then(|ver| u32::try_from(ver).ok())
    })
}

/// The definition's version, the analyser's fingerprint, and 8 digits of the declared keys' hash.
fn mark(settings: &RedisSettings, analyzer: &Analyzer) -> String {
    let mut hash = Sha256::new();
    for (key, kind) in &settings.filter_keys {
        let kind = match kind {
            FilterKeyType::Number => b'n',
            FilterKeyType::Text | FilterKeyType::Bool | FilterKeyType::List => b't',
        };
        hash.update([kind]);
        hash.update(key.as_str().as_bytes());
        hash.update([0]);
    }
    let hash = hash.finalize();
    let digits: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{DEFINITION}.{}.{digits}", analyzer.fingerprint())
}

/// The definition's version in a mark; `None` where it is none.
pub(super) fn definition(mark: &str) -> Option<u32> {
    mark.split_once('.')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use memory_core::MetaKey;

    use super::*;

    #[test]
    fn marks_tell_what_indexes_are_made_as() {
        let made = |change: fn(&mut RedisSettings)| {
            let mut settings = RedisSettings::default();
            change(&mut settings);
            let language = settings.language.parse().unwrap();
            Engine::made(&settings, language, Version(0)).mark().unwrap().to_owned()
        };
        let plain = made(|_| {});
        assert_eq!(plain, made(|_| {}));
        assert_eq!(definition(&plain), Some(DEFINITION));
        assert_eq!(definition("?"), None);
        let numbers = made(|settings| {
            settings.filter_keys.insert(MetaKey::new("k").unwrap(), FilterKeyType::Number);
        });
        let texts = made(|settings| {
            settings.filter_keys.insert(MetaKey::new("k").unwrap(), FilterKeyType::Text);
        });
        let german = made(|settings| settings.language = "de".to_owned());
        let marks = std::collections::BTreeSet::from([plain, numbers, texts, german]);
        assert_eq!(marks.len(), 4);
    }

    #[test]
    fn without_an_engine_the_error_names_what_to_do() {
        for (why, kind, word) in [
            (None, ErrorKind::Unsupported, "Redis 8"),
            (Some(Why::Absent), ErrorKind::Unsupported, "RediSearch"),
            (Some(Why::Off), ErrorKind::Unsupported, "`search`"),
            (Some(Why::Denied), ErrorKind::PermissionDenied, "FT.SEARCH"),
        ] {
            let engine = Engine { on: None, why };
            assert_eq!(engine.mark(), None);
            let error = engine.used().err().unwrap();
            assert_eq!(error.kind(), kind);
            assert!(error.message().contains(word), "{error}");
        }
    }
}

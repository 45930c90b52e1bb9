//! The settings tree: data, never components. Every bound has a default and the reason for it.
//!
//! ```toml
//! store = "sqlite:memory.db"
//! cache = "redis://127.0.0.1"   # none unless set
//! tenant = "default"
//!
//! [sqlite]            # every field of memory_sqlite::SqliteSettings but `path`
//! synchronous = "full"
//!
//! [firestore]         # every field of memory_firestore::FirestoreSettings
//! project = "my-project"
//!
//! [google]            # every field of memory_google_auth::GoogleAuthSettings
//! credentials = "auto"
//!
//! [redis]             # every field of memory_redis::RedisSettings
//! prefix = "om"
//!
//! [search]            # every field of memory_search::SearchSettings
//! min_candidates = 50
//!
//! [embedding]
//! provider = "auto"   # or "none", "minilm", "http"
//! when = "write"      # or "background", "later"
//! on_failure = "store"
//! batch_size = 256
//! cache_entries = 4096
//!
//! [embedding.minilm]
//! threads = 2
//! precision = "f32"   # or "int8"
//!
//! [embedding.http]    # of the provider "http"
//! timeout_ms = 30000
//!
//! [read]
//! page_size = 50
//!
//! [write]
//! batch_size = 500
//! update_attempts = 8
//! sweep_step = 1000
//!
//! [import]
//! batch_size = 500
//! line_bytes = 8388608
//! document_bytes = 67108864
//! bad_lines_kept = 100
//!
//! [export]
//! page_size = 200
//!
//! [cost]              # of back ends that bill
//! read_price = 0.03   # for 100,000
//! daily_reads = 1000000
//!
//! [layers]            # every field of memory_layers::LayersSettings
//! apply = "auto"      # or "all", "none"
//!
//! [layers.retry]
//! attempts = 4
//!
//! [layers.timeout]
//! call_ms = 30000
//! ```
//!
//! Each can be set by a variable as well, over the file: see [`Settings::load`].

mod cost;
mod embedding;
mod read;
mod sections;
mod show;

use std::ffi::OsString;
use std::fmt;

#[cfg(feature = "local")]
use crate::indexes::IndexSettings;
use memory_core::limits::{FETCH_IDS, PAGE};
use memory_core::{Error, ErrorKind, Result, TenantId};
#[cfg(feature = "firestore")]
use memory_firestore::FirestoreSettings;
#[cfg(feature = "firestore")]
use memory_google_auth::GoogleAuthSettings;
use memory_layers::LayersSettings;
#[cfg(feature = "redis")]
use memory_redis::RedisSettings;
use memory_search::SearchSettings;
#[cfg(feature = "sqlite")]
use memory_sqlite::SqliteSettings;
use serde::{Deserialize, Serialize};

pub use cost::CostSettings;
pub use embedding::{
    EmbedWhen, EmbeddingSettings, HttpEmbeddingSettings, MiniLmPrecision, MiniLmSettings,
    OnEmbedFailure, Provider, Secret,
};
pub use read::{ENV_PREFIX, LoadedSettings, SettingSource};
pub use show::SettingEntry;

/// Most faults that one error lists; the others are counted. 50: nobody puts right more at once.
const MOST_FAULTS: usize = 50;

/// The tenant of whoever names none.
pub const DEFAULT_TENANT: &str = "default";

/// Everything that can be set. `Default` gives the documented defaults; nothing is read from the
/// environment.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// The store's URL. None: it must come from elsewhere, for no place suits every program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// The URL of a cache before the store: `redis://HOST:PORT/DATABASE`, with the options `prefix`,
    /// `cluster` and `nodes` (`HOST:PORT,HOST:PORT`). None: every read asks the store. What is kept,
    /// and for how long, stands in `[layers.cache]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// The tenant of [`Memory::default_tenant`](crate::Memory::default_tenant): `default`.
    pub tenant: TenantId,
    /// The embedded store. Its `path` stands in the URL and must be left out here.
    #[cfg(feature = "sqlite")]
    pub sqlite: SqliteSettings,
    /// Cloud Firestore. Project, database and prefix may stand in the URL instead.
    #[cfg(feature = "firestore")]
    pub firestore: FirestoreSettings,
    /// The credentials of Google's services.
    #[cfg(feature = "firestore")]
    pub google: GoogleAuthSettings,
    /// The store on Redis. Server and prefix may stand in the URL instead.
    #[cfg(feature = "redis")]
    pub redis: RedisSettings,
    /// Which indexes the store is searched by.
    #[cfg(feature = "local")]
    pub indexes: IndexSettings,
    /// How searches work.
    pub search: SearchSettings,
    /// Where vectors come from.
    pub embedding: EmbeddingSettings,
    /// How reads work.
    pub read: ReadSettings,
    /// How writes work.
    pub write: WriteSettings,
    /// How imports work.
    pub import: ImportSettings,
    /// How exports work.
    pub export: ExportSettings,
    /// What operations cost, and how much a day may cost.
    pub cost: CostSettings,
    /// The layers around back end and embedder: retry, limit, timeout, telemetry, tenant guard.
    pub layers: LayersSettings,
}

impl Default for Settings {
    #[expect(clippy::expect_used, reason = "the constant passes the id rules, as a test shows")]
    fn default() -> Self {
        Self {
            store: None,
            cache: None,
            tenant: TenantId::new(DEFAULT_TENANT).expect("a valid id"),
            #[cfg(feature = "sqlite")]
            sqlite: SqliteSettings::default(),
            #[cfg(feature = "firestore")]
            firestore: FirestoreSettings::default(),
            #[cfg(feature = "firestore")]
            google: GoogleAuthSettings::default(),
            #[cfg(feature = "redis")]
            redis: RedisSettings::default(),
            #[cfg(feature = "local")]
            indexes: IndexSettings::default(),
            search: SearchSettings::default(),
            embedding: EmbeddingSettings::default(),
            read: ReadSettings::default(),
            write: WriteSettings::default(),
            import: ImportSettings::default(),
            export: ExportSettings::default(),
            cost: CostSettings::default(),
            layers: LayersSettings::default(),
        }
    }
}

/// How reads work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReadSettings {
    /// Memories of a page whose request sets no limit: 1 to 1,000. 50: what a screen or a prompt
    /// takes in at once.
    pub page_size: u32,
}

impl Default for ReadSettings {
    fn default() -> Self {
        Self { page_size: 50 }
    }
}

/// How writes work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WriteSettings {
    /// Memories of one commit of many: 1 to 1,000. 500: about 25 ms of the embedded store's writer
    /// at its measured 20,000 rows a second; beside that a disk's sync of 0.1 to 2 ms costs little,
    /// and other writers do not wait for long.
    pub batch_size: usize,
    /// Memories of a batch where the store has a way of its own for many writes and no vectors are
    /// made with them, in additions and in imports: 1 to 10,000. 2,000: four seconds at the pace at
    /// which such a store begins, and what an interrupted import does again is at most this.
    pub bulk_batch_size: usize,
    /// How often an update without a precondition reads and writes before it gives up with
    /// `Conflict`: 1 to 100. 8: eight writers that meet on one memory at once all get through,
    /// for each round lets one through.
    pub update_attempts: u32,
    /// Expired memories removed by one step of a purge: 1 to 10,000. 1,000: other writers wait for
    /// one step.
    pub sweep_step: u32,
}

impl Default for WriteSettings {
    fn default() -> Self {
        Self { batch_size: 500, bulk_batch_size: 2_000, update_attempts: 8, sweep_step: 1_000 }
    }
}

/// How imports work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ImportSettings {
    /// As [`WriteSettings::batch_size`]; what an interrupted import does again is at most this.
    pub batch_size: usize,
    /// Longest line, in bytes: 1 KiB to 64 MiB. 8 MiB: the largest memory there can be, with every
    /// character of its text escaped (768 KiB times six), its payload, metadata and vector, is
    /// below six.
    pub line_bytes: usize,
    /// Longest plain text, in bytes: 1 KiB to 1 GiB. 64 MiB: more than the longest books, and held
    /// in memory while it is imported.
    pub document_bytes: usize,
    /// Bad lines that a report keeps; all are counted. 100: enough to see what is wrong.
    pub bad_lines_kept: usize,
}

impl Default for ImportSettings {
    fn default() -> Self {
        Self {
            batch_size: 500,
            line_bytes: 8 * 1024 * 1024,
            document_bytes: 64 * 1024 * 1024,
            bad_lines_kept: 100,
        }
    }
}

/// How exports work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExportSettings {
    /// Memories read at once: 1 to 1,000. 200: memories of the largest size fill 170 MB then, and
    /// small ones are read at full speed.
    pub page_size: u32,
}

impl Default for ExportSettings {
    fn default() -> Self {
        Self { page_size: 200 }
    }
}

impl Settings {
    /// Reads a settings file's text and checks every value. The environment is not looked at.
    ///
    /// # Errors
    /// `Config`, with all that is wrong, one fault a line: unknown keys (the nearest known one of
    /// each is named), wrong types, values out of their range; alone, if it is not TOML.
    /// `Unsupported`: a section of a back end that this build does not have.
    pub fn from_toml_str(text: &str) -> Result<Self> {
        Ok(Self::load(text, [] as [(OsString, OsString); 0])?.settings)
    }

    /// Reads a settings file's text, and over it variables: [`Settings::load`] without the sources.
    ///
    /// # Errors
    /// As [`Settings::load`].
    pub fn from_toml_str_and_env<K, V>(
        text: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        Ok(Self::load(text, variables)?.settings)
    }

    /// Reads a settings file's text, and over it variables such as those of
    /// [`std::env::vars_os`], which this crate never looks at by itself.
    ///
    /// A variable is named by the path of its setting in capitals, with two underscores between
    /// the parts: `ORCHESTRA_MEMORY__WRITE__BATCH_SIZE` is `batch_size` of `[write]`. Its text is
    /// taken as the setting takes it: a number, `true`, a word, a text as it stands; lists and
    /// tables as in TOML. An empty one counts as not set; those that do not begin with
    /// [`ENV_PREFIX`] are left alone.
    ///
    /// # Errors
    /// As [`Settings::from_toml_str`], the faults of variables among the others, each by the name
    /// of its variable and never with its value.
    pub fn load<K, V>(
        text: &str,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<LoadedSettings>
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        read::read(text, variables)
    }

    /// The settings as a file's text.
    ///
    /// # Errors
    /// `Unexpected`: a value that TOML cannot hold.
    pub fn to_toml_string(&self) -> Result<String> {
        toml::to_string(self).map_err(|error| {
            Error::new(ErrorKind::Unexpected, "the settings cannot be written as TOML")
                .with_source(error)
        })
    }

    /// Checks every bound.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong, one fault a line.
    pub fn validate(&self) -> Result<()> {
        refused(self.faults())
    }

    /// All that is wrong with the values, one sentence each; empty when nothing is.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        self.faults_by_section().into_iter().flat_map(|(_, faults)| faults).collect()
    }

    fn faults_by_section(&self) -> Vec<(&'static str, Vec<String>)> {
        let in_section = |name: &'static str, faults: Vec<String>| {
            (name, faults.into_iter().map(|fault| format!("{name}.{fault}")).collect())
        };
        let mut all = vec![
            ("read", self.read.faults()),
            ("write", self.write.faults()),
            ("import", self.import.faults()),
            ("export", self.export.faults()),
            in_section("search", self.search.faults()),
            ("embedding", self.embedding.faults()),
            ("cost", self.cost.faults()),
            in_section("layers", self.layers.faults()),
        ];
        #[cfg(feature = "sqlite")]
        all.push(in_section("sqlite", self.sqlite.faults()));
        #[cfg(feature = "firestore")]
        {
            all.push(in_section("firestore", crate::firestore::faults(&self.firestore)));
            let google = self.google.faults().into_iter();
            all.push(("google", google.map(|fault| format!("google: {fault}")).collect()));
        }
        #[cfg(feature = "redis")]
        all.push(in_section("redis", self.redis.faults()));
        #[cfg(feature = "local")]
        all.push(in_section("indexes", self.indexes.faults()));
        let cache = self.cache.as_deref().and_then(crate::cache::fault);
        all.push(("cache", cache.into_iter().collect()));
        all.retain(|(_, faults)| !faults.is_empty());
        all
    }
}

impl ReadSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "read.page_size", self.page_size.into(), 1, PAGE.into());
        faults
    }
}

impl WriteSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |name, value, high| within(&mut faults, name, value, 1, high);
        check("write.batch_size", self.batch_size as u64, FETCH_IDS as u64);
        check("write.bulk_batch_size", self.bulk_batch_size as u64, 10_000);
        check("write.update_attempts", self.update_attempts.into(), 100);
        check("write.sweep_step", self.sweep_step.into(), 10_000);
        faults
    }
}

impl ImportSettings {
    fn faults(&self) -> Vec<String> {
        const MIB: u64 = 1024 * 1024;
        let mut faults = Vec::new();
        let mut check = |name, value: usize, low, high| {
            within(&mut faults, name, value as u64, low, high);
        };
        check("import.batch_size", self.batch_size, 1, FETCH_IDS as u64);
        check("import.line_bytes", self.line_bytes, 1024, 64 * MIB);
        check("import.document_bytes", self.document_bytes, 1024, 1024 * MIB);
        check("import.bad_lines_kept", self.bad_lines_kept, 0, 1_000_000);
        faults
    }
}

impl ExportSettings {
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        within(&mut faults, "export.page_size", self.page_size.into(), 1, PAGE.into());
        faults
    }
}

/// The URLs of store and cache may hold passwords: `Debug` shows their schemes only.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = |url: &Option<String>| {
            let url = url.as_deref()?;
            Some(url.split_once(':').map_or("", |(scheme, _)| scheme).to_owned())
        };
        f.debug_struct("Settings")
            .field("store_scheme", &scheme(&self.store))
            .field("cache_scheme", &scheme(&self.cache))
            .field("tenant", &self.tenant)
            .field("search", &self.search)
            .field("embedding", &self.embedding)
            .field("read", &self.read)
            .field("write", &self.write)
            .field("import", &self.import)
            .field("export", &self.export)
            .field("cost", &self.cost)
            .field("layers", &self.layers)
            .finish_non_exhaustive()
    }
}

/// Adds a fault where a number is out of its range.
fn within(faults: &mut Vec<String>, name: &str, value: u64, low: u64, high: u64) {
    if !(low..=high).contains(&value) {
        faults.push(format!("{name} lies in {low} to {high}; this is {value}"));
    }
}

/// One error for all faults; nothing for none.
fn refused(mut faults: Vec<String>) -> Result<()> {
    match faults.len() {
        0 => Ok(()),
        1 => Err(config(faults.remove(0))),
        count => {
            let mut message = format!("{count} settings are wrong:");
            for fault in faults.iter().take(MOST_FAULTS) {
                message.push('\n');
                message.push_str(fault);
            }
            if count > MOST_FAULTS {
                message.push_str(&format!("\nand {} more", count - MOST_FAULTS));
            }
            Err(config(message))
        }
    }
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_gives_the_defaults_and_they_are_valid() {
        let settings = Settings::from_toml_str("").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.tenant.as_str(), DEFAULT_TENANT);
        let again = Settings::from_toml_str(&settings.to_toml_string().unwrap()).unwrap();
        assert_eq!(again, settings);
    }

    #[test]
    fn every_section_is_read() {
        let settings = Settings::from_toml_str(
            "store = 'memory:'\ntenant = 'acme'\n[search]\nmin_candidates = 7\n\
             [search.fusion]\nkeyword = 1.0\n[embedding]\nmodel = 'm'\ndimensions = 3\n\
             [read]\npage_size = 1\n[write]\nbatch_size = 2\n[import]\nline_bytes = 4096\n\
             [export]\npage_size = 5\n",
        )
        .unwrap();
        assert_eq!(settings.store.as_deref(), Some("memory:"));
        assert_eq!(settings.tenant.as_str(), "acme");
        assert_eq!(settings.search.min_candidates, 7);
        assert_eq!(settings.embedding, EmbeddingSettings::new("m", 3));
        assert_eq!((settings.read.page_size, settings.write.batch_size), (1, 2));
        assert_eq!((settings.import.line_bytes, settings.export.page_size), (4_096, 5));
        assert_eq!(settings.write.update_attempts, 8, "what is left out keeps its default");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("stor = 'memory:'", "did you mean `store`?"),
            ("[write]\nbatchsize = 1", "did you mean `batch_size`?"),
            ("[search.fusion]\nkeywords = 1.0", "did you mean `keyword`?"),
            ("[colours]\n", "unknown setting `colours`"),
            ("\n\n= 1", "line 3"),
            ("[write]\nbatch_size = 'x'", "line 2"),
            ("[write]\nbatch_size = 0", "write.batch_size"),
            ("[write]\nbatch_size = 1000000000", "write.batch_size"),
            ("[write]\nbulk_batch_size = 0", "write.bulk_batch_size"),
            ("[read]\npage_size = 0", "read.page_size"),
            ("[search]\nmin_candidates = 0", "search.min_candidates"),
            ("[embedding]\nmodel = 'm'\ndimensions = 0", "embedding: "),
            ("[embedding]\nmodel = 'm'", "dimensions"),
            ("tenant = ''", "tenant id"),
        ] {
            let error = Settings::from_toml_str(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }

    #[cfg(feature = "sqlite")]
    #[test]
    fn the_section_of_the_embedded_store_is_its_own_struct() {
        let settings = Settings::from_toml_str("[sqlite]\nreaders = 2\n").unwrap();
        assert_eq!(settings.sqlite.readers, 2);
        let error = Settings::from_toml_str("[sqlite]\nreader = 2\n").unwrap_err();
        assert!(error.to_string().contains("did you mean `readers`?"), "{error}");
        let error = Settings::from_toml_str("[sqlite]\nreaders = 0\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[cfg(not(feature = "sqlite"))]
    #[test]
    fn a_section_of_a_back_end_that_is_not_compiled_in_names_its_feature() {
        let error = Settings::from_toml_str("[sqlite]\nreaders = 2\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("feature `sqlite`"), "{error}");
    }

    #[cfg(not(feature = "firestore"))]
    #[test]
    fn the_sections_of_firestore_name_its_feature() {
        for section in ["firestore", "google"] {
            let error = Settings::from_toml_str(&format!("[{section}]\n")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains("feature `firestore`"), "{error}");
        }
    }

    #[cfg(not(feature = "redis"))]
    #[test]
    fn what_needs_redis_names_its_feature() {
        let error = Settings::from_toml_str("[redis]\n").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("feature `redis`"), "{error}");
    }

    #[test]
    fn debug_hides_the_url() {
        let text = "store = 'redis://u:secret@h'\ncache = 'rediss://u:secret@h'";
        let shown = format!("{:?}", Settings::from_toml_str(text).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        assert!(shown.contains("\"redis\"") && shown.contains("\"rediss\""), "{shown}");
    }
}

//! What every command works with: the output, the clock, the settings, and the way to the store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use orchestra_memory::memory_core::{Clock, SystemClock};
use orchestra_memory::{
    CancelFlag, Error, ErrorKind, LoadedSettings, Memory, Provider, SettingSource, Settings,
    StoreUrl, TenantId, Timestamp, model,
};

use crate::args::Global;
use crate::environment::Environment;
use crate::failure::{Failure, Result};
use crate::human;
use crate::metrics::Metrics;
use crate::output::Output;

/// The folder of the program in the platform's data and configuration folders.
const FOLDER: &str = "orchestra-memory";
/// The store in the data folder.
const STORE_FILE: &str = "memory.db";
/// The settings in the configuration folder.
const CONFIG_FILE: &str = "config.toml";

/// What every command works with.
pub(crate) struct App {
    /// Standard output.
    pub(crate) output: Output,
    /// Raised by Ctrl-C, for the commands that have something to finish.
    pub(crate) cancel: CancelFlag,
    /// The variables that the options do not know.
    pub(crate) environment: Environment,
    /// The figures, if they are asked for.
    pub(crate) metrics: Metrics,
    global: Global,
    clock: SystemClock,
}

/// What a command wants of the store that it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    /// A file that is not there is made.
    pub(crate) create: bool,
    /// What makes vectors is opened as well. A command that needs none works without it, even
    /// where the settings ask for a model that is not there.
    pub(crate) embedder: bool,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The settings file.
    File,
    /// This variable of the environment.
    Variable(String),
    /// An option of the command line, or the variable that stands for it.
    Option(&'static str),
}

/// Where the settings and the store come from.
pub(crate) struct Places {
    /// The settings file, if there is one.
    pub(crate) config: Option<PathBuf>,
    /// Where settings come from that are no defaults, by their paths.
    pub(crate) sources: BTreeMap<String, Source>,
    /// The settings, those of the environment included.
    pub(crate) settings: Settings,
    /// The store's URL.
    pub(crate) url: String,
    /// The tenant.
    pub(crate) tenant: TenantId,
    /// Whether nobody named the store: its folder is then this program's own to make.
    pub(crate) default_store: bool,
}

impl Places {
    /// The names of the variables that settings come from.
    pub(crate) fn variables(&self) -> Vec<&str> {
        let names = self.sources.values().filter_map(|source| match source {
            Source::Variable(name) => Some(name.as_str()),
            _ => None,
        });
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

impl App {
    /// An app over standard output.
    ///
    /// # Errors
    /// `Unsupported`: an option that this build does not have.
    pub(crate) fn new(mut global: Global, cancel: CancelFlag) -> Result<Self> {
        let output = Output::stdout(global.json, global.quiet);
        let environment = Environment::of_process();
        let metrics = Metrics::new(global.metrics.take(), global.otlp.take())?;
        Ok(Self { output, cancel, environment, metrics, global, clock: SystemClock::new() })
    }

    /// Whether what the command cost is asked for.
    pub(crate) fn tells_usage(&self) -> bool {
        self.global.usage
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Reads the settings and finds the store, without touching it.
    pub(crate) fn places(&self) -> Result<Places> {
        self.places_of(false)
    }

    /// As [`App::places`], for a command about Firestore whatever the store's URL is.
    #[cfg(feature = "firestore")]
    pub(crate) fn firestore_places(&self) -> Result<Places> {
        self.places_of(true)
    }

    fn places_of(&self, firestore: bool) -> Result<Places> {
        let config = self.config_file()?;
        let LoadedSettings { mut settings, sources, .. } = read_settings(config.as_deref())?;
        let of_file = |source| match source {
            SettingSource::Variable(name) => Source::Variable(name),
            _ => Source::File,
        };
        let sources = sources.into_iter().map(|(path, source)| (path, of_file(source)));
        let mut sources: BTreeMap<String, Source> = sources.collect();
        let tenant = match &self.global.tenant {
            Some(tenant) => TenantId::new(tenant)?,
            None => settings.tenant.clone(),
        };
        let named = self.global.store.clone().or_else(|| settings.store.clone());
        let default_store = named.is_none();
        let url = match named {
            Some(text) => url(&text)?,
            None => {
                let path = project()?.data_dir().join(STORE_FILE);
                format!("sqlite:{}", utf8(&path)?)
            }
        };
        let short = self.environment.apply(&mut settings, firestore || is_firestore(&url))?;
        for (name, path) in short {
            sources.insert(path.to_owned(), Source::Variable(name.to_owned()));
        }
        if let Some(cache) = self.global.cache.as_ref().filter(|cache| !cache.is_empty()) {
            const NAME: &str = "--cache or ORCHESTRA_MEMORY_CACHE";
            settings.cache = (cache != "none").then(|| cache.clone());
            settings.validate().map_err(|error| error.with_context("option", NAME))?;
            sources.insert("cache".to_owned(), Source::Option(NAME));
        }
        if self.global.store.is_some() {
            sources.insert("store".to_owned(), Source::Option("--store or ORCHESTRA_MEMORY_STORE"));
        }
        if self.global.tenant.is_some() {
            sources
                .insert("tenant".to_owned(), Source::Option("--tenant or ORCHESTRA_MEMORY_TENANT"));
        }
        Ok(Places { config, sources, settings, url, tenant, default_store })
    }

    /// The folder of the embedding model's files: a given one, or what the environment, the
    /// settings and the platform say. No settings are read where they do not matter.
    pub(crate) fn model_folder(&self, given: Option<&Path>) -> Result<PathBuf> {
        if let Some(folder) = given {
            return Ok(folder.to_owned());
        }
        if let Some(folder) = self.environment.model_folder() {
            return Ok(folder);
        }
        let settings = read_settings(self.config_file()?.as_deref())?.settings;
        settings.embedding.minilm.folder.or_else(model::default_folder).ok_or_else(|| {
            let message = "there is no cache folder to keep a model in: set --folder";
            Error::new(ErrorKind::Config, message).into()
        })
    }

    /// Opens the store.
    pub(crate) async fn open(&self, places: &Places, wants: Wants) -> Result<Memory> {
        let create = wants.create;
        if let Some(path) = file_of(&places.url)? {
            if !create && matches!(path.try_exists(), Ok(false)) {
                return Err(Failure::not_found(format!(
                    "there is no store at {} yet; `add` or `import` makes one",
                    path.display()
                )));
            }
            if let Some(folder) = path.parent().filter(|_| create && places.default_store) {
                fs::create_dir_all(folder)
                    .map_err(|error| Failure::file("cannot make the data folder", error))?;
            }
        }
        let mut settings = places.settings.clone();
        if !wants.embedder {
            settings.embedding.provider = Some(Provider::None);
        }
        let builder = Memory::builder().settings(settings).url(&places.url);
        Ok(self.metrics.of(builder).open().await?)
    }

    fn config_file(&self) -> Result<Option<PathBuf>> {
        if let Some(path) = &self.global.config {
            return Ok(Some(path.clone()));
        }
        // A machine without a home has no settings file either, and needs none.
        let Some(project) = ProjectDirs::from("", "", FOLDER) else { return Ok(None) };
        let path = project.config_dir().join(CONFIG_FILE);
        Ok(matches!(path.try_exists(), Ok(true)).then_some(path))
    }
}

fn project() -> Result<ProjectDirs> {
    ProjectDirs::from("", "", FOLDER).ok_or_else(|| {
        Error::new(ErrorKind::Config, "there is no home folder to keep a store in: set --store")
            .into()
    })
}

/// The settings of a file, and over them the variables that are named by a setting's path.
fn read_settings(path: Option<&Path>) -> Result<LoadedSettings> {
    let Some(path) = path else { return Ok(Settings::load("", std::env::vars_os())?) };
    let text = fs::read_to_string(path).map_err(|error| {
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            _ => ErrorKind::Config,
        };
        Error::new(kind, format!("cannot read the settings file {}: {error}", path.display()))
    })?;
    Ok(Settings::load(&text, std::env::vars_os())
        .map_err(|error| error.with_context("file", path.display().to_string()))?)
}

/// The URL that a text means: itself if it begins with a scheme, else a file.
///
/// A scheme has two characters or more, so that a drive letter is none.
fn url(text: &str) -> Result<String> {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    if is_scheme {
        return Ok(text.to_owned());
    }
    if text.is_empty() {
        return Err(Error::new(ErrorKind::Config, "the store's URL is empty").into());
    }
    if text.contains('?') {
        let message = "a path with a question mark cannot be told from a URL's options: \
                       write sqlite:PATH?mode=ro, or choose another name";
        return Err(Error::new(ErrorKind::Config, message).into());
    }
    Ok(format!("sqlite:{text}"))
}

/// The file of a store that is one.
fn file_of(url: &str) -> Result<Option<PathBuf>> {
    let url = StoreUrl::parse(url)?;
    let rest = url.rest();
    let path = rest.strip_prefix("//").unwrap_or(rest);
    Ok((url.scheme() == "sqlite" && !["", ":memory:"].contains(&path)).then(|| PathBuf::from(path)))
}

/// Whether the store is one on Cloud Firestore.
pub(crate) fn is_firestore(url: &str) -> bool {
    StoreUrl::parse(url).is_ok_and(|url| url.scheme() == "firestore")
}

/// Whether the store is one on Redis.
pub(crate) fn is_redis(url: &str) -> bool {
    StoreUrl::parse(url).is_ok_and(|url| ["redis", "rediss"].contains(&url.scheme()))
}

/// A store as it may be shown: a file's path, a project and a database, or the scheme alone, for
/// the rest of a URL may hold a password.
pub(crate) fn shown(url: &str) -> String {
    match (file_of(url), StoreUrl::parse(url)) {
        (Ok(Some(path)), _) => path.display().to_string(),
        (_, Ok(parsed)) if parsed.scheme() == "firestore" => human::one_line(url),
        (_, Ok(url)) => format!("{}:", url.scheme()),
        _ => String::new(),
    }
}

/// A path as text.
pub(crate) fn utf8(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Failure::usage("the path is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_urls_and_urls_stay() {
        for (text, expected) in [
            ("memory.db", "sqlite:memory.db"),
            ("/a b/memory.db", "sqlite:/a b/memory.db"),
            ("./odd:name.db", "sqlite:./odd:name.db"),
            ("C:\\memory.db", "sqlite:C:\\memory.db"),
            ("sqlite:x.db?mode=ro", "sqlite:x.db?mode=ro"),
            ("memory:", "memory:"),
        ] {
            assert_eq!(url(text).unwrap(), expected);
        }
        assert_eq!(url("").unwrap_err().exit_code(), 9);
        assert_eq!(url("a?b").unwrap_err().exit_code(), 9);
    }

    #[test]
    fn only_files_are_shown_in_full() {
        assert_eq!(shown("sqlite:/a/memory.db?mode=ro"), "/a/memory.db");
        assert_eq!(shown("redis://user:secret@host"), "redis:");
        assert_eq!(shown("memory:"), "memory:");
        assert_eq!(shown("firestore://p/d?prefix=x"), "firestore://p/d?prefix=x");
        assert!(is_redis("rediss://h") && !is_redis("sqlite:redis"));
        assert!(is_firestore("firestore://p") && !is_firestore("sqlite:firestore"));
        assert_eq!(file_of("sqlite:///a.db").unwrap(), Some(PathBuf::from("/a.db")));
    }

    #[test]
    fn a_settings_file_that_is_named_must_be_there() {
        let error = read_settings(Some(Path::new("no/such/file.toml"))).unwrap_err();
        assert_eq!(error.exit_code(), 9);
    }
}

//! Settings from the environment: for where files do not suit, as with secrets and containers.
//! A variable that is set to the empty text counts as not set.

use std::ffi::OsString;
use std::path::PathBuf;

use orchestra_memory::{Error, ErrorKind, Provider, Secret, Settings};

use crate::failure::Result;

/// The folder of the embedding model's files.
const MODEL_DIR: &str = "ORCHESTRA_MEMORY_MODEL_DIR";
/// A mirror of the hub that the model's files come from.
const MODEL_HUB: &str = "ORCHESTRA_MEMORY_MODEL_HUB";
/// What makes vectors.
const PROVIDER: &str = "ORCHESTRA_MEMORY_EMBEDDING_PROVIDER";
/// The key for the provider `http`.
const API_KEY: &str = "ORCHESTRA_MEMORY_EMBEDDING_API_KEY";

/// The address of a Firestore emulator, as Google's own tools have it.
#[cfg(feature = "firestore")]
const EMULATOR: &str = "FIRESTORE_EMULATOR_HOST";

/// A variable with a short name, and the setting that it stands for.
type Short = (&'static str, &'static str);

/// The environment, as far as it is looked at here.
#[derive(Clone, Copy)]
pub(crate) struct Environment(fn(&str) -> Option<OsString>);

impl Environment {
    /// That of the process.
    pub(crate) fn of_process() -> Self {
        Self(|name| std::env::var_os(name))
    }

    /// The folder of the model's files, if it is named.
    pub(crate) fn model_folder(self) -> Option<PathBuf> {
        self.value(MODEL_DIR).map(PathBuf::from)
    }

    /// The URL of a mirror of the model's hub, if it is named.
    ///
    /// # Errors
    /// `Config`: it is no text.
    pub(crate) fn model_hub(self) -> Result<Option<String>> {
        self.text(MODEL_HUB)
    }

    /// Puts the variables with short names into the settings, over those named by path, and gives
    /// the names of those that were set. The address of an emulator counts only where Firestore is meant.
    ///
    /// # Errors
    /// `Config`: a value that is none, or one that does not go with the other settings.
    pub(crate) fn apply(
        self,
        settings: &mut Settings,
        #[cfg_attr(not(feature = "firestore"), expect(unused_variables, reason = "no such store"))]
        firestore: bool,
    ) -> Result<Vec<Short>> {
        let mut used: Vec<Short> = Vec::new();
        let embedding = &mut settings.embedding;
        if let Some(folder) = self.model_folder() {
            embedding.minilm.folder = Some(folder);
            used.push((MODEL_DIR, "embedding.minilm.folder"));
        }
        if let Some(name) = self.text(PROVIDER)? {
            embedding.provider = Some(provider(&name)?);
            used.push((PROVIDER, "embedding.provider"));
        }
        if let Some(key) = self.text(API_KEY)? {
            embedding.http.api_key = Some(Secret::new(key));
            used.push((API_KEY, "embedding.http.api_key"));
        }
        #[cfg(feature = "firestore")]
        if firestore && let Some(address) = self.text(EMULATOR)? {
            settings.firestore.emulator = Some(address);
            used.push((EMULATOR, "firestore.emulator"));
        }
        if !used.is_empty() {
            let names: Vec<&str> = used.iter().map(|(name, _)| *name).collect();
            settings
                .validate()
                .map_err(|error| error.with_context("environment", names.join(", ")))?;
        }
        Ok(used)
    }

    fn value(self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(self, name: &str) -> Result<Option<String>> {
        let text = self.value(name).map(OsString::into_string).transpose();
        Ok(text.map_err(|_| config(format!("the variable {name} is not UTF-8")))?)
    }
}

fn provider(name: &str) -> Result<Provider> {
    let all = [Provider::Auto, Provider::None, Provider::MiniLm, Provider::Http];
    let found = all.into_iter().find(|provider| provider.name() == name);
    Ok(found.ok_or_else(|| {
        let names = all.map(Provider::name).join(", ");
        config(format!("the variable {PROVIDER} is one of {names}"))
    })?)
}

fn config(message: String) -> Error {
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(lookup: fn(&str) -> Option<OsString>, toml: &str) -> Result<(Settings, usize)> {
        let mut settings = Settings::from_toml_str(toml).unwrap();
        let used = Environment(lookup).apply(&mut settings, true)?;
        Ok((settings, used.len()))
    }

    #[test]
    fn variables_beat_the_settings() {
        let toml = "[embedding]\nprovider = 'none'\nminilm.folder = 'a'\nhttp.api_key = 'b'\n";
        let (settings, used) = applied(
            |name| {
                Some(OsString::from(match name {
                    PROVIDER => "minilm",
                    MODEL_DIR => "folder",
                    API_KEY => "sk-secret",
                    _ => return None,
                }))
            },
            toml,
        )
        .unwrap();
        assert_eq!((settings.embedding.chosen_provider(), used), (Provider::MiniLm, 3));
        assert_eq!(settings.embedding.minilm.folder, Some(PathBuf::from("folder")));
        assert_eq!(settings.embedding.http.api_key.unwrap().expose(), "sk-secret");
        for unset in [|_: &str| None, |_: &str| Some(OsString::new())] {
            let (settings, used) = applied(unset, toml).unwrap();
            assert_eq!((settings.embedding.chosen_provider(), used), (Provider::None, 0));
            assert_eq!(settings.embedding.minilm.folder, Some(PathBuf::from("a")));
        }
    }

    #[test]
    fn values_that_are_none_are_refused_without_being_repeated() {
        let wrong = |name: &str| (name == PROVIDER).then(|| OsString::from("sk-secret"));
        let failure = applied(wrong, "").unwrap_err();
        assert_eq!(failure.exit_code(), 9);
        let text = failure.to_text();
        assert!(text.contains("auto, none, minilm, http") && !text.contains("secret"), "{text}");
        let alone = |name: &str| (name == PROVIDER).then(|| OsString::from("http"));
        let text = applied(alone, "").unwrap_err().to_text();
        assert!(text.contains("needs `model`") && text.contains(PROVIDER), "{text}");
    }

    #[test]
    #[cfg(feature = "firestore")]
    fn the_emulators_address_is_one() {
        let named = |name: &str| (name == EMULATOR).then(|| OsString::from("localhost:8080"));
        let (settings, used) = applied(named, "[firestore]\nemulator = 'other:1'\n").unwrap();
        assert_eq!((settings.firestore.emulator.as_deref(), used), (Some("localhost:8080"), 1));
        let bad = |name: &str| (name == EMULATOR).then(|| OsString::from("http://localhost"));
        let text = applied(bad, "").unwrap_err().to_text();
        assert!(text.contains("HOST:PORT") && text.contains(EMULATOR), "{text}");
        let mut elsewhere = Settings::default();
        let used = Environment(bad).apply(&mut elsewhere, false).unwrap();
        assert!(used.is_empty() && elsewhere.firestore.emulator.is_none(), "another store's");
    }

    #[test]
    #[cfg(unix)]
    fn a_value_that_is_no_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let bad = |name: &str| (name == API_KEY).then(|| OsString::from_vec(vec![0xff]));
        assert_eq!(applied(bad, "").unwrap_err().exit_code(), 9);
    }
}

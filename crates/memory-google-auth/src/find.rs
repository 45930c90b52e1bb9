//! The order of places in which credentials are looked for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memory_core::traits::CredentialProvider;
use memory_core::{Clock, Error, ErrorKind, Result};

use crate::crypto::{http_client, install_crypto};
use crate::document::{Document, DocumentKind};
use crate::emulator::EmulatorCredentials;
use crate::environment::{Environment, set};
use crate::live::Source;
use crate::provider::GoogleCredentials;
use crate::settings::{CredentialChoice, GoogleAuthSettings};
use crate::{BACKEND, metadata, shown};

/// The variable that names the file of application default credentials.
const FILE_VARIABLE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// The variable that names gcloud's folder, where it is not the usual one.
const FOLDER_VARIABLE: &str = "CLOUDSDK_CONFIG";
/// The file that `gcloud auth application-default login` writes.
const GCLOUD_FILE: &str = "application_default_credentials.json";
/// The variable that names the project that quota counts for.
const QUOTA_VARIABLE: &str = "GOOGLE_CLOUD_QUOTA_PROJECT";

/// Where credentials were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The file of the setting `key_file`.
    KeyFile,
    /// The variable that the setting `key_variable` names.
    KeyVariable,
    /// The file that `GOOGLE_APPLICATION_CREDENTIALS` names.
    ApplicationDefault,
    /// The file that `gcloud auth application-default login` writes.
    GcloudFile,
    /// The metadata server.
    Metadata,
    /// The file of the setting `workload_identity_file`.
    WorkloadIdentity,
    /// Nowhere: the token that emulators take.
    Emulator,
}

impl Place {
    /// In words, as messages have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyFile => "the key file of the settings",
            Self::KeyVariable => "the key in the environment",
            Self::ApplicationDefault => "the file that GOOGLE_APPLICATION_CREDENTIALS names",
            Self::GcloudFile => "the application default credentials of gcloud",
            Self::Metadata => "the metadata server",
            Self::WorkloadIdentity => "the workload identity file of the settings",
            Self::Emulator => "the settings (none, for an emulator)",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Credentials and where they are from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Located {
    /// Gives the tokens.
    pub provider: Arc<dyn CredentialProvider>,
    /// Where the credentials were found.
    pub place: Place,
    /// The project that quota and cost count for, if one is named: by the settings, by
    /// `GOOGLE_CLOUD_QUOTA_PROJECT`, or by the file of the credentials. A client sends it in the
    /// header [`QUOTA_PROJECT_HEADER`](crate::QUOTA_PROJECT_HEADER).
    pub quota_project: Option<String>,
}

/// Finds credentials, as [`locate`] does, and gives the provider alone.
///
/// # Errors
/// As [`locate`].
///
/// # Cancellation
/// As [`locate`].
pub async fn find(
    settings: &GoogleAuthSettings,
    environment: &dyn Environment,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn CredentialProvider>> {
    Ok(locate(settings, environment, clock).await?.provider)
}

/// Finds credentials. With an explicit choice its place alone is looked at; with `auto`, in order:
///
/// 1. the file of `key_file`;
/// 2. the variable that `key_variable` names;
/// 3. the file that `GOOGLE_APPLICATION_CREDENTIALS` names;
/// 4. `application_default_credentials.json` in gcloud's folder;
/// 5. the metadata server;
/// 6. the file of `workload_identity_file`.
///
/// A place that is not set, or gcloud's file or a metadata server that is not there, is passed. A
/// place that is set and cannot be used ends the search with an error. A file or variable may hold
/// any kind of credentials, save that a workload identity file is of an external account.
///
/// Files are read here, once, and a metadata server is asked for the name of its account; no token
/// is fetched. The provider needs no runtime of the caller's: it fetches on a thread of its own,
/// which it has from the first token on until it is dropped.
///
/// Its tokens are kept and fetched anew four minutes before they end. While the issuer fails for
/// all of these, the old token is given out until its end; that is the one time when it may be
/// valid for less than a minute. One request is under way for a set of scopes, however many callers
/// wait. A failure is repeated without asking again for 1 s if it may pass, otherwise for 10 s.
///
/// # Errors
/// `Config`: the settings are wrong; nothing was found, or what is set cannot be used (the message
/// lists what was tried, in order, and why each did not serve); the system has no certificates for
/// TLS.
///
/// # Cancellation
/// Dropping the future ends the search; nothing is left behind but, for its own time, a look-up
/// of the metadata server's name.
pub async fn locate(
    settings: &GoogleAuthSettings,
    environment: &dyn Environment,
    clock: Arc<dyn Clock>,
) -> Result<Located> {
    settings.validate()?;
    let mut quota_project = quota_project(settings, environment)?;
    if settings.credentials == CredentialChoice::Emulator {
        let provider = Arc::new(EmulatorCredentials::new());
        return Ok(Located { provider, place: Place::Emulator, quota_project });
    }
    install_crypto();
    let (place, source) = Search { settings, environment, tried: Vec::new() }.run().await?;
    if let Source::Document(document) = &source {
        quota_project = quota_project.or_else(|| document.quota_project().map(str::to_owned));
        if !document.is_self_signed() {
            http_client()?;
        }
    }
    tracing::debug!(place = place.name(), "credentials of Google found");
    let provider =
        GoogleCredentials::new(source, place.name().to_owned(), settings.timeout(), clock);
    Ok(Located { provider: Arc::new(provider), place, quota_project })
}

fn quota_project(
    settings: &GoogleAuthSettings,
    environment: &dyn Environment,
) -> Result<Option<String>> {
    if settings.quota_project.is_some() {
        return Ok(settings.quota_project.clone());
    }
    match set(environment, QUOTA_VARIABLE) {
        None => Ok(None),
        Some(value) => match value.into_string() {
            Ok(id) if shown::is_project(&id) => Ok(Some(id)),
            _ => Err(config(
                "GOOGLE_CLOUD_QUOTA_PROJECT is the id of a project; unset or correct it",
            )),
        },
    }
}

/// What a place has.
enum Answer {
    Here(Document),
    /// It is not set, or not there: the next one may be tried.
    Absent(String),
    /// It is set and cannot be used.
    Broken(String),
}

/// A search, and what it has tried.
struct Search<'a> {
    settings: &'a GoogleAuthSettings,
    environment: &'a dyn Environment,
    tried: Vec<String>,
}

impl Search<'_> {
    async fn run(mut self) -> Result<(Place, Source)> {
        let choice = self.settings.credentials;
        let wants = |other: CredentialChoice| choice == other || choice == CredentialChoice::Auto;
        if wants(CredentialChoice::KeyFile) {
            let answer = self.key_file();
            if let Some(found) = self.take(Place::KeyFile, answer)? {
                return Ok(found);
            }
        }
        if wants(CredentialChoice::KeyEnv) {
            let answer = self.key_variable();
            if let Some(found) = self.take(Place::KeyVariable, answer)? {
                return Ok(found);
            }
        }
        if wants(CredentialChoice::ApplicationDefault) {
            let answer = self.application_default();
            if let Some(found) = self.take(Place::ApplicationDefault, answer)? {
                return Ok(found);
            }
            let answer = self.gcloud_file();
            if let Some(found) = self.take(Place::GcloudFile, answer)? {
                return Ok(found);
            }
        }
        if wants(CredentialChoice::Metadata)
            && let Some(host) = self.metadata().await?
        {
            return Ok((Place::Metadata, Source::Metadata(host)));
        }
        if wants(CredentialChoice::WorkloadIdentity) {
            let answer = self.workload_identity();
            if let Some(found) = self.take(Place::WorkloadIdentity, answer)? {
                return Ok(found);
            }
        }
        Err(self.nothing())
    }

    /// Takes what a place has, notes why it has nothing, or ends the search.
    fn take(&mut self, place: Place, answer: Answer) -> Result<Option<(Place, Source)>> {
        let why = match answer {
            Answer::Here(document) => {
                let source = Source::Document(Box::new(document));
                match source.check() {
                    Ok(()) => return Ok(Some((place, source))),
                    Err(why) => why,
                }
            }
            Answer::Absent(why) => {
                self.note(place.name(), &why);
                return Ok(None);
            }
            Answer::Broken(why) => why,
        };
        self.note(place.name(), &why);
        Err(self.unusable(place))
    }

    /// The end of a search at a place that is set and cannot be used.
    fn unusable(&self, place: Place) -> Error {
        config(format!(
            "the credentials of Google in {place} cannot be used. Tried, in order: {}. Nothing \
             after it was tried, for what is set is not passed over: correct it, or take it away",
            self.tried.join("; ")
        ))
    }

    fn note(&mut self, place: &str, why: &str) {
        let number = self.tried.len() + 1;
        self.tried.push(format!("({number}) {place}: {why}"));
    }

    fn nothing(&self) -> Error {
        let tried = self.tried.join("; ");
        let choice = self.settings.credentials;
        config(if choice == CredentialChoice::Auto {
            format!(
                "no credentials of Google were found. Tried, in order: {tried}. Set one of them, \
                 run `gcloud auth application-default login`, or set credentials = \"none\" for \
                 an emulator"
            )
        } else {
            format!(
                "no credentials of Google were found. Tried, as credentials = \"{}\" says: \
                 {tried}. Nothing else was tried",
                choice.name()
            )
        })
    }

    fn key_file(&self) -> Answer {
        match &self.settings.key_file {
            None => Answer::Absent("`key_file` is not set".to_owned()),
            Some(path) => read(path),
        }
    }

    fn key_variable(&self) -> Answer {
        let name = &self.settings.key_variable;
        match set(self.environment, name) {
            None => Answer::Absent(format!("{name} is not set")),
            Some(json) => match json.to_str().map(str::as_bytes).map(Document::parse) {
                Some(Ok(document)) => Answer::Here(document),
                Some(Err(why)) => Answer::Broken(format!("{name} is set, but {why}")),
                None => Answer::Broken(format!("{name} is set, but it is not UTF-8")),
            },
        }
    }

    fn application_default(&self) -> Answer {
        match set(self.environment, FILE_VARIABLE) {
            None => Answer::Absent("the variable is not set".to_owned()),
            Some(path) => read(Path::new(&path)),
        }
    }

    fn gcloud_file(&self) -> Answer {
        let Some(folder) = self.gcloud_folder() else {
            return Answer::Absent("there is no home folder to look in".to_owned());
        };
        let path = folder.join(GCLOUD_FILE);
        match Document::read(&path) {
            Ok(Some(document)) => Answer::Here(document),
            Ok(None) => Answer::Absent(format!("{} does not exist", shown::path(&path))),
            Err(why) => Answer::Broken(format!("{}: {why}", shown::path(&path))),
        }
    }

    fn gcloud_folder(&self) -> Option<PathBuf> {
        if let Some(folder) = set(self.environment, FOLDER_VARIABLE) {
            return Some(PathBuf::from(folder));
        }
        if cfg!(windows) {
            return set(self.environment, "APPDATA").map(|data| Path::new(&data).join("gcloud"));
        }
        self.environment.home().map(|home| home.join(".config").join("gcloud"))
    }

    /// The host of a metadata server that is there.
    async fn metadata(&mut self) -> Result<Option<String>> {
        let host = match metadata::host(self.settings, self.environment) {
            Ok(host) => host,
            Err(error) => {
                self.note(Place::Metadata.name(), error.message());
                return Err(self.unusable(Place::Metadata));
            }
        };
        let client = match http_client() {
            Ok(client) => client,
            Err(error) => {
                self.note(&format!("{} at {host}", Place::Metadata), error.message());
                return Ok(None);
            }
        };
        match metadata::probe(client, &host, self.settings.probe_timeout()).await {
            Ok(()) => Ok(Some(host)),
            Err(why) => {
                self.note(&format!("{} at {host}", Place::Metadata), &why);
                Ok(None)
            }
        }
    }

    fn workload_identity(&self) -> Answer {
        match &self.settings.workload_identity_file {
            None => Answer::Absent("`workload_identity_file` is not set".to_owned()),
            Some(path) => match read(path) {
                Answer::Here(document) if document.kind != DocumentKind::ExternalAccount => {
                    Answer::Broken(format!(
                        "its `type` is {}, not external_account; such a file is named by \
                         `key_file`",
                        document.kind.name()
                    ))
                }
                other => other,
            },
        }
    }
}

/// Reads a file that somebody named, which therefore has to be there.
fn read(path: &Path) -> Answer {
    match Document::read(path) {
        Ok(Some(document)) => Answer::Here(document),
        Ok(None) => Answer::Broken(format!("{} does not exist", shown::path(path))),
        Err(why) => Answer::Broken(format!("{}: {why}", shown::path(path))),
    }
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_backend(BACKEND).with_operation("open")
}

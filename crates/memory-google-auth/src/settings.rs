//! Which credentials are wanted: data, every bound with its default and the reason for it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use memory_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::{BACKEND, shown};

/// The variable in which the JSON of a key is looked for, unless the settings name another.
pub const DEFAULT_KEY_VARIABLE: &str = "ORCHESTRA_GOOGLE_KEY";

/// Which credentials are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum CredentialChoice {
    /// `auto`: the first of the order that is there. What is set and cannot be used fails.
    #[default]
    Auto,
    /// `key_file`: the file that [`GoogleAuthSettings::key_file`] names.
    KeyFile,
    /// `key_env`: the JSON in the variable that [`GoogleAuthSettings::key_variable`] names.
    KeyEnv,
    /// `application_default`: the file that `GOOGLE_APPLICATION_CREDENTIALS` names, or else the one
    /// that `gcloud auth application-default login` writes.
    ApplicationDefault,
    /// `metadata`: the metadata server of the machine, container or function.
    Metadata,
    /// `workload_identity`: the file that [`GoogleAuthSettings::workload_identity_file`] names.
    WorkloadIdentity,
    /// `none`: none; the token that emulators take.
    Emulator,
}

impl CredentialChoice {
    const ALL: [Self; 7] = [
        Self::Auto,
        Self::KeyFile,
        Self::KeyEnv,
        Self::ApplicationDefault,
        Self::Metadata,
        Self::WorkloadIdentity,
        Self::Emulator,
    ];

    /// The name in the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::KeyFile => "key_file",
            Self::KeyEnv => "key_env",
            Self::ApplicationDefault => "application_default",
            Self::Metadata => "metadata",
            Self::WorkloadIdentity => "workload_identity",
            Self::Emulator => "none",
        }
    }
}

impl TryFrom<String> for CredentialChoice {
    type Error = Error;

    /// # Errors
    /// `Config`: no such name. The name is not repeated.
    fn try_from(name: String) -> Result<Self> {
        Self::ALL.into_iter().find(|choice| choice.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            config(format!("`credentials` is one of {names}"))
        })
    }
}

impl From<CredentialChoice> for String {
    fn from(choice: CredentialChoice) -> Self {
        choice.name().to_owned()
    }
}

/// Where credentials come from. No field holds a secret; a secret that was put into one by mistake
/// is shown neither by `Debug` nor by an error.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct GoogleAuthSettings {
    /// Which credentials are wanted. `auto`.
    pub credentials: CredentialChoice,
    /// The file of a key: JSON of a service account, a user, an impersonated service account or
    /// an external account. Only with `auto` and `key_file`. Unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// The NAME of an environment variable that holds the JSON of a key, as in a file.
    /// [`DEFAULT_KEY_VARIABLE`].
    pub key_variable: String,
    /// The file of an external account (workload identity federation). Only with `auto`, which
    /// comes to it last, and `workload_identity`. Unset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity_file: Option<PathBuf>,
    /// `HOST` or `HOST:PORT` of the metadata server. Unset: what `GCE_METADATA_HOST` says, or else
    /// `metadata.google.internal`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_host: Option<String>,
    /// The project that quota and cost count for, if it is not that of the credentials. Unset: what
    /// `GOOGLE_CLOUD_QUOTA_PROJECT` says, or else the file of the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota_project: Option<String>,
    /// How long opening waits to see whether there is a metadata server, in milliseconds: 10 to
    /// 60,000. 1,000: it is on the same machine and answers in a few; elsewhere its name is often
    /// not found only after seconds.
    pub probe_timeout_ms: u64,
    /// How long a call waits for a token that has to be fetched, in milliseconds: 100 to 300,000.
    /// 10,000: issuers answer in less than one second, and impersonation takes two requests.
    pub timeout_ms: u64,
}

impl Default for GoogleAuthSettings {
    fn default() -> Self {
        Self {
            credentials: CredentialChoice::Auto,
            key_file: None,
            key_variable: DEFAULT_KEY_VARIABLE.to_owned(),
            workload_identity_file: None,
            metadata_host: None,
            quota_project: None,
            probe_timeout_ms: 1_000,
            timeout_ms: 10_000,
        }
    }
}

impl GoogleAuthSettings {
    /// Checks every field and that they agree. No file, variable or server is looked at.
    ///
    /// # Errors
    /// `Config`, naming all that is wrong at once; never a value.
    pub fn validate(&self) -> Result<()> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(config(faults.join("; "))) }
    }

    /// All that is wrong, one sentence each; never a value.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut check = |right: bool, fault: &'static str| {
            if !right {
                faults.push(fault.to_owned());
            }
        };
        let choice = self.credentials;
        let auto = choice == CredentialChoice::Auto;
        let key_file = choice == CredentialChoice::KeyFile;
        check(
            !key_file || self.key_file.is_some(),
            "credentials = \"key_file\" needs `key_file`, the path of the file",
        );
        check(
            self.key_file.is_none() || auto || key_file,
            "`key_file` would not be used: leave it out, or set credentials = \"key_file\"",
        );
        let workload = choice == CredentialChoice::WorkloadIdentity;
        check(
            !workload || self.workload_identity_file.is_some(),
            "credentials = \"workload_identity\" needs `workload_identity_file`, the path of the \
             file",
        );
        check(
            self.workload_identity_file.is_none() || auto || workload,
            "`workload_identity_file` would not be used: leave it out, or set credentials = \
             \"workload_identity\"",
        );
        let empty =
            |path: &Option<PathBuf>| path.as_ref().is_some_and(|p| p.as_os_str().is_empty());
        check(!empty(&self.key_file), "`key_file` is empty");
        check(!empty(&self.workload_identity_file), "`workload_identity_file` is empty");
        check(
            shown::is_variable_name(&self.key_variable),
            "`key_variable` is the name of an environment variable (letters, digits and _), not \
             the key itself",
        );
        check(
            self.metadata_host.as_deref().is_none_or(shown::is_host),
            "`metadata_host` is HOST or HOST:PORT",
        );
        check(
            self.quota_project.as_deref().is_none_or(shown::is_project),
            "`quota_project` is the id of a project",
        );
        check((10..=60_000).contains(&self.probe_timeout_ms), "`probe_timeout_ms` is 10 to 60,000");
        check((100..=300_000).contains(&self.timeout_ms), "`timeout_ms` is 100 to 300,000");
        faults
    }

    pub(crate) fn probe_timeout(&self) -> Duration {
        Duration::from_millis(self.probe_timeout_ms)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

impl fmt::Debug for GoogleAuthSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |text: &str, right: fn(&str) -> bool| {
            if right(text) { text.to_owned() } else { "(not shown: it is not valid)".to_owned() }
        };
        let path = |path: &Option<PathBuf>| path.as_deref().map(shown::path);
        let host = self.metadata_host.as_deref().map(|host| text(host, shown::is_host));
        let project = self.quota_project.as_deref().map(|id| text(id, shown::is_project));
        f.debug_struct("GoogleAuthSettings")
            .field("credentials", &self.credentials)
            .field("key_file", &path(&self.key_file))
            .field("key_variable", &text(&self.key_variable, shown::is_variable_name))
            .field("workload_identity_file", &path(&self.workload_identity_file))
            .field("metadata_host", &host)
            .field("quota_project", &project)
            .field("probe_timeout_ms", &self.probe_timeout_ms)
            .field("timeout_ms", &self.timeout_ms)
            .finish()
    }
}

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message).with_backend(BACKEND).with_operation("open")
}

//! The environment as an injected component, so that a test has one of its own.

use std::ffi::OsString;
use std::fmt::Debug;
use std::path::PathBuf;

/// Environment variables and the home folder.
pub trait Environment: Send + Sync + Debug {
    /// The value of a variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The user's home folder, if there is one.
    fn home(&self) -> Option<PathBuf>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty())
    }
}

/// A variable's value; one that is empty counts as not set, for that is how a variable is taken
/// back for one command.
pub(crate) fn set(environment: &dyn Environment, name: &str) -> Option<OsString> {
    environment.variable(name).filter(|value| !value.is_empty())
}

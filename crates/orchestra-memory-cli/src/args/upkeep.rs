//! Arguments of what an operator does, and of `completions`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};
use clap_complete::Shell;

/// Arguments of `erase`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("whose").args(["user", "all_of_tenant"]).required(true))]
pub(crate) struct Erase {
    /// All of one user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// All of the tenant that --tenant names
    #[arg(long)]
    pub(crate) all_of_tenant: bool,
    /// Do not ask; needed where nobody can answer
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Read every memory of the store to check it, also where each read is billed
    ///
    /// Stores that bill nothing are always checked.
    #[arg(long)]
    pub(crate) verify: bool,
}

/// Arguments of `settings`.
#[derive(Debug, Args)]
pub(crate) struct ShowSettings {
    /// Only what is no default
    #[arg(long)]
    pub(crate) changed: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The new file; must not exist
    #[arg(value_name = "TARGET", value_hint = ValueHint::FilePath)]
    pub(crate) target: PathBuf,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: Shell,
}

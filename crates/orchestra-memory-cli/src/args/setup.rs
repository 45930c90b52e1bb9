//! Arguments of `setup`.

use clap::{Args, Subcommand, ValueEnum};

/// Arguments of `setup`.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true)]
pub(crate) struct Setup {
    #[command(subcommand)]
    pub(crate) command: SetupCommand,
}

/// Which store.
#[derive(Debug, Subcommand)]
pub(crate) enum SetupCommand {
    /// Print the index definitions of Cloud Firestore, by the settings and the store's URL
    Firestore(SetupFirestore),
}

/// Arguments of `setup firestore`.
#[derive(Debug, Args)]
pub(crate) struct SetupFirestore {
    /// What to print
    #[arg(long, value_enum, default_value_t = SetupFormat::Both)]
    pub(crate) format: SetupFormat,
    /// An embedding space to index beside the one that the settings name; can be repeated
    ///
    /// As `doctor` shows it: 384/cosine/MODEL@REVISION.
    #[arg(long = "space", value_name = "SPACE")]
    pub(crate) spaces: Vec<String>,
    /// Print nothing of that, but give the store's memories the filter keys of the settings
    ///
    /// For a store that has memories already and a key that was declared since. Every memory is
    /// read, and each that lacks a key is written. Run it when every other process has ended.
    #[arg(long, conflicts_with_all = ["format", "spaces"])]
    pub(crate) declare_keys: bool,
}

/// What `setup firestore` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SetupFormat {
    /// The file firestore.indexes.json, for the Firebase tools
    Json,
    /// Commands of gcloud, one a line
    Gcloud,
    /// Both
    Both,
}

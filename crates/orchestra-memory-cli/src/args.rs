//! The command line: what can be written, and the help that says so.
//!
//! | file | arguments of |
//! |---|---|
//! | `writing` | `add`, `update`, `delete` |
//! | `reading` | `get`, `list`, `history`, `search` |
//! | `transfer` | `import`, `export` |
//! | `vectors` | `embed`, `reembed`, `model` |
//! | `setup` | `setup` |
//! | `upkeep` | `erase`, `doctor`, `settings`, `backup`, `completions` |

mod reading;
mod setup;
mod transfer;
mod upkeep;
mod vectors;
mod writing;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

pub(crate) use reading::{Arm, End, Get, List, Scope, Search};
#[cfg(feature = "firestore")]
pub(crate) use setup::SetupFormat;
pub(crate) use setup::{Setup, SetupCommand, SetupFirestore};
pub(crate) use transfer::{Export, Format, Import};
pub(crate) use upkeep::{Backup, Completions, Doctor, Erase, ShowSettings};
pub(crate) use vectors::{Embed, Model, ModelCommand, ModelPull, ModelStatus, Reembed};
pub(crate) use writing::{Add, Clearable, Delete, IfExists, Update};

const AFTER_HELP: &str = "\
Environment, beside the variables of the options:
  ORCHESTRA_MEMORY_MODEL_DIR           the folder of the embedding model's files
  ORCHESTRA_MEMORY_EMBEDDING_PROVIDER  what makes vectors: auto, none, minilm, http
  ORCHESTRA_MEMORY_EMBEDDING_API_KEY   the key for the provider `http`
  ORCHESTRA_MEMORY__SECTION__KEY       any setting, by its path in the settings file
  FIRESTORE_EMULATOR_HOST              HOST:PORT of a Firestore emulator, asked in place of the service

Exit codes:
  0  done                      6  unavailable, locked, overloaded, timed out
  1  unexpected fault          7  the store or the model is damaged, or is none
  2  invalid input or usage    8  unsupported, or made by a newer version
  3  not found                 9  wrong settings
  4  conflict, already exists  10  some of the input was refused, the rest was not
  5  permission denied         130  interrupted

With --json each result is one object a line on standard output, and an error is one object on
standard error: {\"error\": {\"kind\", \"message\", \"retryable\", \"outcome\", ...}}.";

/// A memory for AI agents.
///
/// Keeps what was said and learnt, and finds it again by meaning, words, people and time.
#[derive(Debug, Parser)]
#[command(name = "orchestra-memory", version, max_term_width = 100, after_help = AFTER_HELP)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The store: a URL such as `sqlite:memory.db`, or a path, which is taken as one
    ///
    /// `firestore://PROJECT/DATABASE` is one on Cloud Firestore and `redis://HOST:PORT/DATABASE` one
    /// on Redis, if the program was built with them.
    /// Without it the settings decide, and without them it is `memory.db` in the platform's data
    /// folder.
    #[arg(long, global = true, value_name = "URL", env = "ORCHESTRA_MEMORY_STORE")]
    #[arg(hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// A cache before the store: `redis://HOST:PORT/DATABASE`, or `none`
    ///
    /// Only in a build with the feature `redis`. Without it the settings decide, and without them
    /// there is none.
    #[arg(long, global = true, value_name = "URL", env = "ORCHESTRA_MEMORY_CACHE")]
    #[arg(hide_env_values = true)]
    pub(crate) cache: Option<String>,
    /// Whose memory it is; nothing crosses from one tenant to another
    ///
    /// Without it the settings decide, and without them it is `default`.
    #[arg(long, global = true, value_name = "ID", env = "ORCHESTRA_MEMORY_TENANT")]
    #[arg(hide_env_values = true)]
    pub(crate) tenant: Option<String>,
    /// A settings file in TOML
    ///
    /// Without it `config.toml` in the platform's configuration folder is read if it is there.
    #[arg(long, global = true, value_name = "FILE", env = "ORCHESTRA_MEMORY_CONFIG")]
    #[arg(value_hint = ValueHint::FilePath, hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Write one JSON object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// No progress, no confirmations: results and errors only
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Say on standard error, when the command is done, what its operations cost the store
    #[arg(long, global = true)]
    pub(crate) usage: bool,
    /// Write the figures of the command as Prometheus text to this file when it is done; `-` is
    /// standard error
    ///
    /// Only in a build with the feature `prometheus`.
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) metrics: Option<PathBuf>,
    /// Send the figures of the command to this OpenTelemetry collector when it is done, by OTLP
    /// over HTTP: `http://127.0.0.1:4318`
    ///
    /// Only in a build with the feature `otlp`.
    #[arg(long, global = true, value_name = "URL", conflicts_with = "metrics")]
    pub(crate) otlp: Option<String>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remember something
    Add(Box<Add>),
    /// Show memories by id
    Get(Get),
    /// Change a memory; what is not named stays as it is
    Update(Box<Update>),
    /// Delete memories by id
    Delete(Delete),
    /// List memories, one a line
    List(List),
    /// Show a conversation in full, turn by turn: messages only, unless --kind says otherwise
    History(List),
    /// Find memories by words and by meaning
    Search(Box<Search>),
    /// Take in memories from JSON lines or texts; can be repeated after an interruption
    Import(Import),
    /// Write memories as JSON lines, in the format that `import` reads
    Export(Export),
    /// Erase all that is kept of a user or of the tenant, with a receipt
    Erase(Erase),
    /// Make the vectors that memories lack; can be repeated after an interruption
    Embed(Embed),
    /// Move the tenant's vectors to another embedding model; can be repeated after an interruption
    Reembed(Reembed),
    /// See to the local embedding model: look whether it is there, or get it
    Model(Model),
    /// Print what a store has to be set up with, without asking it
    Setup(Setup),
    /// Remove expired memories from the store for good
    Purge,
    /// Show the tenant and the store in numbers
    Stats,
    /// Show the settings that are in use, and where each comes from; secrets are not shown
    Settings(ShowSettings),
    /// Check settings, store and indexes, and say what to do about what is wrong
    Doctor(Doctor),
    /// Copy the store to a new place while it is in use
    Backup(Backup),
    /// Write the completion script of a shell
    Completions(Completions),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn negative_spans_and_dashes_are_values() {
        let cli =
            Cli::try_parse_from(["orchestra-memory", "list", "--since", "-7d", "--cursor", "-a"]);
        let Command::List(list) = cli.unwrap().command else { panic!("another command") };
        assert_eq!(list.scope.since.as_deref(), Some("-7d"));
        assert_eq!(list.cursor.as_deref(), Some("-a"));
    }

    #[test]
    fn embedding_names_what_is_missing() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["orchestra-memory"], args].concat());
        let error = parse(&["embed"]).unwrap_err().to_string();
        assert!(error.contains("--missing"), "{error}");
        assert!(parse(&["embed", "--missing", "--all-tenants", "--batch-size", "8"]).is_ok());
        for bad in [&["model"][..], &["model", "push"], &["model", "pull", "--check"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse(&["model", "pull", "--from", "pip", "--folder", "x"]).is_ok());
        assert!(parse(&["import", "x", "--split-tokens", "16", "--format", "text"]).is_ok());
        for tokens in ["0", "15", "8193", "-1", "x"] {
            assert!(parse(&["import", "x", "--split-tokens", tokens]).is_err(), "{tokens}");
        }
    }

    #[test]
    fn an_erasure_names_whom() {
        let parse = |args: &[&str]| {
            Cli::try_parse_from([&["orchestra-memory", "erase"], args].concat()).is_ok()
        };
        assert!(!parse(&[]) && !parse(&["--yes"]) && !parse(&["--user", "a", "--all-of-tenant"]));
        assert!(parse(&["--user", "a"]) && parse(&["--all-of-tenant", "--yes"]));
    }

    #[test]
    fn a_search_needs_something_to_search() {
        let parse = |args: &[&str]| {
            Cli::try_parse_from([&["orchestra-memory", "search"], args].concat()).is_ok()
        };
        assert!(!parse(&[]) && !parse(&["x", "--queries", "f"]));
        assert!(!parse(&["x", "--limit", "1", "--max-tokens", "1"]));
        assert!(parse(&["x", "--vector", "[1]"]) && parse(&["--vector", "[1]"]));
    }
}

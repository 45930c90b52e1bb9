//! The command line: what can be written, and the help that says so.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

const EXIT_CODES: &str = "\
Exit codes:
  0  done                      6  unavailable, locked, overloaded, timed out
  1  unexpected fault          7  the store is corrupt or is no store
  2  invalid input or usage    8  unsupported, or made by a newer version
  3  not found                 9  wrong settings
  4  conflict, already exists  10  some lines of the input were refused
  5  permission denied         130  interrupted

With --json each result is one object a line on standard output, and an error is one object on
standard error: {\"error\": {\"kind\", \"message\", \"retryable\", \"outcome\", ...}}.";

/// A memory for AI agents, on one machine.
///
/// Keeps what was said and learnt, and finds it again by words, vectors, people and time.
#[derive(Debug, Parser)]
#[command(name = "orchestra-memory", version, max_term_width = 100, after_help = EXIT_CODES)]
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
    /// Without it the settings decide, and without them it is `memory.db` in the platform's data
    /// folder.
    #[arg(long, global = true, value_name = "URL", env = "ORCHESTRA_MEMORY_STORE")]
    #[arg(hide_env_values = true)]
    pub(crate) store: Option<String>,
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
    /// Find memories by words, by a vector, or by both
    Search(Box<Search>),
    /// Take in memories from JSON lines; can be repeated after an interruption
    Import(Import),
    /// Write memories as JSON lines, in the format that `import` reads
    Export(Export),
    /// Erase all that is kept of a user or of the tenant, with a receipt
    Erase(Erase),
    /// Remove expired memories from the store for good
    Purge,
    /// Show the tenant and the store in numbers
    Stats,
    /// Check settings, store and indexes, and say what to do about what is wrong
    Doctor,
    /// Copy the store to a new place while it is in use
    Backup(Backup),
    /// Write the completion script of a shell
    Completions(Completions),
}

/// Arguments of `add`.
#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The text; `-` reads it from standard input
    #[arg(value_name = "TEXT")]
    pub(crate) text: String,
    /// The person it belongs to; this or --agent is needed
    #[arg(long, value_name = "ID", env = "ORCHESTRA_MEMORY_USER", hide_env_values = true)]
    pub(crate) user: Option<String>,
    /// The agent or persona it belongs to
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The conversation it stands in
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// message, fact, episode, procedure, summary, agent_data, or a kind of your own
    ///
    /// Without it: a message if it has a role, else a fact.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Who speaks in a message
    #[arg(long, value_name = "ROLE", value_parser = ["user", "assistant", "system", "tool"])]
    pub(crate) role: Option<String>,
    /// The speaker's name
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// A value that filters can use: key=text, or key:=JSON for numbers, booleans, lists of strings
    #[arg(long = "meta", value_name = "K=V")]
    pub(crate) meta: Vec<String>,
    /// Any JSON to keep with it
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// How much it matters, from 0 to 1
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) importance: Option<f64>,
    /// When it was said or happened: RFC 3339, a date, or a span such as -2h [default: now]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) occurred_at: Option<String>,
    /// When it vanishes: RFC 3339, a date, or a span such as +7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) expires_at: Option<String>,
    /// Its vector: a JSON list of numbers, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) embedding: Option<String>,
    /// Its id; random without
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<String>,
    /// What to do when a memory has the id already
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) if_exists: IfExists,
    /// A key of yours for "this request, once", kept for 24 hours
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

/// What an add does when a memory has the id already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum IfExists {
    /// Fail, with exit code 4
    Fail,
    /// Leave the one that is there
    Skip,
    /// Put the new one in its place, whole
    Replace,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The ids
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    /// Bring the vectors along
    #[arg(long)]
    pub(crate) with_vectors: bool,
}

/// A field that `update --clear` can empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clearable {
    /// The user; the agent must be there then.
    User,
    /// The agent; the user must be there then.
    Agent,
    /// The session.
    Session,
    /// The role.
    Role,
    /// The speaker's name.
    Author,
    /// All metadata.
    Metadata,
    /// The payload.
    Payload,
    /// The importance.
    Importance,
    /// The expiry.
    ExpiresAt,
    /// The vectors.
    Embedding,
}

/// Arguments of `update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The memory
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// A new text; `-` reads it from standard input
    #[arg(long, value_name = "TEXT")]
    pub(crate) content: Option<String>,
    /// Another user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Another agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Another session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Another kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Another role
    #[arg(long, value_name = "ROLE", value_parser = ["user", "assistant", "system", "tool"])]
    pub(crate) role: Option<String>,
    /// Another speaker
    #[arg(long, value_name = "NAME")]
    pub(crate) author: Option<String>,
    /// Set a metadata value: key=text or key:=JSON; the other keys stay
    #[arg(long = "meta", value_name = "K=V")]
    pub(crate) meta: Vec<String>,
    /// Remove a metadata key
    #[arg(long, value_name = "KEY")]
    pub(crate) remove_meta: Vec<String>,
    /// Another payload
    #[arg(long, value_name = "JSON")]
    pub(crate) payload: Option<String>,
    /// Another importance, from 0 to 1
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub(crate) importance: Option<f64>,
    /// Another time of the event
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) occurred_at: Option<String>,
    /// Another expiry
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) expires_at: Option<String>,
    /// Another vector
    #[arg(long, value_name = "JSON|@FILE")]
    pub(crate) embedding: Option<String>,
    /// Empty a field
    #[arg(long, value_name = "FIELD", value_enum)]
    pub(crate) clear: Vec<Clearable>,
    /// Only if it is still at this revision
    #[arg(long, value_name = "REVISION")]
    pub(crate) if_revision: Option<String>,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The ids
    #[arg(value_name = "ID", required = true)]
    pub(crate) ids: Vec<String>,
    /// Only if it is still at this revision; takes one id
    #[arg(long, value_name = "REVISION")]
    pub(crate) if_revision: Option<String>,
}

/// Which memories.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which memories")]
pub(crate) struct Scope {
    /// Those of a user
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// Those of an agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// Those of a conversation
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Those of a kind
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Those that pass a filter: {"field": "metadata.topic", "op": "eq", "value": "tea"}
    #[arg(long, value_name = "JSON")]
    pub(crate) filter: Option<String>,
    /// Those from this time on: RFC 3339, a date, or a span such as -7d
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) since: Option<String>,
    /// Those before this time
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) until: Option<String>,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum End {
    /// Newest first
    Newest,
    /// Oldest first
    Oldest,
}

/// Arguments of `list` and `history`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Which end comes first
    #[arg(long, value_enum, default_value = "newest")]
    pub(crate) order: End,
    /// How many at the most, 1 to 1,000
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: u32,
    /// Go on where a page ended
    #[arg(long, value_name = "CURSOR", allow_hyphen_values = true)]
    pub(crate) cursor: Option<String>,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

/// Which ways of finding to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arm {
    /// Those that the query and the store allow
    Auto,
    /// Words only
    Keyword,
    /// The vector only
    Vector,
    /// Both, or an error
    Both,
}

/// Arguments of `search`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["text", "vector", "queries"]).required(true).multiple(true))]
pub(crate) struct Search {
    /// The question, or words of the answer; `-` reads it from standard input
    #[arg(value_name = "TEXT", conflicts_with = "queries")]
    pub(crate) text: Option<String>,
    /// A vector to find neighbours of: a JSON list of numbers, or @FILE
    #[arg(long, value_name = "JSON|@FILE", conflicts_with = "queries")]
    pub(crate) vector: Option<String>,
    /// Many questions: a file of JSON lines, or `-`; each answer is a JSON line too
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) queries: Option<PathBuf>,
    /// How many hits at the most, 1 to 1,000 [default: 10]
    #[arg(long, value_name = "N", conflicts_with = "max_tokens")]
    pub(crate) limit: Option<u32>,
    /// As many hits as fit into so many tokens, by estimate
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
    /// Which ways of finding to use
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) arm: Arm,
    /// Say of each hit why it was found
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A file of JSON lines; `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// Memories of one commit, 1 to 1,000 [default: 500]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Take in what was erased here before, too
    #[arg(long)]
    pub(crate) include_erased: bool,
    /// What to do when a memory has the id already, with another text
    #[arg(long, value_enum, default_value = "fail")]
    pub(crate) if_exists: IfExists,
    /// The user of lines that have neither user nor agent
    #[arg(long, value_name = "ID")]
    pub(crate) user: Option<String>,
    /// The agent of lines that have neither user nor agent
    #[arg(long, value_name = "ID")]
    pub(crate) agent: Option<String>,
    /// The source's name, from which ids of lines without one are made [default: the file's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) source: Option<String>,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Write the vectors too
    #[arg(long)]
    pub(crate) with_vectors: bool,
    /// Write to a file, which is whole or not there; without, to standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

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

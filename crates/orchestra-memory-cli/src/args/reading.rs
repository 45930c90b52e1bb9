//! Arguments of `get`, `list`, `history` and `search`, and which memories they are about.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum, ValueHint};

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
    /// Meaning only: the given vector, or that of the text
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
    /// A vector to find neighbours of, in place of the text's own: a JSON list of numbers, or @FILE
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
    /// No hits where the relevance of the answer, 0 to 1, is lower than this
    #[arg(long, value_name = "N")]
    pub(crate) min_relevance: Option<f64>,
    /// Say of each hit why it was found
    #[arg(long)]
    pub(crate) explain: bool,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

//! Arguments of `add`, `update` and `delete`.

use clap::{Args, ValueEnum};

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

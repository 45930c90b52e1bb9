//! Arguments of `import` and `export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{IfExists, Scope};

/// How the input of an import is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One memory a line, as JSON
    Jsonl,
    /// One text, which is one memory, or several with --split
    Text,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// A file; `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) file: PathBuf,
    /// How it is written [default: text for .txt, .md and .markdown, else jsonl]
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// Split long texts into passages, each a memory: at headings, paragraphs, sentences
    #[arg(long)]
    pub(crate) split: bool,
    /// Split into passages of about so many tokens, 16 to 8,192 [default with --split: 180]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(16..=8_192))]
    pub(crate) split_tokens: Option<u16>,
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
    /// Write the vectors too; not needed where a model makes them, which does so at the import
    #[arg(long)]
    pub(crate) with_vectors: bool,
    /// Write to a file, which is whole or not there; without, to standard output
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) scope: Scope,
}

//! Standard output: lines for people or one JSON object a line, colour or none, and quiet when
//! the reader goes away.

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use crate::failure::{Failure, Result};

/// Widest line for people where the terminal does not say, and where there is none.
const DEFAULT_WIDTH: usize = 100;
/// Narrowest line that the layouts still make sense in.
const LEAST_WIDTH: usize = 40;

/// How to write for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Whether to colour.
    pub(crate) colour: bool,
    /// Characters of a line.
    pub(crate) width: usize,
}

impl Style {
    /// The style of standard output: colour on a terminal only, and not where `NO_COLOR` is set
    /// to anything or the terminal is dumb.
    pub(crate) fn detect() -> Self {
        let terminal = io::stdout().is_terminal();
        let variable = |name: &str| std::env::var_os(name);
        let width = std::env::var("COLUMNS")
            .ok()
            .and_then(|columns| columns.parse().ok())
            .or_else(|| terminal_width().filter(|_| terminal))
            .unwrap_or(DEFAULT_WIDTH)
            .max(LEAST_WIDTH);
        let refused = is_refused(variable("NO_COLOR").as_deref(), variable("TERM").as_deref());
        Self { colour: terminal && !refused, width }
    }

    /// Emphasised.
    pub(crate) fn bold(self, text: &str) -> String {
        self.wrap(text, "1")
    }

    /// In the background.
    pub(crate) fn dim(self, text: &str) -> String {
        self.wrap(text, "2")
    }

    /// Good.
    pub(crate) fn green(self, text: &str) -> String {
        self.wrap(text, "32")
    }

    /// Bad.
    pub(crate) fn red(self, text: &str) -> String {
        self.wrap(text, "31")
    }

    fn wrap(self, text: &str, code: &str) -> String {
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Whether the environment asks for no colour: `NO_COLOR` is set and not empty, or the terminal
/// is dumb.
fn is_refused(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_some_and(|value| !value.is_empty()) || term.is_some_and(|value| value == "dumb")
}

fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Standard output.
pub(crate) struct Output {
    writer: Box<dyn Write + Send>,
    json: bool,
    quiet: bool,
    style: Style,
}

impl Output {
    /// Standard output, buffered.
    pub(crate) fn stdout(json: bool, quiet: bool) -> Self {
        let writer = Box::new(io::BufWriter::new(io::stdout()));
        Self { writer, json, quiet, style: Style::detect() }
    }

    /// Whether to write JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether to leave out what is no result: progress, notes, confirmations.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// How to write for people.
    pub(crate) fn style(&self) -> Style {
        self.style
    }

    /// Writes one object on a line of its own.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let written = serde_json::to_writer(&mut self.writer, value)
            .map_err(io::Error::from)
            .and_then(|()| self.writer.write_all(b"\n"));
        written.map_err(|error| Failure::file("cannot write the output", error))
    }

    /// Writes a line for people.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<()> {
        writeln!(self.writer, "{}", text.as_ref())
            .map_err(|error| Failure::file("cannot write the output", error))
    }

    /// Writes a line for people that is no result; `--quiet` leaves it out.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) -> Result<()> {
        if self.quiet { Ok(()) } else { self.line(text) }
    }

    /// Writes bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.writer.write_all(bytes);
        written.map_err(|error| Failure::file("cannot write the output", error))
    }

    /// The stream itself, for what is written elsewhere.
    pub(crate) fn writer(&mut self) -> &mut (dyn Write + Send) {
        &mut *self.writer
    }

    /// Hands everything on.
    pub(crate) fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(|error| Failure::file("cannot write the output", error))
    }
}

/// Writes to standard error; that it may be closed is nobody's concern.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_error_to_report() {
        let style = Style { colour: false, width: 80 };
        let mut output = Output { writer: Box::new(Closed), json: true, quiet: false, style };
        assert!(matches!(output.line("x"), Err(Failure::ClosedPipe)));
        assert!(matches!(output.json(&"x"), Err(Failure::ClosedPipe)));
    }

    #[test]
    fn colour_is_only_where_it_is_wanted() {
        let style = Style { colour: true, width: 80 };
        assert_eq!(style.bold("x"), "\u{1b}[1mx\u{1b}[0m");
        assert_eq!(Style { colour: false, ..style }.bold("x"), "x");
        let refused = |no_color: Option<&str>, term: Option<&str>| {
            is_refused(no_color.map(OsStr::new), term.map(OsStr::new))
        };
        assert!(refused(Some("1"), None) && refused(None, Some("dumb")));
        assert!(!refused(None, None) && !refused(Some(""), Some("xterm")));
    }
}

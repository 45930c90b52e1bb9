//! Progress on a terminal: bars and spinners on standard error, and nothing anywhere else.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Redraws a second: smooth to the eye, and too few to cost anything.
const REDRAWS: u8 = 10;

/// How far a command is. Cheap to clone and to tell; hidden with `--json`, `--quiet` and where
/// standard error is no terminal.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Progress towards a known number, of bytes say, or of an unknown number of things.
    pub(crate) fn new(output: &Output, verb: &'static str, total: Option<u64>) -> Self {
        if output.is_json() || output.is_quiet() || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let target = ProgressDrawTarget::stderr_with_hz(REDRAWS);
        let bar = ProgressBar::with_draw_target(total, target).with_prefix(verb);
        let template = match total {
            Some(_) => "{prefix} [{bar:24}] {percent:>3}%  {msg}  {elapsed}",
            None => "{prefix} {spinner} {msg}  {elapsed}",
        };
        // A template that did not parse would cost the look of the bar and nothing else.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(bar)
    }

    /// So much is done.
    pub(crate) fn done(&self, done: u64) {
        self.0.set_position(done);
    }

    /// So much is done of so much.
    pub(crate) fn done_of(&self, done: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(done);
    }

    /// What is done, in words.
    pub(crate) fn message(&self, text: String) {
        self.0.set_message(text);
    }

    /// Does something that writes to the screen, with the bar out of its way.
    pub(crate) fn aside(&self, action: impl FnOnce()) {
        self.0.suspend(action);
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

//! Progress on a terminal: bars and spinners on standard error, and nothing anywhere else.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// Redraws a second: smooth to the eye, and too few to cost anything.
const REDRAWS: u8 = 10;

/// How it looks with a known total, and without.
const BAR: &str = "{prefix} [{bar:24}] {percent:>3}%  {msg}  {elapsed}";
const SPINNER: &str = "{prefix} {spinner} {msg}  {elapsed}";

/// How far a command is. Cheap to clone and to tell; hidden with `--json`, `--quiet` and where
/// standard error is no terminal.
#[derive(Clone)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Progress towards a known number, of bytes say, or of an unknown number of things, which
    /// may become known.
    pub(crate) fn new(output: &Output, verb: &'static str, total: Option<u64>) -> Self {
        if output.is_json() || output.is_quiet() || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let progress = Self::on(ProgressDrawTarget::stderr_with_hz(REDRAWS), verb, total);
        progress.0.enable_steady_tick(Duration::from_millis(200));
        progress
    }

    fn on(target: ProgressDrawTarget, verb: &'static str, total: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(total, target).with_prefix(verb);
        let progress = Self(bar);
        progress.look(if total.is_some() { BAR } else { SPINNER });
        progress
    }

    fn look(&self, template: &str) {
        // A template that did not parse would cost the look of the bar and nothing else.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("=> "));
        }
    }

    /// So much is done.
    pub(crate) fn done(&self, done: u64) {
        self.0.set_position(done);
    }

    /// So much is done of so much.
    pub(crate) fn done_of(&self, done: u64, total: u64) {
        if self.0.length().is_none() {
            self.look(BAR);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that keeps what is written.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn take(&self) -> String {
            std::mem::take(&mut self.0.lock().unwrap())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            100
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_share_is_shown_once_the_total_is_known() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let progress = Progress::on(target, "embedding", None);
        progress.message("the first memories".to_owned());
        progress.0.force_draw();
        let text = screen.take();
        assert!(text.contains("the first memories") && !text.contains('%'), "{text}");
        progress.done_of(1, 4);
        progress.0.force_draw();
        let text = screen.take();
        assert!(text.contains(" 25%"), "{text}");
        progress.finish();
    }

    #[test]
    fn a_known_total_begins_with_nothing_done() {
        let screen = Screen::default();
        let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
        let progress = Progress::on(target, "importing", Some(200));
        progress.0.force_draw();
        assert!(screen.take().contains("  0%"));
        progress.done(50);
        progress.0.force_draw();
        assert!(screen.take().contains(" 25%"));
        progress.finish();
    }
}

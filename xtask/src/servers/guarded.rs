//! A process that no end of this program leaves behind.
//!
//! The program is the direct child, since a script around it would die alone. A watcher, which is
//! this program once more, holds the other end of a pipe: when the pipe closes, by whatever end of
//! its parent, it ends the child. Both are in process groups of their own, where Ctrl-C at the
//! terminal does not reach them. The child waits for a word before it becomes the program, until the
//! watcher knows of it.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use super::process::Process;

/// What the child does until it is the program; without a word it ends.
const GATE: &str = "read -r word && exec \"$@\" < /dev/null";

/// The argument with which this program becomes the watcher.
pub(crate) const WATCH: &str = "watch-process";

/// The word that dismisses the watcher.
const DISMISSED: &str = "dismissed";

/// A running program, ended with this value.
pub(crate) struct Guarded {
    child: Child,
    process: Process,
    watcher: Watcher,
    ended: bool,
}

impl Guarded {
    /// The command that [`Guarded::start`] takes, for a program; its arguments follow.
    pub(crate) fn command(program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", GATE, "sh"]).arg(program);
        command
    }

    /// Starts it; what it prints goes into the file `log`.
    ///
    /// # Errors
    /// It cannot be started, or the system has no `/proc`.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::piped()).stdout(out.try_clone().context("the log")?).stderr(out);
        own_group(&mut command);
        let mut watcher = Watcher::start()?;
        let mut child = command.spawn().context("cannot start `sh`")?;
        // Without it the child ends by itself.
        let mut gate = child.stdin.take();
        let process = Process::child(&child)?;
        watcher.watch(&process)?;
        let guarded = Self { child, process, watcher, ended: false };
        let gate = gate.as_mut().context("the child has no input")?;
        // A child that has ended already is found to have.
        let _ = gate.write_all(b"go\n");
        Ok(guarded)
    }

    /// How it has ended by itself, if it has.
    ///
    /// # Errors
    /// The system does not tell.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot wait for a child")
    }

    /// The process.
    pub(crate) fn process(&self) -> Process {
        self.process
    }

    /// Lets it run on when this program ends.
    ///
    /// # Errors
    /// The watcher cannot be dismissed; then it ends with this program.
    pub(crate) fn stay(mut self) -> Result<()> {
        self.watcher.dismiss()?;
        self.ended = true;
        Ok(())
    }

    /// Ends it, and returns when it has ended.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn end(mut self) -> Result<()> {
        self.end_now()
    }

    fn end_now(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        self.process.end()?;
        self.child.wait().context("cannot wait for a child")?;
        // A watcher that is gone, or stays, finds nothing to end.
        let _ = self.watcher.dismiss();
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if let Err(error) = self.end_now() {
            eprintln!("process {} is left behind: {error:#}", self.process.pid);
        }
    }
}

/// This program once more, as the one that outlives it.
struct Watcher {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watcher {
    fn start() -> Result<Self> {
        let program = env::current_exe().context("this program cannot find itself")?;
        let mut command = Command::new(program);
        command.arg(WATCH).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        own_group(&mut command);
        let mut child = command.spawn().context("cannot start this program once more")?;
        let pipe = child.stdin.take();
        Ok(Self { child, pipe })
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        let pipe = self.pipe.as_mut().context("the watcher is gone")?;
        pipe.write_all(line.as_bytes()).context("the watcher is gone")
    }

    fn watch(&mut self, process: &Process) -> Result<()> {
        self.tell(&format!("{} {}\n", process.pid, process.started))
    }

    fn dismiss(&mut self) -> Result<()> {
        self.tell(&format!("{DISMISSED}\n"))?;
        self.pipe = None;
        self.child.wait().context("cannot wait for the watcher")?;
        Ok(())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Without a word it does its work; nobody has to wait for it.
        self.pipe = None;
    }
}

/// What the watcher does: it learns from its input which process to watch, waits for the end of
/// the input, and ends that process unless it is dismissed.
///
/// # Errors
/// An input that it does not understand, or a process that does not end.
pub(crate) fn watch() -> Result<()> {
    watch_by(BufReader::new(std::io::stdin()))
}

fn watch_by(input: impl BufRead) -> Result<()> {
    let mut watched = None;
    // An input that fails has ended.
    for line in input.lines().map_while(|line| line.ok()) {
        if line == DISMISSED {
            return Ok(());
        }
        let (pid, started) = line.split_once(' ').context("no process")?;
        watched = Some(Process { pid: pid.parse()?, started: started.parse()? });
    }
    watched.map_or(Ok(()), |process| process.end())
}

/// Keeps signals of the terminal from the command.
fn own_group(command: &mut Command) {
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    #[cfg(not(unix))]
    let _ = command;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_watcher_ends_what_it_watches_unless_it_is_dismissed() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let process = Process::running(child.id()).unwrap();
        let told = format!("{} {}\n", process.pid, process.started);
        watch_by(format!("{told}{DISMISSED}\n").as_bytes()).unwrap();
        // Another process that once had the number.
        watch_by(format!("{} {}\n", process.pid, process.started + 1).as_bytes()).unwrap();
        watch_by(&b""[..]).unwrap();
        assert!(watch_by(&b"what?\n"[..]).is_err());
        assert!(process.runs());
        watch_by(told.as_bytes()).unwrap();
        assert!(!process.runs());
        child.wait().unwrap();
    }
}

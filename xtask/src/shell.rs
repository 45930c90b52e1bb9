//! Child processes: how every command of `xtask` starts cargo and other programs.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs this program; a binary started by hand stands in the
    // folder it is meant for.
    let manifest = env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    manifest
        .and_then(|folder| folder.parent().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."))
}

/// Cargo, to be run in the root folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // What cargo told this program about itself would look like a changed environment to build
    // scripts, and rebuild their crates.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Shows the command, runs it, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = describe(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}

/// Runs the command and returns what it wrote to its standard output; errors stay visible.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` wrote invalid UTF-8"))
}

/// What a command that ran to its end has left.
pub(crate) struct Finished {
    /// Whether it ended with code zero.
    pub(crate) success: bool,
    /// Its standard output, then its standard error.
    pub(crate) text: String,
}

/// Runs the command in silence and keeps both of its outputs.
pub(crate) fn quiet(command: &mut Command) -> Result<Finished> {
    let line = describe(command);
    let output = command.output().with_context(|| format!("cannot start `{line}`"))?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Ok(Finished { success: output.status.success(), text })
}

/// Shows the command, runs it, passes its outputs on line by line, and keeps them.
pub(crate) fn tee(command: &mut Command) -> Result<Finished> {
    let line = describe(command);
    eprintln!("$ {line}");
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out, err) = thread::scope(|scope| {
        let out = scope.spawn(move || stdout.map(|pipe| forward(pipe, std::io::stdout())));
        let err = stderr.map(|pipe| forward(pipe, std::io::stderr()));
        (out.join().ok().flatten(), err)
    });
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    let text = [out, err].into_iter().flatten().collect();
    Ok(Finished { success: status.success(), text })
}

/// Whether `cargo nextest` can be called.
pub(crate) fn has_nextest() -> bool {
    quiet(cargo().args(["nextest", "--version"])).is_ok_and(|finished| finished.success)
}

/// Runs `work` and says how long it took.
#[expect(clippy::disallowed_methods, reason = "a stopwatch for a person who waits")]
pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = work();
    (value, start.elapsed())
}

/// The command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_stem().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    command.get_args().fold(name, |line, arg| line + " " + &quote(&arg.to_string_lossy()))
}

fn quote(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        arg.to_owned()
    } else if arg.contains(['"', '$', '`', '\\', '!']) {
        format!("'{}'", arg.replace('\'', r"'\''"))
    } else {
        format!("\"{arg}\"")
    }
}

fn forward(from: impl Read, mut to: impl Write) -> String {
    let mut kept = String::new();
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        // A closed terminal must not stop the reading, or the child would block on a full pipe.
        let _ = to.write_all(&line);
        kept.push_str(&String::from_utf8_lossy(&line));
        line.clear();
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_only_where_a_shell_needs_it() {
        let mut command = Command::new("/usr/bin/cargo");
        command.args(["test", "-p", "a-b", "it's here", "", "it's $5"]);
        assert_eq!(describe(&command), r#"cargo test -p a-b "it's here" "" 'it'\''s $5'"#);
    }

    #[test]
    fn forwarding_keeps_every_byte_and_a_last_line_without_end() {
        let mut shown = Vec::new();
        let kept = forward(&b"one\ntwo"[..], &mut shown);
        assert_eq!(kept, "one\ntwo");
        assert_eq!(shown, b"one\ntwo");
    }
}

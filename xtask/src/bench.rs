//! `cargo xtask bench`: the benches of `benches/`, in release mode.

use anyhow::{Result, bail};

use crate::shell;

/// Runs all benches or the named one; what follows `--` goes to the bench program.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let split = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (names, pass) = args.split_at(split);
    let mut command = shell::cargo();
    command.args(["bench", "--package", "benches"]);
    match names {
        [] => {}
        [name] if !name.starts_with('-') => {
            command.args(["--bench", name]);
        }
        _ => bail!("name one bench or none; arguments of the bench program go behind `--`"),
    }
    shell::run(command.args(pass))
}

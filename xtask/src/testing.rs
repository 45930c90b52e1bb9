//! `cargo xtask test`: all tests of the workspace, through cargo-nextest where it is installed and
//! `cargo test` where it is not, and then the examples of the documentation.

use anyhow::Result;

use crate::shell;

/// Runs the tests; `args` go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut command = shell::cargo();
    if shell::has_nextest() {
        command.args(["nextest", "run", "--workspace", "--all-features"]);
    } else {
        eprintln!("cargo-nextest is not installed; `cargo test` runs the same tests, more slowly");
        command.args(["test", "--workspace", "--all-features"]);
        // Those of the documentation follow below, for both runners alike.
        command.args(["--lib", "--bins", "--tests", "--examples"]);
    }
    shell::run(command.args(args))?;
    if !args.is_empty() {
        eprintln!("not run, since arguments chose the tests: the examples of the documentation");
        return Ok(());
    }
    shell::run(shell::cargo().args(["test", "--doc", "--workspace", "--all-features"]))
}

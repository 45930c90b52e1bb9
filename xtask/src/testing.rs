//! `cargo xtask test`: the model's files, then all tests of the workspace, through cargo-nextest
//! where it is installed and `cargo test` where it is not, and then the examples of the
//! documentation.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{model, program, shell};

/// The variable in which the tests find the folder of the model's files.
const TEST_MODEL: &str = "ORCHESTRA_MEMORY_TEST_MODEL";

/// Runs the tests; `args` go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let model = model()?;
    let mut command = shell::cargo();
    command.env(TEST_MODEL, &model);
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
    let mut examples = shell::cargo();
    examples.env(TEST_MODEL, &model);
    shell::run(examples.args(["test", "--doc", "--workspace", "--all-features"]))
}

/// The folder of the model's files: the one that the variable names already, else the one in the
/// target folder, which is filled first where it is not. No test runs without it: tests that are
/// left out would look like tests that pass.
fn model() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(TEST_MODEL).filter(|value| !value.is_empty()) {
        let folder = std::path::absolute(folder)?;
        eprintln!("the tests take the model from {TEST_MODEL}: {}", folder.display());
        return Ok(folder);
    }
    let target = Metadata::load()?.target_directory;
    eprintln!("the tests need the embedding model; the program sees to its files");
    let program = program::build_dev(&target)?;
    model::ensure(&program, &target).context("the tests cannot run without the model")
}

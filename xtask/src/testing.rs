//! `cargo xtask test`: the model's files, an emulator of Firestore and servers of Redis, then all tests of the
//! workspace, through cargo-nextest where it is installed and `cargo test` where it is not, and
//! then the examples of the documentation.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::canary::{self, Cage};
use crate::metadata::Metadata;
use crate::servers::{Absence, Firestore, Redis, with_firestore, with_redis};
use crate::{model, program, servers, shell};

/// The variable in which the tests find the folder of the model's files.
const TEST_MODEL: &str = "ORCHESTRA_MEMORY_TEST_MODEL";

/// Tests that exist only without the feature `firestore` or `redis`: a package, the target that has them, and
/// a part of their names.
const ABSENT_TESTS: [(&str, &str, &str); 4] = [
    ("orchestra-memory", "--lib", "the_sections_of_firestore_name_its_feature"),
    ("orchestra-memory", "--lib", "what_needs_redis_names_its_feature"),
    ("orchestra-memory-cli", "--test=it", "firestore_absent"),
    ("orchestra-memory-cli", "--test=it", "redis_absent"),
];

/// Runs the tests; `args` go to the test runner.
pub(crate) fn run(args: &[String]) -> Result<()> {
    // Now and not after the program was built, where it is a failure.
    servers::foresee()?;
    let model = model()?;
    with_firestore(Absence::Skips, |firestore| {
        with_redis(Absence::Skips, |redis| run_with(args, &model, firestore, redis))
    })
}

fn run_with(args: &[String], model: &Path, firestore: &Firestore, redis: &Redis) -> Result<()> {
    let target = Metadata::load()?.target_directory;
    let cage = Cage::new(&target, "run")?;
    let prepare = |command: &mut Command| {
        command.env(TEST_MODEL, model);
        firestore.give(command);
        redis.give(command);
    };
    let all = ["--workspace", "--all-features"];
    let mut command = shell::cargo();
    prepare(&mut command);
    cage.give(&mut command);
    let has_nextest = shell::has_nextest();
    let ended = if has_nextest {
        command.args(["nextest", "run"]).args(all);
        cage.keep_outputs(&mut command)?;
        shell::run(command.args(args))
    } else {
        eprintln!("cargo-nextest is not installed; `cargo test` runs the same tests, more slowly");
        // Those of the documentation follow below, for both runners alike.
        command.arg("test").args(all).args(["--lib", "--bins", "--tests", "--examples"]);
        command.env("RUST_TEST_NOCAPTURE", "1");
        tee_into(&cage, "outputs.txt", command.args(args))
    };
    if !args.is_empty() || ended.is_err() {
        // A failed test may well show what it compared; its failure comes first.
        ended?;
        cage.check()?;
        eprintln!("not run, since arguments chose the tests: the examples of the documentation");
        return Ok(());
    }
    let mut examples = shell::cargo();
    prepare(&mut examples);
    cage.give(&mut examples);
    let command = examples.args(["test", "--doc", "--workspace", "--all-features"]);
    tee_into(&cage, "examples.txt", command)?;
    cage.check()?;
    if has_nextest {
        let mut leak = shell::cargo();
        prepare(&mut leak);
        leak.args(["nextest", "run"]).args(all);
        canary::prove(&target, leak)?;
    }
    Ok(())
}

/// Runs a command, shows its outputs and keeps them as well.
fn tee_into(cage: &Cage, name: &str, command: &mut Command) -> Result<()> {
    let finished = shell::tee(command)?;
    cage.add(name, &finished.text)?;
    if !finished.success {
        bail!("`{}` failed", shell::describe(command));
    }
    Ok(())
}

/// Runs the tests that exist only where the feature `firestore` is not compiled in, by their names.
/// All crates under them are built once more, with the default features.
pub(crate) fn without_firestore(_: &Metadata) -> Result<()> {
    for (package, target, name) in ABSENT_TESTS {
        let mut command = shell::cargo();
        command.args(["test", "--package", package, target, name]);
        let finished = shell::tee(&mut command)?;
        if !finished.success {
            bail!("`{}` failed", shell::describe(&command));
        }
        if !finished.text.lines().any(|line| line.contains(name) && line.ends_with("... ok")) {
            bail!("no test of {package} has `{name}` in its name: correct the list in xtask");
        }
    }
    Ok(())
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

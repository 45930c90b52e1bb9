//! `cargo xtask conformance BACKEND`: the conformance suite on one back end, or through the layers,
//! and how many checks of it ran.
//!
//! Each back end stamps the suite into its own integration tests, in a module `conformance`.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::servers::{Absence, with_firestore, with_redis};
use crate::shell;

/// The back ends, and the crates whose tests hold the suite of each.
const BACK_ENDS: &[(&str, &[&str])] = &[
    ("sqlite", &["memory-sqlite"]),
    ("reference", &["memory-testkit"]),
    (FIRESTORE, &["memory-firestore"]),
    (LAYERS, &["memory-layers", "orchestra-memory"]),
    (REDIS, &["memory-redis"]),
    (REDIS_CLUSTER, &["memory-redis"]),
];

/// Redis with the query engine, without it, and of the oldest version that will do.
const REDIS: &str = "redis";

/// A cluster of Redis with the query engine.
const REDIS_CLUSTER: &str = "redis-cluster";

/// The back end that needs an emulator.
const FIRESTORE: &str = "firestore";

/// No back end, but every layer over the reference store and the embedded one, and all of them
/// over Firestore too.
const LAYERS: &str = "layers";

/// How often the suite is stamped through layers: five alone and all together, over two stores, all
/// together over Firestore and over Redis, and a cache before the reference store and, on Redis,
/// before the embedded one. Each stamp has the same number of checks.
const LAYER_STAMPS: usize = 16;

/// The part of a test's name that says that it belongs to the suite.
const MODULE: &str = "conformance::";

/// Runs the suite on the back end that the arguments name.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let known = || BACK_ENDS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let [name] = args else { bail!("name one back end; known: {}", known()) };
    let (_, packages) = BACK_ENDS
        .iter()
        .find(|(known, _)| known == name)
        .with_context(|| format!("no back end `{name}`; known: {}", known()))?;

    if name == FIRESTORE {
        with_firestore(Absence::Fails, |firestore| {
            let mut command = command(packages, MODULE);
            firestore.give(&mut command);
            judge(name, &mut command)
        })
    } else if name == LAYERS {
        with_firestore(Absence::Fails, |firestore| {
            // Some stamps through the layers stand before Redis.
            with_redis(Absence::Fails, |redis| {
                let mut command = command(packages, MODULE);
                firestore.give(&mut command);
                redis.give(&mut command);
                judge(name, &mut command)
            })
        })
    } else if [REDIS, REDIS_CLUSTER].contains(&name.as_str()) {
        let module = if name == REDIS { "suite::redis" } else { "suite::redis_cluster::" };
        with_redis(Absence::Fails, |redis| {
            let mut command = command(packages, module);
            redis.give(&mut command);
            judge(name, &mut command)
        })
    } else {
        judge(name, &mut command(packages, MODULE))
    }
}

/// The runner, for the tests of the suite in the packages alone.
fn command(packages: &[&str], module: &str) -> Command {
    let mut command = shell::cargo();
    let nextest = shell::has_nextest();
    command.args(if nextest { &["nextest", "run"][..] } else { &["test", "--tests"] });
    command.arg("--all-features");
    for package in packages {
        command.args(["--package", package]);
    }
    if nextest {
        command.args(["--no-tests=pass", "-E", &format!("test({module})")]);
    } else {
        command.args(["--", module]);
    }
    command
}

/// Runs the suite and says how much of it ran.
fn judge(name: &str, command: &mut Command) -> Result<()> {
    let finished = shell::tee(command)?;
    let checks = checks_run(&finished.text);
    println!("conformance {name}: {checks} checks run");
    if !finished.success {
        bail!("conformance {name}: not all of the checks passed");
    }
    if checks == 0 {
        bail!("conformance {name}: no check ran, so nothing is proved");
    }
    if name == LAYERS && !checks.is_multiple_of(LAYER_STAMPS) {
        bail!("conformance {name}: {checks} checks are not those of {LAYER_STAMPS} whole stamps");
    }
    Ok(())
}

/// The number of tests that ran, from the summary lines of either runner.
fn checks_run(text: &str) -> usize {
    let number = |word: &str| word.parse::<usize>().unwrap_or(0);
    text.lines()
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            if let Some(at) = words.windows(2).position(|pair| pair == ["tests", "run:"]) {
                // nextest: "Summary [ 1.0s] 12 tests run: 12 passed, 3 skipped", "12/20 tests run"
                // where a failure ended the run early.
                let count = at.checked_sub(1).and_then(|at| words[at].split('/').next());
                return count.map_or(0, number);
            }
            if let Some(at) = words.windows(2).position(|pair| pair == ["test", "run:"]) {
                return at.checked_sub(1).map_or(0, |at| number(words[at]));
            }
            // cargo test: "test result: ok. 12 passed; 0 failed; ..."
            if line.starts_with("test result:") {
                let before = |label: &str| {
                    let at = words.iter().position(|word| *word == label);
                    at.and_then(|at| at.checked_sub(1)).map_or(0, |at| number(words[at]))
                };
                return before("passed;") + before("failed;");
            }
            0
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_either_runner_is_counted() {
        let nextest = "     Summary [   0.9s] 57 tests run: 57 passed, 3 skipped\n";
        assert_eq!(checks_run(nextest), 57);
        assert_eq!(checks_run("  Summary [ 0.1s] 1 test run: 1 passed, 0 skipped"), 1);
        assert_eq!(checks_run("  Summary [ 0.1s] 4/9 tests run: 3 passed, 1 failed"), 4);
        let cargo = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n\
                     test result: FAILED. 12 passed; 2 failed; 0 ignored; 0 measured\n";
        assert_eq!(checks_run(cargo), 14);
    }

    #[test]
    fn a_run_without_tests_counts_none() {
        assert_eq!(checks_run("  Summary [ 0.0s] 0 tests run: 0 passed, 80 skipped"), 0);
        assert_eq!(checks_run("running 0 tests\n"), 0);
    }

    #[test]
    fn an_unknown_back_end_is_answered_with_the_known_ones() {
        let error = run(&["oracle".to_owned()]).unwrap_err().to_string();
        assert!(
            error.contains("oracle")
                && error.contains("sqlite, reference, firestore, layers, redis"),
            "{error}"
        );
        assert!(run(&[]).is_err());
    }
}

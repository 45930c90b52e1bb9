//! `cargo xtask`: the project's own chores, one module a command.
//!
//! It depends on no crate of the workspace and on little else, so that the first call in a fresh
//! clone builds in seconds.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to a person")]

mod bench;
mod canary;
mod ci;
mod coherence;
mod conformance;
mod crash;
mod demo;
mod eval;
mod features;
mod fuzz;
mod layers;
mod licences;
mod links;
mod metadata;
mod model;
mod msrv;
mod powerloss;
mod program;
mod rival;
mod servers;
mod shell;
mod simulate;
mod spdx;
mod testing;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
The chores of Orchestra Memory.

cargo xtask COMMAND [ARGS]

  demo                   import the sample conversation, ask it questions by words and by
                         meaning, show why the answers
  eval [OPTIONS]         how well it finds what answers a question: on the sample conversation;
                         on your own, --items FILE --questions FILE; on a benchmark,
                         --locomo FILE [--only NAME,...] [--with-text]; for all of them
                         [--arms keyword,vector,both] [--out FILE] [--config FILE]
                         [--program FILE]; docs/evaluation.md explains them
  test [ARGS]            all tests of the workspace; ARGS go to the test runner
  conformance BACKEND    the conformance suite on one back end: sqlite, reference, firestore,
                         redis, redis-cluster; or through the layers: layers
  servers ACTION         the servers that tests need, to stay: up, down, status; each for all or
                         for the one named: firestore, redis; up [--emulator-jar PATH]
  layers [--plant A:B]   hold the table of crates against the dependency graph;
                         --plant adds an arrow that is not there, to see the check fail
  features               build each feature of each crate alone, none, and all
  licences               the licences of all dependencies against the allow list
  bench [NAME] [-- ARGS] the benches, or one of them; ARGS go to the bench program;
                         --save writes docs/benchmarks.md
  powerloss [--points 1000] [--seed N]
                         power that fails at random moments, over a disk that discards what was
                         not synced: with syncs nothing is lost, without them something is
  crash [--times 200] [--seed N]
                         a process under load is killed: what it acknowledged is there
  simulate [--seeds 2000] [--seed S] [--mutant NAME|all]
                         all layers between clients and a server that fails by a seed: what was
                         acknowledged stays, what failed says so; then planted faults, each of
                         which has to be found; --seed shows one run again
  coherence [--operations 100000] [--seed N]
                         two processes with one store and a cache on Redis between them, while
                         Redis is flushed, killed and stopped: no read is older than it may be;
                         then caches that do something wrong, each of which has to be found
  fuzz [--seconds N] [TARGET]
                         the fuzz targets, 60 seconds each or as long as said; needs a nightly
                         toolchain, and installs cargo-fuzz into target/tools
  tidy                   what no compiler checks: module docs, file sizes, links, leftovers
  ci                     everything that has to pass before a merge

Where FIRESTORE_EMULATOR_HOST is not set, test, conformance (firestore, layers), bench and ci start an
emulator of their own and end it; docs/testing.md says how it is found. Where MEMORY_TEST_REDIS is
not set, test, conformance (redis, redis-cluster, layers), coherence, bench and ci start servers of
Redis and end them; they are fetched once, by pip and apt-get.
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match dispatch(&command, &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &str, rest: &[String]) -> Result<()> {
    if matches!(command, "" | "help" | "-h" | "--help") {
        print!("{USAGE}");
        return Ok(());
    }
    match (command, rest) {
        ("test", _) => testing::run(rest),
        ("conformance", _) => conformance::run(rest),
        ("layers", _) => layers::run(rest),
        ("servers", _) => servers::run(rest),
        (servers::WATCH, []) => servers::watch(),
        ("bench", _) => bench::run(rest),
        ("powerloss", _) => powerloss::run(rest),
        ("crash", _) => crash::run(rest),
        ("simulate", _) => simulate::run(rest),
        ("coherence", _) => coherence::run(rest),
        ("eval", _) => eval::run(rest),
        ("fuzz", _) => fuzz::run(rest),
        ("demo", []) => demo::run(),
        ("features", []) => features::run(),
        ("licences", []) => licences::run(),
        ("tidy", []) => tidy::run(),
        ("ci", []) => ci::run(),
        ("demo" | "features" | "licences" | "tidy" | "ci", [extra, ..]) => {
            bail!("`{command}` takes no argument, but got `{extra}`")
        }
        _ => bail!("no such command: `{command}`\n\n{USAGE}"),
    }
}

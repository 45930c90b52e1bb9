//! `cargo xtask coherence`: two processes with one store and a cache on Redis between them, while
//! Redis is flushed, killed and stopped; and caches that do something wrong, each of which has to
//! be found.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::powerloss::numbers;
use crate::servers::{Absence, with_redis};
use crate::shell;

/// Operations where it is not said.
const OPERATIONS: u64 = 100_000;
/// The tests.
const PROTOCOL: &str = "protocol::redis_answers_as_the_protocol_says";
const HONEST: &str = "run::no_read_is_older_than_it_may_be";
const WRONG: &str = "run::a_cache_that_does_something_wrong_is_found";

/// Runs so many operations, and then the caches that do something wrong.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [operations, seed] = numbers(args, ["--operations", "--seed"])?;
    let operations = operations.unwrap_or(OPERATIONS);
    let mut command = tests(&[PROTOCOL, HONEST, WRONG]);
    command.env("ORCHESTRA_MEMORY_COHERENCE_OPERATIONS", operations.to_string());
    if let Some(seed) = seed {
        command.env("ORCHESTRA_MEMORY_COHERENCE_SEED", seed.to_string());
    }
    let finished = with_redis(Absence::Fails, |redis| {
        redis.give(&mut command);
        shell::tee(&mut command)
    })?;
    if !finished.success {
        bail!("coherence: a promise was broken, or a cache that breaks one was not found");
    }
    let figures = figures(&finished.text).context(
        "coherence: nothing was run: MEMORY_TEST_REDIS_BIN has to name a folder with redis-server",
    )?;
    if figures.operations < operations || figures.hits == 0 || figures.stale != 0 {
        bail!("coherence: the run did not do what was asked for");
    }
    let found = finished.text.lines().filter(|line| line.contains(" found within ")).count();
    if found == 0 {
        bail!("coherence: no cache that does something wrong was run");
    }
    println!(
        "\ncoherence: {} operations, {} hits, {} flushes and {} kills of Redis, nothing older than \
         it may be; {found} caches that do something wrong, each found",
        figures.operations, figures.hits, figures.flushes, figures.kills
    );
    Ok(())
}

/// Tests of the runs by their names, with their output shown.
fn tests(names: &[&str]) -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--package", "orchestra-memory", "--all-features"]);
    command.args(["--test", "coherence", "--", "--nocapture", "--test-threads=1", "--exact"]);
    command.args(names);
    command
}

/// What the honest run says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    operations: u64,
    hits: u64,
    flushes: u64,
    kills: u64,
    stale: u64,
}

/// The line of a run: `coherence: 9 operations, 8 hits, ...`.
fn figures(text: &str) -> Option<Figures> {
    let one = |line: &str| -> Option<Figures> {
        let (_, rest) = line.split_once("coherence: ")?;
        let parts: Vec<_> = rest.split(", ").filter_map(|part| part.split_once(' ')).collect();
        let named = |name: &str| -> Option<u64> {
            parts.iter().find(|(_, what)| *what == name)?.0.parse().ok()
        };
        Some(Figures {
            operations: named("operations")?,
            hits: named("hits")?,
            flushes: named("flushes")?,
            kills: named("kills")?,
            stale: named("stale")?,
        })
    };
    text.lines().find_map(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_run_is_read() {
        let text = "coherence: x found within 6 operations, seed 7\ncoherence seed 7\n\
                    test a ... coherence: 9 operations, 8 hits, 2 flushes, 1 kills, 0 stale, \
                    1.5 seconds\nok\n";
        let expected = Figures { operations: 9, hits: 8, flushes: 2, kills: 1, stale: 0 };
        assert_eq!(figures(text), Some(expected));
        assert_eq!(figures("test result: ok"), None);
        assert_eq!(figures("coherence: x found within 6 operations, seed 7"), None);
    }
}

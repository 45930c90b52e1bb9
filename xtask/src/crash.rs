//! `cargo xtask crash`: a process that commits from several threads is killed again and again, and
//! what it had said to be committed is there.

use anyhow::{Context as _, Result, bail};

use crate::powerloss::{numbers, one_test};
use crate::shell;

/// How often where it is not said.
const TIMES: u64 = 200;
/// The test that does it.
const TEST: &str = "crash::kill::a_killed_process_leaves_every_acknowledged_commit_whole";

/// Kills a process so many times.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [times, seed] = numbers(args, ["--times", "--seed"])?;
    let times = times.unwrap_or(TIMES);
    let mut command = one_test("memory-sqlite", TEST);
    command.env("MEMORY_SQLITE_CRASH_TIMES", times.to_string());
    if let Some(seed) = seed {
        command.env("MEMORY_SQLITE_CRASH_SEED", seed.to_string());
    }
    let finished = shell::tee(&mut command)?;
    if !finished.success {
        bail!("crash: something acknowledged is not there, or the run failed");
    }
    let killed = killed(&finished.text).context("crash: the run said nothing of itself")?;
    if killed != times {
        bail!("crash: {killed} kills where {times} were asked for");
    }
    Ok(())
}

/// The line of a run: `crash: 9 times killed, ...`.
fn killed(text: &str) -> Option<u64> {
    let (_, rest) = text.lines().find_map(|line| line.split_once("crash: "))?;
    rest.split_once(" times killed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kills_of_a_run_are_counted() {
        assert_eq!(killed("seed 7\ncrash: 15 times killed, 619 commits\nok\n"), Some(15));
        assert_eq!(killed("test result: ok"), None);
    }
}

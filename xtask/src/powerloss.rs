//! `cargo xtask powerloss`: power that fails at random moments under load, over a disk in memory that
//! discards what was not synced; with syncs, where nothing may be lost, and without, where something
//! has to be, or the check would prove nothing.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Points of each kind where none are asked for.
const POINTS: u64 = 1_000;
/// The tests, and the name that each gives its line.
const FULL: (&str, &str) =
    ("powerloss::with_syncs_nothing_acknowledged_is_lost_and_nothing_is_half_there", "full");
const OFF: (&str, &str) = ("powerloss::without_syncs_the_same_check_finds_lost_commits", "off");

/// What a run says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Figures {
    points: u64,
    acknowledged: u64,
    lost: u64,
    half: u64,
}

/// Runs both ways and judges the figures.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let [points, seed] = numbers(args, ["--points", "--seed"])?;
    let points = points.unwrap_or(POINTS);
    let mut found = Vec::new();
    for (test, name) in [FULL, OFF] {
        let mut command = one_test("memory-sqlite", test);
        command.env("MEMORY_SQLITE_POWERLOSS_POINTS", points.to_string());
        if let Some(seed) = seed {
            command.env("MEMORY_SQLITE_POWERLOSS_SEED", seed.to_string());
        }
        let finished = shell::tee(&mut command)?;
        let figures = figures(&finished.text, name)
            .with_context(|| format!("powerloss: the run `{name}` said nothing of itself"))?;
        found.push((name, figures, finished.success));
    }
    println!("\n| synchronous | points | acknowledged | lost | half |");
    println!("|---|---:|---:|---:|---:|");
    for (name, figures, _) in &found {
        let Figures { points, acknowledged, lost, half } = figures;
        println!("| {name} | {points} | {acknowledged} | {lost} | {half} |");
    }
    for (name, figures, success) in &found {
        judge(name, figures, points, *success)?;
    }
    println!("\npowerloss: with syncs nothing was lost; without them the same check found losses");
    Ok(())
}

/// Whether the figures of a run are what they must be.
fn judge(name: &str, figures: &Figures, points: u64, success: bool) -> Result<()> {
    if !success {
        bail!("powerloss: the run `{name}` failed");
    }
    if figures.points != points || figures.acknowledged == 0 {
        bail!("powerloss: the run `{name}` did not do what was asked for");
    }
    let nothing = figures.lost == 0 && figures.half == 0;
    if name == FULL.1 && !nothing {
        bail!("powerloss: acknowledged commits were lost");
    }
    if name == OFF.1 && figures.lost == 0 {
        bail!("powerloss: without syncs nothing was lost, so the check proves nothing");
    }
    Ok(())
}

/// The line of a run: `powerloss NAME: 9 points, 8 commits acknowledged, 7 lost, 6 half, ...`.
fn figures(text: &str, name: &str) -> Option<Figures> {
    let mark = format!("powerloss {name}: ");
    let (_, rest) = text.lines().find_map(|line| line.split_once(&mark))?;
    let mut numbers = rest.split(", ").map(|part| part.split(' ').next()?.parse().ok());
    let mut next = || numbers.next()?;
    Some(Figures { points: next()?, acknowledged: next()?, lost: next()?, half: next()? })
}

/// One test of a crate's integration tests, by its whole name, with its output shown.
pub(crate) fn one_test(package: &str, test: &str) -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--package", package, "--all-features", "--test", "it", "--"]);
    command.args(["--exact", test, "--nocapture"]);
    command
}

/// The numbers behind the named options, each at most once and in any order.
pub(crate) fn numbers<const N: usize>(
    args: &[String],
    names: [&str; N],
) -> Result<[Option<u64>; N]> {
    let mut found = [None; N];
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let place = names.iter().position(|name| name == arg);
        let place = place.with_context(|| format!("`{arg}` is none of {}", names.join(", ")))?;
        let value = args.next().with_context(|| format!("{arg} needs a number"))?;
        let value =
            value.parse().with_context(|| format!("{arg} needs a number, not `{value}`"))?;
        if found[place].replace(value).is_some() {
            bail!("{arg} is given twice");
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_of_a_run_is_read_behind_whatever_the_runner_writes() {
        let text = "test a ... full: seed 3\npowerloss full: 9 points, 8 commits acknowledged, \
                    7 lost, 6 half, 0 unreadable; unsynced changes: 1 kept\nok\n";
        let expected = Figures { points: 9, acknowledged: 8, lost: 7, half: 6 };
        assert_eq!(figures(text, "full"), Some(expected));
        assert_eq!(figures(text, "off"), None);
        assert_eq!(figures("powerloss off: no figures", "off"), None);
    }

    #[test]
    fn both_ways_have_to_come_out_as_they_must() {
        let figures = |lost, half| Figures { points: 9, acknowledged: 8, lost, half };
        assert!(judge("full", &figures(0, 0), 9, true).is_ok());
        assert!(judge("full", &figures(1, 0), 9, true).is_err());
        assert!(judge("full", &figures(0, 1), 9, true).is_err());
        assert!(judge("full", &figures(0, 0), 10, true).is_err());
        assert!(judge("full", &figures(0, 0), 9, false).is_err());
        assert!(judge("off", &figures(1, 1), 9, true).is_ok());
        assert!(judge("off", &figures(0, 0), 9, true).is_err());
    }

    #[test]
    fn options_are_numbers() {
        let names = ["--points", "--seed"];
        assert_eq!(numbers(&words("--seed 3 --points 7"), names).unwrap(), [Some(7), Some(3)]);
        assert_eq!(numbers(&[], names).unwrap(), [None, None]);
        for refused in ["--points", "--points x", "--point 3", "3", "--seed 1 --seed 2"] {
            assert!(numbers(&words(refused), names).is_err(), "{refused}");
        }
    }
}

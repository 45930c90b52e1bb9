//! `cargo xtask simulate`: the composed stack under simulated faults, many seeds; and the planted
//! faults, each of which has to be found.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::metadata::Metadata;
use crate::powerloss::numbers;
use crate::shell;

/// Seeds where it is not said, and in CI: there about a minute with all planted faults.
const SEEDS: u64 = 2_000;
const CI_SEEDS: u64 = 400;
/// The tests.
const HONEST: &str = "what_is_acknowledged_stays_and_what_failed_says_so";
const AGAIN: &str = "a_seed_gives_the_same_run_again";
const PLANTED: &str = "every_planted_fault_is_found";

/// What is to be run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    seeds: Option<u64>,
    seed: Option<u64>,
    mutant: Option<String>,
}

impl Plan {
    /// `--seeds N`, `--seed S`, `--mutant NAME`, each at most once and in any order.
    fn read(args: &[String]) -> Result<Self> {
        let mut rest = args.to_vec();
        let mut mutant = None;
        if let Some(place) = rest.iter().position(|arg| arg == "--mutant") {
            rest.remove(place);
            if place == rest.len() {
                bail!("--mutant needs a name, or `all`");
            }
            mutant = Some(rest.remove(place));
        }
        let [seeds, seed] = numbers(&rest, ["--seeds", "--seed"])
            .context("simulate takes --seeds N, --seed S and --mutant NAME or all")?;
        if mutant.is_some() && (seeds.is_some() || seed.is_some()) {
            bail!("--mutant chooses its seeds itself: leave out --seeds and --seed");
        }
        Ok(Self { seeds, seed, mutant })
    }
}

/// What the honest run says of itself.
#[derive(Debug, PartialEq)]
struct Figures {
    seeds: u64,
    calls: u64,
    requests: u64,
    retries: u64,
    seconds: f64,
}

/// Runs what the arguments say; without any, the seeds and then every planted fault.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let plan = Plan::read(args)?;
    if let Some(mutant) = &plan.mutant {
        return planted(mutant);
    }
    honest(&plan)?;
    // A seed that was asked for is one to look at.
    if plan.seed.is_some() { Ok(()) } else { planted("all") }
}

/// A step of `cargo xtask ci`: fewer seeds, and every planted fault.
pub(crate) fn for_ci(_: &Metadata) -> Result<()> {
    honest(&Plan { seeds: Some(CI_SEEDS), ..Plan::default() })?;
    planted("all")
}

/// The honest stack: nothing may be found.
fn honest(plan: &Plan) -> Result<()> {
    let mut command = tests(&[HONEST, AGAIN]);
    let seeds = plan.seeds.unwrap_or(if plan.seed.is_some() { 1 } else { SEEDS });
    command.env("ORCHESTRA_MEMORY_SIM_SEEDS", seeds.to_string());
    match plan.seed {
        Some(seed) => command.env("ORCHESTRA_MEMORY_SIM_SEED", seed.to_string()),
        None => command.env_remove("ORCHESTRA_MEMORY_SIM_SEED"),
    };
    let finished = shell::tee(&mut command)?;
    if !finished.success {
        bail!("simulate: a promise was broken; the seeds stand above, `--seed S` shows one again");
    }
    let figures = figures(&finished.text).context("simulate: the run said nothing of itself")?;
    if figures.seeds != seeds || figures.calls == 0 {
        bail!("simulate: the run did not do what was asked for");
    }
    println!("\n| fault | times | runs that met it |");
    println!("|---|---:|---:|");
    for (name, times, runs) in faults(&finished.text) {
        println!("| {name} | {times} | {} % |", (runs * 100).div_ceil(figures.seeds));
    }
    let Figures { seeds, calls, requests, retries, seconds } = figures;
    #[expect(clippy::cast_precision_loss, reason = "a figure for the eye")]
    let pace = seeds as f64 / seconds.max(0.001);
    println!(
        "\nsimulate: {seeds} seeds in {seconds:.1} s, {pace:.1} a second; {calls} calls, \
         {requests} requests, {retries} retries; nothing was found"
    );
    Ok(())
}

/// Planted faults: each has to be found.
fn planted(mutant: &str) -> Result<()> {
    let mut command = tests(&[PLANTED]);
    command.env("ORCHESTRA_MEMORY_SIM_MUTANT", mutant);
    let finished = shell::tee(&mut command)?;
    if !finished.success {
        bail!("simulate: a planted fault survives, so that the simulation proves nothing");
    }
    let found = finished.text.lines().filter(|line| line.contains(": found by seed ")).count();
    if found == 0 {
        bail!("simulate: no planted fault was run");
    }
    println!("\nsimulate: {found} planted faults, each found");
    Ok(())
}

/// Tests of the simulation by their names, with their output shown.
fn tests(names: &[&str]) -> Command {
    let mut command = shell::cargo();
    command.args(["test", "--package", "orchestra-memory", "--all-features"]);
    command.args(["--test", "simulation", "--", "--nocapture", "--test-threads=1", "--exact"]);
    command.args(names);
    command
}

/// The line of a run: `simulate: 9 seeds, 0 failed, 8 calls, 7 requests, 6 retries, ...`.
fn figures(text: &str) -> Option<Figures> {
    let (_, rest) = text.lines().find_map(|line| line.split_once("simulate: "))?;
    let parts: Vec<_> = rest.split(", ").filter_map(|part| part.split_once(' ')).collect();
    let named = |name: &str| parts.iter().find(|(_, what)| *what == name).map(|(n, _)| *n);
    Some(Figures {
        seeds: named("seeds")?.parse().ok()?,
        calls: named("calls")?.parse().ok()?,
        requests: named("requests")?.parse().ok()?,
        retries: named("retries")?.parse().ok()?,
        seconds: named("seconds")?.parse().ok()?,
    })
}

/// The lines of the faults: `simulate fault NAME: 9 times, in 8 runs`.
fn faults(text: &str) -> Vec<(&str, u64, u64)> {
    let one = |line| -> Option<(&str, u64, u64)> {
        let (name, rest) = str::split_once(line, "simulate fault ")?.1.split_once(": ")?;
        let (times, runs) = rest.split_once(" times, in ")?;
        Some((name, times.parse().ok()?, runs.strip_suffix(" runs")?.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_lines_of_a_run_are_read() {
        let text = "test a ... simulate: 9 seeds, 0 failed, 80 calls, 70 requests, 6 retries, \
                    2 repeats, 1.5 seconds\nsimulate fault slow: 3 times, in 2 runs\nok\n";
        let expected = Figures { seeds: 9, calls: 80, requests: 70, retries: 6, seconds: 1.5 };
        assert_eq!(figures(text), Some(expected));
        assert_eq!(faults(text), [("slow", 3, 2)]);
        assert_eq!(figures("test result: ok"), None);
    }

    #[test]
    fn arguments_are_seeds_or_a_mutant() {
        let plan = Plan::read(&words("--seed 3 --seeds 7")).unwrap();
        assert_eq!((plan.seed, plan.seeds), (Some(3), Some(7)));
        let mutant = Plan::read(&words("--mutant all")).unwrap().mutant;
        assert_eq!(mutant.as_deref(), Some("all"));
        assert_eq!(Plan::read(&[]).unwrap(), Plan::default());
        for refused in ["--mutant", "--mutant x --seed 1", "--seeds x", "--point 3"] {
            assert!(Plan::read(&words(refused)).is_err(), "{refused}");
        }
    }
}

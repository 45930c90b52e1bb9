//! `cargo xtask ci`: everything that has to pass before a merge, cheapest first, ended by the
//! first step that fails.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::metadata::Metadata;
use crate::{features, layers, licences, msrv, servers, shell, simulate, testing, tidy};

/// One step: its name, and what it does.
type Step = (&'static str, fn(&Metadata) -> Result<()>);

const STEPS: &[Step] = &[
    ("format", |_| cargo(&["fmt", "--all", "--check"])),
    ("tidy", |_| tidy::run()),
    ("layers", layers::check_workspace),
    ("licences", licences::check_workspace),
    ("msrv", msrv::check_workspace),
    ("clippy", |_| {
        cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"])
    }),
    ("features", features::check_workspace),
    ("docs", |_| docs()),
    ("absent", testing::without_firestore),
    ("test", |_| testing::run(&[])),
    ("simulate", simulate::for_ci),
];

/// Runs all steps.
pub(crate) fn run() -> Result<()> {
    // Now and not after everything else, where it is a failure.
    let skipped = servers::foresee()?;
    let metadata = Metadata::load()?;
    let mut done: Vec<(&str, Duration)> = Vec::new();
    for (name, step) in STEPS {
        eprintln!("\n== {name}");
        let (result, time) = shell::timed(|| step(&metadata));
        if result.is_err() {
            summary(&done);
            eprintln!("  {name:<10} FAILED after {:.1} s", time.as_secs_f64());
        }
        result.with_context(|| format!("step `{name}`"))?;
        eprintln!("== {name}: ok, {:.1} s", time.as_secs_f64());
        done.push((name, time));
    }
    summary(&done);
    match skipped {
        None => eprintln!("ci: all {} steps passed", done.len()),
        Some(note) => {
            eprintln!("ci: all {} steps passed, but for what was skipped{note}", done.len())
        }
    }
    Ok(())
}

fn summary(done: &[(&str, Duration)]) {
    eprintln!("\n== summary");
    for (name, time) in done {
        eprintln!("  {name:<10} ok {:>8.1} s", time.as_secs_f64());
    }
}

fn cargo(args: &[&str]) -> Result<()> {
    shell::run(shell::cargo().args(args))
}

fn docs() -> Result<()> {
    let mut command = shell::cargo();
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell::run(command.args(["doc", "--workspace", "--no-deps", "--all-features"]))
}

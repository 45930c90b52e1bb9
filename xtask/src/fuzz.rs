//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, for a while each, where a nightly toolchain is
//! present.
//!
//! What the fuzzer finds worth keeping goes to the folder of build products and not to the corpora
//! of the repository; an input that breaks an invariant is shown, to be added there by hand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::metadata::Metadata;
use crate::shell;

/// The folder of the fuzz programs.
const FOLDER: &str = "fuzz";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    /// How long each target runs.
    seconds: u32,
    /// One target; `None` is all.
    target: Option<&'a str>,
}

fn parse(args: &[String]) -> Result<Asked<'_>> {
    let mut asked = Asked { seconds: 60, target: None };
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        match arg.strip_prefix("--seconds") {
            Some(value) => {
                let value = match value.strip_prefix('=') {
                    Some(value) => value,
                    None if value.is_empty() => args.next().unwrap_or(""),
                    None => bail!("unknown argument `{arg}`; known: --seconds N, and a target"),
                };
                asked.seconds = value
                    .parse()
                    .ok()
                    .filter(|seconds| (1..=86_400).contains(seconds))
                    .with_context(|| format!("--seconds needs 1 to 86400, not `{value}`"))?;
            }
            None if arg.starts_with('-') => {
                bail!("unknown argument `{arg}`; known: --seconds N, and a target")
            }
            None if asked.target.is_some() => bail!("name one target or none"),
            None => asked.target = Some(arg),
        }
    }
    Ok(asked)
}

/// Runs all targets or the named one.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let asked = parse(args)?;
    let mut names = names()?;
    if let Some(only) = asked.target {
        if !names.iter().any(|name| name == only) {
            bail!("no target `{only}`; there are {}", names.join(", "));
        }
        names.retain(|name| name == only);
    }
    let toolchain = nightly()?;
    let target = Metadata::load()?.target_directory;
    let tool = tool(&target)?;
    println!("building {} target(s) with {toolchain}; the first time takes minutes", names.len());
    let mut build = fuzzer(&tool, &toolchain, &target, "build");
    if let Some(only) = asked.target {
        build.arg(only);
    }
    shell::run(&mut build)?;
    let mut failures = Vec::new();
    for name in &names {
        if let Err(error) = fuzz(&tool, &toolchain, &target, name, asked.seconds) {
            println!("{error:#}");
            failures.push(name.as_str());
        }
    }
    if !failures.is_empty() {
        bail!("fuzz: {} broke: {}", failures.len(), failures.join(", "));
    }
    println!("fuzz: {} target(s), {} s each, no find", names.len(), asked.seconds);
    Ok(())
}

/// The names of all targets.
fn names() -> Result<Vec<String>> {
    let folder = shell::root().join(FOLDER).join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

/// The name of a nightly toolchain, as `rustup` knows it.
fn nightly() -> Result<String> {
    let listed = shell::quiet(Command::new("rustup").args(["toolchain", "list"]));
    let text = listed.map(|finished| finished.text).unwrap_or_default();
    first_nightly(&text).map(str::to_owned).context(
        "fuzzing needs a nightly toolchain, and rustup knows none: install one with \
         `rustup toolchain install nightly`. Without it `cargo test -p fuzz-targets` runs the \
         corpora through the same functions",
    )
}

fn first_nightly(list: &str) -> Option<&str> {
    list.lines().filter_map(|line| line.split_whitespace().next()).find(|name| {
        name.strip_prefix("nightly").is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    })
}

/// The program of `cargo fuzz`; it is installed among the build products where it is missing.
fn tool(target: &Path) -> Result<PathBuf> {
    let root = target.join("tools");
    let tool = root.join("bin").join(format!("cargo-fuzz{}", std::env::consts::EXE_SUFFIX));
    if !tool.is_file() {
        println!("cargo-fuzz is not there; it is installed to {}", root.display());
        let mut install = shell::cargo();
        install.args(["install", "cargo-fuzz", "--locked", "--root"]).arg(&root);
        shell::run(&mut install)?;
    }
    Ok(tool)
}

/// A call of `cargo fuzz`. The sanitizer is off: the code under test has no `unsafe` of its own, and
/// without it the same time gives several times the inputs.
fn fuzzer(tool: &Path, toolchain: &str, target: &Path, command: &str) -> Command {
    let mut call = Command::new(tool);
    call.current_dir(shell::root())
        .args([command, "--fuzz-dir", FOLDER, "--sanitizer", "none"])
        .env("RUSTUP_TOOLCHAIN", toolchain)
        .env("CARGO_TARGET_DIR", target.join("fuzz"))
        // The compiler that runs this program is not the one to build with.
        .env_remove("CARGO")
        .env_remove("RUSTC");
    call
}

/// Runs one target from the corpus of the repository and what earlier runs have found.
fn fuzz(tool: &Path, toolchain: &str, target: &Path, name: &str, seconds: u32) -> Result<()> {
    let found = target.join("fuzz").join("corpus").join(name);
    let broken = target.join("fuzz").join("artifacts").join(name);
    for folder in [&found, &broken] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let corpus = shell::root().join(FOLDER).join("corpus").join(name);
    println!("{name}: {seconds} s");
    let mut call = fuzzer(tool, toolchain, target, "run");
    call.arg(name).arg(&found).arg(&corpus).arg("--").args([
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={}/", broken.display()),
        "-max_len=4096".to_owned(),
        "-timeout=20".to_owned(),
        "-print_final_stats=1".to_owned(),
    ]);
    let finished = shell::quiet(&mut call)?;
    if finished.success {
        let inputs = statistic(&finished.text, "number_of_executed_units").unwrap_or("?");
        println!("{name}: {inputs} inputs, no find");
        return Ok(());
    }
    let tail: Vec<&str> = finished.text.lines().rev().take(60).collect();
    for line in tail.iter().rev() {
        println!("  {line}");
    }
    bail!(
        "{name}: an invariant broke; the input lies in {}. Mend the code, and add the input, made \
         small by `cargo fuzz tmin`, to {FOLDER}/corpus/{name}",
        broken.display()
    )
}

/// A number of the fuzzer's final statistics.
fn statistic<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("stat::{name}:");
    text.lines().find_map(|line| line.strip_prefix(prefix.as_str())).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_time_and_a_target() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        for (text, seconds, target) in [
            ("", 60, None),
            ("--seconds 5", 5, None),
            ("filters", 60, Some("filters")),
            ("filters --seconds=7", 7, Some("filters")),
        ] {
            assert_eq!(parse(&words(text)).unwrap(), Asked { seconds, target }, "{text}");
        }
        for refused in ["--seconds", "--seconds 0", "--seconds x", "--secondsy 3", "--fast", "a b"]
        {
            assert!(parse(&words(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_nightly_toolchain_is_told_from_others() {
        let list = "stable-x86_64-unknown-linux-gnu (active, default)\nnightly-2026-01-01-x86_64\n";
        assert_eq!(first_nightly(list), Some("nightly-2026-01-01-x86_64"));
        assert_eq!(first_nightly("nightly\n"), Some("nightly"));
        assert_eq!(first_nightly("stable\nmy-nightly\nnightlyish\n"), None);
    }

    #[test]
    fn targets_are_the_programs_of_the_folder() {
        assert!(names().unwrap().iter().any(|name| name == "filters"));
        let text = "noise\nstat::number_of_executed_units: 123\n";
        assert_eq!(statistic(text, "number_of_executed_units"), Some("123"));
        assert_eq!(statistic(text, "peak_rss_mb"), None);
    }
}

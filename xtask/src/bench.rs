//! `cargo xtask bench`: the benches of `benches/`, in release mode, and their page in `docs/`.

use anyhow::{Context as _, Result, bail};

use crate::metadata::Metadata;
use crate::{model, program, shell};

/// The bench that needs the model's files.
const EMBED: &str = "embed";

/// The page that `--save` writes.
const PAGE: &str = "docs/benchmarks.md";

/// Runs all benches or the named one; what follows `--` goes to the bench program. With `--save`
/// the tables that they print become the page of figures.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let split = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (words, pass) = args.split_at(split);
    let save = words.iter().any(|word| word == "--save");
    let names: Vec<_> = words.iter().filter(|word| *word != "--save").collect();
    let mut command = shell::cargo();
    command.args(["bench", "--package", "benches"]);
    match names.as_slice() {
        [] => command.arg("--benches"),
        [_] if save => bail!("--save writes the page of all benches: name none"),
        [name] if !name.starts_with('-') => command.args(["--bench", name]),
        _ => bail!("name one bench or none; arguments of the bench program go behind `--`"),
    };
    if names.is_empty() || names.iter().any(|name| *name == EMBED) {
        let target = Metadata::load()?.target_directory;
        let program = program::build_release(&target)?;
        command.env(program::MODEL_DIR, model::ensure(&program, &target)?);
    }
    command.args(pass);
    if !save {
        return shell::run(&mut command);
    }
    let finished = shell::tee(&mut command)?;
    if !finished.success {
        bail!("a bench failed");
    }
    let mut tables = String::new();
    for line in finished.text.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            tables.push_str(&format!("\n## {title}\n\n"));
        } else if line.starts_with('|') {
            tables.push_str(line);
            tables.push('\n');
        }
    }
    let page = shell::root().join(PAGE);
    std::fs::write(&page, format!("{}{tables}", head())).context("the page cannot be written")?;
    println!("\nwritten: {PAGE}");
    Ok(())
}

/// What stands above the tables.
fn head() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split(':').nth(1)?.trim().to_owned())
        })
        .unwrap_or_else(|| "an unknown processor".to_owned());
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --save`; do not edit by hand.\n\n\
         Each row stands beside a baseline that took turns with it in the same run: the ratios bind, \
         the absolute figures are those of one busy machine.\n\
         What a baseline does, and what the physical limit is, stands at the head of its file in \
         `benches/benches/`.\n\n\
         Machine: {processor}, {threads} threads.\n"
    )
}

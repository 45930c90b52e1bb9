//! `cargo xtask bench`: the benches of `benches/`, in release mode, and their page in `docs/`.

use anyhow::{Context as _, Result, bail};

use crate::metadata::Metadata;
use crate::servers::{self, Absence, Firestore, Redis};
use crate::{model, program, rival, shell};

/// The bench that needs the model's files.
const EMBED: &str = "embed";

/// The bench that needs an emulator of Firestore.
const FIRESTORE: &str = "firestore";

/// The bench that needs a Redis server, and for some of its rows an emulator of Firestore.
const REDIS: &str = "redis";

/// The folder of the benches, a file each.
const FOLDER: &str = "benches/benches";

/// The page that `--save` writes.
const PAGE: &str = "docs/benchmarks.md";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    /// One bench; `None` is all.
    name: Option<&'a str>,
    save: bool,
    /// What goes to the bench program, behind `--`.
    pass: &'a [String],
}

impl Asked<'_> {
    fn includes(&self, name: &str) -> bool {
        self.name.is_none_or(|only| only == name)
    }
}

fn parse(args: &[String]) -> Result<Asked<'_>> {
    let split = args.iter().position(|arg| arg == "--").unwrap_or(args.len());
    let (words, pass) = args.split_at(split);
    let save = words.iter().any(|word| word == "--save");
    let names: Vec<_> = words.iter().filter(|word| *word != "--save").collect();
    let name = match names.as_slice() {
        [] => None,
        [_] if save => bail!("--save writes the page of all benches: name none"),
        [name] if !name.starts_with('-') => Some(name.as_str()),
        _ => bail!("name one bench or none; arguments of the bench program go behind `--`"),
    };
    Ok(Asked { name, save, pass })
}

/// Runs all benches or the named one; what follows `--` goes to the bench program. With `--save`
/// the tables that they print become the page of figures.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let asked = parse(args)?;
    let names = names()?;
    let is_asked = |name: &str| asked.includes(name) && names.iter().any(|it| it == name);
    // A page without one of its tables would look like one that never had it.
    let absence = |name: &str| {
        if asked.save || asked.name == Some(name) { Absence::Fails } else { Absence::Skips }
    };
    let with_firestore = |redis: Option<&Redis>| {
        if !is_asked(FIRESTORE) && !is_asked(REDIS) {
            return run_with(&asked, &names, None, redis);
        }
        servers::with_firestore(absence(FIRESTORE), |firestore| {
            run_with(&asked, &names, Some(firestore), redis)
        })
    };
    if !is_asked(REDIS) {
        return with_firestore(None);
    }
    servers::with_redis(absence(REDIS), |redis| with_firestore(Some(redis)))
}

/// The names of all benches.
fn names() -> Result<Vec<String>> {
    let folder = shell::root().join(FOLDER);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn run_with(
    asked: &Asked<'_>,
    names: &[String],
    firestore: Option<&Firestore>,
    redis: Option<&Redis>,
) -> Result<()> {
    let mut command = shell::cargo();
    command.args(["bench", "--package", "benches"]);
    match asked.name {
        Some(name) => {
            command.args(["--bench", name]);
        }
        None => {
            let lacks_firestore = firestore.is_some_and(Firestore::is_absent);
            let lacks_redis = redis.is_some_and(Redis::is_absent);
            let those = names.iter().filter(|name| {
                !(lacks_firestore && *name == FIRESTORE || lacks_redis && *name == REDIS)
            });
            command.args(those.flat_map(|name| ["--bench", name]));
        }
    }
    if let Some(firestore) = firestore {
        firestore.give(&mut command);
    }
    if let Some(redis) = redis {
        redis.give(&mut command);
    }
    if asked.includes(EMBED) {
        let target = Metadata::load()?.target_directory;
        let program = program::build_release(&target)?;
        command.env(program::MODEL_DIR, model::ensure(&program, &target)?);
        rival::give(&mut command, &target);
    }
    command.args(asked.pass);
    if !asked.save {
        return shell::run(&mut command);
    }
    let finished = shell::tee(&mut command)?;
    if !finished.success {
        bail!("a bench failed");
    }
    save(&finished.text)
}

/// Writes the page from what the benches have printed.
fn save(text: &str) -> Result<()> {
    let mut tables = String::new();
    for line in text.lines() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_one_bench_or_all() {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let args = words("firestore -- --pairs 3");
        let one = parse(&args).unwrap();
        assert_eq!((one.name, one.save, one.pass), (Some("firestore"), false, &args[1..]));
        assert!(one.includes(FIRESTORE) && !one.includes(EMBED));
        let args = words("--save");
        let all = parse(&args).unwrap();
        assert!(all.save && all.includes(FIRESTORE) && all.includes(EMBED));
        for refused in ["write --save", "write search", "--quick"] {
            assert!(parse(&words(refused)).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_benches_are_the_files_of_their_folder() {
        let names = names().unwrap();
        assert!(names.iter().any(|name| name == EMBED), "{names:?}");
    }
}

//! Canaries: memory text and secrets of the tests, searched for in all that a run of them wrote.
//!
//! The tests store texts and use keys that hold distinctive words. None of them may be in what the
//! tests print or trace; this looks, and says where one is, never what stands around it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What must not be seen: the text of the test kit, and the texts and secrets of tests.
const CANARIES: [&str; 7] = [
    "zqxcanarytext",
    "text-canary-5161",
    "key-canary",
    "canary-client-secret",
    "canary-refresh-token",
    "canary-subject-token",
    "canary-access-token",
];

/// What every one of them contains.
const COMMON: &str = "canary";

/// The variable in which test processes find the folder for their traces.
const FOLDER: &str = "ORCHESTRA_MEMORY_TEST_TRACES";
/// The variable with which one test leaks on purpose, and a part of that test's name.
const LEAK: &str = "ORCHESTRA_MEMORY_TEST_LEAK";
const LEAKING_TEST: &str = "canary_leaks_where_it_is_told_to";

/// Where the outputs of a run are gathered; removed when it is dropped.
pub(crate) struct Cage {
    folder: PathBuf,
}

impl Cage {
    /// An empty one in the target folder.
    pub(crate) fn new(target: &Path, name: &str) -> Result<Self> {
        let folder = target.join("canaries").join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Gives a command the folder for traces.
    pub(crate) fn give(&self, command: &mut Command) {
        command.env(FOLDER, &self.folder);
    }

    /// Has nextest write the output of every test, also of those that pass, into the folder.
    pub(crate) fn keep_outputs(&self, command: &mut Command) -> Result<()> {
        let junit = self.folder.join("outputs.xml");
        let settings = self.folder.join("nextest.toml");
        let text = format!(
            "[profile.default.junit]\npath = {}\nstore-success-output = true\n\
             store-failure-output = true\n",
            serde_json::to_string(&junit.to_string_lossy())?
        );
        fs::write(&settings, text)?;
        command.arg("--tool-config-file").arg(format!("orchestra-xtask:{}", settings.display()));
        Ok(())
    }

    /// Adds an output that was gathered by other means.
    pub(crate) fn add(&self, name: &str, text: &str) -> Result<()> {
        Ok(fs::write(self.folder.join(name), text)?)
    }

    /// The places of canaries, `FILE:LINE`.
    fn places(&self) -> Result<Vec<String>> {
        let mut places = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            search(&path, &mut places)?;
        }
        places.sort();
        Ok(places)
    }

    /// Fails where a canary is in what was gathered; keeps the files then, to look into.
    pub(crate) fn check(self) -> Result<()> {
        let places = self.places()?;
        if places.is_empty() {
            return Ok(());
        }
        let folder = self.folder.clone();
        std::mem::forget(self);
        bail!(
            "memory text or a secret of the tests is in {} lines of their output, in {}:\n  {}",
            places.len(),
            folder.display(),
            places.iter().take(20).map(String::as_str).collect::<Vec<_>>().join("\n  ")
        )
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Runs the test that leaks on purpose, and fails if the search does not find it in the outputs
/// and in the traces. `command` runs tests by nextest and has everything but a choice of them.
pub(crate) fn prove(target: &Path, mut command: Command) -> Result<()> {
    let cage = Cage::new(target, "leak")?;
    cage.give(&mut command);
    cage.keep_outputs(&mut command)?;
    command.env(LEAK, "1").arg("--no-fail-fast").arg(LEAKING_TEST);
    let finished = shell::quiet(&mut command)?;
    if !finished.success {
        bail!("the test that leaks on purpose did not run:\n{}", finished.text);
    }
    let places = cage.places()?;
    for (what, end) in [("the outputs", "outputs.xml:"), ("the traces", ".trace:")] {
        if !places.iter().any(|place| place.contains(end)) {
            bail!("a canary was let out on purpose, and was not found in {what}");
        }
    }
    eprintln!("canaries: none in the outputs and traces of the tests; one let out was found");
    Ok(())
}

fn search(path: &Path, places: &mut Vec<String>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path)?);
    let (mut line, mut number, mut test) = (Vec::new(), 0_usize, String::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        let text = String::from_utf8_lossy(&line);
        // Of the tests' outputs the test is worth more than the line.
        if let Some(named) = text.split_once("<testcase name=\"").map(|(_, rest)| rest) {
            named.split('"').next().unwrap_or_default().clone_into(&mut test);
        }
        // One look at most lines, of which there are gigabytes, instead of one for each word.
        if text.contains(COMMON) && CANARIES.iter().any(|canary| text.contains(canary)) {
            let of = if test.is_empty() { String::new() } else { format!(" (test {test})") };
            places.push(format!("{name}:{number}{of}"));
        }
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_canaries_have_the_common_part() {
        assert!(CANARIES.iter().all(|canary| canary.contains(COMMON)));
    }

    #[test]
    fn a_canary_is_found_and_told_by_its_place_alone() {
        let target = tempfile::tempdir().unwrap();
        let clean = Cage::new(target.path(), "clean").unwrap();
        clean.add("a.trace", "nothing here\n").unwrap();
        clean.check().unwrap();
        let cage = Cage::new(target.path(), "leak").unwrap();
        let text = format!("one\n<testcase name=\"t::x\">\nbefore {} after\n", CANARIES[0]);
        cage.add("outputs.xml", &text).unwrap();
        let told = format!("{:#}", cage.check().unwrap_err());
        assert!(told.contains("outputs.xml:3 (test t::x)"), "{told}");
        assert!(!CANARIES.iter().any(|canary| told.contains(canary)) && !told.contains("before"));
    }
}

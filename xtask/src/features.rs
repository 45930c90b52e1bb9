//! `cargo xtask features`: each feature of each crate builds alone, with none, and with all.
//!
//! Features are additive, so what has to be proved is that none leans on another; the power set
//! would prove little more and take hours.

use anyhow::{Result, bail};

use crate::metadata::{Metadata, Package};
use crate::shell;

/// Checks every crate of `crates/`.
pub(crate) fn run() -> Result<()> {
    check_workspace(&Metadata::load()?)
}

/// Checks the crates that cargo has listed.
pub(crate) fn check_workspace(metadata: &Metadata) -> Result<()> {
    let crates: Vec<_> =
        metadata.members().into_iter().filter(|member| in_crates(member)).collect();
    let (mut builds, mut failures) = (0, Vec::new());
    println!("  {:<22} {:<22} {:<8} seconds", "crate", "features", "result");
    for package in crates {
        for selection in selections(&package.features) {
            let mut command = shell::cargo();
            command.args(["check", "--package", &package.name]).args(selection.args());
            let (finished, time) = shell::timed(|| shell::quiet(&mut command));
            let finished = finished?;
            let verdict = verdict(finished.success, &finished.text);
            let (name, seconds) = (&package.name, time.as_secs_f64());
            println!("  {name:<22} {:<22} {verdict:<8} {seconds:>7.1}", selection.label());
            builds += 1;
            if verdict != "ok" {
                println!("{}", finished.text);
                failures.push(format!("{name}: {}", selection.label()));
            }
        }
    }
    if builds == 0 {
        bail!("features: no crate found in crates/");
    }
    if !failures.is_empty() {
        bail!("features: {} of {builds} builds failed: {}", failures.len(), failures.join(", "));
    }
    println!("features: {builds} builds, all clean");
    Ok(())
}

/// The crates that users depend on, and not the chores and benches beside them.
fn in_crates(package: &Package) -> bool {
    let folder = package.manifest_path.parent().and_then(|folder| folder.parent());
    folder.and_then(|folder| folder.file_name()).is_some_and(|name| name == "crates")
}

/// One choice of features.
#[derive(Debug, PartialEq, Eq)]
enum Selection {
    None,
    One(String),
    All,
}

impl Selection {
    fn args(&self) -> Vec<&str> {
        match self {
            Self::None => vec!["--no-default-features"],
            Self::One(feature) => vec!["--no-default-features", "--features", feature],
            Self::All => vec!["--all-features"],
        }
    }

    fn label(&self) -> &str {
        match self {
            Self::None => "(none)",
            Self::One(feature) => feature,
            Self::All => "(all)",
        }
    }
}

fn selections(features: &[String]) -> Vec<Selection> {
    let mut selections = vec![Selection::None];
    selections.extend(features.iter().cloned().map(Selection::One));
    // With one feature or none, "all" would be a build that was done already.
    if features.len() > 1 {
        selections.push(Selection::All);
    }
    selections
}

/// Cargo ends well after warnings, and its summary line is all that tells.
fn verdict(success: bool, text: &str) -> &'static str {
    let warned = |line: &str| {
        line.starts_with("warning: `") && line.contains("` (") && line.contains("generated")
    };
    match success {
        false => "fails",
        true if text.lines().any(warned) => "warns",
        true => "ok",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_stands_alone_between_none_and_all() {
        let names = |features: &[&str]| {
            let features: Vec<_> = features.iter().map(|name| (*name).to_owned()).collect();
            selections(&features).iter().map(|one| one.label().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["(none)"]);
        assert_eq!(names(&["mock"]), ["(none)", "mock"]);
        assert_eq!(names(&["default", "sqlite"]), ["(none)", "default", "sqlite", "(all)"]);
    }

    #[test]
    fn warnings_of_our_crates_count_and_other_notes_do_not() {
        assert_eq!(verdict(true, "    Finished `dev` profile"), "ok");
        assert_eq!(verdict(true, "warning: the following packages will be rejected"), "ok");
        assert_eq!(verdict(true, "warning: `a` (lib) generated 2 warnings"), "warns");
        assert_eq!(verdict(false, "error"), "fails");
    }
}

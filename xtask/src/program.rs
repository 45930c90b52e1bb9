//! The program `orchestra-memory` as a chore starts it: built from the workspace, and free of what
//! the person has set up for it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::shell;

/// The variable that names the folder of the model's files.
pub(crate) const MODEL_DIR: &str = "ORCHESTRA_MEMORY_MODEL_DIR";

/// Builds the program in release mode; `target` is cargo's target folder.
pub(crate) fn build_release(target: &Path) -> Result<PathBuf> {
    shell::run(shell::cargo().args(["build", "--release", "--package", "orchestra-memory-cli"]))?;
    Ok(binary(target, "release"))
}

/// Builds the program in the dev profile, with the features that the tests have, so that they
/// compile little a second time.
pub(crate) fn build_dev(target: &Path) -> Result<PathBuf> {
    let mut command = shell::cargo();
    command.args(["build", "--workspace", "--all-features", "--bin", "orchestra-memory"]);
    shell::run(&mut command)?;
    Ok(binary(target, "debug"))
}

fn binary(target: &Path, profile: &str) -> PathBuf {
    target.join(profile).join("orchestra-memory").with_extension(env::consts::EXE_EXTENSION)
}

/// The program at `path`, to be run in the root folder without the person's variables, with the
/// model's files in the folder `model`.
pub(crate) fn command(path: &Path, model: &Path) -> Command {
    let mut command = Command::new(path);
    command.current_dir(shell::root());
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("ORCHESTRA_MEMORY") {
            command.env_remove(name);
        }
    }
    command.env(MODEL_DIR, model);
    command
}

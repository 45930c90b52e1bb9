//! What is known of a server that was started to stay: a small file in cargo's target folder.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::process::Process;

/// A server that was started to stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Its process.
    pub(crate) process: Process,
    /// Its port of the loopback interface.
    pub(crate) port: u16,
}

impl State {
    /// Reads the file; `None` where there is none.
    ///
    /// # Errors
    /// The file cannot be read, or was not written by [`Self::write`].
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| path.display().to_string())?,
        };
        let state = parse(&text)
            .with_context(|| format!("{} holds something else; remove it", path.display()))?;
        Ok(Some(state))
    }

    /// Writes the file, at once or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let Process { pid, started } = self.process;
        let text = json!({ "pid": pid, "port": self.port, "started": started }).to_string() + "\n";
        let temporary = path.with_extension("json.new");
        fs::write(&temporary, text).with_context(|| temporary.display().to_string())?;
        fs::rename(&temporary, path).with_context(|| path.display().to_string())
    }

    /// Removes the file, if there is one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| path.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

fn parse(text: &str) -> Option<State> {
    let value: Value = serde_json::from_str(text).ok()?;
    let pid = value["pid"].as_u64()?.try_into().ok()?;
    let port = value["port"].as_u64()?.try_into().ok()?;
    Some(State { process: Process { pid, started: value["started"].as_u64()? }, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        assert_eq!(State::read(&path).unwrap(), None);
        let state = State { process: Process { pid: 12, started: u64::MAX }, port: 65_535 };
        state.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(state));
        let other = State { port: 1, ..state };
        other.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(other));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        State::remove(&path).unwrap();
        State::remove(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), None);
    }

    #[test]
    fn what_is_no_state_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        for text in [
            "",
            "{}",
            r#"{"pid": 1, "port": 2}"#,
            r#"{"pid": 1, "port": 70000, "started": 3}"#,
            r#"{"pid": -1, "port": 2, "started": 3}"#,
        ] {
            fs::write(&path, text).unwrap();
            let error = State::read(&path).unwrap_err().to_string();
            assert!(error.contains("x.json") && error.contains("remove"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}

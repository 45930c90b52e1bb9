//! One pull at a time in a folder.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use memory_core::{Error, ErrorKind, Result};

use super::{Read, Seek, SeekFrom, Write, file_error};

/// The file that is locked. It stays behind, for removing it would let two pulls lock two files.
const NAME: &str = "pull.lock";

/// The lock, held for as long as this lives. The system takes it back from a process that dies.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path: PathBuf = folder.join(NAME);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| file_error("cannot open", &path, error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&mut file, folder)),
            Err(TryLockError::Error(error)) => return Err(file_error("cannot lock", &path, error)),
        }
        // Who it is, for others to read; the lock holds without it.
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it would do, were it not for a child that another thread is just starting and
        // that has the same file open for an instant.
        let _ = self.file.unlock();
    }
}

fn held(file: &mut File, folder: &Path) -> Error {
    let mut text = String::new();
    // Some systems let nobody read what another has locked.
    let number =
        file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    let who = number.map_or(String::new(), |number: u32| format!(" (process {number})"));
    let message = format!(
        "another pull{who} is at work in {}: wait for it to end, or end it",
        folder.display()
    );
    Error::new(ErrorKind::Unavailable, message)
}

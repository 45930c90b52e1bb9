//! One pull at a time in a folder.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use memory_core::{Error, ErrorKind, Result};

use super::{Read, Seek, SeekFrom, Write, file_error, own};

/// The file that is locked. It stays behind, for removing it would let two pulls lock two files.
const NAME: &str = "pull.lock";
/// More bytes than a process's number and the end of its line have.
const MOST: u64 = 20;

/// The lock, held for as long as this lives. The system takes it back from a process that dies.
pub(super) struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(NAME);
        let mut file = open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(&mut file, folder)),
            Err(TryLockError::Error(error)) => return Err(file_error("cannot lock", &path, error)),
        }
        // Who it is, for others to read; the lock holds without it.
        let _ = sign(&mut file);
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

/// Opens the file, which is made if it is not there.
fn open(path: &Path) -> Result<File> {
    if let Some(file) = own::open(path)? {
        return Ok(file);
    }
    match own::create(path) {
        // Another pull has made it since.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            own::open(path)?.ok_or_else(|| file_error("cannot open", path, error))
        }
        made => made.map_err(|error| file_error("cannot make", path, error)),
    }
}

/// Writes this process's number, unless the file holds something that no pull wrote.
fn sign(file: &mut File) -> io::Result<()> {
    let mut text = String::new();
    (&*file).take(MOST).read_to_string(&mut text)?;
    if own::is_shared(&file.metadata()?) || !(text.is_empty() || number(&text).is_some()) {
        return Ok(());
    }
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// The process's number, if that is what the text is.
fn number(text: &str) -> Option<u32> {
    let digits = text.strip_suffix('\n').unwrap_or(text);
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

fn held(file: &mut File, folder: &Path) -> Error {
    let mut text = String::new();
    // Some systems let nobody read what another has locked.
    let who = match file.take(MOST).read_to_string(&mut text).ok().and_then(|_| number(&text)) {
        Some(number) => format!(" (process {number})"),
        None => String::new(),
    };
    let message = format!(
        "another pull{who} is at work in {}: wait for it to end, or end it",
        folder.display()
    );
    Error::new(ErrorKind::Unavailable, message)
}

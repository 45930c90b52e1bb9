//! The files that a pull writes beside the model's own: opened without following links.
//!
//! Whoever can write to the folder may have put a link, a pipe or a device where such a file
//! belongs. The standard library has no name for the flag that keeps an opening from following
//! links, so the place is looked at before, and what was opened is compared with what was seen.
//! Nothing is truncated on the way, so a file that was exchanged in between comes to no harm.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

use memory_core::{Error, Result};

use super::file_error;

/// What is at the place, if anything is.
///
/// # Errors
/// `InvalidInput`: something else than a file, a link for example. Else what looking fails with.
pub(super) fn look(path: &Path) -> Result<Option<Metadata>> {
    match path.symlink_metadata() {
        Ok(found) if found.is_file() => Ok(Some(found)),
        Ok(_) => Err(foreign(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("cannot read", path, error)),
    }
}

/// Opens the file for reading and writing, if it is there.
///
/// # Errors
/// Those of [`look`], and what opening fails with.
pub(super) fn open(path: &Path) -> Result<Option<File>> {
    let Some(seen) = look(path)? else { return Ok(None) };
    let open = || -> io::Result<(File, Metadata)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let found = file.metadata()?;
        Ok((file, found))
    };
    let (file, found) = match open() {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error("cannot open", path, error)),
    };
    if found.is_file() && is_same(&seen, &found) { Ok(Some(file)) } else { Err(foreign(path)) }
}

/// Makes the file, for reading and writing; nothing may be at its place. Links are not followed.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

/// Whether the file has another name beside this one, and is somebody else's as well.
pub(super) fn is_shared(found: &Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(found) > 1;
    #[cfg(not(unix))]
    {
        let _ = found;
        false
    }
}

/// Whether both are the same file, as far as the system tells.
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        one.dev() == other.dev() && one.ino() == other.ino()
    }
    #[cfg(not(unix))]
    {
        let _ = (one, other);
        true
    }
}

fn foreign(path: &Path) -> Error {
    let message = format!(
        "{} is a link or something else that is not a plain file: remove it, and pull again",
        path.display()
    );
    Error::invalid(message)
}

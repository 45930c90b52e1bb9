//! A file on its way: written beside its place, checked, and put there whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use memory_core::{Error, ErrorKind, Result};

use super::meter::{Meter, Stop};
use super::{ModelFile, Seek, SeekFrom, Write, file_error, is_whole};

/// The places of a file that is on its way. Nothing is touched before a method is called.
pub(super) struct Part {
    path: PathBuf,
    target: PathBuf,
    file: ModelFile,
}

impl Part {
    /// `folder/NAME.part`, on its way to `folder/NAME`.
    pub(super) fn of(file: &ModelFile, folder: &Path) -> Self {
        let path = folder.join(format!("{}.part", file.name));
        Self { path, target: folder.join(file.name), file: *file }
    }

    /// Bytes that are there, 0 where nothing is.
    pub(super) fn bytes(&self) -> Result<u64> {
        match self.path.metadata() {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(file_error("cannot read", &self.path, error)),
        }
    }

    /// Opens it for writing from `start` on, which lies within what is there.
    pub(super) fn open(&self, start: u64) -> Result<Sink<'_>> {
        let open = || -> io::Result<File> {
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
            file.set_len(start)?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().map_err(|error| file_error("cannot write", &self.path, error))?;
        Ok(Sink { file, path: &self.path })
    }

    /// Removes it, if it is there.
    pub(super) fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(file_error("cannot remove", &self.path, error)),
        }
    }

    /// Whether it has the right contents.
    pub(super) fn is_whole(&self, meter: &mut Meter<'_>) -> Result<bool, Stop> {
        Ok(self.bytes()? == self.file.bytes && is_whole(&self.file, &self.path, meter)?)
    }

    /// Puts it at its place, for good: synced before and after.
    pub(super) fn install(&self) -> Result<()> {
        install(&self.path, &self.target)
    }

    /// The error where the contents are not those that are pinned.
    pub(super) fn corrupt(&self, from: &str) -> Error {
        let message = format!(
            "{} from {from} has the right size and not the right contents (SHA-256), and was \
             removed: pull again, or from another source",
            self.file.name
        );
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// A part that is being written.
pub(super) struct Sink<'a> {
    file: File,
    path: &'a Path,
}

impl Sink<'_> {
    /// Appends.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| file_error("cannot write", self.path, error))
    }
}

/// Moves a file that was checked to its place on the same file system.
pub(super) fn install(from: &Path, target: &Path) -> Result<()> {
    // Opened for writing, without which some systems do not sync.
    OpenOptions::new()
        .write(true)
        .open(from)
        .and_then(|file| file.sync_all())
        .map_err(|error| file_error("cannot sync", from, error))?;
    std::fs::rename(from, target)
        .map_err(|error| file_error("cannot put a file at", target, error))?;
    // Not every system can open a folder; there the name is as safe as the system makes it.
    if let Some(folder) = target.parent().and_then(|folder| File::open(folder).ok()) {
        folder
            .sync_all()
            .map_err(|error| file_error("cannot sync the folder of", target, error))?;
    }
    Ok(())
}

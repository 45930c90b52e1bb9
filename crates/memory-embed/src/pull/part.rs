//! A file on its way: written beside its place, checked, and put there whole.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use memory_core::{Error, ErrorKind, Result};

use super::meter::{Meter, Stop};
use super::{ModelFile, Seek, SeekFrom, Write, file_error, is_whole, own};

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

    /// Bytes that are there and that can be gone on from, 0 where nothing is.
    ///
    /// # Errors
    /// `InvalidInput`: what is there is no file. Else what looking fails with.
    pub(super) fn bytes(&self) -> Result<u64> {
        // Nothing is appended to what has another name as well.
        let found = own::look(&self.path)?.filter(|found| !own::is_shared(found));
        Ok(found.map_or(0, |found| found.len()))
    }

    /// Opens it for writing from `start` on, which is 0 or lies within what is there.
    ///
    /// # Errors
    /// As [`Part::bytes`].
    pub(super) fn open(&self, start: u64) -> Result<Sink<'_>> {
        let writing = |error| file_error("cannot write", &self.path, error);
        let file = if start == 0 {
            // Made anew, not emptied: what it was may have another name as well.
            self.remove()?;
            own::create(&self.path).map_err(writing)?
        } else {
            let gone = || writing(io::ErrorKind::NotFound.into());
            let mut file = own::open(&self.path)?.ok_or_else(gone)?;
            let mut cut = || -> io::Result<()> {
                file.set_len(start)?;
                file.seek(SeekFrom::End(0)).map(drop)
            };
            cut().map_err(writing)?;
            file
        };
        Ok(Sink { file, path: &self.path })
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// As [`Part::bytes`]: what is no file stays.
    pub(super) fn remove(&self) -> Result<()> {
        if own::look(&self.path)?.is_none() {
            return Ok(());
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(file_error("cannot remove", &self.path, error))
            }
            _ => Ok(()),
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
    own::open(from)?
        .ok_or_else(|| io::ErrorKind::NotFound.into())
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

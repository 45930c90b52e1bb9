//! The model's files: which they are, where they lie, whether they are whole.
//!
//! A model is pinned: each file by its name, its size and its SHA-256. What differs is not used.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use directories::ProjectDirs;
use memory_core::{Error, ErrorKind, Result};
use sha2::{Digest, Sha256};

/// The project's folder in the platform's folders, the same for every part of it.
const PROJECT: &str = "orchestra-memory";
/// The folder of all models in the project's cache folder.
const MODELS: &str = "models";
/// What to do about a file that is not there, or not what it should be.
const REMEDY: &str = "`orchestra-memory model pull` gets it";
/// Bytes read at a time where nothing but the checksum is wanted.
const BUFFER: usize = 64 * 1024;

/// One file of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name: one component of a path.
    pub name: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// The SHA-256 of its contents: 64 lower-case hexadecimal digits.
    pub sha256: &'static str,
}

/// A model: the files that it needs, all of them in one folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// Which of the models of that name it is.
    pub revision: &'static str,
    /// Its files.
    pub files: &'static [ModelFile],
}

/// sentence-transformers/all-MiniLM-L6-v2, Apache-2.0: 384 dimensions, English.
///
/// The revision is the beginning of the weights' checksum; the sizes and checksums are those of
/// the files that the authors publish.
pub const MINILM: Model = Model {
    name: "all-MiniLM-L6-v2",
    revision: "53aa5117",
    files: &[
        ModelFile {
            name: "model.safetensors",
            bytes: 90_868_376,
            sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        ModelFile {
            name: "vocab.txt",
            bytes: 231_508,
            sha256: "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
    ],
};

impl Model {
    /// The name of its folder: name and revision.
    #[must_use]
    pub fn folder_name(&self) -> String {
        format!("{}-{}", self.name, self.revision)
    }

    /// The size of all its files in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The file of a name, if it has one.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&'static ModelFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// Where the files of [`MINILM`] lie unless somebody says otherwise: in the platform's cache
/// folder, for they can be got again. None on a machine without a home.
#[must_use]
pub fn default_folder() -> Option<PathBuf> {
    let project = ProjectDirs::from("", "", PROJECT)?;
    Some(project.cache_dir().join(MODELS).join(MINILM.folder_name()))
}

/// How closely [`status`] looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// At the sizes alone: no file is opened.
    Sizes,
    /// At the contents: every file of the right size is read.
    Contents,
}

/// What is at a file's place.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileState {
    /// Nothing.
    Missing,
    /// A file of another size.
    WrongSize {
        /// Its size in bytes.
        bytes: u64,
    },
    /// A file of the right size with other contents.
    WrongContents,
    /// Something that cannot be read.
    Unreadable {
        /// What kind of error reading it is.
        kind: ErrorKind,
        /// Why, in words.
        reason: String,
    },
    /// A file of the right size; nobody looked at its contents.
    Present,
    /// The file itself, by its checksum.
    Whole,
}

/// A file and what is at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// The file as it should be.
    pub file: ModelFile,
    /// What is there.
    pub state: FileState,
}

/// What is at the places of a model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelStatus {
    /// The folder.
    pub folder: PathBuf,
    /// Every file of the model, in the model's order.
    pub files: Vec<FileStatus>,
}

impl ModelStatus {
    /// Whether every file is there and, as far as somebody looked, is what it should be.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.files.iter().all(|file| matches!(file.state, FileState::Present | FileState::Whole))
    }

    /// What is wrong and what to do about it, unless everything is in order: `NotFound` where
    /// files are missing, else `Corrupt` for the first file that is not what it should be, or the
    /// reason why it cannot be read.
    #[must_use]
    pub fn problem(&self) -> Option<Error> {
        let missing: Vec<&ModelFile> = self
            .files
            .iter()
            .filter(|status| status.state == FileState::Missing)
            .map(|status| &status.file)
            .collect();
        if !missing.is_empty() {
            return Some(self.missing(&missing));
        }
        self.files.iter().find_map(|status| {
            let path = self.folder.join(status.file.name);
            match &status.state {
                FileState::WrongSize { bytes } => {
                    Some(wrong_size(&status.file, &path, &bytes.to_string()))
                }
                FileState::WrongContents => Some(wrong_contents(&status.file, &path)),
                FileState::Unreadable { kind, reason } => Some(Error::new(*kind, reason.clone())),
                FileState::Missing | FileState::Present | FileState::Whole => None,
            }
        })
    }

    fn missing(&self, files: &[&ModelFile]) -> Error {
        let size = mebibytes(files.iter().map(|file| file.bytes).sum());
        let folder = self.folder.display();
        let message = if files.len() == self.files.len() {
            format!("no embedding model at {folder}: {REMEDY} ({size})")
        } else {
            let names: Vec<&str> = files.iter().map(|file| file.name).collect();
            format!(
                "the embedding model at {folder} lacks {}: {REMEDY} ({size})",
                names.join(" and ")
            )
        };
        Error::new(ErrorKind::NotFound, message)
    }
}

/// Looks at the places of a model's files.
///
/// It fails at nothing: what cannot be read is a state as well. It blocks while it reads.
#[must_use]
pub fn status(model: &Model, folder: &Path, check: Check) -> ModelStatus {
    let files = model
        .files
        .iter()
        .map(|file| FileStatus { file: *file, state: state(file, &folder.join(file.name), check) })
        .collect();
    ModelStatus { folder: folder.to_owned(), files }
}

pub(crate) fn state(file: &ModelFile, path: &Path, check: Check) -> FileState {
    let found = match std::fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return FileState::Missing,
        Err(error) => return unreadable(&file_error("cannot read", path, error)),
    };
    if !found.is_file() {
        return unreadable(&not_a_file(path));
    }
    if found.len() != file.bytes {
        return FileState::WrongSize { bytes: found.len() };
    }
    if check == Check::Sizes {
        return FileState::Present;
    }
    match open_verified(file, path).and_then(VerifyingReader::finish) {
        Ok(()) => FileState::Whole,
        Err(error) if error.kind() == ErrorKind::Corrupt => FileState::WrongContents,
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &Error) -> FileState {
    FileState::Unreadable { kind: error.kind(), reason: error.message().to_owned() }
}

/// A reader that counts and hashes what is read through it.
///
/// It ends where the file should end, so reading it to its end takes no more than the pinned
/// size. What was read is to be trusted after [`VerifyingReader::finish`] alone.
pub struct VerifyingReader<R> {
    inner: R,
    file: ModelFile,
    path: PathBuf,
    read: u64,
    hash: Sha256,
}

impl<R: Read> VerifyingReader<R> {
    /// Reads from `inner`, which should hold `file`; `path` is what errors call it.
    pub fn new(inner: R, file: &ModelFile, path: &Path) -> Self {
        Self { inner, file: *file, path: path.to_owned(), read: 0, hash: Sha256::new() }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.read
    }

    /// Reads what is left, and compares size and checksum.
    ///
    /// # Errors
    /// `Corrupt`: either differs; the message names path, sizes and what to do. Else what reading
    /// fails with.
    pub fn finish(mut self) -> Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(file_error("cannot read", &self.path, error)),
            }
        }
        if self.read < self.file.bytes {
            return Err(wrong_size(&self.file, &self.path, &self.read.to_string()));
        }
        // One byte more is enough to know.
        loop {
            match self.inner.read(&mut buffer[..1]) {
                Ok(0) => break,
                Ok(_) => return Err(wrong_size(&self.file, &self.path, "more")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(file_error("cannot read", &self.path, error)),
            }
        }
        if hex(&self.hash.finalize()) != self.file.sha256 {
            return Err(wrong_contents(&self.file, &self.path));
        }
        Ok(())
    }
}

impl<R: Read> Read for VerifyingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.file.bytes - self.read).unwrap_or(usize::MAX);
        let end = buffer.len().min(left);
        let count = self.inner.read(&mut buffer[..end])?;
        self.hash.update(&buffer[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

impl<R> std::fmt::Debug for VerifyingReader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingReader")
            .field("path", &self.path)
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}

/// Opens a file of a model, if its size is right.
///
/// # Errors
/// `NotFound`: it is not there. `Corrupt`: it has another size. Else what opening it fails with.
pub fn open_verified(file: &ModelFile, path: &Path) -> Result<VerifyingReader<File>> {
    let opened = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            let size = mebibytes(file.bytes);
            let message = format!("there is no {}: {REMEDY} ({size})", path.display());
            Error::new(ErrorKind::NotFound, message)
        }
        _ => file_error("cannot open", path, error),
    })?;
    let found = opened.metadata().map_err(|error| file_error("cannot read", path, error))?;
    if !found.is_file() {
        return Err(not_a_file(path));
    }
    if found.len() != file.bytes {
        return Err(wrong_size(file, path, &found.len().to_string()));
    }
    Ok(VerifyingReader::new(opened, file, path))
}

/// Reads a whole file of a model into memory.
///
/// # Errors
/// Those of [`open_verified`], and `Corrupt` where the contents are not what they should be.
pub fn read_verified(file: &ModelFile, path: &Path) -> Result<Vec<u8>> {
    let mut reader = open_verified(file, path)?;
    let mut bytes = Vec::with_capacity(usize::try_from(file.bytes).unwrap_or(0));
    reader.read_to_end(&mut bytes).map_err(|error| file_error("cannot read", path, error))?;
    reader.finish()?;
    Ok(bytes)
}

/// What is there has another size.
pub(crate) fn wrong_size(file: &ModelFile, path: &Path, found: &str) -> Error {
    let message = format!(
        "{} has {found} bytes and should have {}: {REMEDY} again",
        path.display(),
        file.bytes
    );
    Error::new(ErrorKind::Corrupt, message)
}

/// What is there has the right size, and that is all.
pub(crate) fn wrong_contents(file: &ModelFile, path: &Path) -> Error {
    let message = format!(
        "{} has its {} bytes and not the right contents (SHA-256): {REMEDY} again",
        path.display(),
        file.bytes
    );
    Error::new(ErrorKind::Corrupt, message)
}

fn not_a_file(path: &Path) -> Error {
    let message = format!("{} is not a file", path.display());
    Error::new(ErrorKind::InvalidInput, message)
}

/// What an error of the file system means: `what` says what was tried, "cannot read" say.
pub(crate) fn file_error(what: &str, path: &Path, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::InvalidFilename => ErrorKind::InvalidInput,
        io::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    };
    let words = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "the disk is full".to_owned(),
        _ => error.to_string(),
    };
    // A full or failing disk does not mend itself.
    Error::new(kind, format!("{what} {}: {words}", path.display()))
        .with_retryable(false)
        .with_source(error)
}

/// A size for a person: whole MiB, rounded up.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1024 * 1024))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The SHA-256 of "abc" is an example of FIPS 180-2.
    const ABC: ModelFile = ModelFile {
        name: "abc",
        bytes: 3,
        sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };

    fn finish(bytes: &[u8]) -> Result<()> {
        VerifyingReader::new(bytes, &ABC, Path::new("abc")).finish()
    }

    #[test]
    fn the_pins_are_well_formed() {
        for file in MINILM.files {
            assert_eq!(file.sha256.len(), 64);
            assert!(file.sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            assert_eq!(MINILM.file(file.name), Some(file));
        }
        assert!(MINILM.files[0].sha256.starts_with(MINILM.revision));
        assert_eq!(MINILM.folder_name(), "all-MiniLM-L6-v2-53aa5117");
        assert_eq!(mebibytes(MINILM.bytes()), "87 MiB");
        assert_eq!(MINILM.file("other"), None);
    }

    #[test]
    fn a_reader_passes_what_fits_and_refuses_the_rest() {
        finish(b"abc").unwrap();
        let short = finish(b"ab").unwrap_err();
        assert_eq!(short.kind(), ErrorKind::Corrupt);
        assert!(short.message().contains("has 2 bytes and should have 3"), "{short}");
        let long = finish(b"abcd").unwrap_err();
        assert_eq!(long.kind(), ErrorKind::Corrupt);
        assert!(long.message().contains("has more bytes and should have 3"), "{long}");
        let other = finish(b"abd").unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Corrupt);
        assert!(other.message().contains("SHA-256"), "{other}");
    }

    #[test]
    fn a_reader_ends_where_the_file_should_end() {
        let mut reader = VerifyingReader::new(&b"abcd"[..], &ABC, Path::new("abc"));
        let mut read = Vec::new();
        reader.read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abc");
        assert_eq!(reader.position(), 3);
        assert_eq!(reader.finish().unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn errors_of_the_file_system_have_their_kinds() {
        let table = [
            (io::ErrorKind::NotFound, ErrorKind::NotFound),
            (io::ErrorKind::PermissionDenied, ErrorKind::PermissionDenied),
            (io::ErrorKind::ReadOnlyFilesystem, ErrorKind::PermissionDenied),
            (io::ErrorKind::StorageFull, ErrorKind::Unavailable),
            (io::ErrorKind::QuotaExceeded, ErrorKind::Unavailable),
            (io::ErrorKind::NotADirectory, ErrorKind::InvalidInput),
            (io::ErrorKind::Unsupported, ErrorKind::Unsupported),
            (io::ErrorKind::Other, ErrorKind::Unavailable),
        ];
        for (from, to) in table {
            let error = file_error("cannot write", Path::new("some/file"), from.into());
            assert_eq!(error.kind(), to, "{from}");
            assert!(!error.is_retryable(), "{from}");
            assert!(error.message().starts_with("cannot write some/file: "), "{error}");
        }
        let full = file_error("x", Path::new("y"), io::ErrorKind::StorageFull.into());
        assert!(full.message().contains("the disk is full"), "{full}");
    }
}

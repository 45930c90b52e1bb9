//! Lines of bounded length from any reader.

use std::io::{self, BufRead, ErrorKind};

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Nothing, or white space only.
    Blank,
    /// Its bytes; not yet known to be UTF-8.
    Text(&'a [u8]),
    /// Longer than the bound; passed over.
    TooLong { bytes: u64 },
}

/// Reads lines and holds one of them at a time, and of a long one its beginning only.
#[derive(Debug)]
pub(super) struct LineReader<R> {
    source: R,
    most: usize,
    line: Vec<u8>,
    bytes: u64,
    begun: bool,
}

/// U+FEFF in UTF-8, which some editors write before the first line.
pub(super) const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(source: R, most: usize) -> Self {
        Self { source, most, line: Vec::new(), bytes: 0, begun: false }
    }

    /// Bytes read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next line; `None` at the end. A last line needs no end of line.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut length: u64 = 0;
        let mut any = false;
        loop {
            let buffer = match self.source.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            length += part.len() as u64;
            // One byte above the bound and room for the mark are enough to tell that it is long.
            let room = (self.most + BYTE_ORDER_MARK.len() + 1).saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        let mut line = self.line.as_slice();
        if !self.begun
            && let Some(rest) = line.strip_prefix(BYTE_ORDER_MARK)
        {
            line = rest;
            length -= BYTE_ORDER_MARK.len() as u64;
        }
        self.begun = true;
        Ok(Some(if length > self.most as u64 {
            Line::TooLong { bytes: length }
        } else if line.trim_ascii().is_empty() {
            Line::Blank
        } else {
            Line::Text(line)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line, however the source cuts its reads.
    fn lines(text: &[u8], most: usize) -> Vec<String> {
        let read = |capacity: usize| {
            let source = io::BufReader::with_capacity(capacity, text);
            let mut reader = LineReader::new(source, most);
            let mut lines = Vec::new();
            while let Some(line) = reader.next_line().unwrap() {
                lines.push(match line {
                    Line::Blank => "blank".to_owned(),
                    Line::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    Line::TooLong { bytes } => format!("long {bytes}"),
                });
            }
            assert_eq!(reader.bytes(), text.len() as u64);
            lines
        };
        let whole = read(1_000);
        for capacity in 1..8 {
            assert_eq!(read(capacity), whole, "capacity {capacity}");
        }
        whole
    }

    #[test]
    fn lines_end_where_they_end() {
        assert!(lines(b"", 10).is_empty());
        assert_eq!(lines(b"a\nb", 10), ["a", "b"]);
        assert_eq!(lines(b"a\n\n \t\r\nb\n", 10), ["a", "blank", "blank", "b"]);
        assert_eq!(lines(b"\n", 10), ["blank"]);
        assert_eq!(lines(b"a\r\n", 10), ["a\r"], "JSON takes the carriage return as white space");
    }

    #[test]
    fn a_long_line_is_passed_over_and_not_held() {
        assert_eq!(lines(b"12345\n123456\n1\n", 5), ["12345", "long 6", "1"]);
        let text = vec![b'x'; 100_000];
        let mut reader = LineReader::new(io::BufReader::with_capacity(64, &text[..]), 10);
        assert_eq!(reader.next_line().unwrap(), Some(Line::TooLong { bytes: 100_000 }));
        assert!(reader.line.capacity() < 1_000);
    }

    #[test]
    fn a_mark_before_the_first_line_is_no_part_of_it() {
        assert_eq!(lines(b"\xEF\xBB\xBF12345\n\xEF\xBB\xBFb", 5), ["12345", "\u{feff}b"]);
        assert_eq!(lines(b"\xEF\xBB\xBF", 5), ["blank"]);
    }
}

//! HTTP/2 frames in a stream of bytes: where each begins, and what its header says.
//!
//! No more of the protocol than the proxy needs (RFC 9113, sections 3.4 and 4.1): payloads are not
//! looked into, so that compressed header fields stay what they are.

/// What a client sends first on every HTTP/2 connection; frames follow.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length of a frame's header.
pub(super) const HEADER: usize = 9;

/// The kind of a frame that carries a message's body.
pub(super) const DATA: u8 = 0;
/// The kind of a frame that opens a stream, begins an answer, or ends one with trailers.
pub(super) const HEADERS: u8 = 1;
/// The kind of a frame that ends a stream at once.
pub(super) const RST_STREAM: u8 = 3;

/// The flag of HEADERS and DATA that says that the sender has no more for this stream.
const END_STREAM: u8 = 1;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// The length of the payload, in bytes: below 2^24.
    pub(super) length: usize,
    /// The kind of the frame.
    pub(super) kind: u8,
    /// Its flags, which mean something else for each kind.
    pub(super) flags: u8,
    /// Its stream; 0 is the connection itself.
    pub(super) stream: u32,
}

impl Frame {
    fn read(header: [u8; HEADER]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = header;
        let length = u32::from_be_bytes([0, a, b, c]);
        Self {
            length: usize::try_from(length).unwrap_or(usize::MAX),
            kind,
            flags,
            // The first bit is reserved.
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// Whether it carries a part of an answer's body, or ends the stream: by then, whoever sends it
    /// has done the work. HEADERS alone may be sent before.
    pub(super) fn answers(&self) -> bool {
        match self.kind {
            DATA => self.length > 0 || self.flags & END_STREAM != 0,
            HEADERS => self.flags & END_STREAM != 0,
            RST_STREAM => true,
            _ => false,
        }
    }
}

/// A part of a stream of frames.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A frame begins: what its header says, and those bytes of the header that were not passed on
    /// already.
    Begins(Frame, Vec<u8>),
    /// Bytes of the payload of the frame that began last.
    Payload(&'a [u8]),
}

/// Finds the frames in the bytes of one direction, however they are cut into reads.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    header: [u8; HEADER],
    /// The bytes of the header that have come.
    filled: usize,
    /// Those of them that were passed on before it was whole.
    passed: usize,
    /// The bytes of the payload that are still to come.
    rest: usize,
}

impl Splitter {
    /// The next piece, taken off the front of `bytes`; `None` where they are used up. The bytes of
    /// a header that is not whole yet are kept.
    pub(super) fn next<'a>(&mut self, bytes: &mut &'a [u8]) -> Option<Piece<'a>> {
        if self.rest > 0 {
            let (payload, left) = bytes.split_at_checked(self.rest).unwrap_or((bytes, &[]));
            self.rest -= payload.len();
            *bytes = left;
            return (!payload.is_empty()).then_some(Piece::Payload(payload));
        }
        let missing = HEADER - self.filled;
        let (part, left) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.header[self.filled..self.filled + part.len()].copy_from_slice(part);
        self.filled += part.len();
        *bytes = left;
        if self.filled < HEADER {
            return None;
        }
        let frame = Frame::read(self.header);
        let unpassed = self.header[self.passed..].to_vec();
        (self.filled, self.passed, self.rest) = (0, 0, frame.length);
        Some(Piece::Begins(frame, unpassed))
    }

    /// Says that the bytes of the header that is not whole yet have been passed on.
    pub(super) fn pass_on(&mut self) {
        self.passed = self.filled;
    }

    /// The bytes of a header that will not become whole, where no more will come.
    pub(super) fn unfinished(&mut self) -> Vec<u8> {
        let bytes = self.header[self.passed..self.filled].to_vec();
        (self.filled, self.passed) = (0, 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend((stream | 0x8000_0000).to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    /// The frames that a splitter finds in reads of `size` bytes, and all bytes that it gave back.
    fn split(bytes: &[u8], size: usize) -> (Vec<Frame>, Vec<u8>) {
        let (mut splitter, mut frames, mut out) = (Splitter::default(), Vec::new(), Vec::new());
        for mut read in bytes.chunks(size) {
            while let Some(piece) = splitter.next(&mut read) {
                match piece {
                    Piece::Begins(frame, header) => {
                        frames.push(frame);
                        out.extend(header);
                    }
                    Piece::Payload(payload) => out.extend(payload),
                }
            }
        }
        (frames, out)
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = frame(4, 0, 0, &[]);
        bytes.extend(frame(HEADERS, 4, 1, &[7; 300]));
        bytes.extend(frame(DATA, END_STREAM, 1, &[0; 5]));
        for size in 1..bytes.len() {
            let (frames, out) = split(&bytes, size);
            assert_eq!(out, bytes);
            let seen: Vec<_> = frames.iter().map(|f| (f.kind, f.stream, f.length)).collect();
            assert_eq!(seen, [(4, 0, 0), (HEADERS, 1, 300), (DATA, 1, 5)], "{size}");
        }
    }

    #[test]
    fn bytes_of_a_header_that_were_passed_on_are_not_given_again() {
        let bytes = frame(DATA, 0, 3, &[9]);
        let mut splitter = Splitter::default();
        assert_eq!(splitter.next(&mut &bytes[..4]), None);
        splitter.pass_on();
        let mut rest = &bytes[4..];
        let Some(Piece::Begins(frame, header)) = splitter.next(&mut rest) else { panic!() };
        assert_eq!((frame.stream, frame.length), (3, 1));
        assert_eq!(header, &bytes[4..HEADER]);
        assert_eq!(splitter.next(&mut rest), Some(Piece::Payload(&[9])));
        assert_eq!(splitter.next(&mut rest), None);
    }

    #[test]
    fn an_answer_is_a_body_or_an_end_and_not_what_keeps_the_connection_going() {
        let answers = |kind, flags, length| Frame { length, kind, flags, stream: 1 }.answers();
        assert!(answers(DATA, 0, 1) && answers(DATA, END_STREAM, 0));
        assert!(answers(HEADERS, END_STREAM, 9) && answers(RST_STREAM, 0, 4));
        assert!(!answers(DATA, 0, 0) && !answers(HEADERS, 4, 9));
        for kind in [2, 4, 5, 6, 7, 8] {
            assert!(!answers(kind, END_STREAM, 4), "kind {kind}");
        }
    }
}

//! Where requests begin and where they are answered, in the bytes of one connection.

use super::http2::{HEADERS, PREFACE, Piece, RST_STREAM, Splitter};
use super::plan::Cut;

/// What the bytes of a connection are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// The client has not sent enough to tell.
    Unknown,
    /// Frames.
    Http2,
    /// Anything else.
    Raw,
}

/// What becomes of the bytes of a read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Those that pass.
    pub(super) bytes: Vec<u8>,
    /// The connection is cut behind them.
    pub(super) cut: Option<Cut>,
}

/// Follows the bytes of one connection, both ways.
#[derive(Debug)]
pub(super) struct Inspector {
    protocol: Protocol,
    /// The first bytes of the client, while they may become the preface of HTTP/2.
    held: Vec<u8>,
    client: Splitter,
    server: Splitter,
    /// The requests so far.
    requests: u64,
    /// The highest stream that the client has opened.
    last_stream: u32,
    /// The streams whose answer is to be cut.
    marked: Vec<u32>,
    /// The answer to a marked stream has begun: nothing reaches the client any more.
    withholding: bool,
    /// Raw: what the client sends next begins a request.
    idle: bool,
    /// Raw: the answer to the request is to be cut.
    marked_raw: bool,
}

impl Inspector {
    /// For a new connection; `Unknown` finds out.
    pub(super) fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            held: Vec::new(),
            client: Splitter::default(),
            server: Splitter::default(),
            requests: 0,
            last_stream: 0,
            marked: Vec::new(),
            withholding: false,
            idle: true,
            marked_raw: false,
        }
    }

    /// Takes bytes of the client. `strike` is asked what happens to each request that begins, by
    /// its number in the connection, from 1.
    pub(super) fn client_sends(
        &mut self,
        bytes: &[u8],
        mut strike: impl FnMut(u64) -> Option<Cut>,
    ) -> Passed {
        match self.protocol {
            Protocol::Raw => self.raw_request(bytes.to_vec(), strike),
            Protocol::Http2 => self.frames_of_client(bytes, &mut strike),
            Protocol::Unknown => {
                self.held.extend(bytes);
                if self.held.len() < PREFACE.len() && PREFACE.starts_with(&self.held) {
                    return Passed::default();
                }
                let held = std::mem::take(&mut self.held);
                let Some(frames) = held.strip_prefix(PREFACE) else {
                    self.protocol = Protocol::Raw;
                    return self.raw_request(held, strike);
                };
                self.protocol = Protocol::Http2;
                let passed = self.frames_of_client(frames, &mut strike);
                Passed { bytes: [PREFACE, &passed.bytes].concat(), cut: passed.cut }
            }
        }
    }

    /// Takes bytes of the server.
    pub(super) fn server_sends(&mut self, bytes: &[u8]) -> Passed {
        match self.protocol {
            Protocol::Raw => {
                self.idle = true;
                if self.marked_raw {
                    return Passed { bytes: Vec::new(), cut: Some(Cut::BeforeAnswering) };
                }
                Passed { bytes: bytes.to_vec(), cut: None }
            }
            Protocol::Http2 => self.frames_of_server(bytes),
            Protocol::Unknown => {
                // The server may speak first; its bytes pass as they come, and are followed in case
                // they are frames.
                let mut rest = bytes;
                while self.server.next(&mut rest).is_some() {}
                self.server.pass_on();
                Passed { bytes: bytes.to_vec(), cut: None }
            }
        }
    }

    /// What was held back of the client's bytes, at their end.
    pub(super) fn end_of_client(&mut self) -> Vec<u8> {
        [std::mem::take(&mut self.held), self.client.unfinished()].concat()
    }

    /// What was held back of the server's bytes, at their end.
    pub(super) fn end_of_server(&mut self) -> Vec<u8> {
        if self.withholding { Vec::new() } else { self.server.unfinished() }
    }

    fn raw_request(
        &mut self,
        bytes: Vec<u8>,
        mut strike: impl FnMut(u64) -> Option<Cut>,
    ) -> Passed {
        if std::mem::take(&mut self.idle) {
            self.requests += 1;
            match strike(self.requests) {
                Some(Cut::BeforeForwarding) => {
                    return Passed { bytes: Vec::new(), cut: Some(Cut::BeforeForwarding) };
                }
                Some(Cut::BeforeAnswering) => self.marked_raw = true,
                None => {}
            }
        }
        Passed { bytes, cut: None }
    }

    fn frames_of_client(
        &mut self,
        mut bytes: &[u8],
        strike: &mut impl FnMut(u64) -> Option<Cut>,
    ) -> Passed {
        let mut passed = Passed::default();
        while let Some(piece) = self.client.next(&mut bytes) {
            let (frame, header) = match piece {
                Piece::Begins(frame, header) => (frame, header),
                Piece::Payload(payload) => {
                    passed.bytes.extend(payload);
                    continue;
                }
            };
            // HEADERS on a stream that is open already are trailers.
            if frame.kind == HEADERS && frame.stream > self.last_stream {
                self.last_stream = frame.stream;
                self.requests += 1;
                match strike(self.requests) {
                    Some(Cut::BeforeForwarding) => {
                        passed.cut = Some(Cut::BeforeForwarding);
                        return passed;
                    }
                    Some(Cut::BeforeAnswering) => self.marked.push(frame.stream),
                    None => {}
                }
            } else if frame.kind == RST_STREAM && !self.withholding {
                // The client has given up: there will be no answer to cut.
                self.marked.retain(|stream| *stream != frame.stream);
            }
            passed.bytes.extend(header);
        }
        passed
    }

    fn frames_of_server(&mut self, mut bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        while let Some(piece) = self.server.next(&mut bytes) {
            match piece {
                Piece::Begins(frame, header) => {
                    if self.marked.contains(&frame.stream) {
                        if frame.answers() {
                            passed.cut = Some(Cut::BeforeAnswering);
                            return passed;
                        }
                        self.withholding |= frame.kind == HEADERS;
                    }
                    if !self.withholding {
                        passed.bytes.extend(header);
                    }
                }
                Piece::Payload(payload) if !self.withholding => passed.bytes.extend(payload),
                Piece::Payload(_) => {}
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;
    const SETTINGS: u8 = 4;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn never(_: u64) -> Option<Cut> {
        None
    }

    /// A connection that has shaken hands.
    fn http2() -> Inspector {
        let mut inspector = Inspector::new(Protocol::Unknown);
        let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        assert_eq!(inspector.client_sends(&hello, never).bytes, hello);
        assert_eq!(inspector.protocol, Protocol::Http2);
        inspector
    }

    #[test]
    fn the_preface_tells_however_it_is_cut() {
        let hello = [PREFACE, &frame(HEADERS, 4, 1, b"x")].concat();
        for size in 1..hello.len() {
            let mut inspector = Inspector::new(Protocol::Unknown);
            let (mut out, mut seen) = (Vec::new(), Vec::new());
            for bytes in hello.chunks(size) {
                let passed = inspector.client_sends(bytes, |number| {
                    seen.push(number);
                    None
                });
                out.extend(passed.bytes);
            }
            assert_eq!((out, seen), (hello.clone(), vec![1]), "{size}");
            assert_eq!(inspector.protocol, Protocol::Http2);
        }
    }

    #[test]
    fn what_only_begins_as_the_preface_passes_as_it_is() {
        let mut inspector = Inspector::new(Protocol::Unknown);
        assert_eq!(inspector.client_sends(b"PR", never), Passed::default());
        assert_eq!(inspector.client_sends(b"INT\r\n", never).bytes, b"PRINT\r\n");
        assert_eq!(inspector.protocol, Protocol::Raw);
        let mut inspector = Inspector::new(Protocol::Unknown);
        assert_eq!(inspector.client_sends(b"PR", never), Passed::default());
        assert_eq!(inspector.end_of_client(), b"PR");
    }

    #[test]
    fn a_stream_that_opens_is_a_request_and_its_trailers_are_not() {
        let mut inspector = http2();
        let mut count = 0;
        for (bytes, after) in [
            (frame(HEADERS, 4, 1, b"ask"), 1),
            (frame(DATA, 0, 1, b"body"), 1),
            (frame(HEADERS, 5, 1, b"trailers"), 1),
            (frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 1),
            (frame(HEADERS, 4, 3, b"ask"), 2),
        ] {
            let passed = inspector.client_sends(&bytes, |number| {
                count = number;
                None
            });
            assert_eq!((passed.bytes, count), (bytes, after));
        }
    }

    #[test]
    fn a_request_cut_before_it_is_forwarded_leaves_what_came_before() {
        let mut inspector = http2();
        let before = [frame(HEADERS, 4, 1, b"one"), frame(DATA, 1, 1, b"body")].concat();
        let bytes = [before.clone(), frame(HEADERS, 4, 3, b"two"), frame(DATA, 1, 3, b"b")];
        let strike = |number| (number == 2).then_some(Cut::BeforeForwarding);
        let passed = inspector.client_sends(&bytes.concat(), strike);
        assert_eq!(passed, Passed { bytes: before, cut: Some(Cut::BeforeForwarding) });
    }

    #[test]
    fn an_answer_is_awaited_on_its_stream_and_none_of_it_passes() {
        let mut inspector = http2();
        let mark = |number| (number == 2).then_some(Cut::BeforeAnswering);
        let requests = [frame(HEADERS, 5, 1, b"one"), frame(HEADERS, 5, 3, b"two")].concat();
        assert_eq!(inspector.client_sends(&requests, mark), Passed { bytes: requests, cut: None });
        // What keeps the connection going, and the answers to other requests, are no answer to it.
        for bytes in [
            frame(SETTINGS, 1, 0, &[]),
            frame(WINDOW_UPDATE, 0, 3, &[0; 4]),
            frame(HEADERS, 4, 1, b"ok"),
            frame(DATA, 1, 1, b"first"),
        ] {
            assert_eq!(inspector.server_sends(&bytes), Passed { bytes: bytes.clone(), cut: None });
        }
        let begun = [frame(WINDOW_UPDATE, 0, 0, &[0; 4]), frame(HEADERS, 4, 3, b"ok")].concat();
        let passed = inspector.server_sends(&begun);
        assert_eq!(passed, Passed { bytes: frame(WINDOW_UPDATE, 0, 0, &[0; 4]), cut: None });
        assert_eq!(inspector.server_sends(&frame(SETTINGS, 0, 0, &[])), Passed::default());
        let passed = inspector.server_sends(&frame(DATA, 0, 3, b"second"));
        assert_eq!(passed, Passed { bytes: Vec::new(), cut: Some(Cut::BeforeAnswering) });
    }

    #[test]
    fn a_request_that_its_client_gives_up_is_not_waited_for() {
        let mut inspector = http2();
        let _ = inspector.client_sends(&frame(HEADERS, 5, 1, b"x"), |_| Some(Cut::BeforeAnswering));
        let _ = inspector.client_sends(&frame(RST_STREAM, 0, 1, &[0; 4]), never);
        let late = frame(DATA, 1, 1, b"late");
        assert_eq!(inspector.server_sends(&late), Passed { bytes: late.clone(), cut: None });
    }

    #[test]
    fn a_server_that_speaks_first_is_followed_all_the_same() {
        let greeting = [frame(SETTINGS, 0, 0, &[0; 6]), frame(HEADERS, 5, 1, b"no")].concat();
        // The client's preface comes when a part of a frame's header has passed already.
        for split in 1..15 {
            let mut inspector = Inspector::new(Protocol::Unknown);
            assert_eq!(inspector.server_sends(&greeting[..split]).bytes, &greeting[..split]);
            let hello = [PREFACE, &frame(HEADERS, 5, 1, b"x")].concat();
            let _ = inspector.client_sends(&hello, |_| Some(Cut::BeforeAnswering));
            let passed = inspector.server_sends(&greeting[split..]);
            assert_eq!(passed.bytes, &greeting[split..15], "{split}");
            assert_eq!(passed.cut, Some(Cut::BeforeAnswering));
        }
    }

    #[test]
    fn raw_requests_begin_after_an_answer() {
        let mut inspector = Inspector::new(Protocol::Raw);
        let mut seen = Vec::new();
        for (from_client, bytes) in
            [(true, b"a"), (true, b"b"), (false, b"c"), (false, b"d"), (true, b"e")]
        {
            let passed = if from_client {
                inspector.client_sends(bytes, |number| {
                    seen.push(number);
                    None
                })
            } else {
                inspector.server_sends(bytes)
            };
            assert_eq!(passed, Passed { bytes: bytes.to_vec(), cut: None });
        }
        assert_eq!(seen, [1, 2]);
    }

    #[test]
    fn raw_requests_are_cut_before_and_after() {
        let mut inspector = Inspector::new(Protocol::Raw);
        let passed = inspector.client_sends(b"a", |_| Some(Cut::BeforeForwarding));
        assert_eq!(passed, Passed { bytes: Vec::new(), cut: Some(Cut::BeforeForwarding) });
        let mut inspector = Inspector::new(Protocol::Raw);
        assert_eq!(inspector.client_sends(b"a", |_| Some(Cut::BeforeAnswering)).bytes, b"a");
        let passed = inspector.server_sends(b"answer");
        assert_eq!(passed, Passed { bytes: Vec::new(), cut: Some(Cut::BeforeAnswering) });
    }
}

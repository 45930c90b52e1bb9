//! A server on loopback that answers as it is told and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::contents;

/// A request, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The path.
    pub(super) path: String,
    /// The header `Range`.
    pub(super) range: Option<String>,
}

impl Request {
    /// Where the range begins.
    pub(super) fn start(&self) -> Option<usize> {
        self.range.as_deref()?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }

    /// The last component of the path, without a query.
    pub(super) fn name(&self) -> &str {
        self.path.split('?').next().unwrap().rsplit('/').next().unwrap()
    }
}

/// An answer; the connection is closed after it.
pub(super) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    /// An answer without a length: the end of the connection is its end.
    pub(super) fn unannounced(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into() }
    }

    /// An answer of a known length.
    pub(super) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let headers = vec![("content-length", body.len().to_string())];
        Self { status, headers, body }
    }

    /// With one header more.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The body ends early; the announced length stays.
    pub(super) fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }

    /// What a well-behaved server answers.
    pub(super) fn file(request: &Request) -> Self {
        let whole = contents(request.name());
        match request.start() {
            None => Self::new(200, whole),
            Some(start) if start < whole.len() => {
                let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
                Self::new(206, &whole[start..]).with("content-range", range)
            }
            Some(_) => Self::new(416, "").with("content-range", format!("bytes */{}", whole.len())),
        }
    }

    fn send(&self, stream: &mut TcpStream) {
        let mut head = format!("HTTP/1.1 {} Word\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        // Whoever asked may have heard enough.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&self.body));
    }
}

/// What was asked and how many bytes of body were sent for it.
type Log = Arc<Mutex<Vec<(Request, usize)>>>;

/// The server. It ends with this.
pub(super) struct Stub {
    address: SocketAddr,
    log: Log,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stub {
    /// Starts one; the function is given how many requests there were before.
    pub(super) fn start(mut answer: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Log::default();
        let ending = Arc::new(AtomicBool::new(false));
        let (kept, end) = (Arc::clone(&log), Arc::clone(&ending));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let count = kept.lock().unwrap().len();
                let reply = answer(count, &request);
                kept.lock().unwrap().push((request, reply.body.len()));
                reply.send(&mut stream);
            }
        });
        Self { address, log, ending, thread: Some(thread) }
    }

    /// A server that has the files and behaves.
    pub(super) fn good() -> Self {
        Self::start(|_, request| Reply::file(request))
    }

    /// The URL of the folder.
    pub(super) fn base(&self) -> String {
        format!("http://{}/folder", self.address)
    }

    /// What was asked so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.log.lock().unwrap().iter().map(|(request, _)| request.clone()).collect()
    }

    /// Bytes of bodies that were sent so far.
    pub(super) fn sent(&self) -> usize {
        self.log.lock().unwrap().iter().map(|(_, sent)| sent).sum()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes it up.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the stub panicked");
        }
    }
}

/// Reads a request to its blank line.
fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.strip_prefix("GET ")?.split(' ').next()?.to_owned();
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("range") {
            range = Some(value.trim().to_owned());
        }
    }
    Some(Request { path, range })
}

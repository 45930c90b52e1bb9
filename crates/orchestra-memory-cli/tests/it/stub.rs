//! A small HTTP server on loopback: it answers by a script and keeps what it was asked.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `POST /v1/embeddings`.
    pub(crate) line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The texts that are to be embedded.
    pub(crate) fn texts(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        serde_json::from_value(body["input"].clone()).unwrap()
    }

    /// The first byte that is asked for.
    pub(crate) fn range(&self) -> usize {
        let range = self.header("range");
        let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        first.map_or(0, |first| first.parse().unwrap())
    }
}

/// An answer; the connection is closed after it.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// The connection stays open and silent after the body, until the client goes.
    hangs: bool,
    /// After so many bytes of the body, this is waited for.
    pause: Option<(usize, Box<dyn Fn() + Send>)>,
}

impl Reply {
    pub(crate) fn new(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let headers =
            vec![("content-type", kind.to_owned()), ("content-length", body.len().to_string())];
        Self { status, headers, body, hangs: false, pause: None }
    }

    /// Vectors for the texts of a request.
    pub(crate) fn vectors(request: &Request, vector: impl Fn(&str) -> Vec<f32>) -> Self {
        let texts = request.texts();
        let data: Vec<Value> = texts
            .iter()
            .enumerate()
            .map(|(index, text)| json!({"index": index, "embedding": vector(text)}))
            .collect();
        Self::new(200, "application/json", json!({ "data": data }).to_string())
    }

    /// The part of a file that was asked for.
    pub(crate) fn file(request: &Request, whole: &[u8]) -> Self {
        let first = request.range();
        if first == 0 {
            return Self::new(200, "application/octet-stream", whole);
        }
        let mut reply = Self::new(206, "application/octet-stream", &whole[first..]);
        let range = format!("bytes {first}-{}/{}", whole.len() - 1, whole.len());
        reply.headers.push(("content-range", range));
        reply
    }

    /// The body ends early; the announced length stays.
    pub(crate) fn cut(mut self, length: usize) -> Self {
        self.body.truncate(length);
        self
    }

    /// The body ends early, and the connection stays open.
    pub(crate) fn hanging(mut self, length: usize) -> Self {
        self.hangs = true;
        self.cut(length)
    }

    /// The body stops after so many bytes until a function has ended.
    pub(crate) fn paused(mut self, after: usize, wait: impl Fn() + Send + 'static) -> Self {
        self.pause = Some((after, Box::new(wait)));
        self
    }

    fn send(&self, stream: &mut TcpStream) -> Option<()> {
        let mut head = format!("HTTP/1.1 {} Word\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        let mut body = self.body.as_slice();
        if let Some((after, wait)) = &self.pause {
            let (first, rest) = body.split_at(*after);
            stream.write_all(first).ok()?;
            wait();
            body = rest;
        }
        stream.write_all(body).ok()?;
        if self.hangs {
            stream.read_to_end(&mut Vec::new()).ok()?;
        }
        Some(())
    }
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server. It ends with its value; connections end when their clients go.
pub(crate) struct Stub {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    ending: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let ending = Arc::new(AtomicBool::new(false));
        let script: Arc<Script> = Arc::new(script);
        let (kept, end) = (Arc::clone(&seen), Arc::clone(&ending));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                // A client that goes in the middle ends the thread, and nothing else.
                thread::spawn(move || serve(stream.ok()?, &*script, &kept));
            }
        });
        Self { address, seen, ending }
    }

    /// A server that embeds each text as three numbers.
    pub(crate) fn embedding() -> Self {
        Self::start(|request| Reply::vectors(request, three))
    }

    /// Settings of the provider `http` with this server and three dimensions.
    pub(crate) fn settings(&self, model: &str) -> String {
        format!(
            "[embedding]\nprovider = \"http\"\nmodel = \"{model}\"\ndimensions = 3\n\
             [embedding.http]\nurl = \"{}/v1\"\n",
            self.url()
        )
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// All texts that were to be embedded, in order.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.seen().iter().flat_map(Request::texts).collect()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

/// Three numbers of a text: how much of it is about tea, how much about dogs, and a little.
pub(crate) fn three(text: &str) -> Vec<f32> {
    let count = |words: [&str; 3]| {
        let found = words.iter().filter(|word| text.to_lowercase().contains(*word)).count();
        f32::from(u8::try_from(found).unwrap())
    };
    vec![count(["tea", "drink", "cup"]), count(["dog", "pet", "puppy"]), 0.1]
}

fn serve(mut stream: TcpStream, script: &Script, kept: &Mutex<Vec<Request>>) -> Option<()> {
    let request = read(&mut BufReader::new(stream.try_clone().ok()?))?;
    kept.lock().unwrap().push(request.clone());
    script(&request).send(&mut stream)
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok().filter(|bytes| *bytes > 0)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body })
}

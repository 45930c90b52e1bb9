//! A small HTTP/1.1 server on loopback that keeps what it was asked and answers by a script.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `POST /v1/embeddings`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The texts that were asked for.
    pub(crate) fn input(&self) -> Vec<String> {
        serde_json::from_value(self.json()["input"].clone()).unwrap()
    }
}

/// What the server does with a request.
pub(crate) enum Answer {
    /// Sends status, further headers and body.
    Whole(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Sends these bytes as they are and closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes and then nothing more, until the client goes.
    Hang(Vec<u8>),
    /// Sends these bytes again and again, until the client goes.
    Endless(Vec<u8>),
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Whole(
            status,
            vec![("Content-Type", "application/json".to_owned())],
            body.to_string().into_bytes(),
        )
    }

    /// The vectors of a success, with their indexes.
    pub(crate) fn vectors(vectors: &[Vec<f32>]) -> Self {
        let data: Vec<Value> = vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| {
                json!({"object": "embedding", "index": index, "embedding": vector})
            })
            .collect();
        Self::json(200, &json!({"object": "list", "data": data}))
    }

    /// A status with nothing to say.
    pub(crate) fn status(status: u16) -> Self {
        Self::json(status, &json!({}))
    }

    pub(crate) fn with_header(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Whole(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Whole(status, headers, body)
            }
            other => other,
        }
    }
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server. It ends with its value; connections end when their clients go.
pub(crate) struct Stub {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
}

impl Stub {
    pub(crate) fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(AtomicUsize::new(0));
        let script: Arc<Script> = Arc::new(script);
        let (kept, over) = (Arc::clone(&seen), Arc::clone(&stopped));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                // A client that goes in the middle ends the thread, and nothing else.
                thread::spawn(move || {
                    stream.ok().and_then(|stream| serve(stream, &*script, &kept))
                });
            }
        });
        Self { address, seen, connections, stopped }
    }

    /// The base that clients are given.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections that were made so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// Serves one connection to its end.
fn serve(mut stream: TcpStream, script: &Script, kept: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let request = read(&mut reader)?;
        kept.lock().unwrap().push(request.clone());
        match script(&request) {
            Answer::Whole(status, headers, body) => {
                let mut head =
                    format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
                for (name, value) in headers {
                    head += &format!("{name}: {value}\r\n");
                }
                stream.write_all((head + "\r\n").as_bytes()).ok()?;
                stream.write_all(&body).ok()?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(&bytes).ok()?;
                return None;
            }
            Answer::Hang(bytes) => {
                stream.write_all(&bytes).ok()?;
                // Ends when the client closes its side.
                reader.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
            Answer::Endless(bytes) => loop {
                stream.write_all(&bytes).ok()?;
            },
        }
    }
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

//! A small HTTP/1.1 server on loopback that keeps what it was asked and answers by a script.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::wait_until;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Method and target, such as `POST /token`.
    pub(crate) line: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the server does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Sends status, further headers and body.
    Whole(u16, Vec<(&'static str, &'static str)>, String),
    /// Sends these bytes as they are and closes the connection.
    Raw(String),
    /// Sends nothing, until the client goes.
    Hang,
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::Whole(status, vec![("Content-Type", "application/json")], body.to_string())
    }

    pub(crate) fn with_header(self, name: &'static str, value: &'static str) -> Self {
        match self {
            Self::Whole(status, mut headers, body) => {
                headers.push((name, value));
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
    stopped: Arc<AtomicBool>,
    left: Arc<AtomicUsize>,
}

impl Stub {
    pub(crate) fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stopped = Arc::new(AtomicBool::new(false));
        let left = Arc::new(AtomicUsize::new(0));
        let gone = Arc::clone(&left);
        let script: Arc<Script> = Arc::new(script);
        let (kept, over) = (Arc::clone(&seen), Arc::clone(&stopped));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (script, kept) = (Arc::clone(&script), Arc::clone(&kept));
                let gone = Arc::clone(&gone);
                // A client that goes in the middle ends the thread, and nothing else.
                thread::spawn(move || {
                    let _ = stream.ok().and_then(|stream| serve(stream, &*script, &kept));
                    gone.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, seen, stopped, left }
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How many requests named this path.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.seen().iter().filter(|request| request.line.contains(path)).count()
    }

    /// How many connections have ended.
    pub(crate) fn left(&self) -> usize {
        self.left.load(Ordering::SeqCst)
    }

    /// Closes the port, and comes back when nothing listens there.
    pub(crate) fn stop(self) {
        let address = self.address;
        drop(self);
        wait_until("the port is closed", || TcpStream::connect(address).is_err());
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
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
                stream.write_all(whole(status, &headers, &body).as_bytes()).ok()?;
            }
            Answer::Raw(bytes) => {
                stream.write_all(bytes.as_bytes()).ok()?;
                return None;
            }
            Answer::Hang => {
                // Ends when the client closes its side.
                reader.read_to_end(&mut Vec::new()).ok()?;
                return None;
            }
        }
    }
}

/// The bytes of an answer.
pub(crate) fn whole(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut head = format!("HTTP/1.1 {status} Status\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + "\r\n" + body
}

pub(crate) fn read(reader: &mut BufReader<impl Read>) -> Option<Request> {
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
    Some(Request { line, headers, body: String::from_utf8(body).unwrap() })
}

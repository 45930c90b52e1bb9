//! As much of HTTP/1.1 as the client speaks.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde_json::Value;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The path, without the query.
    pub(crate) path: String,
    /// The query's pairs, decoded as far as the tests need it.
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
    /// Bytes of the body.
    pub(crate) bytes: usize,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(pair, _)| pair == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The method, and what of the path is not a name: the verb, or the last word of it.
    pub(crate) fn kind(&self) -> String {
        let verb = self.path.rsplit_once(':').map(|(_, verb)| format!(":{verb}"));
        let of = |part: &str| self.path.contains(part).then(|| part.to_owned());
        let what = verb
            .or_else(|| of("/dataObjects/"))
            .or_else(|| of("/operations/"))
            .or_else(|| of("/collections/"))
            .or_else(|| of("/collections"));
        format!("{} {}", self.method, what.unwrap_or_default())
    }
}

pub(super) fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
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
    let bytes = body.len();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Request { method, path: path.to_owned(), query, headers, body, bytes })
}

fn decoded(text: &str) -> String {
    text.replace("%24", "$").replace("%3B", ";").replace("%3D", "=")
}

pub(super) fn write(stream: &mut TcpStream, status: u16, body: &Value) -> Option<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes()).ok()
}

/// Reads until the client goes.
pub(super) fn drain(reader: &mut BufReader<TcpStream>) {
    let _ = reader.read_to_end(&mut Vec::new());
}

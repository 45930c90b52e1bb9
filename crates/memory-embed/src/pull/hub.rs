//! The files over HTTP, resumed where an earlier pull stopped.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use memory_core::{Clock, Error, ErrorKind, Result, SystemClock};
use ureq::Agent;
use ureq::http::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{Response, Uri};

use super::meter::{Meter, Stop};
use super::part::{Part, Sink};
use super::{ModelFile, PullReport, Stage, shown, shown_url};
use crate::{proxy, retry_after};

/// For finding the host, and for connecting to it.
const CONNECT: Duration = Duration::from_secs(30);
/// Without a byte.
const SILENCE: Duration = Duration::from_secs(60);
/// Hubs redirect once or twice, to where the files are stored.
const MOST_REDIRECTS: usize = 10;

type Answer = Response<ureq::Body>;

/// A folder of files on a server.
pub(super) struct Hub {
    agent: Agent,
    base: Uri,
}

/// An answer that gives the file from `start` on.
struct Body {
    answer: Answer,
    host: String,
    start: u64,
}

impl Hub {
    /// # Errors
    /// `Config`: the URL cannot be used.
    pub(super) fn new(base: &str) -> Result<Self> {
        Self::with_timeouts(base, CONNECT, SILENCE)
    }

    fn with_timeouts(base: &str, connect: Duration, silence: Duration) -> Result<Self> {
        let wrong = |why: &str| {
            let message = format!("the hub's URL ({}) {why}", shown_url(base));
            Error::new(ErrorKind::Config, message)
        };
        if base.contains(['?', '#', '@']) {
            return Err(wrong("has a user, a query or a fragment"));
        }
        let base: Uri = base.trim_end_matches('/').parse().map_err(|_| wrong("cannot be read"))?;
        if !is_https(&base) && !is_plain_loopback(&base) {
            return Err(wrong("has to begin with https:// (http:// is for loopback hosts alone)"));
        }
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, under our rules.
            .max_redirects(0)
            .user_agent(concat!("orchestra-memory/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_resolve(Some(connect))
            .timeout_connect(Some(connect))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .build()
            .new_agent();
        Ok(Self { agent, base })
    }

    /// Fetches a file and puts it at its place.
    pub(super) fn fetch(
        &self,
        file: &ModelFile,
        folder: &Path,
        meter: &mut Meter<'_>,
        report: &mut PullReport,
    ) -> Result<(), Stop> {
        let part = Part::of(file, folder);
        let mut have = part.bytes()?;
        if have == file.bytes && part.is_whole(meter)? {
            // Everything had arrived when an earlier pull was stopped.
            part.install()?;
            report.installed.push(file.name);
            return Ok(());
        }
        if have >= file.bytes {
            part.remove()?;
            have = 0;
        }
        loop {
            let body = self.ask(file, have)?;
            let host = body.host.clone();
            let resumed = body.start > 0;
            let sink = part.open(body.start)?;
            receive(file, body, sink, &part, meter, report)?;
            if part.is_whole(meter)? {
                part.install()?;
                report.installed.push(file.name);
                return Ok(());
            }
            part.remove()?;
            if !resumed {
                return Err(part.corrupt(&host).into());
            }
            // What was there before may be what is wrong, and that was not this server's.
            have = 0;
        }
    }

    /// Asks for a file from `have` on; what comes may begin at 0 all the same.
    fn ask(&self, file: &ModelFile, have: u64) -> Result<Body> {
        let (answer, host) = self.get(file, have)?;
        if have > 0 {
            let resumes = answer.status() == 206 && continues(&answer, file, have);
            if resumes {
                return Ok(Body { answer, host, start: have });
            }
            // Another part than that which was asked for, or none.
            if answer.status() == 206 || answer.status() == 416 {
                drop(answer);
                return self.ask(file, 0);
            }
        }
        match answer.status().as_u16() {
            200 => {
                whole_length(&answer, file, &host)?;
                Ok(Body { answer, host, start: 0 })
            }
            _ => Err(refused(&answer, file, &host)),
        }
    }

    /// One request, and those that redirects lead to.
    fn get(&self, file: &ModelFile, have: u64) -> Result<(Answer, String)> {
        let mut uri: Uri = format!("{}/{}", self.base, file.name)
            .parse()
            .map_err(|_| Error::new(ErrorKind::Config, "the hub's URL cannot be read"))?;
        for _ in 0..=MOST_REDIRECTS {
            let host = uri.host().unwrap_or_default().to_owned();
            let mut request = self.agent.get(&uri);
            if have > 0 {
                request = request.header(RANGE, format!("bytes={have}-"));
            }
            if is_loopback(&uri) {
                // A proxy's loopback is another machine's.
                request = request.config().proxy(None).build();
            } else {
                proxy::refuse_unusable(&uri)?;
            }
            let answer = request.call().map_err(|error| unreachable(&error, &host, file, have))?;
            if !matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok((answer, host));
            }
            uri = self.redirected(&uri, &answer, &host)?;
        }
        Err(odd("the hub", "redirects without end"))
    }

    /// Where a redirect leads, if it may be followed.
    fn redirected(&self, from: &Uri, answer: &Answer, host: &str) -> Result<Uri> {
        let to = header(answer, &LOCATION)
            .and_then(|location| resolve(from, location))
            .ok_or_else(|| odd(host, "redirects to nowhere"))?;
        // Plain HTTP stays on this machine, and nobody leads here from another one.
        if is_https(&to) || (is_plain_loopback(&self.base) && is_plain_loopback(&to)) {
            return Ok(to);
        }
        let message = format!(
            "{host} redirects to {} without https, which is not followed",
            shown(to.host().unwrap_or_default())
        );
        Err(Error::new(ErrorKind::Unexpected, message))
    }
}

/// Writes what arrives, to the end of the file.
fn receive(
    file: &ModelFile,
    body: Body,
    mut sink: Sink<'_>,
    part: &Part,
    meter: &mut Meter<'_>,
    report: &mut PullReport,
) -> Result<(), Stop> {
    let Body { answer, host, start } = body;
    let mut reader = answer.into_body().into_reader();
    let mut buffer = vec![0; 64 * 1024];
    let mut done = start;
    meter.begin(Stage::Fetching, Some(file.name), done, file.bytes)?;
    while done < file.bytes {
        let left = usize::try_from(file.bytes - done).unwrap_or(usize::MAX);
        let end = buffer.len().min(left);
        let count = match reader.read(&mut buffer[..end]) {
            Ok(0) => return Err(broke_off(file, &host, done, ErrorKind::Unavailable, None).into()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let error = ureq::Error::from(error);
                let kind = match error {
                    ureq::Error::Timeout(_) => ErrorKind::Timeout,
                    _ => ErrorKind::Unavailable,
                };
                return Err(broke_off(file, &host, done, kind, Some(error)).into());
            }
        };
        sink.write(&buffer[..count])?;
        done += count as u64;
        report.bytes += count as u64;
        meter.advance(count as u64)?;
    }
    // Where the length was not announced, more may follow. An error here takes nothing away.
    if matches!(reader.read(&mut buffer[..1]), Ok(1..)) {
        part.remove()?;
        return Err(another_file(file, &host, "more").into());
    }
    meter.end()
}

/// Whether a partial answer begins where the file on this machine ends, and is of the same file.
fn continues(answer: &Answer, file: &ModelFile, have: u64) -> bool {
    let range = || -> Option<(u64, u64, Option<u64>)> {
        let text = header(answer, &CONTENT_RANGE)?.trim().strip_prefix("bytes ")?;
        let (range, total) = text.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(total.parse().ok()?),
        };
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?, total))
    };
    let Some((first, last, total)) = range() else { return false };
    first == have
        && (first..file.bytes).contains(&last)
        && total.is_none_or(|total| total == file.bytes)
        && length(answer).is_none_or(|length| length == last - first + 1)
}

/// Refuses, before a byte is read, what cannot be the file.
fn whole_length(answer: &Answer, file: &ModelFile, host: &str) -> Result<()> {
    let kind = header(answer, &CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("text/html") {
        let message = format!(
            "{host} answers with a web page where {} should be: look at it in a browser, a network \
             may want a login, or take another source",
            file.name
        );
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    match length(answer) {
        Some(length) if length != file.bytes => Err(another_file(file, host, &length.to_string())),
        _ => Ok(()),
    }
}

fn another_file(file: &ModelFile, host: &str, bytes: &str) -> Error {
    let message = format!(
        "{host} gives {bytes} bytes for {} and the model's file has {}: it is another file; take \
         another source",
        file.name, file.bytes
    );
    Error::new(ErrorKind::Corrupt, message)
}

/// The answer is no file at all.
fn refused(answer: &Answer, file: &ModelFile, host: &str) -> Error {
    let status = answer.status().as_u16();
    let (kind, advice) = match status {
        401 | 403 | 407 => (ErrorKind::PermissionDenied, "take another source"),
        404 | 410 => (ErrorKind::NotFound, "look at the hub's URL, or take another source"),
        429 => (ErrorKind::RateLimited, "pull again later"),
        408 | 500.. => (ErrorKind::Unavailable, "pull again later"),
        _ => (ErrorKind::Unexpected, "take another source"),
    };
    let message = format!("{host} answers {status} for {}: {advice}", file.name);
    let error = Error::new(kind, message);
    let wait = match status {
        429 | 500..=599 => header(answer, &RETRY_AFTER),
        _ => None,
    };
    match wait.and_then(|wait| retry_after::wait(wait, SystemClock::new().now())) {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}

/// There is no answer.
fn unreachable(error: &ureq::Error, host: &str, file: &ModelFile, have: u64) -> Error {
    let (kind, why) = match error {
        ureq::Error::Timeout(_) => (ErrorKind::Timeout, "it takes too long".to_owned()),
        ureq::Error::HostNotFound => (ErrorKind::Unavailable, "there is no such host".to_owned()),
        // Others may hold the whole URL.
        ureq::Error::Io(why) => (ErrorKind::Unavailable, why.to_string()),
        ureq::Error::Tls(why) => (ErrorKind::Unavailable, (*why).to_owned()),
        ureq::Error::Rustls(why) => (ErrorKind::Unavailable, why.to_string()),
        ureq::Error::ConnectProxyFailed(why) => match proxy::refusal(why) {
            Some(407) => {
                let why = "the proxy of the environment wants other credentials (407)";
                (ErrorKind::PermissionDenied, why.to_owned())
            }
            Some(status) => {
                (ErrorKind::Unavailable, format!("the proxy of the environment answers {status}"))
            }
            None => (ErrorKind::Unavailable, "the proxy of the environment fails".to_owned()),
        },
        ureq::Error::Protocol(why) => (ErrorKind::Unavailable, why.to_string()),
        _ => (ErrorKind::Unavailable, "the connection failed".to_owned()),
    };
    let goes_on = match have {
        0 => "pull again later, or take another source".to_owned(),
        have => format!(
            "{have} of {} bytes of {} are there, and pulling again goes on from there",
            file.bytes, file.name
        ),
    };
    Error::new(kind, format!("{host} cannot be reached: {}; {goes_on}", shown(&why)))
}

/// The connection ended before the file did.
fn broke_off(
    file: &ModelFile,
    host: &str,
    done: u64,
    kind: ErrorKind,
    cause: Option<ureq::Error>,
) -> Error {
    let what = if kind == ErrorKind::Timeout { "went silent" } else { "broke off" };
    let message = format!(
        "the connection to {host} {what}: {done} of {} bytes of {} are there, and pulling again \
         goes on from there",
        file.bytes, file.name
    );
    let error = Error::new(kind, message);
    match cause {
        Some(cause) => error.with_source(cause),
        None => error,
    }
}

fn odd(host: &str, what: &str) -> Error {
    Error::new(ErrorKind::Unexpected, format!("{host} {what}: take another source"))
}

fn header<'a>(answer: &'a Answer, name: &HeaderName) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

fn length(answer: &Answer) -> Option<u64> {
    header(answer, &CONTENT_LENGTH)?.trim().parse().ok()
}

fn has_scheme(uri: &Uri, scheme: &str) -> bool {
    uri.scheme_str().is_some_and(|found| found.eq_ignore_ascii_case(scheme))
}

fn is_https(uri: &Uri) -> bool {
    has_scheme(uri, "https") && uri.host().is_some_and(|host| !host.is_empty())
}

/// Plain HTTP to this machine itself.
fn is_plain_loopback(uri: &Uri) -> bool {
    has_scheme(uri, "http") && is_loopback(uri)
}

/// Whether the host is this machine itself.
fn is_loopback(uri: &Uri) -> bool {
    uri.host().is_some_and(proxy::is_loopback)
}

/// The place that a `Location` means, seen from `from`.
fn resolve(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?.as_str());
    let location = location.trim();
    let before_path = location.split(['/', '?', '#']).next().unwrap_or_default();
    let absolute = if location.is_empty() {
        return None;
    } else if before_path.contains(':') {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    let uri: Uri = absolute.parse().ok()?;
    (uri.scheme().is_some() && uri.host().is_some()).then_some(uri)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn locations_are_resolved() {
        let from = uri("https://one.test/a/b/c?x=1");
        let table = [
            ("https://two.test/d?e=f", "https://two.test/d?e=f"),
            ("//two.test/d", "https://two.test/d"),
            ("/d/e", "https://one.test/d/e"),
            ("d", "https://one.test/a/b/d"),
            ("d?next=https://two.test/", "https://one.test/a/b/d?next=https://two.test/"),
        ];
        for (location, expected) in table {
            assert_eq!(resolve(&from, location), Some(uri(expected)), "{location}");
        }
        for nowhere in ["", "https://", "mailto:somebody", "ht tp://x"] {
            assert_eq!(resolve(&from, nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn plain_http_is_for_loopback_alone() {
        for good in [
            "https://one.test/a",
            "http://127.0.0.1:80/a",
            "http://127.9.9.9/a",
            "http://[::1]:8/a",
            "http://localhost/a",
            "HTTPS://one.test",
        ] {
            assert!(Hub::new(good).is_ok(), "{good}");
        }
        for bad in [
            "http://one.test/a",
            "http://localhost.one.test/a",
            "http://10.0.0.1/a",
            "ftp://127.0.0.1/a",
            "https://user:secret@one.test/a",
            "https://one.test/a?token=secret",
            "https://one.test/a#b",
            "one.test/a",
            "/a",
            "",
        ] {
            let error = Hub::new(bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn ranges_are_compared() {
        let file = ModelFile { name: "a", bytes: 100, sha256: "" };
        let fits = |range: Option<&str>, length: Option<&str>| {
            let mut answer = Response::builder().status(206);
            if let Some(range) = range {
                answer = answer.header(CONTENT_RANGE, range);
            }
            if let Some(length) = length {
                answer = answer.header(CONTENT_LENGTH, length);
            }
            let answer = answer.body(ureq::Body::builder().data("")).unwrap();
            continues(&answer, &file, 40)
        };
        assert!(fits(Some("bytes 40-99/100"), Some("60")));
        assert!(fits(Some("bytes 40-99/*"), None));
        // A server may give less than was asked for.
        assert!(fits(Some("bytes 40-79/100"), Some("40")));
        for range in [
            "bytes 0-99/100",
            "bytes 41-99/100",
            "bytes 40-100/100",
            "bytes 40-39/100",
            "bytes 40-99/101",
            "bytes */100",
            "lines 40-99/100",
            "",
        ] {
            assert!(!fits(Some(range), None), "{range}");
        }
        assert!(!fits(Some("bytes 40-99/100"), Some("61")));
        assert!(!fits(None, Some("60")));
    }

    #[test]
    fn a_silent_server_is_a_timeout() {
        let silence = Duration::from_secs(1);
        let file = ModelFile { name: "a", bytes: 100, sha256: "" };
        // Silent at once, and after some of the body.
        for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789"] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let base = format!("http://{}", listener.local_addr().unwrap());
            let (end, ended) = mpsc::channel::<()>();
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(head.as_bytes()).unwrap();
                // Open until the client has given up.
                let _ = ended.recv();
            });
            let folder = tempfile::tempdir().unwrap();
            let hub = Hub::with_timeouts(&base, CONNECT, silence).unwrap();
            let mut report = PullReport::default();
            let mut go_on = |_| std::ops::ControlFlow::Continue(());
            let fetched = hub.fetch(&file, folder.path(), &mut Meter::new(&mut go_on), &mut report);
            let Err(Stop::Failed(error)) = fetched else { panic!("it should have failed") };
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.is_retryable());
            let there = std::fs::read(folder.path().join("a.part")).unwrap_or_default();
            let body = head.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            assert_eq!(there, body.as_bytes());
            drop(end);
            server.join().unwrap();
        }
    }
}

//! An emulator of Cloud Firestore, ended with this program.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::deadline::Deadline;
use super::guarded::Guarded;
use super::process::Process;
use super::sdk::Found;

/// The class that the SDK's script starts.
const CLASS: &str = "com.google.cloud.datastore.emulator.firestore.CloudFirestore";

/// The memory that Java may take for its objects. A run of all tests fills more than 1 GiB, for what
/// was cleared is not given back; near its limit the emulator stops answering.
const HEAP: &str = "-Xmx3g";

/// How long it may take to answer: it takes 3 to 10 s on two busy cores.
const PATIENCE: Duration = Duration::from_secs(60);

/// Free ports that are tried, should another program take one before Java does.
const PORTS: usize = 3;

/// The lines of the log that an error shows.
const TAIL: usize = 15;

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// A running emulator, ended with this value.
pub(crate) struct Emulator {
    java: Guarded,
    port: u16,
}

impl Emulator {
    /// Starts it on a free port of the loopback interface, and returns when it answers. What it
    /// prints goes into the file `log`.
    ///
    /// # Errors
    /// Java does not start, ends at once, or does not answer in time: with the end of the log.
    pub(crate) fn start(found: &Found, log: &Path) -> Result<Self> {
        if !Path::new("/proc/self/stat").exists() {
            bail!(
                "emulators are started by way of Linux's /proc, which this system does not have; \
                 start one yourself and set FIRESTORE_EMULATOR_HOST"
            );
        }
        for _ in 1..PORTS {
            let mut started = Self::start_on(free_port()?, found, log)?;
            match started.wait_until_it_answers(log) {
                Ok(()) => return Ok(started),
                Err(_) if started.port_was_taken(log) => {}
                Err(error) => return Err(error),
            }
        }
        let mut started = Self::start_on(free_port()?, found, log)?;
        started.wait_until_it_answers(log)?;
        Ok(started)
    }

    fn start_on(port: u16, found: &Found, log: &Path) -> Result<Self> {
        let mut command = Guarded::command(&found.java);
        command.args(["-Duser.language=en", HEAP, "-cp"]).arg(&found.jar).args([
            CLASS,
            "start",
            "--host=127.0.0.1",
            &format!("--port={port}"),
        ]);
        Ok(Self { java: Guarded::start(command, log)?, port })
    }

    fn wait_until_it_answers(&mut self, log: &Path) -> Result<()> {
        let deadline = Deadline::after(PATIENCE);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let problem = loop {
            if let Some(status) = self.java.ended()? {
                break format!("the Firestore emulator ended at once ({status})");
            }
            // Another program may have taken the port.
            if answers_at(address) && self.java.process().listens_on(self.port) {
                return Ok(());
            }
            if deadline.passed() {
                let seconds = PATIENCE.as_secs();
                break format!("the Firestore emulator did not answer within {seconds} s");
            }
            thread::sleep(Duration::from_millis(50));
        };
        bail!("{problem}; the end of its log, {}:\n{}", log.display(), tail(log))
    }

    fn port_was_taken(&self, log: &Path) -> bool {
        let text = fs::read(log).unwrap_or_default();
        !self.java.process().runs() && String::from_utf8_lossy(&text).contains("in use")
    }

    /// The process.
    pub(crate) fn process(&self) -> Process {
        self.java.process()
    }

    /// Its port of the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where clients find it: host and port.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Lets it run on when this program ends.
    ///
    /// # Errors
    /// The watcher cannot be dismissed; then it ends with this program.
    pub(crate) fn stay(self) -> Result<()> {
        self.java.stay()
    }

    /// Ends it, and returns when it has ended.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) fn end(self) -> Result<()> {
        self.java.end()
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free")?;
    Ok(listener.local_addr().context("no port is free")?.port())
}

/// Whether a server of HTTP answers at `host`, a name or address with a port.
pub(crate) fn answers(host: &str) -> bool {
    host.to_socket_addrs().is_ok_and(|mut addresses| addresses.any(answers_at))
}

fn answers_at(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.set_write_timeout(Some(ANSWER))?;
        // In one piece: a server that has read a part of it may answer and close.
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut start = [0; 7];
        stream.read_exact(&mut start)?;
        Ok(&start == b"HTTP/1.")
    };
    ask().unwrap_or(false)
}

/// The last lines of a log, without the places in the code that Java lists.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("\tat ")).collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// A log of its own for an emulator that lives as long as this program. Logs of earlier runs, which
/// were kept since those failed, are removed.
pub(crate) fn own_log(folder: &Path) -> PathBuf {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("firestore-").and_then(|name| name.strip_suffix(".log"));
        let pid = pid.and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| Process::running(pid).is_err()) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(entry.path());
        }
    }
    folder.join(format!("firestore-{}.log", std::process::id()))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_server_is_one_that_speaks_http() {
        for (greeting, expected) in
            [("HTTP/1.1 200 OK\r\n\r\nOk\n", true), ("+PONG in full", false)]
        {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let host = listener.local_addr().unwrap().to_string();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                stream.write_all(greeting.as_bytes()).unwrap();
            });
            assert_eq!(answers(&host), expected);
            server.join().unwrap();
            assert!(!answers(&host), "nobody listens any more");
        }
        assert!(!answers("no port"));
    }

    #[test]
    fn an_error_shows_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(tail(&log), "");
        fs::write(&log, (0..40).map(|n| format!("line {n}\n\tat place {n}\n")).collect::<String>())
            .unwrap();
        let shown = tail(&log);
        assert!(shown.starts_with("line 25") && shown.ends_with("line 39"), "{shown}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn logs_of_runs_that_are_over_are_removed_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("true").spawn().unwrap();
        let over = folder.path().join(format!("firestore-{}.log", child.id()));
        child.wait().unwrap();
        let running = folder.path().join(format!("firestore-{}.log", std::process::id()));
        let other = folder.path().join("firestore.log");
        for log in [&over, &running, &other] {
            fs::write(log, "").unwrap();
        }
        assert_eq!(own_log(folder.path()), running);
        assert!(!over.exists() && running.exists() && other.exists());
    }
}

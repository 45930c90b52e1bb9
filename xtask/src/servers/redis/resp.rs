//! The little of Redis' protocol that starting a server takes: a command of plain words, and its
//! answer as a text.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// Sends a command to a server of this machine.
///
/// # Errors
/// Nothing answers there, or what answers refuses it.
pub(super) fn ask(port: u16, command: &str) -> Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect_timeout(&address, ANSWER).context("nothing answers")?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    (&stream).write_all(format!("{command}\r\n").as_bytes())?;
    let mut input = BufReader::new(&stream);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let line = line.trim_end();
    match line.split_at_checked(1) {
        Some(("+" | ":", text)) => Ok(text.to_owned()),
        Some(("$", length)) => {
            let length: usize = length.parse().context("an odd length")?;
            let mut text = vec![0; length];
            input.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        Some(("-", problem)) => bail!("`{command}` is refused: {problem}"),
        _ => bail!("`{command}` has an odd answer"),
    }
}

//! Where Redis is and as whom it is asked: a URL whose secret shows nowhere.

use std::fmt;
use std::str::FromStr;

use memory_core::{Error, ErrorKind};
use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisConnectionInfo,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands in the place of a password. A URL with it is refused, so that settings which were
/// written out and are read again do not ask with a wrong one.
const HIDDEN: &str = "***";
const PORT: u16 = 6379;

/// `redis://USER:PASSWORD@HOST:PORT/DATABASE`, `rediss://` with TLS.
///
/// What may be left out: the user, the password, the port (6379) and the database (0). User and
/// password are percent-encoded. In `Debug`, `Display` and serialised, the password is `***`; a URL
/// with that in the place of the password is refused.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    host: String,
    port: u16,
    database: u32,
}

impl Default for RedisUrl {
    fn default() -> Self {
        Self {
            tls: false,
            user: None,
            password: None,
            host: "127.0.0.1".to_owned(),
            port: PORT,
            database: 0,
        }
    }
}

impl RedisUrl {
    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls
    }

    /// The database: 0 unless another one is named.
    #[must_use]
    pub fn database(&self) -> u32 {
        self.database
    }

    /// Host and port.
    pub(crate) fn address(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    /// What the client takes: this server, as this user, with protocol version 3.
    ///
    /// # Errors
    /// `Config`: the client does not take it.
    pub(crate) fn info(&self) -> Result<ConnectionInfo, Error> {
        self.info_at(&self.host, self.port)
    }

    /// The same for another node of the same cluster.
    pub(crate) fn info_at(&self, host: &str, port: u16) -> Result<ConnectionInfo, Error> {
        let host = host.to_owned();
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut session = RedisConnectionInfo::default()
            .set_db(self.database.into())
            .set_protocol(ProtocolVersion::RESP3);
        if let Some(user) = &self.user {
            session = session.set_username(user);
        }
        if let Some(password) = &self.password {
            session = session.set_password(password);
        }
        let info = address.into_connection_info().map_err(|_| config(SHAPE))?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(info.set_redis_settings(session).set_tcp_settings(tcp))
    }
}

const SHAPE: &str = "the URL of a Redis server is `redis://USER:PASSWORD@HOST:PORT/DATABASE`, or \
                     `rediss://...` with TLS";

fn config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, message)
}

/// A host and a port; a host of IP version 6 stands in brackets.
pub(crate) fn host_and_port(text: &str) -> Result<(String, u16), &'static str> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or("a bracket of the host is not closed")?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("what stands in brackets is not an IPv6 address");
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err("after the host stands a colon and the port"),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
    if host.is_empty() || host.len() > 255 || !host.chars().all(plain) {
        return Err("the host has letters, digits, `-`, `.` and `_`");
    }
    let port = match port {
        None => PORT,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 && !port_is_signed(text) => port,
            _ => return Err("the port is a number from 1 to 65,535"),
        },
    };
    Ok((host.to_owned(), port))
}

fn port_is_signed(text: &str) -> bool {
    text.rsplit(':').next().is_some_and(|port| port.starts_with('+'))
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, &'static str> {
    const BAD: &str = "user and password are percent-encoded UTF-8: a `%` as `%25`";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(BAD) };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| BAD)?);
    }
    String::from_utf8(bytes).map_err(|_| BAD)
}

fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn parse(text: &str) -> Result<RedisUrl, &'static str> {
    let (scheme, rest) = text.split_once("://").ok_or(SHAPE)?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "redis" => false,
        "rediss" => true,
        _ => return Err(SHAPE),
    };
    // A password may hold what elsewhere ends the host, and then is not percent-encoded.
    let (credentials, place) = match rest.rsplit_once('@') {
        Some((credentials, place)) => (Some(credentials), place),
        None => (None, rest),
    };
    if credentials.is_some_and(|text| text.contains(['@', '/', '?', '#'])) {
        return Err(
            "in user and password `@` is written `%40`, `/` `%2F`, `?` `%3F` and `#` `%23`",
        );
    }
    if place.contains(['?', '#']) {
        return Err("the URL of a Redis server ends with the database: options are settings");
    }
    let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, "")))
    {
        None => (None, None),
        Some((_, HIDDEN)) => {
            return Err("the password is missing: `***` stands in its place, for settings are \
                        written without it; a password that is `***` is written `%2A%2A%2A`");
        }
        Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (user, password) = (given(user), given(password));
    if user.is_some() && password.is_none() {
        return Err("a user needs a password: `redis://USER:PASSWORD@HOST`");
    }
    let (place, database) = place.split_once('/').unwrap_or((place, ""));
    let (host, port) = host_and_port(place)?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let database = match database {
        "" => 0,
        number if digits(number) => number.parse().map_err(|_| "the database is a small number")?,
        _ => return Err("the database is a number: `redis://HOST:PORT/0`"),
    };
    Ok(RedisUrl { tls, user, password, host, port, database })
}

impl FromStr for RedisUrl {
    type Err = Error;

    /// # Errors
    /// `Config`: what is wrong with it, and none of it.
    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(config)
    }
}

/// The reader's own message is left out, for it repeats a value of a wrong type.
impl<'de> Deserialize<'de> for RedisUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let text = String::deserialize(deserializer)
            .map_err(|_| D::Error::custom("the URL of a Redis server is a string, in quotes"))?;
        parse(&text).map_err(D::Error::custom)
    }
}

impl Serialize for RedisUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss://" } else { "redis://" })?;
        if self.user.is_some() || self.password.is_some() {
            write!(f, "{}:{HIDDEN}@", encoded(self.user.as_deref().unwrap_or_default()))?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)?;
        } else {
            write!(f, "{}:{}", self.host, self.port)?;
        }
        if self.database != 0 {
            write!(f, "/{}", self.database)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> RedisUrl {
        text.parse().unwrap()
    }

    #[test]
    fn urls_are_read_shown_without_the_password_and_refused_when_read_again() {
        let url = read("rediss://us%3Aer:p%40ss%2f%25@host.example:7000/3");
        assert_eq!(url.to_string(), "rediss://us%3Aer:***@host.example:7000/3");
        let info = url.info().unwrap();
        assert_eq!(info.redis_settings().username(), Some("us:er"));
        assert_eq!(info.redis_settings().password(), Some("p@ss/%"));
        assert_eq!(info.redis_settings().protocol(), ProtocolVersion::RESP3);
        assert_eq!(info.redis_settings().db(), 3);
        assert!(matches!(info.addr(), ConnectionAddr::TcpTls { insecure: false, port: 7000, .. }));
        for shown in [format!("{url:?}"), url.to_string(), serde_json::to_string(&url).unwrap()] {
            assert!(shown.contains("host.example") && !shown.contains("p@ss"), "{shown}");
            assert!(!shown.contains("p%40ss"), "{shown}");
        }
        let again = serde_json::from_value::<RedisUrl>(serde_json::to_value(&url).unwrap());
        assert!(again.unwrap_err().to_string().contains("password is missing"));
        assert_eq!(
            read("redis://:%2A%2A%2A@h").info().unwrap().redis_settings().password(),
            Some("***")
        );

        for plain in ["redis://h:1", "redis://h:6379/15", "redis://[::1]:7"] {
            let url = read(plain);
            assert_eq!(url.to_string(), plain);
            assert_eq!(serde_json::from_value::<RedisUrl>(serde_json::json!(plain)).unwrap(), url);
        }
        assert_eq!(read("REDIS://127.0.0.1/"), RedisUrl::default());
        assert_eq!(read("redis://:@127.0.0.1"), RedisUrl::default());
    }

    #[test]
    fn what_is_no_url_is_refused_and_nothing_of_it_repeated() {
        for text in [
            "",
            "secret",
            "http://secret",
            "redis:secret",
            "redis://",
            "redis://secret:0",
            "redis://secret:99999",
            "redis://secret:+1",
            "redis://secret:",
            "redis://h:secret",
            "redis://h/secret",
            "redis://h/99999999999",
            "redis://h/-1",
            "redis://h?secret=1",
            "redis://h#secret",
            "redis://u:sec@ret@h",
            "redis://u:sec/ret@h",
            "redis://secret@h",
            "redis://u:%secret@h",
            "redis://u:%ff%fesecret@h",
            "redis://u:***@h",
            "redis://[secret]",
            "redis://[::1",
            "redis://[::1]x",
            "redis://sec ret",
            "redis://h/0/1",
        ] {
            let error = text.parse::<RedisUrl>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            let wrong = serde_json::from_value::<RedisUrl>(serde_json::json!(text)).unwrap_err();
            for shown in [format!("{error} {error:?}"), wrong.to_string()] {
                assert!(!shown.contains("secret") && !shown.contains("sec/ret"), "{text}: {shown}");
            }
        }
        let wrong =
            serde_json::from_value::<RedisUrl>(serde_json::json!({"secret": 1})).unwrap_err();
        assert!(!wrong.to_string().contains("secret"));
    }
}

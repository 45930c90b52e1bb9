//! The proxy of the environment: refused where requests would go past it.
//!
//! The client reads `ALL_PROXY`, `HTTPS_PROXY` and `HTTP_PROXY`, each in capitals and then in small
//! letters, and takes the first that it understands. One that it does not understand, or whose
//! protocol this build lacks (SOCKS), it passes over without a word and connects directly: past the
//! way that whoever set it wants. Here the first of them that has a value has to be of use.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr};

use memory_core::{Error, ErrorKind, Result};
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

/// Where a proxy is looked for, in the order of the client.
const PROXY: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
/// What goes without it: the first that is set counts, even if it is empty.
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Refuses a request that should go through a proxy and would not. For a host that never goes
/// through one, such as this machine, it is not to be asked.
///
/// # Errors
/// `Config`, naming the variable and not its value, which may hold a password: its proxy cannot be
/// used, and `NO_PROXY` does not name the host of `uri`.
pub(crate) fn refuse_unusable(uri: &Uri) -> Result<()> {
    check(uri, |name| std::env::var_os(name))
}

fn check(uri: &Uri, variable: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    // An empty value is how a variable is taken back for one command.
    let mut set = PROXY.into_iter().filter_map(|name| Some((name, variable(name)?)));
    let Some((name, value)) = set.find(|(_, value)| !value.is_empty()) else { return Ok(()) };
    let proxy = value.to_str().and_then(|value| Proxy::new(value).ok());
    let fault = match proxy.as_ref().map(Proxy::protocol) {
        Some(ProxyProtocol::Http | ProxyProtocol::Https) => return Ok(()),
        Some(_) => "names a SOCKS proxy, which this build cannot use",
        None => "does not hold the URL of a proxy",
    };
    let exempt = NO_PROXY.iter().find_map(|name| variable(name)?.into_string().ok());
    if exempt.is_some_and(|exempt| names(&exempt, uri)) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!(
            "the environment variable {name} {fault}: set an http:// or https:// proxy there, or \
             name the host in NO_PROXY"
        ),
    ))
}

/// Whether a list of exceptions names the host, by the client's own rules.
fn names(exempt: &str, uri: &Uri) -> bool {
    let proxy = Proxy::builder(ProxyProtocol::Http).host("localhost");
    let proxy = exempt.split(',').fold(proxy, |proxy, entry| proxy.no_proxy(entry)).build();
    proxy.is_ok_and(|proxy| proxy.is_no_proxy(uri))
}

/// Whether a host is this machine, by its name alone: requests to it go through no proxy, and
/// may be plain HTTP. An IPv6 address stands in brackets, as in a URL.
pub(crate) fn is_loopback(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match bare.map_or_else(|| host.parse(), |v6| v6.parse::<Ipv6Addr>().map(IpAddr::V6)) {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => false,
    }
}

/// The status with which a proxy refused to connect, from the client's words for that.
pub(crate) fn refusal(words: &str) -> Option<u16> {
    words.strip_prefix("proxy server responded ")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(host: &str, variables: &[(&str, &str)]) -> Result<()> {
        let uri: Uri = format!("https://{host}/v1").parse().unwrap();
        check(&uri, |name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_proxy_that_can_be_used_is_and_one_that_cannot_is_refused_by_its_name() {
        let good = ["http://user:pass@proxy:3128", "https://proxy", "HTTP://proxy/", "proxy:3128"];
        for value in good {
            assert!(checked("host", &[("ALL_PROXY", value)]).is_ok(), "{value}");
        }
        assert!(checked("host", &[]).is_ok());
        let bad = [
            ("socks5://user:canary@proxy:1080", "SOCKS"),
            ("socks://canary", "SOCKS"),
            ("socks4://canary", "SOCKS"),
            ("socks4a://canary", "SOCKS"),
            ("SOCKS5H://canary", "SOCKS"),
            ("ftp://canary", "URL of a proxy"),
            ("http://", "URL of a proxy"),
            ("/canary", "URL of a proxy"),
            ("canary proxy", "URL of a proxy"),
            (" ", "URL of a proxy"),
            ("http://%ff:canary@proxy", "URL of a proxy"),
        ];
        for name in PROXY {
            for (value, words) in bad {
                let error = checked("host", &[(name, value)]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Config);
                assert!(error.message().contains(&format!("variable {name} ")), "{error}");
                assert!(error.message().contains(words), "{value}: {error}");
                assert!(!format!("{error:?}").contains("canary"), "{error:?}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_text_is_refused() {
        use std::os::unix::ffi::OsStringExt as _;
        let uri: Uri = "https://host/".parse().unwrap();
        let value = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let only = |bytes: &'static [u8]| {
            check(&uri, move |name| (name == "https_proxy").then(|| value(bytes)))
        };
        assert_eq!(only(b"http://\xff").unwrap_err().kind(), ErrorKind::Config);
        assert!(only(b"http://f").is_ok());
    }

    #[test]
    fn the_first_variable_with_a_value_counts() {
        let (good, bad) = ("http://proxy", "socks5://proxy");
        assert!(checked("host", &[("ALL_PROXY", good), ("HTTP_PROXY", bad)]).is_ok());
        assert!(checked("host", &[("all_proxy", bad), ("HTTPS_PROXY", good)]).is_err());
        assert!(checked("host", &[("ALL_PROXY", ""), ("HTTPS_PROXY", good)]).is_ok());
        assert!(checked("host", &[("ALL_PROXY", ""), ("HTTPS_PROXY", bad)]).is_err());
    }

    #[test]
    fn hosts_that_go_without_a_proxy_need_none() {
        let with = |host, exempt| checked(host, &[("ALL_PROXY", "socks5://p"), exempt]);
        for (host, exempt) in [
            ("host.test", "host.test"),
            ("Host.test:8443", "one,HOST.test"),
            ("a.host.test", "one,.host.test"),
            ("a.host.test", "*.host.test,two"),
            ("10.1.2.3", "10.1.*"),
            ("[::2]:9", "[::2]"),
            ("any", "*"),
        ] {
            for name in NO_PROXY {
                assert!(with(host, (name, exempt)).is_ok(), "{host} {exempt}");
            }
        }
        for (host, exempt) in
            [("host.test", ""), ("host.test", "other.test"), ("host.test", ".host.test")]
        {
            assert!(with(host, ("NO_PROXY", exempt)).is_err(), "{host} {exempt}");
        }
        // The first that is set counts for the client, too.
        let both = [("ALL_PROXY", "socks5://p"), ("NO_PROXY", ""), ("no_proxy", "*")];
        assert!(checked("host", &both).is_err());
    }

    #[test]
    fn the_status_of_a_refusal_is_read() {
        assert_eq!(refusal("proxy server responded 407/407"), Some(407));
        assert_eq!(refusal("proxy server did not respond"), None);
        assert_eq!(refusal(""), None);
    }
}

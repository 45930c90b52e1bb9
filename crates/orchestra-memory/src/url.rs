//! Store URLs: `SCHEME:REST?KEY=VALUE&KEY=VALUE`.

use std::fmt;

use memory_core::{Error, ErrorKind, Result};

use crate::nearest::unknown_key;

/// A store's URL, taken apart.
///
/// The first `:` ends the scheme and the first `?` the rest; nothing is percent-decoded. A path
/// that holds a `?` goes through the builder and the back end's own settings.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    rest: String,
    options: Vec<(String, String)>,
}

impl StoreUrl {
    /// Takes a URL apart. A scheme has lower-case letters, digits, `+`, `-` and `.`, and begins
    /// with a letter; case is ignored.
    ///
    /// # Errors
    /// `Config`: no scheme, an option without a value, or one that is named twice. Messages never
    /// repeat the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self> {
        let (scheme, tail) = url.split_once(':').ok_or_else(|| {
            config("a store URL begins with its scheme, as in `sqlite:memory.db` or `memory:`")
        })?;
        let valid = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        if !valid {
            return Err(config("the scheme of the store URL is not one"));
        }
        let (rest, query) = tail.split_once('?').unwrap_or((tail, ""));
        let mut options: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                config("an option of the store URL has no value: write KEY=VALUE")
            })?;
            if options.iter().any(|(known, _)| known == key) {
                return Err(config("an option of the store URL is named twice"));
            }
            options.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), rest: rest.to_owned(), options })
    }

    /// The scheme, in lower case.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between the scheme and the options.
    #[must_use]
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Refuses options that the back end does not know.
    ///
    /// # Errors
    /// `Config`, naming the nearest known one.
    pub fn check_options(&self, known: &[&str]) -> Result<()> {
        match self.options.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(unknown_key("option of the store URL", key, known)),
            None => Ok(()),
        }
    }
}

/// Shows the scheme only: the rest may hold a password.
impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({}:...)", self.scheme)
    }
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message).with_operation("open")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_come_apart() {
        let url = StoreUrl::parse("SQLite:/a/b%20c.db?mode=ro&x=1=2").unwrap();
        assert_eq!((url.scheme(), url.rest()), ("sqlite", "/a/b%20c.db"));
        assert_eq!((url.option("mode"), url.option("x")), (Some("ro"), Some("1=2")));
        assert_eq!(url.option("none"), None);
        let error = url.check_options(&["mode", "y"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(StoreUrl::parse("memory:").unwrap().rest(), "");
    }

    #[test]
    fn bad_urls_are_refused_without_being_repeated() {
        for bad in ["", "file.db", ":x", "1a:x", "a b:x", "s:x?mode", "s:p@secret?a=1&a=2"] {
            let error = StoreUrl::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{bad}");
            assert!(!error.to_string().contains("secret"));
        }
        let url = StoreUrl::parse("redis://u:secret@host").unwrap();
        assert!(!format!("{url:?}").contains("secret"));
    }
}

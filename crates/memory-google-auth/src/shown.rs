//! What may be shown of a value that somebody set: a secret in the wrong place is not repeated.

use std::path::Path;

/// Longest value that is shown, in bytes; paths on common systems are no longer.
const LONGEST: usize = 1_024;

/// A path, if it looks like one: a key or a token that was set in place of a path is not shown.
pub(crate) fn path(path: &Path) -> String {
    match path.to_str() {
        Some(text) if looks_like_path(text) => text.to_owned(),
        _ => "(not shown: it does not look like a path)".to_owned(),
    }
}

/// A path begins at a root, at `.` or `~`, or ends in `.json`; keys and tokens of Google do none of
/// these, and no key is without braces, quotes or line breaks.
fn looks_like_path(text: &str) -> bool {
    let plain = !text.is_empty()
        && text.len() <= LONGEST
        && !text.chars().any(|c| c.is_control() || "{}\"=".contains(c));
    let drive = text.as_bytes().get(1) == Some(&b':') && text.as_bytes()[0].is_ascii_alphabetic();
    plain && (drive || text.starts_with(['/', '\\', '.', '~']) || text.ends_with(".json"))
}

/// Whether a text can be the name of an environment variable: letters, digits and `_`, not
/// beginning with a digit, at most 128 bytes.
pub(crate) fn is_variable_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.as_bytes()[0].is_ascii_digit()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Whether a text can be the id of a project, with its domain or without: lower-case letters,
/// digits, `-`, `.` and `:`, at most 128 bytes.
pub(crate) fn is_project(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b))
}

/// Whether a text can be `HOST` or `HOST:PORT`, at most 255 bytes; an IPv6 address stands in
/// brackets.
pub(crate) fn is_host(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shown_and_secrets_are_not() {
        for good in [
            "/etc/keys/key.json",
            "key.json",
            "./key",
            "../key",
            "~/key",
            r"C:\keys\key.json",
            "C:/keys",
            r"\\host\share\key",
        ] {
            assert_eq!(path(Path::new(good)), good);
        }
        for bad in [
            "",
            r#"{"type":"service_account"}"#,
            "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
            "/-----BEGIN\nMIIE",
            "ya29.a0AfH6SMBx",
            "1//0gabcdef",
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln",
            "GOCSPX-abcdef",
            "/GOOGLE_KEY=abc",
        ] {
            assert!(path(Path::new(bad)).starts_with("(not shown"), "{bad}");
        }
    }

    #[test]
    fn shapes() {
        assert!(is_variable_name("ORCHESTRA_GOOGLE_KEY") && is_variable_name("_a1"));
        for bad in ["", "1A", "A-B", "A B", "{\"type\"", &"A".repeat(129)] {
            assert!(!is_variable_name(bad), "{bad}");
        }
        assert!(is_project("my-project-1") && is_project("example.com:my-project"));
        for bad in ["", "My-Project", "a b", "ya29_abc", &"a".repeat(129)] {
            assert!(!is_project(bad), "{bad}");
        }
        assert!(
            is_host("metadata.google.internal") && is_host("127.0.0.1:80") && is_host("[::1]:8")
        );
        for bad in ["", "http://host", "host/path", "a b", "user@host", &"a".repeat(256)] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}

//! Identifiers: newtypes, checked once, here.
//!
//! Ids compare as bytes and are never normalised: `é` composed and decomposed are two ids.
//! Slashes, dots, percent signs, spaces and emoji are allowed, for back ends encode; control
//! characters are not, for they break terminals, logs and line formats.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::ID_BYTES;

/// Checks a name of any kind against the rules of this module.
///
/// # Errors
/// `InvalidInput`: empty, longer than `most_bytes`, or with a control character.
pub(crate) fn check_name(what: &'static str, text: &str, most_bytes: usize) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(format!("the {what} is empty")));
    }
    if text.len() > most_bytes {
        return Err(Error::invalid(format!(
            "the {what} has {} bytes; the limit is {most_bytes}",
            text.len()
        )));
    }
    // Nearly all names are plain ASCII, and then a look at the bytes is enough.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Ok(());
    }
    if let Some(at) = text.find(char::is_control) {
        return Err(Error::invalid(format!("the {what} has a control character at byte {at}")));
    }
    Ok(())
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        ///
        /// 1 to [`ID_BYTES`] bytes of UTF-8 without control characters. Cloning is cheap.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Checks and wraps a ", $what, ".")]
            ///
            /// # Errors
            /// `InvalidInput`: empty, too long, or with a control character.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                let text = text.as_ref();
                check_name($what, text, ID_BYTES)?;
                Ok(Self(text.into()))
            }

            /// The text as given.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }
    };
}

string_id!(
    /// Whose memory it is: the wall that nothing crosses.
    TenantId,
    "tenant id"
);
string_id!(
    /// One memory, unique within its tenant.
    MemoryId,
    "memory id"
);
string_id!(
    /// The person whom a memory is about or belongs to.
    UserId,
    "user id"
);
string_id!(
    /// The agent or persona that a memory belongs to.
    AgentId,
    "agent id"
);
string_id!(
    /// One conversation.
    SessionId,
    "session id"
);
string_id!(
    /// An embedding space, as [`crate::EmbeddingSpace::id`] names it.
    SpaceId,
    "space id"
);
string_id!(
    /// A kind of memory of the caller's own.
    KindName,
    "kind"
);
string_id!(
    /// A named reader of the change log.
    ConsumerName,
    "consumer name"
);
string_id!(
    /// A named lease.
    LeaseName,
    "lease name"
);

/// One commit, named by whoever sends it: 16 random bytes.
///
/// It is stamped into each record that the commit writes, so that a commit that is sent again
/// recognises its own work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId([u8; 16]);

impl CommitId {
    /// Wraps 16 random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitId({})", crate::hash::hex(&self.0))
    }
}

/// A version of one memory: opaque, issued by the store, never used twice for an id.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(Arc<str>);

impl Revision {
    /// Wraps a store's own text. Stores issue it; callers only hand it back.
    ///
    /// # Errors
    /// `InvalidInput`: empty, too long, or with a control character.
    pub fn new(text: impl AsRef<str>) -> Result<Self> {
        let text = text.as_ref();
        check_name("revision", text, ID_BYTES)?;
        Ok(Self(text.into()))
    }

    /// A revision that is a number in its store.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// The text as issued.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({})", self.0)
    }
}

impl TryFrom<String> for Revision {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(text)
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn hostile_but_legal_ids_are_kept_as_bytes() {
        for text in
            ["a/b", "..", ".", "__x__", "100%", "%2F", "😀", " ", "a:b+c.d", "é", "e\u{301}"]
        {
            assert_eq!(MemoryId::new(text).unwrap().as_str(), text);
        }
        assert_ne!(MemoryId::new("é").unwrap(), MemoryId::new("e\u{301}").unwrap());
        assert_eq!(MemoryId::new("x".repeat(ID_BYTES)).unwrap().as_str().len(), ID_BYTES);
    }

    #[test]
    fn bad_ids_are_refused_by_kind() {
        let long = "x".repeat(10_240);
        for text in ["", "a\0b", "a\nb", "\u{7f}", long.as_str()] {
            let error = TenantId::new(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().len() < 200, "the message must not repeat the input");
        }
        assert!(serde_json::from_str::<UserId>("\"\"").is_err());
        assert_eq!(serde_json::from_str::<UserId>("\"u\"").unwrap().as_str(), "u");
    }
}

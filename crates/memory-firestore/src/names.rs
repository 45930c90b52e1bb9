//! Where things are kept: document names out of ids, without collisions and in the order of the
//! ids' bytes.
//!
//! A document id may not hold `/`, be `.` or `..`, or look like `__x__`. The encoding replaces
//! what it must so that the order stays: `.` by `.0`, `/` by `.1`, `~` and every byte that is not
//! ASCII by `~` and two digits, and a leading `_` by `_-`. It at most triples an id, and leaves
//! those of letters, digits and dashes as they are.

use std::fmt::Write as _;

use memory_core::{Error, ErrorKind, MemoryId, Result, TenantId};

/// Encodes an id as a document's id.
pub(crate) fn encode(id: &str) -> String {
    let mut out = String::with_capacity(id.len() + 8);
    for (at, byte) in id.bytes().enumerate() {
        match byte {
            b'.' => out.push_str(".0"),
            b'/' => out.push_str(".1"),
            b'_' if at == 0 => out.push_str("_-"),
            b'~' | 0x80.. => {
                // Writing to a string does not fail.
                let _ = write!(out, "~{byte:02x}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

/// The id out of a document's id.
///
/// # Errors
/// `Corrupt`: not an encoded id.
pub(crate) fn decode(encoded: &str) -> Result<String> {
    let bad = || Error::new(ErrorKind::Corrupt, "a document has an id that no memory has");
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.bytes();
    let mut first = true;
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'.' => match rest.next() {
                Some(b'0') => b'.',
                Some(b'1') => b'/',
                _ => return Err(bad()),
            },
            b'_' if first => match rest.next() {
                Some(b'-') => b'_',
                _ => return Err(bad()),
            },
            b'~' => {
                let mut digit = || rest.next().and_then(|d| char::from(d).to_digit(16));
                let (Some(high), Some(low)) = (digit(), digit()) else { return Err(bad()) };
                u8::try_from(high * 16 + low).map_err(|_| bad())?
            }
            byte => byte,
        };
        bytes.push(decoded);
        first = false;
    }
    let id = String::from_utf8(bytes).map_err(|_| bad())?;
    if encode(&id) == encoded { Ok(id) } else { Err(bad()) }
}

/// The names of one store: project, database and prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// `projects/P/databases/D`.
    pub(crate) database: String,
    /// `projects/P/databases/D/documents`.
    pub(crate) root: String,
    /// Collection ids.
    pub(crate) tenants: String,
    pub(crate) memories: String,
    pub(crate) keys: String,
    pub(crate) changes: String,
    pub(crate) consumers: String,
    pub(crate) leases: String,
    pub(crate) guards: String,
    pub(crate) meta: String,
    pub(crate) tombstones: String,
}

impl Names {
    pub(crate) fn new(project: &str, database: &str, prefix: &str) -> Self {
        let database = format!("projects/{project}/databases/{database}");
        let root = format!("{database}/documents");
        let of = |name: &str| format!("{prefix}{name}");
        Self {
            database,
            root,
            tenants: of("tenants"),
            memories: of("memories"),
            keys: of("keys"),
            changes: of("changes"),
            consumers: of("consumers"),
            leases: of("leases"),
            guards: of("guards"),
            meta: of("meta"),
            tombstones: of("tombstones"),
        }
    }

    /// A tenant's document: the parent of everything of the tenant.
    pub(crate) fn tenant(&self, tenant: &TenantId) -> String {
        format!("{}/{}/{}", self.root, self.tenants, encode(tenant.as_str()))
    }

    /// A document of one of a tenant's collections; `id` is encoded here.
    pub(crate) fn below(&self, tenant: &TenantId, collection: &str, id: &str) -> String {
        format!("{}/{collection}/{}", self.tenant(tenant), encode(id))
    }

    /// A memory's document.
    pub(crate) fn memory(&self, tenant: &TenantId, id: &MemoryId) -> String {
        self.below(tenant, &self.memories, id.as_str())
    }

    /// The document of the store itself.
    pub(crate) fn store(&self) -> String {
        format!("{}/{}/store", self.root, self.meta)
    }

    /// A document beside the store's own.
    pub(crate) fn below_store(&self, name: &str) -> String {
        format!("{}/{}/{name}", self.root, self.meta)
    }

    /// A tombstone's document.
    pub(crate) fn tombstone(&self, digits: &str) -> String {
        format!("{}/{}/{digits}", self.root, self.tombstones)
    }

    /// The memory id out of a document's name.
    ///
    /// # Errors
    /// `Corrupt`.
    pub(crate) fn memory_id(name: &str) -> Result<MemoryId> {
        MemoryId::new(decode(last(name))?)
            .map_err(|_| Error::new(ErrorKind::Corrupt, "a document has an id that no memory has"))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The document id of a name.
pub(crate) fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_ids_stay_and_dangerous_ones_do_not() {
        assert_eq!(encode("6f1c2f9e-1b7a"), "6f1c2f9e-1b7a");
        for (id, encoded) in [
            (".", ".0"),
            ("..", ".0.0"),
            ("a/b", "a.1b"),
            ("__x__", "_-_x__"),
            ("_", "_-"),
            ("é", "~c3~a9"),
            ("~", "~7e"),
            ("a b%", "a b%"),
        ] {
            assert_eq!(encode(id), encoded);
            assert_eq!(decode(encoded).unwrap(), id);
        }
        for bad in ["a.b", "~zz", "~c3", "_x", "~41", "a/b"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
        assert!(encode(&"é".repeat(240)).len() <= 1_500);
    }

    proptest! {
        #[test]
        fn encoding_is_reversible_and_keeps_the_order(a in "\\PC{1,12}", b in "[a-c._/~é]{1,6}") {
            for id in [&a, &b] {
                let encoded = encode(id);
                prop_assert!(encoded.is_ascii() && !encoded.contains('/'));
                prop_assert_ne!(&encoded, ".");
                prop_assert!(!encoded.starts_with("__"));
                prop_assert_eq!(&decode(&encoded).unwrap(), id);
            }
            prop_assert_eq!(a.as_bytes().cmp(b.as_bytes()), encode(&a).cmp(&encode(&b)));
        }

        #[test]
        fn the_order_stays_among_like_ids(a in "[!-0_~./é]{1,5}", b in "[!-0_~./é]{1,5}") {
            prop_assert_eq!(a.as_bytes().cmp(b.as_bytes()), encode(&a).cmp(&encode(&b)));
        }
    }
}

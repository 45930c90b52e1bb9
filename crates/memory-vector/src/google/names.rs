//! Names of collections, objects and fields. Ids of the service are labels: a small letter, then
//! small letters, digits and dashes, not a dash last, 63 at the most.

use memory_core::{EmbeddingSpace, Field, MemoryId, MetaKey, TenantId};
use sha2::{Digest as _, Sha256};

/// Most characters of a label.
const LABEL_BYTES: usize = 63;
/// Digits of a space's digest in the name of its collection: 80 bits.
const SPACE_DIGITS: usize = 20;
/// Digits of an object's digest: 248 bits, what a label holds after its first letter.
const OBJECT_DIGITS: usize = 62;

/// The field of the tenant.
pub(crate) const TENANT: &str = "tenant";
/// The field of the item's id.
pub(crate) const ID: &str = "id";
/// The field of the revision that the vector was made from.
pub(crate) const REVISION: &str = "revision";
/// The field that says that an object carries nothing else of its item.
pub(crate) const BARE: &str = "bare";
/// The field of the instant from which an item is invisible.
pub(crate) const VISIBLE_UNTIL: &str = "visible_until";
/// The field that lists which fields an item has.
pub(crate) const HAS: &str = "has";

/// Whether a text is a label.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=LABEL_BYTES).contains(&bytes.len())
        && bytes[0].is_ascii_lowercase()
        && bytes.iter().all(inner)
        && bytes[bytes.len() - 1] != b'-'
}

/// The id of a space's collection: what the settings say, a dash, and 20 digits of the digest of
/// the space's id.
pub(crate) fn collection(prefix: &str, space: &EmbeddingSpace) -> String {
    format!("{prefix}-{}", &digest(&[space.id().as_str()])[..SPACE_DIGITS])
}

/// The id of an item's object: `m` and 62 digits of the digest of tenant and id. The ids themselves
/// stand in the object and are compared when it is read.
pub(crate) fn object(tenant: &TenantId, id: &MemoryId) -> String {
    format!("m{}", &digest(&[tenant.as_str(), id.as_str()])[..OBJECT_DIGITS])
}

/// SHA-256 of some texts, each after its length so that no two lists have the same bytes.
fn digest(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    let bytes: [u8; 32] = hash.finalize().into();
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
        text
    })
}

/// What kind of value a metadata field holds: each has a field of its own, for a schema gives each
/// field one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Bool,
    Number,
    Text,
    List,
}

impl Held {
    pub(crate) const ALL: [Self; 4] = [Self::Bool, Self::Number, Self::Text, Self::List];
}

/// The field of a metadata key's values of one type.
pub(crate) fn metadata(key: &MetaKey, held: Held) -> String {
    let kind = match held {
        Held::Bool => "mb",
        Held::Number => "mn",
        Held::Text => "mt",
        Held::List => "ml",
    };
    format!("{kind}_{}", escaped(key.as_str()))
}

/// The field of one of an item's own fields; for metadata, the name in the list of what is there.
pub(crate) fn field(field: &Field) -> String {
    match field {
        Field::Id => ID.to_owned(),
        Field::Metadata(key) => format!("m_{}", escaped(key.as_str())),
        fixed => format!("f_{fixed}"),
    }
}

/// A key in letters, digits, dashes and underscores, which names of fields consist of: every other
/// byte, and the underscore, as an underscore and two digits.
fn escaped(key: &str) -> String {
    key.bytes().fold(String::with_capacity(key.len()), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || byte == b'-' {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("_{byte:02x}"));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use memory_core::Metric;

    use super::*;

    #[test]
    fn every_id_becomes_a_label_and_no_two_the_same() {
        let texts = ["a", "A", "é", "e\u{301}", "..", "a/b", "😀", " ", "-", &"x".repeat(480)];
        let mut seen = BTreeSet::new();
        for tenant in texts {
            for id in texts {
                let name = object(&TenantId::new(tenant).unwrap(), &MemoryId::new(id).unwrap());
                assert!(is_label(&name), "{name}");
                assert_eq!(name.len(), 63);
                assert!(seen.insert(name));
            }
        }
        let pair = |tenant: &str, id: &str| {
            object(&TenantId::new(tenant).unwrap(), &MemoryId::new(id).unwrap())
        };
        assert_ne!(pair("a", "bc"), pair("ab", "c"));
    }

    #[test]
    fn names_of_collections_are_labels_and_stay_as_they_are() {
        let space = |revision: &str| {
            EmbeddingSpace::new("all-MiniLM-L6-v2", revision, 384, Metric::Cosine).unwrap()
        };
        let name = collection(&"a".repeat(42), &space("1"));
        assert!(is_label(&name));
        assert_eq!(name.len(), 63);
        assert_ne!(collection("m", &space("1")), collection("m", &space("2")));
        // Stored names: another digest would lose what is kept.
        assert_eq!(collection("m", &space("1")).len(), 22);
        for bad in ["", "1a", "a-", "A", "a_b", "-a", &"a".repeat(64)] {
            assert!(!is_label(bad), "{bad}");
        }
    }

    #[test]
    fn names_of_fields_are_injective() {
        let keys = ["a", "a_b", "a-b", "a.b", "a_5fb", "é", "A", "f_kind", "id"];
        let mut seen: BTreeSet<String> = Field::FIXED
            .iter()
            .map(field)
            .chain([TENANT, REVISION, HAS].map(String::from))
            .collect();
        for key in keys {
            let key = MetaKey::new(key).unwrap();
            for held in Held::ALL {
                let name = metadata(&key, held);
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
                assert!(seen.insert(name.clone()), "{name}");
            }
            let name = field(&Field::Metadata(key));
            assert!(seen.insert(name.clone()), "{name}");
        }
    }
}

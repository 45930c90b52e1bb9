//! The keys: every key of a tenant carries the tenant as its hash tag, and so lies in its slot.
//!
//! `{prefix}:{TENANT}:...`, where TENANT is the tenant's id with every byte but letters, digits,
//! `-`, `_`, `.` and `~` as `%XX`: no brace, colon, glob character or newline of an id gets into
//! the part that Redis or the query engine interprets. What follows the tag is taken as it is: keys
//! are bytes, and nothing reads them.

use memory_core::{MemoryId, SpaceId, TenantId};

/// Makes keys.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    prefix: String,
}

impl Keys {
    /// Keys that begin with a prefix, which has been checked.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The keys of a tenant.
    pub(crate) fn tenant(&self, tenant: &TenantId) -> TenantKeys {
        TenantKeys { base: format!("{}:{{{}}}:", self.prefix, escaped(tenant.as_str())) }
    }

    /// A set of tombstones; each may lie in another slot.
    pub(crate) fn shard(&self, number: usize) -> String {
        format!("{}:{{~erased{number}}}:t", self.prefix)
    }

    /// A key of the store as a whole; all of them lie in one slot.
    pub(crate) fn store(&self, name: &str) -> String {
        format!("{}:{{~store}}:{name}", self.prefix)
    }
}

/// The keys of one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TenantKeys {
    base: String,
}

impl TenantKeys {
    /// What all of them begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }
    /// The hash of what is known of the tenant.
    pub(crate) fn state(&self) -> String {
        self.named("s")
    }
    /// What the keys of its memories begin with: the id follows.
    pub(crate) fn memories(&self) -> String {
        self.named("m:")
    }
    /// A memory's hash.
    pub(crate) fn memory(&self, id: &MemoryId) -> String {
        self.named("m:") + id.as_str()
    }
    /// The name of an index of the query engine.
    pub(crate) fn engine_index(&self, name: &str) -> String {
        self.named("ft:") + name
    }
    /// The field of a memory's hash that holds its vector of a space.
    pub(crate) fn vector_field(space: &SpaceId) -> String {
        crate::fields::VECTOR.to_owned() + space.as_str()
    }
    /// Any key of the tenant: a sorted set, the change log, an answer under an idempotency key.
    pub(crate) fn named(&self, name: &str) -> String {
        format!("{}{name}", self.base)
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tenants_share_a_key_and_the_tag_is_the_tenant() {
        let keys = Keys::new("om");
        let names =
            ["a", "A", "a}", "{a}", "a:b", "a:", ":", "%41", "*", "a\u{7f}b", "~store", "é"];
        let mut seen = std::collections::BTreeSet::new();
        for name in names {
            let Ok(tenant) = TenantId::new(name) else { continue };
            let base = keys.tenant(&tenant).base;
            assert_eq!(base.matches('{').count(), 1);
            assert_eq!(base.matches('}').count(), 1);
            assert!(!base.contains(['*', '?', '[', '\n', ' ']));
            assert!(!keys.store("x").starts_with(&base));
            assert!(seen.insert(base));
        }
        let tenant = TenantId::new("a/b").unwrap();
        assert_eq!(keys.tenant(&tenant).memory(&MemoryId::new("x:}").unwrap()), "om:{a%2Fb}:m:x:}");
    }
}

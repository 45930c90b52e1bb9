//! The names of stored fields, in one place.

/// The shape's version.
pub(crate) const V: &str = "v";
/// The id of the commit that wrote the document, 16 bytes.
pub(crate) const COMMIT: &str = "commit";
/// The revision, where vectors were written after the item was.
pub(crate) const REV: &str = "rev";
pub(crate) const USER_ID: &str = "user_id";
pub(crate) const AGENT_ID: &str = "agent_id";
pub(crate) const SESSION_ID: &str = "session_id";
pub(crate) const KIND: &str = "kind";
pub(crate) const ROLE: &str = "role";
pub(crate) const AUTHOR: &str = "author";
pub(crate) const CONTENT: &str = "content";
pub(crate) const CONTENT_HASH: &str = "content_hash";
/// JSON text.
pub(crate) const PAYLOAD: &str = "payload";
pub(crate) const METADATA: &str = "metadata";
pub(crate) const IMPORTANCE: &str = "importance";
pub(crate) const OCCURRED_AT: &str = "occurred_at";
pub(crate) const CREATED_AT: &str = "created_at";
pub(crate) const UPDATED_AT: &str = "updated_at";
/// The instant of expiry, or [`crate::model::FOREVER`]. The service's TTL policy reads it too.
pub(crate) const VISIBLE_UNTIL: &str = "visible_until";
/// Sort keys: time (but for the id's) and encoded id.
pub(crate) const BY_ID: &str = "by_id";
pub(crate) const BY_OCCURRED: &str = "by_occurred";
pub(crate) const BY_CREATED: &str = "by_created";
pub(crate) const BY_UPDATED: &str = "by_updated";
/// Declared metadata keys as ordered bytes, by key.
pub(crate) const KEYS: &str = "keys";
/// Declared metadata lists, by key.
pub(crate) const LISTS: &str = "lists";
/// What the field of a space's vector begins with; the short name of the space follows. A field of
/// its own, not one of a map: the emulator's index finds no vector within a map.
pub(crate) const VECTOR: &str = "vector_";
/// The short names of the spaces that the item has a vector in.
pub(crate) const SPACES: &str = "spaces";
/// Where [`crate::wire`] puts the distance of a nearest-neighbour answer.
pub(crate) const DISTANCE: &str = "_distance";

/// A field path of a key below a map: quoted where it is not a plain name.
pub(crate) fn path(map: &str, key: &str) -> String {
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if plain {
        return format!("{map}.{key}");
    }
    let quoted = key.replace('\\', "\\\\").replace('`', "\\`");
    format!("{map}.`{quoted}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_keys_are_quoted() {
        assert_eq!(path(KEYS, "topic_1"), "keys.topic_1");
        assert_eq!(path(KEYS, "1a"), "keys.`1a`");
        assert_eq!(path(KEYS, "a.b"), "keys.`a.b`");
        assert_eq!(path(KEYS, "a`\\"), "keys.`a\\`\\\\`");
    }
}

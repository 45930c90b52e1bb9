//! One line of an import to one memory, field by field, so that an error names its field.

use std::borrow::Cow;
use std::fmt;

use memory_core::{
    AgentId, ContentHash, Error, MemoryId, MetaKey, MetaValue, Metadata, Result, SessionId,
    Timestamp, UserId,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::ImportOptions;
use crate::nearest::describe_unknown;
use crate::new_memory::NewMemory;

/// The keys of a line. A `null` is the same as a key that is left out.
pub(super) const KEYS: [&str; 16] = [
    "id",
    "user_id",
    "session_id",
    "agent_id",
    "kind",
    "role",
    "author",
    "content",
    "payload",
    "metadata",
    "occurred_at",
    "expires_at",
    "importance",
    "embedding",
    "created_at",
    "updated_at",
];

/// Reads a line.
///
/// # Errors
/// `InvalidInput`: not UTF-8, not a JSON object, an unknown key (the nearest known one is named),
/// a field of a wrong type or value (it is named), no content. What the item as a whole must
/// fulfil is checked where it is added.
pub(super) fn read_line(line: &[u8], number: u64, options: &ImportOptions) -> Result<NewMemory> {
    let text = utf8(line, "line")?;
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    for (place, (key, _)) in fields.0.iter().enumerate() {
        if !KEYS.contains(&key.as_ref()) {
            return Err(Error::invalid(describe_unknown("key", key, &KEYS)));
        }
        if fields.0[..place].iter().any(|(earlier, _)| earlier == key) {
            return Err(Error::invalid(format!("the key `{key}` is there twice")));
        }
    }
    let mut memory = NewMemory::new(
        fields.text("content")?.ok_or_else(|| Error::invalid("the line has no `content`"))?,
    );
    memory.user_id = fields.parse("user_id", UserId::new)?;
    memory.session_id = fields.parse("session_id", SessionId::new)?;
    memory.agent_id = fields.parse("agent_id", AgentId::new)?;
    memory.kind = fields.parse("kind", |text| text.parse())?;
    memory.role = fields.parse("role", |text| text.parse())?;
    memory.author = fields.text("author")?;
    memory.payload = fields.read::<Value>("payload", "JSON of a depth that can be read")?;
    memory.metadata = fields.metadata()?;
    memory.occurred_at = fields.parse("occurred_at", |text| Timestamp::parse(&text))?;
    memory.expires_at = fields.parse("expires_at", |text| Timestamp::parse(&text))?;
    memory.created_at = fields.parse("created_at", |text| Timestamp::parse(&text))?;
    memory.updated_at = fields.parse("updated_at", |text| Timestamp::parse(&text))?;
    memory.importance = fields.read::<f64>("importance", "a number")?;
    memory.embedding = fields.read::<Vec<f32>>("embedding", "a list of numbers")?;
    memory.id = match fields.parse("id", MemoryId::new)? {
        Some(id) => Some(id),
        None => Some(derived_id(&options.source, number, &memory.content)?),
    };
    Ok(owned(memory, options))
}

/// The memory of a plain text: its first and only line.
///
/// # Errors
/// `InvalidInput`: not UTF-8. What the item as a whole must fulfil is checked where it is added.
pub(super) fn read_document(text: &[u8], options: &ImportOptions) -> Result<NewMemory> {
    let mut memory = NewMemory::new(utf8(text, "text")?);
    memory.id = Some(derived_id(&options.source, 1, &memory.content)?);
    Ok(owned(memory, options))
}

/// The owner of a memory that has none.
fn owned(mut memory: NewMemory, options: &ImportOptions) -> NewMemory {
    if memory.user_id.is_none() && memory.agent_id.is_none() {
        memory.user_id = options.default_user.clone();
        memory.agent_id = options.default_agent.clone();
    }
    memory
}

fn utf8<'a>(bytes: &'a [u8], what: &str) -> Result<&'a str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Error::invalid(format!(
            "the {what} is not UTF-8 from its byte {} on",
            error.valid_up_to() + 1
        ))
    })
}

/// The id of a line that has none: `line-` and the SHA-256 of the source's name, the number and
/// the content's hash. The name's length stands first, so that no name can be taken for another
/// name and a number.
fn derived_id(source: &str, number: u64, content: &str) -> Result<MemoryId> {
    let content = ContentHash::of(content);
    let hash = ContentHash::of(&format!("{}:{source}:{number}:{content}", source.len()));
    MemoryId::new(format!("line-{hash}"))
}

/// The fields of an object as they stand in the text, in order, with repetitions.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    entries.push((Cow::Owned(key), value));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(Entries).map(Fields)
    }
}

impl Fields<'_> {
    fn raw(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.get());
        found.filter(|value| *value != "null")
    }

    /// A value of a type. The reader's own message is left out, for it may repeat the value.
    fn read<T: DeserializeOwned>(&self, key: &str, expected: &str) -> Result<Option<T>> {
        self.raw(key)
            .map(|raw| serde_json::from_str(raw))
            .transpose()
            .map_err(|_| Error::invalid(format!("`{key}` is not {expected}")))
    }

    fn text(&self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string")
    }

    fn parse<T>(&self, key: &str, parse: impl FnOnce(String) -> Result<T>) -> Result<Option<T>> {
        self.text(key)?.map(parse).transpose().map_err(|error| in_field(key, &error))
    }

    fn metadata(&self) -> Result<Metadata> {
        let map = self.read::<Map<String, Value>>("metadata", "an object")?.unwrap_or_default();
        map.iter()
            .map(|(key, value)| Ok((MetaKey::new(key)?, MetaValue::from_json(value)?)))
            .collect::<Result<_>>()
            .map_err(|error| in_field("metadata", &error))
    }
}

fn in_field(key: &str, error: &Error) -> Error {
    Error::invalid(format!("`{key}`: {}", error.message()))
}

/// Why a line is no object. The reader's own message is left out, for it may repeat the line.
fn malformed(error: &serde_json::Error) -> Error {
    use serde_json::error::Category;
    Error::invalid(match error.classify() {
        Category::Eof => "the line ends before its JSON does".to_owned(),
        Category::Data => "the line is not a JSON object".to_owned(),
        Category::Syntax | Category::Io => {
            format!("the line is not JSON from its column {} on", error.column())
        }
    })
}

#[cfg(test)]
mod tests {
    use memory_core::{ErrorKind, Kind, Role};

    use super::*;

    fn read(line: &str) -> Result<NewMemory> {
        read_line(line.as_bytes(), 7, &ImportOptions::new("file"))
    }

    #[test]
    fn every_key_is_read() {
        let memory = read(
            r#"{"id":"m","user_id":"u","session_id":"s","agent_id":"a","kind":"episode",
               "role":"tool","author":"Ada","content":"t\u00e9xt 😀","payload":{"a":[1,null]},
               "metadata":{"n":9223372036854775807,"l":["x"]},"occurred_at":"2025-03-01T10:30:00+01:00",
               "expires_at":"2030-01-01T00:00:00Z","importance":0.25,"embedding":[1,0.1,-3.5e-1],
               "created_at":"2025-03-02T00:00:00Z","updated_at":"2025-03-03T00:00:00Z"}"#
                .replace('\n', " ")
                .as_str(),
        )
        .unwrap();
        assert_eq!(memory.id.unwrap().as_str(), "m");
        assert_eq!(memory.user_id.unwrap().as_str(), "u");
        assert_eq!(memory.session_id.unwrap().as_str(), "s");
        assert_eq!(memory.agent_id.unwrap().as_str(), "a");
        assert_eq!((memory.kind, memory.role), (Some(Kind::Episode), Some(Role::Tool)));
        assert_eq!((memory.author.as_deref(), &*memory.content), (Some("Ada"), "téxt 😀"));
        assert_eq!(memory.payload.unwrap().to_string(), r#"{"a":[1,null]}"#);
        assert_eq!(memory.metadata[&MetaKey::new("n").unwrap()], MetaValue::Int(i64::MAX));
        assert_eq!(memory.occurred_at.unwrap().to_string(), "2025-03-01T09:30:00Z");
        assert_eq!(memory.expires_at.unwrap().to_string(), "2030-01-01T00:00:00Z");
        assert_eq!(memory.created_at.unwrap().to_string(), "2025-03-02T00:00:00Z");
        assert_eq!(memory.updated_at.unwrap().to_string(), "2025-03-03T00:00:00Z");
        assert_eq!(
            (memory.importance, memory.embedding),
            (Some(0.25), Some(vec![1.0, 0.1, -0.35]))
        );
    }

    #[test]
    fn what_is_wrong_is_named_without_being_repeated() {
        for (line, part) in [
            ("secret", "column 1"),
            ("[\"secret\"]", "not a JSON object"),
            ("\"secret\"", "not a JSON object"),
            (r#"{"content":"secret"#, "ends before"),
            (r#"{"content":"secret"} x"#, "column"),
            (r#"{"user_id":"secret"}"#, "no `content`"),
            (r#"{"content":null}"#, "no `content`"),
            (r#"{"content":["secret"]}"#, "`content` is not a string"),
            (r#"{"content":"secret","sesion_id":"s"}"#, "did you mean `session_id`?"),
            (r#"{"content":"secret","tenant":"t"}"#, "unknown key `tenant`"),
            (r#"{"content":"secret","content":"x"}"#, "twice"),
            (r#"{"content":"secret","user_id":""}"#, "`user_id`"),
            (r#"{"content":"secret","user_id":"a\u0000b"}"#, "`user_id`"),
            (r#"{"content":"secret","role":"secret"}"#, "`role`"),
            (r#"{"content":"secret","occurred_at":"secret"}"#, "`occurred_at`"),
            (r#"{"content":"secret","occurred_at":5}"#, "`occurred_at` is not a string"),
            (r#"{"content":"secret","importance":"secret"}"#, "`importance` is not a number"),
            (r#"{"content":"secret","importance":NaN}"#, "column"),
            (r#"{"content":"secret","embedding":["secret"]}"#, "`embedding`"),
            (r#"{"content":"secret","metadata":{"a":{"b":"secret"}}}"#, "`metadata`"),
            (r#"{"content":"secret","metadata":{"__x__":1}}"#, "`metadata`"),
            (r#"{"content":"secret \ud800"}"#, "`content` is not a string"),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{line}");
            assert!(error.message().contains(part), "{line}: {error}");
            assert!(!error.to_string().contains("secret"), "{line}: {error}");
        }
        let error = read_line(b"{\"content\":\"\xff\"}", 1, &ImportOptions::new("x")).unwrap_err();
        assert!(error.message().contains("not UTF-8 from its byte 13 on"), "{error}");
    }

    #[test]
    fn a_derived_id_depends_on_source_line_and_content() {
        let id = |source: &str, number, content: &str| {
            let line = format!(r#"{{"content":"{content}"}}"#);
            let options = ImportOptions::new(source);
            read_line(line.as_bytes(), number, &options).unwrap().id.unwrap()
        };
        assert_eq!(id("a", 1, "x"), id("a", 1, "x"));
        for other in [id("b", 1, "x"), id("a", 2, "x"), id("a", 1, "y")] {
            assert_ne!(id("a", 1, "x"), other);
        }
        assert_ne!(id("a:1", 1, "x"), id("a", 1, "x"));
    }

    #[test]
    fn defaults_go_to_lines_without_an_owner_only() {
        let options = ImportOptions::new("x").with_default_user(UserId::new("d").unwrap());
        let user = |line: &str| read_line(line.as_bytes(), 1, &options).unwrap().user_id;
        assert_eq!(user(r#"{"content":"x"}"#).unwrap().as_str(), "d");
        assert_eq!(user(r#"{"content":"x","user_id":"u"}"#).unwrap().as_str(), "u");
        assert!(user(r#"{"content":"x","agent_id":"a"}"#).is_none());
    }
}

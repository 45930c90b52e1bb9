//! The one record of the system.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::hash::ContentHash;
use crate::ids::{AgentId, KindName, MemoryId, Revision, SessionId, SpaceId, UserId, check_name};
use crate::limits::{AUTHOR_BYTES, CONTENT_BYTES, PAYLOAD_BYTES, PAYLOAD_DEPTH};
use crate::metadata::{Metadata, check_metadata};
use crate::time::Timestamp;

/// What kind of memory it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    /// A turn of a conversation.
    Message,
    /// Something known.
    Fact,
    /// Something that happened.
    Episode,
    /// How something is done; what worked.
    Procedure,
    /// A summary of other memories.
    Summary,
    /// An agent's own data.
    AgentData,
    /// A kind of the caller's own.
    Custom(KindName),
}

impl Kind {
    /// The stable name: `message`, `fact`, `episode`, `procedure`, `summary`, `agent_data`, or
    /// the caller's own.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Message => "message",
            Self::Fact => "fact",
            Self::Episode => "episode",
            Self::Procedure => "procedure",
            Self::Summary => "summary",
            Self::AgentData => "agent_data",
            Self::Custom(name) => name.as_str(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "message" => Self::Message,
            "fact" => Self::Fact,
            "episode" => Self::Episode,
            "procedure" => Self::Procedure,
            "summary" => Self::Summary,
            "agent_data" => Self::AgentData,
            other => Self::Custom(KindName::new(other)?),
        })
    }
}

impl TryFrom<String> for Kind {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.name().to_owned()
    }
}

/// Who speaks in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// The agent.
    Assistant,
    /// Instructions to the agent.
    System,
    /// A tool's answer.
    Tool,
}

impl Role {
    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Tool => "tool",
        }
    }
}

impl FromStr for Role {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "user" => Ok(Self::User),
            "assistant" => Ok(Self::Assistant),
            "system" => Ok(Self::System),
            "tool" => Ok(Self::Tool),
            _ => Err(Error::invalid("a role is user, assistant, system or tool")),
        }
    }
}

/// One memory.
///
/// Content and its hash move together and are read through methods; every other field is open.
/// [`MemoryItem::validate`] checks the whole before anything is written or sent.
#[derive(Clone, PartialEq, Serialize)]
pub struct MemoryItem {
    /// Unique within the tenant.
    pub id: MemoryId,
    /// Whom it belongs to; this or `agent_id` is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// The agent or persona it belongs to; this or `user_id` is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<AgentId>,
    /// The conversation it stands in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<SessionId>,
    /// What kind of memory it is.
    pub kind: Kind,
    /// Who speaks, for messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The speaker's name, for messages; at most 480 bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    content: String,
    /// Any JSON of the caller's; at most 128 KiB, 16 deep. Not searched, not filtered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<Value>,
    /// Values that filters can use.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: Metadata,
    /// In [0, 1].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// When it was said or happened.
    pub occurred_at: Timestamp,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// From this instant on it is invisible to everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    content_hash: ContentHash,
    /// The store's version of it; `None` until it has been stored, ignored in a put.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Its vectors by space: `[dimensions]` each. Empty unless a read asked for them.
    /// Ignored in a put, which carries its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vectors: BTreeMap<SpaceId, Vec<f32>>,
}

/// Memory text stays out of logs: `Debug` shows its size only.
impl fmt::Debug for MemoryItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryItem")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("content_bytes", &self.content.len())
            .field("occurred_at", &self.occurred_at)
            .field("expires_at", &self.expires_at)
            .field("revision", &self.revision)
            .field("metadata_keys", &self.metadata.len())
            .field("vectors", &self.vectors.len())
            .finish_non_exhaustive()
    }
}

impl MemoryItem {
    /// A fact with nothing but id, content and time; add the rest with the `with_` methods or
    /// through the fields.
    ///
    /// # Errors
    /// `InvalidInput`: content that [`MemoryItem::set_content`] refuses.
    pub fn new(id: MemoryId, content: impl Into<String>, now: Timestamp) -> Result<Self> {
        let content = content.into();
        check_content(&content)?;
        Ok(Self {
            id,
            user_id: None,
            agent_id: None,
            session_id: None,
            kind: Kind::Fact,
            role: None,
            author: None,
            content_hash: ContentHash::of(&content),
            content,
            payload: None,
            metadata: Metadata::new(),
            importance: None,
            occurred_at: now,
            created_at: now,
            updated_at: now,
            expires_at: None,
            revision: None,
            vectors: BTreeMap::new(),
        })
    }

    /// Rebuilds an item from what a store holds, without hashing the content again.
    ///
    /// `content` may be empty here, and only here: a projection that leaves it out.
    #[must_use]
    pub fn from_stored(id: MemoryId, content: String, content_hash: ContentHash) -> Self {
        Self {
            id,
            user_id: None,
            agent_id: None,
            session_id: None,
            kind: Kind::Fact,
            role: None,
            author: None,
            content,
            payload: None,
            metadata: Metadata::new(),
            importance: None,
            occurred_at: Timestamp::MIN,
            created_at: Timestamp::MIN,
            updated_at: Timestamp::MIN,
            expires_at: None,
            content_hash,
            revision: None,
            vectors: BTreeMap::new(),
        }
    }

    /// The text.
    #[must_use]
    pub fn content(&self) -> &str {
        &self.content
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn content_hash(&self) -> ContentHash {
        self.content_hash
    }

    /// Replaces the text and its hash.
    ///
    /// # Errors
    /// `InvalidInput`: empty, or more than 768 KiB.
    pub fn set_content(&mut self, content: impl Into<String>) -> Result<()> {
        let content = content.into();
        check_content(&content)?;
        self.content_hash = ContentHash::of(&content);
        self.content = content;
        Ok(())
    }

    /// The instant from which it is invisible: `expires_at`, or the far future.
    #[must_use]
    pub fn visible_until(&self) -> Timestamp {
        self.expires_at.unwrap_or(Timestamp::FAR_FUTURE)
    }

    /// Whether it can be seen at `now`: strictly before [`MemoryItem::visible_until`].
    #[must_use]
    pub fn is_visible(&self, now: Timestamp) -> bool {
        now < self.visible_until()
    }

    /// Sets the user.
    #[must_use]
    pub fn with_user(mut self, user: UserId) -> Self {
        self.user_id = Some(user);
        self
    }

    /// Sets the agent.
    #[must_use]
    pub fn with_agent(mut self, agent: AgentId) -> Self {
        self.agent_id = Some(agent);
        self
    }

    /// Sets the session.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// Checks that it belongs to somebody: the part of [`MemoryItem::validate`] that reads no content.
    ///
    /// # Errors
    /// `InvalidInput`: neither user nor agent.
    pub fn validate_owner(&self) -> Result<()> {
        if self.user_id.is_none() && self.agent_id.is_none() {
            return Err(Error::invalid("an item needs a user_id or an agent_id"));
        }
        Ok(())
    }

    /// Checks everything that the type system does not.
    ///
    /// # Errors
    /// `InvalidInput`, naming the field: neither user nor agent, content or author too long,
    /// payload too large or too deep, metadata beyond its limits, importance outside [0, 1].
    pub fn validate(&self) -> Result<()> {
        self.validate_owner()?;
        check_content(&self.content)?;
        if let Some(author) = &self.author {
            check_name("author", author, AUTHOR_BYTES)?;
        }
        if let Some(importance) = self.importance
            && !(0.0..=1.0).contains(&importance)
        {
            return Err(Error::invalid("importance lies in [0, 1]"));
        }
        if let Some(payload) = &self.payload {
            check_payload(payload)?;
        }
        check_metadata(&self.metadata)?;
        Ok(())
    }

    /// Roughly what a put of this item sends, in bytes, without vectors.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        let payload = self.payload.as_ref().map_or(0, |payload| payload.to_string().len());
        let metadata = check_metadata(&self.metadata).unwrap_or(0);
        self.content.len() + payload + metadata + 512
    }
}

fn check_content(content: &str) -> Result<()> {
    if content.is_empty() {
        return Err(Error::invalid("the content is empty"));
    }
    if content.len() > CONTENT_BYTES {
        return Err(Error::invalid(format!(
            "the content has {} bytes; the limit is {CONTENT_BYTES}",
            content.len()
        )));
    }
    if content.contains('\0') {
        return Err(Error::invalid("the content has a NUL character"));
    }
    Ok(())
}

fn check_payload(payload: &Value) -> Result<()> {
    fn depth(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(values) => left > 0 && values.iter().all(|value| depth(value, left - 1)),
            Value::Object(map) => left > 0 && map.values().all(|value| depth(value, left - 1)),
            _ => true,
        }
    }
    if !depth(payload, PAYLOAD_DEPTH) {
        return Err(Error::invalid(format!("the payload is more than {PAYLOAD_DEPTH} deep")));
    }
    let bytes = payload.to_string().len();
    if bytes > PAYLOAD_BYTES {
        return Err(Error::invalid(format!(
            "the payload has {bytes} bytes; the limit is {PAYLOAD_BYTES}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> MemoryItem {
        MemoryItem::new(MemoryId::new("m").unwrap(), "secret text", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap())
    }

    #[test]
    fn content_and_hash_move_together() {
        let mut item = item();
        assert_eq!(item.content_hash(), ContentHash::of("secret text"));
        item.set_content("other").unwrap();
        assert_eq!(item.content_hash(), ContentHash::of("other"));
        assert!(item.set_content("").is_err());
        assert!(item.set_content("x".repeat(CONTENT_BYTES + 1)).is_err());
        assert_eq!(item.content(), "other", "a refused text changes nothing");
    }

    #[test]
    fn validation_names_the_field() {
        assert!(item().validate().is_ok());
        let mut orphan = item();
        orphan.user_id = None;
        assert!(orphan.validate().unwrap_err().message().contains("user_id"));
        for importance in [-0.1, 1.1, f64::NAN] {
            let mut item = item();
            item.importance = Some(importance);
            assert!(item.validate().unwrap_err().message().contains("importance"));
        }
        let mut deep = item();
        let mut value = Value::Null;
        for _ in 0..=PAYLOAD_DEPTH {
            value = Value::Array(vec![value]);
        }
        deep.payload = Some(value);
        assert!(deep.validate().unwrap_err().message().contains("deep"));
    }

    #[test]
    fn debug_shows_no_text() {
        assert!(!format!("{:?}", item()).contains("secret"));
    }

    #[test]
    fn expiry_is_strict() {
        let mut item = item();
        let at = Timestamp::from_micros(10).unwrap();
        item.expires_at = Some(at);
        assert!(item.is_visible(Timestamp::from_micros(9).unwrap()));
        assert!(!item.is_visible(at));
        item.expires_at = None;
        assert!(item.is_visible(at));
    }

    #[test]
    fn kinds_round_trip() {
        for name in ["message", "fact", "episode", "procedure", "summary", "agent_data", "mine"] {
            assert_eq!(name.parse::<Kind>().unwrap().name(), name);
        }
        assert!("".parse::<Kind>().is_err());
        assert!("robot".parse::<Role>().is_err());
    }
}

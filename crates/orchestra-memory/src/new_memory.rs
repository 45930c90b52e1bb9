//! What a caller hands in to be remembered.

use std::fmt;

use memory_core::{
    AgentId, Kind, MemoryId, MemoryItem, MetaKey, MetaValue, Metadata, Result, Role, SessionId,
    Timestamp, UserId,
};
use serde_json::{Value, json};

/// A memory to be added. Nothing is checked until it is handed to a
/// [`TenantMemory`](crate::TenantMemory).
///
/// `content` is required, and `user_id` or `agent_id`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewMemory {
    /// Its id; a random one when `None`.
    pub id: Option<MemoryId>,
    /// Whom it belongs to.
    pub user_id: Option<UserId>,
    /// The agent it belongs to.
    pub agent_id: Option<AgentId>,
    /// The conversation it stands in.
    pub session_id: Option<SessionId>,
    /// Its kind. When `None`: a message if it has a role, else a fact.
    pub kind: Option<Kind>,
    /// Who speaks, for messages.
    pub role: Option<Role>,
    /// The speaker's name, for messages; at most 480 bytes.
    pub author: Option<String>,
    /// The text: 1 byte to 768 KiB.
    pub content: String,
    /// Any JSON; at most 128 KiB, 16 deep.
    pub payload: Option<Value>,
    /// Values that filters can use.
    pub metadata: Metadata,
    /// In [0, 1].
    pub importance: Option<f64>,
    /// When it was said or happened; now when `None`.
    pub occurred_at: Option<Timestamp>,
    /// From this instant on it is invisible.
    pub expires_at: Option<Timestamp>,
    /// When it was first stored; now when `None`. For imports and migrations.
    pub created_at: Option<Timestamp>,
    /// When it was last changed; now when `None`. For imports and migrations.
    pub updated_at: Option<Timestamp>,
    /// Its vector in the tenant's active embedding space: `[dimensions]`. When `None`, it is made
    /// from the text, where there is an embedder. The first vector of a tenant declares the space,
    /// before its memory is written; see [`TenantMemory::spaces`](crate::TenantMemory::spaces).
    pub embedding: Option<Vec<f32>>,
}

impl NewMemory {
    /// A memory with nothing but its text.
    #[must_use]
    pub fn new(content: impl Into<String>) -> Self {
        Self {
            id: None,
            user_id: None,
            agent_id: None,
            session_id: None,
            kind: None,
            role: None,
            author: None,
            content: content.into(),
            payload: None,
            metadata: Metadata::new(),
            importance: None,
            occurred_at: None,
            expires_at: None,
            created_at: None,
            updated_at: None,
            embedding: None,
        }
    }

    /// A turn of a conversation.
    #[must_use]
    pub fn message(role: Role, content: impl Into<String>) -> Self {
        Self { role: Some(role), kind: Some(Kind::Message), ..Self::new(content) }
    }

    /// Sets the id.
    #[must_use]
    pub fn with_id(mut self, id: MemoryId) -> Self {
        self.id = Some(id);
        self
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
        self.kind = Some(kind);
        self
    }

    /// Sets the role.
    #[must_use]
    pub fn with_role(mut self, role: Role) -> Self {
        self.role = Some(role);
        self
    }

    /// Sets the speaker's name.
    #[must_use]
    pub fn with_author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: Value) -> Self {
        self.payload = Some(payload);
        self
    }

    /// Adds one metadata value.
    #[must_use]
    pub fn with_meta(mut self, key: MetaKey, value: impl Into<MetaValue>) -> Self {
        self.metadata.insert(key, value.into());
        self
    }

    /// Sets the importance.
    #[must_use]
    pub fn with_importance(mut self, importance: f64) -> Self {
        self.importance = Some(importance);
        self
    }

    /// Sets when it was said or happened.
    #[must_use]
    pub fn with_occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// Sets when it expires.
    #[must_use]
    pub fn with_expires_at(mut self, time: Timestamp) -> Self {
        self.expires_at = Some(time);
        self
    }

    /// Sets the vector.
    #[must_use]
    pub fn with_embedding(mut self, vector: Vec<f32>) -> Self {
        self.embedding = Some(vector);
        self
    }

    /// The item that is stored, checked, and its vector.
    pub(crate) fn into_item(
        self,
        id: MemoryId,
        now: Timestamp,
    ) -> Result<(MemoryItem, Option<Vec<f32>>)> {
        let mut item = MemoryItem::new(id, self.content, now)?;
        item.kind = match (self.kind, self.role) {
            (Some(kind), _) => kind,
            (None, Some(_)) => Kind::Message,
            (None, None) => Kind::Fact,
        };
        item.user_id = self.user_id;
        item.agent_id = self.agent_id;
        item.session_id = self.session_id;
        item.role = self.role;
        item.author = self.author;
        item.payload = self.payload;
        item.metadata = self.metadata;
        item.importance = self.importance;
        item.occurred_at = self.occurred_at.unwrap_or(now);
        item.created_at = self.created_at.unwrap_or(now);
        item.updated_at = self.updated_at.unwrap_or(item.created_at);
        item.expires_at = self.expires_at;
        item.validate()?;
        Ok((item, self.embedding))
    }

    /// What an idempotency key stands for: all that the caller said, and nothing that is made up
    /// on the way (a random id, the current time), so that a repetition has the same digest.
    pub(crate) fn request_text(&self) -> String {
        let metadata: Vec<_> =
            self.metadata.iter().map(|(key, value)| json!([key.as_str(), value])).collect();
        // Bits, not decimal digits: two vectors are the same request only if they are equal.
        let embedding: Option<Vec<u32>> =
            self.embedding.as_ref().map(|vector| vector.iter().map(|x| x.to_bits()).collect());
        json!([
            self.id,
            self.user_id,
            self.agent_id,
            self.session_id,
            self.kind,
            self.role,
            self.author,
            self.content,
            self.payload,
            metadata,
            self.importance.map(f64::to_bits),
            self.occurred_at,
            self.expires_at,
            self.created_at,
            self.updated_at,
            embedding
        ])
        .to_string()
    }
}

/// Memory text stays out of logs: `Debug` shows its size only.
impl fmt::Debug for NewMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewMemory")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("content_bytes", &self.content.len())
            .field("metadata_keys", &self.metadata.len())
            .field("dimensions", &self.embedding.as_ref().map(Vec::len))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> UserId {
        UserId::new("ada").unwrap()
    }

    #[test]
    fn what_is_left_out_gets_its_documented_default() {
        let now = Timestamp::parse("2025-03-01T09:30:00Z").unwrap();
        let id = MemoryId::new("m").unwrap();
        let (item, vector) =
            NewMemory::new("x").with_user(user()).into_item(id.clone(), now).unwrap();
        assert_eq!((item.kind, item.occurred_at, item.created_at), (Kind::Fact, now, now));
        assert!(vector.is_none());
        let spoken = NewMemory::new("x").with_user(user()).with_role(Role::User);
        assert_eq!(spoken.into_item(id.clone(), now).unwrap().0.kind, Kind::Message);
        assert!(NewMemory::new("x").into_item(id.clone(), now).is_err(), "nobody's memory");
        assert!(NewMemory::new("").with_user(user()).into_item(id, now).is_err());
    }

    #[test]
    fn the_request_text_tells_requests_apart_and_repeats() {
        let one = NewMemory::new("x").with_user(user());
        assert_eq!(one.request_text(), NewMemory::new("x").with_user(user()).request_text());
        for other in [
            NewMemory::new("y").with_user(user()),
            one.clone().with_importance(0.5),
            one.clone().with_embedding(vec![1.0]),
            one.clone().with_meta(MetaKey::new("k").unwrap(), 1),
        ] {
            assert_ne!(one.request_text(), other.request_text());
        }
    }

    #[test]
    fn debug_hides_the_text() {
        assert!(!format!("{:?}", NewMemory::new("a secret")).contains("secret"));
    }
}

//! A change of a memory, field by field.

use std::collections::BTreeSet;
use std::fmt;

use memory_core::{
    AgentId, Error, Kind, MemoryItem, MetaKey, Metadata, Result, Role, SessionId, Timestamp, UserId,
};
use serde_json::Value;

/// What becomes of a field that an item may lack.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Change<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It has this value afterwards.
    Set(T),
    /// It is absent afterwards.
    Clear,
}

impl<T> Change<T> {
    /// Whether it stays as it is.
    #[must_use]
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Set(value) => *field = Some(value),
            Self::Clear => *field = None,
        }
    }
}

impl<T> From<T> for Change<T> {
    fn from(value: T) -> Self {
        Self::Set(value)
    }
}

/// What becomes of the metadata.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum MetadataChange {
    /// It stays as it is.
    #[default]
    Keep,
    /// It is exactly this afterwards; an empty map clears it.
    Replace(Metadata),
    /// These keys are removed, then these values set; other keys stay.
    Merge {
        /// Values to set.
        set: Metadata,
        /// Keys to remove; unknown ones are no error.
        remove: BTreeSet<MetaKey>,
    },
}

/// A change of a memory. A field that is left alone keeps its value.
///
/// Never changed by a patch: `id`, `created_at`. Always set: `updated_at` (now), `content_hash`,
/// `revision`.
///
/// | field | set | clear |
/// |---|---|---|
/// | `user_id`, `agent_id` | yes | yes, as long as one of the two stays |
/// | `session_id`, `role`, `author`, `payload`, `importance`, `expires_at` | yes | yes |
/// | `kind`, `content`, `occurred_at` | yes | no: every item has one |
/// | `metadata` | whole, or key by key | whole, or key by key |
/// | `embedding` | yes | yes |
///
/// Vectors follow the text, which is author and content: left alone, they stay while it does and go
/// when it changes; where there is an embedder, the new text gets one of its own. A tenant's vectors
/// that are the caller's own are of the content alone and stay while that does. A vector that is
/// cleared is not made again by the same patch.
/// An `expires_at` that has passed makes the item invisible at once.
#[derive(Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Patch {
    /// Whom it belongs to.
    pub user_id: Change<UserId>,
    /// The agent it belongs to.
    pub agent_id: Change<AgentId>,
    /// The conversation it stands in.
    pub session_id: Change<SessionId>,
    /// Its kind.
    pub kind: Option<Kind>,
    /// Who speaks.
    pub role: Change<Role>,
    /// The speaker's name.
    pub author: Change<String>,
    /// The text.
    pub content: Option<String>,
    /// The payload, whole.
    pub payload: Change<Value>,
    /// The metadata.
    pub metadata: MetadataChange,
    /// In [0, 1].
    pub importance: Change<f64>,
    /// When it was said or happened.
    pub occurred_at: Option<Timestamp>,
    /// When it expires.
    pub expires_at: Change<Timestamp>,
    /// Its vector in the tenant's active embedding space: `[dimensions]`. Vectors of a space that
    /// the tenant is being moved to go with either change and are made again.
    pub embedding: Change<Vec<f32>>,
}

impl Patch {
    /// A patch that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the text.
    #[must_use]
    pub fn with_content(mut self, content: impl Into<String>) -> Self {
        self.content = Some(content.into());
        self
    }

    /// Sets or clears the user.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<Change<UserId>>) -> Self {
        self.user_id = user.into();
        self
    }

    /// Sets or clears the agent.
    #[must_use]
    pub fn with_agent(mut self, agent: impl Into<Change<AgentId>>) -> Self {
        self.agent_id = agent.into();
        self
    }

    /// Sets or clears the session.
    #[must_use]
    pub fn with_session(mut self, session: impl Into<Change<SessionId>>) -> Self {
        self.session_id = session.into();
        self
    }

    /// Sets the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// Sets or clears the role.
    #[must_use]
    pub fn with_role(mut self, role: impl Into<Change<Role>>) -> Self {
        self.role = role.into();
        self
    }

    /// Sets or clears the speaker's name.
    #[must_use]
    pub fn with_author(mut self, author: impl Into<Change<String>>) -> Self {
        self.author = author.into();
        self
    }

    /// Sets or clears the payload.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Change<Value>>) -> Self {
        self.payload = payload.into();
        self
    }

    /// Changes the metadata.
    #[must_use]
    pub fn with_metadata(mut self, change: MetadataChange) -> Self {
        self.metadata = change;
        self
    }

    /// Sets or clears the importance.
    #[must_use]
    pub fn with_importance(mut self, importance: impl Into<Change<f64>>) -> Self {
        self.importance = importance.into();
        self
    }

    /// Sets when it was said or happened.
    #[must_use]
    pub fn with_occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// Sets or clears when it expires.
    #[must_use]
    pub fn with_expires_at(mut self, time: impl Into<Change<Timestamp>>) -> Self {
        self.expires_at = time.into();
        self
    }

    /// Sets or clears the vector.
    #[must_use]
    pub fn with_embedding(mut self, vector: impl Into<Change<Vec<f32>>>) -> Self {
        self.embedding = vector.into();
        self
    }

    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes an item, all but its vectors, and checks the result.
    ///
    /// # Errors
    /// `InvalidInput`: the result breaks a rule of [`MemoryItem::validate`]. The item may then
    /// have been changed in part.
    pub fn apply(&self, item: &mut MemoryItem, now: Timestamp) -> Result<()> {
        self.user_id.clone().apply(&mut item.user_id);
        self.agent_id.clone().apply(&mut item.agent_id);
        self.session_id.clone().apply(&mut item.session_id);
        self.role.clone().apply(&mut item.role);
        self.author.clone().apply(&mut item.author);
        self.payload.clone().apply(&mut item.payload);
        self.importance.clone().apply(&mut item.importance);
        self.expires_at.clone().apply(&mut item.expires_at);
        if let Some(kind) = &self.kind {
            item.kind = kind.clone();
        }
        if let Some(time) = self.occurred_at {
            item.occurred_at = time;
        }
        if let Some(content) = &self.content {
            item.set_content(content.as_str())?;
        }
        match &self.metadata {
            MetadataChange::Keep => {}
            MetadataChange::Replace(metadata) => item.metadata = metadata.clone(),
            MetadataChange::Merge { set, remove } => {
                item.metadata.retain(|key, _| !remove.contains(key));
                item.metadata.extend(set.clone());
            }
        }
        item.updated_at = now;
        item.validate()
    }

    /// Refuses a patch that changes nothing.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_empty() {
            return Err(Error::invalid("the patch changes nothing"));
        }
        Ok(())
    }
}

/// Memory text stays out of logs: `Debug` shows which fields change, not to what.
impl fmt::Debug for Patch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changed = [
            ("user_id", !self.user_id.is_keep()),
            ("agent_id", !self.agent_id.is_keep()),
            ("session_id", !self.session_id.is_keep()),
            ("kind", self.kind.is_some()),
            ("role", !self.role.is_keep()),
            ("author", !self.author.is_keep()),
            ("content", self.content.is_some()),
            ("payload", !self.payload.is_keep()),
            ("metadata", self.metadata != MetadataChange::Keep),
            ("importance", !self.importance.is_keep()),
            ("occurred_at", self.occurred_at.is_some()),
            ("expires_at", !self.expires_at.is_keep()),
            ("embedding", !self.embedding.is_keep()),
        ];
        f.write_str("Patch")?;
        f.debug_set()
            .entries(changed.iter().filter(|(_, changes)| *changes).map(|(name, _)| name))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::MemoryId;

    use super::*;

    fn item() -> MemoryItem {
        let mut item = MemoryItem::new(MemoryId::new("m").unwrap(), "old", Timestamp::MIN).unwrap();
        item.user_id = Some(UserId::new("u").unwrap());
        item.session_id = Some(SessionId::new("s").unwrap());
        item.role = Some(Role::User);
        item.author = Some("Ada".into());
        item.payload = Some(Value::from(1));
        item.importance = Some(0.5);
        item.expires_at = Some(Timestamp::MAX);
        item.metadata.insert(MetaKey::new("a").unwrap(), 1.into());
        item.metadata.insert(MetaKey::new("b").unwrap(), 2.into());
        item
    }

    #[test]
    fn an_empty_patch_is_refused_and_a_kept_field_stays() {
        assert!(Patch::new().check().is_err());
        let patch = Patch::new().with_content("new");
        patch.check().unwrap();
        let mut changed = item();
        patch.apply(&mut changed, Timestamp::MAX).unwrap();
        assert_eq!(changed.content(), "new");
        assert_eq!((changed.created_at, changed.updated_at), (Timestamp::MIN, Timestamp::MAX));
        let mut back = changed.clone();
        back.set_content("old").unwrap();
        back.updated_at = Timestamp::MIN;
        assert_eq!(back, item(), "nothing else has changed");
    }

    #[test]
    fn optional_fields_can_be_cleared_and_the_owner_cannot() {
        let mut changed = item();
        Patch::new()
            .with_session(Change::Clear)
            .with_role(Change::Clear)
            .with_author(Change::Clear)
            .with_payload(Change::Clear)
            .with_importance(Change::Clear)
            .with_expires_at(Change::Clear)
            .with_metadata(MetadataChange::Replace(Metadata::new()))
            .apply(&mut changed, Timestamp::MIN)
            .unwrap();
        let bare = MemoryItem::new(MemoryId::new("m").unwrap(), "old", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap());
        assert_eq!(changed, bare);
        let ownerless = Patch::new().with_user(Change::Clear);
        assert!(ownerless.apply(&mut changed.clone(), Timestamp::MIN).is_err());
        let handed_over = ownerless.with_agent(AgentId::new("a").unwrap());
        handed_over.apply(&mut changed, Timestamp::MIN).unwrap();
        assert_eq!((changed.user_id.is_none(), changed.agent_id.is_some()), (true, true));
    }

    #[test]
    fn metadata_merges_key_by_key() {
        let key = |name: &str| MetaKey::new(name).unwrap();
        let mut changed = item();
        Patch::new()
            .with_metadata(MetadataChange::Merge {
                set: [(key("c"), 3.into())].into(),
                remove: [key("a"), key("unknown")].into(),
            })
            .apply(&mut changed, Timestamp::MIN)
            .unwrap();
        assert_eq!(changed.metadata, [(key("b"), 2.into()), (key("c"), 3.into())].into());
    }

    #[test]
    fn debug_names_fields_and_hides_values() {
        let shown =
            format!("{:?}", Patch::new().with_content("a secret").with_author(Change::Clear));
        assert_eq!(shown, r#"Patch{"author", "content"}"#);
    }
}

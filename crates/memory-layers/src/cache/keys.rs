//! Where values stand: groups of items and of conversations, and what a write touches.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use memory_core::traits::CacheKey;
use memory_core::{
    CompareOp, ContentHash, Direction, Field, Filter, MemoryId, MemoryItem, OrderField, Projection,
    Query, Scalar, TenantId, VectorProjection,
};

/// The wider group of items by id.
pub(super) const ALL: &str = "all";
/// The wider group of conversations.
pub(super) const HISTORY: &str = "hist";

/// The shape of keys and values: two programs of different shapes share a cache without meeting.
pub(super) const SHAPE: u8 = 1;

/// Most groups that one write touches by name; from there on it touches a wider group. A server
/// does some thousand small steps in a few milliseconds, and keeps everybody waiting meanwhile.
pub(super) const MOST_GROUPS: usize = 1_024;

/// The group of an item.
pub(super) fn item_group(id: &MemoryId) -> String {
    format!("i:{id}")
}

/// The key of an item. `None` for a read with vectors, which change without the item.
pub(super) fn item_key(id: &MemoryId, projection: &Projection) -> Option<CacheKey> {
    let entry = parts(projection)?;
    Some(CacheKey { group: item_group(id), under: ALL.to_owned(), entry })
}

/// A projection in a few letters, after the shape's number.
fn parts(projection: &Projection) -> Option<String> {
    if projection.vectors != VectorProjection::None {
        return None;
    }
    let mut text = SHAPE.to_string();
    for (is_there, letter) in
        [(projection.content, 'c'), (projection.payload, 'p'), (projection.metadata, 'm')]
    {
        if is_there {
            text.push(letter);
        }
    }
    Some(text)
}

/// Whose conversation it is: any of user, agent and session, at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner<'a> {
    user: Option<&'a str>,
    agent: Option<&'a str>,
    session: Option<&'a str>,
}

impl<'a> Owner<'a> {
    /// All that an item belongs to.
    pub(super) fn of(item: &'a MemoryItem) -> Self {
        Self {
            user: item.user_id.as_ref().map(AsRef::as_ref),
            agent: item.agent_id.as_ref().map(AsRef::as_ref),
            session: item.session_id.as_ref().map(AsRef::as_ref),
        }
    }

    /// That of a filter which has equalities of these fields, each with one value, as conditions that
    /// must all hold. Further conditions choose among the owner's items: a write of any of those
    /// touches the group, whatever the conditions are.
    pub(super) fn filtered(filter: &'a Filter) -> Option<Self> {
        let mut owner = Self::default();
        owner.take_in(filter)?;
        (owner != Self::default()).then_some(owner)
    }

    fn take_in(&mut self, filter: &'a Filter) -> Option<()> {
        match filter {
            Filter::All => Some(()),
            Filter::And(filters) => filters.iter().try_for_each(|filter| self.take_in(filter)),
            Filter::Compare(field, CompareOp::Eq, Scalar::Text(text)) => {
                let place = match field {
                    Field::UserId => &mut self.user,
                    Field::AgentId => &mut self.agent,
                    Field::SessionId => &mut self.session,
                    _ => return Some(()),
                };
                (place.replace(text).is_none_or(|before| before == text)).then_some(())
            }
            _ => Some(()),
        }
    }

    /// The group: each part with its length, so that no two run together.
    fn group(self) -> String {
        let mut text = String::from("h:");
        for (letter, part) in [('u', self.user), ('a', self.agent), ('s', self.session)] {
            if let Some(part) = part {
                // Writing to a string does not fail.
                let _ = write!(text, "{letter}{}:{part}", part.len());
            }
        }
        text
    }

    /// The groups of every conversation that an item of this owner stands in.
    fn groups(self) -> impl Iterator<Item = String> {
        let parts = [self.user, self.agent, self.session];
        (1_u8..8).filter_map(move |set| {
            let mut chosen = [None; 3];
            for (place, part) in parts.into_iter().enumerate() {
                if set & (1 << place) != 0 {
                    chosen[place] = Some(part?);
                }
            }
            let [user, agent, session] = chosen;
            Some(Self { user, agent, session }.group())
        })
    }
}

/// The key of a conversation's first page. `None` for any other query.
///
/// The entry is a digest of order, limit, projection and of the filter as it was written: the
/// page's cursor is bound to it.
pub(super) fn history_key(query: &Query, most: u32) -> Option<CacheKey> {
    if query.cursor.is_some() || query.limit > most || query.validate().is_err() {
        return None;
    }
    let first = match (query.order.field, query.order.direction) {
        (OrderField::OccurredAt, Direction::Ascending) => 'o',
        (OrderField::OccurredAt, Direction::Descending) => 'n',
        _ => return None,
    };
    let parts = parts(&query.projection)?;
    let owner = Owner::filtered(&query.filter)?;
    let by_metadata = |field: &Field| matches!(field, Field::Metadata(_));
    // A page is held against its filter when it is served, which takes what the filter names.
    if !query.projection.metadata && query.filter.fields().iter().any(by_metadata) {
        return None;
    }
    let digest = ContentHash::of(&query.filter.to_json().to_string()).to_string();
    let digest = digest.get(..16)?;
    let entry = format!("{parts}{first}{}:{digest}", query.limit);
    Some(CacheKey { group: owner.group(), under: HISTORY.to_owned(), entry })
}

/// A key with its tenant as one text: each part with its length.
pub(super) fn address(tenant: &TenantId, key: &CacheKey) -> String {
    let tenant = tenant.as_str();
    format!("{}:{tenant}{}:{}{}", tenant.len(), key.group.len(), key.group, key.entry)
}

/// What a write touches.
#[derive(Debug, Default)]
pub(super) struct Touched {
    groups: BTreeSet<String>,
    all: bool,
    history: bool,
}

impl Touched {
    /// An item by its id.
    pub(super) fn item(&mut self, id: &MemoryId) {
        if !self.all {
            self.groups.insert(item_group(id));
            self.hold_bounds();
        }
    }

    /// Every item.
    pub(super) fn all_items(&mut self) {
        self.all = true;
        self.groups.retain(|group| !group.starts_with("i:"));
    }

    /// The conversations of an owner.
    pub(super) fn conversations(&mut self, owner: Owner<'_>) {
        if !self.history {
            self.groups.extend(owner.groups());
            self.hold_bounds();
        }
    }

    /// Every conversation.
    pub(super) fn all_history(&mut self) {
        self.history = true;
        self.groups.retain(|group| !group.starts_with("h:"));
    }

    /// Whether it touches every conversation.
    pub(super) fn has_all_history(&self) -> bool {
        self.history
    }

    /// Conversations become wide first: they are fewer values than the items.
    fn hold_bounds(&mut self) {
        if self.groups.len() > MOST_GROUPS {
            if !self.history && self.groups.iter().any(|group| group.starts_with("h:")) {
                self.all_history();
            } else {
                self.all_items();
            }
        }
    }

    /// The groups, wide ones first.
    pub(super) fn into_groups(self) -> Vec<String> {
        let wide = [(self.all, ALL), (self.history, HISTORY)];
        let wide =
            wide.into_iter().filter(|(is_wide, _)| *is_wide).map(|(_, name)| name.to_owned());
        wide.chain(self.groups).collect()
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{AgentId, Order, SessionId, Timestamp, UserId};

    use super::*;

    fn item() -> MemoryItem {
        let id = MemoryId::new("m").unwrap();
        MemoryItem::new(id, "x", Timestamp::MIN).unwrap().with_user(UserId::new("ada").unwrap())
    }

    #[test]
    fn an_item_touches_every_conversation_that_a_query_can_name() {
        let item = item()
            .with_agent(AgentId::new("bot").unwrap())
            .with_session(SessionId::new("s:1").unwrap());
        let groups: BTreeSet<_> = Owner::of(&item).groups().collect();
        assert_eq!(groups.len(), 7);
        let user = Filter::eq(Field::UserId, "ada");
        let agent = Filter::eq(Field::AgentId, "bot");
        let session = Filter::eq(Field::SessionId, "s:1");
        for filter in [
            user.clone(),
            agent.clone(),
            session.clone(),
            session.clone().and(user.clone()),
            Filter::And(vec![Filter::All, agent.clone(), Filter::And(vec![user.clone()])]),
            user.clone().and(session).and(agent).and(user),
        ] {
            let query = Query::new(20).with_filter(filter.clone());
            let key = history_key(&query, 100).unwrap();
            assert!(groups.contains(&key.group), "{filter:?}");
        }
        assert_eq!(Owner::of(&self::item()).groups().count(), 1);
    }

    #[test]
    fn what_is_no_conversation_is_not_kept() {
        let user = || Filter::eq(Field::UserId, "ada");
        let query = || Query::new(20).with_filter(user());
        assert!(history_key(&query(), 20).is_some(), "the twin");
        // What a history asks for: messages of an owner.
        let kinds = Filter::In(Field::Kind, vec!["message".into()]);
        let messages = query().with_filter(user().and(kinds));
        let group = history_key(&query(), 20).unwrap().group;
        assert_eq!(history_key(&messages, 20).unwrap().group, group);
        let other = Filter::eq(Field::UserId, "bob");
        for filter in [
            Filter::All,
            Filter::And(vec![]),
            user().and(other),
            Filter::eq(Field::Role, "user"),
            Filter::Or(vec![user()]),
            Filter::Compare(Field::UserId, CompareOp::Ne, "ada".into()),
        ] {
            assert_eq!(history_key(&query().with_filter(filter.clone()), 20), None, "{filter:?}");
        }
        assert_eq!(history_key(&query(), 19), None);
        assert_eq!(history_key(&query().with_order(Order::BY_ID), 20), None);
        assert_eq!(history_key(&query().with_cursor(Some("x".parse().unwrap())), 20), None);
        let with = Projection::full().with_vectors(VectorProjection::All);
        assert_eq!(history_key(&query().with_projection(with), 20), None);
    }

    #[test]
    fn every_part_of_a_query_is_part_of_its_key() {
        let user = || Filter::eq(Field::UserId, "ada");
        let session = || Filter::eq(Field::SessionId, "s");
        let base = Query::new(20).with_filter(user().and(session()));
        let mut short = base.clone();
        short.limit = 19;
        let others = [
            short,
            base.clone().with_order(Order::OLDEST),
            base.clone().with_projection(Projection::narrow()),
            base.clone().with_filter(user()),
            // The same items, and another cursor.
            base.clone().with_filter(session().and(user())),
        ];
        let mut keys: BTreeSet<_> = others.iter().map(|it| history_key(it, 100).unwrap()).collect();
        keys.insert(history_key(&base, 100).unwrap());
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn parts_do_not_run_together() {
        let of = |user, session| Owner { user: Some(user), agent: None, session }.group();
        assert_ne!(of("a", Some("b")), of("as1:b", None));
        let key = |group: &str, entry: &str| CacheKey {
            group: group.to_owned(),
            under: ALL.to_owned(),
            entry: entry.to_owned(),
        };
        let tenant = |text: &str| TenantId::new(text).unwrap();
        let addresses: BTreeSet<_> = [
            address(&tenant("t"), &key("i:a", "1c")),
            address(&tenant("t"), &key("i:a1", "c")),
            address(&tenant("t1:i"), &key(":a", "1c")),
        ]
        .into();
        assert_eq!(addresses.len(), 3);
    }

    #[test]
    fn a_write_of_many_widens_what_it_touches() {
        let mut touched = Touched::default();
        for number in 0..MOST_GROUPS {
            touched.item(&MemoryId::new(number.to_string()).unwrap());
        }
        let item = item();
        touched.conversations(Owner::of(&item));
        let groups = touched.into_groups();
        assert_eq!(groups.len(), MOST_GROUPS + 1);
        assert_eq!(groups[0], HISTORY);
        let mut touched = Touched::default();
        for number in 0..=MOST_GROUPS {
            touched.item(&MemoryId::new(number.to_string()).unwrap());
        }
        touched.conversations(Owner::of(&item));
        assert_eq!(touched.into_groups(), [ALL, "h:u3:ada"]);
    }
}

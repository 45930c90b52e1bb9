//! What readers ask for: pages of memories and of conversations.

use memory_core::{
    AgentId, Cursor, Direction, Field, Filter, Kind, Order, OrderField, Projection, Query, Scalar,
    SessionId, UserId,
};

/// A page of memories.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ListRequest {
    /// Which memories.
    pub filter: Filter,
    /// In which order; newest first by `occurred_at` unless set.
    pub order: Order,
    /// How many at the most, 1 to 1,000; when `None`, the setting `read.page_size` (50).
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// Which parts of each; all but vectors unless set.
    pub projection: Projection,
}

impl Default for ListRequest {
    fn default() -> Self {
        Self {
            filter: Filter::All,
            order: Order::NEWEST,
            limit: None,
            cursor: None,
            projection: Projection::full(),
        }
    }
}

impl ListRequest {
    /// The first page of all memories, newest first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the filter.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Sets the order.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Sets the size of the page.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Goes on after a page.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Sets which parts are read.
    #[must_use]
    pub fn with_projection(mut self, projection: Projection) -> Self {
        self.projection = projection;
        self
    }

    pub(crate) fn query(&self, page_size: u32) -> Query {
        Query::new(self.limit.unwrap_or(page_size))
            .with_filter(self.filter.clone())
            .with_order(self.order)
            .with_cursor(self.cursor.clone())
            .with_projection(self.projection.clone())
    }
}

/// A page of what was said, by `occurred_at`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct HistoryRequest {
    /// Only this user's.
    pub user_id: Option<UserId>,
    /// Only this conversation.
    pub session_id: Option<SessionId>,
    /// Only this agent's.
    pub agent_id: Option<AgentId>,
    /// Which kinds: messages unless set; every kind when empty; at most 30.
    pub kinds: Vec<Kind>,
    /// A further condition.
    pub filter: Filter,
    /// Newest first unless set.
    pub direction: Direction,
    /// As in [`ListRequest::limit`].
    pub limit: Option<u32>,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
}

impl Default for HistoryRequest {
    fn default() -> Self {
        Self {
            user_id: None,
            session_id: None,
            agent_id: None,
            kinds: vec![Kind::Message],
            filter: Filter::All,
            direction: Direction::Descending,
            limit: None,
            cursor: None,
        }
    }
}

impl HistoryRequest {
    /// The newest messages of the tenant.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only this user's.
    #[must_use]
    pub fn with_user(mut self, user: UserId) -> Self {
        self.user_id = Some(user);
        self
    }

    /// Only this conversation.
    #[must_use]
    pub fn with_session(mut self, session: SessionId) -> Self {
        self.session_id = Some(session);
        self
    }

    /// Only this agent's.
    #[must_use]
    pub fn with_agent(mut self, agent: AgentId) -> Self {
        self.agent_id = Some(agent);
        self
    }

    /// Only these kinds; every kind when empty.
    #[must_use]
    pub fn with_kinds(mut self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// Adds a condition.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Oldest first.
    #[must_use]
    pub fn oldest_first(mut self) -> Self {
        self.direction = Direction::Ascending;
        self
    }

    /// Sets the size of the page.
    #[must_use]
    pub fn with_limit(mut self, limit: u32) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Goes on after a page.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    pub(crate) fn query(&self, page_size: u32) -> Query {
        let text = |field, value: Option<&str>| {
            value.map_or(Filter::All, |value| Filter::eq(field, value))
        };
        let mut filter = text(Field::UserId, self.user_id.as_ref().map(AsRef::as_ref))
            .and(text(Field::SessionId, self.session_id.as_ref().map(AsRef::as_ref)))
            .and(text(Field::AgentId, self.agent_id.as_ref().map(AsRef::as_ref)));
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter().map(|kind| Scalar::from(kind.name())).collect();
            filter = filter.and(Filter::In(Field::Kind, kinds));
        }
        Query::new(self.limit.unwrap_or(page_size))
            .with_filter(filter.and(self.filter.clone()))
            .with_order(Order { field: OrderField::OccurredAt, direction: self.direction })
            .with_cursor(self.cursor.clone())
    }
}

#[cfg(test)]
mod tests {
    use memory_core::{MemoryId, MemoryItem, Timestamp};

    use super::*;

    #[test]
    fn a_history_is_narrowed_by_all_that_it_names() {
        let request = HistoryRequest::new()
            .with_user(UserId::new("u").unwrap())
            .with_session(SessionId::new("s").unwrap())
            .oldest_first();
        let query = request.query(50);
        assert_eq!((query.limit, query.order), (50, Order::OLDEST));
        query.validate().unwrap();
        let mut item = MemoryItem::new(MemoryId::new("m").unwrap(), "x", Timestamp::MIN)
            .unwrap()
            .with_user(UserId::new("u").unwrap())
            .with_session(SessionId::new("s").unwrap())
            .with_kind(Kind::Message);
        assert!(query.filter.matches(&item));
        item.kind = Kind::Fact;
        assert!(!query.filter.matches(&item), "messages only");
        assert!(request.clone().with_kinds([]).query(50).filter.matches(&item));
        item.session_id = None;
        assert!(!request.with_kinds([]).query(50).filter.matches(&item));
        assert!(HistoryRequest::new().with_kinds([]).query(50).filter.is_all());
    }
}

//! Queries of records: filter, order, page, projection.

use serde::{Deserialize, Serialize};

use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::ids::SpaceId;
use crate::item::MemoryItem;
use crate::limits::PAGE;

/// A field that every item has, so that an order never meets a missing value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderField {
    /// When it was said or happened.
    OccurredAt,
    /// When it was first stored.
    CreatedAt,
    /// When it was last changed.
    UpdatedAt,
    /// By id, as bytes.
    Id,
}

/// Which end comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Smallest, oldest first.
    Ascending,
    /// Largest, newest first.
    Descending,
}

/// An order of items. Ties are broken by id, in the same direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Order {
    /// By what.
    pub field: OrderField,
    /// Which end first.
    pub direction: Direction,
}

impl Order {
    /// Newest first by `occurred_at`.
    pub const NEWEST: Self =
        Self { field: OrderField::OccurredAt, direction: Direction::Descending };
    /// Oldest first by `occurred_at`.
    pub const OLDEST: Self =
        Self { field: OrderField::OccurredAt, direction: Direction::Ascending };
    /// By id, ascending: the cheapest whole pass.
    pub const BY_ID: Self = Self { field: OrderField::Id, direction: Direction::Ascending };

    /// What an item is sorted by before its id: microseconds, or 0 in an order by id.
    #[must_use]
    pub fn sort_value(&self, item: &MemoryItem) -> i64 {
        match self.field {
            OrderField::OccurredAt => item.occurred_at.as_micros(),
            OrderField::CreatedAt => item.created_at.as_micros(),
            OrderField::UpdatedAt => item.updated_at.as_micros(),
            OrderField::Id => 0,
        }
    }
}

/// Which vectors a read brings along.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum VectorProjection {
    /// None: the default, for embeddings are never read unless asked for.
    #[default]
    None,
    /// Those of one space.
    Space(SpaceId),
    /// All.
    All,
}

/// Which parts of an item a read brings along. Everything else is always there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Projection {
    /// The text; without it [`MemoryItem::content`] is empty and the hash still there.
    pub content: bool,
    /// The payload.
    pub payload: bool,
    /// The metadata.
    pub metadata: bool,
    /// The vectors.
    pub vectors: VectorProjection,
}

impl Projection {
    /// Everything but vectors.
    #[must_use]
    pub fn full() -> Self {
        Self { content: true, payload: true, metadata: true, vectors: VectorProjection::None }
    }

    /// Neither text, payload, metadata nor vectors.
    #[must_use]
    pub fn narrow() -> Self {
        Self { content: false, payload: false, metadata: false, vectors: VectorProjection::None }
    }

    /// Brings vectors along.
    #[must_use]
    pub fn with_vectors(mut self, vectors: VectorProjection) -> Self {
        self.vectors = vectors;
        self
    }
}

impl Default for Projection {
    fn default() -> Self {
        Self::full()
    }
}

/// A page of items asked for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Query {
    /// Which items.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// How many at the most: 1 to 1,000.
    pub limit: u32,
    /// Where the page before ended.
    pub cursor: Option<Cursor>,
    /// Which parts.
    pub projection: Projection,
}

impl Query {
    /// The first page of all items, newest first.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        Self {
            filter: Filter::All,
            order: Order::NEWEST,
            limit,
            cursor: None,
            projection: Projection::full(),
        }
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

    /// Goes on after a page.
    #[must_use]
    pub fn with_cursor(mut self, cursor: Option<Cursor>) -> Self {
        self.cursor = cursor;
        self
    }

    /// Sets the projection.
    #[must_use]
    pub fn with_projection(mut self, projection: Projection) -> Self {
        self.projection = projection;
        self
    }

    /// Checks filter and limit; the cursor is checked where it is opened.
    ///
    /// # Errors
    /// `InvalidInput`.
    pub fn validate(&self) -> Result<()> {
        check_limit(self.limit, PAGE)?;
        self.filter.validate()
    }
}

/// A page of items.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Page {
    /// The items, in the query's order.
    pub items: Vec<MemoryItem>,
    /// Where to go on; `None` at the end. After a full last page it may lead to an empty one, where
    /// [`crate::Capabilities::knows_last_page`] says so.
    pub next: Option<Cursor>,
}

/// Checks a limit between 1 and a most.
///
/// # Errors
/// `InvalidInput`.
pub(crate) fn check_limit(limit: u32, most: u32) -> Result<()> {
    if limit == 0 || limit > most {
        return Err(Error::invalid(format!("a limit lies between 1 and {most}; this is {limit}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_nothing_and_of_a_billion_are_refused() {
        assert!(Query::new(0).validate().is_err());
        assert!(Query::new(1_000_000_000).validate().is_err());
        assert!(Query::new(1).validate().is_ok());
        assert!(Query::new(PAGE).validate().is_ok());
    }
}

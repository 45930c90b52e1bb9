//! Cursors: where a page ended, bound to the tenant and the query it belongs to.
//!
//! Bytes before base64url: version (1), hash of the tenant (8), hash of filter and order (8),
//! sort value (8, big endian), id (the rest but 4), check sum (4).
//! A cursor is keyset, not snapshot: items that do not change appear exactly once.
//! It carries an id, so it is no more secret than the items are.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::hash::short_hash;
use crate::ids::{MemoryId, TenantId};
use crate::limits::ID_BYTES;
use crate::query::Query;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8 + 8 + 8;
const SUM: usize = 4;

/// An opaque place in an ordered result.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String);

/// The place that a cursor names: strictly after this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorKey {
    /// The sort value of the last item, as [`crate::Order::sort_value`] has it.
    pub sort: i64,
    /// Its id.
    pub id: MemoryId,
}

impl Cursor {
    /// The cursor after an item of a query's result.
    #[must_use]
    pub fn issue(tenant: &TenantId, query: &Query, key: &CursorKey) -> Self {
        let mut bytes = Vec::with_capacity(HEAD + key.id.as_str().len() + SUM);
        bytes.push(VERSION);
        bytes.extend(short_hash(&[tenant.as_str().as_bytes()]));
        bytes.extend(query_hash(query));
        bytes.extend(key.sort.to_be_bytes());
        bytes.extend(key.id.as_str().as_bytes());
        let sum = short_hash(&[&bytes]);
        bytes.extend(&sum[..SUM]);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens a cursor for the query it is handed in with.
    ///
    /// # Errors
    /// `InvalidInput`: no cursor, one of another version, tenant, filter or order, or a damaged
    /// one. Start again without it.
    pub fn open(&self, tenant: &TenantId, query: &Query) -> Result<CursorKey> {
        let bad = |why: &str| Error::invalid(format!("the cursor {why}"));
        if self.0.len() > (HEAD + ID_BYTES + SUM) * 2 {
            return Err(bad("is too long"));
        }
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| bad("is malformed"))?;
        if bytes.len() <= HEAD + SUM {
            return Err(bad("is too short"));
        }
        let (body, sum) = bytes.split_at(bytes.len() - SUM);
        if short_hash(&[body])[..SUM] != *sum {
            return Err(bad("is damaged"));
        }
        if body[0] != VERSION {
            return Err(bad("is of another version"));
        }
        if body[1..9] != short_hash(&[tenant.as_str().as_bytes()]) {
            return Err(bad("belongs to another tenant"));
        }
        if body[9..17] != query_hash(query) {
            return Err(bad("belongs to another filter or order"));
        }
        let mut sort = [0; 8];
        sort.copy_from_slice(&body[17..HEAD]);
        let id = std::str::from_utf8(&body[HEAD..]).map_err(|_| bad("is malformed"))?;
        Ok(CursorKey { sort: i64::from_be_bytes(sort), id: MemoryId::new(id)? })
    }

    /// The text to hand to a client.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn query_hash(query: &Query) -> [u8; 8] {
    let filter = query.filter.to_json().to_string();
    short_hash(&[filter.as_bytes(), format!("{:?}", query.order).as_bytes()])
}

impl FromStr for Cursor {
    type Err = Error;
    /// Takes any text; what it is worth shows when it is opened.
    fn from_str(text: &str) -> Result<Self> {
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Cursor {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Ok(Self(text))
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} characters)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::{Field, Filter};
    use crate::query::Order;

    #[test]
    fn a_cursor_opens_only_where_it_was_issued() {
        let (a, b) = (TenantId::new("a").unwrap(), TenantId::new("b").unwrap());
        let query = Query::new(10);
        let key = CursorKey { sort: -5, id: MemoryId::new("x/😀").unwrap() };
        let cursor = Cursor::issue(&a, &query, &key);
        assert_eq!(cursor.open(&a, &query).unwrap(), key);
        assert_eq!(cursor.open(&a, &Query::new(3)).unwrap(), key, "the page size may change");
        assert!(cursor.open(&b, &query).is_err());
        assert!(cursor.open(&a, &query.clone().with_order(Order::OLDEST)).is_err());
        let filtered = query.clone().with_filter(Filter::eq(Field::Author, "x"));
        assert!(cursor.open(&a, &filtered).is_err());
        for at in 0..cursor.as_str().len() {
            let mut text = cursor.as_str().to_owned().into_bytes();
            text[at] = if text[at] == b'A' { b'B' } else { b'A' };
            let damaged: Cursor = String::from_utf8(text).unwrap().parse().unwrap();
            assert!(damaged.open(&a, &query).is_err(), "byte {at}");
        }
        for bad in ["", "!", "AAAA", &"A".repeat(10_000)] {
            assert!(bad.parse::<Cursor>().unwrap().open(&a, &query).is_err());
        }
    }
}

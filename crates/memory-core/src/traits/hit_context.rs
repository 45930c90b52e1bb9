//! What surrounds a hit: its conversation, its author, its time, and what neighbours lend it.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::item::MemoryItem;
use crate::time::Timestamp;

/// What an index that is kept with its records knows of a hit beside its score, without reading
/// the record.
#[derive(Clone, PartialEq)]
pub struct HitContext {
    /// The number of its conversation, as [`session_number`] makes it; `None` without a session.
    pub session: Option<u64>,
    /// Whose words it is.
    pub author: Option<Arc<str>>,
    /// When it occurred.
    pub occurred_at: Timestamp,
    /// How important it is, in [0, 1].
    pub importance: Option<f64>,
    /// The part of the score that neighbours lent, as [`Lending`] has it; at least 0.
    pub lent: f64,
    /// The share of the question's words that the item holds, each word by its rarity: its own
    /// score divided by `(k1 + 1)` times the sum of the words' inverse document frequencies, words
    /// that no item has included. In [0, 1]; keywords only.
    pub coverage: Option<f64>,
}

/// Names stay out of logs.
impl fmt::Debug for HitContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HitContext")
            .field("session", &self.session)
            .field("has_author", &self.author.is_some())
            .field("occurred_at", &self.occurred_at)
            .field("lent", &self.lent)
            .finish_non_exhaustive()
    }
}

impl HitContext {
    /// The context that a record itself tells: neither a loan nor a share of words.
    #[must_use]
    pub fn of(item: &MemoryItem) -> Self {
        Self {
            session: item.session_id.as_ref().map(|session| {
                session_number(
                    item.user_id.as_ref().map(|id| id.as_str()),
                    item.agent_id.as_ref().map(|id| id.as_str()),
                    session.as_str(),
                )
            }),
            author: item.author.as_deref().map(Arc::from),
            occurred_at: item.occurred_at,
            importance: item.importance,
            lent: 0.0,
            coverage: None,
        }
    }
}

/// The number of a conversation: sessions of the same name with another user or agent are others.
///
/// FNV-1a with 64 bits over the three names; that two conversations of a tenant share a number is
/// as likely as one in 2^64 for each pair, and would cost nothing but a little of a ranking.
#[must_use]
pub fn session_number(user: Option<&str>, agent: Option<&str>, session: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut feed = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in [user, agent, Some(session)] {
        // Neither byte occurs in UTF-8, so that no two lists of names are fed alike.
        feed(if part.is_some() { 0xff } else { 0xfe });
        part.unwrap_or_default().bytes().for_each(&mut feed);
    }
    hash
}

/// Whether an author is meant by a name: the two are the same, or one is the first word of the
/// other (`Ada` and `Ada Lovelace`), whatever the case.
#[must_use]
pub fn goes_by(author: &str, name: &str) -> bool {
    let same = |a: &str, b: &str| {
        a.eq_ignore_ascii_case(b)
            || !(a.is_ascii() && b.is_ascii())
                && a.chars().flat_map(char::to_lowercase).eq(b.chars().flat_map(char::to_lowercase))
    };
    let first = |whole: &str, word: &str| {
        whole.split_whitespace().next().is_some_and(|head| same(head, word))
    };
    !name.trim().is_empty() && (same(author, name) || first(author, name) || first(name, author))
}

/// How much of its keyword score an item lends to those beside it in its conversation, in the order
/// of their time: what answers a question mostly follows what repeats its words.
///
/// Only candidates of the same search lend, so that both sides are visible and pass the filter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Lending {
    /// To the next item: at least 0, at most 1.
    pub next: f64,
    /// To the one after it: at least 0, at most 1.
    pub second: f64,
    /// To the item before: at least 0, at most 1.
    pub previous: f64,
    /// Whether an item that has none of the words becomes a candidate by a loan.
    pub join: bool,
}

impl Lending {
    /// Shares for the next item, the one after it and the one before.
    #[must_use]
    pub fn new(next: f64, second: f64, previous: f64) -> Self {
        Self { next, second, previous, join: true }
    }

    /// Sets whether a loan alone makes a candidate.
    #[must_use]
    pub fn with_join(mut self, join: bool) -> Self {
        self.join = join;
        self
    }

    /// Whether nothing is lent.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.next <= 0.0 && self.second <= 0.0 && self.previous <= 0.0
    }

    /// Checks the shares.
    ///
    /// # Errors
    /// `InvalidInput`: one that does not lie in [0, 1].
    pub fn validate(&self) -> Result<()> {
        for (name, share) in
            [("next", self.next), ("second", self.second), ("previous", self.previous)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::invalid(format!("the share lent to {name} lies in [0, 1]")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversations_are_told_apart_by_all_three_names() {
        let base = session_number(Some("u"), None, "s");
        assert_eq!(base, session_number(Some("u"), None, "s"));
        for other in [
            session_number(None, Some("u"), "s"),
            session_number(Some("u"), Some(""), "s"),
            session_number(Some("us"), None, ""),
            session_number(Some("v"), None, "s"),
            session_number(Some("u"), None, "t"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn authors_go_by_their_name_and_by_its_first_word() {
        for (author, name) in
            [("Ada", "ada"), ("Ada Lovelace", "Ada"), ("Ada", "Ada Lovelace"), ("Élise", "éLISE")]
        {
            assert!(goes_by(author, name), "{author} {name}");
        }
        for (author, name) in
            [("Ada", "Adam"), ("Ada Lovelace", "Lovelace"), ("Ada", ""), ("", " "), ("Ada", "Bob")]
        {
            assert!(!goes_by(author, name), "{author} {name}");
        }
    }

    #[test]
    fn shares_lie_between_nothing_and_all() {
        assert!(Lending::new(0.5, 0.3, 0.2).validate().is_ok());
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(Lending::new(bad, 0.0, 0.0).validate().is_err());
            assert!(Lending::new(0.0, 0.0, bad).validate().is_err());
        }
        assert!(Lending::new(0.0, 0.0, 0.0).is_nothing());
        assert!(!Lending::new(0.0, 0.1, 0.0).is_nothing());
    }
}

//! Which tenants have memories without a vector, as far as that is known: a hybrid search says so,
//! and must not take longer for it.
//!
//! The store finds out by looking at every memory of the tenant where none lacks one: about ten
//! times as long as a search. So the answer is remembered, and a search waits for it only where
//! nothing is known. An answer that has become old is asked for anew beside a search, which goes
//! by the old one and leaves the question to the next search if it is done first.
//!
//! A store that bills what it reads is not asked, for it would bill every memory that it looks at:
//! there is known what this process wrote, and what an answer without hits gives cause to ask.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use memory_core::TenantId;

use crate::space_cache::make_room;

/// How long an answer is new, at least. 5 s: as long as a tenant's space is remembered.
const NEW_FOR: Duration = Duration::from_secs(5);

/// How many times as long as it took to get it an answer is new. 50: the questions of a large
/// tenant that is searched all the time take a fiftieth of one processor at the most.
const NEW_FOR_TIMES: u32 = 50;

/// A question to the store; `None`: it could not say.
pub(crate) type Question = BoxFuture<'static, Option<bool>>;

/// What is known of tenants. Times are the clock's monotonic ones.
#[derive(Default)]
pub(crate) struct Lacking {
    known: Mutex<HashMap<TenantId, Entry>>,
}

struct Entry {
    lacks: bool,
    /// When; `None`: it is old, whenever that was.
    asked_at: Option<Duration>,
    new_for: Duration,
    /// A question that the searches before had no time for.
    pending: Option<Question>,
}

/// What is known of a tenant.
pub(crate) enum Known {
    Nothing,
    New(bool),
    /// It may be otherwise by now; with a question that has been asked already.
    Old(bool, Option<Question>),
}

impl Lacking {
    /// What is known; a question that is pending becomes the caller's.
    pub(crate) fn get(&self, tenant: &TenantId, now: Duration) -> Known {
        let mut known = self.known();
        let Some(entry) = known.get_mut(tenant) else { return Known::Nothing };
        let is_new = |at| now.saturating_sub(at) < entry.new_for;
        match entry.asked_at.is_some_and(is_new) {
            true => Known::New(entry.lacks),
            false => Known::Old(entry.lacks, entry.pending.take()),
        }
    }

    /// Remembers an answer; `took`: how long the question took, if that was measured.
    pub(crate) fn put(
        &self,
        tenant: &TenantId,
        lacks: bool,
        now: Duration,
        took: Option<Duration>,
    ) {
        let mut known = self.known();
        make_room(&mut known, tenant);
        let new_for = match (took, known.get(tenant)) {
            (Some(took), _) => NEW_FOR.max(took.saturating_mul(NEW_FOR_TIMES)),
            (None, Some(entry)) => entry.new_for,
            (None, None) => NEW_FOR,
        };
        let asked_at = Some(now);
        known.insert(tenant.clone(), Entry { lacks, asked_at, new_for, pending: None });
    }

    /// Keeps a question for the next search; nothing, if the tenant was forgotten since.
    pub(crate) fn keep(&self, tenant: &TenantId, question: Question) {
        if let Some(entry) = self.known().get_mut(tenant) {
            entry.pending = Some(question);
        }
    }

    /// A memory was written without a vector. `note`: also where nothing is known of the tenant,
    /// for nobody asks.
    pub(crate) fn written_without(&self, tenant: &TenantId, note: bool) {
        let mut known = self.known();
        if note && !known.contains_key(tenant) {
            make_room(&mut known, tenant);
            let entry = Entry { lacks: true, asked_at: None, new_for: NEW_FOR, pending: None };
            known.insert(tenant.clone(), entry);
        }
        if let Some(entry) = known.get_mut(tenant) {
            entry.lacks = true;
            // What was asked before knows nothing of it.
            entry.pending = None;
        }
    }

    /// Vectors were made: the next search asks anew, without waiting for it.
    pub(crate) fn made(&self, tenant: &TenantId) {
        if let Some(entry) = self.known().get_mut(tenant) {
            entry.asked_at = None;
            entry.pending = None;
        }
    }

    /// Forgets a tenant: the next search asks.
    pub(crate) fn forget(&self, tenant: &TenantId) {
        self.known().remove(tenant);
    }

    /// Every change leaves the map whole, so that a panic elsewhere does.
    fn known(&self) -> MutexGuard<'_, HashMap<TenantId, Entry>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lacking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lacking").field("tenants", &self.known().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space_cache::MOST_TENANTS;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    fn question() -> Question {
        Box::pin(async { None })
    }

    /// What is known, in a word.
    fn shown(lacking: &Lacking, name: &str, now: Duration) -> &'static str {
        match lacking.get(&tenant(name), now) {
            Known::Nothing => "nothing",
            Known::New(false) => "complete",
            Known::New(true) => "lacks",
            Known::Old(false, None) => "old complete",
            Known::Old(true, None) => "old lacks",
            Known::Old(_, Some(_)) => "asked",
        }
    }

    #[test]
    fn an_answer_is_new_for_a_while_that_goes_with_what_it_cost() {
        let lacking = Lacking::default();
        let at = Duration::from_secs(100);
        assert_eq!(shown(&lacking, "t", at), "nothing");
        lacking.put(&tenant("t"), false, at, Some(Duration::from_millis(10)));
        assert_eq!(shown(&lacking, "t", at + NEW_FOR / 2), "complete");
        assert_eq!(shown(&lacking, "t", at + NEW_FOR), "old complete");
        lacking.put(&tenant("t"), true, at, Some(Duration::from_secs(1)));
        assert_eq!(shown(&lacking, "t", at + NEW_FOR * 9), "lacks");
        assert_eq!(shown(&lacking, "t", at + NEW_FOR * 10), "old lacks");
        lacking.put(&tenant("t"), true, at, None);
        assert_eq!(shown(&lacking, "t", at + NEW_FOR * 9), "lacks", "as the one before");
        assert_eq!(shown(&lacking, "other", at), "nothing");
        lacking.forget(&tenant("t"));
        assert_eq!(shown(&lacking, "t", at), "nothing");
    }

    #[test]
    fn writes_change_what_is_known_and_take_back_what_was_asked_before_them() {
        let lacking = Lacking::default();
        let (t, at) = (tenant("t"), Duration::from_secs(100));
        lacking.written_without(&t, false);
        lacking.made(&t);
        lacking.keep(&t, question());
        assert_eq!(shown(&lacking, "t", at), "nothing");
        lacking.put(&t, false, at, None);
        lacking.keep(&t, question());
        assert_eq!(shown(&lacking, "t", at + NEW_FOR), "asked");
        assert_eq!(shown(&lacking, "t", at + NEW_FOR), "old complete", "one search has it");
        lacking.keep(&t, question());
        lacking.written_without(&t, false);
        assert_eq!(shown(&lacking, "t", at), "lacks");
        assert_eq!(shown(&lacking, "t", at + NEW_FOR), "old lacks");
        lacking.put(&t, true, at, None);
        lacking.made(&t);
        assert_eq!(shown(&lacking, "t", at), "old lacks");
        lacking.put(&t, false, at, None);
        assert_eq!(shown(&lacking, "t", at), "complete");
    }

    #[test]
    fn what_nobody_asks_for_is_known_from_the_writes() {
        let lacking = Lacking::default();
        let (t, at) = (tenant("t"), Duration::from_secs(100));
        lacking.written_without(&t, true);
        assert_eq!(shown(&lacking, "t", at), "old lacks");
        lacking.put(&t, false, at, None);
        lacking.written_without(&t, true);
        assert_eq!(shown(&lacking, "t", at), "lacks");
    }

    #[test]
    fn it_is_bounded() {
        let lacking = Lacking::default();
        let put = |n: usize| lacking.put(&tenant(&format!("t{n}")), true, Duration::ZERO, None);
        (0..MOST_TENANTS).for_each(put);
        put(0);
        assert_eq!(lacking.known().len(), MOST_TENANTS, "one that is known takes no room");
        put(MOST_TENANTS);
        assert_eq!(lacking.known().len(), 1);
    }
}

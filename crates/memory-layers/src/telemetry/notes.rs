//! What the layers within a call tell its telemetry: how many attempts there were, and whether a
//! cache had the answer.
//!
//! The notes of a call are the current ones of the thread while the call is polled, as a span is
//! the current one. So they need no runtime and no parameter, and follow a call from thread to
//! thread. What a layer hands to another task or thread is not seen.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// What a cache did for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheResult {
    /// It had the answer.
    Hit,
    /// It did not, and the back end was asked.
    Miss,
    /// It was not asked.
    Bypass,
}

impl CacheResult {
    /// The stable name, as in spans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

/// The notes of one call.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    attempts: AtomicU32,
    /// 0 is nothing, else one more than the place in [`CACHE`].
    cache: AtomicU8,
}

const CACHE: [CacheResult; 3] = [CacheResult::Hit, CacheResult::Miss, CacheResult::Bypass];

thread_local! {
    static CURRENT: RefCell<Option<Arc<Notes>>> = const { RefCell::new(None) };
}

impl Notes {
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::Relaxed)
    }

    pub(crate) fn cache(&self) -> Option<CacheResult> {
        let place = self.cache.load(Ordering::Relaxed).checked_sub(1)?;
        CACHE.get(usize::from(place)).copied()
    }
}

/// Makes notes the current ones until the answer is dropped.
pub(crate) fn enter(notes: &Arc<Notes>) -> Entered {
    Entered { before: CURRENT.with(|current| current.replace(Some(Arc::clone(notes)))) }
}

/// Puts the notes before back when it is dropped.
pub(crate) struct Entered {
    before: Option<Arc<Notes>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        // At the end of a thread there is nothing to put back.
        let _ = CURRENT.try_with(|current| current.replace(before));
    }
}

/// Counts an attempt of the current call; the answer is its number from 1, or `None` outside of a
/// call that is watched.
pub(crate) fn note_attempt() -> Option<u32> {
    CURRENT.with_borrow(|current| {
        current.as_ref().map(|notes| notes.attempts.fetch_add(1, Ordering::Relaxed) + 1)
    })
}

/// Says what a cache did for the call that is being polled on this thread: the attribute
/// `orchestra_memory.cache` of its span. The last word counts. Without a telemetry layer around the
/// caller nothing happens.
pub fn note_cache(result: CacheResult) {
    CURRENT.with_borrow(|current| {
        if let Some(notes) = current {
            notes.cache.store(result as u8 + 1, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_nest_and_are_gone_afterwards() {
        assert_eq!(note_attempt(), None);
        let (outer, inner) = (Arc::new(Notes::default()), Arc::new(Notes::default()));
        {
            let _outer = enter(&outer);
            assert_eq!(note_attempt(), Some(1));
            {
                let _inner = enter(&inner);
                note_cache(CacheResult::Bypass);
            }
            assert_eq!(note_attempt(), Some(2));
        }
        assert_eq!(note_attempt(), None);
        assert_eq!((outer.attempts(), inner.attempts()), (2, 0));
        assert_eq!((outer.cache(), inner.cache()), (None, Some(CacheResult::Bypass)));
        assert!(CACHE.iter().enumerate().all(|(place, result)| *result as usize == place));
    }
}

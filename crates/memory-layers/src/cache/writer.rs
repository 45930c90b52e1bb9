//! Writes past the cache: the steps of [`Writer`], and what a write touches.

use std::time::Duration;

use memory_core::traits::{CacheKey, CacheRead, CacheWrite, RecordStore};
use memory_core::{
    CallContext, Error, ErrorKind, MemoryId, MemoryItem, Outcome, Precondition, Projection, Result,
    Revision, Write,
};

use super::counts::Total;
use super::door::{CACHE, Door, NO_MARK};
use super::keys::{Owner, Touched, address, item_key};
use super::protocol::{Verdict, WriteEvent, Writer};
use super::value::decode;

/// What a commit did, as far as the cache is concerned.
pub(super) fn effect<T>(answer: &Result<T>, resend: bool) -> WriteEvent<[u8; 16]> {
    match answer {
        Ok(_) => WriteEvent::Applied,
        // Of one that is sent again the failure tells what this attempt met: an earlier one may yet
        // take effect.
        Err(error) if resend || error.outcome() == Outcome::Unknown => WriteEvent::Unknown,
        Err(_) => WriteEvent::NotApplied,
    }
}

/// Does a write between its mark and its fresh tokens.
///
/// # Errors
/// Those of the write; `Unavailable`, not applied, where the settings are strict and the mark could
/// not be put.
///
/// # Cancellation
/// Dropping the future leaves the mark, which goes when its time is over: what was dropped may yet
/// take effect, and a token set before it did would let old values in.
pub(super) async fn write<T>(
    door: &Door,
    context: &CallContext,
    touched: Touched,
    resend: bool,
    commit: impl Future<Output = Result<T>> + Send,
) -> Result<T> {
    let groups = touched.into_groups();
    if groups.is_empty() {
        return commit.await;
    }
    let mut write = Underway { door, context, groups: &groups, until: Duration::ZERO };
    let mut state = write.begin(Writer::Begin).await;
    admitted(door, state)?;
    let answer = commit.await;
    state = state.after(effect(&answer, resend), door.settings.strict);
    write.close(state).await;
    answer
}

/// That a write was not refused.
///
/// # Errors
/// `Unavailable`, not applied.
pub(super) fn admitted(door: &Door, state: Writer<[u8; 16]>) -> Result<()> {
    if state != Writer::Done(Verdict::Refused) {
        return Ok(());
    }
    door.counts.total(Total::writes_refused);
    let text = "the cache does not answer, and writes are refused without it (cache.strict): try \
                again later";
    Err(Error::new(ErrorKind::Unavailable, text).with_backend(CACHE))
}

/// A write under way.
pub(super) struct Underway<'a> {
    pub(super) door: &'a Door,
    pub(super) context: &'a CallContext,
    pub(super) groups: &'a [String],
    /// Until when the mark stands, by the clock of this process.
    pub(super) until: Duration,
}

impl Underway<'_> {
    /// Puts the mark.
    pub(super) async fn begin(&mut self, state: Writer<[u8; 16]>) -> Writer<[u8; 16]> {
        let door = self.door;
        let most = door.mark(self.context);
        // From before it was sent, so that it stands no shorter than is thought here.
        let until = door.clock.monotonic().saturating_add(most);
        let event = match door.begin_write(self.context, self.groups, most).await {
            Some(write) => {
                self.until = until;
                WriteEvent::Began(write.mark)
            }
            None => WriteEvent::BeginFailed,
        };
        state.after(event, door.settings.strict)
    }

    /// What is left to do after the commit.
    pub(super) async fn close(mut self, mut state: Writer<[u8; 16]>) {
        let door = self.door;
        let verdict = loop {
            state = match state {
                Writer::End(mark) => {
                    let mark = mark.unwrap_or(NO_MARK);
                    let write = CacheWrite { groups: self.groups.to_vec(), mark };
                    let event = if door.end_write(self.context, write).await {
                        WriteEvent::Ended
                    } else {
                        WriteEvent::EndFailed
                    };
                    state.after(event, door.settings.strict)
                }
                Writer::Remark => self.begin(state).await,
                Writer::Done(verdict) => break verdict,
                // Both lie behind.
                Writer::Begin | Writer::Commit(_) => return,
            };
        };
        door.counts.total(Total::writes);
        let is_over = door.clock.monotonic() >= self.until;
        if verdict == Verdict::Unconfirmed || (verdict == Verdict::Marked && is_over) {
            door.counts.total(Total::unconfirmed);
        }
    }
}

/// What writes touch.
///
/// The conversations of an item that is replaced or deleted are known where the write names its
/// revision and the item can be read at it; else all conversations of the tenant are touched.
pub(super) async fn touched(
    door: &Door,
    inner: &dyn RecordStore,
    context: &CallContext,
    writes: &[Write],
) -> Touched {
    let mut touched = Touched::default();
    let history = door.settings.history;
    let mut replaced: Vec<(&MemoryId, &Revision)> = Vec::new();
    for write in writes {
        touched.item(write.id());
        if !history {
            continue;
        }
        match write {
            Write::Put(put) => touched.conversations(Owner::of(&put.item)),
            Write::Delete(_) => {}
        }
        match write.precondition() {
            Precondition::Any => touched.all_history(),
            Precondition::Absent => {}
            Precondition::Revision(revision) => replaced.push((write.id(), revision)),
        }
    }
    if touched.has_all_history() || replaced.is_empty() {
        return touched;
    }
    let items = if replaced.len() <= MOST_REPLACED {
        at_revisions(door, inner, context, &replaced).await
    } else {
        None
    };
    match items {
        Some(items) => items.iter().for_each(|item| touched.conversations(Owner::of(item))),
        None => touched.all_history(),
    }
    touched
}

/// Most items that are read to learn their conversations: a commit that replaces more touches more
/// conversations than are worth telling apart.
const MOST_REPLACED: usize = 100;

/// The items as they are at these revisions: from the cache, which mostly has them, for who replaces
/// an item has read it; else from the store. `None` where one cannot be read at its revision: then
/// the write will mostly be refused, but may be the first whose time has come.
async fn at_revisions(
    door: &Door,
    inner: &dyn RecordStore,
    context: &CallContext,
    replaced: &[(&MemoryId, &Revision)],
) -> Option<Vec<MemoryItem>> {
    let mut found: Vec<Option<MemoryItem>> = vec![None; replaced.len()];
    let full = Projection::full();
    let keys: Vec<CacheKey> = replaced.iter().filter_map(|(id, _)| item_key(id, &full)).collect();
    if let Some(answers) = door.read(context, &keys).await {
        for (place, answer) in answers.into_iter().enumerate() {
            let (Some(key), CacheRead::Hit(bytes)) = (keys.get(place), answer) else { continue };
            found[place] = decode::<MemoryItem>(&bytes, &address(&context.tenant, key))
                .map(|(item, _)| item)
                .filter(|item| is_at(item, replaced[place]));
        }
    }
    let missing: Vec<_> = (0..found.len()).filter(|place| found[*place].is_none()).collect();
    if !missing.is_empty() {
        let ids: Vec<_> = missing.iter().map(|place| replaced[*place].0.clone()).collect();
        // A store that cannot be read will tell so when it is written.
        let read = inner.fetch(context, &ids, &Projection::narrow()).await.ok()?;
        for (place, item) in missing.into_iter().zip(read) {
            found[place] = item.filter(|item| is_at(item, replaced[place]));
        }
    }
    found.into_iter().collect()
}

fn is_at(item: &MemoryItem, (id, revision): (&MemoryId, &Revision)) -> bool {
    item.id == *id && item.revision.as_ref() == Some(revision)
}

//! Each answer against the states between the begin and the end of its call.

use std::time::Duration;

use memory_core::{ErrorKind, Outcome};

use super::super::history::{Ask, Call, Deed, IDS, Op, Reply, Sight, Wish};
use super::super::stack::Promises;
use super::Verdict;
use super::states::{Book, Cell, State};

/// How much later than promised a call may end: the timers of the runtime count in milliseconds.
const GRAIN: Duration = Duration::from_millis(2);

pub(super) fn check(book: &Book<'_>, promises: &Promises) -> Verdict {
    for (number, call) in book.log.calls.iter().enumerate() {
        one(book, promises, number, call).map_err(|what| format!("call {number} {what}"))?;
    }
    Ok(())
}

fn one(book: &Book<'_>, promises: &Promises, number: usize, call: &Call) -> Verdict {
    let Some((ended, reply)) = &call.ended else { return Ok(()) };
    let wrong = |what: String| Err(what);
    let took = ended.at.saturating_sub(call.began.at);
    if promises.call_limit.is_some_and(|limit| took > limit + GRAIN) {
        return wrong(format!("took {took:?}, longer than a call may"));
    }
    let deadline = call.deadline.filter(|_| promises.deadlines);
    if deadline.is_some_and(|deadline| ended.at > deadline + GRAIN) {
        return wrong("ended after its deadline".to_owned());
    }
    let closed = book.log.closed.get(&call.process).filter(|_| promises.gate);
    if closed.is_some_and(|closed| closed.order < call.began.order) {
        let turned_away = matches!(
            reply,
            Reply::Dropped
                | Reply::Failed {
                    kind: ErrorKind::Unavailable | ErrorKind::Timeout,
                    outcome: Outcome::NotApplied,
                    ..
                }
        );
        let what = format!("of a closed stack was told {reply:?}");
        return if turned_away { Ok(()) } else { wrong(what) };
    }
    if call.calm && !reply.succeeded() {
        return wrong(format!("did not get through when all faults had ended: {reply:?}"));
    }
    if let Reply::Failed { kind, outcome, .. } = reply {
        if !documented(book, call, ended.order, *kind) {
            return wrong(format!("failed as {kind}, for which there was no reason"));
        }
        if *outcome == Outcome::NotApplied {
            let effects = book.log.effects.iter().flatten().any(|one| one.call == Some(number));
            let deeds = book.log.deeds.iter().any(|one| one.call == Some(number));
            if effects || deeds {
                return wrong(format!("was told {kind}, not applied, and was applied"));
            }
        }
        return Ok(());
    }
    if let (Ask::Commit { .. }, Reply::Committed { .. }) = (&call.ask, reply) {
        return committed(book, call, reply);
    }
    let window = book.window(call);
    let fits = match (&call.ask, reply) {
        (Ask::Fetch { .. }, Reply::Seen(seen)) => {
            window.iter().any(|state| seen.iter().all(|(id, sight)| is(state.cells[*id], *sight)))
        }
        (Ask::Query | Ask::KeywordSearch, Reply::Seen(seen)) => {
            window.iter().any(|state| exactly(state, seen, |cell| cell.revision.is_some()))
        }
        (Ask::VectorSearch, Reply::Seen(seen)) => {
            window.iter().any(|state| exactly(state, seen, |cell| cell.vector))
        }
        (Ask::Count, Reply::Count(count)) => window.iter().any(|state| {
            let there = state.cells.iter().filter(|cell| cell.revision.is_some()).count();
            there as u64 == *count
        }),
        (Ask::Upsert { .. }, Reply::Upserted { stored: true }) => {
            let effects = &book.log.effects[call.room];
            effects[..ended.effects[call.room]].iter().any(|one| one.call == Some(number))
        }
        (Ask::Upsert { id, revision }, Reply::Upserted { stored: false }) => {
            window.iter().any(|state| state.cells[*id].revision != Some(*revision))
        }
        (Ask::ReadChanges { after, limit }, Reply::Changes { changes, head, gap }) => {
            let whole = window.iter().any(|state| {
                state.head == *head && entries(book, call.room, *after, *head, *limit) == *changes
            });
            whole && !*gap || *gap && acknowledged_beyond(book, call, *after)
        }
        _ => true,
    };
    if fits { Ok(()) } else { wrong(format!("was told what no state in its time was: {reply:?}")) }
}

fn is(cell: Cell, sight: Option<Sight>) -> bool {
    match sight {
        None => cell.revision.is_none(),
        Some((revision, request)) => {
            cell.revision == Some(revision) && (request.is_none() || request == cell.request)
        }
    }
}

/// Whether those were seen that pass, as they were, and no others.
fn exactly(state: &State, seen: &[(usize, Option<Sight>)], passes: impl Fn(&Cell) -> bool) -> bool {
    (0..IDS).all(|id| {
        let found = seen.iter().find(|(one, _)| *one == id);
        let cell = state.cells[id];
        match found {
            Some((_, sight)) => passes(&cell) && is(cell, *sight),
            None => !passes(&cell),
        }
    })
}

/// The change log after a position, up to a head.
fn entries(book: &Book<'_>, room: usize, after: u64, head: u64, limit: u32) -> Vec<(u64, Op)> {
    let ops = book.log.effects[room].iter().flat_map(|effect| &effect.ops);
    ops.filter(|(position, _)| (after + 1..=head).contains(position))
        .take(usize::try_from(limit).unwrap_or(usize::MAX))
        .copied()
        .collect()
}

/// Whether the consumer itself had asked to be moved beyond a position: a process that went down
/// after it had read on may still be acknowledged.
fn acknowledged_beyond(book: &Book<'_>, call: &Call, after: u64) -> bool {
    book.log.calls.iter().any(|one| {
        (one.worker, one.room) == (call.worker, call.room)
            && matches!(one.ask, Ask::Acknowledge { position } if position > after)
    })
}

/// Whether an error of a kind is documented for a call, and there was a reason for it.
fn documented(book: &Book<'_>, call: &Call, ended: u64, kind: ErrorKind) -> bool {
    use ErrorKind::{
        AlreadyExists, Conflict, NotFound, Overloaded, RateLimited, Timeout, Unavailable,
    };
    if matches!(kind, RateLimited | Overloaded | Timeout | Unavailable) {
        return true;
    }
    match (&call.ask, kind) {
        (Ask::Commit { request, wishes, token, .. }, AlreadyExists | NotFound | Conflict) => {
            let fenced = || book.fence(call.room, ended).is_some_and(|fence| *token < Some(fence));
            let other = |cell: &Cell| {
                cell.commit.is_none_or(|commit| book.request(commit) != Some(*request))
            };
            let refuses = |wish: &Wish, cell: &Cell| {
                other(cell)
                    && match kind {
                        AlreadyExists => {
                            wish.pre == super::super::history::Pre::Absent
                                && cell.revision.is_some()
                        }
                        NotFound => cell.revision.is_none(),
                        _ => true,
                    }
            };
            let refused = book
                .window(call)
                .iter()
                .any(|state| wishes.iter().any(|wish| refuses(wish, &state.cells[wish.id])));
            refused || kind == Conflict && fenced()
        }
        (Ask::SetFence { token }, Conflict) => {
            book.fence(call.room, ended).is_some_and(|fence| fence > *token)
        }
        (Ask::SetSpaces { version }, Conflict) => book.log.deeds.iter().any(|done| {
            done.order < ended
                && book
                    .log
                    .calls
                    .get(done.call.unwrap_or(usize::MAX))
                    .is_some_and(|by| !std::ptr::eq(by, call))
                && matches!(done.deed, Deed::SpacesSet { version: now } if now > *version)
        }),
        _ => false,
    }
}

/// An acknowledged commit: it happened before it was acknowledged, and as it was told.
fn committed(book: &Book<'_>, call: &Call, reply: &Reply) -> Verdict {
    let (Ask::Commit { request, wishes, .. }, Reply::Committed { results, position, replayed }) =
        (&call.ask, reply)
    else {
        return Ok(());
    };
    let Some((ended, _)) = &call.ended else { return Ok(()) };
    if results.len() != wishes.len() {
        return Err("was told of another number of writes".to_owned());
    }
    let states = &book.states[call.room];
    let happened = &book.log.effects[call.room][..ended.effects[call.room]];
    for (wish, (revision, existed)) in wishes.iter().zip(results) {
        if !wish.put {
            let gone = book.window(call).iter().any(|one| one.cells[wish.id].revision.is_none());
            if revision.is_some() || !gone {
                return Err(format!("acknowledged a delete of m{} that is not done", wish.id));
            }
            continue;
        }
        let put = revision.map(|revision| Op::Put { id: wish.id, revision });
        let place = happened.iter().position(|effect| {
            let own = effect.commit.and_then(|commit| book.request(commit)) == Some(*request);
            own && effect.ops.iter().any(|(_, op)| Some(*op) == put)
        });
        let Some(place) = place else {
            return Err(format!("acknowledged a put of m{} that is not done", wish.id));
        };
        if !replayed && *existed != states[place].cells[wish.id].revision.is_some() {
            return Err(format!("was told wrongly whether m{} had been there", wish.id));
        }
        let last = happened[place].ops.iter().map(|(position, _)| *position).max().unwrap_or(0);
        if *position < last || *position > states[ended.effects[call.room]].head {
            return Err("was told a position that is not its own".to_owned());
        }
    }
    Ok(())
}

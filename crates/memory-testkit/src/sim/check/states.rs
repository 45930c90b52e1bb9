//! The states that the tenants went through, and whether each step was one that a client had asked
//! for.

use std::collections::BTreeMap;

use memory_core::CommitId;

use super::super::history::{Ask, Call, Deed, Effect, IDS, Log, Op, Pre, ROOMS, Wish};
use super::{Contents, Verdict};

/// What one id holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) revision: Option<u64>,
    /// The request in its content.
    pub(super) request: Option<u64>,
    pub(super) vector: bool,
    /// Which commit wrote or deleted it last.
    pub(super) commit: Option<CommitId>,
}

/// One tenant between two effects.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) cells: [Cell; IDS],
    /// The newest position of its change log.
    pub(super) head: u64,
}

/// The log, and the states.
pub(super) struct Book<'a> {
    pub(super) log: &'a Log,
    /// By room: the state after so many effects.
    pub(super) states: [Vec<State>; ROOMS],
    /// The call of each commit.
    pub(super) commits: BTreeMap<CommitId, usize>,
}

impl<'a> Book<'a> {
    pub(super) fn new(log: &'a Log) -> Result<Self, String> {
        let mut book = Self { log, states: Default::default(), commits: BTreeMap::new() };
        for (number, call) in log.calls.iter().enumerate() {
            if let Ask::Commit { id, .. } = &call.ask {
                book.commits.insert(*id, number);
            }
        }
        for (room, effects) in log.effects.iter().enumerate() {
            let mut state = State::default();
            book.states[room].push(state);
            for (number, effect) in effects.iter().enumerate() {
                for (position, op) in &effect.ops {
                    if *position <= state.head {
                        return Err(format!("effect {number} in {room} goes back in the log"));
                    }
                    apply(&mut state, effect, *position, *op)
                        .map_err(|what| format!("effect {number} in {room}: {what}"))?;
                }
                book.states[room].push(state);
            }
        }
        Ok(book)
    }

    /// The states that a call may have seen.
    pub(super) fn window(&self, call: &Call) -> &[State] {
        let Some((ended, _)) = &call.ended else { return &[] };
        let (from, to) = (call.began.effects[call.room], ended.effects[call.room]);
        &self.states[call.room][from..=to]
    }

    /// The request of the caller that a commit belongs to.
    pub(super) fn request(&self, commit: CommitId) -> Option<u64> {
        match &self.log.calls.get(*self.commits.get(&commit)?)?.ask {
            Ask::Commit { request, .. } => Some(*request),
            _ => None,
        }
    }

    /// The store at the end holds what the last state says: nothing was lost in silence.
    pub(super) fn check_last(&self, last: &Contents) -> Verdict {
        for (room, held) in last.iter().enumerate() {
            let state = self.states[room].last().copied().unwrap_or_default();
            let expected: Vec<_> = (0..IDS)
                .filter_map(|id| {
                    let cell = state.cells[id];
                    Some((id, cell.revision?, cell.request))
                })
                .collect();
            if expected != *held {
                return Err(format!("room {room} holds {held:?}, and its log says {expected:?}"));
            }
        }
        Ok(())
    }

    /// Every effect was asked for, whole, under its preconditions and its fence, and not twice.
    pub(super) fn check_effects(&self) -> Verdict {
        for room in 0..ROOMS {
            let mut requests: BTreeMap<u64, usize> = BTreeMap::new();
            for (number, effect) in self.log.effects[room].iter().enumerate() {
                let wrong = |what: &str| Err(format!("effect {number} in {room} {what}"));
                let call = effect.call.and_then(|call| self.log.calls.get(call));
                let Some(call) = call else { return wrong("belongs to no call") };
                if call.room != room {
                    return wrong("is in another tenant than its call");
                }
                let before = &self.states[room][number];
                match (&call.ask, effect.commit) {
                    (Ask::Upsert { id, revision }, None) => {
                        let op = Op::Vectors { id: *id, revision: *revision };
                        if effect.ops.iter().any(|(_, one)| *one != op) {
                            return wrong("is not the vector that was asked for");
                        }
                    }
                    (Ask::Commit { id, request, keyed, wishes, token }, Some(commit)) => {
                        if *id != commit {
                            return wrong("belongs to another commit than its call");
                        }
                        if let Err(what) = asked(effect, wishes, before) {
                            return wrong(what);
                        }
                        if self.fence(room, effect.order).is_some_and(|fence| *token < Some(fence))
                        {
                            return wrong("crossed the write fence");
                        }
                        let again = requests.insert(*request, number).is_some();
                        if again && *keyed {
                            return wrong("applies a request under an idempotency key twice");
                        }
                        let stands = before
                            .cells
                            .iter()
                            .any(|cell| cell.revision.is_some() && cell.commit == Some(commit));
                        if again && effect.resend && stands {
                            return wrong("is a resend that did not recognise its own work");
                        }
                    }
                    _ => return wrong("was not asked for"),
                }
            }
        }
        Ok(())
    }

    /// The write fence of a room at a place in the order.
    pub(super) fn fence(&self, room: usize, order: u64) -> Option<u64> {
        let fences = self.log.deeds.iter().filter_map(|done| match done.deed {
            Deed::Fenced { token } if room == 1 && done.order < order => Some(token),
            _ => None,
        });
        fences.max()
    }
}

/// Whether an effect is what was wished, whole, and its preconditions held.
fn asked(effect: &Effect, wishes: &[Wish], before: &State) -> Result<(), &'static str> {
    for (_, op) in &effect.ops {
        let wish = wishes.iter().find(|wish| match op {
            Op::Put { id, .. } => wish.put && wish.id == *id,
            Op::Delete { id } => !wish.put && wish.id == *id,
            _ => false,
        });
        let Some(wish) = wish else { return Err("does what was not asked for") };
        let held = match wish.pre {
            Pre::Any => true,
            Pre::Absent => before.cells[wish.id].revision.is_none(),
            Pre::At(revision) => before.cells[wish.id].revision == Some(revision),
        };
        if !held {
            return Err("happened against its precondition");
        }
    }
    let whole = wishes.iter().all(|wish| {
        let done = effect.ops.iter().any(|(_, op)| match op {
            Op::Put { id, .. } | Op::Delete { id } => *id == wish.id,
            _ => false,
        });
        done || (!wish.put && before.cells[wish.id].revision.is_none())
    });
    if whole { Ok(()) } else { Err("is half of what was asked for") }
}

fn apply(state: &mut State, effect: &Effect, position: u64, op: Op) -> Result<(), &'static str> {
    state.head = position;
    let commit = effect.commit;
    match op {
        Op::Put { id, revision } => {
            if state.cells.iter().any(|cell| cell.revision >= Some(revision)) {
                return Err("a revision does not grow");
            }
            let vector = effect.vectors.contains(&id);
            let request = effect.request;
            state.cells[id] = Cell { revision: Some(revision), request, vector, commit };
        }
        Op::Vectors { id, revision } => {
            if state.cells[id].revision != Some(revision) {
                return Err("a vector was kept for a revision that was not there");
            }
            state.cells[id].vector = true;
        }
        Op::Delete { id } => {
            state.cells[id] = Cell { commit, ..Cell::default() };
        }
        Op::Other => return Err("an entry of the change log that nobody caused"),
    }
    Ok(())
}

//! What happened in a run: what clients asked for and were told, what was sent, what the server did.
//!
//! Every entry has its place in one order, for all of it happens on one thread.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::{CommitId, Error, ErrorKind, MemoryId, Outcome, Timestamp};

/// Tenants of a run: in the first everybody writes, in the second only who holds the lease.
pub(super) const ROOMS: usize = 2;
/// Ids that a tenant's items may have; few, so that writers meet.
pub(super) const IDS: usize = 6;

/// The id of a number below [`IDS`].
pub(super) fn id_text(number: usize) -> String {
    format!("m{number}")
}

/// The number of an id.
pub(super) fn id_number(id: &MemoryId) -> Option<usize> {
    id.as_str().strip_prefix('m')?.parse().ok().filter(|number| *number < IDS)
}

/// A precondition, by the number of its revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pre {
    Any,
    Absent,
    At(u64),
}

/// One write of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) id: usize,
    pub(super) put: bool,
    pub(super) vector: bool,
    pub(super) pre: Pre,
}

/// What a client asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    /// `request` is the same for every call about one request of the caller's; it stands in the
    /// items that it writes.
    Commit {
        id: CommitId,
        request: u64,
        keyed: bool,
        wishes: Vec<Wish>,
        token: Option<u64>,
    },
    Fetch {
        ids: Vec<usize>,
    },
    Query,
    Count,
    VectorSearch,
    KeywordSearch,
    Upsert {
        id: usize,
        revision: u64,
    },
    ReadChanges {
        after: u64,
        limit: u32,
    },
    Acknowledge {
        position: u64,
    },
    Position,
    Acquire {
        name: &'static str,
    },
    Renew {
        name: &'static str,
        token: u64,
    },
    Release {
        name: &'static str,
        token: u64,
    },
    SetFence {
        token: u64,
    },
    Spaces,
    SetSpaces {
        version: u64,
    },
}

impl Ask {
    /// Whether a second attempt after one of unknown outcome would be a second effect.
    pub(super) fn once(&self) -> bool {
        matches!(self, Self::Acquire { .. } | Self::SetSpaces { .. })
    }
}

/// An item that was seen: its revision, and the request in its content where that was read.
pub(super) type Sight = (u64, Option<u64>);

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    /// The revision and `existed` of each write.
    Committed {
        results: Vec<(Option<u64>, bool)>,
        position: u64,
        replayed: bool,
    },
    /// Ids and what was found under each; of a search or query, all that was found.
    Seen(Vec<(usize, Option<Sight>)>),
    Count(u64),
    Upserted {
        stored: bool,
    },
    Changes {
        changes: Vec<(u64, Op)>,
        head: u64,
        gap: bool,
    },
    Position(Option<u64>),
    Lease(Option<(u64, Timestamp)>),
    Version(u64),
    Done,
    Failed {
        kind: ErrorKind,
        outcome: Outcome,
        text: String,
    },
    /// Its caller dropped it.
    Dropped,
}

impl Reply {
    pub(super) fn failed(error: &Error) -> Self {
        Self::Failed { kind: error.kind(), outcome: error.outcome(), text: error.to_string() }
    }

    /// Whether the call is known to have succeeded.
    pub(super) fn succeeded(&self) -> bool {
        !matches!(self, Self::Failed { .. } | Self::Dropped)
    }
}

/// A moment: its place in the order, its time, and how many effects each tenant had had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) order: u64,
    pub(super) at: Duration,
    pub(super) effects: [usize; ROOMS],
}

/// One call of a client.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) process: usize,
    pub(super) worker: usize,
    pub(super) room: usize,
    pub(super) ask: Ask,
    pub(super) deadline: Option<Duration>,
    /// Whether it was made when all faults had ended.
    pub(super) calm: bool,
    pub(super) began: Mark,
    /// `None` if its process went down under it.
    pub(super) ended: Option<(Mark, Reply)>,
}

/// One request on the wire.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) order: u64,
    pub(super) at: Duration,
    pub(super) process: usize,
    pub(super) call: Option<usize>,
    pub(super) operation: &'static str,
    pub(super) resend: bool,
    /// What the client was told, and when. `None` if it had given up before.
    pub(super) answer: Option<(u64, Duration, Answer)>,
    /// When the server did it, if it did.
    pub(super) done: Option<(u64, Duration)>,
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Ok,
    Failed { kind: ErrorKind, outcome: Outcome, retry_after: Option<Duration> },
}

/// What happened to an item, as the change log has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Put { id: usize, revision: u64 },
    Vectors { id: usize, revision: u64 },
    Delete { id: usize },
    Other,
}

/// What one execution of a request did to a tenant's items, whole.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) order: u64,
    pub(super) call: Option<usize>,
    pub(super) commit: Option<CommitId>,
    /// Whether the request said that it had been sent before.
    pub(super) resend: bool,
    /// The ids whose puts brought vectors along.
    pub(super) vectors: Vec<usize>,
    /// What stands in the content that it wrote.
    pub(super) request: Option<u64>,
    pub(super) ops: Vec<(u64, Op)>,
}

/// What else the server did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Granted { name: &'static str, token: u64, until: Timestamp },
    Renewed { name: &'static str, token: u64, until: Timestamp },
    Released { name: &'static str, token: u64 },
    Fenced { token: u64 },
    SpacesSet { version: u64 },
    Acknowledged { position: u64 },
}

/// A deed, by which call, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) order: u64,
    pub(super) at: Duration,
    pub(super) call: Option<usize>,
    pub(super) deed: Deed,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Log {
    next: u64,
    pub(super) calls: Vec<Call>,
    pub(super) wires: Vec<Wire>,
    pub(super) effects: [Vec<Effect>; ROOMS],
    pub(super) deeds: Vec<Done>,
    /// When a process had closed its stack.
    pub(super) closed: BTreeMap<usize, Mark>,
    /// Crashes, closings, the calm.
    pub(super) notes: Vec<(u64, Duration, String)>,
}

impl Log {
    /// The next place in the order.
    pub(super) fn place(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn mark(&mut self, at: Duration) -> Mark {
        let effects = [self.effects[0].len(), self.effects[1].len()];
        Mark { order: self.place(), at, effects }
    }

    pub(super) fn note(&mut self, at: Duration, text: impl Into<String>) {
        let order = self.place();
        self.notes.push((order, at, text.into()));
    }

    /// Every entry as a line, in order.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<(u64, String)> = Vec::new();
        let mut line = |order: u64, text: String| lines.push((order, text));
        for (number, call) in self.calls.iter().enumerate() {
            let Call { process, worker, room, ask, began, .. } = call;
            let who = format!("p{process}.{worker} call {number}");
            line(began.order, format!("{:>6} {who} in {room}: {ask:?}", began.at.as_millis()));
            if let Some((mark, reply)) = &call.ended {
                line(mark.order, format!("{:>6} {who} told: {reply:?}", mark.at.as_millis()));
            }
        }
        for (number, wire) in self.wires.iter().enumerate() {
            let mut what = String::new();
            let call = wire.call.map_or_else(|| "?".to_owned(), |call| call.to_string());
            let again = if wire.resend { ", resend" } else { "" };
            let _ = write!(what, "p{} request {number} of call {call}", wire.process);
            let sent = wire.at.as_millis();
            line(wire.order, format!("{sent:>6} {what} sent: {}{again}", wire.operation));
            if let Some((order, at)) = wire.done {
                line(order, format!("{:>6} {what} done", at.as_millis()));
            }
            if let Some((order, at, answer)) = &wire.answer {
                line(*order, format!("{:>6} {what} answered: {answer:?}", at.as_millis()));
            }
        }
        for (room, effects) in self.effects.iter().enumerate() {
            for (number, effect) in effects.iter().enumerate() {
                let Effect { order, call, ops, .. } = effect;
                line(*order, format!("       effect {number} in {room} by {call:?}: {ops:?}"));
            }
        }
        for Done { order, at, call, deed } in &self.deeds {
            line(*order, format!("{:>6} deed by {call:?}: {deed:?}", at.as_millis()));
        }
        for (order, at, note) in &self.notes {
            line(*order, format!("{:>6} {note}", at.as_millis()));
        }
        lines.sort_by_key(|(order, _)| *order);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    /// A digest of every entry: the same for two runs that were the same.
    pub(super) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for line in self.lines() {
            hasher.write(line.as_bytes());
            hasher.write_u8(b'\n');
        }
        hasher.finish()
    }
}

/// The log of a run, shared by its clients and its server.
#[derive(Debug, Default)]
pub(super) struct History {
    log: Mutex<Log>,
}

impl History {
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the whole log.
    pub(super) fn take(&self) -> Log {
        std::mem::take(&mut *self.log())
    }
}

//! Commits made of numbers alone, and the ledger of what must be there after a crash.
//!
//! Every text and vector follows from a number, so that a child process can tell what it is about to
//! write in a short line. Each writer has ids of its own and one commit under way at a time: what was
//! acknowledged last for an id is what must be there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use memory_core::{
    Commit, CommitId, CommitReceipt, EmbeddingSpace, IdempotencyKey, MemoryItem, MetaKey,
    MetaValue, Metric, Precondition, Revision, Timestamp, UserId, Vectors, Write,
};
use serde::{Deserialize, Serialize};

use crate::common::{id, start};

/// Numbers of the space of all vectors.
const DIMENSIONS: u32 = 32;
/// A word of every text.
pub(crate) const COMMON: &str = "common";
/// The user whose items are erased.
pub(crate) const GHOST: &str = "ghost";
/// The writer that makes what is erased and what expires.
pub(crate) const UPKEEP: u32 = 99;
/// How long an item lives that is made to expire.
pub(crate) const BRIEF: Duration = Duration::from_secs(1);
/// Items that a writer has at the most: all of a tenant fit into one answer of a search.
const MOST: usize = 60;

/// Random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in `percent` of 100 cases.
    pub(crate) fn often(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        let count = u64::try_from(from.len()).unwrap();
        from[usize::try_from(self.below(count)).unwrap()].clone()
    }
}

pub(crate) fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("crash", "1", DIMENSIONS, Metric::Cosine).unwrap()
}

/// The word that no other text has.
pub(crate) fn word(content: u64) -> String {
    format!("xq{content}z")
}

fn text(content: u64) -> String {
    let filler = "some more words of a memory ".repeat(usize::try_from(content % 23).unwrap());
    format!("{} {COMMON} {filler}", word(content))
}

pub(crate) fn vector(number: u64) -> Vec<f32> {
    let mut dice = Dice::new(number);
    (0..DIMENSIONS)
        .map(|_| (f32::from(u16::try_from(dice.below(2_001)).unwrap()) - 1_000.0) / 1_000.0)
        .collect()
}

/// What an item is to be, in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// In its metadata.
    pub(crate) version: u64,
    pub(crate) content: u64,
    pub(crate) vector: Option<u64>,
}

impl State {
    /// Whether a record is what this says.
    pub(crate) fn is(&self, item: &MemoryItem) -> bool {
        let key = MetaKey::new("v").unwrap();
        let version = MetaValue::Int(i64::try_from(self.version).unwrap());
        item.content() == text(self.content)
            && item.metadata.get(&key) == Some(&version)
            && item.vectors.get(&space().id()).cloned() == self.vector.map(vector)
            && item.vectors.len() == usize::from(self.vector.is_some())
    }
}

/// What an item is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    /// To stay until its writer deletes it.
    Plain,
    /// To be erased with its user.
    Ghost,
    /// To expire.
    Brief,
}

/// One write of a commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PlannedWrite {
    pub(crate) id: String,
    pub(crate) role: Role,
    /// `None`: it is deleted.
    pub(crate) after: Option<State>,
    /// The revision that it replaces; `None`: it must be absent.
    pub(crate) over: Option<u64>,
    /// Whether the stored vectors stay.
    pub(crate) keep: bool,
    /// When it expires, in microseconds.
    pub(crate) expires: Option<i64>,
}

/// A commit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Planned {
    pub(crate) tenant: String,
    pub(crate) number: u64,
    /// Whether it carries an idempotency key.
    pub(crate) keyed: bool,
    pub(crate) writes: Vec<PlannedWrite>,
}

impl Planned {
    pub(crate) fn commit(&self) -> Commit {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        let writes = self.writes.iter().map(PlannedWrite::write).collect();
        let key = self
            .keyed
            .then(|| IdempotencyKey::new(format!("key-{}", self.number), [bytes[7]; 32]).unwrap());
        Commit::new(CommitId::from_bytes(bytes), writes).with_idempotency(key)
    }
}

impl PlannedWrite {
    fn write(&self) -> Write {
        let over = self.over.map(|number| Precondition::Revision(Revision::from_number(number)));
        let Some(after) = &self.after else {
            return Write::delete(id(&self.id), over.unwrap_or_default());
        };
        let mut item = MemoryItem::new(id(&self.id), text(after.content), start()).unwrap();
        let user = if self.role == Role::Ghost { GHOST } else { "ada" };
        item = item.with_user(UserId::new(user).unwrap());
        item.expires_at = self.expires.map(|micros| Timestamp::from_micros(micros).unwrap());
        let version = i64::try_from(after.version).unwrap();
        item.metadata.insert(MetaKey::new("v").unwrap(), MetaValue::Int(version));
        let vectors = if self.keep {
            Vectors::Keep
        } else {
            let vectors = after.vector.map(|number| (space().id(), vector(number)));
            Vectors::Replace(vectors.into_iter().collect())
        };
        Write::put(item, vectors, over.unwrap_or(Precondition::Absent))
    }
}

/// What the store answered to a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ack {
    /// Of each write; `None` for a delete.
    pub(crate) revisions: Vec<Option<u64>>,
    pub(crate) position: u64,
}

impl Ack {
    pub(crate) fn of(receipt: &CommitReceipt) -> Self {
        let number = |revision: &Revision| revision.as_str().parse().unwrap();
        Self {
            revisions: receipt
                .results
                .iter()
                .map(|result| result.revision.as_ref().map(number))
                .collect(),
            position: receipt.position.unwrap().0,
        }
    }
}

/// An acknowledged commit since the last check.
#[derive(Clone, Debug)]
pub(crate) struct Acked {
    pub(crate) writer: u32,
    pub(crate) planned: Planned,
    pub(crate) ack: Ack,
}

/// How a commit stands of which no acknowledgement came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It may be there, whole, or not.
    Open,
    /// The store said that it did not happen.
    Denied,
}

/// What must be there of an id.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) role: Role,
    pub(crate) writer: u32,
    /// With its revision; `None`: it is not there.
    pub(crate) state: Option<(State, u64)>,
    /// The acknowledged commit since the last check that wrote it, by its place.
    pub(crate) by: Option<usize>,
    /// The content that this commit replaced.
    pub(crate) former: Option<u64>,
}

/// What was promised.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    /// By tenant and id.
    pub(crate) entries: BTreeMap<(String, String), Entry>,
    /// Since the last check.
    pub(crate) acked: Vec<Acked>,
    /// Of each writer, the commit without an acknowledgement.
    pub(crate) flying: BTreeMap<u32, (Planned, Fate)>,
    /// Tenants whose space was set and acknowledged.
    pub(crate) spaces: BTreeSet<String>,
    /// Tenants of which something was begun since the last check that resets the change log.
    pub(crate) resets: BTreeSet<String>,
    /// Whether an erasure was begun since the last check, and whether the last one is under way.
    pub(crate) erased: bool,
    pub(crate) erasing: bool,
    /// Of each tenant, how far its change log was checked.
    pub(crate) checked_to: BTreeMap<String, u64>,
    /// What ids begin with.
    pub(crate) prefix: String,
    last: u64,
}

pub(crate) fn tenant_of(writer: u32) -> String {
    if writer == UPKEEP { "t0".to_owned() } else { format!("t{}", writer % 2) }
}

impl Ledger {
    fn next(&mut self, writer: u32) -> u64 {
        self.last += 1;
        (u64::from(writer) << 40) | self.last
    }

    fn name(&mut self, kind: &str, writer: u32) -> String {
        let number = self.next(writer);
        format!("{}{kind}-{number}", self.prefix)
    }

    /// An empty one that counts from a number that none before has reached, for another process.
    pub(crate) fn of_round(round: u64) -> Self {
        Self { prefix: format!("r{round}-"), last: round << 20, ..Self::default() }
    }

    fn mine(&self, writer: u32, there: bool) -> Vec<String> {
        let tenant = tenant_of(writer);
        let entries = self.entries.iter();
        entries
            .filter(|((of, id), entry)| {
                *of == tenant
                    && entry.writer == writer
                    && entry.role == Role::Plain
                    && entry.state.is_some() == there
                    && id.starts_with(&self.prefix)
            })
            .map(|((_, id), _)| id.clone())
            .collect()
    }

    /// The next commit of a writer, noted as under way.
    pub(crate) fn plan(&mut self, writer: u32, dice: &mut Dice) -> Planned {
        let mut writes: Vec<PlannedWrite> = Vec::new();
        let (there, gone) = (self.mine(writer, true), self.mine(writer, false));
        for _ in 0..1 + dice.below(5) {
            let new = there.len() < 8 || (there.len() + writes.len() < MOST && dice.often(35));
            let name = match new {
                true if !gone.is_empty() && dice.often(25) => dice.pick(&gone),
                true => self.name(&format!("w{writer}"), writer),
                false => dice.pick(&there),
            };
            if writes.iter().any(|write| write.id == name) {
                continue;
            }
            writes.push(self.one(writer, name, Role::Plain, dice));
        }
        self.fly(writer, writes, dice.often(60))
    }

    /// Some items to be erased, or to expire, noted as under way.
    pub(crate) fn plan_upkeep(&mut self, role: Role, now: Timestamp, dice: &mut Dice) -> Planned {
        let expires = (role == Role::Brief).then(|| now.saturating_add(BRIEF).as_micros());
        let writes = (0..1 + dice.below(4))
            .map(|_| {
                let name = self.name("u", UPKEEP);
                PlannedWrite { expires, ..self.one(UPKEEP, name, role, dice) }
            })
            .collect();
        self.fly(UPKEEP, writes, false)
    }

    fn fly(&mut self, writer: u32, writes: Vec<PlannedWrite>, keyed: bool) -> Planned {
        let tenant = tenant_of(writer);
        let planned = Planned { tenant, number: self.next(writer), keyed, writes };
        self.begin(writer, planned.clone());
        planned
    }

    fn one(&mut self, writer: u32, id: String, role: Role, dice: &mut Dice) -> PlannedWrite {
        let number = self.next(writer);
        let fresh =
            State { version: number, content: number, vector: dice.often(80).then_some(number) };
        let known = self.entries.get(&(tenant_of(writer), id.clone()));
        let known = known.and_then(|entry| entry.state.clone());
        let over = known.as_ref().map(|(_, revision)| *revision);
        let (after, keep) = match known {
            None => (Some(fresh), false),
            Some((before, _)) => match dice.below(10) {
                0..3 => (None, false),
                // The same text and vector under other metadata.
                3..6 => (Some(State { version: number, ..before }), true),
                _ => (Some(fresh), false),
            },
        };
        PlannedWrite { id, role, after, over, keep, expires: None }
    }

    /// A commit is about to be sent.
    pub(crate) fn begin(&mut self, writer: u32, planned: Planned) {
        let before = self.flying.insert(writer, (planned, Fate::Open));
        assert!(before.is_none(), "a writer has one commit under way");
    }

    /// A commit was acknowledged.
    pub(crate) fn ack(&mut self, writer: u32, ack: Ack) {
        let (planned, _) = self.flying.remove(&writer).expect("it was begun");
        let place = self.acked.len();
        for (write, revision) in planned.writes.iter().zip(&ack.revisions) {
            self.settle(writer, &planned.tenant, write, *revision, Some(place));
        }
        self.acked.push(Acked { writer, planned, ack });
    }

    /// Notes what a write has left.
    pub(crate) fn settle(
        &mut self,
        writer: u32,
        tenant: &str,
        write: &PlannedWrite,
        revision: Option<u64>,
        by: Option<usize>,
    ) {
        let key = (tenant.to_owned(), write.id.clone());
        let former = self.entries.get(&key).and_then(|entry| entry.state.clone());
        let former = former.map(|(state, _)| state.content);
        let state = write.after.clone().zip(revision);
        let former = former.filter(|old| state.as_ref().is_none_or(|(new, _)| new.content != *old));
        self.entries.insert(key, Entry { role: write.role, writer, state, by, former });
    }

    /// A commit failed.
    pub(crate) fn fail(&mut self, writer: u32, fate: Fate) {
        if let Some((_, now)) = self.flying.get_mut(&writer) {
            *now = fate;
        }
    }

    /// An erasure of the ghost begins.
    pub(crate) fn begin_erasure(&mut self) {
        self.resets.insert(tenant_of(UPKEEP));
        self.erased = true;
        self.erasing = true;
    }

    /// It was acknowledged.
    pub(crate) fn end_erasure(&mut self) {
        self.erasing = false;
        for entry in self.entries.values_mut().filter(|entry| entry.role == Role::Ghost) {
            entry.state = None;
        }
    }

    /// What was checked is the past.
    pub(crate) fn settled(&mut self) {
        self.acked.clear();
        self.flying.clear();
        self.resets.clear();
        self.erased = false;
        self.erasing = false;
        // Of what was erased or has expired nothing more is to be seen.
        self.entries.retain(|_, entry| match entry.role {
            Role::Plain => true,
            Role::Ghost => entry.state.is_some(),
            Role::Brief => false,
        });
        for entry in self.entries.values_mut() {
            (entry.by, entry.former) = (None, None);
        }
    }
}

//! The simulated server: the reference store, and a book of what it did.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory_core::traits::{
    ChangeLog, ChangeOp, ChangePosition, FencingToken, Lease, LeaseStore, RecordStore, StoreMeta,
    TenantSpaces, UpsertOutcome, VectorEntry, VectorIndex,
};
use memory_core::{
    CallContext, Clock, Commit, CommitReceipt, ConsumerName, EmbeddingSpace, LeaseName, MemoryId,
    MemoryItem, Metric, Projection, Result, TenantId, Vectors, Write, WriteResult,
};

use super::clock::SimClock;
use super::faults::{FaultCounts, FaultKind};
use super::history::{Deed, Done, Effect, History, Op, ROOMS, id_number};
use super::weather::{Fate, Weather};
use crate::generators::Generator;
use crate::reference::ReferenceStore;

/// A planted fault of the server or of the link to it: what a back end must never do. Each breaks
/// one promise, so that the checker has to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Flaw {
    /// A commit that is sent again does not recognise its own work.
    CommitIdsForgotten,
    /// Idempotency keys are not looked at.
    KeysForgotten,
    /// Write fences keep nobody out.
    FencesIgnored,
    /// A lease is granted while somebody holds it.
    LeasesForgotten,
    /// Some deletes are acknowledged and never done.
    DeletesLost,
    /// Some reads are answered from an earlier answer.
    StaleReads,
    /// Some commits are applied in part.
    HalfCommits,
    /// A lost answer is reported as a call that certainly did nothing.
    LossReportedAsFailure,
}

impl Flaw {
    /// Every flaw.
    pub const ALL: [Self; 8] = [
        Self::CommitIdsForgotten,
        Self::KeysForgotten,
        Self::FencesIgnored,
        Self::LeasesForgotten,
        Self::DeletesLost,
        Self::StaleReads,
        Self::HalfCommits,
        Self::LossReportedAsFailure,
    ];

    /// The stable name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CommitIdsForgotten => "commit_ids_forgotten",
            Self::KeysForgotten => "keys_forgotten",
            Self::FencesIgnored => "fences_ignored",
            Self::LeasesForgotten => "leases_forgotten",
            Self::DeletesLost => "deletes_lost",
            Self::StaleReads => "stale_reads",
            Self::HalfCommits => "half_commits",
            Self::LossReportedAsFailure => "loss_reported_as_failure",
        }
    }
}

/// Names of tenants, by room.
const TENANTS: [&str; ROOMS] = ["open", "fenced"];
/// Names of leases.
pub(super) const LEASES: [&str; 2] = ["sweeper", "embedder"];

/// The context of a room.
#[expect(clippy::expect_used, reason = "a fixed name passes the id rules")]
pub(super) fn room_context(room: usize) -> CallContext {
    CallContext::new(TenantId::new(TENANTS[room]).expect("a fixed name"))
}

/// The room of a context.
pub(super) fn room_of(context: &CallContext) -> usize {
    usize::from(context.tenant.as_str() == TENANTS[1])
}

/// The space of all vectors.
#[expect(clippy::expect_used, reason = "a fixed space passes the rules")]
pub(super) fn space() -> EmbeddingSpace {
    EmbeddingSpace::new("sim", "1", 2, Metric::Cosine).expect("a fixed space")
}

/// The request in an item's content.
pub(super) fn request_of(item: &MemoryItem) -> Option<u64> {
    item.content().strip_prefix("memory r")?.parse().ok()
}

/// The name of a lease as one of [`LEASES`].
fn lease_name(name: &LeaseName) -> &'static str {
    LEASES.into_iter().find(|one| *one == name.as_str()).unwrap_or("?")
}

/// One request on its way through the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) wire: usize,
    pub(super) call: Option<usize>,
}

#[derive(Debug)]
struct Chance {
    weather: Weather,
    random: Generator,
    counts: FaultCounts,
    /// The highest number of a request that has been done.
    newest: usize,
    /// The newest change of each room that has been noted.
    heads: [ChangePosition; ROOMS],
    /// What [`Flaw::StaleReads`] answers from.
    old: Option<(Vec<MemoryId>, Vec<Option<MemoryItem>>)>,
}

/// The server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) store: ReferenceStore,
    pub(super) clock: Arc<SimClock>,
    pub(super) history: Arc<History>,
    pub(super) flaw: Option<Flaw>,
    chance: Mutex<Chance>,
}

impl Server {
    /// A server with both tenants set up, and the consumers of the change log registered.
    pub(super) async fn new(
        clock: Arc<SimClock>,
        history: Arc<History>,
        flaw: Option<Flaw>,
        mut random: Generator,
        consumers: &[ConsumerName],
    ) -> Result<Self> {
        let store = ReferenceStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        for room in 0..ROOMS {
            let context = room_context(room);
            let spaces = TenantSpaces { active: Some(space()), next: None, version: 0 };
            store.set_spaces(&context, &spaces).await?;
            for consumer in consumers {
                store.acknowledge(&context, consumer, ChangePosition(0)).await?;
            }
        }
        let chance = Chance {
            weather: Weather::draw(&mut random),
            random,
            counts: FaultCounts::default(),
            newest: 0,
            heads: [ChangePosition(0); ROOMS],
            old: None,
        };
        Ok(Self { store, clock, history, flaw, chance: Mutex::new(chance) })
    }

    fn chance(&self) -> MutexGuard<'_, Chance> {
        self.chance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn at(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(super) fn count(&self, kind: FaultKind) {
        self.chance().counts.count(kind);
    }

    pub(super) fn counts(&self) -> FaultCounts {
        self.chance().counts.clone()
    }

    /// What becomes of a request that is sent now.
    pub(super) fn fate(&self) -> Fate {
        let chance = &mut *self.chance();
        chance.weather.fate(&mut chance.random, self.at())
    }

    pub(super) fn is_up(&self) -> bool {
        self.chance().weather.is_up(self.at())
    }

    /// Stops every fault.
    pub(super) fn calm(&self) {
        self.chance().weather.calm();
        self.history.log().note(self.at(), "all faults have stopped");
    }

    /// Notes that a request has been done, or is about to be.
    pub(super) fn executed(&self, ticket: Ticket, client_gone: bool) {
        let mut chance = self.chance();
        if ticket.wire < chance.newest {
            chance.counts.count(FaultKind::Overtaken);
        }
        if client_gone {
            chance.counts.count(FaultKind::TooLate);
        }
        chance.newest = chance.newest.max(ticket.wire);
        drop(chance);
        let mut log = self.history.log();
        let order = log.place();
        log.wires[ticket.wire].done = Some((order, self.at()));
    }

    /// Whether a flaw of this kind strikes now.
    fn strikes(&self, flaw: Flaw, one_in: usize) -> bool {
        self.flaw == Some(flaw) && self.chance().random.below(one_in) == 0
    }

    /// The token of the newest grant of a name; 0 if there was none.
    fn newest_token(&self, name: &LeaseName) -> u64 {
        let log = self.history.log();
        let tokens = log.deeds.iter().rev().filter_map(|done| match done.deed {
            Deed::Granted { name: one, token, .. } if one == name.as_str() => Some(token),
            _ => None,
        });
        tokens.max().unwrap_or(0)
    }

    fn deed(&self, ticket: Ticket, deed: Deed) {
        let mut log = self.history.log();
        let order = log.place();
        log.deeds.push(Done { order, at: self.at(), call: ticket.call, deed });
    }

    /// Notes as one effect whatever the change log has that has not been noted.
    async fn note_changes(&self, ticket: Ticket, context: &CallContext, commit: Option<&Commit>) {
        let room = room_of(context);
        let after = self.chance().heads[room];
        let context = room_context(room);
        let Ok(batch) = self.store.read_changes(&context, after, 10_000).await else { return };
        self.chance().heads[room] = batch.head;
        if batch.changes.is_empty() {
            return;
        }
        let ops = batch.changes.iter().map(|change| (change.position.0, op(&change.op))).collect();
        let (mut vectors, mut request) = (Vec::new(), None);
        for write in commit.iter().flat_map(|commit| &commit.writes) {
            if let Write::Put(put) = write {
                request = request_of(&put.item);
                if matches!(&put.vectors, Vectors::Replace(vectors) if !vectors.is_empty()) {
                    vectors.extend(id_number(&put.item.id));
                }
            }
        }
        let resend = commit.is_some_and(|commit| commit.resend);
        let commit = commit.map(|commit| commit.id);
        let mut log = self.history.log();
        let order = log.place();
        let effect = Effect { order, call: ticket.call, commit, resend, vectors, request, ops };
        log.effects[room].push(effect);
    }

    pub(super) async fn commit(
        &self,
        ticket: Ticket,
        mut context: CallContext,
        mut commit: Commit,
    ) -> Result<CommitReceipt> {
        let sent = commit.clone();
        if self.flaw == Some(Flaw::CommitIdsForgotten) {
            commit.resend = false;
        }
        if self.flaw == Some(Flaw::KeysForgotten) {
            commit.idempotency = None;
        }
        if self.flaw == Some(Flaw::FencesIgnored) {
            context.fence = Some(FencingToken(u64::MAX));
        }
        if let [Write::Delete(delete)] = commit.writes.as_slice()
            && self.strikes(Flaw::DeletesLost, 4)
        {
            let result = WriteResult { id: delete.id.clone(), revision: None, existed: true };
            let position = Some(self.chance().heads[room_of(&context)]);
            return Ok(CommitReceipt { results: vec![result], position, replayed: false });
        }
        let half = commit.writes.len() > 1 && self.strikes(Flaw::HalfCommits, 2);
        let rest = if half { commit.writes.split_off(1) } else { Vec::new() };
        let mut answer = self.store.commit(&context, commit).await;
        if let (Ok(receipt), true) = (&mut answer, half) {
            receipt.results.extend(rest.iter().map(|write| WriteResult {
                id: write.id().clone(),
                revision: None,
                existed: false,
            }));
        }
        self.note_changes(ticket, &context, Some(&sent)).await;
        answer
    }

    pub(super) async fn fetch(
        &self,
        context: CallContext,
        ids: Vec<MemoryId>,
        projection: Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        if room_of(&context) == 0
            && self.strikes(Flaw::StaleReads, 4)
            && let Some((old, items)) = &self.chance().old
            && *old == ids
        {
            return Ok(items.clone());
        }
        let items = self.store.fetch(&context, &ids, &projection).await?;
        if self.flaw == Some(Flaw::StaleReads) && room_of(&context) == 0 {
            self.chance().old = Some((ids, items.clone()));
        }
        Ok(items)
    }

    pub(super) async fn upsert(
        &self,
        ticket: Ticket,
        context: CallContext,
        space: EmbeddingSpace,
        entries: Vec<VectorEntry>,
    ) -> Result<Vec<UpsertOutcome>> {
        let answer = VectorIndex::upsert(&self.store, &context, &space, &entries).await;
        self.note_changes(ticket, &context, None).await;
        answer
    }

    pub(super) async fn acquire(
        &self,
        ticket: Ticket,
        context: CallContext,
        name: LeaseName,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let mut answer = self.store.acquire(&context, &name, life).await?;
        if answer.is_none() && self.strikes(Flaw::LeasesForgotten, 4) {
            let token = FencingToken(self.newest_token(&name));
            let held = Lease { name: name.clone(), token, expires_at: self.clock.now() };
            self.store.release(&context, &held).await?;
            answer = self.store.acquire(&context, &name, life).await?;
        }
        if let Some(lease) = &answer {
            let (token, until) = (lease.token.0, lease.expires_at);
            self.deed(ticket, Deed::Granted { name: lease_name(&name), token, until });
        }
        Ok(answer)
    }

    pub(super) async fn renew(
        &self,
        ticket: Ticket,
        context: CallContext,
        lease: Lease,
        life: Duration,
    ) -> Result<Option<Lease>> {
        let answer = self.store.renew(&context, &lease, life).await?;
        if let Some(lease) = &answer {
            let (token, until) = (lease.token.0, lease.expires_at);
            self.deed(ticket, Deed::Renewed { name: lease_name(&lease.name), token, until });
        }
        Ok(answer)
    }

    pub(super) async fn release(
        &self,
        ticket: Ticket,
        context: CallContext,
        lease: Lease,
    ) -> Result<()> {
        self.store.release(&context, &lease).await?;
        let name = lease_name(&lease.name);
        self.deed(ticket, Deed::Released { name, token: lease.token.0 });
        Ok(())
    }

    pub(super) async fn set_fence(
        &self,
        ticket: Ticket,
        context: CallContext,
        fence: Option<FencingToken>,
    ) -> Result<()> {
        self.store.set_write_fence(&context, fence).await?;
        if let Some(FencingToken(token)) = fence {
            self.deed(ticket, Deed::Fenced { token });
        }
        Ok(())
    }

    pub(super) async fn set_spaces(
        &self,
        ticket: Ticket,
        context: CallContext,
        spaces: TenantSpaces,
    ) -> Result<TenantSpaces> {
        let answer = self.store.set_spaces(&context, &spaces).await?;
        self.deed(ticket, Deed::SpacesSet { version: answer.version });
        Ok(answer)
    }

    pub(super) async fn acknowledge(
        &self,
        ticket: Ticket,
        context: CallContext,
        consumer: ConsumerName,
        position: ChangePosition,
    ) -> Result<()> {
        self.store.acknowledge(&context, &consumer, position).await?;
        self.deed(ticket, Deed::Acknowledged { position: position.0 });
        Ok(())
    }
}

/// An entry of the change log, by numbers.
pub(super) fn op(op: &ChangeOp) -> Op {
    let number = |revision: &memory_core::Revision| revision.as_str().parse().unwrap_or(0);
    let known = match op {
        ChangeOp::Put(id, revision) => {
            id_number(id).map(|id| Op::Put { id, revision: number(revision) })
        }
        ChangeOp::Vectors(id, revision) => {
            id_number(id).map(|id| Op::Vectors { id, revision: number(revision) })
        }
        ChangeOp::Delete(id) => id_number(id).map(|id| Op::Delete { id }),
        ChangeOp::Reset => None,
    };
    known.unwrap_or(Op::Other)
}

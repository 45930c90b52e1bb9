//! What workers do: calls of every kind, on few ids, so that they are in each other's way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use memory_core::traits::{
    ChangePosition, FencingToken, KeywordQuery, TenantSpaces, UpsertOutcome, VectorEntry,
    VectorQuery,
};
use memory_core::{
    Clock as _, Commit, CommitId, CommitReceipt, Filter, IdSource as _, IdempotencyKey, LeaseName,
    MemoryId, MemoryItem, Order, Precondition, Projection, Query, Result, Revision, UserId,
    Vectors, Write,
};

use super::clock::SimIds;
use super::history::{Ask, IDS, Pre, Reply, Sight, Wish, id_number, id_text};
use super::server::{LEASES, op, request_of, space};
use super::worker::{Pending, Worker};

/// Entries of the change log in one read.
const BATCH: u32 = 12;

fn number(revision: &Revision) -> u64 {
    revision.as_str().parse().unwrap_or(0)
}

fn id_of(number: usize) -> Result<MemoryId> {
    MemoryId::new(id_text(number))
}

fn sight(item: &MemoryItem) -> Sight {
    (item.revision.as_ref().map_or(0, number), request_of(item))
}

fn committed(receipt: &CommitReceipt) -> Reply {
    let result =
        |result: &memory_core::WriteResult| (result.revision.as_ref().map(number), result.existed);
    Reply::Committed {
        results: receipt.results.iter().map(result).collect(),
        position: receipt.position.unwrap_or_default().0,
        replayed: receipt.replayed,
    }
}

impl Worker {
    /// Does its steps until there are none left or the process closes.
    pub(super) async fn work(mut self) -> Self {
        while self.goes_on() {
            let pause = Duration::from_millis(self.random.below(120) as u64);
            tokio::time::sleep(pause).await;
            // An answer of any kind has been written down; there is nothing else to do about it.
            let _ = Box::pin(self.step()).await;
        }
        if self.closing.load(Ordering::Relaxed) {
            let _ = self.fetch(0).await;
        }
        self
    }

    async fn step(&mut self) -> Result<()> {
        match self.random.below(100) {
            0..8 => self.create().await,
            8..14 => self.put().await,
            14..26 => self.swap(0, None).await,
            26..34 => self.delete().await,
            34..42 => self.many().await,
            42..51 => self.keyed().await,
            51..56 => self.again().await,
            56..66 => self.fetch(0).await,
            66..70 => self.query().await,
            70..72 => self.count().await,
            72..75 => self.vector_search().await,
            75..78 => self.keyword_search().await,
            78..82 => self.upsert().await,
            82..88 => {
                let room = self.random.below(2);
                self.consume(room).await.map(|_| ())
            }
            88..91 => self.swap_spaces().await,
            _ => self.leased().await,
        }
    }

    /// What it does when all faults have ended, each of which has to succeed.
    pub(super) async fn prove(&mut self) -> Result<()> {
        self.calm = true;
        self.lease = None;
        self.put().await?;
        self.fetch(0).await?;
        self.query().await?;
        self.count().await?;
        self.vector_search().await?;
        self.keyword_search().await?;
        self.acquire(LEASES[0]).await?;
        for room in 0..2 {
            while !self.consume(room).await? {}
        }
        Ok(())
    }

    /// One read, which a closed stack has to turn away.
    pub(super) async fn knock(&mut self) {
        self.calm = false;
        let _ = self.fetch(0).await;
    }

    fn request(&self) -> u64 {
        self.world.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn some_id(&mut self) -> usize {
        // The first two are hot.
        if self.random.below(2) == 0 { self.random.below(2) } else { self.random.below(IDS) }
    }

    fn wish(&mut self, put: bool, pre: Pre) -> Wish {
        Wish { id: self.some_id(), put, vector: put && self.random.below(2) == 0, pre }
    }

    async fn create(&mut self) -> Result<()> {
        let wish = self.wish(true, Pre::Absent);
        self.commit(0, vec![wish], None, None).await
    }

    async fn put(&mut self) -> Result<()> {
        let wish = self.wish(true, Pre::Any);
        self.commit(0, vec![wish], None, None).await
    }

    async fn swap(&mut self, room: usize, token: Option<u64>) -> Result<()> {
        let mut wish = self.wish(true, Pre::Any);
        match self.known[room][wish.id] {
            Some(revision) => wish.pre = Pre::At(revision),
            None if token.is_some() => {}
            None => return self.fetch(room).await,
        }
        self.commit(room, vec![wish], None, token).await
    }

    async fn delete(&mut self) -> Result<()> {
        let mut wish = self.wish(false, Pre::Any);
        if let (Some(revision), true) = (self.known[0][wish.id], self.random.below(2) == 0) {
            wish.pre = Pre::At(revision);
        }
        self.commit(0, vec![wish], None, None).await
    }

    async fn many(&mut self) -> Result<()> {
        let first = self.wish(true, Pre::Any);
        let put = self.random.below(3) > 0;
        let mut second = self.wish(put, Pre::Any);
        if second.id == first.id {
            second.id = (second.id + 1) % IDS;
        }
        let mut wishes = vec![first, second];
        for wish in &mut wishes {
            if let (Some(revision), true) = (self.known[0][wish.id], self.random.below(3) == 0) {
                wish.pre = Pre::At(revision);
            }
        }
        self.commit(0, wishes, None, None).await
    }

    async fn keyed(&mut self) -> Result<()> {
        let pre = *self.random.pick(&[Pre::Any, Pre::Any, Pre::Absent]);
        let wish = self.wish(true, pre);
        let request = self.request();
        self.kept().pending.push(Pending { request, wishes: vec![wish], left: 3 });
        self.send_pending().await
    }

    /// A request under a key once more: its caller, who may have crashed, does not know whether
    /// it happened.
    async fn again(&mut self) -> Result<()> {
        if self.kept().pending.is_empty() { self.keyed().await } else { self.send_pending().await }
    }

    async fn send_pending(&mut self) -> Result<()> {
        let Some(mut pending) = self.kept().pending.pop() else { return Ok(()) };
        if pending.left == 0 {
            return Ok(());
        }
        pending.left -= 1;
        self.kept().pending.push(pending.clone());
        let answer = self.commit(0, pending.wishes, Some(pending.request), None).await;
        // Now and then a request that has succeeded is sent again all the same.
        if answer.is_ok() && self.random.below(3) > 0 {
            self.kept().pending.retain(|one| one.request != pending.request);
        }
        answer
    }

    fn commit_of(
        &mut self,
        id: CommitId,
        request: u64,
        keyed: bool,
        wishes: &[Wish],
    ) -> Result<Commit> {
        let mut writes = Vec::new();
        for wish in wishes {
            let precondition = match wish.pre {
                Pre::Any => Precondition::Any,
                Pre::Absent => Precondition::Absent,
                Pre::At(revision) => Precondition::Revision(Revision::from_number(revision)),
            };
            writes.push(if wish.put {
                let text = format!("memory r{request}");
                let item = MemoryItem::new(id_of(wish.id)?, text, self.world.server.clock.now())?
                    .with_user(UserId::new("ada")?);
                let vector = wish.vector.then(|| (space().id(), vec![1.0, self.random.unit()]));
                Write::put(item, Vectors::Replace(vector.into_iter().collect()), precondition)
            } else {
                Write::delete(id_of(wish.id)?, precondition)
            });
        }
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&request.to_be_bytes());
        let key = keyed.then(|| IdempotencyKey::new(format!("k{request}"), digest)).transpose()?;
        Ok(Commit::new(id, writes).with_idempotency(key))
    }

    async fn commit(
        &mut self,
        room: usize,
        wishes: Vec<Wish>,
        keyed: Option<u64>,
        token: Option<u64>,
    ) -> Result<()> {
        let id = SimIds::new(self.random.bits()).commit_id();
        let request = keyed.unwrap_or_else(|| self.request());
        let commit = self.commit_of(id, request, keyed.is_some(), &wishes)?;
        let context = self.context(room).with_fence(token.map(FencingToken));
        let records = Arc::clone(&self.parts.records);
        let keyed = keyed.is_some();
        let ask = Ask::Commit { id, request, keyed, wishes: wishes.clone(), token };
        let future = records.commit(&context, commit);
        let Some(answer) = self.call(&context, ask, future, committed).await else {
            return Ok(());
        };
        let receipt = answer?;
        for (wish, result) in wishes.iter().zip(&receipt.results) {
            self.known[room][wish.id] = result.revision.as_ref().map(number);
        }
        Ok(())
    }

    async fn fetch(&mut self, room: usize) -> Result<()> {
        let mut ids: Vec<usize> = (0..IDS).filter(|_| self.random.below(2) == 0).collect();
        if self.random.below(2) == 0 {
            ids = vec![self.some_id()];
        }
        if ids.is_empty() {
            ids.push(0);
        }
        let texts = ids.iter().map(|id| id_of(*id)).collect::<Result<Vec<_>>>()?;
        let context = self.context(room);
        let records = Arc::clone(&self.parts.records);
        let projection = Projection::full();
        let future = records.fetch(&context, &texts, &projection);
        let ask = Ask::Fetch { ids: ids.clone() };
        let seen = |items: &Vec<Option<MemoryItem>>| {
            Reply::Seen(
                ids.iter()
                    .copied()
                    .zip(items.iter().map(|item| item.as_ref().map(sight)))
                    .collect(),
            )
        };
        let Some(answer) = self.call(&context, ask, future, seen).await else { return Ok(()) };
        for (id, item) in ids.into_iter().zip(answer?) {
            self.known[room][id] = item.map(|item| sight(&item).0);
        }
        Ok(())
    }

    async fn query(&mut self) -> Result<()> {
        let context = self.context(0);
        let records = Arc::clone(&self.parts.records);
        let query = Query::new(100).with_order(Order::BY_ID);
        let future = records.query(&context, &query);
        let seen = |page: &memory_core::Page| {
            let one = |item: &MemoryItem| Some((id_number(&item.id)?, Some(sight(item))));
            Reply::Seen(page.items.iter().filter_map(one).collect())
        };
        let answer = self.call(&context, Ask::Query, future, seen).await;
        answer.transpose().map(|_| ())
    }

    async fn count(&mut self) -> Result<()> {
        let context = self.context(0);
        let records = Arc::clone(&self.parts.records);
        let future = records.count(&context, &Filter::All);
        let answer = self.call(&context, Ask::Count, future, |count| Reply::Count(*count)).await;
        answer.transpose().map(|_| ())
    }

    async fn vector_search(&mut self) -> Result<()> {
        let context = self.context(0);
        let vectors = Arc::clone(&self.parts.vectors);
        let query = VectorQuery::new(space(), vec![1.0, 0.5], 100);
        let future = vectors.search(&context, &query);
        let answer = self.call(&context, Ask::VectorSearch, future, hits).await;
        answer.transpose().map(|_| ())
    }

    async fn keyword_search(&mut self) -> Result<()> {
        let context = self.context(0);
        let keywords = Arc::clone(&self.parts.keywords);
        let query = KeywordQuery::new("memory", 100);
        let future = keywords.search(&context, &query);
        let answer = self.call(&context, Ask::KeywordSearch, future, hits).await;
        answer.transpose().map(|_| ())
    }

    async fn upsert(&mut self) -> Result<()> {
        let id = self.some_id();
        let Some(revision) = self.known[0][id] else { return self.fetch(0).await };
        let context = self.context(0);
        let vectors = Arc::clone(&self.parts.vectors);
        let entry = VectorEntry {
            id: id_of(id)?,
            revision: Revision::from_number(revision),
            vector: vec![1.0, self.random.unit()],
        };
        let (entries, space) = ([entry], space());
        let future = vectors.upsert(&context, &space, &entries);
        let upserted = |outcomes: &Vec<UpsertOutcome>| Reply::Upserted {
            stored: outcomes.first() == Some(&UpsertOutcome::Stored),
        };
        let ask = Ask::Upsert { id, revision };
        self.call(&context, ask, future, upserted).await.transpose().map(|_| ())
    }

    /// Reads on in the change log and acknowledges; whether it has read all of it.
    async fn consume(&mut self, room: usize) -> Result<bool> {
        let changes = Arc::clone(&self.parts.changes);
        let name = Self::consumer(self.number);
        let context = self.context(room);
        let Some(after) = self.positions[room] else {
            let own = |map: &std::collections::BTreeMap<_, ChangePosition>| {
                Reply::Position(map.get(&name).map(|position| position.0))
            };
            let future = changes.consumers(&context);
            let answer = self.call(&context, Ask::Position, future, own).await;
            if let Some(map) = answer.transpose()? {
                self.positions[room] = map.get(&name).map(|position| position.0);
            }
            return Ok(false);
        };
        let read = |batch: &memory_core::traits::ChangeBatch| Reply::Changes {
            changes: batch.changes.iter().map(|one| (one.position.0, op(&one.op))).collect(),
            head: batch.head.0,
            gap: batch.gap,
        };
        let ask = Ask::ReadChanges { after, limit: BATCH };
        let future = changes.read_changes(&context, ChangePosition(after), BATCH);
        let Some(batch) = self.call(&context, ask, future, read).await.transpose()? else {
            return Ok(false);
        };
        let Some(last) = batch.changes.last() else { return Ok(true) };
        let position = last.position;
        self.positions[room] = Some(position.0);
        let context = self.context(room);
        let ask = Ask::Acknowledge { position: position.0 };
        let future = changes.acknowledge(&context, &name, position);
        self.call(&context, ask, future, |()| Reply::Done).await.transpose()?;
        Ok(batch.head <= position)
    }

    /// Names the tenant's spaces anew, as they are, if nobody else has meanwhile.
    async fn swap_spaces(&mut self) -> Result<()> {
        let meta = Arc::clone(&self.parts.meta);
        let context = self.context(0);
        let version = |spaces: &TenantSpaces| Reply::Version(spaces.version);
        let future = meta.spaces(&context);
        let answer = self.call(&context, Ask::Spaces, future, version).await;
        let Some(spaces) = answer.transpose()? else { return Ok(()) };
        let context = self.context(0);
        let ask = Ask::SetSpaces { version: spaces.version };
        let future = meta.set_spaces(&context, &spaces);
        self.call(&context, ask, future, version).await.transpose().map(|_| ())
    }

    async fn acquire(&mut self, name: &'static str) -> Result<()> {
        let life = Duration::from_millis(200 + self.random.below(3_000) as u64);
        let context = self.context(1);
        let leases = Arc::clone(&self.parts.leases);
        let lease_name = LeaseName::new(name)?;
        let future = leases.acquire(&context, &lease_name, life);
        let answer = self.call(&context, Ask::Acquire { name }, future, granted).await;
        let Some(lease) = answer.transpose()?.flatten() else { return Ok(()) };
        let token = lease.token;
        self.lease = Some((name, lease));
        if name != LEASES[0] {
            return Ok(());
        }
        let context = self.context(1);
        let future = leases.set_write_fence(&context, Some(token));
        let ask = Ask::SetFence { token: token.0 };
        self.call(&context, ask, future, |()| Reply::Done).await.transpose().map(|_| ())
    }

    /// The work of whoever holds a lease, and attempts of those who do not.
    async fn leased(&mut self) -> Result<()> {
        let Some((name, lease)) = self.lease.clone() else {
            return match self.random.below(5) {
                0 => {
                    let wish = self.wish(true, Pre::Any);
                    self.commit(1, vec![wish], None, None).await
                }
                one => self.acquire(LEASES[one % 2]).await,
            };
        };
        let leases = Arc::clone(&self.parts.leases);
        let token = lease.token.0;
        match self.random.below(6) {
            0 => {
                self.lease = None;
                let context = self.context(1);
                let ask = Ask::Release { name, token };
                let future = leases.release(&context, &lease);
                self.call(&context, ask, future, |()| Reply::Done).await.transpose().map(|_| ())
            }
            1 | 2 => {
                let life = Duration::from_millis(200 + self.random.below(2_000) as u64);
                let context = self.context(1);
                let ask = Ask::Renew { name, token };
                let future = leases.renew(&context, &lease, life);
                let answer = self.call(&context, ask, future, granted).await;
                if let Some(renewed) = answer.transpose()? {
                    // Now and then it goes on with a lease that has ended, as one who is slow
                    // would.
                    if renewed.is_some() || self.random.below(2) == 0 {
                        self.lease = renewed.map(|lease| (name, lease));
                    }
                }
                Ok(())
            }
            _ if name == LEASES[0] => self.swap(1, Some(token)).await,
            _ => self.fetch(1).await,
        }
    }
}

fn hits(hits: &memory_core::traits::IndexHits) -> Reply {
    let one = |hit: &memory_core::traits::IndexHit| {
        Some((id_number(&hit.id)?, Some((number(&hit.revision), None))))
    };
    let mut seen: Vec<_> = hits.hits.iter().filter_map(one).collect();
    seen.sort_unstable();
    Reply::Seen(seen)
}

fn granted(lease: &Option<memory_core::traits::Lease>) -> Reply {
    Reply::Lease(lease.as_ref().map(|lease| (lease.token.0, lease.expires_at)))
}

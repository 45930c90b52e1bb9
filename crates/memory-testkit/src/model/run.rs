//! Does operations to a store and to the reference, and compares the answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use memory_core::traits::{
    ChangeOp, ChangePosition, EraseScope, IndexHit, KeywordQuery, VectorQuery,
};
use memory_core::{
    CallContext, Capability, Clock as _, Commit, CommitReceipt, ErrorKind, Filter, IdempotencyKey,
    ManualClock, MemoryId, MemoryItem, MetaKey, MetaValue, Precondition, Projection, Query,
    Revision, Timestamp, UserId, VectorProjection, Vectors, Write,
};

use super::ops::{
    FilterOp, IDS, Op, Revised, TENANTS, TEXTS, USERS, VECTORS, VectorOp, WORDS, WriteOp,
};
use crate::conformance::Harness;
use crate::conformance::bench::{Bench, item, memory_ids, tenant};
use crate::conformance::checks::vectors::{one_space, spaces};
use crate::conformance::failure::{CheckResult, Failure, ensure, ensure_eq};
use crate::reference::{ReferenceHarness, ReferenceStore};

/// The same revision in the store and in the reference.
type Pair = (Revision, Revision);

/// How far two scores of one vector may lie apart.
const TOLERANCE: f64 = 1e-4;

/// Does a sequence of operations to a fresh store and to a reference.
///
/// # Errors
/// The first difference between the two.
pub async fn run_ops(subject: impl Harness + 'static, ops: &[Op]) -> CheckResult {
    let clock = Arc::new(ManualClock::new(subject.clock().now()));
    let reference = ReferenceHarness::on(clock);
    let store = reference.store();
    let mut run = Run {
        has_vectors: subject.vectors().is_some() && subject.meta().is_some(),
        subject: Bench::new(Box::new(subject))?,
        reference: Bench::new(Box::new(reference))?,
        store,
        pairs: BTreeMap::new(),
        last: None,
        derived: Default::default(),
        erasures: 0,
    };
    for place in 0..TENANTS.len() {
        run.set_space(place).await?;
    }
    for (place, op) in ops.iter().enumerate() {
        run.step(op)
            .await
            .map_err(|failure| Failure::new(format!("operation {place}, {op:?}: {failure}")))?;
    }
    for tenant in 0..TENANTS.len() {
        run.fetch(tenant, true).await?;
    }
    Ok(())
}

struct Run {
    subject: Bench,
    reference: Bench,
    store: Arc<ReferenceStore>,
    has_vectors: bool,
    /// All revisions of each id of each tenant, in order of their writing.
    pairs: BTreeMap<(usize, usize), Vec<Pair>>,
    /// The last commit, if it happened and nothing has come between.
    last: Option<(usize, Commit, Commit, CommitReceipt)>,
    /// What an index that follows the store's change log knows, by tenant.
    derived: [(ChangePosition, BTreeMap<String, Revision>); TENANTS.len()],
    /// Erasures of users so far. Whether a key outlives those items is the store's own affair,
    /// so that keys are named anew after each.
    erasures: u32,
}

impl Run {
    fn ctx(&self, place: usize) -> CheckResult<CallContext> {
        Ok(tenant(TENANTS[place])?)
    }

    fn now(&self) -> Timestamp {
        self.reference.now()
    }

    async fn set_space(&self, place: usize) -> CheckResult {
        let (ctx, space) = (self.ctx(place)?, one_space()?);
        spaces(&self.reference, &ctx, Some(&space), None).await?;
        if self.has_vectors {
            spaces(&self.subject, &ctx, Some(&space), None).await?;
        }
        Ok(())
    }

    async fn step(&mut self, op: &Op) -> CheckResult {
        if !matches!(op, Op::Resend) {
            self.last = None;
        }
        match op {
            Op::Commit { tenant, writes, key } => self.commit(*tenant, writes, *key).await?,
            Op::Resend => self.resend().await?,
            Op::Fetch { tenant, vectors } => self.fetch(*tenant, *vectors).await?,
            Op::Query { tenant, filter, order, limit } => {
                let filter = filter.build(self.now())?;
                let query = Query::new(*limit).with_filter(filter).with_order(*order);
                self.query(*tenant, query).await?;
            }
            Op::Count { tenant, filter } => {
                let (ctx, filter) = (self.ctx(*tenant)?, filter.build(self.now())?);
                let left = self.subject.count(&ctx, &filter).await?;
                ensure_eq!(left, self.reference.count(&ctx, &filter).await?, "the count");
            }
            Op::Advance { seconds } => {
                self.subject.advance_secs(*seconds);
                self.reference.advance_secs(*seconds);
            }
            Op::Sweep { tenant, limit } => {
                let ctx = self.ctx(*tenant)?;
                let left = self.subject.records().sweep_expired(&ctx, *limit).await?;
                let right = self.reference.records().sweep_expired(&ctx, *limit).await?;
                ensure_eq!((left.removed, left.more), (right.removed, right.more), "the sweep");
                // Which of the expired items went first is the store's own affair: take all.
                self.subject.records().sweep_expired(&ctx, 10_000).await?;
                self.reference.records().sweep_expired(&ctx, 10_000).await?;
            }
            Op::Erase { tenant, user } => self.erase(*tenant, *user).await?,
            Op::Nearest { tenant, vector, filter, limit } if self.has_vectors => {
                self.nearest(*tenant, VECTORS[*vector], filter, *limit).await?;
            }
            Op::Missing { tenant, limit } if self.knows_missing()? => {
                self.missing(*tenant, *limit).await?;
            }
            Op::Words { tenant, text, filter } if self.subject.keywords().is_ok() => {
                self.words(*tenant, WORDS[*text], filter).await?;
            }
            Op::Nearest { .. } | Op::Missing { .. } | Op::Words { .. } => {}
        }
        for place in 0..TENANTS.len() {
            self.follow_changes(place).await?;
        }
        Ok(())
    }

    /// One side of a precondition: the store's revisions, or the reference's.
    fn precondition(
        &self,
        tenant: usize,
        id: usize,
        revised: Revised,
        own: bool,
    ) -> CheckResult<Precondition> {
        let side = |pair: &Pair| if own { pair.0.clone() } else { pair.1.clone() };
        let known = self.pairs.get(&(tenant, id));
        let pair = match revised {
            Revised::Any => return Ok(Precondition::Any),
            Revised::Absent => return Ok(Precondition::Absent),
            Revised::Last => known.and_then(|known| known.last()),
            Revised::First => known.and_then(|known| known.first()),
        };
        Ok(Precondition::Revision(pair.map(side).map_or_else(|| Revision::new("none"), Ok)?))
    }

    fn write(&self, tenant: usize, op: &WriteOp, own: bool) -> CheckResult<Write> {
        Ok(match op {
            WriteOp::Put { id, user, text, expires, age, number, vectors, revised } => {
                let mut put = item(IDS[*id], TEXTS[*text], self.now())?;
                put.user_id = Some(UserId::new(USERS[*user])?);
                put.occurred_at = self.now().saturating_sub(Duration::from_secs(*age));
                put.expires_at =
                    expires.map(|after| self.now().saturating_add(Duration::from_secs(after)));
                if let Some(number) = number {
                    put.metadata.insert(MetaKey::new("number")?, MetaValue::Int(*number));
                }
                let precondition = self.precondition(tenant, *id, *revised, own)?;
                let vectors = match vectors {
                    VectorOp::Keep if matches!(precondition, Precondition::Revision(_)) => {
                        Vectors::Keep
                    }
                    VectorOp::One(place) if self.has_vectors => {
                        let vector = VECTORS[*place].to_vec();
                        Vectors::Replace(BTreeMap::from([(one_space()?.id(), vector)]))
                    }
                    _ => Vectors::default(),
                };
                Write::put(put, vectors, precondition)
            }
            WriteOp::Delete { id, revised } => {
                let precondition = self.precondition(tenant, *id, *revised, own)?;
                Write::delete(MemoryId::new(IDS[*id])?, precondition)
            }
        })
    }

    async fn commit(
        &mut self,
        tenant: usize,
        writes: &[WriteOp],
        key: Option<(u8, u8)>,
    ) -> CheckResult {
        let ctx = self.ctx(tenant)?;
        let mut ids = BTreeSet::new();
        let writes: Vec<_> = writes.iter().filter(|write| ids.insert(write.id())).collect();
        let keyed = self.subject.records().capabilities().has(Capability::IdempotencyKeys);
        let side = |bench: &Bench, own| -> CheckResult<Commit> {
            let writes =
                writes.iter().map(|op| self.write(tenant, op, own)).collect::<CheckResult<_>>()?;
            let key = key.filter(|_| keyed).map(|(key, digest)| {
                let name = format!("key {key} {}", self.erasures);
                IdempotencyKey::new(name, [digest; 32])
            });
            Ok(bench.commit_of(writes).with_idempotency(key.transpose()?))
        };
        let (left, right) = (side(&self.subject, true)?, side(&self.reference, false)?);
        let (left_answer, right_answer) = (
            self.subject.records().commit(&ctx, left.clone()).await,
            self.reference.records().commit(&ctx, right.clone()).await,
        );
        match (left_answer, right_answer) {
            (Ok(own), Ok(reference)) => {
                ensure_eq!(own.replayed, reference.replayed, "whether it was replayed");
                let existed = |receipt: &CommitReceipt| -> Vec<bool> {
                    receipt.results.iter().map(|result| result.existed).collect()
                };
                ensure_eq!(existed(&own), existed(&reference), "what existed");
                self.learn(tenant, &own, &reference)?;
                // Whether own work is recognised after it has expired is the store's own affair.
                let lasting = left.writes.iter().all(|write| match write {
                    Write::Put(put) => put.item.is_visible(self.now()),
                    Write::Delete(_) => true,
                });
                if !own.replayed && lasting {
                    self.last = Some((tenant, left, right, own));
                }
                Ok(())
            }
            (Err(own), Err(reference)) => {
                // Which of several failing writes is named is the store's own affair.
                let told = [ErrorKind::AlreadyExists, ErrorKind::NotFound, ErrorKind::Conflict];
                let same = own.kind() == reference.kind()
                    || (left.writes.len() > 1
                        && told.contains(&own.kind())
                        && told.contains(&reference.kind()));
                ensure!(same, "the store fails with {own}, the reference with {reference}");
                Ok(())
            }
            (own, reference) => {
                Err(Failure::new(format!("the store: {own:?}; the reference: {reference:?}")))
            }
        }
    }

    /// Takes in the revisions of a commit that both did.
    fn learn(
        &mut self,
        tenant: usize,
        own: &CommitReceipt,
        reference: &CommitReceipt,
    ) -> CheckResult {
        ensure_eq!(own.results.len(), reference.results.len(), "the number of results");
        for (left, right) in own.results.iter().zip(&reference.results) {
            ensure_eq!(left.id, right.id, "the id of a result");
            let (left, right, id) = match (&left.revision, &right.revision) {
                (None, None) => continue,
                (Some(l), Some(r)) => (l.clone(), r.clone(), left.id.as_str()),
                (left, right) => return Err(Failure::new(format!("{left:?} beside {right:?}"))),
            };
            let place = IDS.iter().position(|known| *known == id).unwrap_or_default();
            let known = self.pairs.entry((tenant, place)).or_default();
            if own.replayed {
                ensure!(known.contains(&(left, right)), "a replay with a revision of its own");
            } else {
                ensure!(!known.iter().any(|pair| pair.0 == left), "{left} is used again");
                known.push((left, right));
            }
        }
        Ok(())
    }

    async fn resend(&mut self) -> CheckResult {
        let Some((tenant, left, right, first)) = self.last.clone() else { return Ok(()) };
        let ctx = self.ctx(tenant)?;
        let keyed = left.idempotency.is_some();
        let own = self.subject.records().commit(&ctx, left.resent()).await?;
        let reference = self.reference.records().commit(&ctx, right.resent()).await?;
        for (again, first) in own.results.iter().zip(&first.results) {
            ensure_eq!(
                (&again.id, &again.revision),
                (&first.id, &first.revision),
                "a result of a resend"
            );
        }
        if keyed || first.results.iter().any(|result| result.revision.is_some()) {
            ensure!(own.replayed && reference.replayed, "own work is not recognised");
        }
        Ok(())
    }

    /// Two items are one: the revisions are a pair, everything else is equal.
    fn same_item(&self, tenant: usize, own: MemoryItem, reference: MemoryItem) -> CheckResult {
        ensure_eq!(own.id, reference.id, "the id");
        let place = IDS.iter().position(|id| *id == own.id.as_str()).unwrap_or_default();
        let (mut own, mut reference) = (own, reference);
        let pair = own.revision.take().zip(reference.revision.take());
        let known = self.pairs.get(&(tenant, place)).and_then(|known| known.last());
        ensure_eq!(pair.as_ref(), known, "the revisions of {}", own.id);
        ensure!(own == reference, "the item {} differs: {own:?}, {reference:?}", own.id);
        Ok(())
    }

    async fn fetch(&self, tenant: usize, vectors: bool) -> CheckResult {
        let (ctx, ids) = (self.ctx(tenant)?, memory_ids(&IDS)?);
        let which = if vectors { VectorProjection::All } else { VectorProjection::None };
        let projection = Projection::full().with_vectors(which);
        let left = self.subject.records().fetch(&ctx, &ids, &projection).await?;
        let right = self.reference.records().fetch(&ctx, &ids, &projection).await?;
        ensure_eq!(left.len(), right.len(), "the number of answers");
        for (id, (own, reference)) in IDS.iter().zip(left.into_iter().zip(right)) {
            match (own, reference) {
                (None, None) => {}
                (Some(own), Some(reference)) => self.same_item(tenant, own, reference)?,
                (own, _) if own.is_some() => {
                    return Err(Failure::new(format!("{id} should not be there")));
                }
                _ => return Err(Failure::new(format!("{id} should be there"))),
            }
        }
        Ok(())
    }

    async fn query(&self, tenant: usize, query: Query) -> CheckResult {
        let ctx = self.ctx(tenant)?;
        let left = self.subject.walk(&ctx, query.clone()).await?;
        let right = self.reference.walk(&ctx, query).await?;
        let ids = |items: &[MemoryItem]| -> Vec<String> {
            items.iter().map(|item| item.id.to_string()).collect()
        };
        ensure_eq!(ids(&left), ids(&right), "the items of all pages");
        for (own, reference) in left.into_iter().zip(right) {
            self.same_item(tenant, own, reference)?;
        }
        Ok(())
    }

    async fn erase(&mut self, tenant: usize, user: Option<usize>) -> CheckResult {
        let ctx = self.ctx(tenant)?;
        let scope = match user {
            Some(user) => EraseScope::User(UserId::new(USERS[user])?),
            None => EraseScope::Tenant,
        };
        let left = self.subject.erase_all(&ctx, &scope).await?;
        let right = self.reference.erase_all(&ctx, &scope).await?;
        ensure_eq!(left, right, "the items erased");
        if let Ok(meta) = self.subject.meta() {
            let ids = memory_ids(&IDS)?;
            let right = self.reference.meta()?.erased(&ctx, &ids).await?;
            ensure_eq!(meta.erased(&ctx, &ids).await?, right, "the tombstones");
        }
        match user {
            Some(_) => self.erasures += 1,
            None => self.set_space(tenant).await?,
        }
        Ok(())
    }

    /// A hit's revision is the last one of its item.
    fn check_revision(&self, tenant: usize, hit: &IndexHit) -> CheckResult {
        let place = IDS.iter().position(|id| *id == hit.id.as_str()).unwrap_or_default();
        let last = self.pairs.get(&(tenant, place)).and_then(|known| known.last());
        ensure_eq!(Some(&hit.revision), last.map(|pair| &pair.0), "the revision of {}", hit.id);
        Ok(())
    }

    async fn nearest(
        &self,
        tenant: usize,
        vector: [f32; 3],
        filter: &FilterOp,
        limit: u32,
    ) -> CheckResult {
        let (ctx, filter) = (self.ctx(tenant)?, filter.build(self.now())?);
        let query = VectorQuery::new(one_space()?, vector.to_vec(), limit).with_filter(filter);
        let left = self.subject.vectors()?.search(&ctx, &query).await?.hits;
        let mut all = query;
        all.limit = 1_000;
        let right = self.reference.vectors()?.search(&ctx, &all).await?.hits;
        let expected = right.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        ensure_eq!(left.len(), expected, "the number of neighbours");
        for (hit, best) in left.iter().zip(&right) {
            let own = right.iter().find(|other| other.id == hit.id);
            let Some(own) = own else {
                return Err(Failure::new(format!("{} should not be found", hit.id)));
            };
            ensure!((hit.score - own.score).abs() < TOLERANCE, "the score of {}", hit.id);
            ensure!((hit.score - best.score).abs() < TOLERANCE, "{} is not the next", hit.id);
            self.check_revision(tenant, hit)?;
        }
        let distinct: BTreeSet<_> = left.iter().map(|hit| &hit.id).collect();
        ensure_eq!(distinct.len(), left.len(), "the distinct neighbours");
        Ok(())
    }

    /// Whether the store's index knows the items that it lacks.
    fn knows_missing(&self) -> CheckResult<bool> {
        Ok(self.has_vectors && self.subject.vectors()?.capabilities().has(Capability::CoLocated))
    }

    async fn missing(&self, tenant: usize, limit: u32) -> CheckResult {
        let (ctx, space) = (self.ctx(tenant)?, one_space()?);
        let mut after = None;
        // The last page is the one that is empty; there is one page an id at the most.
        for _ in 0..=IDS.len() {
            let left = self.subject.vectors()?.missing(&ctx, &space, after.clone(), limit).await?;
            let right = self.reference.vectors()?.missing(&ctx, &space, after, limit).await?;
            ensure_eq!(left, right, "the items without a vector");
            after = left.last().cloned();
            if after.is_none() {
                return Ok(());
            }
        }
        Err(Failure::new("the pages of items without a vector do not come to an end"))
    }

    async fn words(&self, tenant: usize, text: &str, filter: &FilterOp) -> CheckResult {
        let (ctx, filter) = (self.ctx(tenant)?, filter.build(self.now())?);
        let query = KeywordQuery::new(text, 1_000).with_filter(filter);
        let left = self.subject.keywords()?.search(&ctx, &query).await?.hits;
        let right = self.reference.keywords()?.search(&ctx, &query).await?.hits;
        let ids = |hits: &[IndexHit]| -> Vec<String> {
            let mut ids: Vec<_> = hits.iter().map(|hit| hit.id.to_string()).collect();
            ids.sort();
            ids
        };
        ensure_eq!(ids(&left), ids(&right), "the items found by {text:?}");
        left.iter().try_for_each(|hit| self.check_revision(tenant, hit))
    }

    /// Brings what is derived from the change log up to date, and holds it against the items.
    async fn follow_changes(&mut self, place: usize) -> CheckResult {
        let Ok(log) = self.subject.changes() else { return Ok(()) };
        let ctx = self.ctx(place)?;
        let (position, mut known) = self.derived[place].clone();
        let batch = log.read_changes(&ctx, position, 10_000).await?;
        // Only an erased tenant's log may begin anew, and then it says so.
        ensure!(batch.head >= position || batch.gap, "the head of the log goes back");
        let mut rebuild = batch.gap;
        for change in batch.changes {
            match change.op {
                ChangeOp::Put(id, revision) | ChangeOp::Vectors(id, revision) => {
                    known.insert(id.to_string(), revision);
                }
                ChangeOp::Delete(id) => {
                    known.remove(id.as_str());
                }
                ChangeOp::Reset => rebuild = true,
            }
        }
        let all = Query::new(1_000).with_filter(Filter::All);
        let items = self.subject.walk(&ctx, all).await?;
        let visible: BTreeMap<_, _> = items
            .into_iter()
            .filter_map(|item| Some((item.id.to_string(), item.revision?)))
            .collect();
        if rebuild {
            known.clone_from(&visible);
        }
        for (id, revision) in &visible {
            ensure_eq!(known.get(id), Some(revision), "{id} as the change log has it");
        }
        // An expired item that waits for its sweep is not visible and not yet logged as gone.
        let stored = self.store.stored_ids(&ctx.tenant);
        for id in known.keys() {
            ensure!(stored.contains(id), "the change log does not say that {id} is gone");
        }
        self.derived[place] = (batch.head, known);
        Ok(())
    }
}

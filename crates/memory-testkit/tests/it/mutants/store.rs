//! Stores of record that do one thing wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use memory_core::traits::{
    EraseReceipt, EraseScope, EraseStep, EraseToken, RecordStore, StoreUpkeep, SweepStep,
};
use memory_core::{
    CallContext, Capabilities, Commit, CommitReceipt, CompareOp, Direction, Error, Field, Filter,
    Health, IdempotencyKey, MemoryId, MemoryItem, Order, Page, Precondition, Projection, Query,
    Result, TenantId, Timestamp, Vectors, Write,
};
use memory_testkit::ReferenceStore;

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// Nothing.
    Sound,
    CountIgnoresExpiry,
    ExpiryDropped,
    ExpiryLate,
    FetchCrossesTenants,
    TenantsByPrefix,
    AbsentIsAny,
    RevisionIsAny,
    PagesSkipOne,
    PagesRepeatOne,
    LastPageHasCursor,
    TiesTheWrongWay,
    ForeignCursorsTaken,
    EveryWriteByItself,
    OwnWorkAlwaysKnown,
    OwnWorkNeverKnown,
    KeysIgnored,
    DigestsIgnored,
    KeysOfAllTenants,
    KeepDrops,
    EraseWidens,
    EraseStopsEarly,
    SweepTakesTheLiving,
    MissingIsNotEqual,
    FiltersFoldCase,
    FloatsForIntegers,
    ProjectionIgnored,
    MetadataMerged,
    DeadlinesIgnored,
    CloseIgnored,
    LimitsClamped,
    IdsFolded,
}

impl Mutant {
    /// Each with a check that must catch it.
    pub(super) const ALL: [(Self, &'static str); 31] = [
        (Self::CountIgnoresExpiry, "expiry_is_exact"),
        (Self::ExpiryDropped, "every_field_round_trips"),
        (Self::ExpiryLate, "expiry_is_exact"),
        (Self::FetchCrossesTenants, "reads_stay_in_their_tenant"),
        (Self::TenantsByPrefix, "reads_stay_in_their_tenant"),
        (Self::AbsentIsAny, "absent_creates_once"),
        (Self::RevisionIsAny, "no_update_is_lost"),
        (Self::PagesSkipOne, "pages_cover_every_item_once"),
        (Self::PagesRepeatOne, "pages_cover_every_item_once"),
        (Self::LastPageHasCursor, "last_page_has_no_cursor"),
        (Self::TiesTheWrongWay, "pages_cover_every_item_once"),
        (Self::ForeignCursorsTaken, "foreign_cursors_are_refused"),
        (Self::EveryWriteByItself, "commit_is_atomic"),
        (Self::OwnWorkAlwaysKnown, "first_attempts_ignore_their_id"),
        (Self::OwnWorkNeverKnown, "resent_create_recognises_itself"),
        (Self::KeysIgnored, "keys_give_the_first_answer"),
        (Self::DigestsIgnored, "keys_stand_for_one_request"),
        (Self::KeysOfAllTenants, "keys_are_kept_apart"),
        (Self::KeepDrops, "kept_vectors_follow_the_content"),
        (Self::EraseWidens, "erase_user_takes_theirs_only"),
        (Self::EraseStopsEarly, "erase_user_takes_theirs_only"),
        (Self::SweepTakesTheLiving, "sweep_removes_only_the_expired"),
        (Self::MissingIsNotEqual, "filters_on_texts"),
        (Self::FiltersFoldCase, "filters_on_texts"),
        (Self::FloatsForIntegers, "filters_on_numbers"),
        (Self::ProjectionIgnored, "projections_bring_what_was_asked_for"),
        (Self::MetadataMerged, "replace_merges_nothing"),
        (Self::DeadlinesIgnored, "passed_deadlines_are_timeouts"),
        (Self::CloseIgnored, "closed_stores_refuse_every_call"),
        (Self::LimitsClamped, "page_limits_are_refused"),
        (Self::IdsFolded, "hostile_ids_are_kept_apart"),
    ];
}

/// A store with a fault.
#[derive(Debug)]
pub(super) struct StoreMutant {
    inner: Arc<dyn RecordStore>,
    upkeep: Arc<ReferenceStore>,
    mutant: Mutant,
    tenants: Mutex<BTreeSet<TenantId>>,
}

impl StoreMutant {
    pub(super) fn new(
        inner: Arc<dyn RecordStore>,
        upkeep: Arc<ReferenceStore>,
        mutant: Mutant,
    ) -> Self {
        Self { inner, upkeep, mutant, tenants: Mutex::new(BTreeSet::new()) }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    fn context(&self, context: &CallContext) -> CallContext {
        let mut context = context.clone();
        if self.is(Mutant::DeadlinesIgnored) {
            context.deadline = None;
        }
        context
    }

    /// The other tenants that a leaking read would look into.
    fn others(&self, context: &CallContext) -> Vec<CallContext> {
        let all = self.tenants.lock().unwrap();
        let other = all.iter().filter(|tenant| **tenant != context.tenant);
        let leaking = other.filter(|tenant| match self.mutant {
            Mutant::FetchCrossesTenants => true,
            Mutant::TenantsByPrefix => tenant.as_str().starts_with(context.tenant.as_str()),
            _ => false,
        });
        leaking.map(|tenant| CallContext::new(tenant.clone())).collect()
    }

    fn filter(&self, filter: &Filter) -> Filter {
        match filter {
            Filter::And(all) => Filter::And(all.iter().map(|one| self.filter(one)).collect()),
            Filter::Or(all) => Filter::Or(all.iter().map(|one| self.filter(one)).collect()),
            Filter::Not(one) => Filter::Not(Box::new(self.filter(one))),
            Filter::Compare(field, CompareOp::Ne, value) if self.is(Mutant::MissingIsNotEqual) => {
                let eq = Filter::Compare(field.clone(), CompareOp::Eq, value.clone());
                Filter::Not(Box::new(eq))
            }
            Filter::Compare(field, op, memory_core::Scalar::Text(text))
                if self.is(Mutant::FiltersFoldCase) && !matches!(field, Field::ContentHash) =>
            {
                let folded = text.to_lowercase();
                Filter::Compare(field.clone(), *op, folded.as_str().into())
            }
            #[expect(clippy::cast_precision_loss, reason = "the loss is the fault")]
            Filter::Compare(field, op, memory_core::Scalar::Int(value))
                if self.is(Mutant::FloatsForIntegers) =>
            {
                Filter::Compare(field.clone(), *op, (*value as f64).into())
            }
            other => other.clone(),
        }
    }

    async fn write(&self, context: &CallContext, write: &mut Write) -> Result<()> {
        match write {
            Write::Put(put) => {
                let put = Arc::make_mut(put);
                match self.mutant {
                    Mutant::ExpiryDropped => put.item.expires_at = None,
                    Mutant::ExpiryLate => {
                        put.item.expires_at = put
                            .item
                            .expires_at
                            .map(|at| Timestamp::from_micros(at.as_micros() + 1))
                            .transpose()?;
                    }
                    Mutant::AbsentIsAny if put.precondition == Precondition::Absent => {
                        put.precondition = Precondition::Any;
                    }
                    Mutant::KeepDrops if put.vectors == Vectors::Keep => {
                        put.vectors = Vectors::default();
                    }
                    Mutant::MetadataMerged => {
                        let ids = [put.item.id.clone()];
                        let old = self.inner.fetch(context, &ids, &Projection::full()).await?;
                        for (key, value) in old.into_iter().flatten().flat_map(|old| old.metadata) {
                            put.item.metadata.entry(key).or_insert(value);
                        }
                    }
                    _ => {}
                }
                if self.is(Mutant::RevisionIsAny)
                    && put.vectors != Vectors::Keep
                    && matches!(put.precondition, Precondition::Revision(_))
                {
                    put.precondition = Precondition::Any;
                }
                if self.is(Mutant::IdsFolded) {
                    put.item.id = MemoryId::new(put.item.id.as_str().to_lowercase())?;
                }
            }
            Write::Delete(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl RecordStore for StoreMutant {
    async fn commit(&self, context: &CallContext, mut commit: Commit) -> Result<CommitReceipt> {
        let context = self.context(context);
        self.tenants.lock().unwrap().insert(context.tenant.clone());
        for write in &mut commit.writes {
            self.write(&context, write).await?;
        }
        match self.mutant {
            Mutant::OwnWorkAlwaysKnown => commit.resend = true,
            Mutant::OwnWorkNeverKnown => commit.resend = false,
            Mutant::KeysIgnored => commit.idempotency = None,
            Mutant::DigestsIgnored => {
                let same = |key: IdempotencyKey| IdempotencyKey::new(key.key(), [0; 32]);
                commit.idempotency = commit.idempotency.map(same).transpose()?;
            }
            Mutant::KeysOfAllTenants if commit.idempotency.is_some() => {
                let first = self.tenants.lock().unwrap().first().cloned();
                if let Some(first) = first {
                    return self.inner.commit(&CallContext::new(first), commit).await;
                }
            }
            Mutant::EveryWriteByItself => {
                commit.validate()?;
                let mut whole: Option<CommitReceipt> = None;
                for write in std::mem::take(&mut commit.writes) {
                    let mut one = commit.clone();
                    one.writes = vec![write];
                    let receipt = self.inner.commit(&context, one).await?;
                    whole = Some(match whole {
                        None => receipt,
                        Some(mut whole) => {
                            whole.results.extend(receipt.results);
                            whole.position = receipt.position;
                            whole
                        }
                    });
                }
                return whole.ok_or_else(|| Error::invalid("no writes"));
            }
            _ => {}
        }
        self.inner.commit(&context, commit).await
    }

    async fn fetch(
        &self,
        context: &CallContext,
        ids: &[MemoryId],
        projection: &Projection,
    ) -> Result<Vec<Option<MemoryItem>>> {
        let context = self.context(context);
        let whole = Projection::full();
        let projection = if self.is(Mutant::ProjectionIgnored) { &whole } else { projection };
        if self.is(Mutant::IdsFolded) {
            let folded: Vec<_> = ids
                .iter()
                .map(|id| MemoryId::new(id.as_str().to_lowercase()))
                .collect::<Result<_>>()?;
            return self.inner.fetch(&context, &folded, projection).await;
        }
        let mut found = self.inner.fetch(&context, ids, projection).await?;
        for other in self.others(&context) {
            for (found, theirs) in
                found.iter_mut().zip(self.inner.fetch(&other, ids, projection).await?)
            {
                *found = found.take().or(theirs);
            }
        }
        Ok(found)
    }

    async fn query(&self, context: &CallContext, query: &Query) -> Result<Page> {
        let context = self.context(context);
        let mut inner = query.clone();
        inner.filter = self.filter(&query.filter);
        match self.mutant {
            Mutant::LimitsClamped => inner.limit = query.limit.clamp(1, 1_000),
            Mutant::ForeignCursorsTaken => {
                if let Some(cursor) = &query.cursor
                    && cursor.open(&context.tenant, &inner).is_err()
                {
                    inner.cursor = None;
                }
            }
            Mutant::TiesTheWrongWay => {
                let Order { direction, .. } = query.order;
                let mut page = self.inner.query(&context, &inner).await?;
                let key = |item: &MemoryItem| (query.order.sort_value(item), item.id.clone());
                page.items.sort_by(|a, b| match direction {
                    Direction::Ascending => key(a).cmp(&key(b)),
                    Direction::Descending => (key(b).0, &a.id).cmp(&(key(a).0, &b.id)),
                });
                return Ok(page);
            }
            _ => {}
        }
        let mut page = self.inner.query(&context, &inner).await?;
        match self.mutant {
            Mutant::PagesSkipOne if query.cursor.is_some() && !page.items.is_empty() => {
                page.items.remove(0);
            }
            Mutant::PagesRepeatOne if query.cursor.is_some() => {
                if let Some(first) = page.items.first().cloned() {
                    page.items.insert(0, first);
                }
            }
            Mutant::LastPageHasCursor if page.next.is_none() => {
                page.next = page.items.last().map(|item| {
                    let key = memory_core::CursorKey {
                        sort: query.order.sort_value(item),
                        id: item.id.clone(),
                    };
                    memory_core::Cursor::issue(&context.tenant, query, &key)
                });
            }
            _ => {}
        }
        Ok(page)
    }

    async fn count(&self, context: &CallContext, filter: &Filter) -> Result<u64> {
        let context = self.context(context);
        let mut count = self.inner.count(&context, &self.filter(filter)).await?;
        if self.is(Mutant::CountIgnoresExpiry) && filter.is_all() {
            count += self.upkeep.tenant_stats(&context).await?.expired;
        }
        if self.is(Mutant::TenantsByPrefix) {
            for other in self.others(&context) {
                count += self.inner.count(&other, filter).await?;
            }
        }
        Ok(count)
    }

    async fn sweep_expired(&self, context: &CallContext, limit: u32) -> Result<SweepStep> {
        let context = self.context(context);
        let step = self.inner.sweep_expired(&context, limit).await?;
        if self.is(Mutant::SweepTakesTheLiving) {
            let page = self.inner.query(&context, &Query::new(1)).await?;
            for item in page.items {
                let id = memory_core::CommitId::from_bytes([0xff; 16]);
                let delete = Write::delete(item.id, Precondition::Any);
                self.inner.commit(&context, Commit::new(id, vec![delete])).await?;
            }
        }
        Ok(step)
    }

    async fn erase(
        &self,
        context: &CallContext,
        scope: &EraseScope,
        resume: Option<EraseToken>,
    ) -> Result<EraseStep> {
        let context = self.context(context);
        let all = EraseScope::Tenant;
        let scope = if self.is(Mutant::EraseWidens) { &all } else { scope };
        let mut step = self.inner.erase(&context, scope, resume).await?;
        if self.is(Mutant::EraseStopsEarly) && step.receipt.is_none() {
            step.next = None;
            let at = Timestamp::MIN;
            step.receipt = Some(EraseReceipt { began_at: at, ended_at: at, bytes_cleared: true });
        }
        Ok(step)
    }

    async fn health(&self) -> Health {
        self.inner.health().await
    }

    async fn close(&self) -> Result<()> {
        if self.is(Mutant::CloseIgnored) {
            return Ok(());
        }
        self.inner.close().await
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }
}
